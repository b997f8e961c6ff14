"""Runs that stop and go on, diverge, or meet what other runs left."""

import copy
import os
import signal

import pytest
import torch
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath._files import held
from diffmath.ddpm import (
    CheckpointError,
    TrainingDivergedError,
    load_checkpoint,
    train,
)
from diffmath.ddpm.checkpoints import _pack, read_tensors
from tests.ddpm.runs import QUICK, SCHEDULE, entries, left, network, rows, same


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


def test_divergence_that_no_smaller_rate_mends(images, tmp_path):
    """A loss that is lost at the checkpoint's next step comes from its weights: going on from it is not advised."""
    for after, advice in ((2, "begin again with a smaller one in another directory"), (3, "Resume from it")):
        directory, model, calls = tmp_path / str(after), network(), []
        train(network(), SCHEDULE, images, 2, directory=directory, **QUICK)

        def spoil(module, args, output, calls=calls, after=after):
            calls.append(0)
            return output * (float("nan") if len(calls) > after - 2 else 1.0)

        model.register_forward_hook(spoil)
        with pytest.raises(TrainingDivergedError, match=f"at step {after + 1}, .*{advice}"):
            train(model, SCHEDULE, images, 9, directory=directory, resume=True, **QUICK)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "model.safetensors", "log.csv", "held_out.csv"])
@pytest.mark.parametrize("kind", ["directory", "read-only"])
def test_files_of_a_run_are_checked_first(images, tmp_path, name, kind):
    """Each of them, the one that is written last too: no step is lost."""
    held_out = images[:1].repeat(100, 1, 1, 1)
    train(network(), SCHEDULE, images, 2, directory=tmp_path, held_out=held_out, **QUICK)
    if kind == "directory":
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).chmod(0o444)
    model = network()
    model.register_forward_hook(lambda *_: pytest.fail("the training was begun"))
    with pytest.raises(OSError, match=f"{name} cannot be written: it is (a directory|read-only)"):
        train(model, SCHEDULE, images, 4, directory=tmp_path, resume=True, held_out=held_out, **QUICK)


def test_events_need_a_directory(images, tmp_path):
    (tmp_path / "tensorboard").touch()
    with pytest.raises(NotADirectoryError, match="tensorboard must be a directory.*it is a file"):
        train(network(), SCHEDULE, images, 2, directory=tmp_path, tensorboard=True, **QUICK)
    assert not (tmp_path / "log.csv").exists()


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
