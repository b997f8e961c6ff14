"""A reader's own images: from files to a trained network to pictures of the same kind, on the command line."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffmath.cli import app
from diffmath.data import crop, load_images, training_images
from diffmath.ddpm import UNet, load_checkpoint

QUICK = ["--width", "8", "--noise-levels", "3", "--device", "cpu", "--batch-size", "2", "--epochs", "1"]


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("shape", "mode", "drawn"),
    [((4, 8, 12), "L", (3, 1, 8, 12)), ((4, 8, 8, 3), "RGB", (3, 3, 8, 8)), ((4, 6, 8, 3), "RGB", (3, 3, 6, 8))],
)
def test_from_an_array_to_pictures(tmp_path, shape, mode, drawn):
    """Grey or colour, square or not; what was padded for the network is cut off again."""
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    said = run("train", "--data", tmp_path / "mine.npy", "--out", tmp_path / "run", "--sample-minutes", 0, *QUICK)
    assert ("padded to 8 x 8 pixels" in said) == (shape[1] == 6)
    checkpoint = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert checkpoint.metadata["data"] == "mine.npy"
    assert checkpoint.metadata["network"] == "width 8"
    assert checkpoint.metadata["images"] == load_images(tmp_path / "mine.npy").description
    with Image.open(tmp_path / "run" / "samples-0000002.png") as sheet:
        assert sheet.mode == mode
    for name in ("a.npy", "a.png"):
        run("sample", "--checkpoint", tmp_path / "run" / "model.safetensors", "-n", 3, "--out", tmp_path / name)
    assert np.load(tmp_path / "a.npy").shape == drawn
    with Image.open(tmp_path / "a.png") as sheet:
        assert (sheet.mode, sheet.height) == (mode, 3 * drawn[2])


def test_a_folder_that_is_resized(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        Image.fromarray(np.full((20, 30, 3), 50 * i, dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    run("train", "--data", tmp_path / "pictures", "--size", 8, "--out", tmp_path / "run", *QUICK)
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert checkpoint.model.image_shape == (3, 8, 8)
    assert checkpoint.metadata["images"]["resized_from"] == [20, 30]
    run("train", "--data", tmp_path / "pictures", "--size", 8, "--out", tmp_path / "run", "--resume", *QUICK)
    with pytest.raises(ValueError, match=r"model is for, \(3, 8, 8\); their shape is \(3, 20, 32\)"):
        again = ["--start-from", tmp_path / "run" / "model.safetensors", "--seed", 1, "--out", tmp_path / "b"]
        run("train", "--data", tmp_path / "pictures", *again)


def test_options_without_effect(tmp_path):
    for options, said in (
        (["--data", "sample", "--data-dir", str(tmp_path)], "--data-dir"),
        (["--data", "sample", "--width", "8", "--network", "paper"], "--network"),
        (["--data", "sample", "--start-from", "compact", "--width", "8"], "--width"),
    ):
        done = CliRunner().invoke(app, ["train", *options])
        assert done.exit_code == 2
        assert f"Invalid value for {said}" in done.output


def test_training_images(tmp_path):
    images, description = training_images("sample", size=16)
    assert images.shape == (5000, 1, 16, 16)
    assert description["shape"] == [1, 16, 16]
    with pytest.raises(ValueError, match='directory of MNIST.s files is for "train"; .sample. does not read it'):
        training_images("sample", tmp_path)
    with pytest.raises(ValueError, match="stay square"):
        training_images("sample", size=(8, 12))


def test_crop():
    x = torch.arange(2 * 8 * 8.0).reshape(2, 1, 8, 8)
    assert crop(x, None) is x
    assert crop(x, {"source": "mine"}) is x
    padding = {"top": 0, "bottom": 1, "left": 1, "right": 2}
    assert torch.equal(crop(x, {"padding": padding}), x[:, :, :7, 1:6])


def test_the_seed_of_a_network():
    """The same weights as from torch's own generator, which stays as it is."""
    torch.manual_seed(5)
    expected = UNet(8, 1, 8).state_dict()
    state = torch.get_rng_state()
    found = UNet.for_images((1, 8, 8), 8, seed=5).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(torch.get_rng_state(), state)
