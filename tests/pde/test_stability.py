"""Eq. (23): theory, eigenvalues of the linearised equation, and what each solver does to a small perturbation."""

import math

import numpy as np
import pytest

from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.stability import SOLVERS, jacobian

FLOW = RenormalizedFlow(Box(shape=(48,)))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_three_ways(k):
    """Theory and eigenvalues to 1e-8, of the Laplacian and of its differences; measured rates to 1e-3."""
    ds = FLOW.check_stability(k)
    others = ds.j_x.values != k
    assert list(ds.j_x.values) == list(range(2 * k + 1))  # the mean included
    assert list(ds.solver.values) == list(SOLVERS)
    np.testing.assert_allclose(ds.theory, (k**2 - np.arange(2 * k + 1) ** 2) * math.pi**2, rtol=1e-13)
    m = (2 * 48 * np.sin(np.arange(2 * k + 1) * math.pi / 96)) ** 2
    np.testing.assert_allclose(ds.theory_discrete, m[k] - m, rtol=1e-10)
    np.testing.assert_allclose(ds.jacobian[others], ds.theory[others], rtol=1e-8)
    np.testing.assert_allclose(ds.jacobian_discrete[others], ds.theory_discrete[others], rtol=1e-8)
    np.testing.assert_allclose(ds.jacobian[~others], 2 * (k * math.pi) ** 2, rtol=1e-8)  # the constraint repels
    np.testing.assert_allclose(ds.measured[:, others], ds.expected[:, others], rtol=1e-3)
    np.testing.assert_allclose(ds.measured[0, others], ds.theory[others], rtol=1e-8)  # spectral
    assert np.isnan(ds.measured[:, ~others]).all()
    assert list(ds.verdict.values) == ["unstable"] * k + ["fixed by the constraint"] + ["stable"] * k


@pytest.mark.parametrize("preserve", ["value", "laplacian"])
def test_the_rates_do_not_depend_on_what_is_preserved(preserve):
    flow = RenormalizedFlow(Box(shape=(16,), lengths=(2.0,)), preserve)
    ds = flow.check_stability(2, solvers=["spectral", "pade02"])
    others = ds.j_x.values != 2
    if preserve == "value":  # the mean counts in the norm, but its growth relative to mode 2 is the same
        assert ds.verdict.values[0] == "unstable"
    np.testing.assert_allclose(ds.jacobian[others], ds.theory[others], rtol=1e-8)
    np.testing.assert_allclose(ds.measured[:, others], ds.expected[:, others], rtol=1e-3)


def test_two_dimensions():
    """On a square, where eigenvalues are multiple: (1, 2) is neutral to (2, 1)."""
    ds = RenormalizedFlow(Box(shape=(8, 8))).check_stability((1, 2), solvers=["spectral", "pade02"])
    modes = list(zip(ds.j_x.values, ds.j_y.values, strict=True))
    assert modes[0] == (0, 0)
    verdict = dict(zip(modes, ds.verdict.values, strict=True))
    assert verdict[1, 1] == verdict[2, 0] == "unstable"
    assert verdict[2, 1] == "neutral"
    assert verdict[2, 2] == "stable"
    others = [j != (1, 2) for j in modes]
    scale = 1e-8 * abs(ds.theory.values).max()
    np.testing.assert_allclose(ds.jacobian[others], ds.theory[others], rtol=0, atol=scale)


def test_jacobian_is_the_formula():
    """Lap + lambda + (2 / C) u (Lap^2 u)^T, on a state that is not steady."""
    box = Box(shape=(12,))
    flow = RenormalizedFlow(box)
    u = np.random.default_rng(0).standard_normal(12)
    u -= u.mean()
    mu, c = box.discrete_eigenvalues, box.to_modes(u)
    L = box.laplacian.toarray()
    energy, curvature = (mu * c**2).sum(), (mu**2 * c**2).sum()
    expected = L + curvature / energy * np.eye(12) + 2 / energy * np.outer(u, L @ L @ u) * box.cell_volume
    np.testing.assert_allclose(jacobian(flow, u, mu), expected, rtol=0, atol=1e-12 * abs(expected).max())


def test_bad_arguments():
    with pytest.raises(ValueError, match="constant mode"):
        FLOW.check_stability(0)
    with pytest.raises(ValueError, match="n_modes must be at least 1"):
        FLOW.check_stability(1, 0)
    with pytest.raises(ValueError, match="perturbation must lie in"):
        FLOW.check_stability(1, perturbation=1.0)
    with pytest.raises(ValueError, match="solvers must be among spectral, .*; 'magic' is not"):
        FLOW.check_stability(1, solvers=["magic"])
    with pytest.raises(ValueError, match="at most 2048 cells; the domain has 4096"):
        RenormalizedFlow(Box(shape=(4096,))).check_stability(1)
    with pytest.raises(ValueError, match='for preserve = "gradient"'):
        RenormalizedFlow(FLOW.domain, "total_variation").check_stability(1)
