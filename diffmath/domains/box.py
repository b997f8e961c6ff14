r"""Boxes, and the eigenpairs of the Laplacian on them with no-flux boundary conditions.

On a box :math:`[0, L_1] \times \cdots \times [0, L_n]` the eigenpairs of :math:`-\Delta` with no flux through the
boundary are, for mode numbers :math:`k = (k_1, \ldots, k_n)`, :math:`k_d \ge 0`,

.. math:: \mu_k = \sum_d (k_d \pi / L_d)^2, \qquad
          w_k(x) = \prod_d \sqrt{(2 - [k_d = 0]) / L_d}\, \cos(k_d \pi x_d / L_d) ,

orthonormal in :math:`L^2`. On cell-centred points they are sampled by the discrete cosine transform DCT-II, and there
they are also the eigenvectors of the second-order difference Laplacian, whose eigenvalues are smaller:

.. math:: m_k = \sum_d \frac{4}{h_d^2} \sin^2 \frac{k_d \pi}{2 N_d} .
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy import fft
from scipy.sparse.linalg import LaplacianNd

__all__ = ["Box", "Mode", "axis_names"]

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
        If a count is below 2, a length is not positive and finite, there is not one length for each axis, or the
        eigenvalues would not be float64 numbers.
    TypeError
        If the shape or the lengths are no sequences.

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
        if not shape or any(not math.isfinite(n) or int(n) != n or n < 2 for n in shape):
            raise ValueError(f"shape must be a tuple of integers, each at least 2; it is {shape}")
        if len(lengths) != len(shape):
            raise ValueError(f"there must be one length for each axis; got {len(lengths)} for {len(shape)} axes")
        for axis, length in enumerate(lengths):
            if not 0 < length < math.inf:
                raise ValueError(f"lengths must be positive and finite; lengths[{axis}] = {length}")
            lowest, highest = math.pi / length, math.pi * float(shape[axis]) / length
            if not (lowest > 1e-70 and highest < 1e70):  # so that all powers of eigenvalues in use are float64 numbers
                raise ValueError(
                    f"lengths[{axis}] = {length} with {shape[axis]} cells: the wave numbers must lie within "
                    f"1e-70..1e70, and range from {lowest:.3g} to {highest:.3g}"
                )
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "lengths", lengths)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @cached_property
    def has_ordinary_lengths(self) -> bool:
        """Whether all lengths, and so the powers of eigenvalues, are far from the ends of a float64's range."""
        return all(1e-10 < length < 1e10 for length in self.lengths)

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
        return self._sum_over_axes(
            [
                (np.arange(n, dtype=np.float64) * (math.pi / a)) ** 2
                for n, a in zip(self.shape, self.lengths, strict=True)
            ]
        )

    @cached_property
    def lowest_mode(self) -> tuple[int, ...]:
        """The mode number of the lowest eigenvalue that is not zero: 1 along the longest side."""
        flat = int(self.eigenvalues.ravel()[1:].argmin()) + 1
        return tuple(int(i) for i in np.unravel_index(flat, self.shape))

    @cached_property
    def discrete_eigenvalues(self) -> Floats:
        r"""The eigenvalues :math:`m_k` of minus the difference Laplacian, like `eigenvalues`."""
        return self._sum_over_axes(
            [
                (2 / h * np.sin(np.arange(n) * (math.pi / (2 * n)))) ** 2
                for n, h in zip(self.shape, self.spacing, strict=True)
            ]
        )

    @cached_property
    def laplacian(self) -> sp.csr_array:
        """The second-order difference Laplacian with no flux: sparse, for flattened (C order) grid functions."""
        total = sp.csr_array((math.prod(self.shape),) * 2)
        for axis, (n, h) in enumerate(zip(self.shape, self.spacing, strict=True)):
            before, after = math.prod(self.shape[:axis]), math.prod(self.shape[axis + 1 :])
            one = LaplacianNd((n,), boundary_conditions="neumann", dtype=np.float64).tosparse() / h**2
            total += sp.kron(sp.kron(sp.eye_array(before), one), sp.eye_array(after))
        return sp.csr_array(total)

    def mode(self, k: Mode) -> tuple[int, ...]:
        """A mode number as a tuple.

        Raises
        ------
        TypeError
            If it is not one integer for each axis.
        ValueError
            If it is not on the grid: 0..N_d - 1 along each axis.
        """
        numbers = tuple(k) if isinstance(k, Sequence) else (k,)
        if len(numbers) != self.ndim or any(
            isinstance(i, bool) or not isinstance(i, (int, np.integer)) for i in numbers
        ):
            raise TypeError(f"a mode number on this box is {self.ndim} integer(s); got {k!r}")
        if any(not 0 <= i < n for i, n in zip(numbers, self.shape, strict=True)):
            raise ValueError(f"mode numbers on this box lie in 0..{[n - 1 for n in self.shape]}; got {k!r}")
        return tuple(int(i) for i in numbers)

    def eigenvalue(self, k: Mode) -> float:
        r"""The eigenvalue :math:`\mu_k` of one mode number, an int or in several dimensions a tuple; see `mode`."""
        return float(self.eigenvalues[self.mode(k)])

    def eigenfunction(self, k: Mode) -> Floats:
        """The eigenfunction w_k on the grid, of unit L2 norm: float64 of the box's shape."""
        w = np.ones(self.shape)
        for axis, (i, x, length) in enumerate(zip(self.mode(k), self.coordinates, self.lengths, strict=True)):
            factor = math.sqrt((2 if i else 1) / length) * np.cos(i * math.pi / length * x)
            w *= factor.reshape([-1 if a == axis else 1 for a in range(self.ndim)])
        return w

    def to_modes(self, u: npt.NDArray[Any]) -> Floats:
        """The coefficients c_k of grid functions, u = sum_k c_k w_k.

        Parameters
        ----------
        u : array, shape (..., N_1, ..., N_n)
            Values at the cell centres; the box's axes are the last ones.

        Returns
        -------
        numpy.ndarray, the shape of u, float64 (complex if u is)

        Raises
        ------
        ValueError
            If the last axes are not of the box's shape.
        """
        coefficients: Floats = fft.dctn(self._checked(u), type=2, norm="ortho", axes=self.axes)
        coefficients *= math.sqrt(self.cell_volume)
        return coefficients

    def to_grid(self, coefficients: npt.NDArray[Any]) -> Floats:
        """The grid functions with given coefficients, the inverse of `to_modes`.

        Parameters
        ----------
        coefficients : array, shape (..., N_1, ..., N_n)

        Returns
        -------
        numpy.ndarray, the shape of the coefficients, float64 (complex if they are)

        Raises
        ------
        ValueError
            If the last axes are not of the box's shape.
        """
        u: Floats = fft.idctn(self._checked(coefficients), type=2, norm="ortho", axes=self.axes)
        u /= math.sqrt(self.cell_volume)
        return u

    def gradient(self, coefficients: npt.NDArray[Any]) -> Floats:
        """The gradient of the functions with given coefficients, at the cell centres.

        Parameters
        ----------
        coefficients : array, shape (..., N_1, ..., N_n)

        Returns
        -------
        numpy.ndarray, shape (n, ..., N_1, ..., N_n), float64
            The derivative of the trigonometric polynomial along each axis.

        Raises
        ------
        ValueError
            If the last axes are not of the box's shape.
        """
        c = self._checked(coefficients)
        result = np.empty((self.ndim, *c.shape))
        for axis, (n, length) in enumerate(zip(self.shape, self.lengths, strict=True)):
            # Along its axis w_k' = -(k pi / L) sqrt(2 / L) sin(k pi x / L): the discrete sine transform from k = 1.
            sines = np.moveaxis(np.zeros_like(c), self.axes[axis], -1)
            sines[..., :-1] = np.moveaxis(c, self.axes[axis], -1)[..., 1:] * (-math.pi / length * np.arange(1, n))
            partial = np.moveaxis(fft.idst(sines, type=2, norm="ortho"), -1, self.axes[axis])
            others = [a for a in self.axes if a != self.axes[axis]]
            result[axis] = fft.idctn(partial, type=2, norm="ortho", axes=others) if others else partial
        return result / math.sqrt(self.cell_volume)

    def _checked(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The values in double precision, once their last axes are known to be the box's."""
        values = np.asarray(values)
        if values.shape[-self.ndim :] != self.shape:
            raise ValueError(f"the last axes must have the box's shape {self.shape}; the shape is {values.shape}")
        return values.astype(np.result_type(values, np.float64), copy=False)

    def _sum_over_axes(self, parts: list[Floats]) -> Floats:
        """The outer sum of one array for each axis, read-only."""
        total = np.zeros(self.shape)
        for axis, part in enumerate(parts):
            total += part.reshape([-1 if a == axis else 1 for a in range(self.ndim)])
        total.setflags(write=False)
        return total

    @property
    def axes(self) -> tuple[int, ...]:
        """The box's axes in an array of grid functions: the last ones."""
        return tuple(range(-self.ndim, 0))


def axis_names(domain: Box) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the axes of space, and of those of the mode numbers."""
    axes = ("x", "y", "z")[: domain.ndim] if domain.ndim <= 3 else tuple(f"x{d + 1}" for d in range(domain.ndim))
    return axes, tuple(f"k_{axis}" for axis in axes)
