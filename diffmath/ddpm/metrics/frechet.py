"""The Frechet distance of features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from diffmath._arguments import as_rng, real_array, require_count
from diffmath.ddpm.metrics.estimates import GROUPS, LEAST, Array, Seed, checked_points, jackknife, random_groups

__all__ = ["Extrapolation", "frechet_distance", "frechet_extrapolated"]


class Extrapolation(NamedTuple):
    """A distance without its small-sample bias, its standard error, and the line that led to it.

    Attributes
    ----------
    value, error : float
        The line's value at infinitely many images.
    sizes : tuple of float
        The number of samples over the mean reciprocal share of a subset, falling.
    distances : tuple of float
        The mean distance, with its bias, of subsets of these sizes.
    """

    value: float
    error: float
    sizes: tuple[float, ...]
    distances: tuple[float, ...]


def frechet_distance(mean_1: npt.ArrayLike, cov_1: npt.ArrayLike, mean_2: npt.ArrayLike, cov_2: npt.ArrayLike) -> float:
    r"""The squared Frechet distance of two Gaussians (Dowson & Landau 1982); of Inception features, the "FID".

    .. math:: |m_1 - m_2|^2 + \operatorname{tr} C_1 + \operatorname{tr} C_2
              - 2 \operatorname{tr} (C_1^{1/2} C_2 C_1^{1/2})^{1/2}

    The last trace is the sum of the roots of the eigenvalues of a symmetric matrix, which need not be regular. The
    usual :math:`(C_1 C_2)^{1/2}` has the same trace, but is not symmetric, and its root is not always computed as real.

    Parameters
    ----------
    mean_1, mean_2 : array, shape (d,)
    cov_1, cov_2 : array, shape (d, d)
        Symmetric and positive semidefinite, up to roundings.

    Returns
    -------
    float
        Not negative.

    Examples
    --------
    >>> frechet_distance([0.0], [[1.0]], [3.0], [[4.0]])  # (0 - 3)^2 + (1 - 2)^2
    10.0
    """
    given = {"mean_1": mean_1, "cov_1": cov_1, "mean_2": mean_2, "cov_2": cov_2}
    m_1, c_1, m_2, c_2 = arrays = [real_array(a, name).astype(np.float64) for name, a in given.items()]
    d = m_1.size
    if not (m_1.shape == m_2.shape == (d,) and c_1.shape == c_2.shape == (d, d)):
        shapes = ", ".join(str(a.shape) for a in (m_1, c_1, m_2, c_2))
        raise ValueError(
            f"mean_1, cov_1, mean_2 and cov_2 must have shapes (d,), (d, d), (d,), (d, d); they have {shapes}"
        )
    for name, a in zip(given, arrays, strict=True):
        if not np.isfinite(a).all():
            raise ValueError(f"{name} must be finite; it holds NaN or infinity")
    # More than float32's roundings in the covariances, and float64's in the squares that they are differences of.
    rounding = 1e-5 * (np.trace(c_1) + np.trace(c_2)) + 1e-12 * max((m_1**2).sum(), (m_2**2).sum())
    for c in (c_1, c_2):
        asymmetry, least = np.abs(c - c.T).max(initial=0.0), np.linalg.eigvalsh(c).min(initial=0.0)
        if max(asymmetry, -least) > rounding:
            raise ValueError(
                f"covariances must be symmetric and positive semidefinite; one is asymmetric by {asymmetry:.3g}, and "
                f"its least eigenvalue is {least:.3g}"
            )
    eigenvalues, axes = np.linalg.eigh(c_1)
    root = axes * np.sqrt(eigenvalues.clip(min=0))  # C_1 = root root^T; C_1^{1/2} is this but for a rotation
    overlap = np.sqrt(np.linalg.eigvalsh(root.T @ c_2 @ root).clip(min=0)).sum()
    # The traces of what is a covariance by its eigenvalues: else roundings could make the distance negative.
    traces = eigenvalues.clip(min=0).sum() + np.linalg.eigvalsh(c_2).clip(min=0).sum()
    return max(0.0, float(((m_1 - m_2) ** 2).sum() + traces - 2 * overlap))


def frechet_extrapolated(
    samples: npt.ArrayLike, reference: npt.ArrayLike, *, n_repeats: int = 4, rng: Seed = 0
) -> Extrapolation:
    r"""The Frechet distance of two laws from finitely many points of each, without the bias of their number.

    From n and m points the distance is too large by nearly a / n + b / m (Chong & Forsyth 2020), more than most
    differences of interest. So both sets are dealt into k = 1, ..., 5 parts, parts are compared with parts, and the
    least-squares line through the mean distances, in the reciprocal of a part's share, is read at 0.

    The error is a delete-a-group jackknife (Kott 2001) over 20 random groups of points,
    :math:`\sigma^2 = \frac{g - 1}{g} \sum_b (\theta_{(b)} - \bar\theta)^2`. For equal laws, where the distance is
    quadratic in all differences, it is too large, up to twice.

    Parameters
    ----------
    samples, reference : array, shapes (N, d), (M, d)
        At least 100 of each.
    n_repeats : int
        How often to deal them anew.
    rng : numpy.random.Generator or int
        Deals the points, or seeds what does.

    Returns
    -------
    Extrapolation
        The value is as often too small as too large, and may be a little below 0, if a fifth of the points are many in
        all directions that matter. Of digits 500 are enough, to 0.3; from 100 the value is too small by 1.

    Examples
    --------
    >>> points = np.random.default_rng(0).standard_normal((400, 2))
    >>> round(frechet_extrapolated(points, points + [3.0, 0.0]).value)
    9
    """
    x, y = checked_points(samples, reference, LEAST)
    n_repeats, rng = require_count("n_repeats", n_repeats), as_rng(rng)
    moments = [_moments(z - y.mean(0), rng) for z in (x, y)]  # seen from their mean, as squares would cancel
    deals = [[np.array_split(rng.permutation(GROUPS), k) for _ in range(n_repeats)] for k in range(1, 6)]
    known: dict[frozenset[int], float] = {}

    def distance(groups: frozenset[int]) -> float:
        if groups not in known:
            (m_1, c_1), (m_2, c_2) = (_law(*m, sorted(groups)) for m in moments)
            known[groups] = frechet_distance(m_1, c_1, m_2, c_2)
        return known[groups]

    def line(left_out: int) -> tuple[Array, Array]:
        """The mean of 1 / share and the mean distance, for each k."""
        means = []
        for deal in deals:
            parts = [frozenset(part.tolist()) - {left_out} for repeat in deal for part in repeat]
            means.append([np.mean([GROUPS / len(p) for p in parts]), np.mean([distance(p) for p in parts])])
        inverse, distances = np.transpose(means)
        return inverse, distances

    inverse, distances = line(-1)
    intercepts = [np.polynomial.Polynomial.fit(*line(b), 1)(0.0) for b in (*range(GROUPS), -1)]
    value, error = jackknife(intercepts)
    return Extrapolation(value, error, tuple((len(x) / inverse).tolist()), tuple(distances.tolist()))


def _moments(x: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """The number of points, their sum and the sum of their squares, (g,), (g, d), (g, d, d), in random groups."""
    group = random_groups(len(x), rng)
    parts = [x[group == b] for b in range(GROUPS)]
    return (
        np.array([float(len(p)) for p in parts]),
        np.array([p.sum(0) for p in parts]),
        np.array([p.T @ p for p in parts]),
    )


def _law(counts: Array, sums: Array, squares: Array, groups: list[int]) -> tuple[Array, Array]:
    """Mean and unbiased covariance of some groups' points."""
    n = counts[groups].sum()
    mean: Array = sums[groups].sum(0) / n
    return mean, (squares[groups].sum(0) - n * np.outer(mean, mean)) / (n - 1)
