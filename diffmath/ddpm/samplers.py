r"""Ways back from noise to an image: one function for each sampler of `diffmath.ddpm.sample`.

Each is a generator of (x, walk), with x a Tensor of shape (N, ...), the state at the first of the times of a `Walk`. It
walks down those times, changes x in place by float64 coefficients, and yields the time, an int, and x after every step.

They are written in the pair :math:`(\alpha_{t|s}, v_{t|s})` of a `diffmath.process.ForwardProcess`, numbers or arrays
over modes, and without differences of nearly equal numbers, so that they hold for any jump from t to s. A new sampler
is a function here, and a `Sampler` in the list below the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffmath.heat import HeatProcess
from diffmath.process import ForwardProcess, Process

__all__ = ["SAMPLERS", "Sampler", "Walk", "ancestral", "ddim", "dpmsolver", "heat", "heun", "samplers_of"]


class Walk(NamedTuple):
    """What a sampler walks by.

    Attributes
    ----------
    process : Process
    times : sequence of int
        The times of the walk, from the noise down to 0.
    predict : callable
        ``predict(x, t, out)`` writes the model's prediction, of the noise in most, into ``out``.
    noise : callable
        ``noise()`` returns fresh standard Gaussian noise of x's shape, valid until it is called again.
    eta : float
        The noise of `ddim`, from 0 to 1, or of `heat`.
    """

    process: Any
    times: Sequence[int]
    predict: Callable[[Tensor, int, Tensor], None]
    noise: Callable[[], Tensor]
    eta: float = 0.0


Steps = Iterator[tuple[int, Tensor]]
Coefficient = Any
"""A float, or a float64 array over the last axes of x."""


def ancestral(x: Tensor, walk: Walk) -> Steps:
    r"""Algorithm 2: eq. (19), for any jumps; the last adds no noise.

    Examples
    --------
    >>> from diffmath.ddpm import gaussian_denoiser, sample
    >>> from diffmath.schedule import VarianceSchedule
    >>> schedule = VarianceSchedule.linear(500)
    >>> x = sample(gaussian_denoiser(schedule, 2.0, 0.0), schedule, torch.zeros(1, 1), generator=0)
    >>> round(x.item(), 2)
    2.0
    """
    eps = torch.empty_like(x)
    for t, s in pairwise(walk.times):
        a, b, c = walk.process.backward_coefficients(t, s)
        walk.predict(x, t, eps)
        _update(x, a, (b, eps))
        if s > 0:
            _update(x, 1.0, (c, walk.noise()))
        yield s, x


def ddim(x: Tensor, walk: Walk) -> Steps:
    r"""Denoising diffusion implicit models (Song, Meng & Ermon 2021, eq. (12)).

    .. math:: x_s = \sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{v_s - \sigma^2}\, \epsilon + \sigma z, \qquad
              \sigma^2 = \eta^2 \times (15)

    Deterministic at eta = 0, an Euler step of the probability-flow ODE; at eta = 1 it is eq. (19).

    Examples
    --------
    >>> from diffmath.ddpm import gaussian_denoiser, sample
    >>> from diffmath.schedule import VarianceSchedule
    >>> schedule = VarianceSchedule.linear(500)
    >>> x = sample(gaussian_denoiser(schedule, 2.0, 0.0), schedule, torch.zeros(1, 1), n_steps=20, method="ddim")
    >>> round(x.item(), 2)
    2.0
    """
    eps = torch.empty_like(x)
    for t, s in pairwise(walk.times):
        a, b, c = _ddim(walk.process, t, s, walk.eta)
        walk.predict(x, t, eps)
        _update(x, a, (b, eps))
        if np.any(c > 0):
            _update(x, 1.0, (c, walk.noise()))
        yield s, x


def heun(x: Tensor, walk: Walk) -> Steps:
    r"""Heun's second-order method for the probability-flow ODE (Karras et al. 2022), two evaluations a step.

    In :math:`\bar x = x / \sqrt{\bar\alpha}` and :math:`\sigma = \sqrt{v / \bar\alpha}` the ODE is
    :math:`d \bar x / d \sigma = \epsilon(x, t)`. The step to 0, where there is no noise to predict, is Euler's.

    Examples
    --------
    >>> from diffmath.ddpm import gaussian_denoiser, sample
    >>> from diffmath.schedule import VarianceSchedule
    >>> schedule = VarianceSchedule.linear(500)
    >>> x = sample(gaussian_denoiser(schedule, 2.0, 0.0), schedule, torch.zeros(1, 1), n_steps=20, method="heun")
    >>> round(x.item(), 2)
    2.0
    """
    first, second = torch.empty_like(x), torch.empty_like(x)
    for t, s in pairwise(walk.times):
        a, b, _ = _ddim(walk.process, t, s)
        walk.predict(x, t, first)
        _update(x, a, (b, first))
        if s > 0:
            walk.predict(x, s, second)
            _update(x, 1.0, (b / 2, second.sub_(first)))
        yield s, x


def dpmsolver(x: Tensor, walk: Walk) -> Steps:
    r"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one evaluation a step.

    With :math:`\lambda = \log \sqrt{\bar\alpha / v}` and h the step in it,

    .. math:: x_s = \sqrt{\frac{v_s}{v_t}}\, x_t
              - \sqrt{\bar\alpha_s} (e^{-h} - 1) \Bigl( \hat x_0
              + \frac{h}{2 h_{\mathrm{before}}} (\hat x_0 - \hat x_{0, \mathrm{before}}) \Bigr) .

    The first step and the step to 0, where lambda is infinite, are of first order.

    Examples
    --------
    >>> from diffmath.ddpm import gaussian_denoiser, sample
    >>> from diffmath.schedule import VarianceSchedule
    >>> schedule = VarianceSchedule.linear(500)
    >>> x = sample(gaussian_denoiser(schedule, 2.0, 0.0), schedule, torch.zeros(1, 1), method="dpmsolver++2m")
    >>> round(x.item(), 2)
    2.0
    """
    image, before, h_before = torch.empty_like(x), torch.empty_like(x), math.inf
    for t, s in pairwise(walk.times):
        alpha, variance = walk.process.transition(t, s)
        alpha_bar_t, variance_t = walk.process.transition(t, 0)
        alpha_bar_s, variance_s = walk.process.transition(s, 0) if s > 0 else (1.0, 0.0)
        ratio = np.sqrt(variance_s / variance_t)
        walk.predict(x, t, image)
        _update(image, -np.sqrt(variance_t / alpha_bar_t), (1 / np.sqrt(alpha_bar_t), x))
        # sqrt(alpha_bar_s) (1 - e^-h), whose two terms may be nearly equal.
        gain = alpha_bar_s * variance / (variance_t * (np.sqrt(alpha_bar_s) + np.sqrt(alpha_bar_t) * ratio))
        slope: Coefficient = 0.0
        if s > 0:
            h = 0.5 * (_log(variance_t / variance_s) - _log(alpha))
            slope, h_before = h / (2 * h_before), h  # 0 in the first step
        _update(x, ratio, (gain * (1 + slope), image))
        if np.any(slope > 0):
            _update(x, 1.0, (-gain * slope, before))
        image, before = before, image
        yield s, x


def heat(x: Tensor, walk: Walk) -> Steps:
    """The walk back of a `diffmath.heat.HeatProcess`, whose models predict the flow and its increment.

    Examples
    --------
    One image's own flow leads back to it:

    >>> from diffmath.ddpm import sample
    >>> from diffmath.heat import HeatProcess
    >>> x_0, process = torch.rand(1, 1, 8, 8, generator=torch.manual_seed(0)), HeatProcess((8, 8))
    >>> def known(x, t):
    ...     u = process.flow(x_0, t)
    ...     return torch.cat([u, process.flow(x_0, t - 1) - u], dim=1)
    >>> x_T = process.add_noise(x_0, torch.zeros_like(x_0), process.n_steps)
    >>> torch.allclose(sample(known, process, x_T, generator=0), x_0, atol=1e-4)
    True
    """
    prediction = x.new_empty(walk.process.prediction_shape(x.shape))
    image, u, increment = x[:, :1], prediction[:, :1], prediction[:, 1:]
    for t, s in pairwise(walk.times):
        walk.predict(x, t, prediction)
        image.copy_(walk.process.backward_step(image, u, increment, walk.noise()[:, :1], t, s, walk.eta))
        yield s, x


class Sampler(NamedTuple):
    """A way back from noise, as `diffmath.ddpm.sample` needs to know it.

    Attributes
    ----------
    name : str
        What ``method`` calls it.
    function : callable
        ``function(x, walk)`` yields (time, x) after each step.
    evaluations : callable
        How often n steps evaluate the model.
    most_eta : float
        The largest share of fresh noise that can be chosen; 0 if there is no choice.
    predicts_image : bool
        Whether it divides by sqrt(alpha_bar_t) to get an image, and not only by sqrt(alpha_t|s).
    """

    name: str
    function: Callable[[Tensor, Walk], Steps]
    evaluations: Callable[[int], int] = lambda n: n
    most_eta: float = 0.0
    predicts_image: bool = False


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("ancestral", ancestral),
        Sampler("ddim", ddim, most_eta=1.0),
        Sampler("heun", heun, evaluations=lambda n: 2 * n - 1),
        Sampler("dpmsolver++2m", dpmsolver, predicts_image=True),
    )
}
"""The samplers of a `diffmath.process.ForwardProcess` by name; add a record here, and `diffmath.ddpm.sample` knows it.

:meta hide-value:
"""
HEAT = {"heat": Sampler("heat", heat, most_eta=math.inf)}


def samplers_of(process: Process) -> dict[str, Sampler]:
    """The samplers that walk back a process, the first the default.

    Examples
    --------
    >>> from diffmath.heat import HeatProcess
    >>> list(samplers_of(HeatProcess((8, 8))))
    ['heat']
    """
    return HEAT if isinstance(process, HeatProcess) else SAMPLERS


def _ddim(process: ForwardProcess, t: int, s: int, eta: float = 0.0) -> tuple[Coefficient, Coefficient, Coefficient]:
    r"""The coefficients of x, of the noise predicted and of fresh noise, in a step of `ddim`."""
    alpha, variance = process.transition(t, s)
    variance_t = process.transition(t, 0)[1]
    variance_s = process.transition(s, 0)[1] if s > 0 else 0.0
    sigma_2 = eta**2 * variance * (variance_s / variance_t)
    # v_s - sigma^2, and the root of it less sqrt(v_t / alpha), without cancellation.
    rest = (variance_s / variance_t) * ((1 - eta**2) * variance + alpha * variance_s)
    b = -(sigma_2 + variance / alpha) / (np.sqrt(rest) + np.sqrt(variance_t / alpha))
    return 1 / np.sqrt(alpha), b, np.sqrt(sigma_2)


def _update(x: Tensor, a: Coefficient, *terms: tuple[Coefficient, Tensor]) -> None:
    """Set x to a x + b y + ..., in place."""
    if np.ndim(a):
        x.mul_(torch.as_tensor(a).to(x))
    elif a != 1.0:
        x.mul_(float(a))
    for b, y in terms:
        if np.ndim(b):
            x.addcmul_(torch.as_tensor(b).to(x), y)
        else:
            x.add_(y, alpha=float(b))


def _log(value: Coefficient) -> Coefficient:
    return np.log(value) if np.ndim(value) else math.log(value)
