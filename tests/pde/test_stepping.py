"""Runs in time: what they keep, how they end, their options."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import solve

from diffmath.domains import Box
from diffmath.pde import RenormalizedFlow, stepping
from diffmath.pde.schemes import SCHEMES
from diffmath.pde.stepping import INTEGRATORS, IntegrationError, Interrupted
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


@pytest.mark.parametrize(("name", "n_steps"), [("pade02", 100_000)] + [(name, 5000) for name in LINEAR])
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


@pytest.mark.parametrize("name", LINEAR)
def test_times_in_any_order(name):
    """Every time is the end of a step; those of one place are the same."""
    times = np.array([0.1, 0.0, 0.0123, 0.1])
    for how in ({"dt": 1e-3}, {"theta": 0.1}, {}):
        u, _ = integrate(BOX, SMOOTH, times, integrator=name, **how)
        in_order, _ = integrate(BOX, SMOOTH, np.unique(times), integrator=name, **how)
        np.testing.assert_array_equal(u, in_order[[2, 0, 1, 2]])
        np.testing.assert_allclose(u[1], SMOOTH, rtol=0, atol=1e-15)


def test_number_of_steps():
    """ceil(interval / dt) for each interval, in spite of rounding: 0.7 / 0.1 is 7, as is (0.8 - 0.1) / 0.1."""
    for times, dt, n in (
        ([0.7], 0.1, 7),
        ([0.1, 0.8], 0.1, 8),
        ([0.1, 0.2, 0.3, 0.4], 0.1, 4),
        ([0.25], 0.1, 3),
        ([0.05, 0.2], 0.1, 3),
        ([0.0], 0.1, 0),
        ([], 0.1, 0),
    ):
        u, info = integrate(BOX, SMOOTH, times, dt=dt)
        assert info == {"integrator": "pade02", "n_steps": n, "dt": dt}
        assert u.shape == (len(times), 16)
    info = integrate(BOX, SMOOTH, [1e-9], theta=0.5)[1]
    assert info == {"integrator": "pade02", "n_steps": 1, "theta": 0.5}
    for times in ([0.0], []):
        assert integrate(BOX, SMOOTH, times, integrator="solve_ivp")[0].shape == (len(times), 16)


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


def test_bad_arguments():
    def call(*, u_0=SMOOTH, times=(1.0,), **kwargs):
        integrate(BOX, u_0, times, **kwargs)

    with pytest.raises(ValueError, match="finite differences go forward in time; the earliest of the times is -0.5"):
        call(times=[1.0, -0.5])
    with pytest.raises(ValueError, match="times must be finite"):
        call(times=[1.0, math.inf])
    with pytest.raises(ValueError, match="integrator must be one of exact, euler, .*, solve_ivp; it is 'heun'"):
        call(integrator="heun")
    with pytest.raises(ValueError, match="give dt or theta, not both; they are 0.1 and 0.2"):
        call(dt=0.1, theta=0.2)
    for name in ("dt", "theta"):
        for value in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=rf"{name} must be positive and finite; it is {value}"):
                call(**{name: value})
    with pytest.raises(ValueError, match='theta is an option of euler, .*; the integrator is "solve_ivp"'):
        call(integrator="solve_ivp", theta=0.1)
    with pytest.raises(ValueError, match='mean must be "project" or "keep"'):
        call(mean="lose")
    with pytest.raises(ValueError, match='preserve must be "gradient"'):
        call(preserve="mass")
    with pytest.raises(ValueError, match=r"must obey N\(a u\) = |a| N\(u\)"):
        call(preserve=lambda u: float((u**2).sum()))
    with pytest.raises(ValueError, match="the functional to preserve must be positive and finite; it is 0.0"):
        call(preserve=lambda u: 0.0)


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


def test_defaults_of_solve_ivp():
    info = integrate(BOX, SMOOTH, [1e-3], integrator="solve_ivp")[1]
    assert (info["rtol"], info["atol"]) == (1e-8, 1e-10)
    info = integrate(BOX, SMOOTH, [0.0], integrator="solve_ivp")[1]
    assert info == {"integrator": "solve_ivp", "n_evaluations": 0, "rtol": 1e-8, "atol": 1e-10}


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


def test_a_long_run_ends_at_the_steady_state():
    """At T = 1000 in hundreds of steps, not 157,966: the rest holds the lowest mode, to 1e-12 per unit of m_1 t."""
    box = Box(shape=(64,))
    flow, times = RenormalizedFlow(box), [0.1, 5.0, 1000.0]
    ds = flow.solve(noise(box), times, "finite-difference", integrator="pade02")
    assert ds.n_steps < 1000
    assert 0.1 < ds.steady_from < 5.0
    np.testing.assert_array_equal(ds.u[1], ds.u[2])
    exact = flow.solve(noise(box), times, "finite-difference").u
    np.testing.assert_allclose(ds.u[1:], exact[1:], rtol=0, atol=1e-11)
    with_all = flow.solve(noise(box), 5.0, "finite-difference", integrator="pade02", steady_tolerance=0)
    assert "steady_from" not in with_all.attrs
    np.testing.assert_allclose(with_all.u, ds.u[1:2], rtol=0, atol=1e-11)


def test_an_unstable_state_is_not_where_the_flow_ends():
    """A perturbation of 1e-10, which changes nothing to see for a while, takes over in the end."""
    u_0 = grid([1e-10, 0.0, 1.0])
    u, info = integrate(BOX, u_0, [0.1, 1.0, 100.0])
    assert [shape_of(state).argmax() for state in u] == [3, 1, 1]
    assert info["steady_from"] > 0.3
    u, info = integrate(BOX, u_0, [100.0], steady_tolerance=1e-6)  # the change is 8 pi^2 1e-10 per unit of time
    assert info["steady_from"] < 0.1
    assert shape_of(u[0]).argmax() == 3


@pytest.mark.parametrize("name", [*SCHEMES, "solve_ivp"])
def test_steady_tolerance(name):
    """The relative change per unit of time at the end is no more than the tolerance; an own mean never is steady."""
    tolerance = 1e-3
    u, info = integrate(BOX, SMOOTH, [0.01, 50.0], integrator=name, steady_tolerance=tolerance)
    assert 0.01 < info["steady_from"] < 1.0
    change = integrate(BOX, u[1], [0.01], integrator="exact")[0][0] - u[1]
    assert abs(change).max() < 1.1 * 0.01 * tolerance * abs(u[1]).max()
    info = integrate(BOX, SMOOTH + 0.1, [1.0], integrator=name, steady_tolerance=tolerance, mean="keep")[1]
    assert "steady_from" not in info


@pytest.mark.parametrize("name", INTEGRATORS)
def test_callback(name):
    """It sees the states of the result, read-only and in the scale of u_0, and stops the run by True, not by 1."""
    seen = {}

    def callback(t, u):
        assert not u.flags.writeable
        seen[t] = u.copy()
        return np.bool_(t >= 0.02) if stop else 1

    stop, times = False, [0.05, 0.01]
    run = stepping.integrate(BOX, 1e10 * SMOOTH, times, integrator=name, callback=callback)
    np.testing.assert_array_equal(run.states, [seen[t] for t in times])
    assert sorted(seen) == list(seen)
    assert (0.0 in seen) == (name != "exact")
    assert "stopped_at" not in run.info

    stop = True
    run = stepping.integrate(BOX, SMOOTH, [0.05, 0.01, 0.3], integrator=name, callback=callback)
    last = run.info["stopped_at"]
    assert run.times.tolist() == [0.01, last]
    assert last >= 0.02
    np.testing.assert_allclose(run.states[1], seen[last], rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_an_interrupted_run_keeps_its_states(name, batch):
    """As by Ctrl-C: the times that were reached, and the last state."""
    u_0 = np.random.default_rng(0).standard_normal((*batch, 16))

    def callback(t, u):
        assert u.shape == (*batch, 16)
        if t >= 0.02:
            raise KeyboardInterrupt

    flow = RenormalizedFlow(BOX)
    with pytest.raises(Interrupted, match="interrupted at t = 0.0") as caught:
        flow.solve(u_0, [0.01, 0.0, 0.03, 5.0], "finite-difference", integrator=name, callback=callback)
    ds = caught.value.dataset
    assert ds.time.values[:2].tolist() == [0.0, 0.01]
    assert ds.time.values[-1] >= 0.02
    assert ds.u.shape == (*batch, 3, 16)
    whole = flow.solve(u_0, ds.time.values, "finite-difference", integrator=name)
    tolerance = {"exact": 1e-12, "solve_ivp": 1e-6}.get(name, 0.1)  # the last step is a little shorter or longer
    np.testing.assert_allclose(ds.u, whole.u, rtol=0, atol=tolerance)
    assert isinstance(caught.value, KeyboardInterrupt)


def test_progress(capfd):
    """The simulated time, when it is asked for."""
    integrate(BOX, SMOOTH, [0.05])
    assert capfd.readouterr().err == ""
    for name in INTEGRATORS:
        integrate(BOX, SMOOTH, [0.0, 0.05], integrator=name, progress=True)
        assert "t = 0.05 of 0.05" in capfd.readouterr().err
    stepping.integrate(BOX, SMOOTH, [math.inf], progress=True)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_members_of_a_batch_are_solved_as_alone(name):
    """For fixed steps to rounding; "solve_ivp" to its tolerance."""
    u_0 = np.random.default_rng(0).standard_normal((5, 16)) * 10.0 ** np.arange(-2, 3)[:, None]
    how = {"dt": 1e-3 if name != "euler" else 1e-4} if name in SCHEMES else {}
    for preserve in ("gradient", "total_variation", largest_slope):
        if name == "solve_ivp" and callable(preserve):
            continue
        together, _ = integrate(BOX, u_0, [0.0, 0.02], integrator=name, preserve=preserve, **how)
        for u, member in zip(u_0, together, strict=True):
            alone, _ = integrate(BOX, u, [0.0, 0.02], integrator=name, preserve=preserve, **how)
            tolerance = 1e-6 if name == "solve_ivp" else 1e-13
            np.testing.assert_allclose(member, alone, rtol=0, atol=tolerance * abs(alone).max())


@pytest.mark.parametrize("name", INTEGRATORS)
def test_options_are_checked(name):
    """Each numeric option has one range for all integrators, and belongs to some of them."""
    good = {"dt": 1e-3, "theta": 0.1, "rtol": 1e-6, "atol": 1e-6, "steady_tolerance": 1e-3}
    taken = {"exact": set(), "solve_ivp": {"dt", "rtol", "atol", "steady_tolerance"}}
    for option, value in good.items():
        for bad in (-1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=f"{option} must be .*; it is {bad}"):
                integrate(BOX, SMOOTH, [0.1], integrator=name, **{option: bad})
        for bad in ("0.1", True, [0.1], 1j):
            with pytest.raises(TypeError, match=f"{option} must be"):
                integrate(BOX, SMOOTH, [0.1], integrator=name, **{option: bad})
        if option not in taken.get(name, {"dt", "theta", "steady_tolerance"}):
            with pytest.raises(ValueError, match=f'{option} is an option of .*; the integrator is "{name}"'):
                integrate(BOX, SMOOTH, [0.1], integrator=name, **{option: value})
    for bad in ([math.inf], [math.nan], [0.1, -1.0]):
        if name != "exact" or bad == [math.nan]:
            with pytest.raises(ValueError, match="time"):
                integrate(BOX, SMOOTH, bad, integrator=name)
    with pytest.raises(TypeError, match=r"callback must be callable, as callback\(t, u\); it is a int"):
        integrate(BOX, SMOOTH, [0.1], integrator=name, callback=3)
    with pytest.raises(TypeError, match="solve with the method .* has no option thta; it has integrator, dt, theta"):
        RenormalizedFlow(BOX).solve(SMOOTH, 0.1, "finite-difference", thta=0.1)


def test_the_default_integrator():
    """Exact in time, unless an option asks for steps."""
    assert stepping.integrate(BOX, SMOOTH, [0.1]).info == {"integrator": "exact"}
    for option in ({"dt": 1e-3}, {"theta": 0.1}, {"steady_tolerance": 1e-3}):
        assert stepping.integrate(BOX, SMOOTH, [0.1], **option).info["integrator"] == "pade02"


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
