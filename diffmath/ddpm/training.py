"""Algorithm 1: training the noise predictor.

All randomness of step k (which images, which times, which noise) is a function of the seed and of k alone. So
there is no generator's state to carry over: a run that was interrupted and resumed is the run that was not.
"""

from __future__ import annotations

import csv
import hashlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from diffmath._files import replacing
from diffmath.ddpm._environment import autocast_dtype, choose_device, provenance
from diffmath.ddpm.checkpoints import CheckpointError, read_tensors, require_fit, save_checkpoint, to_json
from diffmath.ddpm.unet import UNet
from diffmath.schedule import VarianceSchedule

__all__ = ["TrainingDivergedError", "TrainingResult", "train"]

CHECKPOINT, WEIGHTS, LOG = "checkpoint.safetensors", "model.safetensors", "log.csv"
LOG_COLUMNS = ("step", "images", "epoch", "loss", "images_per_second")


class TrainingDivergedError(RuntimeError):
    """The loss or a weight became NaN or infinite."""


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
    average_decay: float = 0.999,
    seed: int = 0,
    device: str | torch.device | None = None,
    autocast: bool = True,
    compile: bool = False,
    directory: str | PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_minutes: float = 3.0,
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
        Of the minibatches and of Adam; the defaults are those of the paper and of the example it follows.
    average_decay : float
        The decay d of the moving average, in [0, 1).
    seed : int
        Seeds the order of the images, the times and the noise; initial weights are the caller's.
    device : str or torch.device, optional
        Where to train; the best device of this machine unless given.
    autocast : bool
        Whether to run the network in bfloat16 where the device is good at it. Weights, loss and Adam are float32.
    compile : bool
        Whether to use torch.compile: minutes of warm-up, and it needs a C++ compiler.
    directory : path, optional
        Where to write ``checkpoint.safetensors`` every few minutes, ``log.csv``, and at the end
        ``model.safetensors``, the averaged weights in half precision. Nothing is written unless it is given.
    resume : bool
        Whether to go on from the directory's checkpoint, if it has one; the settings must be the same, only
        ``n_steps`` may grow. On a CPU, with the same precision, compilation, number of threads and version of torch,
        the result is bit for bit that of uninterrupted training.
    checkpoint_minutes : float
        Minutes between checkpoints. Ctrl-C and SIGTERM save one, then raise KeyboardInterrupt.
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
        If an argument is out of range, the images are not finite, a resumed run had other settings, or it is already
        beyond ``n_steps``.
    TypeError
        If a count or the seed is no integer, or the model for a directory is no `UNet`.
    FileExistsError
        If the directory holds a run and ``resume`` is false, or weights or a log that are not those of its run.
    CheckpointError
        If the checkpoint to resume is damaged or belongs to another network.
    TrainingDivergedError
        If the loss or a weight is NaN or infinite; the last checkpoint is kept.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, with the state saved if there is a directory.
    """
    for name, count, least in (
        ("n_steps", n_steps, 1),
        ("batch_size", batch_size, 1),
        ("log_every", log_every, 1),
        ("seed", seed, 0),
    ):
        _check_count(name, count, least)
    _check(model, images, learning_rate, betas, average_decay, checkpoint_minutes, directory)
    to_json(metadata or {})  # refused now rather than when it is to be saved
    images = images.detach().to(next(model.parameters()).dtype)
    place = choose_device(device)
    dtype = autocast_dtype(place) if autocast else None
    settings = {
        "schedule": hashlib.sha256(schedule.beta.tobytes()).hexdigest()[:16],
        "images": hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()[:16],
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "betas": list(betas),
        "average_decay": average_decay,
        "seed": seed,
        "log_every": log_every,
    }
    model.to(place)
    images = images.to(place)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=learning_rate, betas=betas, fused=place.type in ("cpu", "cuda") or None
    )
    step = 0  # steps done
    average = AveragedModel(
        model,
        multi_avg_fn=lambda averaged, current, _: get_ema_multi_avg_fn(min(average_decay, (1 + step) / (10 + step)))(
            averaged, current, torch.tensor(step)
        ),
    )
    origin = provenance(place) | {
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "compiled": compile,
    }
    state = _State(model, average, optimizer, schedule, settings, dict(metadata or {}), origin)
    path = None if directory is None else Path(directory) / CHECKPOINT
    if path is not None:
        for present in (path, path.with_name(WEIGHTS)):
            if present.exists() and not (resume and path.exists()):
                raise FileExistsError(f"{present} exists: resume its run, or train in another directory")
        if path.exists():
            state.load(path)
            step = state.step
            if step > n_steps:
                raise ValueError(f"{path} is at step {step} already; n_steps must be at least that, it is {n_steps}")
        _rewrite_log(path.with_name(LOG), step)

    predict = torch.compile(model) if compile else model
    batches = _Batches(images, schedule.n_steps, batch_size, seed)
    model.train()
    logged_step, seen_at = step, time.monotonic()
    saved_at = logged_at = seen_at
    bar = tqdm(
        total=n_steps * batch_size,
        initial=step * batch_size,
        unit=" images",
        unit_scale=True,
        smoothing=0.05,
        disable=not progress,
        desc="training",
    )
    with bar, _deferred_interrupts(enabled=path is not None) as interrupted:
        while step < n_steps:
            x_0, eps, t = batches(step)
            x_t = schedule.add_noise(x_0, eps, t)
            with torch.autocast(place.type, dtype, enabled=dtype is not None):
                prediction = predict(x_t, t.to(place))
            loss = F.mse_loss(prediction.float(), eps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update_parameters(model)
            step += 1
            state.step, state.loss_sum = step, state.loss_sum + loss.detach()
            bar.update(batch_size)

            now = time.monotonic()
            state.seconds, seen_at = state.seconds + now - seen_at, now
            if step % log_every == 0:
                mean_loss = state.take_loss(log_every, path)
                bar.set_postfix(loss=f"{mean_loss:.4f}")
                if path is not None:
                    rate = (step - logged_step) * batch_size / (now - logged_at)
                    epoch = step * batch_size / len(images)
                    _append_log(path.with_name(LOG), (step, step * batch_size, epoch, mean_loss, rate))
                logged_step, logged_at = step, now
            if path is not None and (interrupted.is_set() or now - saved_at >= 60 * checkpoint_minutes):
                state.save(path)
                saved_at = now
            if interrupted.is_set():
                raise KeyboardInterrupt(f"saved after step {step} in {path}")

        state.check(path)
        if path is not None and not state.is_as_loaded:
            state.save(path)
        if rest := step % log_every:
            state.take_loss(rest, path)
    averaged = average.module.eval()
    record = state.record()
    if path is not None:
        save_checkpoint(path.with_name(WEIGHTS), averaged, schedule, record, dtype=torch.float16)  # type: ignore[arg-type]
    return TrainingResult(averaged, state.losses, record)


class _Batches:
    """The images, noise and times of any step, from the seed and the step's number alone."""

    def __init__(self, images: Tensor, n_times: int, batch_size: int, seed: int) -> None:
        self.images, self.n_times, self.batch_size, self.seed = images, n_times, batch_size, seed
        self.on_device = torch.Generator(images.device)
        self.order: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        x_0 = self.images[self._indices(step).to(self.images.device)]
        on_cpu = torch.Generator().manual_seed(_mix(self.seed, 1, step))
        # The times stay on the CPU, where the schedule looks up its coefficients without waiting for the device.
        t = torch.randint(1, self.n_times + 1, (self.batch_size,), generator=on_cpu)
        self.on_device.manual_seed(_mix(self.seed, 2, step))
        eps = torch.randn(x_0.shape, dtype=x_0.dtype, device=x_0.device, generator=self.on_device)
        return x_0, eps, t

    def _indices(self, step: int) -> Tensor:
        """The next images of an endless sequence of epochs, each a new order; none is left out at the seams."""
        n, parts = len(self.images), []
        begin, end = step * self.batch_size, (step + 1) * self.batch_size
        while begin < end:
            epoch, first = divmod(begin, n)
            if self.order is None or self.order[0] != epoch:
                generator = torch.Generator().manual_seed(_mix(self.seed, 0, epoch))
                self.order = epoch, torch.randperm(n, generator=generator)
            parts.append(self.order[1][first : first + end - begin])
            begin += len(parts[-1])
        return torch.cat(parts)


def _mix(*key: int) -> int:
    """A seed from a tuple of integers, well mixed: torch's CPU generator uses the low 32 bits only."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


class _State:
    """What a run is after some step, and how it goes to a checkpoint and comes back."""

    def __init__(
        self,
        model: nn.Module,
        average: AveragedModel,
        optimizer: torch.optim.Optimizer,
        schedule: VarianceSchedule,
        settings: dict[str, Any],
        metadata: dict[str, Any],
        origin: dict[str, Any],
    ) -> None:
        self.model, self.average, self.optimizer, self.schedule = model, average, optimizer, schedule
        self.settings, self.metadata, self.origin = settings, metadata, origin
        self.resumed: list[dict[str, Any]] = []  # the origins of the parts before, each with the step it went to
        self.loaded: tuple[int, dict[str, Any]] | None = None
        self.step, self.seconds = 0, 0.0
        self.losses: list[tuple[int, float]] = []
        self.loss_sum = torch.zeros((), device=next(model.parameters()).device)

    def take_loss(self, n_steps: int, path: Path | None) -> float:
        """The mean loss since it was last taken, checked and noted."""
        self._check_finite("the loss", self.loss_sum, path)
        mean_loss = float(self.loss_sum) / n_steps
        self.losses.append((self.step, mean_loss))
        self.loss_sum.zero_()
        return mean_loss

    def check(self, path: Path | None) -> None:
        """Raise TrainingDivergedError unless the loss and all weights are finite."""
        self._check_finite("the loss", self.loss_sum, path)
        self._check_finite("the norm of the weights", nn.utils.get_total_norm(list(self.model.parameters())), path)

    def _check_finite(self, name: str, value: Tensor, path: Path | None) -> None:
        if not torch.isfinite(value):
            kept = f"the last good checkpoint is {path}" if path and path.exists() else "there is no checkpoint"
            raise TrainingDivergedError(
                f"{name} was {float(value)} by step {self.step}, with learning rate {self.settings['learning_rate']}; "
                f"{kept}. Try a smaller learning rate."
            )

    @property
    def is_as_loaded(self) -> bool:
        """Whether no step was taken since the checkpoint: it keeps its origin then."""
        return self.loaded is not None and self.loaded[0] == self.step

    def record(self) -> dict[str, Any]:
        if self.loaded is not None and self.is_as_loaded:
            return {**self.loaded[1], "losses": self.losses}
        n_images = self.step * self.settings["batch_size"]
        return {
            **self.metadata,
            **self.origin,
            "resumed": self.resumed,
            "steps": self.step,
            "images_seen": n_images,
            "settings": self.settings,
            "losses": self.losses,
            "seconds": round(self.seconds, 1),
        }

    def save(self, path: Path) -> None:
        self.check(path)  # never replace a good checkpoint by a bad one
        tensors = {f"weights.{name}": t for name, t in self.model.state_dict().items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": t for name, t in slots.items()}
        tensors["loss_sum"] = self.loss_sum
        averaged: Any = self.average.module  # a UNet, as `_check` saw to
        save_checkpoint(path, averaged, self.schedule, self.record(), training=tensors)

    def load(self, path: Path) -> None:
        tensors, header = read_tensors(path)
        record = header["metadata"]
        slots: dict[int, dict[str, Tensor]] = {}
        try:
            before = record.get("settings", {})
            changed = [f"{k} = {before.get(k)!r}, now {v!r}" for k, v in self.settings.items() if before.get(k) != v]
            if header["architecture"]["config"] != getattr(self.model, "config", None):
                raise ValueError(f"its network is {header['architecture']['config']}")
            for name, tensor in _part(tensors, "training.optimizer.").items():
                i, slot = name.split(".")
                slots.setdefault(int(i), {})[slot] = tensor
            if not changed:
                self._restore(tensors, slots, record)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} cannot be resumed: {error}") from error
        if changed:
            raise ValueError(f"{path} belongs to a run with other settings: {'; '.join(changed)}")

    def _restore(self, tensors: dict[str, Tensor], slots: dict[int, dict[str, Tensor]], record: dict[str, Any]) -> None:
        for module, weights in (
            (self.model, _part(tensors, "training.weights.")),
            (self.average.module, _part(tensors, "model.")),
        ):
            require_fit(weights, module)
            module.load_state_dict(weights)
        for number, weight in enumerate(self.model.parameters()):
            own = slots.get(number, {})
            shapes = {slot: tensor.shape for slot, tensor in own.items()}
            if shapes != {"step": (), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}:
                raise ValueError(f"Adam's state for the weight {number} is missing or has another shape")
            if not all(torch.isfinite(tensor).all() for tensor in own.values()):
                raise ValueError(f"Adam's state for the weight {number} must be finite")
        if not torch.isfinite(tensors["training.loss_sum"]):
            raise ValueError("the sum of the losses must be finite")
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        self.loss_sum.copy_(tensors["training.loss_sum"])
        self.step, self.seconds = record["steps"], float(record["seconds"])
        _check_count("steps", self.step, 0)
        self.losses = [(int(step), float(loss)) for step, loss in record["losses"]]
        self.average.n_averaged.fill_(self.step)
        self.resumed = [
            *record.get("resumed", []),
            {name: record.get(name) for name in self.origin} | {"steps": self.step},
        ]
        self.loaded = self.step, record


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _check_count(name: str, count: int, least: int) -> None:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(f"{name} must be an integer; it is {count!r}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}; it is {count}")


def _check(
    model: nn.Module,
    images: Tensor,
    learning_rate: float,
    betas: tuple[float, float],
    average_decay: float,
    checkpoint_minutes: float,
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
    if not images.is_floating_point() or images.ndim < 2 or len(images) == 0:
        raise ValueError(f"images must be floating, of shape (N, ...); they are {images.dtype}, {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        i = int((~torch.isfinite(images.flatten(1))).any(1).int().argmax())
        raise ValueError(f"images must be finite; images[{i}] is not")
    if directory is not None and not isinstance(model, UNet):
        raise TypeError(f"only a UNet can be saved in a directory; the model is a {type(model).__name__}")


@contextmanager
def _deferred_interrupts(enabled: bool) -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set an event, so that a step is finished first; a second Ctrl-C interrupts at once."""
    event = threading.Event()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rewrite_log(path: Path, step: int) -> None:
    """Keep the header and the entries up to a step: those beyond the checkpoint will be made again."""
    rows: list[list[str]] = []
    if path.exists():
        with open(path, newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        if header != list(LOG_COLUMNS):
            raise FileExistsError(f"{path} exists and is no log of a training: train in another directory")
        rows = [row for row in rows if row and row[0].isdigit() and int(row[0]) <= step]
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        csv.writer(file).writerows([LOG_COLUMNS, *rows])


def _append_log(path: Path, row: tuple[int, int, float, float, float]) -> None:
    step, n_images, epoch, loss, rate = row
    with open(path, "a", newline="") as file:
        csv.writer(file).writerow([step, n_images, f"{epoch:.4f}", f"{loss!r}", f"{rate:.1f}"])
