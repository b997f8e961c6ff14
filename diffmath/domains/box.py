r"""Boxes, and the eigenpairs of the Laplacian on them, exact and of second-order differences.

On a box :math:`[0, L_1] \times \cdots \times [0, L_n]` the eigenpairs of :math:`-\Delta` with no flux through the
boundary are, for mode numbers :math:`k = (k_1, \ldots, k_n)`, :math:`k_d \ge 0`,

.. math:: \mu_k = \sum_d (k_d \pi / L_d)^2, \qquad
          w_k(x) = \prod_d \sqrt{(2 - [k_d = 0]) / L_d}\, \cos(k_d \pi x_d / L_d) ,

orthonormal in :math:`L^2`; sampled on cell-centred points they are also the eigenvectors of the second-order difference
Laplacian, whose eigenvalues are smaller:

.. math:: m_k = \sum_d \frac{4}{h_d^2} \sin^2 \frac{k_d \pi}{2 N_d} .

The other boundary conditions of `diffmath.domains.boundaries` have sines beside or in place of the cosines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import lapack

from diffmath.domains._axes import names, one_per_axis, outer_sum, span
from diffmath.domains.boundaries import BOUNDARIES, Boundary
from diffmath.domains.eigenbasis import Eigenbasis, Floats, Mode, read_only, require_step, without_rounding

__all__ = ["Box", "DifferenceBox", "Floats", "Mode"]


@dataclass(frozen=True)
class Box(Eigenbasis):
    r"""A box with cell-centred grid points.

    Parameters
    ----------
    shape : int or tuple of int
        The number of cells :math:`N_d` along each axis, each at least 2; an int is one axis.
    lengths : float or tuple of float, optional
        The lengths :math:`L_d`; all 1 unless given.
    boundary : str or tuple of str, optional
        The boundary condition of each axis, or of all: "no-flux" (the paper's), "periodic" or "fixed" (zero).
        Along a no-flux axis, mode k is :math:`\cos(k \pi x / L)`; along a fixed one, :math:`\sin(k \pi x / L)` with k =
        1..N; along a periodic one, modes 2 m - 1 and 2 m are the cosine and the sine of :math:`2 m \pi x / L`.
    origin : float or tuple of float, optional
        Where each axis begins; 0 unless given.

    Raises
    ------
    ValueError
        If an argument is out of range, does not fit the number of axes, or the eigenvalues would not be float64
        numbers.

    Examples
    --------
    >>> Box(shape=(4,)).coordinates[0]
    array([0.125, 0.375, 0.625, 0.875])
    >>> Box(shape=(8, 8), lengths=(1.0, 2.0), boundary=("no-flux", "periodic")).eigenvalue((1, 0)) == np.pi**2
    True
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...] = ()
    boundary: tuple[str, ...] = ()
    origin: tuple[float, ...] = ()

    def __init__(
        self,
        shape: int | Sequence[int],
        lengths: float | Sequence[float] = (),
        boundary: str | Sequence[str] = "no-flux",
        origin: float | Sequence[float] = (),
    ) -> None:
        cells = one_per_axis("shape", shape)
        if not cells or any(not math.isfinite(n) or int(n) != n or n < 2 for n in cells):
            raise ValueError(f"shape must be integers, each at least 2; it is {shape!r}")
        sides = tuple(float(length) for length in one_per_axis("lengths", lengths)) or (1.0,) * len(cells)
        start = tuple(float(x) for x in one_per_axis("origin", origin)) or (0.0,) * len(cells)
        conditions = tuple(boundary) if isinstance(boundary, (tuple, list)) else (boundary,) * len(cells)
        for name, values in (("length", sides), ("boundary condition", conditions), ("origin", start)):
            if len(values) != len(cells):
                raise ValueError(f"there must be one {name} for each axis; got {len(values)} for {len(cells)} axes")
        for axis, (n, length) in enumerate(zip(cells, sides, strict=True)):
            if not 0 < length < math.inf:
                raise ValueError(f"lengths must be positive and finite; lengths[{axis}] = {length}")
            lowest, highest = math.pi / length, math.pi * float(n) / length
            if not (lowest > 1e-70 and highest < 1e70):  # so that all powers of eigenvalues in use are float64 numbers
                raise ValueError(
                    f"lengths[{axis}] = {length} with {n} cells: the wave numbers must lie within 1e-70..1e70, "
                    f"and range from {lowest:.3g} to {highest:.3g}"
                )
            if conditions[axis] not in list(BOUNDARIES):
                raise ValueError(
                    f"boundary conditions must be among {', '.join(BOUNDARIES)}; "
                    f"boundary[{axis}] is {conditions[axis]!r}"
                )
            if not math.isfinite(start[axis]):
                raise ValueError(f"origin must be finite; origin[{axis}] = {start[axis]}")
        checked: tuple[Any, ...] = (tuple(int(n) for n in cells), sides, conditions, start)
        for field, value in zip(fields(self), checked, strict=True):
            object.__setattr__(self, field.name, value)

    @classmethod
    def from_coordinates(cls, *axes: npt.ArrayLike, boundary: str | Sequence[str] = "no-flux") -> Box:
        """The box whose cell centres are given.

        Parameters
        ----------
        *axes : array of float, shape (N_d,)
            The cell centres along each axis, at least 2, increasing in equal steps; the box extends half a step beyond
            the first and the last. DataArrays lend their names to error messages.
        boundary : str or tuple of str, optional
            The same as for `Box`.

        Raises
        ------
        ValueError
            If an axis is not one-dimensional, not finite, or not increasing in equal steps.

        Examples
        --------
        >>> Box.from_coordinates([0.5, 1.5, 2.5]).lengths
        (3.0,)
        >>> Box.from_coordinates(*Box(64, lengths=0.1).coordinates) == Box(64, lengths=0.1)
        True
        """
        if not axes:
            raise TypeError("from_coordinates needs the cell centres along at least one axis")
        spans = [span(str(getattr(x, "name", None) or name), x) for x, name in zip(axes, names(len(axes)), strict=True)]
        shape, lengths, origin = zip(*spans, strict=True)
        return cls(shape, lengths, boundary, origin)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: arrays are computed anew in a copy, and are read-only there too."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        """The box's axes in an array of grid functions: the last ones."""
        return tuple(range(-self.ndim, 0))

    @property
    def spacing(self) -> tuple[float, ...]:
        """The cell widths h along each axis."""
        return tuple(length / n for length, n in zip(self.lengths, self.shape, strict=True))

    @cached_property
    def cell_volume(self) -> float:
        """The volume of a cell, the weight of each point in an integral."""
        return math.prod(self.spacing)

    @cached_property
    def weights(self) -> Floats:
        """The cell volume for each cell, read-only."""
        return np.broadcast_to(self.cell_volume, self.shape)

    @cached_property
    def coordinates(self) -> tuple[Floats, ...]:
        """The cell centres, origin + (i + 1/2) h, along each axis: a tuple of 1-D float64 arrays, read-only."""
        axes = zip(self.shape, self.spacing, self.origin, strict=True)
        return tuple(read_only(start + (np.arange(n) + 0.5) * h) for n, h, start in axes)

    @property
    def points(self) -> Floats:
        """The cell centres, shape (n, N_1, ..., N_n)."""
        return np.stack(np.meshgrid(*self.coordinates, indexing="ij"))

    # Names

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """The names x, y, z of the axes; x1, x2, ... if there are more than three."""
        return names(self.ndim)

    @cached_property
    def mode_dims(self) -> tuple[str, ...]:
        """The names k_x, k_y, ... of the axes of mode numbers."""
        return tuple(f"k_{axis}" for axis in self.dims)

    @property
    def mode_numbers(self) -> tuple[npt.NDArray[np.int64], ...]:
        """The mode numbers along each axis: from 0, along a fixed axis from 1."""
        return tuple(b.first + np.arange(n) for b, n in zip(self._boundaries, self.shape, strict=True))

    @property
    def coords(self) -> dict[str, Any]:
        """The cell centres and the mode numbers, as xarray takes them."""
        space = {d: (d, x, {"units": "length"}) for d, x in zip(self.dims, self.coordinates, strict=True)}
        about = {"long_name": "mode number"}
        return space | {d: (d, k, about) for d, k in zip(self.mode_dims, self.mode_numbers, strict=True)}

    @property
    def description(self) -> str:
        """The intervals and the numbers of cells, with the boundary conditions that are not the paper's."""
        return " x ".join(
            f"[{a:g}, {a + length:g}] in {n} cells" + (f", {b}" if b != "no-flux" else "")
            for n, length, b, a in zip(self.shape, self.lengths, self.boundary, self.origin, strict=True)
        )

    @property
    def discrete_eigenvalues(self) -> Floats:
        """Those of `discrete`."""
        return self.discrete.eigenvalues

    @cached_property
    def laplacian(self) -> sp.csr_array:
        """The difference Laplacian."""
        return sp.csr_array(self.discrete.stiffness / -self.cell_volume)

    # The eigenbasis

    @cached_property
    def eigenvalues(self) -> Floats:
        r"""The eigenvalues :math:`\mu_k`, float64 of the box's shape, read-only."""
        return read_only(outer_sum([part * scale for part, scale in self._squares]))

    def gaps(self, k: Mode) -> Floats:
        r"""The differences :math:`\mu_j - \mu_k` for all j, from the integers' squares: nothing cancels along an axis.

        Parameters
        ----------
        k : int or tuple of int
            The index of a mode, see `mode`.

        Returns
        -------
        numpy.ndarray, float64, the box's shape
        """
        index = self._index(k)
        gaps = outer_sum(self._gaps_along_axes(index))
        return gaps if self.ndim == 1 else without_rounding(gaps, self.eigenvalues[index])

    def _gaps_along_axes(self, index: tuple[int, ...]) -> list[Floats]:
        return [(part - part[i]) * scale for i, (part, scale) in zip(index, self._squares, strict=True)]

    def to_modes(self, u: npt.NDArray[Any]) -> Floats:
        """The coefficients c_k of grid functions, u = sum_k c_k w_k.

        Parameters
        ----------
        u : array, shape (..., N_1, ..., N_n)
            Values at the cell centres; the box's axes are the last ones.

        Returns
        -------
        numpy.ndarray, the shape of u, float64 (complex if u is)

        Examples
        --------
        >>> Box(4).to_modes(np.ones(4))
        array([1., 0., 0., 0.])
        """
        c = self._values(u, self.shape, "u")
        for axis, b in zip(self.axes, self._boundaries, strict=True):
            c = b.to_modes(c, axis)
        c *= math.sqrt(self.cell_volume)
        return c

    def to_values(self, c: npt.NDArray[Any]) -> Floats:
        """The grid functions with given coefficients, the inverse of `to_modes`.

        Parameters
        ----------
        c : array, shape (..., N_1, ..., N_n)

        Returns
        -------
        numpy.ndarray, the shape of the coefficients, float64 (complex if they are)

        Examples
        --------
        >>> Box(2).to_values(np.array([1.0, 0.0]))
        array([1., 1.])
        """
        return self._into_values(self._values(c, self.shape, "c").copy())

    to_grid = to_values

    def _into_values(self, c: npt.NDArray[Any]) -> Floats:
        """As `to_values`, of double precision coefficients that are overwritten."""
        c /= math.sqrt(self.cell_volume)
        for axis, b in zip(self.axes, self._boundaries, strict=True):
            c = b.to_values(c, axis)
        return c

    def gradient(self, c: npt.NDArray[Any]) -> Floats:
        """The gradient of the functions with given coefficients, at the cell centres.

        Parameters
        ----------
        c : array, shape (..., N_1, ..., N_n)

        Returns
        -------
        numpy.ndarray, shape (n, ..., N_1, ..., N_n), float64 (complex if c is)
            The derivative of the trigonometric polynomial along each axis.

        Examples
        --------
        >>> box = Box(64)
        >>> slope = box.gradient(box.to_modes(np.cos(np.pi * box.coordinates[0])))
        >>> bool(np.allclose(slope[0], -np.pi * np.sin(np.pi * box.coordinates[0])))
        True
        """
        c = self._values(c, self.shape, "c") / math.sqrt(self.cell_volume)
        result = np.empty((self.ndim, *c.shape), dtype=c.dtype)
        for partial, along in zip(result, self.axes, strict=True):
            b = self._boundaries[along]
            rate = b.period * math.pi / self.lengths[along]
            values = np.moveaxis(b.derivative(np.moveaxis(c, along, -1), rate), -1, along)
            for axis in self.axes:
                if axis != along:
                    values = self._boundaries[axis].to_values(values, axis)
            partial[...] = values
        return result

    @cached_property
    def discrete(self) -> DifferenceBox:
        """The same box with the second-order difference Laplacian."""
        return DifferenceBox(*(getattr(self, field.name) for field in fields(self)))

    @cached_property
    def _boundaries(self) -> tuple[Boundary, ...]:
        return tuple(BOUNDARIES[name] for name in self.boundary)

    @cached_property
    def _squares(self) -> list[tuple[Floats, float]]:
        """The exact squares of the integers m of each axis, and the eigenvalue of m = 1."""
        return [
            (b.waves(n) ** 2, b.period**2 * math.pi**2 / length**2)
            for b, n, length in zip(self._boundaries, self.shape, self.lengths, strict=True)
        ]


class DifferenceBox(Box):
    r"""A box with the second-order difference Laplacian: the same modes, with smaller eigenvalues.

    Its flow is that of the semi-discrete equation :math:`M u' = -K u`, exact in time. Get it as ``box.discrete``.

    Examples
    --------
    >>> box = Box(4).discrete
    >>> box.stiffness.toarray()[0] * box.spacing[0]
    array([ 1., -1.,  0.,  0.])
    >>> bool(np.isclose(box.eigenvalue(1), (8 * np.sin(np.pi / 8)) ** 2))
    True
    """

    @property
    def description(self) -> str:
        """The description of the box, with the name of the Laplacian."""
        return f"{super().description}, difference Laplacian"

    @property
    def discrete(self) -> DifferenceBox:
        """The box itself."""
        return self

    @cached_property
    def eigenvalues(self) -> Floats:
        r"""The eigenvalues :math:`m_k` of minus the difference Laplacian, float64 of the box's shape, read-only."""
        return read_only(outer_sum(self._products_of_sines([np.zeros(())] * self.ndim)))

    def _gaps_along_axes(self, index: tuple[int, ...]) -> list[Floats]:
        r"""The differences of eigenvalues, by :math:`\sin^2 a - \sin^2 b = \sin(a - b) \sin(a + b)`."""
        waves = zip(index, self._boundaries, self.shape, strict=True)
        return self._products_of_sines([b.waves(n)[i] for i, b, n in waves])

    def _products_of_sines(self, others: Sequence[Any]) -> list[Floats]:
        """The products (4 / h^2) sin(a - b) sin(a + b) along each axis, for the integers of a and one of b."""
        parts = []
        for b, n, h, other in zip(self._boundaries, self.shape, self.spacing, others, strict=True):
            waves, half_turn = b.waves(n), 2 * n / b.period  # sin(m pi / half_turn) vanishes at m = half_turn
            total = waves + other
            total = np.minimum(total, half_turn - total)  # so that the sine near pi is as accurate as that near 0
            unit = math.pi / half_turn
            parts.append((2 / h) ** 2 * np.sin((waves - other) * unit) * np.sin(total * unit))
        return parts

    @cached_property
    def stiffness(self) -> sp.csr_array:
        """The stiffness matrix K, sparse: minus the difference Laplacian times the cell volume."""
        total = sp.csr_array((math.prod(self.shape),) * 2)
        for axis, (b, n, h) in enumerate(zip(self._boundaries, self.shape, self.spacing, strict=True)):
            before, after = math.prod(self.shape[:axis]), math.prod(self.shape[axis + 1 :])
            one = b.matrix(n) * (self.cell_volume / h**2)
            total += sp.kron(sp.kron(sp.eye_array(before), one), sp.eye_array(after))
        return sp.csr_array(total)

    def solve(self, shift: complex, dt: float, u: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The solution of one implicit step, (shift M + dt K)^-1 M u: in 1-D in O(N), else by fast diagonalisation.

        Parameters
        ----------
        shift : float or complex
        dt : float
        u : array, shape (..., N_1, ..., N_n)

        Returns
        -------
        numpy.ndarray, the shape of u; complex if the shift or u is
        """
        if self.boundary[0] == "periodic" or self.ndim > 1:
            return super().solve(shift, dt, u)
        shift, dt = require_step(shift, dt)
        u = self._values(u, self.shape, "u")
        lower, main, upper = self._diagonals
        solver = lapack.zgtsv if np.iscomplexobj(u) or isinstance(shift, complex) else lapack.dgtsv
        columns = u.reshape(-1, *self.shape).T
        solution: npt.NDArray[Any] = solver(dt * lower, shift + dt * main, dt * upper, columns)[3]
        return solution.T.reshape(u.shape)

    @cached_property
    def _diagonals(self) -> tuple[Floats, ...]:
        return tuple(self.stiffness.diagonal(k) / self.cell_volume for k in (-1, 0, 1))

    def gradient(self, c: npt.NDArray[Any]) -> Floats:
        """The vectors of difference quotients at the 2^n corners of the cells.

        They have the shape (n, ..., 2^n, N_1, ..., N_n). Each corner has the quotients at the faces that meet there.
        """
        u = self.to_values(c)
        sides = []
        for axis, b, h in zip(self.axes, self._boundaries, self.spacing, strict=True):
            quotients = np.moveaxis(np.diff(b.pad(np.moveaxis(u, axis, -1))) / h, -1, axis)
            sides.append([np.delete(quotients, end, axis=axis) for end in (0, -1)])
        corners = [np.stack(corner) for corner in itertools.product(*sides)]
        return np.stack(corners, axis=-self.ndim - 1)

    @property
    def gradient_weights(self) -> Floats:
        """The share of a cell's volume for each of its corners."""
        return np.broadcast_to(self.cell_volume / 2**self.ndim, (2**self.ndim, *self.shape))
