"""Runs in time as a user meets them: options, defaults, callbacks, interruptions, batches."""

import math

import numpy as np
import pytest

from diffmath.domains import Box
from diffmath.pde import RenormalizedFlow, stepping
from diffmath.pde.schemes import SCHEMES
from diffmath.pde.stepping import INTEGRATORS, Interrupted
from tests.pde.differences import (
    BOX,
    LINEAR,
    SMOOTH,
    integrate,
    largest_slope,
    noise,
)


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


def test_defaults_of_solve_ivp():
    info = integrate(BOX, SMOOTH, [1e-3], integrator="solve_ivp")[1]
    assert (info["rtol"], info["atol"]) == (1e-8, 1e-10)
    info = integrate(BOX, SMOOTH, [0.0], integrator="solve_ivp")[1]
    assert info == {"integrator": "solve_ivp", "n_evaluations": 0, "rtol": 1e-8, "atol": 1e-10}


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
    complete = stepping.integrate(BOX, SMOOTH, [0.01], integrator=name, callback=lambda t, u: t == 0.01)
    assert "stopped_at" not in complete.info  # there was nothing left to stop


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
