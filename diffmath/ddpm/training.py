"""Algorithm 1: training the noise predictor.

All randomness of step k (which images, which times, which noise) is a function of the seed and of k alone. So
there is no generator's state to carry over: a run that was interrupted and resumed is the run that was not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm.auto import tqdm

from diffmath._arguments import require_count, require_pixels
from diffmath._files import held, sweep
from diffmath.ddpm._arguments import as_floating, as_tensor, check_prediction
from diffmath.ddpm._environment import autocast_dtype, choose_device, memory_format, provenance
from diffmath.ddpm._log import Log
from diffmath.ddpm._processes import Processes
from diffmath.ddpm._state import State, TrainingDivergedError
from diffmath.ddpm.checkpoints import save_checkpoint, stored_weights, to_json
from diffmath.ddpm.sampling import sample
from diffmath.schedule import VarianceSchedule

__all__ = ["TrainingDivergedError", "TrainingResult", "train"]

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "model.safetensors"


class TrainingResult(NamedTuple):
    """What `train` returns.

    Attributes
    ----------
    model : torch.nn.Module
        A copy of the trained model with the moving average of its weights, in evaluation mode.
    losses : list of (int, float)
        Steps, and the mean loss over the steps since the entry before; the last entry is at the last step.
    metadata : dict
        The record of the training that its checkpoints carry.
    """

    model: nn.Module
    losses: list[tuple[int, float]]
    metadata: dict[str, Any]


def train(
    model: nn.Module,
    schedule: VarianceSchedule,
    images: Tensor,
    n_steps: int,
    *,
    batch_size: int = 128,
    learning_rate: float = 5e-4,
    betas: tuple[float, float] = (0.9, 0.9999),
    warm_up: int = 0,
    average_decay: float = 0.999,
    seed: int = 0,
    started_from: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    autocast: bool = True,
    compile: bool = False,
    directory: str | PathLike[str] | None = None,
    resume: bool = False,
    change_settings: bool = False,
    checkpoint_minutes: float = 3.0,
    sample_minutes: float | None = None,
    tensorboard: bool = False,
    log_every: int = 50,
    metadata: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> TrainingResult:
    r"""Algorithm 1: minimise :math:`E |\epsilon - \epsilon_\theta(x_t, t)|^2` by Adam on minibatches.

    Each step takes the next images of a random order of the training set (a new order each epoch), times t uniform
    on 1..T, standard Gaussian noise, x_t by eq. (8), and one Adam step on the mean squared error per pixel. There are
    no labels and no flips. Beside the weights it keeps their exponential moving average, which is what it returns
    and what `load_checkpoint` reads. The average's decay is :math:`\min(d, (1 + k) / (10 + k))` after k steps, so that
    the random initial weights are soon forgotten.

    If `torch.distributed` is initialised, all its processes must call with the same arguments. Each takes its part of
    every minibatch, and the mean of their gradients is that of the whole; the first writes the files, which all must
    be able to read. What a run computes does not depend, up to rounding, on how many there are.

    Parameters
    ----------
    model : torch.nn.Module
        Called as ``model(x_t, t)``; a `UNet` if a directory is given. It is moved to the device and trained in place.
    schedule : VarianceSchedule
    images : Tensor, shape (N, ...), floating
        The training set, pixels in [-1, 1]; converted to the dtype of the model's parameters.
    n_steps : int
        The number of optimiser steps in all, those before a resumption included; one epoch is N / batch_size steps.
    batch_size, learning_rate, betas : int, float, (float, float)
        Of the minibatches, over all processes, and of Adam; the defaults are those of the paper and of the example
        it follows.
    warm_up : int
        Steps in which the learning rate rises to its value, linearly. A trained network needs it: Adam's first steps,
        from few gradients, are as large as its largest.
    average_decay : float
        The decay d of the moving average, in [0, 1).
    seed : int
        Seeds the order of the images, the times and the noise; initial weights are the caller's. A training that starts
        from another on the same images wants another seed, or it sees the same minibatches again.
    started_from : mapping, optional
        If the model's weights were trained before: the record of that, a `Checkpoint`'s ``metadata``. It goes into the
        new record, and its ``images_seen``, which it must have, are counted in the new one's.
    device : str or torch.device, optional
        Where to train; the best device of this machine unless given.
    autocast : bool
        Whether to run the network in bfloat16 where the device is good at it. Weights, loss and Adam are float32.
    compile : bool
        Whether to use torch.compile: minutes of warm-up, and it needs a C++ compiler.
    directory : path, optional
        Where to write ``checkpoint.safetensors`` every few minutes, ``log.csv``, and at the end
        ``model.safetensors``, the averaged weights in half precision; also ``samples-<step>.png`` and ``tensorboard/``
        where these are wanted. Nothing is written unless it is given. The log has the loss, also by bins of the noise
        level t, the learning rate, the norm of the gradient in the entry's last step, and images per second, without
        the first step's warm-up, checkpoints and sheets. Those of a run whose checkpoint is gone are kept as
        ``log-1.csv`` and ``tensorboard-1`` when it begins anew.
    resume : bool
        Whether to go on from the directory's checkpoint, if it has one; the settings must be the same, only
        ``n_steps`` may grow. On a CPU, with the same precision, compilation, number of threads and version of torch,
        the result is bit for bit that of uninterrupted training.
    change_settings : bool
        Whether a resumed run may have another learning rate, betas, warm-up, decay of the average, seed or choice of
        frozen weights: after a divergence, a smaller rate. The record keeps the settings of each part.
    checkpoint_minutes : float
        Minutes between checkpoints; one is saved before a sheet of samples too. Ctrl-C, SIGTERM and SIGHUP
        save one, then raise KeyboardInterrupt; with one process a second Ctrl-C raises it at once.
    sample_minutes : float, optional
        Minutes between sheets of 16 samples of the averaged network, in 50 steps or all if those are fewer; none
        unless given.
    tensorboard : bool
        Whether to write the log for TensorBoard too, an optional dependency.
    log_every : int
        Steps between entries of the log, after which the loss is checked too.
    metadata : mapping, optional
        Further entries for the record in the checkpoints, such as a description of the data.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    TrainingResult
        ``model``, ``losses`` and ``metadata``.

    Raises
    ------
    ValueError
        If an argument is out of range, the images are not finite, a resumed run had other settings, it is already
        beyond ``n_steps``, the seed is that of a training before on the same images, the minibatch cannot be divided
        among the processes, or these do not all see the same checkpoint.
    TypeError
        If a count, the seed or the ``images_seen`` before is no integer, or the model for a directory is no `UNet`.
    FileExistsError
        If the directory holds a run or its log and ``resume`` is false, weights without their checkpoint, or a foreign
        log, or if another process trains there. Of several processes the first raises it, the others RuntimeError.
    OSError
        If a file cannot be written, as on a full disk; the last checkpoint is kept.
    ModuleNotFoundError
        If TensorBoard is wanted and not installed.
    CheckpointError
        If the checkpoint to resume is damaged or belongs to another network.
    TrainingDivergedError
        If the loss or a weight is NaN or infinite; the last checkpoint is kept.
    KeyboardInterrupt
        After Ctrl-C, SIGTERM or SIGHUP, with the state saved if there is a directory.
    """
    n_steps, batch_size = require_count("n_steps", n_steps), require_count("batch_size", batch_size)
    log_every, seed = require_count("log_every", log_every), require_count("seed", seed, 0)
    warm_up = require_count("warm_up", warm_up, 0)
    images = _as_images(images)
    _check(model, images, learning_rate, betas, average_decay, checkpoint_minutes, sample_minutes, directory)
    if directory is None and (resume or tensorboard or sample_minutes is not None):
        raise ValueError("resume, tensorboard and sample_minutes need a directory; none was given")
    if change_settings and not resume:
        raise ValueError("change_settings is for resuming a run; resume is False")
    processes = Processes()
    if batch_size % processes.size:
        raise ValueError(f"batch_size must be a multiple of the {processes.size} processes; it is {batch_size}")
    for record in (metadata, started_from):
        to_json(record or {})  # refused now rather than when it is to be saved
    images = images.to(next(model.parameters()).dtype)
    place = choose_device(device)
    dtype = autocast_dtype(place) if autocast else None
    settings = {
        "schedule": hashlib.sha256(schedule.beta.tobytes()).hexdigest()[:16],
        "images": _digest([images]),
        "batch_size": batch_size,
        "learning_rate": float(learning_rate),
        "betas": [float(beta) for beta in betas],
        "average_decay": float(average_decay),
        "seed": seed,
        "log_every": log_every,
        "warm_up": warm_up,
        "initial_weights": None,
        "frozen": [name for name, weight in model.named_parameters() if not weight.requires_grad],
    }
    if started_from is not None:
        _require_another_seed(started_from, settings)
        settings["initial_weights"] = _digest(model.parameters())
    model.to(place).to(memory_format=memory_format(place))  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(
        model.parameters(), lr=learning_rate, betas=betas, fused=place.type in ("cpu", "cuda") or None
    )
    average = copy.deepcopy(model)
    origin: dict[str, Any] = provenance(place) | {
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "compiled": compile,
        "processes": processes.size,
        "warm_up_seconds": None,
    }
    state = State(model, average, optimizer, schedule, settings, dict(metadata or {}), origin, processes, started_from)
    path = None if directory is None else Path(directory) / CHECKPOINT
    with ExitStack() as stack:
        if path is not None:
            processes.by_first(lambda: stack.enter_context(held(path.parent)))
        log = None if path is None else _opened(path, state, n_steps, resume, change_settings, tensorboard)
        predict: Callable[..., Tensor] = DistributedDataParallel(model) if processes.size > 1 else model
        predict = torch.compile(predict) if compile else predict
        batches = _Batches(images.to(place), schedule, batch_size, seed, processes)
        model.train()
        bar = tqdm(
            total=n_steps * batch_size,
            initial=state.step * batch_size,
            unit=" images",
            unit_scale=True,
            smoothing=0.05,
            disable=not progress or not processes.first,
            desc="training",
        )
        clock = time.monotonic
        began = seen_at = saved_at = shown_at = logged_at = clock()
        first_step = logged_step = state.step
        with bar, _deferred_interrupts(path is not None, impatient=processes.size == 1) as interrupted:
            while state.step < n_steps:
                rate = state.learning_rate(state.step + 1)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                x_0, eps, t = batches(state.step)
                x_t = batches.add_noise(x_0, eps, t)
                with torch.autocast(place.type, dtype, enabled=dtype is not None):
                    prediction = check_prediction(predict(x_t, t), x_t)
                losses = (prediction.to(eps.dtype) - eps).square().flatten(1).mean(dim=1)
                optimizer.zero_grad()
                losses.mean().backward()
                optimizer.step()
                _follow(average, model, min(average_decay, (1 + state.step) / (10 + state.step)) if state.step else 0.0)
                state.count(losses.detach(), t)
                bar.update(batch_size)

                if state.step == first_step + 1:  # compilation, and the device's own preparations
                    _finish(place)
                    origin["warm_up_seconds"] = round(clock() - began, 6)
                    logged_step, logged_at = state.step, clock()
                now = clock()
                state.seconds, seen_at = state.seconds + now - seen_at, now
                if state.step % log_every == 0:
                    mean_loss, by_level = state.take_loss(path)
                    bar.set_postfix(loss=f"{mean_loss:.4f}")
                    if log is not None:
                        n_images, n_new = state.step * batch_size, (state.step - logged_step) * batch_size
                        gradients = [p.grad for p in model.parameters() if p.grad is not None]
                        entry = {
                            "step": state.step,
                            "images": n_images,
                            "epoch": n_images / len(images),
                            "loss": mean_loss,
                            "learning_rate": rate,
                            "gradient_norm": float(nn.utils.get_total_norm(gradients)),
                            "images_per_second": n_new / (clock() - logged_at) if n_new else math.nan,
                        }
                        log.write(entry | {f"loss_t{name}": loss for name, loss in by_level.items()})
                    logged_step, logged_at = state.step, clock()
                if path is None:
                    continue
                stop, save, show = processes.any(
                    interrupted.is_set(),
                    processes.first and now - saved_at >= 60 * checkpoint_minutes,
                    processes.first and sample_minutes is not None and now - shown_at >= 60 * sample_minutes,
                )
                if not (stop or save or show):
                    continue
                _finish(place)
                paused_at = clock()
                _save(state, path, log)  # before a sheet too: it is only of what is finite, and may fail
                saved_at = now
                if stop:
                    processes.wait()  # a process that ends has the others killed: not while the first is writing
                    raise KeyboardInterrupt(f"saved after step {state.step} in {path}")
                if show and log is not None:
                    log.show(_samples(average, schedule, images.shape[1:]), state.step)
                if show:
                    shown_at = now
                logged_at += clock() - paused_at  # the log's rate is that of the steps alone

            state.check(path)
            state.seconds += clock() - seen_at
            if path is not None and not state.is_as_loaded:
                _save(state, path, log)
            if state.step % log_every:
                state.take_loss(path)
        average.eval()
        record = state.record()
        if path is not None and processes.first:
            save_checkpoint(path.with_name(WEIGHTS), average, schedule, record, dtype=torch.float16)
        if log is not None:
            log.close()
        processes.wait()  # until the files are there
    return TrainingResult(average, state.losses, record)


def _opened(
    path: Path, state: State, n_steps: int, resume: bool, change_settings: bool, tensorboard: bool
) -> Log | None:
    """Become what the directory's checkpoint holds, if there is one; the log, for the process that writes it."""
    weights, processes = path.with_name(WEIGHTS), state.processes
    if path.exists() and not resume:
        raise FileExistsError(f"{path} exists: resume its run, or train in another directory")
    if weights.exists() and not path.exists():
        raise FileExistsError(f"{weights} exists, and no checkpoint to go on from: train in another directory")
    if path.exists():
        state.load(path, change_settings)
        if state.step > n_steps:
            raise ValueError(f"{path} is at step {state.step} already; n_steps must be at least that, it is {n_steps}")
    if processes.largest(state.step) != -processes.largest(-state.step):  # this also waits until all have looked
        raise ValueError(
            f"all processes must go on from the same checkpoint; {path} is at step {state.step} for process "
            f"{processes.rank}, and not for another: the directory must be one that all of them share"
        )

    def begin() -> Log:
        for name in (CHECKPOINT, WEIGHTS, Log.NAME, Log.SHEETS):
            sweep(path.with_name(name))
        return Log(path.parent, state.levels.names, state.step, state.losses, tensorboard, go_on=resume)

    return processes.by_first(begin)


def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """The moving average after a step. torch's own `AveragedModel` counts on the host, and waits for the device."""
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(model.parameters()), 0)
    for kept, current in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(current)


def _save(state: State, path: Path, log: Log | None) -> None:
    """The log first: after a power cut it may hold more than the checkpoint, not less."""
    if log is not None:
        log.sync()
    state.save(path)


def _samples(model: nn.Module, schedule: VarianceSchedule, shape: torch.Size) -> Tensor:
    """Sixteen samples, always from the same noise, so that sheets can be compared."""
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn((16, *shape), generator=generator)
    return sample(model, schedule, x_T, n_steps=min(50, schedule.n_steps), generator=generator)


def _finish(device: torch.device) -> None:
    """Wait for a device that computes while Python goes on."""
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        torch.cuda.synchronize(device)
    elif device.type == "mps":  # pragma: no cover (needs a GPU)
        torch.mps.synchronize()


class _Batches:
    """The images, noise and times of any step, from the seed and the step's number alone.

    Of each minibatch a process keeps its own part: of all processes together it is that of one. All lies on the
    device of the images, and the coefficients of eq. (8) too, so that no step waits for the device.
    """

    def __init__(
        self, images: Tensor, schedule: VarianceSchedule, batch_size: int, seed: int, processes: Processes
    ) -> None:
        self.images, self.n_times, self.batch_size, self.seed = images, schedule.n_steps, batch_size, seed
        self.own = processes.share(batch_size)
        self.generator = torch.Generator(images.device)
        self.order: tuple[int, Tensor] | None = None
        times = np.arange(schedule.n_steps + 1)
        self.coefficients = [
            torch.tensor(np.sqrt(c)).to(images)  # float64 until here
            for c in schedule.transition(times[1:], np.zeros_like(times[1:]))
        ]

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        x_0 = self.images[self._indices(step)[self.own]]
        self.generator.manual_seed(_mix(self.seed, 1, step))
        t = torch.randint(1, self.n_times + 1, (self.batch_size,), device=x_0.device, generator=self.generator)
        self.generator.manual_seed(_mix(self.seed, 2, step))
        shape = (self.batch_size, *x_0.shape[1:])
        eps = torch.randn(shape, dtype=x_0.dtype, device=x_0.device, generator=self.generator)
        return x_0, eps[self.own], t[self.own]

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """`VarianceSchedule.add_noise`, eq. (8), with t on the device."""
        a, b = (c[t - 1].reshape(-1, *[1] * (x_0.ndim - 1)) for c in self.coefficients)
        return a * x_0 + b * eps

    def _indices(self, step: int) -> Tensor:
        """The next images of an endless sequence of epochs, each a new order; none is left out at the seams."""
        n, parts = len(self.images), []
        begin, end = step * self.batch_size, (step + 1) * self.batch_size
        while begin < end:
            epoch, first = divmod(begin, n)
            if self.order is None or self.order[0] != epoch:
                generator = torch.Generator().manual_seed(_mix(self.seed, 0, epoch))
                self.order = epoch, torch.randperm(n, generator=generator).to(self.images.device)
            parts.append(self.order[1][first : first + end - begin])
            begin += len(parts[-1])
        return torch.cat(parts)


def _digest(tensors: Iterable[Tensor]) -> str:
    """What tells one training set, or one network, from another."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _require_another_seed(before: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> None:
    """That no training before saw the same minibatches."""
    while before is not None:
        known = before.get("settings") or {}
        if all(known.get(name) == settings[name] for name in ("images", "batch_size", "seed")):
            raise ValueError(
                f"seed must not be that of a training before on the same images, whose minibatches would come again; "
                f"it is {settings['seed']} for both"
            )
        before = before.get("started_from")


def _mix(*key: int) -> int:
    """A seed from a tuple of integers, well mixed: torch's CPU generator uses the low 32 bits only."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _as_images(images: Any) -> Tensor:
    images = as_tensor(images, "images").detach()
    if images.is_floating_point() and images.ndim > 1 and not torch.isfinite(images).all():
        i = int((~torch.isfinite(images.flatten(1))).any(1).int().argmax())
        raise ValueError(f"images must be finite; images[{i}] is not")
    return as_floating(images, "images", ndim=2)


def _check(
    model: nn.Module,
    images: Tensor,
    learning_rate: float,
    betas: tuple[float, float],
    average_decay: float,
    checkpoint_minutes: float,
    sample_minutes: float | None,
    directory: str | PathLike[str] | None,
) -> None:
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive; it is {learning_rate}")
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        raise ValueError(f"betas must be two numbers in [0, 1); they are {betas}")
    if not 0 <= average_decay < 1:
        raise ValueError(f"average_decay must lie in [0, 1); it is {average_decay}")
    if not checkpoint_minutes >= 0:
        raise ValueError(f"checkpoint_minutes must not be negative; it is {checkpoint_minutes}")
    if sample_minutes is not None and not sample_minutes >= 0:
        raise ValueError(f"sample_minutes must not be negative; it is {sample_minutes}")
    require_pixels(images)
    shape = getattr(model, "image_shape", None)
    if shape is not None and images.shape[1:] != tuple(shape):
        raise ValueError(
            f"images must have the shape that the model is for, {tuple(shape)}; their shape is "
            f"{tuple(images.shape[1:])}: resize them, or make the model for them (UNet(image_size=...))"
        )
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("the model must have a weight to train; it has none, or all of them are frozen")
    if directory is not None:
        stored_weights(model)  # refused now rather than when they are to be saved
    if sample_minutes is not None and (images.ndim != 4 or images.shape[1] != 1):
        raise ValueError(f"sheets of samples need images of shape (N, 1, H, W); theirs is {tuple(images.shape)}")


@contextmanager
def _deferred_interrupts(enabled: bool, impatient: bool) -> Iterator[threading.Event]:
    """Ctrl-C, SIGTERM and, unless it is ignored as nohup does, SIGHUP set an event, so that a step is finished first.

    A second Ctrl-C interrupts at once if `impatient`. Not so among several processes, which get the same one from the
    terminal and from torchrun; nor a second SIGTERM, as schedulers send it to whole groups.
    """
    event = threading.Event()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: object) -> None:
        if impatient and number == signal.SIGINT and event.is_set():
            raise KeyboardInterrupt
        event.set()

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {n: signal.signal(n, note) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
