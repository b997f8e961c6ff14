r"""The renormalised heat flow, stepped in time on a discretisation in space.

With mass matrix M and stiffness matrix K, eq. (22) becomes

.. math:: M u' = -K u + \lambda(u)\, M u, \qquad N(u) = N(u_0), \qquad
          \lambda(u) = -\frac{\mathrm{d}}{\mathrm{d}h} \log N(u - h\, M^{-1} K u) .

The norm and the multiplier use the same K, :math:`N(u)^2 = \langle u, K u \rangle` for the paper's (21): with another
difference quotient for the gradient, the flow would not conserve it. A linear step of the heat equation, see
`diffmath.pde.schemes`, is followed by a rescaling to N(u_0).

On a truncated basis of many unknowns the steps are those of the whole matrices. The norm and the multiplier are those
of the state's projection on the modes and on a space that holds the heat flow of u_0, see `diffmath.domains.Operator`.

Initial conditions are stepped together, as one array. The components along the null modes of K, on a box without flux
the mean, are kept apart: they only grow, and would drown the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.integrate import BDF

from diffmath._arguments import real_array, require_callable, require_instance, require_number
from diffmath.domains.eigenbasis import Eigenbasis, Floats
from diffmath.pde.norms import Preserve, as_norm
from diffmath.pde.runs import THETA, Callback, Interrupted, Problem, Record, Run, State, column
from diffmath.pde.schemes import SCHEMES, laplacian
from diffmath.pde.spectral import heat_modes

__all__ = ["INTEGRATORS", "OPTIONS", "IntegrationError", "Interrupted", "Run", "integrate"]

INTEGRATORS = ("exact", *SCHEMES, "solve_ivp")
"""The names that `integrate` knows."""

LARGEST_STEP = 1e4  # the largest m_1 dt: there, even the lowest mode is damped by 1e8, with rounding not far below it
SAFE = 0.5  # of a scheme's bound: there, the explicit schemes still damp every mode more than the modes below it


class IntegrationError(RuntimeError):
    """A solver stopped before the last of the times."""


def integrate(
    domain: Eigenbasis,
    u_0: npt.ArrayLike,
    times: npt.ArrayLike,
    *,
    preserve: Preserve = "gradient",
    integrator: str | None = None,
    dt: float | None = None,
    theta: float | None = None,
    mean: Literal["project", "keep"] = "project",
    rtol: float | None = None,
    atol: float | None = None,
    steady_tolerance: float | None = None,
    callback: Callback | None = None,
    progress: bool = False,
) -> Run:
    r"""Solve the discrete flow, eq. (22) on the grid, from one or several initial conditions.

    Parameters
    ----------
    domain : Eigenbasis
        Its discretisation ``domain.discrete`` is used.
    u_0 : array of float, shape (..., ``*domain.shape``)
        Finite and not constant, which the caller has checked.
    times : array of float, shape (n,)
        Times in any order, which may repeat. The schemes and "solve_ivp" need finite times from 0 on; "exact" takes
        negative times and infinity too.
    preserve : {"gradient", "value", "laplacian", "total_variation"}, Norm or callable
        What is kept, see `diffmath.pde.norms`.
    integrator : str, optional
        "exact", the default unless dt, theta or steady_tolerance is given, is exact in time: only the error of the
        discretisation in space remains. The schemes, of which "pade02" is the default with those options, take a linear
        step of the heat equation, then rescale: "euler" and "rk4" are explicit, of order 1 and 4, with a bound on dt;
        "crank-nicolson" is of order 2, and has a bound too; "backward-euler" and "pade02",
        :math:`R(z) = 1 / (1 + z + z^2/2)`, are of order 1 and 2 and damp higher modes more whatever dt is, up to
        1e4 / m_1, where rounding would win.
        "solve_ivp" is the independent reference: scipy's BDF applied to the nonlinear, nonlocal equation as it stands,
        with the energy of the current u for C: they are one while (21) holds, but with the number C, (21) would repel.
    dt : float, optional
        The step of a scheme; each interval between two of the times is divided into equal steps of this length or less.
        The longest step of "solve_ivp".
    theta : float, optional
        The alternative, with 1/16 the default: steps of :math:`\theta / \lambda(t)`, short where a solution is rough;
        of several solutions the roughest counts. It is the multiplier of (21), whatever is preserved, as the heat flow
        beneath is the same. Where a scheme has a bound, no step is longer than half of it.
    mean : {"project", "keep"}
        "project" removes the null modes of u_0, for a box without flux its mean, and after each step those of the
        rounding errors, which would grow like :math:`\exp \int \lambda`. "keep" keeps those of u_0, with that growth.
    rtol, atol : float, optional
        Tolerances of "solve_ivp", 1e-8 and 1e-10 unless given, the absolute one in units of the power of two next above
        max \|u_0\|.
    steady_tolerance : float, optional
        A steady state is reached when the relative change of every solution per unit of time is no more than this; the
        remaining times then hold it. An unstable steady state counts too. Unless given, a scheme stops only when all
        solutions are the lowest mode and change by less than 1e-12 m_1; 0 turns this off.
    callback : callable, optional
        Called with the time and the states, read-only and of the shape of u_0, at t = 0 and after each step; "exact"
        has one step for each of the times. If it returns True, the run stops: the output times that were not reached
        are left out, and the last state is added.
    progress : bool
        Whether to show a bar with the simulated time, its rate and the time that remains.

    Returns
    -------
    Run
        Its times are those given, in their order, unless the run was stopped. Its info holds the integrator; n_steps in
        all, with dt or theta, and dt_bound if there is one; for "solve_ivp" n_evaluations, rtol and atol; steady_from,
        the time from which a steady state is held, and stopped_at, the time at which the callback stopped the run, if
        they did.

    Raises
    ------
    Interrupted
        On Ctrl-C, with what was reached.
    IntegrationError
        If "solve_ivp" gives up.
    OverflowError
        If the solution exceeds float64, as a mean that is kept will.

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> box = Box(shape=(16,))
    >>> run = integrate(box, np.linspace(0, 1, 16), [0.0, 0.1, 1000.0], integrator="pade02")
    >>> run.states.shape, run.info["n_steps"] < 1000
    ((3, 16), True)
    """
    require_instance("domain", domain, Eigenbasis)
    if mean not in ("project", "keep"):
        raise ValueError(f'mean must be "project" or "keep"; it is {mean!r}')
    if callback is not None:
        require_callable("callback", callback, "callback(t, u)")
    given = {"dt": dt, "theta": theta, "rtol": rtol, "atol": atol, "steady_tolerance": steady_tolerance}
    integrator, options = _read_options(integrator, given)
    t = np.asarray(real_array(times, "times"), dtype=np.float64).ravel()
    if np.isnan(t).any():
        raise ValueError(f"times must not be NaN; they are {times!r}")
    if integrator != "exact":
        if not np.isfinite(t).all():
            raise ValueError(f'times must be finite for integrator = "{integrator}"; only "exact" goes to infinity')
        if (t < 0).any():
            raise ValueError(f"finite differences go forward in time; the earliest of the times is {t.min():g}")
    moments, places = np.unique(t, return_inverse=True)

    # As u -> a u commutes with the flow, each u_0 is scaled to size 1, and the scale given back at the end.
    domain = domain.discrete
    values = np.asarray(real_array(u_0, "u_0"), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("u_0 must be finite; it holds NaN or infinity")
    leading = values.shape[: values.ndim - len(domain.shape)]
    u = values.reshape(-1, *domain.shape)
    exponent = np.frexp(np.abs(u).max(axis=tuple(range(1, u.ndim))))[1]
    u = np.ldexp(u, -column(exponent, u))

    def unscaled(array: Floats) -> Floats:
        """Restore the scale of u_0 and its leading axes."""
        with np.errstate(over="ignore"):
            scaled: Floats = np.ldexp(array, column(exponent, array))
        return scaled.reshape(*leading, *array.shape[1:])

    domain = domain._resolving(u, moments if integrator == "exact" else _stages(domain, u, moments))
    problem = Problem(domain, as_norm(preserve), State(u, u), moments)
    problem.start = problem.state(u, domain.to_modes(u)[:, domain.null_modes] * (mean == "keep"))
    problem.norm.require_homogeneous(domain, problem.start.c)
    problem.info["integrator"] = integrator
    record = Record(problem, unscaled, callback, progress)
    record.follow(_STEPPERS.get(integrator, _march)(problem, integrator, options), steady_tolerance)
    run = record.run(t, places)
    if record.interrupted:
        raise Interrupted(run)
    if not np.isfinite(run.states).all():
        first = run.times[np.argwhere(~np.isfinite(run.states))[:, len(leading)].min()]
        raise OverflowError(
            f"the solution exceeds float64 by time {first:g}" + '; use mean="project"' * (mean == "keep")
        )
    return run


def _read_options(integrator: str | None, given: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """The integrator and the options that are given for it, checked."""
    options = {name: require_number(name, value) for name, value in given.items() if value is not None}
    if integrator is None:
        integrator = "pade02" if {"dt", "theta", "steady_tolerance"} & set(options) else "exact"
    if integrator not in INTEGRATORS:
        raise ValueError(f"integrator must be one of {', '.join(INTEGRATORS)}; it is {integrator!r}")
    for name, value in options.items():
        least, most, words, owners = _OPTIONS[name]
        if not least <= value < most:
            raise ValueError(f"{name} must be {words}; it is {value}")
        if integrator not in owners:
            raise ValueError(f'{name} is an option of {", ".join(owners)}; the integrator is "{integrator}"')
    if {"dt", "theta"} <= set(options):
        raise ValueError(f"give dt or theta, not both; they are {options['dt']} and {options['theta']}")
    return integrator, options


OPTIONS = ("integrator", "dt", "theta", "rtol", "atol", "steady_tolerance", "callback", "progress")
"""The options of `integrate` that `RenormalizedFlow.solve` hands on."""

_POSITIVE = math.ulp(0.0), math.inf, "positive and finite"
_OPTIONS: dict[str, tuple[float, float, str, tuple[str, ...]]] = {
    "dt": (*_POSITIVE, (*SCHEMES, "solve_ivp")),
    "theta": (*_POSITIVE, tuple(SCHEMES)),
    "steady_tolerance": (0.0, math.inf, "finite and not negative", (*SCHEMES, "solve_ivp")),
    "rtol": (1e-13, 1.0, "at least 1e-13 and below 1", ("solve_ivp",)),
    "atol": (*_POSITIVE, ("solve_ivp",)),
}
"""The range of each option, in numbers (the upper end excluded) and in words, and the integrators that have it."""


# The integrators: each yields the time and the state at 0, after each step and at every output time


def _exact(problem: Problem, name: str, options: dict[str, float]) -> Iterator[tuple[float, State]]:
    """The heat flow of the modes, rescaled, at each of the times."""
    domain, null = problem.domain, problem.domain.null_modes
    for t in problem.moments.tolist():
        c = heat_modes(domain, problem.start.c, np.array([t]), problem.norm)[:, 0]
        yield t, problem.rescaled(State(domain.to_values(np.where(null, 0.0, c)), c))


def _march(problem: Problem, name: str, options: dict[str, float]) -> Iterator[tuple[float, State]]:
    """Heat steps of a scheme and rescaling."""
    domain, info, scheme = problem.domain, problem.info, SCHEMES[name]
    dt, theta = options.get("dt"), options.get("theta", THETA)
    bound = scheme.bound_on(domain, problem.start.u)
    limit = min(bound, LARGEST_STEP / problem.domain.lowest_eigenvalue)
    if dt is not None and dt >= limit:
        raise ValueError(
            f'"{scheme.name}" needs dt < {limit:.6g} on this grid, else the lowest mode loses to '
            f"{'the highest' if limit == bound else 'rounding'}; dt = {dt:.6g}"
        )
    info |= {"n_steps": 0} | ({"theta": theta} if dt is None else {"dt": dt})
    if bound < math.inf:
        info["dt_bound"] = bound
    energy = as_norm("gradient")
    state, now = problem.start, 0.0
    yield now, state
    for t in problem.moments.tolist():
        remaining, n = t - now, 0
        if dt is not None:
            n = math.ceil(remaining / dt * (1 - 1e-9))  # 0.3 / 0.1 is to be 3 in spite of rounding
        h = remaining / max(n, 1)
        while remaining > 0:
            if dt is None:
                with np.errstate(invalid="ignore"):  # where a mean that counts is all that is left
                    roughest = float(np.nan_to_num(energy.multiplier(domain, state.c)).max())
                longest = min(theta / roughest if roughest > 0 else math.inf, SAFE * limit)
                n = max(1, math.ceil(remaining / longest))
                h = remaining / n
            state = problem.rescaled(problem.state(scheme.step(domain, state.u, h), problem.null(state)))
            n -= 1
            remaining = remaining - h if n else 0.0
            info["n_steps"] += 1
            yield t - remaining, state
        now = t


def _stages(domain: Eigenbasis, u: Floats, moments: Floats) -> Floats:
    """Times between the first step and the last output, which a basis is to resolve."""
    if domain.is_complete or not moments.any():
        return moments
    v = laplacian(domain, u)
    rates = [a @ (domain.mass @ a) / (b @ (domain.stiffness @ b)) for a, b in zip(v, u, strict=True)]  # lambda(0)
    first = min(THETA / max(rates), float(moments[moments > 0][0]))
    return np.union1d(moments, np.geomspace(first, moments[-1], 8))


def has_sparse_jacobian(domain: Eigenbasis) -> bool:
    """Whether the stiffness is sparse, as "solve_ivp" needs it."""
    return bool(sp.issparse(domain.stiffness))


def _bdf(problem: Problem, name: str, options: dict[str, float]) -> Iterator[tuple[float, State]]:
    """BDF on u' = -M^-1 K u + lambda u for all solutions as one system; null modes grow by exp(integral lambda).

    These integrals are the last unknowns.
    """
    domain, norm, start, moments = problem.domain, problem.norm, problem.start, problem.moments
    rtol, atol = options.get("rtol", 1e-8), options.get("atol", 1e-10)
    problem.info |= {"n_evaluations": 0, "rtol": rtol, "atol": atol}
    yield 0.0, start
    if not moments.any():
        return
    n_batch, n = len(start.u), start.u[0].size
    if not has_sparse_jacobian(domain):
        raise ValueError('"solve_ivp" needs a domain whose stiffness is sparse')
    own = sp.csc_array((n_batch, n_batch))
    stiffness = sp.block_diag([*[domain.stiffness] * n_batch, own], format="csc")
    mass = sp.block_diag([*[domain.mass] * n_batch, sp.eye_array(n_batch)], format="csc")

    def state(y: Floats) -> State:
        with np.errstate(over="ignore"):
            grown = problem.null(start) * np.exp(y[-n_batch:, None]) if problem.null(start).any() else 0.0
        return problem.state(y[:-n_batch].reshape(start.u.shape), np.asarray(grown))

    def multiplier(y: Floats) -> Floats:
        # Of the current u. With C = N(u_0)^2 for its energy, the same while (21) holds, errors of the energy would grow
        # at the rate 2 lambda: the surface N = N(u_0) would repel. So they stay what they are.
        return norm.multiplier(domain, state(y).c)

    def right_side(t: float, y: Floats) -> Floats:
        rate, u = multiplier(y), y[:-n_batch].reshape(start.u.shape)
        return np.append(laplacian(domain, u) + column(rate, u) * state(y).u, rate)

    def jacobian(t: float, y: Floats) -> Any:
        """M times the Jacobian, which is sparse."""
        rate = multiplier(y)
        return mass @ sp.diags_array(np.append(np.repeat(rate, n), rate)) - stiffness

    # The tolerances are of the root mean square over all unknowns; this way, they hold for each of the solutions.
    share = math.sqrt(n_batch)
    y_0 = np.append(start.u.ravel(), np.zeros(n_batch))
    solver = BDF(
        right_side,
        0.0,
        y_0,
        moments[-1],
        max_step=options.get("dt", math.inf),
        rtol=max(rtol / share, 1e-13),
        atol=atol / share,
        jac=jacobian,
    )
    # BDF solves (I - c J) x = b, which here is (M - c M J) x = M b.
    solver.I, solver.solve_lu = mass, lambda factors, b: factors.solve(mass @ b)
    while solver.status == "running":
        message = solver.step()
        problem.info["n_evaluations"] = solver.nfev
        if solver.status == "failed":
            raise IntegrationError(f"solve_ivp gave up after t = {solver.t:g}: {message}")
        between = solver.dense_output()
        for t in moments[(moments > solver.t_old) & (moments <= solver.t)].tolist():
            yield t, state(between(t))
        if solver.t not in moments:
            yield float(solver.t), state(solver.y)


_STEPPERS = {"exact": _exact, "solve_ivp": _bdf}
