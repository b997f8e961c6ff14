r"""One-step schemes for the heat equation :math:`M u' = -K u`, with mass matrix M and stiffness matrix K.

A scheme multiplies the mode of eigenvalue m, :math:`K w = m M w`, by R(m dt) in each step. Rescaling to the norm of
u_0 commutes with such steps, so that the renormalised flow inherits the order in time. What decides where the flow ends
is the RELATIVE damping: if some higher mode is damped less than the lowest one, it wins. The schemes here have an R
that falls monotonically, whatever the step, or a bound on the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.sparse.linalg import splu

from diffmath.domains.eigenbasis import Eigenbasis, Floats

__all__ = ["SCHEMES", "Scheme"]

PRESENT = 1e-12  # of the largest amplitude: smaller amplitudes are rounding, and do not matter for where the flow ends


def laplacian(domain: Eigenbasis, u: Floats) -> Floats:
    """The discrete Laplacian :math:`-M^{-1} K u` of grid functions, shape (..., ``*shape``).

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> laplacian(Box(4, lengths=4.0).discrete, np.array([0.0, 0.0, 1.0, 0.0])).tolist()
    [-0.0, 1.0, -2.0, 1.0]
    """
    columns = u.reshape(-1, math.prod(domain.shape)).T
    result: Floats = _inverse_mass(domain)(domain.stiffness @ columns).T.reshape(u.shape)
    return -result


@lru_cache(maxsize=4)
def _inverse_mass(domain: Eigenbasis) -> Callable[[Floats], Floats]:
    """The product with M^-1, of columns: a division where M is diagonal, else by its sparse factors."""
    mass = domain.mass
    diagonal = mass.diagonal()
    if mass.nnz <= diagonal.size:
        return lambda columns: columns / diagonal[:, None]
    solve: Callable[[Floats], Floats] = splu(mass.tocsc()).solve
    return solve


def _euler(domain: Eigenbasis, u: Floats, dt: float) -> Floats:
    return u + dt * laplacian(domain, u)


def _rk4(domain: Eigenbasis, u: Floats, dt: float) -> Floats:
    v = u
    for i in (4, 3, 2, 1):  # Horner: for a linear equation, all Runge-Kutta schemes of 4 stages and order 4 agree
        v = u + dt / i * laplacian(domain, v)
    return v


def _backward_euler(domain: Eigenbasis, u: Floats, dt: float) -> Floats:
    return domain.solve(1.0, dt, u)


def _pade02(domain: Eigenbasis, u: Floats, dt: float) -> Floats:
    # Partial fractions: 1 + z + z^2 / 2 = (z + 1 - i)(z + 1 + i) / 2, so that R(z) = 2 Im 1 / (z + 1 - i).
    return 2 * domain.solve(1 - 1j, dt, u).imag


def _crank_nicolson(domain: Eigenbasis, u: Floats, dt: float) -> Floats:
    return 2 * domain.solve(1.0, dt / 2, u) - u


def _taylor(z: Any) -> Any:
    return 1 - z * (1 - z / 2 * (1 - z / 3 * (1 - z / 4)))


def _rk4_bound(m_1: float, m_N: float) -> float:
    """R falls until z = 1.596, then rises, through 1 at z = 2.785: at m_N it meets its value at m_1 in between."""
    return float(brentq(lambda z: _taylor(z) - _taylor(z * (m_1 / m_N)), 1.59, 2.8)) / m_N


def _unbounded(m_1: float, m_N: float) -> float:
    return math.inf


@dataclass(frozen=True)
class Scheme:
    r"""A one-step scheme for the heat equation.

    Attributes
    ----------
    name : str
    order : int
        The order in dt.
    step : callable
        One step: a domain, grid functions of shape (..., ``*shape``) and dt -> the grid functions one step later.
        Explicit schemes multiply by :math:`M^{-1} K`, implicit ones call ``domain.solve``.
    amplification : callable
        R(z): a step multiplies the mode of eigenvalue m by R(m dt).
    bound : callable
        m_1, m_N -> the dt, perhaps infinite, from which on the lowest mode, of eigenvalue m_1, loses to the highest, of
        eigenvalue m_N: where \|R(m_N dt)\| = R(m_1 dt).

    Examples
    --------
    >>> SCHEMES["backward-euler"].amplification(1.0)
    0.5
    """

    name: str
    order: int
    step: Callable[[Eigenbasis, Floats, float], Floats]
    amplification: Callable[[Any], Any]
    bound: Callable[[float, float], float] = _unbounded

    def bound_on(self, domain: Eigenbasis, u: Floats | None = None) -> float:
        """The bound on dt on a domain.

        Parameters
        ----------
        domain : Eigenbasis
        u : array of float64, shape (..., ``*shape``), optional
            Grid functions: the bound is then that of the lowest mode that one of them lacks least, beyond rounding.

        Returns
        -------
        float
            Infinite for monotone schemes.

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> round(SCHEMES["euler"].bound_on(Box(shape=(2,)).discrete), 12)  # one mode, of eigenvalue 8
        0.125
        """
        m = domain.eigenvalues.ravel()
        lowest = float(m[m > 0].min())
        if u is not None:
            c = np.abs(domain.to_modes(u)).reshape(-1, m.size) * (m > 0)
            present = c > PRESENT * c.max(axis=1, keepdims=True)
            lowest = float(np.where(present, m, np.inf).min(axis=1).max())
        return self.bound(lowest, domain.highest_eigenvalue)


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("euler", 1, _euler, lambda z: 1 - z, lambda m_1, m_N: 2 / (m_1 + m_N)),
        Scheme("rk4", 4, _rk4, _taylor, _rk4_bound),
        Scheme("backward-euler", 1, _backward_euler, lambda z: 1 / (1 + z)),
        Scheme("pade02", 2, _pade02, lambda z: 1 / (1 + z + z * z / 2)),
        Scheme(
            "crank-nicolson",
            2,
            _crank_nicolson,
            lambda z: (1 - z / 2) / (1 + z / 2),
            lambda m_1, m_N: 2 / (math.sqrt(m_1) * math.sqrt(m_N)),
        ),
    )
}
"""The one-step schemes by name."""
