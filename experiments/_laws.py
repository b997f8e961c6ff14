"""Laws on the line by quadrature: those of Gaussian mixtures, and those that Algorithm 2 makes of their denoisers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from scipy.special import ndtr
from torch import Tensor

from diffmath.ddpm.denoisers import Denoiser, mixture_denoiser
from diffmath.schedule import VarianceSchedule

Floats = npt.NDArray[np.float64]
REACH = 9.0  # a normal density is below 1e-17 of its peak beyond so many standard deviations


def jumps(schedule: VarianceSchedule, n_steps: int | None) -> list[tuple[int, int]]:
    """The pairs (t, s) of times that Algorithm 2 goes through, from T to 0."""
    times = schedule.subsequence(n_steps)[::-1].tolist()
    return list(pairwise(times))


def mean_step(schedule: VarianceSchedule, denoise: Denoiser, x: Tensor, t: int, s: int) -> Tensor:
    """Eq. (18) with the denoiser's noise, as `sample` computes it; x of shape (B, ...)."""
    mean: Tensor = schedule.posterior_mean_from_noise(x, denoise(x, torch.full((len(x),), t)), t, s)
    return mean


@dataclass
class Law:
    """A law on the line: density and distribution function at increasing points x, with the weights to integrate."""

    x: Floats
    density: Floats
    distribution: Floats
    dx: Floats

    def moments(self) -> tuple[float, float]:
        """Mean and variance."""
        p = self.density * self.dx
        mean = float(p @ self.x)
        return mean, float(p @ (self.x - mean) ** 2)


def mixture_at(x: Floats, mixture: Any, alpha_bar: float = 1.0, log: bool = False) -> tuple[Floats, Floats]:
    """Density (or its logarithm) and distribution function of x_t, by eq. (9), for data from a mixture."""
    w, m, s = np.array(mixture).T
    sd = np.sqrt(alpha_bar * s**2 + 1 - alpha_bar)
    z = (x[:, None] - math.sqrt(alpha_bar) * m) / sd
    log_density = scipy.special.logsumexp(np.log(w / sd / math.sqrt(2 * math.pi)) - z**2 / 2, axis=1)
    return log_density if log else np.exp(log_density), ndtr(z) @ w


def denoiser_of(schedule: VarianceSchedule, mixture: Any) -> Denoiser:
    """The exact denoiser of a mixture on the line."""
    w, m, s = (torch.tensor(column, dtype=torch.float64) for column in zip(*mixture, strict=True))
    return mixture_denoiser(schedule, m[:, None], s**2, w)


def output_law(schedule: VarianceSchedule, n_steps: int | None, mixture: Any, refine: float) -> tuple[Law, float]:
    """The law of Algorithm 2's output, without sampling, and the largest |mass - 1| on the way.

    Each step but the last turns p into the integral of N(y; mu(x), sigma^2) p(x) dx, by the trapezoidal rule on a
    uniform grid; it converges exponentially, with an error of about exp(-2 pi^2 w^2) where the integrand is
    w = `refine` spacings wide. The last step has sigma = 0: the density p(x) / mu'(x) at y = mu(x), an increasing
    function (its derivative (18) is a variance, that of x_s given x_t, over 1 - alpha).
    """
    denoise = denoiser_of(schedule, mixture)
    *noisy, last = jumps(schedule, n_steps)
    sigmas = [math.sqrt(schedule.posterior_variance(t, r)) for t, r in noisy]
    dx = min([*sigmas, *(0.4 * s for _, _, s in mixture)]) / refine
    x = dx * np.arange(-math.ceil(REACH / dx), math.ceil(REACH / dx) + 1)
    p, worst = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi), 0.0
    distribution = ndtr(x)
    for (t, r), sigma in zip(noisy, sigmas, strict=True):
        centres = mean_step(schedule, denoise, torch.from_numpy(x)[:, None], t, r).numpy()[:, 0]
        assert (np.diff(centres) > 0).all()
        y = dx * np.arange(
            math.floor((centres[0] - REACH * sigma) / dx), math.ceil((centres[-1] + REACH * sigma) / dx) + 1
        )
        p, distribution = smooth(y, centres, p * dx, sigma, with_distribution=(t, r) == noisy[-1])
        worst = max(worst, abs(p.sum() * dx - 1))
        kept = p > 1e-20
        first, stop = int(kept.argmax()), len(p) - int(kept[::-1].argmax())
        x, p, distribution = y[first:stop], p[first:stop], distribution[first:stop]
    here = torch.from_numpy(x)[:, None].requires_grad_()
    there = mean_step(schedule, denoise, here, *last)
    (slope,) = torch.autograd.grad(there.sum(), here)
    gain = slope.numpy()[:, 0]
    return Law(there.detach().numpy()[:, 0], p / gain, distribution, gain * dx), worst


def smooth(
    y: Floats, centres: Floats, masses: Floats, sigma: float, with_distribution: bool, block: int = 128
) -> tuple[Floats, Floats]:
    """Density and, if wanted, distribution function at y of N(centre, sigma^2), the centres having masses."""
    density, distribution = np.empty_like(y), np.zeros_like(y)
    before = np.concatenate([[0.0], masses.cumsum()])
    for i in range(0, len(y), block):
        part = y[i : i + block]
        j, k = np.searchsorted(centres, [part[0] - REACH * sigma, part[-1] + REACH * sigma])
        z = (part[:, None] - centres[j:k]) / sigma
        if with_distribution:
            distribution[i : i + block] = before[j] + ndtr(z) @ masses[j:k]
        np.square(z, out=z)
        z *= -0.5
        density[i : i + block] = np.exp(z, out=z) @ masses[j:k] / (sigma * math.sqrt(2 * math.pi))
    return density, distribution


def distances(law: Law, mixture: Any) -> dict[str, float]:
    """Total variation, Wasserstein-1 (the integral of |P - Q|) and Kolmogorov's distance (the largest |P - Q|).

    The law has no mass beyond its points, the mixture may have: total variation is 1 less what the two have in common,
    and |P - Q| is integrated there in closed form.
    """
    q, Q = mixture_at(law.x, mixture)
    gap = np.abs(law.distribution - Q)
    w, m, s = np.transpose(mixture)
    below, above = ((side * (law.x[end] - m)) / s for side, end in ((1, 0), (-1, -1)))
    beyond = sum(float(w * s @ (z * ndtr(z) + scipy.stats.norm.pdf(z))) for z in (below, above))
    return {
        "total variation": float(1 - np.minimum(law.density, q) @ law.dx),
        "Wasserstein-1": float(np.trapezoid(gap, law.x)) + beyond,
        "Kolmogorov": float(gap.max()),
    }


def between_gaussians(p: Any, q: Any) -> float:
    """Total variation of two Gaussians: the difference of their masses between the points where they are level."""
    a, b = 1 / p.var(), 1 / q.var()
    roots = np.roots([a - b, 2 * (b * q.mean() - a * p.mean()), a * p.mean() ** 2 - b * q.mean() ** 2 - np.log(a / b)])
    low, high = sorted(roots)
    return float(abs((p.cdf(high) - p.cdf(low)) - (q.cdf(high) - q.cdf(low))))


def limit_law(schedule: VarianceSchedule, mixture: Any) -> Law:
    """What the exact backward process makes of x_T ~ N(0, 1): the integral of p(x_0 | x_T) over it."""
    y, x = np.linspace(-2.5, 2.5, 10_001), np.linspace(-REACH, REACH, 721)
    ab = float(schedule.alpha_bar[-1])
    log_q = mixture_at(x, mixture, ab, log=True)[0]
    density = np.empty_like(y)
    for i in range(0, len(y), 1000):
        part = y[i : i + 1000, None]
        log_kernel = -((x - math.sqrt(ab) * part) ** 2) / (2 * (1 - ab)) - 0.5 * math.log(1 - ab)
        density[i : i + 1000] = np.exp(-(x**2) / 2 + log_kernel - log_q - math.log(2 * math.pi)).sum(1)
    density *= (x[1] - x[0]) * mixture_at(y, mixture)[0]
    dy = y[1] - y[0]
    distribution = np.concatenate([[0.0], scipy.integrate.cumulative_trapezoid(density, dx=dy)])
    return Law(y, density, distribution, np.full_like(y, dy))
