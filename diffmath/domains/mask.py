"""Domains of pixels: any bitmap, with no flux through its edge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from diffmath._arguments import as_array, real_array
from diffmath.domains._axes import names, one_per_axis
from diffmath.domains.eigenbasis import Floats, read_only
from diffmath.domains.operator import Operator

__all__ = ["Mask"]


class Mask(Operator):
    """The cells of a grid where a mask is true, with the difference Laplacian and no flux through their edge.

    Cells that touch at a corner alone are apart. The grid functions are vectors over the cells of the mask, in the
    order of ``array[mask]``; `image` puts them back on the grid. If all cells are in, the domain is ``Box.discrete``.

    Parameters
    ----------
    mask : array of bool
        The cells of the domain; in any number of dimensions, each of at least one cell. The axes are x, y, z.
    spacing : float or tuple of float, optional
        The cell widths along each axis; 1 divided by the longest side unless given.
    n_modes, merge
        The same as for `Operator`.

    Raises
    ------
    ValueError
        If the mask is empty, or there are not as many eigenpairs.

    Examples
    --------
    >>> ell = Mask([[True, True], [True, False]], spacing=1.0)
    >>> ell.eigenvalues
    array([0., 1., 3.])
    >>> ell.image(np.array([1.0, 2.0, 3.0]))
    array([[ 1.,  2.],
           [ 3., nan]])
    """

    _kind = "mask"

    def __init__(
        self,
        mask: npt.ArrayLike,
        spacing: float | Sequence[float] | None = None,
        n_modes: int | None = None,
        *,
        merge: float = 1e-12,
    ) -> None:
        array = as_array(mask, "mask")
        if array.dtype != np.bool_:
            raise TypeError(f"mask must be an array of bool, such as image > 0; the dtype is {array.dtype}")
        if array.ndim == 0 or not array.any():
            raise ValueError(f"mask must have at least one true cell; its shape is {array.shape}, and none is true")
        self.mask: npt.NDArray[np.bool_] = read_only(array.copy())
        widths = one_per_axis("spacing", spacing if spacing is not None else 1 / max(array.shape))
        widths = widths * array.ndim if len(widths) == 1 else widths
        if len(widths) != array.ndim or not all(0 < h < math.inf for h in widths):
            raise ValueError(
                f"spacing must be one positive number, or one for each axis of {array.ndim}; it is {spacing}"
            )
        self.spacing = tuple(float(h) for h in widths)
        self._dimension = array.ndim
        n, volume = int(array.sum()), math.prod(self.spacing)
        self.mass = sp.csr_array(sp.diags_array(np.full(n, volume)))
        K = sp.csr_array((n, n))
        for (before, after), h in zip(self._neighbours, self.spacing, strict=True):
            i = np.arange(n)
            for neighbours in (before, after):
                links = sp.coo_array((np.full(n, volume / h**2), (i, neighbours)), shape=(n, n)).tocsr()
                K = K + sp.diags_array(links @ np.ones(n)) - links
        self._stiffness = sp.csr_array(K)
        self._stiffness.eliminate_zeros()
        self._finish(n_modes, merge, n)

    @cached_property
    def _neighbours(self) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
        """The cells before and after each cell along each axis, or the cell itself where there is none."""
        inside = np.flatnonzero(self.mask.ravel())
        numbers = np.full(self.mask.shape, -1)
        numbers[self.mask] = np.arange(len(inside))
        pairs = []
        for axis in range(self.mask.ndim):
            padded = np.pad(numbers, [(1, 1) if a == axis else (0, 0) for a in range(numbers.ndim)], constant_values=-1)
            ways = (np.delete(padded, [-1, -2], axis)[self.mask], np.delete(padded, [0, 1], axis)[self.mask])
            before, after = (np.where(way < 0, np.arange(len(inside)), way) for way in ways)
            pairs.append((before, after))
        return pairs

    def image(self, u: npt.NDArray[Any]) -> Floats:
        """Grid functions on the grid of the mask, NaN outside of it, which pictures leave out.

        Parameters
        ----------
        u : array, shape (..., n)

        Returns
        -------
        numpy.ndarray, float64, shape (..., ``*mask.shape``)

        Examples
        --------
        >>> Mask([[True, False], [True, True]], n_modes=2).image(np.array([1.0, 2.0, 3.0]))
        array([[ 1., nan],
               [ 2.,  3.]])
        """
        u = self._values(real_array(u, "u"), self.shape, "u")
        image = np.full((*u.shape[:-1], *self.mask.shape), math.nan)
        image[..., self.mask] = u
        return image

    def gradient(self, c: npt.NDArray[Any]) -> Floats:
        """The vectors of difference quotients at the corners of the cells, shape (dimension, ..., corners, n).

        Each corner has the quotients at the faces that meet there, 0 through the edge of the mask.
        """
        u = self.to_values(c)
        sides = [
            [(u - u[..., before]) / h, (u[..., after] - u) / h]
            for (before, after), h in zip(self._neighbours, self.spacing, strict=True)
        ]
        return np.stack([np.stack(corner) for corner in product(*sides)], axis=-2)

    @property
    def gradient_weights(self) -> Floats:
        """The share of a cell's volume for each of its corners."""
        n_corners = 2**self.mask.ndim
        return np.broadcast_to(math.prod(self.spacing) / n_corners, (n_corners, *self.shape))

    @property
    def dims(self) -> tuple[str, ...]:
        """The name of the axis of cells."""
        return ("cell",)

    @cached_property
    def points(self) -> Floats:
        """The cell centres, shape (dimension, n)."""
        at = np.argwhere(self.mask).T
        return read_only((at + 0.5) * np.array(self.spacing)[:, None])

    @property
    def coords(self) -> dict[str, Any]:
        """The cell centres, where the cells stand on the grid, and the mode numbers."""
        axes = names(self.mask.ndim)
        centres = {a: ("cell", x, {"units": "length"}) for a, x in zip(axes, self.points, strict=True)}
        at = zip(axes, np.argwhere(self.mask).T, strict=True)
        return super().coords | centres | {f"index_{a}": ("cell", i, {"long_name": "index on the grid"}) for a, i in at}
