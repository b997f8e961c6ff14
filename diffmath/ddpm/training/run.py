"""`train`: Algorithm 1 with what surrounds it, from the arguments to the files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from diffmath._arguments import require_callable, require_count, require_instance
from diffmath._files import as_path, held, require_writable, sweep
from diffmath.ddpm._arguments import require_process
from diffmath.ddpm._environment import autocast_dtype, choose_device, memory_format, provenance
from diffmath.ddpm._processes import Processes
from diffmath.ddpm.checkpoints import read_tensors, require_stored, save_checkpoint, stored_weights, to_json
from diffmath.ddpm.training.algorithm import Hook, Loss, Predictor, minimise, predictor, squared_error
from diffmath.ddpm.training.batches import Batches, OnDevice
from diffmath.ddpm.training.compiled import gradients, require_equal_gradients
from diffmath.ddpm.training.held_out import HeldOut
from diffmath.ddpm.training.hooks import Callback, Checkpoints, Clock, Logging, Progress, Sheets, deferred_interrupts
from diffmath.ddpm.training.log import Log
from diffmath.ddpm.training.settings import as_images, decays_of, minutes_of, settings_of
from diffmath.ddpm.training.state import State
from diffmath.process import Process

__all__ = ["TrainingResult", "steps_done", "train"]

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "model.safetensors"


class TrainingResult(NamedTuple):
    """What `train` returns.

    Attributes
    ----------
    model : torch.nn.Module
        A copy of the trained model with the moving average of its weights, the better of several, in evaluation mode.
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
    schedule: Process,
    images: Any,
    n_steps: int,
    *,
    batch_size: int = 128,
    learning_rate: float = 5e-4,
    betas: tuple[float, float] = (0.9, 0.9999),
    warm_up: int = 0,
    decay: float = 0.0,
    average_decay: float | Sequence[float] = 0.999,
    held_out: Any = None,
    loss: Loss = squared_error,
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
    callback: Callable[[int, float], Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> TrainingResult:
    r"""Algorithm 1: minimise :math:`E |\epsilon - \epsilon_\theta(x_t, t)|^2` by Adam on minibatches.

    The loop itself is `diffmath.ddpm.training.algorithm.minimise`. What is returned, and what `load_checkpoint` reads,
    is the moving average of the weights, or the better of several. If `torch.distributed` is initialised, all its
    processes call with the same arguments; each takes a share of every minibatch.

    Parameters
    ----------
    model : torch.nn.Module
        Called as ``model(x_t, t)``; it is moved to the device and trained in place.
    schedule : Process
        A `VarianceSchedule` or a `diffmath.heat.HeatProcess` if a directory is given.
    images : Tensor or array, shape (N, ...), floating
        The training set; pixels of images lie in [-1, 1].
    n_steps, batch_size : int
        Optimiser steps in all, those before a resumption included, and images in each.
    learning_rate, betas : float, (float, float)
        The settings of Adam; the defaults are the paper's.
    warm_up, decay : int, float
        Steps in which the learning rate rises linearly, as a trained network needs it; share of the steps, the last
        ones, in which it falls linearly to 0.
    average_decay : float or sequence of float
        The decay d of the moving average, in [0, 1); after k steps it is :math:`\min(d, (1 + k) / (10 + k))`. Several
        averages are kept side by side.
    held_out : Tensor or array, shape (N, ...), floating, optional
        Images that are not trained on. After each epoch, and at the end, ``held_out.csv`` gets the loss of each average
        at each noise level, for fixed noise and times; the average that is returned has the least geometric mean of
        them at the end. Defaults to none, and the first average.
    loss : callable
        ``loss(model, process, x_0, eps, t)`` returns the losses of the images, of shape (B,); see `squared_error`.
    seed : int
        Seeds the order of the images, the times and the noise; a network trained before needs a new one.
    started_from : mapping, optional
        The record of the training before, a `Checkpoint`'s ``metadata``, if the weights were trained.
    device, autocast, compile : str or torch.device, bool, bool
        Where to train (the best device by default), whether in bfloat16 where that is quick, whether to compile. A
        compiled network's first gradients are compared with those of the network itself.
    directory : path, optional
        Where to write ``checkpoint.safetensors``, ``log.csv``, and at the end ``model.safetensors``, the averaged
        weights in half precision; nothing is written without it.
    resume, change_settings : bool
        Whether to resume from the directory's checkpoint, if it has one, and whether the learning rate and the like may
        differ then. Other settings must be the same; on a CPU the result is bit for bit that of uninterrupted training.
    checkpoint_minutes, sample_minutes : float
        Minutes between checkpoints, and between sheets of 16 samples (none by default).
    tensorboard, log_every, progress : bool, int, bool
        Whether to log for TensorBoard too, steps between entries of the log, whether to show a progress bar.
    callback : callable, optional
        Called after each step with its number and mean loss; training ends if it returns True.
    metadata : mapping, optional
        Further entries for the record in the checkpoints, such as a description of the data.

    Raises
    ------
    TrainingDivergedError
        If the loss or a weight is NaN or infinite; the last checkpoint is kept.
    FileExistsError
        If the directory holds files of a run that is not resumed, or another process trains there.
    RuntimeError
        If compiling changes the gradients of the first step by more than rounding; it names the weights.
    KeyboardInterrupt
        After Ctrl-C, SIGTERM or SIGHUP, with the state saved; a second Ctrl-C raises it at once.

    Examples
    --------
    >>> from diffmath import toy
    >>> from diffmath.ddpm import MLP
    >>> from diffmath.schedule import VarianceSchedule
    >>> result = train(MLP(), VarianceSchedule.cosine(50), toy.moons(1000, rng=0), 200, log_every=100, progress=False)
    >>> result.losses[1][1] < result.losses[0][1] < 1
    True
    """
    n_steps = require_count("n_steps", n_steps)
    require_process(schedule, Process)
    if directory is not None:
        require_stored(schedule)
    images = as_images(images, model)
    for name, record in (("metadata", metadata), ("started_from", started_from)):
        require_instance(name, {} if record is None else record, Mapping)
        to_json(record or {})  # refused now rather than when it is to be saved
    others = None if held_out is None else as_images(held_out, model, "held_out")
    if others is not None and (len(others) < 100 or others.shape[1:] != images.shape[1:]):
        raise ValueError(
            f"held_out must be 100 images or more of the shape {tuple(images.shape[1:])}, as those to train on; its "
            f"shape is {tuple(others.shape)}"
        )
    checkpoint_minutes = minutes_of("checkpoint_minutes", checkpoint_minutes)
    settings = settings_of(
        model,
        schedule,
        images,
        n_steps,
        loss,
        started_from,
        batch_size=batch_size,
        learning_rate=learning_rate,
        betas=betas,
        average_decay=average_decay,
        seed=seed,
        log_every=log_every,
        warm_up=warm_up,
        decay=decay,
    )
    if sample_minutes is not None:
        sample_minutes = minutes_of("sample_minutes", sample_minutes)
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"sheets of samples need images (N, 1 or 3, H, W); their shape is {tuple(images.shape)}")
    if directory is None and (resume or tensorboard or sample_minutes is not None):
        raise ValueError("resume, tensorboard and sample_minutes need a directory; none was given")
    if callback is not None:
        require_callable("callback", callback, "callback(step, loss)")
    if change_settings and not resume:
        raise ValueError("change_settings is for resuming a run; resume is False")
    path = None if directory is None else as_path(directory, "directory") / CHECKPOINT
    if path is not None:
        stored_weights(model)
    processes, device = Processes(), choose_device(device)
    if path is not None:
        processes.by_first(lambda: _require_outputs(path, others is not None, tensorboard))
    if settings["batch_size"] % processes.size:
        raise ValueError(f"batch_size must be a multiple of the {processes.size} processes; it is {batch_size}")

    dtype = autocast_dtype(device) if autocast else None
    model.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=settings["learning_rate"],
        betas=settings["betas"],
        fused=device.type in ("cpu", "cuda") or None,
    )
    origin: dict[str, Any] = provenance(device) | {
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "compiled": compile,
        "processes": processes.size,
        "warm_up_seconds": None,
    }
    averages = [copy.deepcopy(model) for _ in decays_of(settings)]
    state = State(
        model, averages, optimizer, schedule, settings, dict(metadata or {}), origin, processes, path, started_from
    )
    with ExitStack() as stack:
        if path is not None:
            processes.by_first(lambda: stack.enter_context(held(path.parent)))
        log = None if path is None else _opened(path, state, n_steps, resume, change_settings, tensorboard)
        network: Predictor = DistributedDataParallel(model) if processes.size > 1 else model
        batches = Batches(images.to(device), schedule, settings["batch_size"], settings["seed"], processes)
        process = OnDevice.of(schedule, batches.images)
        model.train()
        bar = tqdm(
            total=n_steps * settings["batch_size"],
            initial=state.step * settings["batch_size"],
            unit=" images",
            unit_scale=True,
            smoothing=0.05,
            disable=not progress or not processes.first,
            desc="training",
        )
        stack.enter_context(bar)
        interrupted = stack.enter_context(deferred_interrupts(path is not None, impatient=processes.size == 1))
        clock = Clock(state, device)
        predict = predictor(network, schedule, device, dtype)
        if compile and state.step < n_steps:
            eager, predict = predict, predictor(torch.compile(network), schedule, device, dtype)
            first = batches(state.step)
            plain, compiled = (gradients(loss, each, model, process, first) for each in (eager, predict))
            require_equal_gradients(plain, compiled, dtype)
        hooks: list[Hook] = [
            clock,
            Logging(state, clock, log, settings["log_every"], len(images)),
            Progress(bar, state),
        ]
        if others is not None:
            epoch, table = max(1, round(len(images) / settings["batch_size"])), path and path.with_name(HeldOut.NAME)
            predicting = partial(predictor, process=schedule, device=device, dtype=dtype)
            hooks.append(HeldOut(state, clock, others, loss, process, predicting, epoch, n_steps, table))
        if path is not None:
            checkpoints = Checkpoints(state, clock, log, checkpoint_minutes, interrupted)
            hooks.append(checkpoints)
            if sample_minutes is not None:
                hooks.append(Sheets(state, checkpoints, log, sample_minutes, images.shape[1:]))
        if callback is not None:
            hooks.append(Callback(state, callback))
        minimise(loss, predict, process, batches, state, n_steps, hooks)
        record, average = state.record(), averages[state.best].eval()
        if path is not None and processes.first:
            save_checkpoint(path.with_name(WEIGHTS), average, schedule, record, dtype=_half_precision(average))
        processes.wait()  # until the files are there
    return TrainingResult(average, state.losses, record)


def steps_done(directory: str | PathLike[str]) -> int:
    """The steps of the run in a directory, 0 if it has no checkpoint.

    Examples
    --------
    >>> steps_done("a directory without a checkpoint")
    0
    """
    path = as_path(directory, "directory") / CHECKPOINT
    if not path.exists():
        return 0
    return int(read_tensors(path)[1]["metadata"].get("steps", 0))


def _require_outputs(path: Path, held_out: bool, tensorboard: bool) -> None:
    """OSError unless all files of a run can be written, the last of which are written at its end."""
    directory = path.parent
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"{directory} must be a directory; it is a file")
    for name in (CHECKPOINT, WEIGHTS, Log.NAME, *[HeldOut.NAME] * held_out):
        require_writable(path.with_name(name))
    if tensorboard and (events := path.with_name(Log.EVENTS)).exists() and not events.is_dir():
        raise NotADirectoryError(f"{events} must be a directory, for TensorBoard's events; it is a file")


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
        sheets = (left.name[1:].rpartition(".")[0] for left in path.parent.glob(f".{Log.SHEETS}"))
        for name in (CHECKPOINT, WEIGHTS, Log.NAME, *sheets):
            sweep(path.with_name(name))
        return Log(path.parent, state.levels.names, state.step, state.losses, tensorboard, go_on=resume)

    return processes.by_first(begin)


def _half_precision(model: nn.Module) -> torch.dtype | None:
    """float16 for the weights that are shared, unless some of them do not survive it."""
    try:
        stored_weights(model, torch.float16)
    except ValueError:
        return None
    return torch.float16
