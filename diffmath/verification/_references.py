"""Random examples for the checks, exact values by mpmath, and relative errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mpmath as mp
import numpy as np

from diffmath.pde import RenormalizedFlow
from diffmath.schedule import VarianceSchedule

GAUSSIAN, SCHEDULE = "diffmath.gaussian.Gaussian", "diffmath.schedule.VarianceSchedule"
EPS = float(np.finfo(np.float64).eps)
DIGITS = 50


def draw_schedule(rng: np.random.Generator, least: int = 1) -> VarianceSchedule:
    """Linear, cosine, equal and wild schedules, from tiny variances to ones near 1."""
    kind, n = rng.integers(4), int(rng.integers(least, 501))
    if kind == 0:
        low = 10.0 ** rng.uniform(-6, -2)
        return VarianceSchedule.linear(n, low, rng.uniform(low, 0.1))
    if kind == 1:
        return VarianceSchedule.cosine(n)
    if kind == 2:
        return VarianceSchedule([10.0 ** rng.uniform(-8, -0.5)] * min(n, 60))
    return VarianceSchedule(10.0 ** rng.uniform(-8, -0.05, max(least, min(n, 30))))


def draw_jump(rng: np.random.Generator, n_times: int = 2, first: int = 0) -> tuple[VarianceSchedule, list[int]]:
    """A schedule and increasing times, all at least ``first``."""
    schedule = draw_schedule(rng, n_times + first)
    times = first + rng.choice(schedule.n_steps + 1 - first, n_times, replace=False)
    return schedule, sorted(int(t) for t in times)


def describe(of: VarianceSchedule | RenormalizedFlow, **values: Any) -> str:
    """The size of a schedule or a flow, and further numbers of an example."""
    size = f"T = {of.n_steps}" if isinstance(of, VarianceSchedule) else f"{' x '.join(map(str, of.domain.shape))} cells"
    numbers = ", ".join(f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in values.items())
    return f"{size}, {numbers}"


def exact_alpha(schedule: VarianceSchedule, t: int, s: int) -> Any:
    """alpha_{t|s} in the working precision of mpmath, by the product (7)."""
    return mp.fprod(1 - mp.mpf(float(b)) for b in schedule.beta[s + 1 : t + 1])


def exact_alphas(schedule: VarianceSchedule, s: int, t: int) -> tuple[Any, Any, Any]:
    """alpha_{t|s}, alpha_bar_s and alpha_bar_t, as `exact_alpha` gives them."""
    return exact_alpha(schedule, t, s), exact_alpha(schedule, s, 0), exact_alpha(schedule, t, 0)


def relative_error(value: Any, exact: Any, scale: Any = 0) -> float:
    """|value - exact| / max(|exact|, scale)."""
    size = max(abs(exact), abs(scale))
    return float(abs(mp.mpf(float(value)) - exact) / size) if size else float(abs(mp.mpf(float(value))))


def error_of_sum(value: Any, terms: Sequence[Any]) -> float:
    """The error of a sum, relative to its largest term."""
    return relative_error(value, sum(terms), max(map(abs, terms)))


def worst_error(*errors: Any) -> float:
    """The largest error. A NaN counts as infinite, since `max` might pass over it."""
    return max(math.inf if error != error else float(error) for error in errors)


def draw_pair(rng: np.random.Generator) -> tuple[float, float]:
    """Two standard normal numbers."""
    x, y = rng.normal(size=2)
    return float(x), float(y)


def as_array(x: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """An image of one pixel."""
    return np.array([x])


def log_density_terms(x: Any, mean: Sequence[Any], variance: Sequence[Any]) -> list[Any]:
    """The terms of the logarithm of (1), with a variance for each component, by mpmath."""
    squares = [-((mp.mpf(a) - b) ** 2) / (2 * v) for a, b, v in zip(x, mean, variance, strict=True)]
    return squares + [-mp.log(2 * mp.pi * v) / 2 for v in variance]
