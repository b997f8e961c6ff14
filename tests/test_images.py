"""Images as tensors, as sheets, and those of one's own: arrays, IDX files, folders."""

import gzip
import json

import numpy as np
import pytest
import torch
from PIL import Image

from diffmath.data import DataError, load_images, tile, to_tensor
from tests.digits import IMAGES, LABELS, idx


def test_to_tensor():
    x = to_tensor(IMAGES)
    assert (x.shape, x.dtype) == ((10, 1, 32, 32), torch.float32)
    assert x.min() == -1
    assert 0.9 < x.max() <= 1
    # Bilinear with aligned pixel areas, pixel by pixel: output i sits at (i + 1/2) 28/32 - 1/2, clamped at the edge.
    place = np.clip((np.arange(32) + 0.5) * 28 / 32 - 0.5, 0, 27)
    low = np.minimum(place.astype(int), 26)
    weights = np.zeros((32, 28))
    weights[np.arange(32), low] = 1 - (place - low)
    weights[np.arange(32), low + 1] = place - low
    expected = weights @ IMAGES.astype(float) @ weights.T / 127.5 - 1
    np.testing.assert_allclose(x[:, 0].numpy(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="uint8"):
        to_tensor(IMAGES.astype(float))


def test_tile():
    sheet = tile(to_tensor(IMAGES), columns=4)
    assert sheet.shape == (3 * 34 - 2, 4 * 34 - 2)
    np.testing.assert_array_equal(sheet[34:66, 34:66], to_tensor(IMAGES)[5, 0])
    assert (sheet[68:, 68:] == 1).all()  # no image there
    with pytest.raises(ValueError, match="do not fit"):
        tile(to_tensor(IMAGES), columns=3, rows=3)
    with pytest.raises(ValueError, match="shape"):
        tile(IMAGES, columns=3)
    with pytest.raises(ValueError, match="finite"):
        tile(np.full((1, 1, 4, 4), np.nan), columns=1)


def test_tile_of_colours():
    images = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4, 6))
    sheet = tile(images, 2)
    assert sheet.shape == (3 * 6 - 2, 2 * 8 - 2, 3)
    for channel in range(3):
        np.testing.assert_array_equal(sheet[..., channel], tile(images[:, channel : channel + 1], 2))


def test_shrinking_is_antialiased():
    """Stripes finer than the new pixels become their mean, and the variance falls as averaging makes it fall."""
    stripes = np.tile(np.array([255, 0, 0, 255], dtype=np.uint8), (1, 128, 32))
    small = to_tensor(stripes)
    assert abs(small[..., 1:-1]).max() < 1e-5  # at the edge the triangle is cut off
    assert small.mean().abs() < 0.02
    pixels = torch.randint(0, 256, (1, 256, 256), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # A triangle of half-width r averages white noise over a variance of (2 / (3 r))^2 in two dimensions.
    ratio = to_tensor(pixels.numpy(), 64).std() / (2 * pixels.double().std() / 255)
    assert ratio == pytest.approx(2 / (3 * 4), rel=0.05)
    white = np.full((1, 7, 30), 255, dtype=np.uint8)  # one side grows, the other shrinks
    assert to_tensor(white, 16).numpy() == pytest.approx(1, abs=1e-6)


def test_colours_become_tensors():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    x = to_tensor(images)
    assert x.shape == (3, 3, 32, 32)
    assert (x[:, 1] == to_tensor(images[..., 1])[:, 0]).all()


# One's own images


def test_arrays(tmp_path):
    """uint8, [0, 1] and [-1, 1] on the three layouts: the same tensors."""
    rng = np.random.default_rng(0)
    grey, colours = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((6, 12, 8), (6, 12, 8, 3)))
    grey[0, 0, :2] = 0, 255  # [-1, 1] is recognised by a negative pixel
    for array in (grey, grey[..., None], grey[:, None], colours, np.moveaxis(colours, 3, 1)):
        expected = array.reshape(6, 1, 12, 8) if array.size == grey.size else np.moveaxis(colours, 3, 1)
        expected = expected / 127.5 - 1
        for pixels, scaling in (
            (array, "pixels / 127.5 - 1"),
            (array / 255, "2 * pixels - 1"),
            ((array / 127.5 - 1).astype(">f4"), "none"),
        ):
            np.save(tmp_path / "a.npy", pixels)
            images, description = load_images(tmp_path / "a.npy")
            assert images.dtype == torch.float32
            np.testing.assert_allclose(images.numpy(), expected, rtol=0, atol=2e-7)
            assert json.loads(json.dumps(description)) == {
                "source": "a.npy",
                "scaling": scaling,
                "images": 6,
                "shape": list(expected.shape[1:]),
            }
    np.savez(tmp_path / "a.npz", labels=np.arange(6), images=grey)
    assert load_images(tmp_path / "a.npz").images.shape == (6, 1, 12, 8)
    np.savez_compressed(tmp_path / "b.npz", grey)
    assert load_images(tmp_path / "b.npz").images.equal(load_images(tmp_path / "a.npz").images)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (30, 29), (31, 32), (1, 5)])
def test_padding(tmp_path, height, width):
    """To multiples of 4 by the pixels at the edges; without the padding the images are the file's."""
    array = np.random.default_rng(0).integers(0, 256, (2, height, width), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    images, description = load_images(tmp_path / "a.npy")
    pad = description.get("padding", dict.fromkeys(("top", "bottom", "left", "right"), 0))
    expected = np.pad(array, ((0, 0), (pad["top"], pad["bottom"]), (pad["left"], pad["right"])), mode="edge")
    assert images.shape[2] % 4 == images.shape[3] % 4 == 0
    np.testing.assert_allclose((images[:, 0].numpy() + 1) * 127.5, expected, rtol=0, atol=1e-4)
    assert ("padding" in description) == (height % 4 > 0 or width % 4 > 0)


def test_another_size(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    images, description = load_images(tmp_path / "a.npy", size=np.int64(32))
    np.testing.assert_allclose(images, to_tensor(IMAGES), rtol=0, atol=1e-6)
    assert description["resized_from"] == [28, 28]
    assert load_images(tmp_path / "a.npy", size=(8, 14)).images.shape == (10, 1, 8, 16)
    for size, error in ((0, ValueError), (True, TypeError), (8.0, TypeError), ((8,), ValueError), ("8", TypeError)):
        with pytest.raises(error, match="size"):
            load_images(tmp_path / "a.npy", size=size)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path, zipped):
    """Of any name; EMNIST's are transposed."""
    content = gzip.compress(idx(IMAGES)) if zipped else idx(IMAGES)
    for name in ("train-images-idx3-ubyte", "emnist-letters-train-images-idx3-ubyte"):
        (tmp_path / name).write_bytes(content)
        images, description = load_images(tmp_path / name)
        expected = IMAGES.transpose(0, 2, 1) if "emnist" in name else IMAGES
        np.testing.assert_allclose(images[:, 0], expected / 127.5 - 1, rtol=0, atol=1e-6)
        assert description.get("transposed", False) == ("emnist" in name)


def test_folders(tmp_path):
    """PNG and JPEG files in the order of their names, subfolders too; grey with coloured ones is coloured."""
    (tmp_path / "two").mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.PNG")
    Image.fromarray(IMAGES[1]).save(tmp_path / "two" / "b.jpeg", quality=95)
    Image.fromarray(IMAGES[2]).convert("P").save(tmp_path / "two" / ".hidden.png")
    (tmp_path / "notes.txt").write_text("no picture")
    images, description = load_images(tmp_path)
    assert description == {"source": tmp_path.name, "scaling": "pixels / 127.5 - 1", "images": 2, "shape": [1, 28, 28]}
    np.testing.assert_allclose(images[0, 0], IMAGES[0] / 127.5 - 1, rtol=0, atol=1e-6)
    assert (images[1, 0] - torch.tensor(IMAGES[1] / 127.5 - 1)).abs().mean() < 0.05  # JPEG loses some
    Image.fromarray(IMAGES[3]).convert("RGBA").save(tmp_path / "c.png")  # an opaque alpha channel
    assert load_images(tmp_path).images.shape == (3, 3, 28, 28)
    Image.new("L", (28, 30)).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match=r"one size: .*odd.png has 30 x 28 pixels, .*a.PNG has 28 x 28"):
        load_images(tmp_path)


def test_pictures_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # the camera was held upright
    Image.fromarray(np.repeat(IMAGES[:1, :20], 3, axis=0).transpose(1, 2, 0)).save(tmp_path / "a.png", exif=exif)
    images = load_images(tmp_path).images
    np.testing.assert_allclose(images[0, 0], np.rot90(IMAGES[0, :20], -1) / 127.5 - 1, rtol=0, atol=1e-6)


def test_what_holds_no_images(tmp_path):
    def saved(name, array):
        np.save(tmp_path / name, array)
        return tmp_path / name

    def written(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    def folder(name, *pictures):
        (tmp_path / name).mkdir()
        for i, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{i}.png")
        return tmp_path / name

    np.savez(tmp_path / "two.npz", a=IMAGES, b=IMAGES)
    clear, nan = Image.new("RGBA", (8, 8), (0, 0, 0, 100)), np.full((2, 4, 4), np.nan)
    broken = folder("broken")
    (broken / "a.png").write_bytes(b"\x89PNG and no more")
    files = folder("files")
    (files / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    for path, reason in (
        (tmp_path / "missing", "cannot be read: No such file"),
        (saved("a.npy", np.zeros((2, 3, 3), dtype=int)), r"dtype int64.*\.astype\(numpy.uint8\)"),
        (saved("b.npy", np.zeros((2, 3, 3), dtype=bool)), "dtype bool; uint8 or floating"),
        (saved("c.npy", np.zeros((2, 3, 3)) + 255), "from 255 to 255.*pixels / 127.5 - 1"),
        (saved("d.npy", nan), "from nan to nan"),
        (saved("e.npy", np.zeros((2, 5, 3, 4))), r"shape \(2, 5, 3, 4\); \(N, H, W\)"),
        (saved("f.npy", np.zeros((4, 4))), r"shape \(4, 4\)"),
        (saved("g.npy", np.zeros((0, 4, 4))), "no images"),
        (saved("h.npy", np.array([{}], dtype=object)), "cannot be read as numpy's arrays"),
        (tmp_path / "two.npz", "one that is called images; it holds the arrays a, b"),
        (written("bad.npz", b"PK\3\4 and no more"), "cannot be read as an .npz file"),
        (written("labels", idx(LABELS)), "10 numbers, perhaps labels"),
        (written("text.txt", b"no images"), "no .npy, .npz or IDX file"),
        (written("one.png", b"\x89PNG"), "a single picture is no data set"),
        (written("half.gz", gzip.compress(idx(IMAGES))[:50]), "truncated"),
        (folder("empty"), "it is empty"),
        (files, "it holds train-images-idx3-ubyte: give one of the files"),
        (folder("clear", clear), "transparent in part"),
        (folder("deep", Image.new("I;16", (8, 8))), "8 bits for each channel"),
        (broken, "cannot be read as a picture"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            load_images(path)
        assert str(path) in str(caught.value)
