r"""What the heat flow needs of a domain: the eigenpairs of its Laplacian, and integrals.

On any domain, with any boundary conditions that make :math:`-\Delta` symmetric and not negative, there are eigenvalues
and eigenfunctions, orthonormal in the inner product of the domain,

.. math:: -\Delta w_k = \mu_k w_k, \qquad \int w_j w_k\, dx = \delta_{jk}, \qquad u = \sum_k c_k w_k ,

and every function of the Laplacian acts on the coefficients alone. `Eigenbasis` says so in code. A new domain derives
from it, supplies what is abstract, and is held to the laws by one line of test, ``laws.eigenbasis(domain)``.
"""

from __future__ import annotations

import cmath
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from diffmath._arguments import ReadOnly, number_array, require_callable, require_count

__all__ = ["Eigenbasis", "Floats", "Mode"]

ROUNDING = 8 * float(np.finfo(np.float64).eps)

Floats = npt.NDArray[np.float64]
Mode = int | Sequence[int]
"""A mode number: an int on domains with one axis of modes, a tuple of ints on others."""


class Eigenbasis(ReadOnly, ABC):
    """A domain with the eigenpairs of its Laplacian.

    Grid functions are arrays of shape (..., ``*shape``), coefficients arrays of shape (..., ``*mode_shape``), both
    float64; any axes before the domain's own are a batch.
    """

    shape: tuple[int, ...]
    """The shape of grid functions."""

    @property
    def mode_shape(self) -> tuple[int, ...]:
        """The shape of arrays of coefficients; that of grid functions unless the basis is truncated."""
        return self.shape

    @property
    @abstractmethod
    def eigenvalues(self) -> Floats:
        r"""The eigenvalues :math:`\mu_k \ge 0`, of shape ``mode_shape``, read-only."""

    @property
    @abstractmethod
    def weights(self) -> Floats:
        """The weights of an integral, of shape ``shape``: the integral of u is ``(weights * u).sum()``."""

    @abstractmethod
    def to_modes(self, u: npt.NDArray[Any]) -> Floats:
        """The coefficients c_k of grid functions, u = sum_k c_k w_k.

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> Box(4).to_modes(np.ones(4))
        array([1., 0., 0., 0.])
        """

    @abstractmethod
    def to_values(self, c: npt.NDArray[Any]) -> Floats:
        """The grid functions with given coefficients.

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> Box(2).to_values(np.array([1.0, 0.0]))
        array([1., 1.])
        """

    def _into_values(self, c: npt.NDArray[Any]) -> Floats:
        """Do the same as `to_values`, with coefficients that may be overwritten."""
        return self.to_values(c)

    @abstractmethod
    def gradient(self, c: npt.NDArray[Any]) -> Floats:
        """The gradients of the functions with given coefficients, of shape (n, ..., points), at quadrature points.

        Examples
        --------
        >>> from diffmath.domains import Mask
        >>> mask = Mask(np.ones((30, 20), dtype=bool), n_modes=10)
        >>> mask.gradient(mask.to_modes(np.ones(600))).shape  # at the four corners of each cell
        (2, 4, 600)
        """

    @property
    def gradient_weights(self) -> Floats:
        """The weights of an integral over the points of `gradient`; those of grid functions unless overridden."""
        return self.weights

    @property
    @abstractmethod
    def dims(self) -> tuple[str, ...]:
        """The names of the axes of grid functions."""

    @property
    @abstractmethod
    def mode_dims(self) -> tuple[str, ...]:
        """The names of the axes of coefficients."""

    @property
    @abstractmethod
    def coords(self) -> dict[str, Any]:
        """The coordinates of grid functions and of coefficients, as xarray takes them."""

    @property
    @abstractmethod
    def description(self) -> str:
        """The domain in a few words."""

    @property
    def points(self) -> Floats:
        """The coordinates of the points of grid functions, of shape (n, ``*shape``); not all domains have any."""
        raise TypeError(f"{type(self).__name__} has no coordinates")

    @property
    def topology(self) -> dict[str, Any]:
        """What a file needs beside coordinates to show grid functions, as variables of xarray; nothing on grids."""
        return {}

    @property
    def eigenvalue_errors(self) -> Floats | None:
        """Estimates of the errors of the eigenvalues beside those of the shape that is meant; None where exact."""
        return None

    # What follows from these

    @property
    def is_complete(self) -> bool:
        """Whether the modes span all grid functions."""
        return True

    def _resolving(self, u: Floats, times: Floats) -> Self:
        """The eigenbasis on which the heat flow of a batch of grid functions is exact at times: itself if complete."""
        return self

    def gaps(self, k: Mode) -> Floats:
        r"""The differences :math:`\mu_j - \mu_k` for all j, 0 between eigenvalues that are equal but for rounding.

        Domains whose eigenvalues are known in closed form override this, so that nothing cancels.

        Parameters
        ----------
        k : int or tuple of int
            The index of a mode, see `mode`.

        Returns
        -------
        numpy.ndarray, float64, shape ``mode_shape``

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> Box(4).gaps(1) / np.pi**2
        array([-1.,  0.,  3.,  8.])
        """
        index = self._index(k)
        return without_rounding(self.eigenvalues - self.eigenvalues[index], self.eigenvalues[index])

    @property
    def mode_numbers(self) -> tuple[npt.NDArray[np.int64], ...]:
        """The mode numbers along each axis of coefficients: consecutive integers, from 0 unless overridden."""
        return tuple(np.arange(n) for n in self.mode_shape)

    def mode(self, k: Mode) -> tuple[int, ...]:
        """The index of a mode number: where its coefficient stands in an array of shape ``mode_shape``.

        Raises
        ------
        TypeError
            If k is not one integer for each axis.
        ValueError
            If the domain has no such mode.

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> Box(4).mode(3), Box(4, boundary="fixed").mode(1)
        ((3,), (0,))
        """
        numbers = tuple(k) if isinstance(k, Sequence) else (k,)
        n_axes = len(self.mode_shape)
        if len(numbers) != n_axes or any(isinstance(i, bool) or not isinstance(i, (int, np.integer)) for i in numbers):
            raise TypeError(f"a mode number on this domain is {n_axes} integer(s); got {k!r}")
        known = self.mode_numbers
        if any(not along[0] <= i <= along[-1] for i, along in zip(numbers, known, strict=True)):
            ranges = ", ".join(f"{along[0]}..{along[-1]}" for along in known)
            raise ValueError(f"mode numbers on this domain lie in {ranges}; got {k!r}")
        return tuple(int(i - along[0]) for i, along in zip(numbers, known, strict=True))

    def eigenvalue(self, k: Mode) -> float:
        r"""The eigenvalue :math:`\mu_k` of one mode number.

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> Box(4).eigenvalue(2) == 4 * np.pi**2
        True
        """
        return float(self.eigenvalues[self.mode(k)])

    def eigenfunction(self, k: Mode) -> Floats:
        """The eigenfunction w_k on the grid, of unit L2 norm.

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> Box(4).eigenfunction(0)
        array([1., 1., 1., 1.])
        """
        c = np.zeros(self.mode_shape)
        c[self.mode(k)] = 1.0
        return self.to_values(c)

    @cached_property
    def null_modes(self) -> npt.NDArray[np.bool_]:
        """Which modes have the eigenvalue 0, on which the heat flow does nothing: a mask of shape ``mode_shape``."""
        return read_only(self.eigenvalues == 0)

    @cached_property
    def null_positions(self) -> npt.NDArray[np.intp]:
        """The positions of null modes among flattened coefficients."""
        return read_only(np.flatnonzero(self.null_modes))

    @cached_property
    def lowest_mode(self) -> tuple[int, ...]:
        """The index of the lowest eigenvalue that is not zero."""
        flat = int(np.where(self.null_modes, np.inf, self.eigenvalues).argmin())
        return tuple(int(i) for i in np.unravel_index(flat, self.mode_shape))

    @cached_property
    def lowest_eigenvalue(self) -> float:
        """The lowest eigenvalue that is not zero."""
        return float(self.eigenvalues[self.lowest_mode])

    @cached_property
    def slowest(self) -> tuple[int, Floats]:
        """The position of the lowest mode among flattened coefficients, and its `gaps`, flattened."""
        position = int(np.ravel_multi_index(self.lowest_mode, self.mode_shape))
        return position, read_only(self.gaps(self.lowest_mode).ravel())

    @cached_property
    def highest_eigenvalue(self) -> float:
        """The highest eigenvalue, or a bound on it that is little higher."""
        return float(self.eigenvalues.max())

    @cached_property
    def relative_eigenvalues(self) -> Floats:
        """The eigenvalues, flattened, in units of the lowest that is not zero: their powers do not overflow."""
        return read_only(self.eigenvalues.ravel() / self.lowest_eigenvalue)

    def apply(self, f: Callable[[Floats], npt.NDArray[Any]], u: npt.NDArray[Any]) -> Floats:
        r"""Apply a function of the Laplacian, :math:`f(-\Delta)\, u = \sum_k f(\mu_k)\, c_k w_k`.

        Parameters
        ----------
        f : callable
            The eigenvalues -> an array of their shape.
        u : array, shape (..., ``*shape``)

        Returns
        -------
        numpy.ndarray, the shape of u

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> box = Box(64)
        >>> w = box.eigenfunction(2)
        >>> bool(np.allclose(box.apply(lambda mu: np.exp(-0.1 * mu), w), np.exp(-0.4 * np.pi**2) * w))
        True
        """
        require_callable("f", f, "f(eigenvalues)")
        factors = number_array(f(self.eigenvalues), "f(eigenvalues)", "bfiuc")
        if factors.shape not in ((), self.eigenvalues.shape):
            shape = self.eigenvalues.shape
            raise ValueError(f"f(eigenvalues) must have their shape {shape}; its shape is {factors.shape}")
        return self.to_values(factors * self.to_modes(u))

    # For stepping

    @property
    def discrete(self) -> Eigenbasis:
        """The domain with the Laplacian of a discretisation in space, on which schemes step: itself unless overridden.

        Where its `stiffness` is not sparse, the integrator "solve_ivp" is not available.
        """
        return self

    @cached_property
    def mass(self) -> sp.csr_array:
        """The mass matrix M, sparse, for flattened grid functions: the inner product of u and v is ``u @ M @ v``."""
        return sp.csr_array(sp.diags_array(self.weights.ravel()))

    @property
    def stiffness(self) -> Any:
        r"""The stiffness matrix K for flattened grid functions: ``u @ K @ u`` is the integral of :math:`|\nabla u|^2`.

        A sparse array, or on spectral domains a `scipy.sparse.linalg.LinearOperator`.
        """

        def product(u: npt.NDArray[Any]) -> Floats:
            return self.weights.ravel() * self.apply(lambda mu: mu, u.reshape(self.shape)).ravel()

        n = math.prod(self.shape)
        return LinearOperator((n, n), matvec=product, dtype=np.float64)

    def solve(self, shift: complex, dt: float, u: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The solution of one implicit step, (shift M + dt K)^-1 M u, for real or complex shifts.

        Parameters
        ----------
        shift : float or complex
        dt : float
        u : array, shape (..., ``*shape``)

        Returns
        -------
        numpy.ndarray, the shape of u; complex if the shift or u is

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> w = Box(4).eigenfunction(1)
        >>> bool(np.allclose(Box(4).solve(1.0, 0.1, w), w / (1 + 0.1 * np.pi**2)))
        True
        """
        shift, dt = require_step(shift, dt)
        return self.apply(lambda mu: 1 / (shift + dt * mu), u)

    def _index(self, k: Mode) -> tuple[int, ...]:
        """The index of a mode as a tuple, once it is known to be in range."""
        index = tuple(k) if isinstance(k, Sequence) and not isinstance(k, str) else (k,)
        if len(index) != len(self.mode_shape):
            raise ValueError(f"k must have {len(self.mode_shape)} entries; it is {k!r}")
        return tuple(require_count("k", i, 0, n - 1) for i, n in zip(index, self.mode_shape, strict=True))

    def _in_order(self, values: Any, name: str) -> Any:
        """A DataArray of functions u or coefficients c, with the axes that have the domain's names in its order."""
        own, other = (self.dims, self.mode_dims) if name == "u" else (self.mode_dims, self.dims)
        if wrong := [d for d in values.dims if d in other]:
            raise ValueError(f"{name} must have the axes {own}; it has the axis {wrong[0]!r}")
        return values.transpose(..., *own) if set(own) <= set(values.dims) else values

    def _values(self, values: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
        """The values in double precision, once their last axes are known to be the domain's."""
        if hasattr(values, "dims"):
            values = self._in_order(values, name)
        values = number_array(values, name, "fiuc")
        if values.shape[-len(shape) :] != shape:
            raise ValueError(
                f"{name} must have the domain's shape {shape} in its last axes; its shape is {values.shape}"
            )
        if values.dtype not in (np.float64, np.complex128):
            values = values.astype(np.result_type(values, np.float64))
        return values


def require_step(shift: complex, dt: float) -> tuple[complex, float]:
    """The finite numbers of an implicit step: a real or complex shift, and a real time step."""
    checked = []
    for name, value, kinds in (("shift", shift, "fiuc"), ("dt", dt, "fiu")):
        if not isinstance(value, float):
            array = number_array(value, name, kinds)
            if array.ndim:
                raise TypeError(f"{name} must be a number; it is {value!r}")
            value = array.item()
        if not cmath.isfinite(value):
            raise ValueError(f"{name} must be finite; it is {value}")
        checked.append(value)
    return checked[0], checked[1]


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array itself, which can no longer be written to."""
    array.setflags(write=False)
    return array


def without_rounding(gaps: npt.NDArray[Any], eigenvalue: float) -> Floats:
    """The gaps, with 0 for those that are rounding errors of an eigenvalue, so that multiple eigenvalues are equal."""
    gaps[np.abs(gaps) <= ROUNDING * eigenvalue] = 0.0
    return gaps
