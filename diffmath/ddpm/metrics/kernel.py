"""Distances of laws by a kernel, over all pairs of points: of features and of pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy.typing as npt
import torch
from torch import Tensor

from diffmath.ddpm.metrics.estimates import Estimate, checked_points, clipped_images

__all__ = ["energy_distance", "kernel_distance"]

ENTRIES = 2**22  # of a matrix of distances are held at once: more would be slower


def kernel_distance(samples: npt.ArrayLike, reference: npt.ArrayLike) -> Estimate:
    r"""The squared kernel distance of two laws, unbiased, with the kernel :math:`k(x, y) = (x \cdot y / d + 1)^3`.

    Binkowski et al. (2018); the U-statistic of Gretton et al. (2012). The error has the terms of orders 1/N and 1/N^2
    in the variance, so that it is honest for equal laws too, where the first vanishes. The value may be below 0.

    Parameters
    ----------
    samples, reference : array, shapes (N, d), (M, d)
        At least 2 of each.

    Examples
    --------
    >>> kernel_distance([[1.0], [1.0]], [[0.0], [0.0]])  # (1 + 1)^3 + 1 - 2
    Estimate(value=7.0, error=0.0)
    """
    x, y = (torch.from_numpy(z) for z in checked_points(samples, reference, 2))
    return _discrepancy(x, y, lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3)


def energy_distance(images: Tensor, reference: Tensor) -> Estimate:
    r"""The squared energy distance of images, as vectors of 1,024 pixels, unbiased (Szekely & Rizzo 2013).

    .. math:: 2 E |x - y| - E |x - x'| - E |y - y'|

    with Euclidean norms, over all pairs of an image and a reference and all pairs of different images of a set. It is
    0 for equal laws only, and is `kernel_distance` with the kernel :math:`-|x - y|`. No root is taken of the value.

    Parameters
    ----------
    images, reference : Tensor, shapes (N, 1, 32, 32), (M, 1, 32, 32), floating
        At least 2 of each.

    Examples
    --------
    >>> energy_distance(torch.ones(2, 1, 32, 32), torch.zeros(2, 1, 32, 32)).value  # 2 |x - y|
    64.0
    """
    x, y = (clipped_images(z, n, 2).double().flatten(1) for z, n in ((images, "images"), (reference, "reference")))
    return _discrepancy(x, y, lambda a, b: -torch.cdist(a, b))


def _discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Estimate:
    """E k(x, x') + E k(y, y') - 2 E k(x, y), unbiased, for any symmetric kernel."""
    n, m = len(x), len(y)
    (k_xx, _, noise_xx), (k_yy, _, noise_yy) = (_kernel_means(z, z, kernel) for z in (x, y))
    k_xy, k_yx, noise_xy = _kernel_means(x, y, kernel)
    value = k_xx.mean() + k_yy.mean() - 2 * k_xy.mean()
    # Hoeffding: the variance is that of the projections, and that of what they leave of the kernel. The projections are
    # means over finitely many points, so their variances have twice the second term in them.
    first = 4 * (k_xx - k_xy).var() / n + 4 * (k_yy - k_yx).var() / m
    second = 2 * noise_xx / (n * (n - 1)) + 2 * noise_yy / (m * (m - 1)) + 4 * noise_xy / (n * m)
    return Estimate(float(value), float(((first - 2 * second).clamp(min=0) + second).sqrt()))


def _kernel_means(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Means of k(x_i, y_j) over j and over i, without i = j if x is y, and the variance that they leave."""
    same = x is y
    over_j, over_i, squares = [], torch.zeros(len(y), dtype=x.dtype, device=x.device), x.new_zeros(())
    step = max(1, ENTRIES // len(y))
    for start in range(0, len(x), step):
        k = kernel(x[start : start + step], y)
        if same:
            k.diagonal(start).zero_()
        over_j.append(k.sum(1))
        over_i += k.sum(0)
        squares += k.square().sum()
    rows, columns = torch.cat(over_j) / (len(y) - same), over_i / (len(x) - same)
    mean = rows.mean()
    left = squares / (len(x) * (len(y) - same)) - rows.square().mean() - columns.square().mean() + mean.square()
    return rows, columns, left.clamp(min=0)
