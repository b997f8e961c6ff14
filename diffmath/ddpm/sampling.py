"""Algorithm 2: sampling from the model, from pure noise to images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from diffmath._arguments import require_count, require_counts, require_number
from diffmath.ddpm._arguments import (
    Seed,
    as_floating,
    as_generator,
    check_prediction,
    require_model,
    require_process,
    require_trained_size,
)
from diffmath.ddpm._environment import autocast_dtype, choose_device
from diffmath.ddpm._processes import Processes
from diffmath.ddpm.guidance import Guided
from diffmath.ddpm.samplers import Sampler, Walk, samplers_of
from diffmath.process import ForwardProcess, Process, spread

__all__ = ["sample"]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A noise predictor: (x_t of shape (B, ...), t of shape (B,)) -> the predicted noise, of x_t's shape."""

DEFAULT_SHAPE = (1, 32, 32)
NUMBERS = 2**19  # of points of few dimensions go through the model at once


@overload
def sample(
    model: Denoiser,
    schedule: Process,
    x_T: Tensor | None = ...,
    n_samples: int = ...,
    n_steps: int | None = ...,
    method: str | None = ...,
    generator: Seed | None = ...,
    trajectory: None = ...,
    *,
    times: Sequence[int] | None = ...,
    eta: float = ...,
    batch_size: int | None = ...,
    device: str | torch.device | None = ...,
    autocast: bool = ...,
    compile: bool = ...,
    distributed: bool = ...,
    progress: bool = ...,
) -> Tensor: ...


@overload
def sample(
    model: Denoiser,
    schedule: Process,
    x_T: Tensor | None = ...,
    n_samples: int = ...,
    n_steps: int | None = ...,
    method: str | None = ...,
    generator: Seed | None = ...,
    *,
    trajectory: Sequence[int],
    times: Sequence[int] | None = ...,
    eta: float = ...,
    batch_size: int | None = ...,
    device: str | torch.device | None = ...,
    autocast: bool = ...,
    compile: bool = ...,
    distributed: bool = ...,
    progress: bool = ...,
) -> tuple[Tensor, Tensor]: ...


@torch.no_grad()
def sample(
    model: Denoiser,
    schedule: Process,
    x_T: Tensor | None = None,
    n_samples: int = 9,
    n_steps: int | None = None,
    method: str | None = None,
    generator: Seed | None = None,
    trajectory: Sequence[int] | None = None,
    *,
    times: Sequence[int] | None = None,
    eta: float = 0.0,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    autocast: bool = False,
    compile: bool = False,
    distributed: bool = False,
    progress: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Algorithm 2: from :math:`x_T \sim N(0, I)` backwards by eq. (19), to images; or another way back.

    With fewer than T steps the times are ``schedule.subsequence(n_steps)``, and each step of Algorithm 2 is eq. (19)
    for that jump, with :math:`\alpha_t` replaced by :math:`\bar\alpha_t / \bar\alpha_s`. Its last step adds no noise.

    Parameters
    ----------
    model : callable
        The noise predictor: ``model(x, t)`` with x of shape (B, ...) and t the times, int64 of shape (B,), returns
        the predicted noise in x's shape. A torch module gets x in the dtype of its parameters. Both are overwritten
        for the next call. `guided` pushes a network's predictions away from a weaker model's.
    schedule : Process
        A `VarianceSchedule`, or another process; the modes of one that has any are the last axes of x.
    x_T : Tensor, shape (N, ...), floating, optional
        The noise to start from, of the model's ``image_shape`` if it has one, else of any shape. It is not changed.
        Defaults to standard Gaussian noise, float32, of that shape, or of 1 x 32 x 32.
    n_samples : int
        N, where ``x_T`` is not given.
    n_steps : int, optional
        Steps, 1..T. Defaults to all T of Algorithm 2.
    method : {"ancestral", "ddim", "heun", "dpmsolver++2m", "heat"}, optional
        The sampler's name in `diffmath.ddpm.samplers.SAMPLERS`: "ancestral", the default, is Algorithm 2; "heat" walks
        back a `diffmath.heat.HeatProcess`, and nothing else does; the others are
        deterministic (but for "ddim" with ``eta > 0``) and solve the probability-flow ODE, to order 1, 2 and 2 away
        from t = 0, where with linear betas the last step leaves an error of first order. "heun" evaluates the model
        2 n - 1 times in n steps, the others n times.
    generator : torch.Generator or int, optional
        The source of all noise, or the seed of a new one on the compute device; it draws the noise of all N samples at
        once, on its own device, so that neither the batch size nor the model's device changes it. Defaults to a new,
        randomly seeded generator on the compute device.
    trajectory : sequence of int, optional
        Times, among those of the steps (T and 0 included), at which to return the states too.
    times : sequence of int, optional
        The times to step through, in place of ``n_steps``: any in 1..T, of which the largest is that of x_T, and is
        T unless x_T is given; the walk ends at 0, given or not.
    eta : float
        The share of Algorithm 2's noise that "ddim" adds, in standard deviations, from 0 to 1. For "heat" it is the
        rate at which noise is renewed, in units of the heat equation's, from 0 to infinity.
    batch_size : int, optional
        The most samples that the model sees at once; it limits memory. Defaults to 100 images, or as many vectors as
        have half a million numbers.
    device : str or torch.device, optional
        Where to compute. Defaults to the device of the model's parameters, else x_T's.
    autocast : bool
        Whether to run the network in bfloat16 where the device is good at it: quicker, and each prediction is off by
        some parts in a thousand. The update stays in x's precision.
    compile : bool
        Whether to compile the network, and on a GPU to replay it as one captured graph: minutes of warm-up.
    distributed : bool
        Whether to share the samples out among the processes of `torch.distributed`, if it is initialised: each must
        call with the same arguments, the generator in the same state, and gets all of the images.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    images : Tensor, shape (N, ...)
        The samples, in the dtype of ``x_T``. Pixels nominally lie in [-1, 1], and are not clipped.
    states : Tensor, shape (len(trajectory), N, ...)
        The states at the times of ``trajectory``, in its order; returned only with it.

    Raises
    ------
    ValueError
        If the schedule leaves less of the image than x's precision can show (sqrt(alpha_t|s) of a step below 100 units
        in the last place of 1), or the model returns another shape, NaN or infinity.

    Examples
    --------
    >>> from diffmath.ddpm import gaussian_denoiser
    >>> from diffmath.schedule import VarianceSchedule
    >>> schedule = VarianceSchedule.linear(500)
    >>> x = sample(gaussian_denoiser(schedule, mean=2.0, variance=0.01), schedule, torch.zeros(1000, 1), generator=0)
    >>> round(x.mean().item(), 1), round(x.std().item(), 1)
    (2.0, 0.1)
    """
    require_model(model)
    require_process(schedule, Process)
    samplers = samplers_of(schedule)
    if (method := next(iter(samplers)) if method is None else method) not in list(samplers):
        raise ValueError(f"method must be one of {', '.join(map(repr, samplers))}; it is {method!r}")
    sampler, eta = samplers[method], require_number("eta", eta)
    if not 0 <= eta <= sampler.most_eta:
        takers = ", ".join(repr(s.name) for s in samplers.values() if s.most_eta)
        most = max(s.most_eta for s in samplers.values())
        raise ValueError(f"eta must lie in [0, {most:g}], and be 0 but for {takers}; it is {eta} for {method!r}")
    n_samples = require_count("n_samples", n_samples)
    size = None if batch_size is None else require_count("batch_size", batch_size)
    path = _path(schedule, n_steps, times)
    if x_T is None and path[0] < schedule.n_steps:
        raise ValueError(
            f"N(0, I) is the law of x_T at T = {schedule.n_steps}, and the times start at {path[0]}: give x_T, as "
            f"matched_start(..., t={path[0]}) draws it, or start at T"
        )
    wanted = [] if trajectory is None else require_counts("trajectory", trajectory, 0)
    if unknown := [t for t in wanted if t not in path]:
        nearest = [path[int(np.abs(np.subtract(path, t)).argmin())] for t in unknown]
        raise ValueError(f"trajectory must lie on the sampler's times; {unknown} do not, {nearest} are the nearest")

    if x_T is not None:
        x_T = as_floating(x_T, "x_T")
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if device is None:
        device = weight.device if weight is not None else x_T.device if x_T is not None else "cpu"
    device = choose_device(device)
    processes = Processes(distributed)
    generator = _fresh_generator(processes, device) if generator is None else as_generator(generator, device)
    image_shape = getattr(model, "image_shape", None)
    if x_T is None:
        x_T = _start(schedule, n_samples, image_shape or schedule.modes or DEFAULT_SHAPE, generator)
    require_trained_size("x_T", x_T, model)
    x, dtype = x_T.to(device, torch.promote_types(x_T.dtype, torch.float32)), x_T.dtype
    spread(np.empty(schedule.modes), 0, tuple(x.shape[1:]))
    if isinstance(schedule, ForwardProcess):
        _require_digits(schedule, path, sampler, x.dtype)
    size = size or (100 if x.ndim > 2 else max(100, NUMBERS // x[0].numel()))
    network = _compiled(model, device) if compile else model
    precision = autocast_dtype(device) if autocast else None

    # Every process draws the noise of all samples and works on its own, so that their number changes no image.
    noise, own = torch.empty(x.shape, dtype=x.dtype, device=generator.device), processes.share(len(x))
    x = x[own].clone()

    def fresh_noise() -> Tensor:
        return torch.randn(noise.shape, generator=generator, out=noise)[own].to(x.device)

    # What the model is given, always in the same place; its own to change.
    most = min(size, len(x))
    fed = torch.empty((most, *x.shape[1:]), dtype=x.dtype if weight is None else weight.dtype, device=x.device)
    at = torch.empty(most, dtype=torch.int64, device=x.device)

    def predict(x: Tensor, t: int, out: Tensor) -> None:
        if len(x) == 0:  # more processes than samples
            return
        for part, result in zip(x.split(size), out.split(size), strict=True):
            eps = network(fed[: len(part)].copy_(part), at[: len(part)].fill_(t))
            result.copy_(check_prediction(eps, part, shape=result.shape, finite=t == path[0]))
            bar.update(len(part))

    states = {path[0]: x.clone()}
    evaluations = sampler.evaluations(len(path) - 1) * len(x)
    quiet = not progress or not processes.first
    with (
        torch.autocast(device.type, precision, enabled=precision is not None),  # around all steps: casts weights once
        tqdm(total=evaluations, unit=" evaluations", unit_scale=True, disable=quiet, desc="sampling") as bar,
    ):
        for s, state in sampler.function(x, Walk(schedule, path, predict, fresh_noise, eta)):
            if s in wanted:
                states[s] = state.clone()
        x = _gathered(x, noise.shape, own, processes)
        if not torch.isfinite(x).all():  # looked at once, so that no step waits for the device
            raise ValueError("the model's predictions led to NaN or infinity")
    images: Tensor = schedule.image(x).to(dtype)
    if trajectory is None:
        return images
    gathered = [_gathered(states[t], noise.shape, own, processes) for t in wanted]
    stacked = torch.stack(gathered) if gathered else x.new_empty((0, *x.shape))
    return images, stacked.to(dtype)


def _start(schedule: Process, n_samples: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The states at T to walk back from, those of the process or standard Gaussian noise of a shape."""
    if hasattr(schedule, "start"):
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        return torch.from_numpy(schedule.start(n_samples, np.random.default_rng(seed))).float()
    noise = torch.randn((n_samples, *shape), generator=generator, device=generator.device)
    return noise


def _path(schedule: Process, n_steps: int | None, times: Sequence[int] | None) -> list[int]:
    """The times of the walk, from the noise down to 0."""
    if times is None:
        return [int(t) for t in schedule.subsequence(n_steps)[::-1]]
    if n_steps is not None:
        raise ValueError("give n_steps or times, not both")
    path = sorted({*require_counts("times", times, 0, schedule.n_steps), 0}, reverse=True)
    if len(path) < 2:
        raise ValueError(f"times must be one at least in 1..{schedule.n_steps}; they are {list(times)}")
    return path


def _require_digits(schedule: ForwardProcess, path: list[int], sampler: Sampler, dtype: torch.dtype) -> None:
    """A step divides x, with its roundings, by sqrt(alpha_t|s), and by sqrt(alpha_bar_t) to get an image."""
    least, t = 100 * torch.finfo(dtype).eps, np.array(path[:-1])
    ends = [np.array(path[1:])] + [np.zeros_like(t)] * sampler.predicts_image
    for s in ends:
        root = schedule.transition(t, s)[0].reshape(len(t), -1).min(axis=1) ** 0.5
        worst = int(root.argmin())
        if root[worst] < least:
            raise ValueError(
                f"sqrt(alpha_t|s) must be at least {least:.2g} for x to keep digits in {dtype}; from t = {t[worst]} to "
                f"{s[worst]} it is {root[worst]:.3g}: take more steps, or a schedule that leaves more of the image"
            )


def _fresh_generator(processes: Processes, device: torch.device) -> torch.Generator:
    generator = torch.Generator(device)
    return generator.manual_seed(processes.largest(generator.seed() >> 1))  # one for all processes


def _compiled(model: Denoiser, device: torch.device) -> Denoiser:
    if isinstance(model, Guided):
        return model.around(_compiled(model.network, device))
    # On a GPU "reduce-overhead" captures the network as one graph.
    return torch.compile(model, mode="reduce-overhead" if device.type == "cuda" else None)


def _gathered(part: Tensor, shape: torch.Size, own: slice, processes: Processes) -> Tensor:
    """The samples of all processes from each one's own."""
    if processes.size == 1:
        return part
    whole = part.new_zeros(shape)
    whole[own] = part
    return processes.sum(whole)
