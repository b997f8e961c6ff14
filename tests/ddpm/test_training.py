"""Algorithm 1: its minimiser, its exact resumption, its files."""

import copy
import csv
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import image
from torch import nn
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath._files import held
from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import (
    CheckpointError,
    TrainingDivergedError,
    UNet,
    forward_flop,
    load_checkpoint,
    sample,
    train,
    training_cost,
)
from diffmath.ddpm._environment import peak_memory
from diffmath.ddpm._processes import Processes
from diffmath.ddpm.checkpoints import _pack, read_tensors
from diffmath.ddpm.training.batches import Batches, OnDevice
from diffmath.schedule import VarianceSchedule

SCHEDULE = VarianceSchedule.linear(20, 1e-3, 0.3)
QUICK = {"batch_size": 4, "learning_rate": 1e-3, "log_every": 2, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def images():
    """Fifteen real digits at 8 x 8: not a multiple of the batch size."""
    return to_tensor(load_mnist("sample").images[::340], size=8)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(width=32, image_size=8)


def same(a, b):
    """Bit for bit the same parameters."""
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def entries(path, *, all_of_it=False):
    """Of a log, without what is measured."""
    with open(path, newline="") as file:
        return [{k: v for k, v in r.items() if all_of_it or k != "images_per_second"} for r in csv.DictReader(file)]


def left(directory):
    """The names of a run's files, but for the one that keeps others out."""
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def rows(path):
    """The log's steps and losses."""
    return [(int(entry["step"]), float(entry["loss"])) for entry in entries(path)]


class Scalar(nn.Module):
    """The noise predictor a x + b at one noise level: linear regression."""

    def __init__(self):
        super().__init__()
        self.slope, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        return self.slope * x + self.shift


def test_minimiser_is_the_conditional_mean():
    """On data N(m, s^2) the least-squares noise predictor is E[eps | x_t], here at the one level of T = 1."""
    m, s, beta = 0.3, 0.5, 0.4
    data = m + s * torch.randn((20_000, 1), generator=torch.Generator().manual_seed(0))
    m, s = data.mean().item(), data.std().item()
    result = train(
        Scalar(),
        VarianceSchedule([beta]),
        data,
        4000,
        batch_size=512,
        learning_rate=2e-3,
        betas=(0.9, 0.999),
        progress=False,
        device="cpu",
        autocast=False,
    )
    variance = (1 - beta) * s**2 + beta
    slope = np.sqrt(beta) / variance
    # A regression over the average's memory, 1 / (1 - 0.999) batches: five standard errors, 4e-3 to 6e-3.
    rest, n = (1 - beta) * s**2 / variance, 1000 * 512  # Var(eps | x_t)
    error = 5 * np.sqrt(rest / n / variance)
    assert result.model.slope.item() == pytest.approx(slope, abs=error)
    mean = np.sqrt(1 - beta) * m
    assert result.model.shift.item() == pytest.approx(-slope * mean, abs=error * np.sqrt(variance + mean**2))
    # The last entry of the log is over 50 batches; the variance of a square is 2 rest^2.
    assert result.losses[-1][1] == pytest.approx(rest, abs=5 * np.sqrt(2 / (50 * 512)) * rest)


def test_learns(images):
    """The loss starts at E|eps|^2 = 1, where the network predicts zero, and falls."""
    result = train(network(), SCHEDULE, images, 60, **QUICK | {"batch_size": 16, "log_every": 1})
    losses = np.array([loss for _, loss in result.losses])
    assert losses[0] == pytest.approx(1, abs=0.2)
    assert losses[-20:].mean() < 0.6 * losses[0]


def test_resumed_is_uninterrupted(images, tmp_path):
    """Stopped twice, at steps where neither an epoch nor a log entry ends: bit for bit the same."""
    whole = network()
    expected = train(whole, SCHEDULE, images, 13, directory=tmp_path / "whole", **QUICK)
    for n_steps in (3, 8, 13):
        parts = network()
        result = train(parts, SCHEDULE, images, n_steps, directory=tmp_path / "parts", resume=True, **QUICK)
    assert [part["steps"] for part in result.metadata["resumed"]] == [3, 8]
    assert expected.metadata["resumed"] == []
    assert same(parts, whole)
    assert same(result.model, expected.model)
    assert not same(result.model, parts)  # the average is not the last state
    assert result.losses == expected.losses
    assert [step for step, _ in expected.losses] == [2, 4, 6, 8, 10, 12, 13]
    assert rows(tmp_path / "whole" / "log.csv") == expected.losses[:-1]
    assert entries(tmp_path / "parts" / "log.csv") == entries(tmp_path / "whole" / "log.csv")
    for name in ("checkpoint", "model"):
        first, second = (load_checkpoint(tmp_path / d / f"{name}.safetensors") for d in ("whole", "parts"))
        assert same(first.model, second.model)
    train(network(), SCHEDULE, images, 13, resume=True, directory=tmp_path / "new", **QUICK)  # nothing there yet
    assert same(load_checkpoint(tmp_path / "new" / "checkpoint.safetensors").model, expected.model)


def test_seed_decides(images):
    first, second, other = (
        train(network(), SCHEDULE, images, 2, seed=seed, **QUICK).model.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_batches_cover_each_epoch():
    """An epoch has every image once, across batches that straddle its end; the order changes between epochs."""
    schedule = VarianceSchedule.linear(7)
    images = torch.arange(10.0).reshape(10, 1)
    batches = Batches(images, 7, 4, 0, Processes())
    stream = torch.cat([batches(step)[0].flatten() for step in range(10)]).tolist()
    epochs = [stream[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    x_0, eps, t = batches(3)
    assert torch.equal(OnDevice(schedule, images).add_noise(x_0, eps, t), schedule.add_noise(x_0, eps, t))
    again = Batches(images, 7, 4, 0, Processes())(3)
    assert all(torch.equal(a, b) for a, b in zip((x_0, eps, t), again, strict=True))
    many = torch.cat([batches(step)[2] for step in range(2000)])
    counts = torch.bincount(many, minlength=8)
    assert counts[0] == 0
    # Uniform on 1..7: chi-squared with 6 degrees of freedom is above 38.3 once in a million.
    assert ((counts[1:] - 8000 / 7) ** 2 / (8000 / 7)).sum() < 38.3
    noise = torch.cat([batches(step)[1] for step in range(2000)])
    assert abs(noise.mean()) < 5 / 8000**0.5
    assert abs(noise.var() - 1) < 5 * (2 / 8000) ** 0.5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_saves_first(images, tmp_path, number):
    """A signal in the middle of a step: the step is finished and saved, and resuming gives the same result."""
    expected = train(network(), SCHEDULE, images, 6, **QUICK).model
    model, calls = network(), []

    def strike(*_):
        calls.append(None)
        if len(calls) == 3:
            os.kill(os.getpid(), number)

    model.register_forward_pre_hook(strike)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="saved after step 3"):
        train(model, SCHEDULE, images, 6, directory=tmp_path, **QUICK)
    assert signal.getsignal(number) == before
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").metadata["steps"] == 3
    assert same(train(network(), SCHEDULE, images, 6, directory=tmp_path, resume=True, **QUICK).model, expected)


def test_interrupted_from_the_shell(tmp_path, monkeypatch):
    """Status 130, and what to do; --resume where there is nothing says so, and begins."""

    def strike(*_, **options):
        assert options["resume"]
        raise KeyboardInterrupt("saved after step 3 in checkpoint.safetensors")

    monkeypatch.setattr("diffmath.ddpm.train", strike)
    done = CliRunner().invoke(
        app, ["train", "--data", "sample", "--network", "compact", "--resume", "--out", str(tmp_path)]
    )
    assert done.exit_code == 130
    assert f"there is no checkpoint in {tmp_path} to go on from; starting anew" in done.output
    assert "Interrupted: saved after step 3 in checkpoint.safetensors; go on with --resume." in done.output


@pytest.mark.parametrize(("second", "saved"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_impatience(images, tmp_path, second, saved):
    """A scheduler may send SIGTERM twice, and the save goes on; a second Ctrl-C wants out at once."""

    def strike(*_):
        for number in (signal.SIGTERM, second):
            os.kill(os.getpid(), number)

    model = network()
    model.register_forward_pre_hook(strike)
    with pytest.raises(KeyboardInterrupt, match="^saved after step 1" if saved else "^$"):
        train(model, SCHEDULE, images, 6, directory=tmp_path, **QUICK)
    assert (tmp_path / "checkpoint.safetensors").exists() == saved


def test_compiled(images, monkeypatch):
    """What torch.compile returns is what is trained; the network's own weights are saved."""
    calls = []

    def compiled(model):
        return lambda x, t: (calls.append(None), model(x, t))[1]

    expected = train(network(), SCHEDULE, images, 3, **QUICK)
    monkeypatch.setattr(torch, "compile", compiled)
    result = train(network(), SCHEDULE, images, 3, compile=True, **QUICK)
    assert len(calls) == 3
    assert same(result.model, expected.model)
    assert (result.metadata["compiled"], expected.metadata["compiled"]) == (True, False)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_really_compiled():
    """By torch.compile itself: what is trained and sampled is the same to rounding."""
    data = torch.randn((64, 1), generator=torch.Generator().manual_seed(0))
    plain, compiled = (
        train(Scalar(), SCHEDULE, data, 20, compile=c, **QUICK | {"autocast": False}).model for c in (False, True)
    )
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())
    x_T = torch.ones((3, 1))
    images = [
        sample(plain, SCHEDULE, x_T, compile=c, generator=torch.Generator().manual_seed(0)) for c in (False, True)
    ]
    torch.testing.assert_close(images[1], images[0])


def test_starts_from_a_trained_network(images, tmp_path):
    """The weights are those of the checkpoint; the record holds its record, and counts its images."""
    train(network(), SCHEDULE, images, 3, directory=tmp_path / "first", **QUICK)
    first = load_checkpoint(tmp_path / "first" / "model.safetensors")
    begin = {"started_from": first.metadata, "seed": 1}
    seen = []
    watched = load_checkpoint(tmp_path / "first" / "model.safetensors").model
    watched.register_forward_pre_hook(lambda module, args: seen.append(copy.deepcopy(module)) if not seen else None)
    whole = train(watched, SCHEDULE, images, 5, **QUICK | begin)
    assert same(seen[0], first.model)
    assert whole.metadata["started_from"] == first.metadata
    assert (whole.metadata["steps"], whole.metadata["images_seen"]) == (5, 12 + 20)
    for n_steps in (2, 5):  # and is resumed exactly
        model = load_checkpoint(tmp_path / "first" / "model.safetensors").model
        parts = train(model, SCHEDULE, images, n_steps, directory=tmp_path / "b", resume=True, **QUICK | begin)
    assert same(parts.model, whole.model)
    assert load_checkpoint(tmp_path / "b" / "model.safetensors").metadata["images_seen"] == 32
    again = {"directory": tmp_path / "b", "resume": True, "seed": 1}
    with pytest.raises(ValueError, match="other settings: initial_weights = .*, now None"):
        train(network(), SCHEDULE, images, 6, **QUICK | again)
    with pytest.raises(ValueError, match="other settings: initial_weights = "):
        train(network(), SCHEDULE, images, 6, **QUICK | again | begin)  # not the weights that it names


def test_the_same_minibatches_do_not_come_again(images):
    """A training that starts from another, or from one that started from it, has another seed or other images."""
    first = train(network(), SCHEDULE, images, 1, **QUICK).metadata
    second = train(network(), SCHEDULE, images, 1, started_from=first, **QUICK | {"seed": 1}).metadata
    for before, seed in ((first, 0), (second, 0), (second, 1)):
        with pytest.raises(ValueError, match=f"seed must not be that of a training before.* it is {seed} for both"):
            train(network(), SCHEDULE, images, 1, started_from=before, **QUICK | {"seed": seed})
    third = train(network(), SCHEDULE, images[:8], 1, started_from=second, **QUICK).metadata
    assert third["images_seen"] == 12
    for record, kind in (({}, TypeError), ({"images_seen": -1}, ValueError)):
        with pytest.raises(kind, match="images_seen in the record of the training before must be"):
            train(network(), SCHEDULE, images, 1, started_from=record, **QUICK)


def test_warm_up(images, tmp_path):
    """The learning rate rises linearly, and Adam takes it: its first step moves each weight by it, up or down."""
    rate = QUICK["learning_rate"]
    for warm_up, first in ((0, rate), (4, rate / 4)):
        model, before = network(), network().conv_out.bias.detach()
        train(model, SCHEDULE, images, 1, warm_up=warm_up, **QUICK)
        assert (model.conv_out.bias.detach() - before).abs().item() == pytest.approx(first, rel=1e-4)
    model = network()
    train(model, SCHEDULE, images, 6, directory=tmp_path / "a", warm_up=4, **QUICK | {"log_every": 1})
    with open(tmp_path / "a" / "log.csv", newline="") as file:
        rates = [float(entry["learning_rate"]) for entry in csv.DictReader(file)]
    assert rates == pytest.approx([rate / 4, rate / 2, 3 * rate / 4, rate, rate, rate])
    for n_steps in (3, 6):
        parts = network()
        options = {"directory": tmp_path / "b", "resume": True, "log_every": 1}
        train(parts, SCHEDULE, images, n_steps, warm_up=4, **QUICK | options)
    assert same(parts, model)
    for warm_up in (0, 3):
        with pytest.raises(ValueError, match=f"other settings: warm_up = 4, now {warm_up}"):
            train(network(), SCHEDULE, images, 7, warm_up=warm_up, **QUICK | options)
    diverging = network()
    diverging.register_forward_hook(lambda module, args, output: output * float("nan"))
    with pytest.raises(TrainingDivergedError, match="at step 1, with learning rate 0.000111111; there is no"):
        train(diverging, SCHEDULE, images, 2, warm_up=9, **QUICK)
    with pytest.raises(ValueError, match="warm_up must be at least 0"):
        train(network(), SCHEDULE, images, 1, warm_up=-1, **QUICK)


def test_average(images):
    """The moving average of the weights after each step, with its warm-up, by hand."""
    history = []

    class Watched(UNet):
        def forward(self, x, t):
            history.append(self.conv_out.bias.detach().clone())
            return super().forward(x, t)

    torch.manual_seed(0)
    model = Watched(width=32, image_size=8)
    result = train(model, SCHEDULE, images, 5, average_decay=0.3, **QUICK)
    weights = [*history[1:], model.conv_out.bias.detach()]
    average = weights[0]
    for k, weight in enumerate(weights[1:], start=1):
        decay = min(0.3, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(result.model.conv_out.bias.detach(), average, rtol=1e-5, atol=0)


def test_record(images, tmp_path):
    """A checkpoint carries how it was trained."""
    train(network(), SCHEDULE, images, 3, directory=tmp_path, metadata={"data": "fifteen digits"}, **QUICK)
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    record = checkpoint.metadata
    assert (record["data"], record["steps"], record["images_seen"]) == ("fifteen digits", 3, 12)
    assert (record["settings"]["batch_size"], record["settings"]["seed"]) == (4, 0)
    assert {"device", "precision", "torch", "commit", "date", "losses", "seconds"} <= set(record)
    assert checkpoint.schedule == SCHEDULE


@pytest.mark.parametrize("minutes", [0.0, 3.0])
def test_divergence_keeps_the_checkpoint(images, tmp_path, minutes):
    """Seen when a checkpoint is due, or at the log's next entry: the step is named, and no checkpoint lost."""
    train(network(), SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    model = network()
    model.register_forward_hook(lambda module, args, output: output * float("nan"))
    again = {"directory": tmp_path, "resume": True, "checkpoint_minutes": minutes}
    with pytest.raises(
        TrainingDivergedError, match=r"nan at step 3, with learning rate 0.001; the last good checkpoint"
    ):
        train(model, SCHEDULE, images, 9, **QUICK | again)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    with pytest.raises(TrainingDivergedError, match="at step 1, .*there is no checkpoint"):
        train(model, SCHEDULE, images, 2, **QUICK)


def test_divergence_before_a_sheet_of_samples(images, tmp_path):
    """The samples would be NaN too, and their error would name neither step nor checkpoint."""
    train(network(), SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    model = network()
    model.register_forward_hook(lambda module, args, output: output * float("nan"))
    again = {"directory": tmp_path, "resume": True, "sample_minutes": 0.0}  # the log's next entry is at step 4
    with pytest.raises(TrainingDivergedError, match="nan at step 3, .* the last good checkpoint is"):
        train(model, SCHEDULE, images, 9, **QUICK | again)
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").metadata["steps"] == 2


def test_divergence_in_the_last_steps(images, tmp_path):
    """Beyond the last entry of the log: a loss, and weights that the last step has spoilt, are still looked at."""
    for directory in (None, tmp_path):
        model = network()
        model.register_forward_hook(lambda module, args, output: output * float("inf"))
        with pytest.raises(TrainingDivergedError, match="the loss was"):
            train(model, SCHEDULE, images, 3, directory=directory, **QUICK | {"log_every": 10})
        model = network()
        model.conv_out.bias.register_hook(lambda gradient: gradient * float("nan"))
        with pytest.raises(TrainingDivergedError, match="the largest weight was nan by step 1"):
            train(model, SCHEDULE, images, 1, directory=directory, **QUICK)
    assert not list(tmp_path.glob("*.safetensors"))


def test_checkpoints_that_could_not_be_resumed(images, tmp_path):
    """A gradient whose square overflows spoils Adam, not the weights: no checkpoint is replaced by such a state."""
    train(network(), SCHEDULE, images, 1, directory=tmp_path, **QUICK)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    model = network()
    model.conv_out.bias.register_hook(lambda gradient: gradient * 0 + 1e25)
    with pytest.raises(TrainingDivergedError, match="the largest moment of Adam was inf by step 2"):
        train(model, SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_numbers_of_numpy(images, tmp_path):
    """They are integers and floats too, and can be saved and resumed."""
    numpy = {"batch_size": np.int64(4), "learning_rate": np.float32(0.5**10), "seed": np.int64(3)}
    plain = {"batch_size": 4, "learning_rate": 0.5**10, "seed": 3}
    train(network(), SCHEDULE, images, np.int64(1), directory=tmp_path, betas=np.array([0.9, 0.99]), **QUICK | numpy)
    resumed = train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, betas=(0.9, 0.99), **QUICK | plain)
    assert same(resumed.model, train(network(), SCHEDULE, images, 2, betas=(0.9, 0.99), **QUICK | plain).model)


def test_half_precision(images):
    """A network whose weights are bfloat16 is trained in it."""
    model = train(network().bfloat16(), SCHEDULE, images, 2, **QUICK).model
    assert next(model.parameters()).dtype == torch.bfloat16


def test_leftovers(images, tmp_path):
    """What writers that were killed left of any of the run's files goes; a log without a checkpoint is not emptied."""
    train(network(), SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    for name in ("checkpoint.safetensors", "model.safetensors", "log.csv", "samples-0000010.png"):
        (tmp_path / f".{name}.abc").mkdir()
    train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK)
    names = ["checkpoint.safetensors", "log.csv", "model.safetensors"]
    assert left(tmp_path) == names
    for name in names[::2]:
        (tmp_path / name).unlink()
    before = rows(tmp_path / "log.csv")
    with pytest.raises(FileExistsError, match="log.csv exists: resume its run, or train in another directory"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    assert rows(tmp_path / "log.csv") == before
    train(network(), SCHEDULE, images, 4, directory=tmp_path, resume=True, **QUICK)  # begins anew
    assert (rows(tmp_path / "log-1.csv"), len(rows(tmp_path / "log.csv"))) == (before, 2)


def test_one_run_in_a_directory(images, tmp_path):
    """Two would each take the other's files for leftovers."""
    arguments = ["train", "--data", "sample", "--network", "compact", "--batch-size", "2", "--epochs", "0.0004"]
    with held(tmp_path):
        done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
        with pytest.raises(FileExistsError, match="another process works in"):
            train(network(), SCHEDULE, images, 1, directory=tmp_path, **QUICK)
    assert isinstance(done.exception, FileExistsError)
    assert "another process works in" in str(done.exception)
    assert not left(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="must be a directory; it is a file"):
        train(network(), SCHEDULE, images, 1, directory=tmp_path / "file", **QUICK)
    assert CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)]).exit_code == 0


def test_damaged_state_of_adam(images, tmp_path):
    """A checkpoint without a slot of the optimizer cannot be resumed, and says so."""
    train(network(), SCHEDULE, images, 1, directory=tmp_path, **QUICK)
    path = tmp_path / "checkpoint.safetensors"
    tensors, header = read_tensors(path)
    slot = "training.optimizer.conv_in.weight.exp_avg"
    for damage in ({slot: torch.zeros(2)}, {"training.optimizer.conv_in.weight.step": None}):
        damaged = {name: t for name, t in (tensors | damage).items() if t is not None}
        path.write_bytes(_pack(header, damaged))
        with pytest.raises(
            CheckpointError, match="cannot be resumed: Adam's state for the weight conv_in.weight is incomplete or"
        ):
            train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK)
    path.write_bytes(_pack(header, tensors | {slot: tensors[slot] * float("nan")}))
    with pytest.raises(CheckpointError, match="Adam's state for the weight conv_in.weight must be finite"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK)
    path.write_bytes(_pack(header, tensors | {"training.losses": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match="the losses of the noise levels"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK)
    for record in (
        [],
        {"settings": None},
        header["metadata"] | {"steps": -1},
        header["metadata"] | {"steps": "one"},
        header["metadata"] | {"resumed": 3},
        header["metadata"] | {"losses": [1]},
    ):
        path.write_bytes(_pack(header | {"metadata": record}, tensors))
        with pytest.raises(CheckpointError, match="cannot be resumed|its metadata are a list"):
            train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK)


def test_resuming_what_is_finished_changes_nothing(images, tmp_path):
    train(network(), SCHEDULE, images, 3, directory=tmp_path, **QUICK)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    result = train(network(), SCHEDULE, images, 3, directory=tmp_path, resume=True, **QUICK)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert result.metadata["resumed"] == []


def test_dtype_of_the_images(images):
    """They become what the network computes in, rather than an error in the first layer."""
    results = [train(network(), SCHEDULE, x, 1, **QUICK).model for x in (images, images.double())]
    assert same(*results)


def test_refuses_to_overwrite_and_other_settings(images, tmp_path):
    train(network(), SCHEDULE, images, 1, directory=tmp_path, **QUICK)
    with pytest.raises(FileExistsError, match="resume its run, or train in another directory"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    with pytest.raises(ValueError, match="other settings: learning_rate = 0.001, now 0.1"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK | {"learning_rate": 0.1})
    with pytest.raises(ValueError, match="other settings: images"):
        train(network(), SCHEDULE, images[:8], 2, directory=tmp_path, resume=True, **QUICK)
    train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, **QUICK)
    with pytest.raises(ValueError, match="at step 2 already; n_steps must be at least that, it is 1"):
        train(network(), SCHEDULE, images, 1, directory=tmp_path, resume=True, **QUICK)
    (tmp_path / "checkpoint.safetensors").unlink()
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=r"model.safetensors exists"):
            train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=resume, **QUICK)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "log.csv").write_text("date,weight\n1,2\n")
    with pytest.raises(FileExistsError, match="no log of such a training"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    assert (tmp_path / "log.csv").read_text() == "date,weight\n1,2\n"


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda eps: eps.squeeze(1), ValueError, r"must return the shape \(4, 1, 8, 8\); .*\(4, 8, 8\)"),
        (lambda eps: eps[:, :, :1], ValueError, "must return the shape"),
        (lambda eps: (eps,), TypeError, "must return a tensor; it .* tuple"),
        (lambda eps: eps + 0j, TypeError, "floating.* torch.complex64"),
        (lambda eps: eps.long(), TypeError, "floating.* torch.int64"),
    ],
)
def test_predictions_of_another_kind(images, spoil, error, message):
    """They are refused, as in sampling: broadcast, they would train to another minimum."""

    class Spoiled(UNet):
        def forward(self, x, t):
            return spoil(super().forward(x, t))

    model = Spoiled(32, image_size=8)
    with pytest.raises(error, match=message):
        train(model, SCHEDULE, images, 1, **QUICK)


def test_images_that_the_network_is_not_for(images):
    """Another size or scale than that from which samples are made, with what to do about it."""
    with pytest.raises(ValueError, match=r"model is for, \(1, 8, 8\); their shape is \(1, 28, 28\): .*image_size="):
        train(network(), SCHEDULE, to_tensor(load_mnist("sample").images[::340], 28), 1, **QUICK)
    for scaled, call in (((images + 1) / 2, r"2 \* images - 1"), ((images + 1) * 127.5, r"images / 127.5 - 1")):
        with pytest.raises(ValueError, match=f"pixels in .*-1, 1.*{call}"):
            train(network(), SCHEDULE, scaled, 1, **QUICK)


def test_arrays_and_lists(images):
    """What is no tensor becomes one; a mask is refused."""
    expected = train(network(), SCHEDULE, images, 1, **QUICK).model
    assert same(train(network(), SCHEDULE, images.numpy(), 1, **QUICK).model, expected)
    with pytest.raises(ValueError, match="masked"):
        train(network(), SCHEDULE, np.ma.masked_less(images.numpy(), 0), 1, **QUICK)


def test_bad_arguments(images):
    with pytest.raises(ValueError, match="n_steps must be at least 1; it is 0"):
        train(network(), SCHEDULE, images, 0, **QUICK)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        train(network(), SCHEDULE, images, 1, **QUICK | {"batch_size": 0})
    with pytest.raises(ValueError, match="learning_rate must be positive; it is nan"):
        train(network(), SCHEDULE, images, 1, **QUICK | {"learning_rate": float("nan")})
    with pytest.raises(ValueError, match="average_decay must lie in"):
        train(network(), SCHEDULE, images, 1, average_decay=1.0, **QUICK)
    with pytest.raises(ValueError, match=r"images\[2\] is not"):
        bad = images.clone()
        bad[2, 0, 0, 0] = float("inf")
        train(network(), SCHEDULE, bad, 1, **QUICK)
    with pytest.raises(TypeError, match=r"floating tensor; it is torch.uint8: .* become images / 127.5 - 1"):
        train(network(), SCHEDULE, torch.zeros((3, 1), dtype=torch.uint8), 1, **QUICK)
    with pytest.raises(ValueError, match="the model must have a weight to train"):
        train(network().requires_grad_(False), SCHEDULE, images, 1, **QUICK)
    for name, value in (("n_steps", 1.5), ("batch_size", 4.0), ("seed", "0"), ("log_every", True)):
        with pytest.raises(TypeError, match=f"{name} must be an integer"):
            train(network(), SCHEDULE, images, **{"n_steps": 1} | QUICK | {name: value})
    with pytest.raises(ValueError, match="seed must be at least 0"):
        train(network(), SCHEDULE, images, 1, seed=-1, **QUICK)
    with pytest.raises(ValueError, match="betas must be two numbers"):
        train(network(), SCHEDULE, images, 1, betas=(0.9, 1.0), **QUICK)
    with pytest.raises(ValueError, match="checkpoint_minutes must not be negative; it is nan"):
        train(network(), SCHEDULE, images, 1, checkpoint_minutes=float("nan"), **QUICK)
    with pytest.raises(TypeError, match="the metadata must be what JSON can hold"):
        train(network(), SCHEDULE, images, 1, metadata={"x": np.float32(1)}, **QUICK)
    with pytest.raises(ValueError, match="the device 'nowhere' cannot be used here"):
        train(network(), SCHEDULE, images, 1, **QUICK | {"device": "nowhere"})
    for option in ({"resume": True}, {"tensorboard": True}, {"sample_minutes": 1}):
        with pytest.raises(ValueError, match="need a directory; none was given"):
            train(network(), SCHEDULE, images, 1, **QUICK | option)
    with pytest.raises(ValueError, match="change_settings is for resuming a run"):
        train(network(), SCHEDULE, images, 1, change_settings=True, **QUICK)
    with pytest.raises(ValueError, match=r"sheets of samples need images \(N, 1 or 3, H, W\); .*\(15, 2, 8, 8\)"):
        two = UNet(32, channels=2, image_size=8)
        train(two, SCHEDULE, images.expand(-1, 2, -1, -1), 1, directory="nowhere", sample_minutes=1, **QUICK)
    assert not Path("nowhere").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_trains_and_resumes(images, tmp_path):
    on_gpu = QUICK | {"device": "cuda"}
    train(network(), SCHEDULE, images, 3, directory=tmp_path, **on_gpu)
    result = train(network(), SCHEDULE, images, 6, directory=tmp_path, resume=True, **on_gpu)
    assert next(result.model.parameters()).is_cuda
    assert all(np.isfinite(loss) for _, loss in result.losses)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_gpu(images):
    """From the third step to the sixth; the first are warm-up and begin an epoch, and the last looks at the loss."""
    model, calls = network(), 0
    forward = model.forward

    def watched(x, t):
        nonlocal calls
        calls += 1
        if calls in (3, 6):
            torch.cuda.set_sync_debug_mode("error" if calls == 3 else "default")
        return forward(x, t)

    model.forward = watched
    try:
        train(model, SCHEDULE, images.repeat(4, 1, 1, 1), 6, **QUICK | {"device": "cuda", "log_every": 10})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert calls == 6


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
    batches = Batches(images, SCHEDULE.n_steps, 4, 0, Processes())
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


def test_full_disk(images, tmp_path):
    """No room for the next checkpoint: an error, the one before stays, and training goes on from it later."""
    resource = pytest.importorskip("resource")  # of POSIX
    expected = train(network(), SCHEDULE, images, 4, **QUICK).model
    train(network(), SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            train(network(), SCHEDULE, images, 4, directory=tmp_path, resume=True, **QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert left(tmp_path) == ["checkpoint.safetensors", "log.csv", "model.safetensors"]
    assert same(train(network(), SCHEDULE, images, 4, directory=tmp_path, resume=True, **QUICK).model, expected)


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
