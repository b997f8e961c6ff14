r"""Ways back from noise to an image: one function for each sampler of `diffmath.ddpm.sample`.

Each is a generator of (x, walk), with x a Tensor of shape (N, ...), the state at the first of the times of a `Walk`. It
walks down those times, changes x in place by float64 coefficients, and yields the time, an int, and x after every step.
All but "heun" ask the model once a step.

Written in :math:`\alpha_{t|s}` and :math:`1 - \alpha_{t|s}`, the pair that `VarianceSchedule.transition` gives without
cancellation, and without differences of nearly equal numbers, so that they hold for any jump from t to s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffmath.schedule import VarianceSchedule

__all__ = ["SAMPLERS", "Walk", "ancestral", "ddim", "dpmsolver", "heun"]


class Walk(NamedTuple):
    """What a sampler walks by.

    Attributes
    ----------
    schedule : VarianceSchedule
    times : sequence of int
        From the noise down to 0.
    predict : callable
        ``predict(x, t, out)`` writes the model's prediction of the noise into ``out``.
    noise : callable
        ``noise()`` returns fresh standard Gaussian noise of x's shape, valid until it is called again.
    eta : float
        Of `ddim`.
    """

    schedule: VarianceSchedule
    times: Sequence[int]
    predict: Callable[[Tensor, int, Tensor], None]
    noise: Callable[[], Tensor]
    eta: float = 0.0


Steps = Iterator[tuple[int, Tensor]]


def ancestral(x: Tensor, walk: Walk) -> Steps:
    r"""Algorithm 2: eq. (19), for any jumps; the last adds no noise."""
    eps = torch.empty_like(x)
    for t, s in pairwise(walk.times):
        a, b, c = walk.schedule.backward_coefficients(t, s)
        walk.predict(x, t, eps)
        x.mul_(a).add_(eps, alpha=b)
        if s > 0:
            x.add_(walk.noise(), alpha=c)
        yield s, x


def ddim(x: Tensor, walk: Walk) -> Steps:
    r"""Denoising diffusion implicit models (Song, Meng & Ermon 2021, eq. (12)).

    .. math:: x_s = \sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\, \epsilon + \sigma z, \qquad
              \sigma^2 = \eta^2 \times (15)

    Deterministic at eta = 0, an Euler step of the probability-flow ODE; at eta = 1 it is eq. (19).
    """
    eps = torch.empty_like(x)
    for t, s in pairwise(walk.times):
        a, b, c = _ddim(walk.schedule, t, s, walk.eta)
        walk.predict(x, t, eps)
        x.mul_(a).add_(eps, alpha=b)
        if c > 0:
            x.add_(walk.noise(), alpha=c)
        yield s, x


def heun(x: Tensor, walk: Walk) -> Steps:
    r"""Heun's second-order method for the probability-flow ODE (Karras et al. 2022), two evaluations a step.

    In :math:`\bar x = x / \sqrt{\bar\alpha}` and :math:`\sigma = \sqrt{(1 - \bar\alpha) / \bar\alpha}` the ODE is
    :math:`d \bar x / d \sigma = \epsilon(x, t)`. The step to 0, where there is no noise to predict, is Euler's.
    """
    first, second = torch.empty_like(x), torch.empty_like(x)
    for t, s in pairwise(walk.times):
        a, b, _ = _ddim(walk.schedule, t, s)
        walk.predict(x, t, first)
        x.mul_(a).add_(first, alpha=b)
        if s > 0:
            walk.predict(x, s, second)
            x.add_(second.sub_(first), alpha=b / 2)
        yield s, x


def dpmsolver(x: Tensor, walk: Walk) -> Steps:
    r"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one evaluation a step.

    With :math:`\lambda = \log \sqrt{\bar\alpha / (1 - \bar\alpha)}` and h the step in it,

    .. math:: x_s = \frac{\sqrt{1 - \bar\alpha_s}}{\sqrt{1 - \bar\alpha_t}} x_t
              - \sqrt{\bar\alpha_s} (e^{-h} - 1) \Bigl( \hat x_0
              + \frac{h}{2 h_{\mathrm{before}}} (\hat x_0 - \hat x_{0, \mathrm{before}}) \Bigr) .

    The first step and the step to 0, where lambda is infinite, are of first order.
    """
    image, before, h_before = torch.empty_like(x), torch.empty_like(x), math.inf
    for t, s in pairwise(walk.times):
        alpha, variance = walk.schedule.transition(t, s)
        alpha_bar_t, variance_t = walk.schedule.transition(t, 0)
        alpha_bar_s, variance_s = walk.schedule.transition(s, 0) if s > 0 else (1.0, 0.0)
        ratio = math.sqrt(variance_s / variance_t)
        walk.predict(x, t, image)
        image.mul_(-math.sqrt(variance_t / alpha_bar_t)).add_(x, alpha=1 / math.sqrt(alpha_bar_t))
        # sqrt(alpha_bar_s) (1 - e^-h), whose two terms may be nearly equal.
        gain = alpha_bar_s * variance / (variance_t * (math.sqrt(alpha_bar_s) + math.sqrt(alpha_bar_t) * ratio))
        slope = 0.0
        if s > 0:
            h = 0.5 * (math.log(variance_t / variance_s) - math.log(alpha))
            slope, h_before = h / (2 * h_before), h  # 0 in the first step
        x.mul_(ratio).add_(image, alpha=gain * (1 + slope))
        if slope > 0:
            x.add_(before, alpha=-gain * slope)
        image, before = before, image
        yield s, x


SAMPLERS: dict[str, Callable[[Tensor, Walk], Steps]] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "heun": heun,
    "dpmsolver++2m": dpmsolver,
}


def _ddim(schedule: VarianceSchedule, t: int, s: int, eta: float = 0.0) -> tuple[float, float, float]:
    r"""The coefficients of x, of the noise predicted and of fresh noise, in a step of `ddim`."""
    alpha, variance = schedule.transition(t, s)
    variance_t = schedule.transition(t, 0)[1]
    variance_s = schedule.transition(s, 0)[1] if s > 0 else 0.0
    sigma_2 = eta**2 * variance * (variance_s / variance_t)
    # 1 - alpha_bar_s - sigma^2 and sqrt of it less sqrt((1 - alpha_bar_t) / alpha), without cancellation.
    rest = (variance_s / variance_t) * ((1 - eta**2) * variance + alpha * variance_s)
    b = -(sigma_2 + variance / alpha) / (math.sqrt(rest) + math.sqrt(variance_t / alpha))
    return 1 / math.sqrt(alpha), b, math.sqrt(sigma_2)
