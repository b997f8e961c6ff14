"""Runs in time: what they keep, how exact they are, and where they end."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import solve

from diffmath.domains import Box
from diffmath.pde import RenormalizedFlow
from diffmath.pde.schemes import SCHEMES
from diffmath.pde.stepping import INTEGRATORS, IntegrationError
from tests import laws
from tests.pde.differences import (
    BOUNDED,
    BOX,
    LINEAR,
    LONG,
    QUADRATIC,
    SMALL,
    SMOOTH,
    discrete_multiplier,
    discrete_norm,
    distance,
    grid,
    integrate,
    largest_slope,
    noise,
    semidiscrete,
    shape_of,
)
from tests.strategies import spectra


@pytest.mark.parametrize("box", [BOX, LONG])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_all_agree_with_the_exact_solution(name, box):
    """From noise, at all times, by default: to rounding, theta to the power of the order, or near the tolerance."""
    u_0, times = noise(box, 5), [0.0, 1e-5, 1e-3, 0.01, 0.1, 0.5]
    u, _ = integrate(box, u_0, times, integrator=name)
    error = distance(u, semidiscrete(box, u_0, times))
    # "exact" in rounding of exp(-m t), with m t up to 1024 / 2.
    tolerances = {"exact": 1e-12, "solve_ivp": 1e-6}
    assert error < (tolerances[name] if name in tolerances else (1 / 16) ** SCHEMES[name].order)


def test_solve_ivp_obeys_its_tolerances():
    """It knows nothing of the closed form: not of rescaling, nor of the heat equation."""
    u_0, times = noise(BOX, 1), [1e-3, 0.02, 0.3]
    expected = semidiscrete(BOX, u_0, times)
    errors = []
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10):
        u, info = integrate(BOX, u_0, times, integrator="solve_ivp", rtol=rtol, atol=rtol / 100)
        errors.append(distance(u, expected))
        assert errors[-1] < 100 * rtol
        assert info["integrator"] == "solve_ivp"
        assert info["n_evaluations"] > 20
    assert errors[-1] < 1e-3 * errors[0]


def test_solve_ivp_that_stops_short():
    """Where the multiplier turns to noise, no step is short enough."""

    class Noisy:
        rng, n_calls = np.random.default_rng(0), 0

        def __call__(self, u):
            return float(abs(u).max())

        def derivative(self, u, direction):
            self.n_calls += 1
            return (1e6 if self.n_calls > 60 else 1e-3) * self.rng.standard_normal()

    with pytest.raises(IntegrationError, match=r"solve_ivp gave up after t = \S+: "):
        integrate(BOX, SMOOTH, [1.0], integrator="solve_ivp", preserve=Noisy())


@pytest.mark.parametrize(
    ("name", "n_steps"), [pytest.param("pade02", 100_000, marks=pytest.mark.slow)] + [(name, 5000) for name in LINEAR]
)
def test_energy_is_kept(name, n_steps):
    """Drift of at most 1e-14: every step ends by rescaling, so nothing accumulates."""
    dt = 1e-4 if n_steps > 5000 else 1e-3
    times = np.linspace(0, n_steps * dt, 11)
    u, info = integrate(BOX, noise(BOX), times, integrator=name, dt=dt, steady_tolerance=0)
    energy = BOX.cell_volume * ((np.diff(u, axis=1) * 16) ** 2).sum(axis=1)
    assert info["n_steps"] == pytest.approx(n_steps, abs=10)
    assert np.ptp(energy) <= 1e-14 * energy[0]


@pytest.mark.parametrize("box", [BOX, LONG])
@pytest.mark.parametrize("preserve", [*QUADRATIC, "total_variation", largest_slope])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_every_functional_is_kept(name, preserve, box):
    if name == "solve_ivp" and callable(preserve):
        preserve = lambda u: float((abs(u) ** 3).sum()) ** (1 / 3)  # noqa: E731 (BDF wants a smooth right-hand side)
    tolerance = 1e-5 if name == "solve_ivp" else 1e-13
    u, _ = integrate(box, noise(box, 2), [0.0, 1e-3, 0.1], preserve=preserve, integrator=name)
    norms = [discrete_norm(box, state, preserve) for state in u]
    np.testing.assert_allclose(norms, norms[0], rtol=tolerance)
    if preserve in QUADRATIC:
        expected = semidiscrete(box, noise(box, 2), [0.0, 1e-3, 0.1], QUADRATIC[preserve])
        assert distance(u, expected) < 0.1


def test_multiplier_never_rises():
    u, _ = integrate(BOX, noise(BOX), np.linspace(0, 0.3, 100), dt=1e-3)
    laws.never_rises([discrete_multiplier(BOX, state) for state in u])


def test_a_stepper_that_keeps_no_eye_on_the_mean_is_destroyed():
    """On [0, 1] rounding of 1e-16 in the mean grows like exp(pi^2 t): to order 1 near t = 4."""
    u_0, dt, times = SMOOTH + 0.0, 0.01, np.array([1.0, 5.0])
    step = solve(np.eye(16) - dt * BOX.laplacian.toarray(), np.eye(16))
    u, careless = u_0 - u_0.mean(), []
    for _ in range(500):
        v = step @ u
        u = v * math.sqrt((np.diff(u) ** 2).sum() / (np.diff(v) ** 2).sum())
        careless.append(u)
    assert abs(careless[99].mean()) < 1e-6
    assert abs(careless[499].mean()) > np.ptp(careless[499])

    for name in INTEGRATORS:
        ours, _ = integrate(BOX, u_0, times, integrator=name)
        assert abs(ours.mean(axis=1)).max() < 1e-15
        assert shape_of(ours[1])[1] == pytest.approx(1, abs=1e-8 if name == "solve_ivp" else 1e-14)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_the_mean_that_is_kept(name):
    """b_0' = lambda b_0: it grows with the rest's own factor, and never disturbs it."""
    u_0, t = 0.25 + grid([1.0]), 0.1
    m_1 = (32 * math.sin(math.pi / 32)) ** 2
    kept, _ = integrate(BOX, u_0, [0.0, t], integrator=name, mean="keep")
    projected, _ = integrate(BOX, u_0, [0.0, t], integrator=name)
    tolerance = {"euler": 0.1, "backward-euler": 0.1, "pade02": 1e-2, "crank-nicolson": 1e-2}.get(name, 1e-6)
    assert kept[0].mean() == pytest.approx(0.25, rel=1e-14)
    assert kept[1].mean() == pytest.approx(0.25 * math.exp(m_1 * t), rel=tolerance)
    np.testing.assert_allclose(kept - kept.mean(axis=1, keepdims=True), projected, atol=1e-13)
    np.testing.assert_allclose(projected.mean(axis=1), 0, atol=1e-15)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_mean_that_leaves_float64(name):
    with pytest.raises(OverflowError, match='exceeds float64 by time 3; use mean="project"'):
        integrate(BOX, 1e300 * (0.25 + SMOOTH), [0.1, 3.0], integrator=name, mean="keep")
    if name in ("backward-euler", "solve_ivp"):
        with pytest.raises(OverflowError, match='exceeds float64 by time 80; use mean="project"'):
            integrate(BOX, 0.25 + SMOOTH, [1.0, 80.0], integrator=name, mean="keep")


def test_a_constrained_mean_wins():
    """Where the value is preserved, the mean is a mode like any other, and the slowest."""
    for name in ("pade02", "solve_ivp"):
        u, _ = integrate(BOX, 0.25 + SMOOTH, [0.0, 0.1, 5.0], preserve="value", mean="keep", integrator=name)
        np.testing.assert_allclose((u**2).mean(axis=1), ((0.25 + SMOOTH) ** 2).mean(), rtol=1e-6)
        np.testing.assert_allclose(u[-1], u[-1, 0], rtol=1e-6)
        v = BOX.to_modes(0.25 + SMOOTH) * np.exp(-BOX.discrete_eigenvalues * 0.1)
        expected = BOX.to_grid(v * math.sqrt((BOX.to_modes(0.25 + SMOOTH) ** 2).sum() / (v**2).sum()))
        assert distance(u[1:2], expected[None]) < 1e-3


def test_exceeding_float64():
    with pytest.raises(OverflowError, match=r"the solution exceeds float64 by time 0.1$"):
        integrate(Box(shape=(64,)), 1e308 * (-1.0) ** np.arange(64), [0.0, 0.1])


def test_theta_keeps_a_rough_path():
    """The whole path of white noise to 1e-3 in 171 steps of theta / lambda; as many equal ones lose its beginning."""
    box, T = Box(shape=(512,)), 0.05
    u_0, times = noise(box), np.geomspace(1e-6, T, 12)
    u, info = integrate(box, u_0, times)
    assert info["theta"] == 1 / 16
    assert info["n_steps"] == pytest.approx(170, abs=10)
    assert distance(u, semidiscrete(box, u_0, times)) < 1e-3

    times = np.linspace(0, T, 171)[1:]
    u, info = integrate(box, u_0, times, dt=T / 170)
    assert info["n_steps"] == 170
    assert distance(u[:1], semidiscrete(box, u_0, times[:1])) > 0.1
    assert distance(u[:20], semidiscrete(box, u_0, times[:20])) > 0.01


@pytest.mark.parametrize("preserve", ["gradient", "total_variation"])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_one_dimension_within_two(name, preserve):
    """A function of x alone flows on a rectangle as on the interval."""
    rectangle, u_0 = Box(shape=(16, 3), lengths=(1.0, 2.0)), noise(BOX)
    times = [0.0, 1e-3, 0.05]
    how = {"dt": 1e-4} if name in SCHEMES else {}
    u, _ = integrate(rectangle, np.repeat(u_0[:, None], 3, axis=1), times, integrator=name, preserve=preserve, **how)
    v, _ = integrate(BOX, u_0, times, integrator=name, preserve=preserve, **how)
    np.testing.assert_allclose(u, np.repeat(v[:, :, None], 3, axis=2), atol=1e-5 if name == "solve_ivp" else 1e-12)


@given(spectra(max_modes=7), st.sampled_from(LINEAR), st.floats(-1e150, 1e150).filter(lambda a: abs(a) > 1e-150))
def test_scale_and_reflection(c, name, a):
    """u_0 -> a u_0 scales the solution, and reflecting the interval reflects it."""
    u_0 = grid(c, SMALL)
    how = {"integrator": name, "dt": 1e-3}
    u, _ = integrate(SMALL, u_0, [0.0, 4e-3], **how)
    scaled, _ = integrate(SMALL, a * u_0, [0.0, 4e-3], **how)
    mirrored, _ = integrate(SMALL, u_0[::-1], [0.0, 4e-3], **how)
    laws.close(scaled / a, u, ulps=200, scale=abs(u).max())
    laws.close(mirrored[:, ::-1], u, ulps=200, scale=abs(u).max())


def test_energy_of_a_central_difference_runs_away():
    """With the multiplier of another energy than -<u, L u>, that is not kept: on noise it grows fiftyfold."""
    box = Box(shape=(64,))
    m = box.discrete_eigenvalues
    central = (np.sin(np.arange(64) * math.pi / 64) * 64) ** 2  # of (u_{i+1} - u_{i-1}) / 2h: too small for high modes
    c = box.to_modes(noise(box))
    c[0] = 0

    def right_side(t, c):
        return (-m + (m**2 * c**2).sum() / (central * c**2).sum()) * c

    end = solve_ivp(right_side, (0, 4e-3), c, method="LSODA", rtol=1e-10, atol=1e-12).y[:, -1]
    assert (m * end**2).sum() > 50 * (m * c**2).sum()
    state = integrate(box, box.to_grid(c), [4e-3])[0][0]
    assert discrete_norm(box, state) ** 2 == pytest.approx((m * c**2).sum(), rel=1e-13)


@pytest.mark.parametrize("name", BOUNDED)
def test_steps_by_theta_go_to_half_the_bound(name):
    """However large theta is: then all steps are of one length, half the bound or a little less."""
    bound = SCHEMES[name].bound_on(BOX.discrete)
    t = 20.25 * bound
    assert integrate(BOX, SMOOTH, [t], integrator=name, theta=1e9)[1]["n_steps"] == math.ceil(t / (0.5 * bound))


@pytest.mark.parametrize("length", [2.0**-5, 2.0**5])
def test_steps_by_theta_scale_with_the_box(length):
    """Times are in units of the length squared: the steps are as many, and the same."""
    base, info = integrate(BOX, SMOOTH, [0.05])
    scaled, scaled_info = integrate(Box(shape=(16,), lengths=(length,)), SMOOTH, [0.05 * length**2])
    assert scaled_info == info
    np.testing.assert_allclose(scaled, base, rtol=0, atol=1e-13)


def test_the_default_is_of_second_order_in_space():
    """No error in time stays: 2.00 from 32 to 128 cells, against the exact solution at the cell centres."""
    errors = []
    for n in (32, 64, 128):
        box = Box(shape=(n,))
        flow, u_0 = RenormalizedFlow(box), grid([0.4, 0.7, -0.2], box)
        ds = flow.solve(u_0, [0.01, 0.05], "finite-difference", C=1.0)
        assert ds.integrator == "exact"
        errors.append(abs(ds.u - flow.solve(u_0, [0.01, 0.05], C=1.0).u).max().item())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.02)


@pytest.mark.parametrize("box", [BOX, LONG])
@pytest.mark.parametrize("preserve", [*QUADRATIC, "total_variation"])
def test_exact_at_infinity_and_backwards(box, preserve):
    """At infinity the lowest mode alone; back and forth again is the identity; N stays."""
    u_0 = noise(box)
    u, _ = integrate(box, u_0, [math.inf, -1e-4, -math.inf], integrator="exact", preserve=preserve)
    m = box.discrete.eigenvalues
    for state, k in zip(u[[0, 2]], (np.where(m > 0, m, np.inf).argmin(), m.argmax()), strict=True):
        assert shape_of(state, box).flat[k] == pytest.approx(1, abs=1e-14)
    again, _ = integrate(box, u[1], [1e-4], integrator="exact", preserve=preserve)
    np.testing.assert_allclose(again[0], u_0 - u_0.mean(), rtol=0, atol=1e-12)
    norms = [discrete_norm(box, state, preserve) for state in [*u, u_0 - u_0.mean()]]
    np.testing.assert_allclose(norms, norms[0], rtol=1e-12)


def test_an_unstable_state_is_not_where_the_flow_ends():
    """A perturbation of 1e-10, which changes nothing to see for a while, takes over in the end."""
    u_0 = grid([1e-10, 0.0, 1.0])
    u, info = integrate(BOX, u_0, [0.1, 1.0, 100.0])
    assert [shape_of(state).argmax() for state in u] == [3, 1, 1]
    assert info["steady_from"] > 0.3
    u, info = integrate(BOX, u_0, [100.0], steady_tolerance=1e-6)  # the change is 8 pi^2 1e-10 per unit of time
    assert info["steady_from"] < 0.1
    assert shape_of(u[0]).argmax() == 3


@pytest.mark.parametrize("name", INTEGRATORS)
@pytest.mark.parametrize("boundary", ["periodic", "fixed", ("fixed", "no-flux")])
def test_other_boundary_conditions(boundary, name):
    """With and without null modes, one axis or two: close to the exact solution of the same differences."""
    box = Box((12,) if isinstance(boundary, str) else (6, 5), boundary=boundary)
    u_0, times = noise(box, 4), [0.0, 1e-3, 0.02]
    u, _ = integrate(box, u_0, times, integrator=name)
    expected = RenormalizedFlow(box.discrete).evolve(u_0, times)
    tolerances = {"exact": 1e-12, "solve_ivp": 1e-6}
    assert distance(u, expected) < (tolerances[name] if name in tolerances else (1 / 16) ** SCHEMES[name].order)
