"""Several processes compute what one does; killed ones leave nothing unreadable."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed as dist

from diffmath import _files
from diffmath.ddpm import UNet, gaussian_denoiser, load_checkpoint, sample, train
from diffmath.ddpm._processes import joined
from diffmath.ddpm.checkpoints import read_tensors
from diffmath.schedule import VarianceSchedule
from tests.ddpm.runs import entries, left, rows

SCHEDULE = VarianceSchedule.linear(20, 1e-3, 0.3)
IMAGES = torch.randn((15, 1, 8, 8), generator=torch.Generator().manual_seed(0))
QUICK = {"batch_size": 4, "log_every": 2, "progress": False, "device": "cpu", "autocast": False}
START = multiprocessing.get_context("forkserver")  # its server has imported torch, and has no threads yet
START.set_forkserver_preload(["torch._dynamo", "diffmath.ddpm", "tests.ddpm.test_training"])


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(width=32, image_size=8)


def run(n_steps, directory, steps=None, **options):
    torch.set_num_threads(1)
    model = network()
    if steps is not None:
        model.register_forward_pre_hook(lambda *_: steps.release())
    return train(model, SCHEDULE, IMAGES, n_steps, directory=directory, resume=True, **QUICK | options)


def worker(rank, store, work, arguments):
    """One of two processes; only the first may write."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    if rank:
        _files.tempfile.TemporaryDirectory = None
    work(*arguments)
    dist.destroy_process_group()


def on_two(tmp_path, work, *arguments, during=lambda processes: None):
    """Call a function in two processes; their exit codes."""
    store = tmp_path / f"store{time.monotonic_ns()}"
    processes = [START.Process(target=worker, args=(rank, store, work, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    during(processes)
    for process in processes:
        process.join(120)
        process.kill()  # one that hangs is a failure, not the end of the tests
        process.join()
    return [process.exitcode for process in processes]


def close(first, second, tolerance):
    """Tensors of two checkpoints, by the norm of their difference."""
    a, b = (read_tensors(path)[0] for path in (first, second))
    assert a.keys() == b.keys()
    for name in a:
        if name.startswith("training.optimizer") and name.endswith("exp_avg"):
            assert (a[name] - b[name]).norm() <= tolerance * a[name].norm(), name


def test_the_step_of_two_is_that_of_one(tmp_path):
    """The gradient of the joint batch, to rounding: Adam's first moment after one step is a tenth of it."""
    run(1, tmp_path / "one")
    assert on_two(tmp_path, run, 1, tmp_path / "two") == [0, 0]
    close(tmp_path / "one" / "checkpoint.safetensors", tmp_path / "two" / "checkpoint.safetensors", 1e-5)
    record = load_checkpoint(tmp_path / "two" / "model.safetensors").metadata
    assert (record["processes"], record["images_seen"]) == (2, 4)
    # Either goes on where the other was; step 3's losses would show another order of images, times or noise.
    assert on_two(tmp_path, run, 4, tmp_path / "one") == [0, 0]
    run(4, tmp_path / "two")
    parts = load_checkpoint(tmp_path / "two" / "model.safetensors").metadata["resumed"]
    assert [(part["processes"], part["steps"]) for part in parts] == [(2, 1)]
    run(4, tmp_path / "alone")
    logs = [rows(tmp_path / name / "log.csv") for name in ("alone", "one", "two")]
    assert [step for step, _ in logs[0]] == [2, 4]
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-3)
    np.testing.assert_allclose(logs[2], logs[0], rtol=1e-3)


def interrupted(directory):
    with pytest.raises(KeyboardInterrupt, match="saved after step"):
        run(10_000, directory)


def test_a_signal_to_one_stops_both(tmp_path):
    def terminate_the_second(processes):
        while not (tmp_path / "run" / "log.csv").exists() and processes[0].is_alive():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(processes[1].pid, signal.SIGTERM)

    assert on_two(tmp_path, interrupted, tmp_path / "run", during=terminate_the_second) == [0, 0]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").metadata["steps"] > 0


def draw(path):
    generator = torch.Generator().manual_seed(0)
    exact = gaussian_denoiser(SCHEDULE, 0.3, 0.25)
    shared = sample(
        exact, SCHEDULE, n_samples=5, batch_size=2, generator=generator, trajectory=[20, 7], distributed=True
    )
    free = sample(exact, SCHEDULE, n_samples=2, distributed=True)  # a fresh generator, the same for both
    torch.save([*shared, free], path / f"{dist.get_rank()}.pt")


def test_sampling_on_two(tmp_path):
    """Five samples on two processes: each gets all, and they are those of one process, bit for bit."""
    assert on_two(tmp_path, draw, tmp_path) == [0, 0]
    exact, generator = gaussian_denoiser(SCHEDULE, 0.3, 0.25), torch.Generator().manual_seed(0)
    expected = sample(exact, SCHEDULE, n_samples=5, generator=generator, trajectory=[20, 7])
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first[:2], expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def one_sample():
    """The process without one is not asked, and gets it all the same."""
    exact = gaussian_denoiser(SCHEDULE, 0.3, 0.25)
    x = sample(lambda x, t: exact(x, t.clamp(int(t[0]))), SCHEDULE, n_samples=1, distributed=True)
    assert x.shape == (1, 1, 32, 32)


def test_more_processes_than_samples(tmp_path):
    assert on_two(tmp_path, one_sample) == [0, 0]


def divided_by_two(directory):
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 2 processes; it is 3"):
        run(1, directory, batch_size=3)


def test_batches_that_cannot_be_divided(tmp_path):
    assert on_two(tmp_path, divided_by_two, tmp_path) == [0, 0]


def on_own_disks(directory):
    with pytest.raises(ValueError, match="must go on from the same checkpoint; .* is at step [02] for process"):
        run(4, directory / str(dist.get_rank()))


def test_processes_that_see_different_checkpoints(tmp_path):
    """Two machines without a common disk, of which one has the checkpoint."""
    run(2, tmp_path / "0")
    before = (tmp_path / "0" / "checkpoint.safetensors").read_bytes()
    assert on_two(tmp_path, on_own_disks, tmp_path) == [0, 0]
    assert (tmp_path / "0" / "checkpoint.safetensors").read_bytes() == before


def refused(directory):
    first = dist.get_rank() == 0
    with pytest.raises(
        FileExistsError if first else RuntimeError, match="another process" if first else "could not go"
    ):
        run(1, directory)


def test_a_directory_in_use(tmp_path):
    """The first process finds it so, and none waits for it."""
    with _files.held(tmp_path / "run"):
        assert on_two(tmp_path, refused, tmp_path / "run") == [0, 0]
    run(1, tmp_path / "run")


def interrupted_while_saving(directory):
    """Of two processes that a signal stops, none is done before the first has saved."""
    fsync = os.fsync
    os.fsync = lambda descriptor: (time.sleep(1), fsync(descriptor))
    interrupted(directory)
    assert load_checkpoint(directory / "checkpoint.safetensors").metadata["steps"] > 0


def test_nobody_leaves_while_the_first_saves(tmp_path):
    """Twice the same signal, as torchrun passes on what the terminal or a scheduler has sent to all already."""

    def terminate(processes):
        while not (tmp_path / "run" / "log.csv").exists() and processes[0].is_alive():
            time.sleep(0.05)
        time.sleep(1)
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            for process in processes:
                os.kill(process.pid, number)
            time.sleep(0.3)

    assert on_two(tmp_path, interrupted_while_saving, tmp_path / "run", during=terminate) == [0, 0]


def test_torchrun(tmp_path):
    """The commands under torchrun: one checkpoint, with the losses of one process; one file, with its samples."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    shared = ["--device", "cpu", "--out"]
    train = ["-m", "diffmath", "train", "--network", "compact", "--data", "sample", "--batch-size", "4", "--epochs"]
    sample = ["-m", "diffmath", "sample", "-n", "3", "--n-steps", "2"]
    for prefix, name in (([], "one"), (several, "two")):
        for command in ([*train, "0.0016", *shared, tmp_path / name], [*sample, *shared, tmp_path / f"{name}.npy"]):
            done = subprocess.run(
                [sys.executable, *prefix, *map(str, command)],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                cwd=Path(__file__).parents[2],
            )
            assert done.stdout.count("\n") <= 1
    one, two = (load_checkpoint(tmp_path / name / "model.safetensors").metadata for name in ("one", "two"))
    assert (one["processes"], two["processes"], two["steps"]) == (1, 2, 2)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-2)  # in bfloat16, where that is quick
    one, two = np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy")
    np.testing.assert_allclose(two, one, atol=1e-5)  # convolutions of batches of 3, and of 1 and 2


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """SIGKILL, 8 times, while it trains and saves after each step: always resumable, and in the end the same."""
    rng = random.Random(0)
    path = tmp_path / "killed" / "checkpoint.safetensors"
    steps = []
    for _ in range(8):
        begun = START.Semaphore(0)
        process = START.Process(target=run, args=(10_000, path.parent, begun), kwargs={"checkpoint_minutes": 0.0})
        process.start()
        assert all(begun.acquire(timeout=60) for _ in range(rng.randint(1, 4)))
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.join()
        if path.exists():
            read_tensors(path)
            steps.append(load_checkpoint(path).metadata["steps"])
    assert sorted(steps) == steps
    assert 0 < steps[0] < steps[-1]
    n_steps = steps[-1] + 5
    process = START.Process(target=run, args=(n_steps, path.parent))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    process = START.Process(target=run, args=(n_steps, tmp_path / "whole"))
    process.start()
    process.join(120)
    (a, first), (b, second) = (read_tensors(tmp_path / d / path.name) for d in ("killed", "whole"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert first["metadata"]["losses"] == second["metadata"]["losses"]
    assert entries(path.parent / "log.csv") == entries(tmp_path / "whole" / "log.csv")
    assert left(path.parent) == [path.name, "log.csv", "model.safetensors"]


def test_several_processes_need_devices_that_can_speak(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several processes take a GPU each; the device is cuda:0"), joined("cuda:0"):
        pass
    with (
        pytest.raises(ValueError, match="several processes must compute on cuda or cpu; the device is meta"),
        joined("meta"),
    ):
        pass
    assert not dist.is_initialized()
