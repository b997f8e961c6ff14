"""The growth rates (23) of perturbations of the steady states, on an interval: in theory, linearised, and measured.

The eigenvalues of 24 x 24 matrices have errors of their own. The finite differences take steps that make the rate wrong
by about 5e-4; twice that is allowed.
"""

from __future__ import annotations

import numpy as np

from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.stability import check_stability
from diffmath.verification._references import (
    worst_error,
)
from diffmath.verification.checks import Example, check
from diffmath.verification.flow import DECAY, FLOW, discrete_eigenvalues

STABILITY = "diffmath.pde.stability"


def _stability(rng: np.random.Generator) -> tuple[RenormalizedFlow, int]:
    return RenormalizedFlow(Box((24,), (float(10.0 ** rng.uniform(-1, 1)),))), int(rng.integers(1, 6))


@check(
    "(23)",
    "growth rates: eigenvalues of the linearisation, and measured",
    code=[f"{FLOW}.growth_rate", f"{STABILITY}.check_stability", f"{STABILITY}.jacobian"],
    method="exact solution",
    tolerance=1e-8,
    share=0.1,
)
def _equation_23(rng: np.random.Generator) -> Example:
    flow, k = _stability(rng)
    ds = check_stability(flow, k, solvers=["spectral"])
    other = ds.isel(mode=ds.j_x.values != k)
    theory = np.array([flow.growth_rate(k, j) for j in other.j_x.values])
    found = np.stack([other.theory.values, other.jacobian.values, other.measured.values[0]])
    m = discrete_eigenvalues(flow.domain).astype(float)
    discrete = np.stack([other.theory_discrete.values, other.jacobian_discrete.values])
    error = worst_error(np.abs(found / theory - 1).max(), np.abs(discrete / (m[k] - m[other.j_x.values]) - 1).max())
    return Example(error, f"k = {k}")


@check(
    "(23), differences",
    "growth rates, as five schemes measure them",
    code=[f"{FLOW}.check_stability"],
    method="exact solution",
    tolerance=1e-3,
    share=0.02,
)
def _measured(rng: np.random.Generator) -> Example:
    flow, k = _stability(rng)
    ds = flow.check_stability(k, solvers=list(DECAY))
    other = ds.isel(mode=ds.j_x.values != k)
    m = discrete_eigenvalues(flow.domain).astype(float)
    errors = np.abs(other.measured.values / (m[k] - m[other.j_x.values]) - 1).max(axis=1)
    return Example(float(errors.max()), f"k = {k}, {other.solver.values[errors.argmax()]}")
