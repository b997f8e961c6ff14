"""Resuming: from any state of a run's files, with frozen weights, and with other settings where that is wanted."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from diffmath.cli import app
from diffmath.ddpm import CheckpointError, TrainingDivergedError, UNet, load_checkpoint, train
from diffmath.ddpm._processes import joined, launched
from diffmath.ddpm.checkpoints import _pack, read_tensors
from diffmath.schedule import VarianceSchedule

SCHEDULE = VarianceSchedule.linear(20, 1e-3, 0.3)
QUICK = {"batch_size": 4, "learning_rate": 1e-3, "log_every": 2, "progress": False, "device": "cpu", "autocast": False}
POINTS = torch.randn((15, 2), generator=torch.Generator().manual_seed(0))


class Layers(nn.Module):
    """A small network of a user, with buffers, a weight that is never used and one that is used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.unused, self.again = nn.Linear(1, 1), self.b

    def forward(self, x, t):
        return self.again(torch.tanh(self.norm(self.a(torch.cat([x, t[:, None].to(x) / 20], dim=1)))))


def layers(frozen=()):
    torch.manual_seed(0)
    model = Layers()
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in frozen)
    return model


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def resumed(make, directory, data=POINTS, parts=(3, 8, 13), **options):
    for n_steps in parts:
        model = make()
        result = train(model, SCHEDULE, data, n_steps, directory=directory, resume=True, **QUICK | options)
    return model, result


FROZEN = [(), ("a.weight",), ("a.weight", "norm.bias", "b.bias"), ("norm.weight", "unused.bias", "b.weight")]


@pytest.mark.parametrize("frozen", FROZEN)
def test_frozen_weights(tmp_path, frozen):
    """Whichever weights stay as they are, a resumed run is the uninterrupted one bit for bit."""
    whole = layers(frozen)
    expected = train(whole, SCHEDULE, POINTS, 13, **QUICK)
    model, result = resumed(lambda: layers(frozen), tmp_path)
    assert same(model, whole)
    assert same(result.model, expected.model)
    assert result.losses == expected.losses
    first = layers().state_dict()
    assert all(torch.equal(model.state_dict()[name], first[name]) for name in frozen)
    with pytest.raises(ValueError, match=r"other settings: frozen = .*change_settings=True"):
        train(layers(("a.bias",)), SCHEDULE, POINTS, 15, directory=tmp_path, resume=True, **QUICK)
    changed = {"directory": tmp_path, "resume": True, "change_settings": True}
    train(layers(("a.bias",)), SCHEDULE, POINTS, 15, **QUICK | changed)


def test_a_frozen_unet(tmp_path):
    def make():
        torch.manual_seed(0)
        model = UNet(32, image_size=4)
        model.conv_in.weight.requires_grad_(False)
        return model

    images, whole = torch.randn((6, 1, 4, 4)), make()
    train(whole, SCHEDULE, images, 3, **QUICK)
    assert same(resumed(make, tmp_path, images, (1, 3))[0], whole)


def test_states_that_number_the_weights(tmp_path):
    """As older versions wrote them."""
    whole = layers()
    train(whole, SCHEDULE, POINTS, 13, **QUICK)
    resumed(layers, tmp_path, parts=(8,))
    path = tmp_path / "checkpoint.safetensors"
    tensors, header = read_tensors(path)
    numbers = {name: str(i) for i, (name, _) in enumerate(layers().named_parameters())}
    older = {}
    for key, tensor in tensors.items():
        name, _, slot = key.removeprefix("training.optimizer.").rpartition(".")
        older[f"training.optimizer.{numbers[name]}.{slot}" if "optimizer" in key else key] = tensor
    del header["metadata"]["settings"]["frozen"]
    path.write_bytes(_pack(header, older))
    assert same(resumed(layers, tmp_path, parts=(13,))[0], whole)


def test_another_network(tmp_path):
    """A checkpoint is resumed by the class that wrote it."""

    class Others(Layers):
        pass

    resumed(layers, tmp_path, parts=(3,))
    with pytest.raises(CheckpointError, match="cannot be resumed: its network is a .*Layers, not a .*Others"):
        resumed(Others, tmp_path, parts=(4,))
    assert same(
        load_checkpoint(tmp_path / "checkpoint.safetensors", Layers()).model,
        resumed(layers, tmp_path, parts=(3,))[1].model,
    )


EDITS = {
    "a byte order mark": lambda text: "\ufeff" + text,
    "semicolons": lambda text: text.replace(",", ";"),
    "columns in another order": lambda text: "\n".join(",".join(line.split(",")[::-1]) for line in text.splitlines()),
    "rows in another order": lambda text: "\n".join([text.splitlines()[0], *text.splitlines()[:0:-1]]),
    "rounded numbers": lambda text: "\n".join(
        ",".join(x[:4] for x in line.split(",")) if i else line for i, line in enumerate(text.splitlines())
    ),
    "the end cut off": lambda text: text[: len(text) // 2],
    "nothing but a name": lambda text: text.splitlines()[0],
    "empty": lambda text: "",
    "another file": lambda text: "date,weight\n1,2\n",
    "bytes": lambda text: "\udcff\udc80",
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_log_that_was_edited(tmp_path, edit):
    """It is kept under another name, a new one begins, and the training is what it would have been."""
    whole = layers()
    train(whole, SCHEDULE, POINTS, 13, **QUICK)
    resumed(layers, tmp_path, parts=(8,))
    log = tmp_path / "log.csv"
    edited = EDITS[edit](log.read_text()).encode(errors="surrogateescape")
    log.write_bytes(edited)
    with pytest.warns(UserWarning, match=r"log.csv does not agree with .* step 8: it is kept as log-1.csv, and a new"):
        model, _ = resumed(layers, tmp_path, parts=(13,))
    assert same(model, whole)
    assert (tmp_path / "log-1.csv").read_bytes() == edited
    with open(log, newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "12"]
    resumed(layers, tmp_path, parts=(14,))  # the new log is fine: no warning is an error here


def test_a_log_that_is_gone(tmp_path):
    resumed(layers, tmp_path, parts=(8,))
    (tmp_path / "log.csv").unlink()
    with pytest.warns(UserWarning, match=r"log.csv is missing: a new log begins after step 8"):
        resumed(layers, tmp_path, parts=(10,))


def test_other_line_ends_are_fine(tmp_path):
    resumed(layers, tmp_path, parts=(8,))
    log = tmp_path / "log.csv"
    log.write_bytes(log.read_bytes().replace(b"\r\n", b"\n"))
    resumed(layers, tmp_path, parts=(10,))
    with open(log, newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6", "8", "10"]


def test_on_from_a_divergence(tmp_path):
    """The message names the call that goes on from the last good checkpoint, and that call works."""
    resumed(layers, tmp_path, parts=(4,))
    diverging, factors = layers(), iter([1.0])  # from the second step on
    diverging.register_forward_hook(lambda module, args, output: output * next(factors, float("nan")))
    with pytest.raises(
        TrainingDivergedError,
        match=r"resume=True, change_settings=True, learning_rate=0.00025\), or --resume --change-settings",
    ):
        train(diverging, SCHEDULE, POINTS, 9, directory=tmp_path, resume=True, **QUICK)
    smaller = {"learning_rate": 0.00025}
    with pytest.raises(
        ValueError, match=r"other settings: learning_rate = 0.001, now 0.00025 \(change_settings=True or"
    ):
        resumed(layers, tmp_path, parts=(9,), **smaller)
    model, result = resumed(layers, tmp_path, parts=(9,), change_settings=True, **smaller)
    assert result.metadata["settings"]["learning_rate"] == 0.00025
    assert result.metadata["resumed"][0]["settings"]["learning_rate"] == 0.001
    with pytest.raises(ValueError, match="other settings: batch_size = 4, now 5$"):  # by which steps are counted
        resumed(layers, tmp_path, parts=(10,), change_settings=True, batch_size=5, **smaller)
    at_4 = tmp_path / "whole"
    expected = resumed(layers, at_4, parts=(4,))
    expected = resumed(layers, at_4, parts=(9,), change_settings=True, **smaller)
    assert same(model, expected[0])


def test_on_from_a_divergence_on_the_command_line(tmp_path):
    arguments = ["train", "--data", "sample", "--network", "compact", "--batch-size", "1", "--out", str(tmp_path)]
    runner = CliRunner()
    assert runner.invoke(app, [*arguments, "--epochs", "0.0002"]).exit_code == 0
    more = [*arguments, "--epochs", "0.0004", "--resume", "--learning-rate", "1e-4"]
    assert "--change-settings permits this" in str(runner.invoke(app, more).exception)
    done = runner.invoke(app, [*more, "--change-settings"])
    assert done.exit_code == 0, done.output
    record = load_checkpoint(tmp_path / "checkpoint.safetensors").metadata
    assert (record["steps"], record["settings"]["learning_rate"]) == (2, 1e-4)


def test_a_lost_terminal_that_does_not_matter(tmp_path):
    """What nohup starts ignores SIGHUP, and so does its training."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        model = layers()
        model.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), signal.SIGHUP))
        train(model, SCHEDULE, POINTS, 3, directory=tmp_path, **QUICK)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "1"}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "1"}, (0, 1)),
        ({"WORLD_SIZE": "4"}, (0, 4)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
    ],
)
def test_a_number_without_a_count(monkeypatch, environment, expected):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


def test_a_stray_rank(tmp_path, monkeypatch):
    """A process that was not launched with others writes its files."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    out = tmp_path / "a.npy"
    done = CliRunner().invoke(app, ["sample", "-n", "1", "--n-steps", "1", "--device", "cpu", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.exists()
    monkeypatch.setenv("WORLD_SIZE", "several")
    with pytest.raises(ValueError, match="WORLD_SIZE and RANK must be integers"):
        launched()


def test_a_stray_count(monkeypatch):
    """A number of processes without what they need to find each other is refused, with the way out."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="not RANK, MASTER_ADDR, MASTER_PORT: .* unset WORLD_SIZE"), joined("cpu"):
        pass
    with pytest.raises(ValueError, match="not RANK, LOCAL_RANK, MASTER"), joined("cuda"):
        pass
    for name, value in {"RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"RANK must lie in 0\.\.1, by WORLD_SIZE; it is 2"), joined("cpu"):
        pass


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait(given, expected):
    """`import diffmath` says how OpenMP's threads wait, unless somebody has."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    code = "import os, diffmath; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
