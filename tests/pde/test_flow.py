"""The exact solution of eq. (22): against 60 digits, and as laws."""

import math

import mpmath as mp
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st

from diffmath.pde import Box, RenormalizedFlow
from paper_figures import figure7
from paper_figures.run import Profile, Run
from tests import laws
from tests.strategies import spectra

BOX = Box(shape=(64,))
FLOW = RenormalizedFlow(BOX)
TIMES = [0.0, 1e-5, 1e-3, 0.02, 0.3, 2.0, 50.0]


def grid(c, box=BOX):
    """The grid function with amplitudes c_1, c_2, ... in 1-D."""
    modes = np.zeros(box.shape)
    modes[1 : len(c) + 1] = c
    return box.to_grid(modes)


def exact(c, t, x):
    """u(x, t), lambda(t) and p_k(t) on [0, 1] to 60 digits: the heat flow, then one scaling."""
    with mp.workdps(60):
        c = [mp.mpf(float(a)) for a in c]
        mu = [(k * mp.pi) ** 2 for k in range(1, len(c) + 1)]
        v = [a * mp.exp(-m * mp.mpf(t)) for a, m in zip(c, mu, strict=True)]
        energy = [m * b**2 for m, b in zip(mu, v, strict=True)]
        scale = mp.sqrt(mp.fsum(m * a**2 for a, m in zip(c, mu, strict=True)) / mp.fsum(energy))
        u = [
            scale * mp.sqrt(2) * mp.fsum(b * mp.cos(k * mp.pi * mp.mpf(float(y))) for k, b in enumerate(v, start=1))
            for y in x
        ]
        p = [e / mp.fsum(energy) for e in energy]
        return [float(a) for a in u], float(mp.fsum(m * q for m, q in zip(mu, p, strict=True))), [float(q) for q in p]


def test_figure_7_is_exact():
    """The figure's own solution, from its 64 amplitudes, at all of its snapshots: to 1e-12 of its size."""
    solution = figure7.compute(Run(7, Profile.auto, "cpu", 0))
    rng = np.random.default_rng([7, 0])
    c = rng.standard_normal(figure7.N_MODES) / np.arange(1, figure7.N_MODES + 1)
    some = slice(3, None, 101)
    for t in figure7.SNAPSHOTS:
        now = solution.sel(time=t)
        u, multiplier, p = exact(c, t, now.x.values[some])
        size = abs(now.u.values).max()
        np.testing.assert_allclose(now.u.values[some], u, rtol=0, atol=1e-12 * size)
        assert now.multiplier.item() == pytest.approx(multiplier, rel=1e-12)
        np.testing.assert_allclose(now.energy_fraction.values[1 : len(p) + 1], p, rtol=0, atol=1e-12)
    assert solution.multiplier[-1].item() == pytest.approx(math.pi**2, rel=1e-12)


@given(spectra(), st.sampled_from(TIMES))
@example(np.array([0.1, 1.0]), 0.02)
def test_against_60_digits(c, t):
    """Any spectrum, from grid values: to 1e-12 of the solution's size, at any time."""
    ds = FLOW.solve(grid(c), t)
    some = slice(5, None, 29)
    u, multiplier, p = exact(c, t, ds.x.values[some])
    # Rounding of the grid values acts like modes of 1e-16 of the largest: in the energy, times mu_k up to 4e4.
    size = abs(ds.u.values).max()
    np.testing.assert_allclose(ds.u.values[0, some], u, rtol=0, atol=1e-12 * size)
    assert ds.multiplier.item() == pytest.approx(multiplier, rel=1e-12)
    np.testing.assert_allclose(ds.energy_fraction.values[0, 1 : len(p) + 1], p, rtol=0, atol=1e-12)


@given(spectra())
def test_energy_is_kept_and_the_multiplier_never_rises(c):
    """Eq. (21); d lambda / dt = -2 Var_p(mu) <= 0; lambda ends at the lowest mode's mu."""
    ds = FLOW.solve(grid(c), TIMES)
    laws.conserved(ds.energy.values, ulps=64)
    laws.never_rises(ds.multiplier.values, ulps=64)
    np.testing.assert_allclose(ds.energy_fraction.sum("k_x"), 1, rtol=1e-14)
    assert ds.multiplier.values[-1] == pytest.approx(math.pi**2, rel=1e-14)


def test_energy_is_the_papers():
    """The integral (21) of the solution itself, by a fine quadrature of its derivative, and C from the formula."""
    c = [0.5, -0.3, 0.2]
    ds = FLOW.solve(grid(c), [0.0, 0.05])
    x = (np.arange(20_000) + 0.5) / 20_000
    for i in range(2):
        modes = BOX.to_modes(ds.u.values[i])[:6]
        slope = -sum(b * math.sqrt(2) * k * math.pi * np.sin(k * math.pi * x) for k, b in enumerate(modes))
        assert (slope**2).mean() == pytest.approx(ds.energy.values[i], rel=1e-10)
        assert ds.energy.values[i] == pytest.approx(sum((k * math.pi * a) ** 2 for k, a in enumerate(c, start=1)))


def test_solves_the_equation():
    """u_t = Lap u + lambda u with lambda = integral (Lap u)^2 / C: by central differences in time, order 2."""
    u_0 = grid([0.4, 0.7, -0.2, 0.1])
    mu, t = BOX.eigenvalues, 0.01
    residuals = []
    for dt in (1e-4, 5e-5):
        before, now, after = FLOW.solve(u_0, [t - dt, t, t + dt]).u.values
        laplacian = BOX.to_grid(-mu * BOX.to_modes(now))
        multiplier = (laplacian**2).sum() * BOX.cell_volume / (mu * BOX.to_modes(u_0) ** 2).sum()
        residuals.append(abs((after - before) / (2 * dt) - laplacian - multiplier * now).max())
    assert math.log2(residuals[0] / residuals[1]) == pytest.approx(2, abs=0.05)


def test_multiplier_falls_by_the_variance():
    """d lambda / dt = -2 Var_p(mu), by central differences."""
    dt, mu = 1e-6, BOX.eigenvalues
    ds = FLOW.solve(grid([0.4, 0.7, -0.2, 0.1]), [0.01 - dt, 0.01, 0.01 + dt])
    p = ds.energy_fraction.values[1]
    variance = (p * mu**2).sum() - (p * mu).sum() ** 2
    slope = (ds.multiplier.values[2] - ds.multiplier.values[0]) / (2 * dt)
    assert slope == pytest.approx(-2 * variance, rel=1e-4)


@given(spectra(), st.floats(1e-4, 0.05), st.floats(1e-4, 0.05))
def test_semigroup(c, t_1, t_2):
    """Two short flows are one long one."""
    middle = FLOW.solve(grid(c), t_1).u.values[0]
    expected = FLOW.solve(grid(c), t_1 + t_2).u.values[0]
    laws.close(FLOW.solve(middle, t_2).u.values[0], expected, ulps=4000, scale=abs(expected).max())


@given(spectra(), st.floats(-1e6, 1e6).filter(lambda a: abs(a) > 1e-6))
def test_scale_and_reflection(c, a):
    """u_0 -> a u_0 scales the solution; reflecting the box reflects it; neither changes lambda."""
    base = FLOW.solve(grid(c), TIMES)
    size = abs(base.u.values).max()
    scaled, mirrored = FLOW.solve(a * grid(c), TIMES), FLOW.solve(grid(c)[::-1], TIMES)
    laws.close(scaled.u.values / a, base.u.values, ulps=4000, scale=size)
    laws.close(mirrored.u.values[:, ::-1], base.u.values, ulps=4000, scale=size)
    for other in (scaled, mirrored):
        np.testing.assert_allclose(other.multiplier, base.multiplier, rtol=1e-11)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_steady_states_stay(k):
    """sqrt(C / mu_k) w_k with lambda = mu_k, for as long as rounding in lower modes has not grown."""
    u_0 = FLOW.steady_state(k, C=3.0)
    ds = FLOW.solve(u_0, [0.0, 0.01])
    laws.close(ds.u.values[1], u_0, ulps=1000, scale=abs(u_0).max())
    np.testing.assert_allclose(ds.multiplier, (k * math.pi) ** 2, rtol=1e-12)
    np.testing.assert_allclose(ds.energy, 3.0, rtol=1e-14)


def test_decays_to_the_first_eigenmode():
    """From noise to +- sqrt(C / mu_1) w_1, the sign that of the first amplitude; and at t = 1e4 nothing is lost."""
    u_0 = np.random.default_rng(1).standard_normal(64)
    ds = FLOW.solve(u_0, [3.0, 1e4])
    limit = FLOW.steady_state(1, C=ds.energy.values[0]) * np.sign(BOX.to_modes(u_0)[1])
    for u in ds.u.values:
        laws.close(u, limit, ulps=100, scale=abs(limit).max())


def test_backwards_goes_to_the_highest_mode():
    """At finite resolution t < 0 is bounded by (21), and inverts t > 0."""
    u_0 = grid([0.5, 0.3, 0.2])
    ds = FLOW.solve(u_0, [-0.001, -1e3])
    np.testing.assert_allclose(ds.energy, ds.energy[0], rtol=1e-13)
    assert ds.energy_fraction.values[1].argmax() == 63
    # Back and forth: rounding of 1e-16 grows by exp(mu_63 t), here 50, which is why time must be short.
    forth = FLOW.solve(u_0, 1e-4).u.values[0]
    np.testing.assert_allclose(FLOW.solve(forth, -1e-4).u.values[0], u_0, atol=1e-12)


def test_mean():
    """It obeys b_0' = lambda b_0: kept with its exact growth, or projected out."""
    u_0 = 0.25 + grid([1.0])
    kept, projected = FLOW.solve(u_0, [0.0, 0.1], mean="keep"), FLOW.solve(u_0, [0.0, 0.1])
    np.testing.assert_allclose(kept.u.mean("x"), [0.25, 0.25 * math.exp(0.1 * math.pi**2)], rtol=1e-13)
    np.testing.assert_allclose(projected.u.mean("x"), 0, atol=1e-15)
    np.testing.assert_allclose(kept.u - kept.u.mean("x"), projected.u, atol=1e-14)
    # Two modes of equal energy: exp of the integral of lambda is (sum p_k exp(-2 mu_k t))^(-1/2).
    both = FLOW.solve(0.25 + grid([1.0, 0.5]), 0.05, mean="keep")
    growth = (0.5 * math.exp(-0.1 * math.pi**2) + 0.5 * math.exp(-0.4 * math.pi**2)) ** -0.5
    assert both.u.mean().item() == pytest.approx(0.25 * growth, rel=1e-13)
    with pytest.raises(OverflowError, match='use mean="project"'):
        FLOW.solve(u_0, [1e4], mean="keep")
    assert FLOW.solve(u_0, [1e4]).u.notnull().all()


def test_two_dimensions():
    """On a rectangle: the lowest mode lies along the longer side, and the energy is kept."""
    box = Box(shape=(16, 24), lengths=(1.0, 2.0))
    u_0 = np.random.default_rng(0).standard_normal(box.shape)
    ds = RenormalizedFlow(box).solve(u_0, [0.0, 5.0])
    assert ds.u.dims == ("time", "x", "y")
    np.testing.assert_allclose(ds.u[0], u_0 - u_0.mean(), atol=1e-13)
    assert ds.multiplier.values[1] == pytest.approx((math.pi / 2) ** 2, rel=1e-14)
    np.testing.assert_allclose(ds.energy, ds.energy[0], rtol=1e-13)
    np.testing.assert_allclose(abs(ds.u[1]), abs(RenormalizedFlow(box).steady_state((0, 1), ds.energy[0])), atol=1e-10)


def test_growth_rate():
    """Eq. (23), also as measured on a small perturbation."""
    assert FLOW.growth_rate(2, 1) == pytest.approx(3 * math.pi**2, rel=1e-14)
    assert FLOW.growth_rate(1, 3) == pytest.approx(-8 * math.pi**2, rel=1e-14)
    t, small = 0.01, 1e-5
    u_0 = FLOW.steady_state(2) + small * BOX.eigenfunction(5)
    b = BOX.to_modes(FLOW.solve(u_0, t).u.values[0])[5]
    assert math.log(b / small) / t == pytest.approx(FLOW.growth_rate(2, 5), rel=1e-3)


def test_dataset(tmp_path):
    """Any times in their order, coordinates, units; through a file and back."""
    u_0 = grid([1.0, 0.5])
    ds = FLOW.solve(u_0, [0.3, 0.0])
    np.testing.assert_array_equal(ds.time, [0.3, 0.0])
    np.testing.assert_array_equal(ds.x, BOX.coordinates[0])
    np.testing.assert_allclose(ds.u.sel(time=0.0), u_0, atol=1e-14)
    assert ds.attrs["preserve"] == "gradient"
    assert "(22)" in ds.attrs["equation"]
    assert ds.u.dtype == ds.multiplier.dtype == np.float64
    ds.to_netcdf(tmp_path / "flow.nc")
    with xr.open_dataset(tmp_path / "flow.nc") as back:
        xr.testing.assert_identical(back.load(), ds)


def test_bad_arguments():
    u_0 = grid([1.0])
    with pytest.raises(ValueError, match="must not be constant: it is 2.0 everywhere"):
        FLOW.solve(np.full(64, 2.0), 1.0)
    with pytest.raises(ValueError, match=r"u_0\[3\] = nan"):
        FLOW.solve(np.where(np.arange(64) == 3, np.nan, u_0), 1.0)
    with pytest.raises(ValueError, match=r"domain's shape \(64,\); its shape is \(63,\)"):
        FLOW.solve(u_0[:-1], 1.0)
    with pytest.raises(TypeError, match="u_0 must be real numbers; the dtype is complex128"):
        FLOW.solve(u_0.astype(complex), 1.0)
    with pytest.raises(ValueError, match="times must be finite"):
        FLOW.solve(u_0, [0.0, np.nan])
    with pytest.raises(ValueError, match='method must be "spectral"'):
        FLOW.solve(u_0, 1.0, method="magic")
    with pytest.raises(ValueError, match='mean must be "project" or "keep"'):
        FLOW.solve(u_0, 1.0, mean="lose")
    with pytest.raises(ValueError, match='preserve must be "gradient"'):
        RenormalizedFlow(BOX, preserve="mass")
    for call in (lambda: FLOW.growth_rate(0, 1), lambda: FLOW.steady_state(0)):
        with pytest.raises(ValueError, match="k must not be the constant mode"):
            call()
    with pytest.raises(ValueError, match="C must be positive"):
        FLOW.steady_state(1, C=-1.0)
