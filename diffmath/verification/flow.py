"""The renormalised heat flow (20), its energy (21), and its solution (22), exact and by finite differences.

The differences in time of (20) have errors of their own. The energy (21) is a sum of squares mu_k b_k^2, in which the
roundings of u weigh up to the root of mu_max / mu_1, some tens, times the number of cells: 1e-12. The finite
differences of (22) take up to four steps, each a linear system of condition 10 or so. Their observed order is 2 up to
terms of order h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, reduce
from itertools import product
from typing import Any

import mpmath as mp
import numpy as np

from diffmath.pde import Box, RenormalizedFlow, stepping
from diffmath.verification._references import DIGITS, EPS, describe, relative_error, worst_error
from diffmath.verification.checks import Example, check

FLOW, STEPPING = "diffmath.pde.flow.RenormalizedFlow", "diffmath.pde.stepping"
EXACT = [f"{FLOW}.solve", f"{FLOW}.evolve", f"{FLOW}.solve_modes"]


def _flow(rng: np.random.Generator) -> tuple[RenormalizedFlow, Any, float]:
    """A flow on an interval or a rectangle, the amplitudes of u_0, and a time."""
    shape = (16,) if rng.random() < 0.5 else (5, 4)
    box = Box(shape, tuple(10.0 ** rng.uniform(-1, 1) * rng.uniform(0.5, 1, len(shape))))
    c = rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 0, shape)
    c.flat[0] = 0
    return RenormalizedFlow(box), c, max(box.lengths) ** 2 * float(10.0 ** rng.uniform(-4, 0))


def _product_of_axes(parts: Iterable[Any]) -> Any:
    """Functions on the box from those on its sides: Kronecker products, in the order of ``ravel``."""
    return reduce(np.kron, parts)


def _eigenfunctions(flow: RenormalizedFlow) -> Any:
    """The values w_k(x_i) at the cell centres, by i and k, and the eigenvalues mu_k; flat."""
    sides = list(zip(flow.domain.shape, flow.domain.lengths, strict=True))
    w = _product_of_axes(_cosines(n, length, (np.arange(n) + 0.5) * length / n)[0] for n, length in sides)
    return w, _sums_over_axes([(np.arange(n) * math.pi / length) ** 2 for n, length in sides])


def _cosines(n: int, length: float, x: Any) -> tuple[Any, Any]:
    """The eigenfunctions w_k of one side of a box at the points x, and their derivatives, with axes x and k."""
    k = np.arange(n)
    norm, angle = np.sqrt((2 - (k == 0)) / length), np.outer(x, k * math.pi / length)
    return norm * np.cos(angle), -norm * k * math.pi / length * np.sin(angle)


def _sums_over_axes(parts: Sequence[Any]) -> Any:
    """The sums of one number for each axis, in the order of ``ravel``."""
    return np.array([sum(numbers) for numbers in product(*parts)])


@check(
    "(20)",
    "u_t = Lap u + lambda u, by differences in time",
    code=EXACT,
    method="exact solution",
    tolerance=1e-8,
)
def _equation_20(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    w, mu = _eigenfunctions(flow)
    dt = 1e-3 / mu.max()
    times = t + dt * np.array([-2, -1, 0, 1, 2])
    u_0 = flow.domain.to_grid(c)
    modes, values = flow.solve_modes(c, times), flow.solve(u_0, times)
    errors = []
    for u, ds in (
        (modes.amplitude.values.reshape(5, -1) @ w.T, modes),
        (values.u.values.reshape(5, -1), values),
        (flow.evolve(u_0, times).reshape(5, -1), values),
    ):
        rate = (u[0] - 8 * u[1] + 8 * u[3] - u[4]) / (12 * dt)
        laplacian = -(w * mu) @ (w.T @ u[2]) * flow.domain.cell_volume
        residual = rate - laplacian - ds.multiplier.values[2] * u[2]
        errors.append(np.abs(residual).max() / np.abs(laplacian).max())
    return Example(worst_error(*errors), describe(flow, t=t))


@check(
    "(21)",
    "the energy stays, integrated by Gauss-Legendre",
    code=EXACT,
    method="quadrature",
    tolerance=1e-12,
)
def _equation_21(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    box = flow.domain
    sides = []
    for n, length in zip(box.shape, box.lengths, strict=True):
        x, weight = np.polynomial.legendre.leggauss(4 * n)
        sides.append((*_cosines(n, length, length / 2 * (x + 1)), length / 2 * weight))
    functions, derivatives, weights = zip(*sides, strict=True)
    gradient = [
        _product_of_axes([*functions[:axis], derivatives[axis], *functions[axis + 1 :]]) for axis in range(box.ndim)
    ]
    # The gradient of the cosine series through the grid's values, and of the amplitudes.
    u_0, w = box.to_grid(c), _eigenfunctions(flow)[0]
    values = np.stack([u_0, flow.solve(u_0, t).u.values[0], flow.evolve(u_0, t)[0]]).reshape(3, -1)
    spectra = c.ravel(), flow.solve_modes(c, t).amplitude.values.ravel(), *(box.cell_volume * values @ w)
    first, *energies = (float(_product_of_axes(weights) @ sum((g @ b) ** 2 for g in gradient)) for b in spectra)
    return Example(worst_error(*(abs(energy / first - 1) for energy in energies)), describe(flow, t=t))


def _exact_flow(c: Sequence[Any], mu: Sequence[Any], decay: Sequence[Any]) -> tuple[list[Any], Any]:
    """The solution's amplitudes from those of u_0, the eigenvalues and the decay of the heat flow; and lambda."""
    v = [a * factor for a, factor in zip(c, decay, strict=True)]
    C, now = (mp.fsum(m * a**2 for m, a in zip(mu, values, strict=True)) for values in (c, v))
    u = [a * mp.sqrt(C / now) for a in v]
    return u, mp.fsum((m * a) ** 2 for m, a in zip(mu, u, strict=True)) / C


def _condition(c: Any, mu: Any, decay: Any) -> float:
    """How much larger rounding errors of u_0 become beside the solution, its gradient and its Laplacian."""
    grown = [(mu**s * np.abs(decay))[1:] for s in (0, 0.5, 1)]
    return float(np.linalg.norm(c) * max(g.max() / np.linalg.norm(g * c.ravel()[1:]) for g in grown))


@cache
def _transform(shape: tuple[int, ...]) -> Any:
    """The orthogonal matrix of the cosines at the cell centres, in all digits."""
    with mp.workdps(DIGITS + 30):
        sides = [
            np.array(
                [
                    [mp.sqrt(mp.mpf(2 - (k == 0)) / n) * mp.cos(k * (2 * i + 1) * mp.pi / (2 * n)) for k in range(n)]
                    for i in range(n)
                ]
            )
            for n in shape
        ]
        return mp.matrix(_product_of_axes(sides).tolist())


@check(
    "(22)",
    "the solution, from modes and on the grid, and lambda",
    code=EXACT,
    method="exact solution",
    tolerance=8 * EPS,
)
def _equation_22(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    box, u_0, mu = flow.domain, flow.domain.to_grid(c), _eigenfunctions(flow)[1]
    modes, values = flow.solve_modes(c, t), flow.solve(u_0, t)
    with mp.workdps(DIGITS + 30):
        exact = _sums_over_axes(
            [[(k * mp.pi / mp.mpf(a)) ** 2 for k in range(n)] for n, a in zip(box.shape, box.lengths, strict=True)]
        )
        decay = [mp.exp(-(m - min(exact[1:])) * mp.mpf(t)) for m in exact]
        amplitudes, multiplier = _exact_flow([mp.mpf(a) for a in c.ravel()], exact, decay)
        size = max(map(abs, amplitudes))
        errors = [relative_error(b, a, size) for b, a in zip(modes.amplitude.values.ravel(), amplitudes, strict=True)]
        errors.append(relative_error(modes.multiplier.item(), multiplier))
        on_grid = _errors_on_grid(u_0, exact, decay, [values.u, flow.evolve(u_0, t)], [values.multiplier.item()])
    condition = _condition(c, mu, np.exp(-(mu - mu[1:].min()) * t))
    return Example(worst_error(*errors, on_grid / condition), describe(flow, t=t))


def _errors_on_grid(u_0: Any, mu: Any, decay: Any, solutions: Sequence[Any], multipliers: Sequence[float]) -> float:
    """The worst error of grid functions, by the cosine series through the very values of u_0, without its mean."""
    cosines = _transform(u_0.shape)
    series = cosines.T * mp.matrix(u_0.ravel().tolist())
    amplitudes, multiplier = _exact_flow([mp.mpf(0), *series[1:]], mu, decay)
    u = list(cosines * mp.matrix(amplitudes))
    size = max(map(abs, u))
    found = [pair for solution in solutions for pair in zip(np.ravel(solution), u, strict=True)]
    return worst_error(
        *(relative_error(b, a, size) for b, a in found), *(relative_error(m, multiplier) for m in multipliers)
    )


DECAY: dict[str, Callable[[Any], Any]] = {
    "euler": lambda z: 1 - z,
    "rk4": lambda z: 1 - z + z**2 / 2 - z**3 / 6 + z**4 / 24,
    "backward-euler": lambda z: 1 / (1 + z),
    "pade02": lambda z: 1 / (1 + z + z**2 / 2),
    "crank-nicolson": lambda z: (2 - z) / (2 + z),
}
"""What a step of the finite differences makes of a mode, with z = m dt."""


def discrete_eigenvalues(box: Box) -> Any:
    """The sums over the axes of (2 / h sin(k pi / 2 n))^2, those of minus the difference Laplacian; flat, by mpmath."""
    return _sums_over_axes(
        [
            [(2 * n / mp.mpf(length) * mp.sin(k * mp.pi / (2 * n))) ** 2 for k in range(n)]
            for n, length in zip(box.shape, box.lengths, strict=True)
        ]
    )


@check(
    "(22), differences",
    "five schemes: the discrete flow, and lambda",
    code=[f"{FLOW}.solve", f"{STEPPING}.integrate", "diffmath.pde.norms.Norm.measure"],
    method="exact solution",
    tolerance=64 * EPS,
    share=0.1,
)
def _differences(rng: np.random.Generator) -> Example:
    flow, c, _ = _flow(rng)
    box, u_0, n_steps = flow.domain, flow.domain.to_grid(c), int(rng.integers(1, 5))
    with mp.workdps(DIGITS):
        exact = discrete_eigenvalues(box)
    m, errors = exact.astype(float), {}
    for name, factor in DECAY.items():
        # Where explicit schemes and Crank-Nicolson keep the order of the modes.
        longest = 1 / m.max() if name in ("euler", "rk4") else 1 / math.sqrt(m[1:].min() * m.max())
        dt = longest * float(10.0 ** rng.uniform(-2, 0))
        t, options = n_steps * dt, dict[str, Any](integrator=name, dt=dt)
        ds = flow.solve(u_0, t, method="finite-difference", **options)
        state = stepping.integrate(box, u_0, t, **options).states
        with mp.workdps(DIGITS):
            decay = [factor(a * mp.mpf(t) / n_steps) ** n_steps for a in exact]
            error = _errors_on_grid(u_0, exact, decay, [ds.u, state], [ds.multiplier.item()])
        errors[name] = error / _condition(c, m, factor(m * dt) ** n_steps)
    worst = max(errors, key=lambda name: errors[name])
    return Example(errors[worst], f"{describe(flow, n=n_steps)}, {worst}")


@check(
    "(22), order",
    "the default scheme: order 2 in h and dt together",
    code=[f"{FLOW}.solve"],
    method="exact solution",
    tolerance=0.02,
    share=0.1,
)
def _order(rng: np.random.Generator) -> Example:
    orders = []
    for d in (1, 2):
        lengths, t = tuple(rng.uniform(0.5, 1, d)), float(rng.uniform(0.005, 0.01))
        amplitudes = rng.normal(size=(3,) * d)
        amplitudes.flat[0] = 0
        errors = []
        for n in (32, 64):
            flow = RenormalizedFlow(Box((n,) * d, lengths))
            u_0 = flow.domain.to_grid(np.pad(amplitudes, (0, n - 3)))
            u = flow.solve(u_0, t, method="finite-difference", dt=t / n, C=1.0).u.values
            exact = flow.evolve(u_0, t, C=1.0)
            errors.append(np.abs(u - exact).max() / np.abs(exact).max())
        orders.append(math.log2(errors[0] / errors[1]))
    return Example(max(abs(order / 2 - 1) for order in orders), "orders {:.3f} in 1-D, {:.3f} in 2-D".format(*orders))
