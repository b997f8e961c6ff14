"""Fidelity and variety by nearest neighbours among the features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from diffmath._arguments import as_rng, require_count
from diffmath.ddpm.metrics.estimates import LEAST, Array, Estimate, Seed, checked_points, share_of

__all__ = ["Neighbours", "precision_recall_density_coverage"]

HALF = 1000  # points at most in a half of them
ENTRIES = 2**22  # of a matrix of distances are held at once: more would be slower


class Neighbours(NamedTuple):
    """Shares of images with neighbours among the others; see `precision_recall_density_coverage`."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def precision_recall_density_coverage(
    samples: npt.ArrayLike, reference: npt.ArrayLike, *, k: int = 5, rng: Seed = 0
) -> Neighbours:
    """Whether samples are near real points, and real points near samples.

    The ball of a point reaches to its k-th nearest neighbour in its own set. Precision is the share of samples in the
    ball of some real point, recall the share of real points in the ball of some sample (Kynkaanniemi et al. 2019).
    Density is the mean number of real points' balls that a sample is in, over k, and coverage the share of real points
    with a sample in their ball (Naeem et al. 2020). They depend on the numbers of points: compare equal ones.

    These are no smooth functions of the points' law, and a jackknife gives up to twice their error. So both sets are
    halved, again and again, and half of the variance between the values of the halves is that of the whole
    (subsampling; Politis & Romano 1994); of large sets parts of 1,000 do for halves. Shares have at least the error of
    as many independent points.

    Parameters
    ----------
    samples, reference : array, shapes (N, d), (M, d)
        At least 100 of each.
    k : int
        Less than half of the smaller number of points, and than 1,000.
    rng : numpy.random.Generator or int
        Deals the points, or seeds what does.

    Examples
    --------
    >>> points = np.random.default_rng(0).standard_normal((200, 2))
    >>> precision_recall_density_coverage(points + 100, points).precision.value
    0.0
    """
    x, y = checked_points(samples, reference, LEAST)
    share = min(0.5, HALF / min(len(x), len(y)))
    n, m = (int(share * len(z)) for z in (x, y))
    k, rng = require_count("k", k, most=min(n, m) - 1), as_rng(rng)
    variances = []
    for _ in range(10):
        i, j = (rng.permutation(len(z)) for z in (x, y))
        values = [_neighbour_shares(x[i[:n]], y[j[:m]], k), _neighbour_shares(x[i[n : 2 * n]], y[j[m : 2 * m]], k)]
        variances.append(share * np.var(values, axis=0, ddof=1))
    errors = np.sqrt(np.mean(variances, axis=0)).tolist()
    precision, recall, density, coverage = _neighbour_shares(x, y, k).tolist()
    shares = [share_of(precision, len(x)), share_of(recall, len(y)), Estimate(density, 0.0), share_of(coverage, len(y))]
    return Neighbours(*(Estimate(s.value, max(s.error, error)) for s, error in zip(shares, errors, strict=True)))


def _neighbour_shares(samples: Array, reference: Array, k: int) -> Array:
    """Precision, recall, density and coverage."""
    fake, real = torch.from_numpy(samples), torch.from_numpy(reference)
    # Of equal points the distances by matrix products are no zeros: roots of roundings. Ties count as neighbours.
    tie = 1e-7 * float(torch.cat([fake, real]).norm(dim=1).max())
    fake_radius, real_radius = _radii(samples, k) + tie, _radii(reference, k) + tie
    precise = torch.zeros(len(fake), dtype=torch.bool)
    pairs = covered = recalled = 0
    step = max(1, ENTRIES // len(fake))
    for part, radius in zip(real.split(step), real_radius.split(step), strict=True):
        distance = torch.cdist(part, fake)
        in_real = distance <= radius[:, None]
        precise |= in_real.any(dim=0)
        pairs += int(in_real.sum())
        covered += int(in_real.any(dim=1).sum())
        recalled += int((distance <= fake_radius).any(dim=1).sum())
    n, m = len(fake), len(real)
    return np.array([int(precise.sum()) / n, recalled / m, pairs / (k * n), covered / m])


def _radii(x: Array, k: int) -> Tensor:
    """The distance of each point to its k-th nearest other, shape (N,)."""
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()
    return torch.from_numpy(distances[:, -1])
