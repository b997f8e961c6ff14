r"""Boxes, and the eigenpairs of the Laplacian on them with no-flux boundary conditions.

On a box :math:`[0, L_1] \times \cdots \times [0, L_n]` the eigenpairs of :math:`-\Delta` with no flux through the
boundary are, for mode numbers :math:`k = (k_1, \ldots, k_n)`, :math:`k_d \ge 0`,

.. math:: \mu_k = \sum_d (k_d \pi / L_d)^2, \qquad
          w_k(x) = \prod_d \sqrt{(2 - [k_d = 0]) / L_d}\, \cos(k_d \pi x_d / L_d) ,

orthonormal in :math:`L^2`. On cell-centred points they are sampled by the discrete cosine transform DCT-II.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = ["Box", "Mode"]

Floats = npt.NDArray[np.float64]
Mode = int | Sequence[int]
"""A mode number: an int in one dimension, a tuple of ints in several."""


@dataclass(frozen=True)
class Box:
    r"""A box with cell-centred grid points and no flux through its boundary.

    Parameters
    ----------
    shape : tuple of int
        The number of cells :math:`N_d` along each axis, each at least 2.
    lengths : tuple of float, optional
        The lengths :math:`L_d`; all 1 unless given.

    Raises
    ------
    ValueError
        If a count is below 2, a length is not positive and finite, or there is not one length for each axis.

    Examples
    --------
    >>> Box(shape=(4,)).coordinates[0]
    array([0.125, 0.375, 0.625, 0.875])
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.shape, Sequence) or not isinstance(self.lengths, Sequence):
            raise TypeError(
                f"shape and lengths must be tuples, like (256,) and (1.0,); they are {self.shape!r}, {self.lengths!r}"
            )
        shape = tuple(self.shape)
        lengths = tuple(float(length) for length in self.lengths) or (1.0,) * len(shape)
        if not shape or any(int(n) != n or n < 2 for n in shape):
            raise ValueError(f"shape must be a tuple of integers, each at least 2; it is {shape}")
        if len(lengths) != len(shape):
            raise ValueError(f"there must be one length for each axis; got {len(lengths)} for {len(shape)} axes")
        for axis, length in enumerate(lengths):
            if not 0 < length < math.inf:
                raise ValueError(f"lengths must be positive and finite; lengths[{axis}] = {length}")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "lengths", lengths)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """The cell widths h along each axis."""
        return tuple(length / n for length, n in zip(self.lengths, self.shape, strict=True))

    @property
    def cell_volume(self) -> float:
        """The volume of a cell, the weight of each point in an integral."""
        return math.prod(self.spacing)

    @cached_property
    def coordinates(self) -> tuple[Floats, ...]:
        """The cell centres (i + 1/2) h along each axis: a tuple of 1-D float64 arrays, read-only."""
        centres: tuple[Floats, ...] = tuple(
            (np.arange(n, dtype=np.float64) + 0.5) * h for n, h in zip(self.shape, self.spacing, strict=True)
        )
        for x in centres:
            x.setflags(write=False)
        return centres

    @cached_property
    def eigenvalues(self) -> Floats:
        r"""The eigenvalues :math:`\mu_k`, float64 of the box's shape, indexed by the mode numbers, read-only."""
        total = np.zeros(self.shape)
        for axis, (n, length) in enumerate(zip(self.shape, self.lengths, strict=True)):
            mu = (np.arange(n) * (math.pi / length)) ** 2
            total += mu.reshape([-1 if a == axis else 1 for a in range(self.ndim)])
        total.setflags(write=False)
        return total

    def mode(self, k: Mode) -> tuple[int, ...]:
        """A mode number as a tuple, checked to lie on the grid."""
        numbers = tuple(k) if isinstance(k, Sequence) else (k,)
        if len(numbers) != self.ndim or any(
            isinstance(i, bool) or not isinstance(i, (int, np.integer)) for i in numbers
        ):
            raise TypeError(f"a mode number on this box is {self.ndim} integer(s); got {k!r}")
        if any(not 0 <= i < n for i, n in zip(numbers, self.shape, strict=True)):
            raise ValueError(f"mode numbers on this box lie in 0..{[n - 1 for n in self.shape]}; got {k!r}")
        return tuple(int(i) for i in numbers)

    def eigenvalue(self, k: Mode) -> float:
        r"""The eigenvalue :math:`\mu_k` of one mode number."""
        return float(self.eigenvalues[self.mode(k)])

    def eigenfunction(self, k: Mode) -> Floats:
        """The eigenfunction w_k on the grid, of unit L2 norm: float64 of the box's shape."""
        w = np.ones(self.shape)
        for axis, (i, x, length) in enumerate(zip(self.mode(k), self.coordinates, self.lengths, strict=True)):
            factor = math.sqrt((2 if i else 1) / length) * np.cos(i * math.pi / length * x)
            w *= factor.reshape([-1 if a == axis else 1 for a in range(self.ndim)])
        return w

    def to_modes(self, u: npt.NDArray[Any]) -> Floats:
        """The coefficients c_k of a grid function, u = sum_k c_k w_k; the box's axes are the last ones."""
        coefficients: Floats = fft.dctn(u, type=2, norm="ortho", axes=self._axes)
        return coefficients * math.sqrt(self.cell_volume)

    def to_grid(self, coefficients: npt.NDArray[Any]) -> Floats:
        """The grid function with given coefficients, the inverse of `to_modes`."""
        u: Floats = fft.idctn(coefficients, type=2, norm="ortho", axes=self._axes)
        return u / math.sqrt(self.cell_volume)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))
