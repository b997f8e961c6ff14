"""Solvers of (22) beside the exact one: their settings, their starts and their errors."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import fft

from diffmath.domains.box import Floats
from diffmath.pde import Box, RenormalizedFlow

T_END = 0.05  # the smooth start's multiplier falls from 8.7 pi^2 to 1.04 pi^2
NATURAL = "laplace(u) + u * integral(laplace(u)**2) / C"
BY_PARTS = "laplace(u) - u * integral(laplace(u)**2) / integral(u * laplace(u))"

Run = Callable[[], Floats]
Prepare = Callable[[Box, Floats], Run]


def start(name: str, n_cells: int, seed: int) -> Floats:
    """An initial condition with zero mean."""
    x = (np.arange(n_cells) + 0.5) / n_cells
    if name == "smooth":
        u = np.cos(3 * np.pi * x) + 0.3 * np.cos(np.pi * x) + 0.1 * np.cos(5 * np.pi * x)
    elif name == "noisy":
        u = np.random.default_rng(seed).standard_normal(n_cells)
    else:  # cell averages of a step at 0.3
        u = np.diff(np.abs(np.arange(n_cells + 1) / n_cells - 0.3)) * n_cells
    return np.asarray(u - u.mean())


def reference(domain: Box, u_0: Floats, discrete: bool) -> Floats:
    """The exact solution at T_END, in extended precision where numpy has it: spectral, or that of the differences."""
    (n,), pi = domain.shape, np.longdouble("3.14159265358979323846264338327950288")
    k = np.arange(n, dtype=np.longdouble)
    mu = (2 * n * np.sin(k * pi / (2 * n))) ** 2 if discrete else (k * pi) ** 2
    c = fft.dct(u_0.astype(np.longdouble), type=2, norm="ortho")
    c[0] = 0
    b = c * np.exp(-(mu - mu[1]) * np.longdouble(T_END))
    b *= np.sqrt((mu * c**2).sum() / (mu * b**2).sum())
    return np.asarray(fft.idct(b, type=2, norm="ortho"))


def energy(domain: Box, u: Floats, discrete: bool) -> float:
    """The energy (21) of the solver's own discretisation: of the differences -<u, L u>, or of the polynomial."""
    if discrete:
        return float((np.diff(u) ** 2).sum() / domain.spacing[0])
    return float((domain.eigenvalues * domain.to_modes(u) ** 2).sum())


def errors(domain: Box, u_0: Floats, u: Floats, discrete: bool) -> dict[str, float]:
    """Relative L2 errors as they are, and of the shape: scaled to the energy of the exact solution."""
    result = {}
    for name, exact_discrete in (("own", discrete), ("spectral", False)):
        exact = reference(domain, u_0, exact_discrete)
        size = np.sqrt((exact**2).sum())
        scale = np.sqrt(energy(domain, exact.astype(np.float64), exact_discrete) / energy(domain, u, exact_discrete))
        result[f"raw error, {name}"] = float(np.sqrt(((u - exact) ** 2).sum()) / size)
        result[f"shape error, {name}"] = float(np.sqrt(((u * scale - exact) ** 2).sum()) / size)
    result["energy drift"] = energy(domain, u, discrete) / energy(domain, u_0, discrete) - 1
    result["mean"] = float(u.mean())
    return result


def py_pde(expression: str, solver: str, banded: str | None = None, **settings: Any) -> Prepare:
    """A compiled stepper of py-pde; what is measured cold includes making it."""

    def prepare(domain: Box, u_0: Floats) -> Run:
        pde = importlib.import_module("pde")
        options = settings | ({"jac_sparsity": domain.laplacian} if banded == "sparsity" else {})
        field = pde.ScalarField(pde.CartesianGrid([[0, 1]], domain.shape, periodic=False), u_0)
        equation = pde.PDE({"u": expression}, consts={"C": energy(domain, u_0, True)} if "C" in expression else {})
        stepper = pde.solvers.SolverBase.from_name(solver, pde=equation, backend="numba", **options).make_stepper(field)

        def run() -> Floats:
            state = field.copy()
            stepper(state, 0.0, T_END)
            return np.asarray(state.data)

        return run

    return prepare


def ours(method: str, **options: Any) -> Prepare:
    """A solve by this package; "evolve" is the exact solution as an array."""

    def prepare(domain: Box, u_0: Floats) -> Run:
        flow = RenormalizedFlow(domain)
        if method == "evolve":
            return lambda: flow.evolve(u_0, T_END)[0].astype(np.float64, copy=False)
        return lambda: np.asarray(flow.solve(u_0, T_END, method, **options).u.values[0])  # type: ignore[arg-type]

    return prepare


TIGHT: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10}
EXACT = "diffmath, exact"
BDF_NAME = "py-pde, by parts, BDF"
SOLVERS: dict[str, Prepare] = {
    EXACT: ours("evolve"),
    "diffmath, exact, as a Dataset": ours("spectral"),
    "diffmath, pade02, theta = 1/16": ours("finite-difference", integrator="pade02"),
    "scipy BDF, sparse Jacobian": ours("finite-difference", integrator="solve_ivp"),
}
PEERS: dict[str, Prepare] = {
    "py-pde, natural, its default solver": py_pde(NATURAL, "euler", adaptive=True),
    "py-pde, natural, BDF": py_pde(NATURAL, "scipy", method="BDF", **TIGHT),
    "py-pde, by parts, its default solver": py_pde(BY_PARTS, "euler", adaptive=True),
    BDF_NAME: py_pde(BY_PARTS, "scipy", method="BDF", **TIGHT),
    "py-pde, by parts, BDF, sparse": py_pde(BY_PARTS, "scipy", "sparsity", method="BDF", **TIGHT),
    "py-pde, by parts, LSODA, banded": py_pde(BY_PARTS, "scipy", method="LSODA", lband=1, uband=1, **TIGHT),
}
SETTINGS = {
    "py-pde, natural": NATURAL + ", C a constant: (22) as printed",
    "py-pde, by parts": BY_PARTS + ": the energy by its own operator",
    "its default solver": "explicit Euler with adaptive steps, as PDE.solve chooses",
    "BDF, LSODA": "py-pde's scipy solver with rtol 1e-8, atol 1e-10; sparse and banded: the Jacobian taken to be that"
    " of the Laplacian (jac_sparsity, lband = uband = 1)",
    "cold": "the equation, its compilation and the run; py-pde is imported and numba warmed up before",
    "reused": "the compiled stepper from the same start again",
}


def warm_up_numba() -> None:
    """Make py-pde compile something small, so that its import and numba's own start count for nothing."""
    domain = Box(shape=(8,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        py_pde("laplace(u)", "euler", adaptive=True)(domain, start("smooth", 8, 0))()
