"""Numbers with their errors, and checks of the points and images that they are computed from."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from diffmath._arguments import real_array
from diffmath.ddpm._arguments import as_floating

__all__ = ["Estimate", "Interval"]

Array = npt.NDArray[np.float64]
Seed = np.random.Generator | int

GROUPS = 20  # of the jackknife
LEAST = 5 * GROUPS  # of images: a fifth of them must have a covariance


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


class Interval(NamedTuple):
    """A number and the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def error_of_mean(values: Array) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def share_of(p: float, n: int) -> Estimate:
    """A share of n, and half of its Wilson interval of one standard error, which does not vanish for none or all."""
    return Estimate(p, math.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n))


def random_groups(n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A group in 0..GROUPS - 1 for each of n points, at random, of sizes that differ by 1 at most."""
    return rng.permutation(np.arange(n) % GROUPS)


def jackknife(values: npt.ArrayLike) -> Estimate:
    """The jackknife estimate from the statistic without each group, followed by the statistic of all points."""
    *without, value = np.asarray(values, dtype=np.float64)
    return Estimate(float(value), math.sqrt((GROUPS - 1) * np.var(without)))


def checked_points(samples: npt.ArrayLike, reference: npt.ArrayLike, least: int) -> tuple[Array, Array]:
    x, y = (
        np.ascontiguousarray(real_array(z, name), dtype=np.float64)
        for z, name in ((samples, "samples"), (reference, "reference"))
    )
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"samples and reference must have shapes (N, d) and (M, d) with N and M at least {least}; the shapes are "
            f"{x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("samples and reference must be finite; they hold NaN or infinity")
    return x, y


def clipped_images(images: Tensor, name: str, least: int = 1) -> Tensor:
    """Checked images, clipped to [-1, 1] as a picture of them would be."""
    return checked_images(images, name, least).clamp(-1, 1)


def checked_images(images: Tensor, name: str, least: int = 1) -> Tensor:
    """Images on the CPU, wherever they were."""
    images = as_floating(images, name)
    if images.shape[1:] != (1, 32, 32) or len(images) < least:
        raise ValueError(
            f"{name} must have shape (N, 1, 32, 32) with N at least {least}; the shape is {tuple(images.shape)}"
        )
    return images.detach().cpu()
