"""Outputs: what stands at a path when a file is written there, and what is known before the work."""

import os
import re
import stat
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffmath import ddpm, verification
from diffmath.__main__ import app
from diffmath._files import as_path, held, replacing, require_writable, sweep
from diffmath.cli import _options
from diffmath.schedule import VarianceSchedule


def write(path, text="new"):
    with replacing(path) as temporary:
        temporary.write_text(text)


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output)


# What is at the path


def test_links(tmp_path):
    """A link stays a link, and what it leads to is replaced; a missing target is created, a loop refused."""
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    target.write_text("old")
    (tmp_path / "middle").symlink_to(target)
    (tmp_path / "link").symlink_to("middle")
    with open(target) as reader:
        write(tmp_path / "link")
        assert reader.read() == "old"  # the target was replaced in one step
    assert target.read_text() == "new"
    assert (tmp_path / "link").readlink().name == "middle"
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere" / "missing")
    assert require_writable(tmp_path / "dangling")
    write(tmp_path / "dangling")
    assert (tmp_path / "elsewhere" / "missing").read_text() == "new"
    assert (tmp_path / "dangling").is_symlink()
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for attempt in (require_writable, write):
        with pytest.raises(OSError, match="cannot be written: Too many levels of symbolic links"):
            attempt(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "elsewhere").iterdir()) == ["missing", "target"]


def test_pipes(tmp_path):
    """A named pipe is written through, and is still one."""
    pipe, received = tmp_path / "pipe.npy", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    assert require_writable(pipe) == pipe
    write(pipe)
    reader.join()
    assert received == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe.npy"]


def test_devices(tmp_path):
    """A null device stays one, also behind a link."""
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        write(device)
    except PermissionError:
        pytest.skip("only root may make devices, and not everywhere")
    assert stat.S_ISCHR(device.lstat().st_mode)
    (tmp_path / "link").symlink_to(device)
    write(tmp_path / "link")
    assert stat.S_ISCHR((tmp_path / "link").stat().st_mode)
    assert invoke("flow", "w2", "-n", 8, "-t", 1, "--out", device)[0] == 0
    assert stat.S_ISCHR(device.lstat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "null"]


def test_permissions(tmp_path):
    """Kept when a file is replaced; the umask's for a new one, whatever the writer chose; none to write: refused."""
    path = tmp_path / "file"
    previous = os.umask(0o027)
    try:
        with replacing(path) as temporary:
            temporary.touch(mode=0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(previous)
    path.chmod(0o604)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    path.chmod(0o444)
    for attempt in (require_writable, write):
        with pytest.raises(PermissionError, match="file cannot be written: it is read-only"):
            attempt(path)
    assert path.read_text() == "new"


def test_nothing_is_created_by_the_check(tmp_path):
    assert require_writable(str(tmp_path / "a" / "b" / "file")).name == "file"
    (tmp_path / "plain").touch()
    for path, reason in (
        (tmp_path, "it is a directory"),
        (tmp_path / "plain" / "file", "Not a directory"),
        (tmp_path / "plain" / "a" / "file", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(OSError, match=f"cannot be written: .*{reason}"):
            require_writable(path)
    assert [p.name for p in tmp_path.iterdir()] == ["plain"]


def test_home(tmp_path, monkeypatch):
    """~ is the home directory, for whatever writes or reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write("~/file")
    assert (tmp_path / "file").read_text() == "new"
    with held("~/directory"):
        assert (tmp_path / "directory").is_dir()
    model, schedule = ddpm.UNet(32, 1, 8), VarianceSchedule.linear(4)
    ddpm.save_checkpoint("~/model.safetensors", model, schedule)
    assert ddpm.load_checkpoint("~/model.safetensors").schedule == schedule
    with pytest.raises(TypeError, match="path must be a path; it is 3"):
        as_path(3)


def test_what_killed_writers_left_is_swept(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link[1]").symlink_to(tmp_path / "elsewhere" / "file")
    writer = replacing(tmp_path / "link[1]")
    writer.__enter__().write_text("half")
    (left,) = (tmp_path / "elsewhere").iterdir()
    sweep(tmp_path / "link[1]")
    assert not left.exists()


def test_long_names(tmp_path):
    write(tmp_path / ("é" * 120))
    assert len(list(tmp_path.iterdir())) == 1


# What is known before the work


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Small untrained networks of one, two and three channels."""
    directory = tmp_path_factory.mktemp("networks")
    for channels in (1, 2, 3):
        model = ddpm.UNet(32, channels, 8)
        ddpm.save_checkpoint(directory / f"{channels}", model, VarianceSchedule.linear(2))
    return directory


@pytest.mark.parametrize("channels", [1, 3])
def test_sheets_of_grey_and_coloured_images(networks, tmp_path, channels):
    for name in ("a.PNG", "a.NPY"):
        code, output = invoke("sample", "--checkpoint", networks / str(channels), "-n", 4, "--out", tmp_path / name)
        assert code == 0, output
    images = np.load(tmp_path / "a.NPY")
    assert images.shape == (4, channels, 8, 8)
    with Image.open(tmp_path / "a.PNG") as picture:
        assert picture.mode == {1: "L", 3: "RGB"}[channels]
        assert picture.size == (3 * (3 * 10 - 2), 3 * (2 * 10 - 2))
        shades = np.asarray(picture)[:24:3, :24:3].reshape(8, 8, channels)
    expected = np.clip((np.moveaxis(images[0], 0, -1) + 1) * 127.5, 0, 255)
    np.testing.assert_allclose(shades, expected, rtol=0, atol=0.5 + 1e-4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.NPY", "a.PNG"]


def test_outputs_are_checked_first(networks, tmp_path, monkeypatch):
    """Nothing is sampled or checked when it could not be kept."""
    for module, name in ((ddpm, "sample"), (verification, "verify")):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: pytest.fail("the work was begun"))
    (tmp_path / "plain").touch()
    (tmp_path / "old.npy").touch()
    (tmp_path / "old.npy").chmod(0o400)
    sampling = ["sample", "--checkpoint"]
    for arguments, reason in (
        ([*sampling, networks / "2", "--out", tmp_path / "a.png"], "pictures show 1 or 3 channels; the images have 2"),
        ([*sampling, networks / "3", "--out", tmp_path / "a.gif"], "the ending must be .png or .npy; it is '.gif'"),
        ([*sampling, networks / "3", "--out", tmp_path / "plain" / "a.png"], "cannot be written: Not a directory"),
        ([*sampling, networks / "3", "--out", tmp_path / "old.npy"], "it is read-only"),
        (["verify", "--json", tmp_path / "old.npy"], "read-only"),
        (["evaluate", "--json", tmp_path / "plain" / "a.json"], "Not a directory"),
    ):
        code, output = invoke(*arguments)
        assert code == 2
        assert reason in output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.npy", "plain"]


def test_kinds_of_outputs(tmp_path, monkeypatch):
    """Films need their writer and, as pictures, one or two dimensions; a device without an ending takes any."""
    from matplotlib import animation

    check = _options.require_output
    assert check(None, "--plot") == ""
    assert check(tmp_path / "A.PDF", "--plot", (".png", ".pdf"), dimension=2) == ".pdf"
    assert check(tmp_path / "a.nc", "--out", dimension=3) == ".nc"
    os.mkfifo(tmp_path / "pipe")
    assert check(tmp_path / "pipe", "--out", (".png", ".npy")) == ".png"
    for name in ("a.png", "a.gif"):
        with pytest.raises(Exception, match="pictures show 1 or 2 dimensions; the domain has 3"):
            check(tmp_path / name, "--plot", dimension=3)
    monkeypatch.setattr(animation.writers, "is_available", lambda name: name != "ffmpeg")
    assert check(tmp_path / "a.GIF", "--animate") == ".gif"
    with pytest.raises(Exception, match="a .mp4 film needs ffmpeg, which is not installed; try a .gif"):
        check(tmp_path / "a.mp4", "--animate")


def test_read_only_figures_are_refused_first(tmp_path, monkeypatch):
    from paper_figures import __main__ as command
    from paper_figures.run import Profile

    monkeypatch.setattr(command, "Run", lambda *args: pytest.fail("the work was begun"))
    (tmp_path / "figure7.pdf").touch()
    (tmp_path / "figure7.pdf").chmod(0o444)
    with pytest.raises(PermissionError, match="figure7.pdf cannot be written: it is read-only"):
        command.main([1, 7], Profile.auto, "cpu", 0, tmp_path, None)


def test_tensors_become_sheets(tmp_path):
    from diffmath.data import save_sheet

    save_sheet(tmp_path / "a.png", torch.zeros(5, 3, 4, 4, requires_grad=True))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (2 * 6 - 2, 3 * 6 - 2)


def test_outputs_that_are_one_file(tmp_path):
    """The later would replace the earlier; a link to a file is that file, and a device takes both."""
    (tmp_path / "link.png").symlink_to("picture.png")
    flow = ("flow", "w2", "-n", 8, "-t", 0.1, "--plot", tmp_path / "picture.png")
    for out in ("picture.png", "link.png"):
        status, said = invoke(*flow, "--out", tmp_path / out)
        assert status == 2
        assert "--plot: it is the file of --out too" in said
    assert not (tmp_path / "picture.png").exists()
    assert invoke(*flow[:-2], "--out", os.devnull, "--plot", os.devnull)[0] == 0


def test_a_link_to_a_directory_that_is_missing(tmp_path):
    (tmp_path / "link").symlink_to("run")
    with held(tmp_path / "link"):
        write(tmp_path / "link" / "log.csv")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "run" / "log.csv").read_text() == "new"
