"""Eq. (23): theory, eigenvalues of the linearised equation, and what each solver does to a small perturbation."""

import math

import numpy as np
import pytest

from diffmath.pde import Box, RenormalizedFlow, stability
from diffmath.pde.stability import SOLVERS, jacobian

FLOW = RenormalizedFlow(Box(shape=(48,)))


@pytest.mark.parametrize("k", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 5))])
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


@pytest.mark.parametrize("n", [6, 8])
def test_two_dimensions(n):
    """On a square, where eigenvalues are multiple: (1, 2) is neutral to (2, 1)."""
    ds = RenormalizedFlow(Box(shape=(n, n))).check_stability((1, 2), solvers=["spectral", "pade02"])
    modes = list(zip(ds.j_x.values, ds.j_y.values, strict=True))
    assert modes[0] == (0, 0)
    assert len(modes) == 16
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


@pytest.mark.parametrize("size", [-1e-20, 1e20])
def test_jacobian_of_any_size(size):
    """The right-hand side of (22) is homogeneous, so that its derivative at a u is that at u; here of one sign."""
    u = FLOW.steady_state(2) + FLOW.steady_state(5)
    u -= u.min()
    base = jacobian(FLOW, u, FLOW.domain.eigenvalues)
    scaled = jacobian(FLOW, size * u, FLOW.domain.eigenvalues)
    np.testing.assert_allclose(scaled, base, rtol=0, atol=1e-12 * abs(base).max())


def test_measured_rates():
    """On a coarse grid, where nothing but the rates asks for short steps: first order to 5e-4, the others better."""
    bounds = {"euler": 6e-4, "backward-euler": 6e-4, "pade02": 3e-4, "crank-nicolson": 2e-4, "rk4": 5e-5}
    ds = RenormalizedFlow(Box(shape=(4,))).check_stability(2, solvers=[*bounds, "solve_ivp"])
    assert ds.perturbation == 1e-6
    error = abs(ds.measured / ds.expected - 1).max("mode")
    assert (error <= [*bounds.values(), 5e-4]).all(), error


def test_measured_rates_of_any_perturbation():
    """The ratio of two modes grows exactly at the rate of eq. (23), however large they are."""
    ds = FLOW.check_stability(2, solvers=["spectral"], perturbation=1e-3)
    others = ds.j_x.values != 2
    np.testing.assert_allclose(ds.measured[0, others], ds.theory[others], rtol=1e-11)


@pytest.mark.parametrize(("off", "agrees"), [(0.9e-3, True), (-0.9e-3, True), (1.1e-3, False), (-1.1e-3, False)])
def test_measured_rates_must_agree(monkeypatch, off, agrees):
    """Within 1e-3 of those expected, each of the solvers'."""

    def measure(flow, k, j, solver, size):
        return np.nan if j == k else flow.growth_rate(k, j) * (1 + off * (solver == "solve_ivp"))

    monkeypatch.setattr(stability, "_measure", measure)
    monkeypatch.setattr(
        stability, "_operators", lambda flow: dict.fromkeys(("spectral", "discrete"), flow.domain.eigenvalues)
    )
    verdict = FLOW.check_stability(2).verdict.values
    below, above = ("unstable", "stable") if agrees else ("disagreement",) * 2
    assert list(verdict) == [below, below, "fixed by the constraint", above, above]


@pytest.mark.parametrize(("off", "verdict"), [(0.9e-6, "neutral"), (1.1e-6, "disagreement")])
def test_measured_rates_of_the_neutral(monkeypatch, off, verdict):
    """On a square (1, 2) is neutral to (2, 1): what is measured may be 1e-6 of mu_k."""

    def measure(flow, k, j, solver, size):
        return np.nan if j == k else flow.growth_rate(k, j) or off * flow.domain.eigenvalue(k)

    monkeypatch.setattr(stability, "_measure", measure)
    ds = RenormalizedFlow(Box(shape=(6, 6))).check_stability((1, 2), 9, solvers=["spectral"])
    assert ds.verdict.values[(ds.j_x == 2) & (ds.j_y == 1)] == verdict


@pytest.mark.parametrize(("excess", "verdict"), [(0.8e-6, "neutral"), (1.25e-6, "stable"), (-1.25e-6, "unstable")])
def test_nearly_a_square(excess, verdict):
    """Rates up to 1e-6 of mu_k count as none: here it is (3 / 5) (1 - 1 / L^2) of it."""
    box = Box(shape=(6, 6), lengths=(1.0, 1.0 + excess / 1.2))
    ds = RenormalizedFlow(box).check_stability((1, 2), 9, solvers=["spectral"])
    (j,) = np.flatnonzero((ds.j_x.values == 2) & (ds.j_y.values == 1))
    assert ds.theory.values[j] == pytest.approx(-excess * box.eigenvalue((1, 2)), rel=1e-4)
    assert ds.verdict.values[j] == verdict


@pytest.mark.parametrize("perturbation", [1e-10, 3e-9, 1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize(
    ("n", "k", "solvers"),
    [
        (8, 1, SOLVERS),  # the schemes of first order need 1,000 steps and more: on one grid
        (24, 2, ["spectral", "exact", "crank-nicolson", "pade02", "solve_ivp"]),
        (24, 5, ["exact", "rk4", "pade02"]),
        (64, 3, ["exact", "pade02", "solve_ivp"]),
    ],
)
def test_every_perturbation_that_is_allowed(n, k, solvers, perturbation):
    """Rates within 1e-3 and the right verdict by each solver; of a perturbation of 1e-10, rounding is 1e-6."""
    ds = RenormalizedFlow(Box(shape=(n,))).check_stability(k, k + 2, solvers=solvers, perturbation=perturbation)
    assert list(ds.verdict.values) == ["unstable"] * k + ["fixed by the constraint"] + ["stable"]


def test_arguments_of_another_kind():
    for bad in (True, "1e-6", [1e-6]):
        with pytest.raises(TypeError, match="perturbation must be"):
            FLOW.check_stability(1, perturbation=bad)
    for bad in (True, 2.5, "3"):
        with pytest.raises(TypeError, match="n_modes must be an integer"):
            FLOW.check_stability(1, bad)
    with pytest.raises(TypeError, match="solvers must be a sequence of names; it is 'spectral'"):
        FLOW.check_stability(1, solvers="spectral")
    with pytest.raises(ValueError, match="solvers must name at least one"):
        FLOW.check_stability(1, solvers=[])
    for bad in (float("nan"), 0.0, -1e-6, 1e-11):
        with pytest.raises(ValueError, match="perturbation must lie in"):
            FLOW.check_stability(1, perturbation=bad)


def test_bad_arguments():
    with pytest.raises(ValueError, match="constant mode"):
        FLOW.check_stability(0)
    with pytest.raises(ValueError, match="n_modes must be at least 1"):
        FLOW.check_stability(1, 0)
    with pytest.raises(ValueError, match="perturbation must lie in"):
        FLOW.check_stability(1, perturbation=1.0)
    with pytest.raises(ValueError, match="solvers must be among spectral, .*; 'magic' is not"):
        FLOW.check_stability(1, solvers=["magic"])
    with pytest.raises(ValueError, match="at most 2048 modes; the domain has 4096"):
        RenormalizedFlow(Box(shape=(4096,))).check_stability(1)
    with pytest.raises(ValueError, match='such as preserve = "gradient", .*; it preserves "total_variation"'):
        RenormalizedFlow(FLOW.domain, "total_variation").check_stability(1)
