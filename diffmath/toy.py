"""Sets of points in the plane, on which a diffusion model trains in a minute: moons, rings and mixtures.

All are centred at the origin and have about unit size, as a diffusion model wants its data. They need numpy only. Each
function returns its points in random order, float64 of shape (n, 2); ``rng`` is a numpy generator or a seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from diffmath._arguments import as_rng, require_count, require_number

__all__ = ["mixture", "moons", "rings"]

Points = npt.NDArray[np.float64]


def moons(n: int, noise: float = 0.05, rng: np.random.Generator | int | None = None) -> Points:
    """Draw points from two interleaved half circles of radius 1, each with probability 1/2.

    Parameters
    ----------
    n, noise, rng : int, float, numpy.random.Generator or int
        The number of points, the standard deviation of Gaussian noise in each coordinate, and its source.

    Examples
    --------
    >>> moons(3, rng=0).shape
    (3, 2)
    """
    n, noise, rng = require_count("n", n), _spread("noise", noise), as_rng(rng)
    angle, sign = rng.uniform(0, np.pi, n), rng.choice([-1.0, 1.0], n)
    # The upper moon about (-1/2, -1/4), and its reflection in the origin.
    points = sign[:, None] * (_on_unit_circle(angle) - [0.5, 0.25])
    return np.asarray(points + noise * rng.standard_normal((n, 2)))


def rings(
    n: int, radii: Sequence[float] = (0.5, 1.5), noise: float = 0.05, rng: np.random.Generator | int | None = None
) -> Points:
    """Draw points from circles about the origin, uniformly in arc length.

    Parameters
    ----------
    n, radii, noise, rng : int, sequence of float, float, numpy.random.Generator or int
        The number of points, the radii, the standard deviation of Gaussian noise in each coordinate, and its source.

    Examples
    --------
    >>> import numpy as np
    >>> np.unique(np.hypot(*rings(100, noise=0, rng=0).T).round(6))
    array([0.5, 1.5])
    """
    n, noise, rng = require_count("n", n), _spread("noise", noise), as_rng(rng)
    r = np.array([_spread("each of radii", radius) for radius in radii])
    if not r.sum():
        raise ValueError(f"radii must have one that is positive; they are {list(radii)}")
    radius, angle = rng.choice(r, n, p=r / r.sum()), rng.uniform(0, 2 * np.pi, n)
    points = radius[:, None] * _on_unit_circle(angle)
    return np.asarray(points + noise * rng.standard_normal((n, 2)))


def mixture(n: int, n_components: int = 8, std: float = 0.1, rng: np.random.Generator | int | None = None) -> Points:
    """Draw points from Gaussians of equal weight, their means at equal distances on the circle of radius sqrt(2).

    Parameters
    ----------
    n, n_components, std, rng : int, int, float, numpy.random.Generator or int
        The numbers of points and of Gaussians, their standard deviation in each coordinate, and its source.

    Examples
    --------
    >>> mixture(1, n_components=1, std=0, rng=0).round(3)
    array([[1.414, 0.   ]])
    """
    n, n_components = require_count("n", n), require_count("n_components", n_components)
    std, rng = _spread("std", std), as_rng(rng)
    angle = 2 * np.pi * rng.integers(n_components, size=n) / n_components
    points = np.sqrt(2) * _on_unit_circle(angle)
    return np.asarray(points + std * rng.standard_normal((n, 2)))


def _on_unit_circle(angle: npt.NDArray[np.float64]) -> Points:
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _spread(name: str, value: float) -> float:
    number = require_number(name, value)
    if not 0 <= number < np.inf:
        raise ValueError(f"{name} must be finite and not negative; it is {number}")
    return number
