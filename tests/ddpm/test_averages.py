"""Moving averages side by side, and the loss on images held out by which the better one is chosen."""

import csv
import math

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from diffmath import data, ddpm
from diffmath.__main__ import app
from diffmath.ddpm import load_checkpoint, squared_error, train
from diffmath.ddpm.checkpoints import read_tensors
from tests.ddpm.runs import QUICK, SCHEDULE, same

PIXELS = torch.linspace(-1, 1, 120 * 64).reshape(120, 1, 8, 8).flip(0)


class Line(nn.Module):
    """The noise predictor a x + b; its best line lies far from where it begins."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, x, t):
        return self.a * x + self.b


def lines(n_steps, decays, **options):
    return train(Line(), SCHEDULE, PIXELS, n_steps, average_decay=decays, **QUICK | {"batch_size": 60} | options)


def test_side_by_side(tmp_path):
    """Each average is that of a run of its own, bit for bit; without other images the first one is kept."""
    both = lines(6, (0.9, 0.5), directory=tmp_path)
    singles = [lines(6, decay).model for decay in (0.9, 0.5)]
    assert same(both.model, singles[0])
    tensors, header = read_tensors(tmp_path / "checkpoint.safetensors")
    for name, weight in singles[1].state_dict().items():
        assert torch.equal(tensors[f"training.averages.1.{name}"], weight)
    assert header["metadata"]["settings"]["average_decay"] == [0.9, 0.5]
    assert (both.metadata["average_decay"], both.metadata["held_out"]) == (0.9, [])
    assert torch.equal(load_checkpoint(tmp_path / "checkpoint.safetensors", Line()).model.a, singles[0].a)


@pytest.mark.parametrize("decays", [(0.9, 0.1), (0.1, 0.9)])
def test_the_better_one_is_kept(decays, tmp_path):
    """While the weights move the shorter average is ahead; losses are on fixed noise, and each level counts alike."""
    others = PIXELS.roll(7, 3)
    result = lines(30, decays, held_out=others, directory=tmp_path, learning_rate=0.05)
    assert result.metadata["average_decay"] == 0.1
    assert same(result.model, lines(30, 0.1, learning_rate=0.05).model)
    rows = result.metadata["held_out"]
    assert [row[:2] for row in rows] == [[step, decay] for step in range(2, 31, 2) for decay in decays]  # epochs
    best = min(rows[-2:], key=lambda row: row[2])
    assert best[1] == 0.1
    # By hand: 120 images, six of each of the 20 times, in their order; noise of seed 0; bins of two times.
    eps, t = torch.randn(PIXELS.shape, generator=torch.Generator().manual_seed(0)), torch.arange(20) + 1
    with torch.no_grad():
        losses = squared_error(result.model, SCHEDULE, others, eps, t.repeat_interleave(6)).double()
    expected = losses.reshape(10, 12).mean(1)
    torch.testing.assert_close(torch.tensor(best[3:], dtype=torch.float64), expected, rtol=1e-5, atol=0)
    assert best[2] == pytest.approx(expected.log().mean().item(), rel=1e-5)
    with open(tmp_path / "held_out.csv", newline="") as file:
        header, *table = csv.reader(file)
    assert header[:4] == ["step", "average_decay", "mean_log_loss", "loss_t1-2"]
    assert [list(map(float, row)) for row in table] == rows


def test_negative_losses():
    """A loss that may be negative has no logarithm: its plain mean is compared."""
    found = lines(2, (0.9, 0.5), held_out=PIXELS, loss=lambda *args: squared_error(*args) - 100.0).metadata
    assert all(row[2] == pytest.approx(np.mean(row[3:])) for row in found["held_out"])
    assert all(-100 < row[2] < 0 for row in found["held_out"])


def test_resumed_exactly(tmp_path):
    """Stopped and resumed, with both averages and the same losses on the images held out."""
    whole = lines(7, (0.9, 0.5), held_out=PIXELS, batch_size=40, directory=tmp_path / "whole")
    options = {"held_out": PIXELS, "batch_size": 40, "directory": tmp_path / "parts"}
    lines(7, (0.9, 0.5), callback=lambda step, loss: step == 3, **options)
    resumed = lines(7, (0.9, 0.5), resume=True, **options)
    assert same(resumed.model, whole.model)
    assert resumed.metadata["held_out"] == whole.metadata["held_out"]
    assert [row[0] for row in whole.metadata["held_out"]] == [3, 3, 6, 6, 7, 7]
    first, second = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len({(tmp_path / name / "held_out.csv").read_text() for name in ("whole", "parts")}) == 1


def test_averages_are_added(tmp_path):
    """A run with one average goes on with a second, which begins as the first; one with another decay does not."""
    lines(4, 0.9, directory=tmp_path)
    before = read_tensors(tmp_path / "checkpoint.safetensors")[0]
    with pytest.raises(ValueError, match=r"average_decay = 0.9, now \[0.5, 0.9\]"):
        lines(5, (0.5, 0.9), directory=tmp_path, resume=True)
    lines(5, (0.9, 0.5), directory=tmp_path, resume=True)
    after = read_tensors(tmp_path / "checkpoint.safetensors")[0]
    # min(0.5, (1 + k) / (10 + k)) of the second average stays at step 5, k = 4
    expected = 5 / 14 * before["model.a"] + 9 / 14 * after["training.weights.a"]
    torch.testing.assert_close(after["training.averages.1.a"], expected, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match=r"average_decay = \[0.9, 0.5\], now 0.9"):
        lines(6, 0.9, directory=tmp_path, resume=True)


def test_bad_arguments():
    for decays in (1.0, (0.9, 1.0), (0.9, 0.9), ()):
        with pytest.raises(ValueError, match="average_decay must lie in"):
            lines(1, decays)
    with pytest.raises(TypeError, match="average_decay must be a number"):
        lines(1, ("0.9",))
    for wrong, said in (
        (PIXELS[:99], r"100 images or more of the shape \(1, 8, 8\).*; its shape is \(99, 1, 8, 8\)"),
        (PIXELS[:, :, :4], r"its shape is \(120, 1, 4, 8\)"),
        (PIXELS * math.nan, r"held_out must be finite; held_out\[0\] is not"),
        (PIXELS + 1, r"held_out must have pixels in \[-1, 1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            lines(1, 0.9, held_out=wrong)


def test_in_the_shell(images, tmp_path, monkeypatch):
    """MNIST's training images: both averages, and 1,024 test images where there are any; other images: one average."""
    asked = {}
    monkeypatch.setattr("diffmath.data.training.training_images", lambda *args, **options: (images, {"source": "some"}))
    monkeypatch.setattr(ddpm, "train", lambda *args, **options: asked.update(options))
    digits = data.load_mnist("sample")
    monkeypatch.setattr("diffmath.data.training.load_mnist", lambda split, directory: digits)
    command = ["train", "--width", "32", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (asked["average_decay"], asked["held_out"].shape) == ((0.999, 0.997), (1024, 1, 32, 32))
    assert len(torch.unique(asked["held_out"].flatten(1), dim=0)) > 1000
    assert CliRunner().invoke(app, [*command, "--data", "sample"]).exit_code == 0
    assert (asked["average_decay"], asked["held_out"]) == (0.999, None)

    def missing(split, directory):
        raise data.DataError("no test images")

    monkeypatch.setattr("diffmath.data.training.load_mnist", missing)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "the first is kept: no test images" in done.output
    assert (asked["average_decay"], asked["held_out"]) == ((0.999, 0.997), None)
