r"""The boundary conditions of one axis of a box: its modes, their transforms, and the difference Laplacian.

Along an axis of length L with n cells of width h the modes are sines and cosines of wave numbers :math:`m \pi / L`
(:math:`2 m \pi / L` if periodic) with integers m, sampled at the cell centres. Each condition has its own fast
transform to orthonormal coefficients. The same samples are the eigenvectors of the second-order difference Laplacian.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy import fft

__all__ = ["BOUNDARIES", "Boundary"]

Array = npt.NDArray[Any]


class Boundary(ABC):
    """A boundary condition, the same at both ends of an axis. Arrays have the axis last."""

    first = 0
    """The first mode number."""
    period = 1
    """How many half waves the mode of m = 1 has."""

    def waves(self, n: int) -> npt.NDArray[np.float64]:
        """The integers m of the n modes, in increasing order."""
        return np.arange(self.first, self.first + n, dtype=np.float64)

    @abstractmethod
    def to_modes(self, u: Array, axis: int = -1) -> Array:
        """The orthonormal transform, as a new array."""

    @abstractmethod
    def to_values(self, c: Array, axis: int = -1) -> Array:
        """The inverse transform, which may overwrite c."""

    @abstractmethod
    def derivative(self, c: Array, rate: float) -> Array:
        """The values of the derivative; rate is the wave number of m = 1."""

    @abstractmethod
    def pad(self, u: Array) -> Array:
        """The values with one ghost cell at each end."""

    @abstractmethod
    def ends(self, n: int) -> tuple[list[float], list[int], list[int]]:
        """Entries of minus the second difference (values, rows, columns) beyond those of an axis without ends."""

    def matrix(self, n: int) -> sp.coo_array:
        """Minus the second difference: a sparse matrix with 2 on the diagonal, -1 beside it, and other ends."""
        i = np.arange(n)
        values, rows, columns = self.ends(n)
        data = np.concatenate([np.full(n, 2.0), np.full(2 * (n - 1), -1.0), values])
        at = np.concatenate([i, i[1:], i[:-1], rows]), np.concatenate([i, i[:-1], i[1:], columns])
        return sp.coo_array((data, (at[0].astype(np.int64), at[1].astype(np.int64))), shape=(n, n))


class NoFlux(Boundary):
    """No flux through the ends (Neumann): cosines, m = 0..n - 1, by the DCT-II."""

    def to_modes(self, u: Array, axis: int = -1) -> Array:
        result: Array = fft.dct(u, norm="ortho", axis=axis)
        return result

    def to_values(self, c: Array, axis: int = -1) -> Array:
        result: Array = fft.idct(c, norm="ortho", axis=axis, overwrite_x=True)
        return result

    def derivative(self, c: Array, rate: float) -> Array:
        sines = np.zeros_like(c)
        sines[..., :-1] = c[..., 1:] * (-rate * np.arange(1, c.shape[-1]))
        result: Array = fft.idst(sines, type=2, norm="ortho")
        return result

    def pad(self, u: Array) -> Array:
        return np.concatenate([u[..., :1], u, u[..., -1:]], axis=-1)

    def ends(self, n: int) -> tuple[list[float], list[int], list[int]]:
        return [-1.0, -1.0], [0, n - 1], [0, n - 1]


class Fixed(Boundary):
    """Zero at the ends (Dirichlet): sines, m = 1..n, by the DST-II."""

    first = 1

    def to_modes(self, u: Array, axis: int = -1) -> Array:
        result: Array = fft.dst(u, type=2, norm="ortho", axis=axis)
        return result

    def to_values(self, c: Array, axis: int = -1) -> Array:
        result: Array = fft.idst(c, type=2, norm="ortho", axis=axis, overwrite_x=True)
        return result

    def derivative(self, c: Array, rate: float) -> Array:
        cosines = np.zeros_like(c)  # that of m = n vanishes at the cell centres
        cosines[..., 1:] = c[..., :-1] * (rate * np.arange(1, c.shape[-1]))
        result: Array = fft.idct(cosines, norm="ortho")
        return result

    def pad(self, u: Array) -> Array:
        return np.concatenate([-u[..., :1], u, -u[..., -1:]], axis=-1)

    def ends(self, n: int) -> tuple[list[float], list[int], list[int]]:
        return [1.0, 1.0], [0, n - 1], [0, n - 1]


class Periodic(Boundary):
    """The ends are one: 1, then the cosine and the sine of m = 1, 2, ..., by the real FFT.

    If n is even, the last mode is a sine alone, as the cosine of m = n / 2 vanishes at the cell centres.
    """

    period = 2

    def waves(self, n: int) -> npt.NDArray[np.float64]:
        return np.ceil(np.arange(n, dtype=np.float64) / 2)

    def to_modes(self, u: Array, axis: int = -1) -> Array:
        if np.iscomplexobj(u):
            return self.to_modes(u.real, axis) + 1j * self.to_modes(u.imag, axis)
        u = np.moveaxis(u, axis, -1)
        n = u.shape[-1]
        cosines, sines, m = _pairs(n)
        waves = fft.rfft(u, norm="ortho") * _to_centres(n)
        c = np.empty(u.shape)
        c[..., 0] = waves[..., 0].real
        c[..., cosines] = math.sqrt(2) * waves[..., m].real
        c[..., sines] = -math.sqrt(2) * waves[..., m].imag
        if n % 2 == 0:
            c[..., -1] = -waves[..., -1].imag
        return np.moveaxis(c, -1, axis)

    def to_values(self, c: Array, axis: int = -1) -> Array:
        if np.iscomplexobj(c):
            return self.to_values(c.real, axis) + 1j * self.to_values(c.imag, axis)
        c = np.moveaxis(c, axis, -1)
        n = c.shape[-1]
        cosines, sines, m = _pairs(n)
        waves = np.zeros((*c.shape[:-1], n // 2 + 1), dtype=np.complex128)
        waves[..., 0] = c[..., 0]
        waves[..., m] = (c[..., cosines] - 1j * c[..., sines]) / math.sqrt(2)
        if n % 2 == 0:
            waves[..., -1] = -1j * c[..., -1]
        result: Array = fft.irfft(waves * _to_centres(n).conj(), n, norm="ortho")
        return np.moveaxis(result, -1, axis)

    def derivative(self, c: Array, rate: float) -> Array:
        cosines, sines, m = _pairs(c.shape[-1])
        slopes = np.zeros_like(c)  # that of the last sine, if n is even, vanishes at the cell centres
        wave_numbers = rate * np.arange(m.start, m.stop)
        slopes[..., cosines], slopes[..., sines] = wave_numbers * c[..., sines], -wave_numbers * c[..., cosines]
        return self.to_values(slopes)

    def pad(self, u: Array) -> Array:
        return np.concatenate([u[..., -1:], u, u[..., :1]], axis=-1)

    def ends(self, n: int) -> tuple[list[float], list[int], list[int]]:
        return [-1.0, -1.0], [0, n - 1], [n - 1, 0]


def _pairs(n: int) -> tuple[slice, slice, slice]:
    """The positions of paired cosines and sines among n coefficients, and of their waves in an FFT."""
    n_pairs = (n - 1) // 2
    return slice(1, 2 * n_pairs, 2), slice(2, 2 * n_pairs + 1, 2), slice(1, n_pairs + 1)


def _to_centres(n: int) -> Array:
    """The phases that make an FFT's waves, of the points 0, h, ..., those of the cell centres."""
    phases: Array = np.exp(-1j * math.pi / n * np.arange(n // 2 + 1))
    return phases


BOUNDARIES: dict[str, Boundary] = {"no-flux": NoFlux(), "periodic": Periodic(), "fixed": Fixed()}
"""The boundary conditions by name."""
