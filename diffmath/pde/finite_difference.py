r"""The renormalised heat flow by finite differences of second order.

On cell-centred points the Laplacian becomes the matrix L of `Box.laplacian`, with :math:`M = -L`, and eq. (22) becomes

.. math:: u' = L u + \lambda(u)\, u, \qquad N(u) = N(u_0), \qquad
          \lambda(u) = -\frac{\mathrm{d}}{\mathrm{d}h} \log N(u + h\, L u) .

The norm and the multiplier are made of the same L, :math:`N(u)^2 = \langle u, M u \rangle` for the paper's (21): with
another difference quotient for the gradient, the flow of (22) would not conserve it.

A linear step of the heat equation multiplies the mode of eigenvalue m by R(m dt). It is followed by a rescaling to
N(u_0), which commutes with the linear steps, so that the order in time is that of the heat scheme. What decides where
the flow ends is the RELATIVE damping: if some higher mode is damped less than the lowest one, it wins. The schemes here
have an R that falls monotonically, whatever the step, or a bound on the step, beyond which they refuse to go.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.integrate import solve_ivp
from scipy.linalg import lapack
from scipy.linalg import norm as euclidean  # unlike numpy's, neither over- nor underflows
from scipy.optimize import brentq

from diffmath.domains.box import Box, Floats
from diffmath.pde import functionals
from diffmath.pde.functionals import Preserve

__all__ = ["INTEGRATORS", "SCHEMES", "IntegrationError", "Scheme", "discrete_multiplier", "discrete_norm", "integrate"]

THETA = 1 / 16
FARTHEST = 1e4  # the largest m_1 dt: there, even the lowest mode is damped by 1e8, with rounding not far below it
SAFE = 0.5  # of a scheme's bound: there, the explicit schemes still damp every mode more than the modes below it


PRESENT = 1e-12  # of the largest amplitude: what is less is rounding, and has no say in where the flow should end


class IntegrationError(RuntimeError):
    """A solver stopped before the last of the times."""


# What is preserved


def discrete_norm(domain: Box, u: Floats, preserve: Preserve = "gradient") -> float:
    r"""N(u), the norm on the grid that the flow preserves.

    Parameters
    ----------
    domain : Box
    u : array of float64, the domain's shape
    preserve : {"gradient", "value", "laplacian", "total_variation"} or callable
        The first three are :math:`N(u)^2 = \langle u, M^s u \rangle` with s = 1, 0, 2, where the inner product is the
        sum over the cells times their volume. The total variation is the sum over the cells of :math:`|\nabla u|`, in
        each cell the mean over its corners of the length of the vector of the difference quotients at the faces that
        meet there, zero at the boundary: in 1-D, :math:`\sum_i |u_{i+1} - u_i|`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If N(u) is not positive and finite, as for a constant u unless the value is preserved.
    """
    functionals.require_preserve(preserve)
    v, exponent = _scaled(u)
    return math.ldexp(functionals.norm(_functional(domain, preserve), v), exponent)


def discrete_multiplier(domain: Box, u: Floats, preserve: Preserve = "gradient") -> float:
    r""":math:`\lambda(u) = -\frac{\mathrm{d}}{\mathrm{d}h} \log N(u + h\, L u)`, with which N(u) does not change.

    For the first three functionals it is :math:`\langle u, M^{s+1} u \rangle / \langle u, M^s u \rangle`, for s = 1
    the discrete :math:`\int (\Delta u)^2 / \int |\nabla u|^2` of eq. (22); for the others see
    `functionals.logarithmic_derivative`.

    Parameters
    ----------
    domain : Box
    u : array of float64, the domain's shape
    preserve : {"gradient", "value", "laplacian", "total_variation"} or callable
        As in `discrete_norm`.

    Returns
    -------
    float
        Per unit of time; 0 for a constant u.
    """
    functionals.require_preserve(preserve)
    v = _scaled(u)[0]
    Lv, exponent = _scaled(_laplacian(domain, v))
    if not Lv.any():
        return 0.0
    if (s := functionals.power_of_mu(preserve)) is not None:
        return (_root_of_form(domain, v, s + 1) / _root_of_form(domain, v, s)) ** 2
    return -math.ldexp(functionals.logarithmic_derivative(_functional(domain, preserve), v, Lv), exponent)


def _functional(domain: Box, preserve: Preserve) -> functionals.Functional:
    """N as a function of u alone."""
    if callable(preserve):
        return preserve
    if preserve == "total_variation":
        return functionals.TotalVariation(partial(_gradients, domain), domain.cell_volume / 2**domain.ndim)
    s, root = functionals.POWERS[str(preserve)], math.sqrt(domain.cell_volume)
    return lambda u: root * _root_of_form(domain, u, s)


def _root_of_form(domain: Box, u: Floats, s: int) -> float:
    """The root of <u, M^s u> / cell volume; odd powers by summation by parts, as -<u, L u> cancels if u has a mean."""
    for _ in range(s // 2):
        u = _laplacian(domain, u)
    if s % 2 == 0:
        return float(euclidean(u.ravel(), check_finite=False))
    quotients = [np.diff(u, axis=axis) / h for axis, h in enumerate(domain.spacing)]
    return math.hypot(*(euclidean(q.ravel(), check_finite=False) for q in quotients))


def _gradients(domain: Box, u: Floats) -> Floats:
    """The vectors of difference quotients at the 2^n corners of the cells, shape (n, 2^n, N_1, ..., N_n)."""
    sides = []
    for axis, h in enumerate(domain.spacing):
        padded = np.pad(u, [(int(a == axis),) * 2 for a in range(domain.ndim)], mode="edge")
        quotients = np.diff(padded, axis=axis) / h
        sides.append([np.delete(quotients, end, axis=axis) for end in (0, -1)])
    return np.array(list(itertools.product(*sides))).swapaxes(0, 1)


def _laplacian(domain: Box, u: Floats) -> Floats:
    result: Floats = (domain.laplacian @ u.ravel()).reshape(u.shape)
    return result


def _scaled(u: Floats) -> tuple[Floats, int]:
    """The pair v, e with u = v 2^e and max |v| in [1/2, 1): exactly, as the factor is a power of two."""
    exponent = int(np.frexp(np.abs(u).max())[1])
    return np.ldexp(u, -exponent), exponent


# Schemes for the heat equation


class _Heat:
    """What the schemes need of u' = L u on a domain."""

    def __init__(self, domain: Box) -> None:
        self.domain = domain
        self.lower, self.main, self.upper = (-domain.laplacian.diagonal(k) for k in (-1, 0, 1))  # of M = -L, in 1-D

    def laplacian(self, u: Floats) -> Floats:
        return _laplacian(self.domain, u)

    def solve(self, shift: complex, dt: float, u: Floats) -> npt.NDArray[Any]:
        """(shift I + dt M)^-1 u, in 1-D: by LAPACK's tridiagonal solver, without solve_banded's overhead on top."""
        solver = lapack.zgtsv if isinstance(shift, complex) else lapack.dgtsv
        solution: npt.NDArray[Any] = solver(dt * self.lower, shift + dt * self.main, dt * self.upper, u)[3]
        return solution


def _euler(heat: _Heat, u: Floats, dt: float) -> Floats:
    return u + dt * heat.laplacian(u)


def _rk4(heat: _Heat, u: Floats, dt: float) -> Floats:
    v = u
    for i in (4, 3, 2, 1):  # Horner: for a linear equation, all Runge-Kutta schemes of 4 stages and order 4 agree
        v = u + dt / i * heat.laplacian(v)
    return v


def _backward_euler(heat: _Heat, u: Floats, dt: float) -> Floats:
    return heat.solve(1, dt, u)


def _pade02(heat: _Heat, u: Floats, dt: float) -> Floats:
    # Partial fractions: 1 + z + z^2 / 2 = (z + 1 - i)(z + 1 + i) / 2, so that R(z) = 2 Im 1 / (z + 1 - i).
    return 2 * heat.solve(1 - 1j, dt, u).imag


def _crank_nicolson(heat: _Heat, u: Floats, dt: float) -> Floats:
    return 2 * heat.solve(1, dt / 2, u) - u


def _taylor(z: Any) -> Any:
    return 1 - z * (1 - z / 2 * (1 - z / 3 * (1 - z / 4)))


def _rk4_bound(m_1: float, m_N: float) -> float:
    """R falls until z = 1.596, then rises, through 1 at z = 2.785: at m_N it meets its value at m_1 in between."""
    return float(brentq(lambda z: _taylor(z) - _taylor(z * (m_1 / m_N)), 1.59, 2.8)) / m_N


def _unbounded(m_1: float, m_N: float) -> float:
    return math.inf


@dataclass(frozen=True)
class Scheme:
    r"""A one-step scheme for the heat equation u' = L u.

    Attributes
    ----------
    name : str
    order : int
        The order in dt.
    implicit : bool
    step : callable
        The step: a `_Heat`, u and dt -> u; for an implicit scheme in 1-D, see `on`.
    amplification : callable
        R(z): the step multiplies the mode of eigenvalue m of -L by R(m dt).
    bound : callable
        m_1, m_N -> the dt, perhaps infinite, from which on the lowest mode, of eigenvalue m_1, loses to the highest, of
        eigenvalue m_N: where \|R(m_N dt)\| = R(m_1 dt).
    """

    name: str
    order: int
    implicit: bool
    step: Callable[[_Heat, Floats, float], Floats]
    amplification: Callable[[Any], Any]
    bound: Callable[[float, float], float] = _unbounded

    def on(self, domain: Box) -> Callable[[Floats, float], Floats]:
        """The step on a domain: u, dt -> u. Implicit ones cost O(N) in 1-D, two DCTs in several dimensions."""
        if self.implicit and domain.ndim > 1:  # fast diagonalisation
            m = domain.discrete_eigenvalues
            return lambda u, dt: domain.to_grid(self.amplification(m * dt) * domain.to_modes(u))
        heat = _Heat(domain)
        return lambda u, dt: self.step(heat, u, dt)

    def bound_on(self, domain: Box, u: Floats | None = None) -> float:
        """The bound on dt on a domain; with u, for the lowest mode that this grid function has, beyond rounding."""
        m = domain.discrete_eigenvalues.ravel()[1:]  # without the constant mode
        present = m
        if u is not None:
            c = np.abs(domain.to_modes(u).ravel()[1:])
            present = m[c > PRESENT * c.max()]
        return self.bound(float(present.min()), float(m.max()))


def _lowest(domain: Box) -> float:
    """The lowest eigenvalue m_1 but that of the constants, 0."""
    return float(domain.discrete_eigenvalues.ravel()[1:].min())


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("euler", 1, False, _euler, lambda z: 1 - z, lambda m_1, m_N: 2 / (m_1 + m_N)),
        Scheme("rk4", 4, False, _rk4, _taylor, _rk4_bound),
        Scheme("backward-euler", 1, True, _backward_euler, lambda z: 1 / (1 + z)),
        Scheme("pade02", 2, True, _pade02, lambda z: 1 / (1 + z + z * z / 2)),
        Scheme(
            "crank-nicolson",
            2,
            True,
            _crank_nicolson,
            lambda z: (1 - z / 2) / (1 + z / 2),
            lambda m_1, m_N: 2 / (math.sqrt(m_1) * math.sqrt(m_N)),
        ),
    )
}
"""The one-step schemes by name."""

INTEGRATORS = (*SCHEMES, "solve_ivp")
"""The names that `integrate` knows."""


# The flow


def integrate(
    domain: Box,
    u_0: Floats,
    times: npt.ArrayLike,
    *,
    preserve: Preserve = "gradient",
    integrator: str = "pade02",
    dt: float | None = None,
    theta: float | None = None,
    mean: Literal["project", "keep"] = "project",
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> tuple[Floats, dict[str, Any]]:
    r"""Solve the discrete flow, eq. (22) on the grid, from one initial condition.

    Parameters
    ----------
    domain : Box
    u_0 : array of float64, the domain's shape
        Finite and not constant, which the caller has checked.
    times : array of float, shape (n,)
        Not negative, in any order; each is the end of a step, or interpolated by "solve_ivp".
    preserve : {"gradient", "value", "laplacian", "total_variation"} or callable
        What is kept, see `discrete_norm`.
    integrator : str
        A linear step of the heat equation, then the rescaling: "euler" and "rk4" are explicit, of order 1 and 4, with a
        bound on dt; "crank-nicolson" is of order 2, and has a bound too; "backward-euler" and "pade02",
        :math:`R(z) = 1 / (1 + z + z^2/2)`, are of order 1 and 2 and damp higher modes more whatever dt is, up to
        1e4 / m_1, where rounding would win.
        "solve_ivp" is the independent reference: scipy's BDF applied to the nonlinear, nonlocal equation as it stands,
        with the energy of the current u for C: they are one while (21) holds, but with the number C, (21) would repel.
    dt : float, optional
        The step; each interval between two of the times is divided into equal steps of this length or less.
    theta : float, optional
        The alternative, with 1/16 the default: steps of :math:`\theta / \lambda(t)`, short where the solution is rough.
        It is the multiplier of (21), whatever is preserved, as the heat flow beneath is the same. Where a scheme has a
        bound, no step is longer than half of it.
    mean : {"project", "keep"}
        "project" removes the mean of u_0, and after each step that of the rounding errors, which would grow like
        :math:`\exp \int \lambda`. "keep" adds the mean of u_0 with that growth.
    rtol, atol : float
        Tolerances of "solve_ivp", the absolute one in units of the power of two next above max \|u_0\|.

    Returns
    -------
    states : array of float64, shape (n, ...)
        The solution at the times, in their order.
    info : dict
        Of str, int and float: the integrator; n_steps in all, with dt or theta, and dt_bound if there is one; for
        "solve_ivp" n_evaluations, rtol and atol.

    Raises
    ------
    ValueError
        If a time is negative or not finite, a name is unknown, dt or theta is not positive and finite, both are given,
        or one to "solve_ivp", dt reaches the scheme's bound, or the functional is not positive, finite, homogeneous.
    OverflowError
        If the solution exceeds float64, as a mean that is kept will.
    IntegrationError
        If "solve_ivp" gives up.
    """
    options: dict[str, Any] = {"preserve": preserve, "integrator": integrator, "dt": dt, "theta": theta, "mean": mean}
    states, means, info = integrate_apart(domain, u_0, times, **options, rtol=rtol, atol=atol)
    with np.errstate(over="ignore", invalid="ignore"):
        result = states + means.reshape(-1, *[1] * domain.ndim)
    for t, state in zip(np.asarray(times, dtype=np.float64).ravel(), result, strict=True):
        if not np.isfinite(state).all():
            raise OverflowError(
                f"the solution exceeds float64 by time {t:g}" + '; use mean="project"' * (mean == "keep")
            )
    return result, info


def integrate_apart(
    domain: Box,
    u_0: Floats,
    times: npt.ArrayLike,
    *,
    preserve: Preserve = "gradient",
    integrator: str = "pade02",
    dt: float | None = None,
    theta: float | None = None,
    mean: Literal["project", "keep"] = "project",
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> tuple[Floats, Floats, dict[str, Any]]:
    """As `integrate`, with the states' means apart, shape (n,), as they may be much larger than the rest."""
    functionals.require_preserve(preserve)
    if integrator not in INTEGRATORS:
        raise ValueError(f"integrator must be one of {', '.join(INTEGRATORS)}; it is {integrator!r}")
    if mean not in ("project", "keep"):
        raise ValueError(f'mean must be "project" or "keep"; it is {mean!r}')
    moments, order = np.unique(np.asarray(times, dtype=np.float64), return_inverse=True)
    if not np.isfinite(moments).all():
        raise ValueError(f"times must be finite; they are {times!r}")
    if (moments < 0).any():
        raise ValueError(f"finite differences go forward in time; the earliest of the times is {moments[0]:g}")
    for name, value in (("dt", dt), ("theta", theta)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite; it is {value}")
    if dt is not None and theta is not None:
        raise ValueError(f"give dt or theta, not both; they are {dt} and {theta}")

    # As u -> a u commutes with the flow, u_0 is scaled to size 1, and the scale given back at the end. The mean is a
    # number apart: it takes no part but to grow, and would drown the rest.
    u, exponent = _scaled(u_0)
    average = float(u.mean())
    start = _State(_without_mean(u), average if mean == "keep" else 0.0)
    if callable(preserve):
        functionals.require_homogeneous(preserve, start.u + start.mean)
    if integrator == "solve_ivp":
        if dt is not None or theta is not None:
            raise ValueError('"solve_ivp" chooses its own steps, by rtol and atol; dt and theta are for the others')
        states, info = _solve_ivp(domain, start, moments, preserve, rtol, atol)
    else:
        states, info = _march(domain, start, moments, preserve, SCHEMES[integrator], dt, theta)
    with np.errstate(over="ignore"):
        parts = np.array([np.ldexp(s.u, exponent) for s in states]).reshape(-1, *domain.shape)
        means = np.array([np.ldexp(s.mean, exponent) for s in states])
    return parts[order], means[order], {"integrator": integrator} | info


class _State(NamedTuple):
    """The solution: a grid function without mean, and its mean."""

    u: Floats
    mean: float

    def seen_by(self, preserve: Preserve) -> Floats:
        """What the functional is taken of: to the gradient and its like, the mean does not matter."""
        return self.u + self.mean if callable(preserve) or preserve == "value" else self.u


def _without_mean(u: Floats) -> Floats:
    result: Floats = u - u.mean()
    return result


def _march(
    domain: Box,
    state: _State,
    moments: Floats,
    preserve: Preserve,
    scheme: Scheme,
    dt: float | None,
    theta: float | None,
) -> tuple[list[_State], dict[str, Any]]:
    """The states at the moments, which increase, by heat steps and rescaling."""
    bound = scheme.bound_on(domain, state.u)
    limit = min(bound, FARTHEST / _lowest(domain))
    if dt is not None and dt >= limit:
        raise ValueError(
            f'"{scheme.name}" needs dt < {limit:.6g} on this grid, else the lowest mode loses to '
            f"{'the highest' if limit == bound else 'rounding'}; dt = {dt:.6g}"
        )
    heat_step = scheme.on(domain)
    N_0 = discrete_norm(domain, state.seen_by(preserve), preserve)

    def advance(state: _State, h: float) -> _State:
        v = _State(_without_mean(heat_step(state.u, h)), state.mean)
        factor = N_0 / discrete_norm(domain, v.seen_by(preserve), preserve)
        return _State(v.u * factor, v.mean * factor)

    n_steps, now, states = 0, 0.0, []
    for t in moments.tolist():
        remaining = t - now
        if dt is not None:
            n = math.ceil(remaining / dt * (1 - 1e-9))  # 0.3 / 0.1 is to be 3 in spite of rounding
            for _ in range(n):
                state = advance(state, remaining / n)
            n_steps += n
        else:
            while remaining > 0:
                multiplier = discrete_multiplier(domain, state.u)
                longest = min((theta or THETA) / multiplier if multiplier > 0 else math.inf, SAFE * limit)
                n = max(1, math.ceil(remaining / longest))
                state = advance(state, remaining / n)
                remaining -= remaining / n
                n_steps += 1
        now = t
        states.append(state)
    info: dict[str, Any] = {"n_steps": n_steps}
    info |= {"dt": float(dt)} if dt is not None else {"theta": float(theta or THETA)}
    return states, info | ({"dt_bound": bound} if bound < math.inf else {})


def _solve_ivp(
    domain: Box, start: _State, moments: Floats, preserve: Preserve, rtol: float, atol: float
) -> tuple[list[_State], dict[str, Any]]:
    """The states at the moments, which increase, by BDF on u' = L u + lambda u; the mean grows by exp(integral lambda).

    That integral is the last unknown.
    """
    L = sp.block_diag((domain.laplacian, sp.csr_array((1, 1))), format="csc")
    identity = sp.block_diag((sp.eye_array(start.u.size), sp.csr_array((1, 1))), format="csc")

    def state(y: Floats) -> _State:
        with np.errstate(over="ignore"):
            return _State(y[:-1].reshape(domain.shape), start.mean and start.mean * float(np.exp(y[-1])))

    def multiplier(y: Floats) -> float:
        # Of the current u. With C = N(u_0)^2 for its energy, the same while (21) holds, errors of the energy would grow
        # at the rate 2 lambda: the surface N = N(u_0) would repel. So they stay what they are.
        return discrete_multiplier(domain, state(y).seen_by(preserve), preserve)

    def right_side(t: float, y: Floats) -> Floats:
        rate = multiplier(y)
        result: Floats = L @ y + np.append(rate * _without_mean(y[:-1]), rate)
        return result

    if not moments.any():  # solve_ivp has no answer if there is nothing to do
        return [start] * len(moments), {"n_evaluations": 0, "rtol": rtol, "atol": atol}
    solution = solve_ivp(
        right_side,
        (0.0, moments[-1]),
        np.append(start.u.ravel(), 0.0),
        method="BDF",
        t_eval=moments,
        jac=lambda t, y: L + multiplier(y) * identity,
        rtol=rtol,
        atol=atol,
    )
    if not solution.success:
        raise IntegrationError(f"solve_ivp gave up after t = {np.max(solution.t, initial=0.0):g}: {solution.message}")
    states = [_State(_without_mean(s.u), s.mean) for s in map(state, solution.y.T)]
    return states, {"n_evaluations": solution.nfev, "rtol": rtol, "atol": atol}
