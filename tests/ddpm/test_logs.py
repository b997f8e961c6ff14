"""What a run writes beside its checkpoints, and what it costs."""

import csv
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import image
from torch import nn
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath.data import tile
from diffmath.ddpm import (
    UNet,
    forward_flop,
    sample,
    train,
    training_cost,
)
from diffmath.ddpm._environment import peak_memory
from diffmath.ddpm._processes import Processes
from diffmath.ddpm.training.batches import Batches
from tests.ddpm.runs import QUICK, SCHEDULE, entries, left, network, rows, same


def test_log(images, tmp_path):
    """Each entry: the loss is the mean over the images, and that of each noise level is over its own images."""
    model, seen = network(), []
    model.register_forward_hook(lambda module, args, output: seen.append((args, output)))
    train(model, SCHEDULE, images, 6, directory=tmp_path, **QUICK | {"log_every": 3, "autocast": False})
    with open(tmp_path / "log.csv", newline="") as file:
        entries = list(csv.DictReader(file))
    levels = [f"loss_t{2 * i + 1}-{2 * i + 2}" for i in range(10)]
    assert list(entries[0])[7:] == levels
    assert [(e["step"], e["images"], e["epoch"], e["learning_rate"]) for e in entries] == [
        ("3", "12", "0.8", "0.001"),
        ("6", "24", "1.6", "0.001"),
    ]
    batches = Batches(images, SCHEDULE, 4, 0, Processes())
    for i, entry in enumerate(entries):
        losses = [[] for _ in levels]
        for step in range(3 * i, 3 * i + 3):
            _, eps, t = batches(step)
            for error, time in zip((seen[step][1] - eps).square().mean((1, 2, 3)).tolist(), t.tolist(), strict=True):
                losses[(time + 1) // 2 - 1].append(error)
        assert float(entry["loss"]) == pytest.approx(np.mean([loss for part in losses for loss in part]), rel=1e-6)
        for level, part in zip(levels, losses, strict=True):
            assert float(entry[level]) == pytest.approx(np.mean(part) if part else np.nan, rel=1e-5, nan_ok=True)


def test_images_per_second(images, tmp_path, monkeypatch):
    """Of the steps alone: by a clock that ticks in the network only, one image each 0.25, whatever else is done."""
    now = [0.0]
    monkeypatch.setattr("diffmath.ddpm.training.hooks.time", SimpleNamespace(monotonic=lambda: now[0]))
    model = network()
    model.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 1))
    options = QUICK | {"log_every": 3, "sample_minutes": 0.0, "checkpoint_minutes": 0.0}
    train(model, SCHEDULE, images, 9, directory=tmp_path, **options)
    assert len(list(tmp_path.glob("*.png"))) == 9  # sheets, whose steps tick too
    assert [entry["images_per_second"] for entry in entries(tmp_path / "log.csv", all_of_it=True)] == ["4", "4", "4"]


def test_gradient_norm(images, tmp_path):
    """Of the last step before the entry, here the first of all."""
    model = network()
    train(model, SCHEDULE, images, 1, directory=tmp_path, **QUICK | {"log_every": 1})
    norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt().item()
    with open(tmp_path / "log.csv", newline="") as file:
        (entry,) = csv.DictReader(file)
    assert float(entry["gradient_norm"]) == pytest.approx(norm, rel=1e-5)


def test_sheets_of_samples(images, tmp_path):
    """Every so many minutes: sixteen samples of the average, which training does not notice."""
    watched = network()
    average = train(watched, SCHEDULE, images, 2, directory=tmp_path, sample_minutes=0.0, **QUICK).model
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["samples-0000001.png", "samples-0000002.png"]
    shown = image.imread(tmp_path / "samples-0000002.png")[::2, ::2] * 2 - 1
    drawn = sample(average, SCHEDULE, n_samples=16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    np.testing.assert_allclose(shown, tile(drawn.numpy(), columns=4), atol=0.02)  # 256 greys
    expected = network()
    train(expected, SCHEDULE, images, 2, **QUICK)
    assert same(watched, expected)


def test_tensorboard(images, tmp_path):
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(network(), SCHEDULE, images, 4, directory=tmp_path, tensorboard=True, sample_minutes=0.0, **QUICK)
    events = tensorboard.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4]
    assert events.Scalars("loss")[1].value == pytest.approx(rows(tmp_path / "log.csv")[1][1])
    assert [event.step for event in events.Images("samples")] == [1, 2, 3, 4]

    for name in ("checkpoint.safetensors", "model.safetensors"):
        (tmp_path / name).unlink()
    train(network(), SCHEDULE, images, 2, directory=tmp_path, tensorboard=True, resume=True, **QUICK)  # begins anew
    for name, steps in (("tensorboard-1", [2, 4]), ("tensorboard", [2])):
        events = tensorboard.EventAccumulator(str(tmp_path / name)).Reload()
        assert [event.step for event in events.Scalars("loss")] == steps


def test_a_foreign_directory_gets_no_events(images, tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "log.csv").write_text("date,weight\n1,2\n")
    with pytest.raises(FileExistsError, match="no log of such a training"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, tensorboard=True, **QUICK)
    assert left(tmp_path) == ["log.csv"]


def test_without_tensorboard(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "diffmath\[tensorboard\]"'):
        train(network(), SCHEDULE, images, 1, directory=tmp_path, tensorboard=True, **QUICK)
    assert not left(tmp_path)


def test_cost(images):
    """Counted by hand: one convolution, one linear layer; and the attention is not left out."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(8, 8)

        def forward(self, x, t):
            h = self.linear(self.conv(x)).sum(1, keepdim=True)
            return nn.functional.scaled_dot_product_attention(h, h, h)

    convolution, linear, attention = 2 * 64 * 9 * 2, 2 * 2 * 64 * 8, 2 * (2 * 8 * 8 * 8)
    assert forward_flop(Small(), (1, 8, 8)) == convolution + linear + attention
    assert forward_flop(UNet.paper()) == pytest.approx(3.23e9, rel=2e-3)
    cost = training_cost(Small(), SCHEDULE, images, batch_size=4, device="cpu", autocast=False)
    assert cost.parameters == 20 + 72
    assert cost.flop_per_image == 3 * (convolution + linear + attention)
    assert cost.images_per_second > 0
    before = peak_memory(torch.device("cpu"))
    own = torch.ones(2**26)
    after = training_cost(Small(), SCHEDULE, images, batch_size=4, device="cpu").memory
    assert max(before, own.nbytes) <= after < before + own.nbytes + 2**28


def test_dry_run(tmp_path):
    arguments = [
        "train",
        "--network",
        "compact",
        "--data",
        "sample",
        "--batch-size",
        "2",
        "--epochs",
        "0.1",
        "--dry-run",
    ]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    for part in ("3,254,177", "0.85 GFLOP; in training 2.54", "GiB", "images/s after", "500 images: "):
        assert part in done.output
    assert not (tmp_path / "run").exists()
    few = [*arguments[:-2], "0.0008", "--out", str(tmp_path / "run")]  # two steps, of which a run that goes on has less
    assert CliRunner().invoke(app, few).exit_code == 0
    left = CliRunner().invoke(app, [*arguments, "--resume", "--out", str(tmp_path / "run")])
    assert "496 images: " in left.output


def test_entries_beyond_the_checkpoint(images, tmp_path):
    """A run that was killed after its log went further than its checkpoint: they are made again, not twice."""
    expected = train(network(), SCHEDULE, images, 6, **QUICK).losses
    train(network(), SCHEDULE, images, 4, directory=tmp_path, **QUICK)
    log = tmp_path / "log.csv"
    last = log.read_text().splitlines()[-1]
    with open(log, "a", newline="") as file:
        file.write(last.replace("4,16,", "6,24,", 1) + "\r\n8,3")
    train(network(), SCHEDULE, images, 6, directory=tmp_path, resume=True, **QUICK)
    assert rows(log) == expected
