"""The exact solution of eq. (22): against 60 digits, and as laws."""

import math

import numpy as np
import pytest
import scipy.linalg
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st

from diffmath.pde import Box, RenormalizedFlow
from tests import laws
from tests.pde.flows import BOX, FLOW, TIMES, exact, grid
from tests.strategies import spectra


def test_figure_7_is_exact():
    """The figure's own solution, from its 64 amplitudes, at all of its snapshots: to 1e-12 of its size."""
    pytest.importorskip("torch")  # of the other figures
    from paper_figures import figure7
    from paper_figures.run import Profile, Run

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
    laws.within(ds.u.values[0, some], u, 1e-12 * size, label="u")
    laws.within(ds.multiplier.item(), multiplier, 1e-12 * multiplier, label="multiplier")
    laws.within(ds.energy_fraction.values[0, 1 : len(p) + 1], p, 1e-12, label="shares")


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
    laws.semigroup(lambda u, t: FLOW.solve(u, t).u.values[0], grid(c), t_1, t_2, ulps=4000)


@given(spectra(), st.floats(-1e6, 1e6).filter(lambda a: abs(a) > 1e-6))
def test_scale_and_reflection(c, a):
    """u_0 -> a u_0 scales the solution; reflecting the box reflects it; neither changes lambda."""
    base = FLOW.solve(grid(c), TIMES)
    size = abs(base.u.values).max()
    scaled, mirrored = FLOW.solve(a * grid(c), TIMES), FLOW.solve(grid(c)[::-1], TIMES)
    laws.close(scaled.u.values / a, base.u.values, ulps=4000, scale=size, label="scaled")
    laws.close(mirrored.u.values[:, ::-1], base.u.values, ulps=4000, scale=size, label="mirrored")
    multipliers = [scaled.multiplier, mirrored.multiplier]
    laws.within(multipliers, [base.multiplier] * 2, 1e-11 * base.multiplier.values, label="multiplier")


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


def test_a_steady_state_from_the_grid_and_from_modes():
    """From the grid's rounded values state k is lost when (mu_k - mu_1) t passes 32; from amplitudes never."""
    k = 5
    from_modes = FLOW.solve_modes({k: 1.0}, [0.0, 1.0, 1e4, math.inf])
    np.testing.assert_array_equal(from_modes.energy_fraction.sel(k_x=k), 1)
    np.testing.assert_allclose(from_modes.u, np.broadcast_to(from_modes.u[0], (4, 64)), rtol=0, atol=1e-15)
    kept, lost = np.array([20, 45]) / FLOW.growth_rate(k, 1)
    from_grid = FLOW.solve(FLOW.steady_state(k), [kept, lost])
    assert from_grid.energy_fraction.sel(k_x=k).values[0] > 0.999
    assert from_grid.energy_fraction.sel(k_x=k).values[1] < 0.001


@given(spectra(6), spectra(6), st.floats(0, 0.3))
def test_products(first, second, t):
    """The heat flow of f(x) g(y) is the product of theirs, and so is the flow that keeps the L2 norm."""
    plane, line = Box(shape=(8, 8), lengths=(1.0, 2.0)), Box(shape=(8,), lengths=(2.0,))
    f, g = np.zeros(8), np.zeros(8)
    f[1 : len(first) + 1], g[1 : len(second) + 1] = first, second

    def flow(box, c):
        return RenormalizedFlow(box, "value").solve_modes(c, t).amplitude.values[0]

    product = np.multiply.outer(flow(Box(shape=(8,)), f), flow(line, g))
    laws.close(flow(plane, np.multiply.outer(f, g)), product, ulps=32, scale=abs(product).max())


def test_one_dimension_in_two():
    """A function of x alone stays one, and follows the flow on the interval."""
    u_0 = grid([0.4, 0.7, -0.2])
    line = FLOW.solve(u_0, [0.0, 0.01, 1.0])
    plane = RenormalizedFlow(Box(shape=(64, 5))).solve(np.repeat(u_0[:, None], 5, axis=1), [0.0, 0.01, 1.0])
    np.testing.assert_allclose(plane.u, np.repeat(line.u.values[..., None], 5, axis=2), atol=1e-13)
    np.testing.assert_allclose(plane.multiplier, line.multiplier, rtol=1e-12)


@pytest.mark.parametrize("method", ["spectral", "finite-difference"])
def test_batches(method):
    """Leading dimensions stay, with their names and coordinates; float32 comes back as float32."""
    u_0 = np.stack([grid([1.0, 0.5]), grid([0.2, -0.4, 0.3])])
    times = [0.3, 0.0, 0.01]
    each = [FLOW.solve(u, times, method) for u in u_0]
    ds = FLOW.solve(u_0, times, method)
    assert ds.u.dims == ("batch", "time", "x")
    assert ds.energy_fraction.dims == ("batch", "time", "k_x")
    for i, one in enumerate(each):
        np.testing.assert_allclose(ds.u[i], one.u, rtol=0, atol=1e-14)
        np.testing.assert_allclose(ds.multiplier[i], one.multiplier, rtol=1e-13)
    named = xr.DataArray(u_0.astype(np.float32), dims=("member", "x"), coords={"member": ["a", "b"]})
    ds32 = FLOW.solve(named, times, method)
    assert ds32.u.dims == ("member", "time", "x")
    assert list(ds32.member.values) == ["a", "b"]
    assert ds32.u.dtype == np.float32
    assert ds32.multiplier.dtype == np.float64
    np.testing.assert_allclose(ds32.u.values, ds.u.values, atol=1e-5)
    assert FLOW.solve(u_0.reshape(2, 1, 64), 0.1, method).u.dims == ("batch_1", "batch_2", "time", "x")


def test_a_batch_of_very_small_and_large():
    """Its members, 160 decades apart, are solved as each is by itself."""
    c = np.outer([1e80, 1.0, 1e-80], [0.0, 1.0, 0.5, -0.25] + [0.0] * 60)
    together = FLOW.solve_modes(c, [0.0, 0.01])
    for member, one in zip(together.amplitude.values, c, strict=True):
        alone = FLOW.solve_modes(one, [0.0, 0.01]).amplitude.values
        np.testing.assert_allclose(member, alone, rtol=0, atol=1e-14 * one[1])


@pytest.mark.parametrize("size", [1e-140, 1e140])
def test_very_small_and_large(size):
    """Anything whose energy is a float64 number is solved; the rest is refused."""
    base = FLOW.solve(grid([1.0, 0.5]), [0.0, 0.1])
    ds = FLOW.solve(size * grid([1.0, 0.5]), [0.0, 0.1])
    np.testing.assert_allclose(ds.u.values / size, base.u, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ds.energy / size**2, base.energy, rtol=1e-12)
    with pytest.raises(OverflowError, match="must be a float64 number above"):
        FLOW.solve(size * size * grid([1.0, 0.5]), 0.1)
    length = size**0.4
    long = Box(shape=(64,), lengths=(length,))
    for solve in (
        lambda box, t: RenormalizedFlow(box).solve(grid([1.0, 0.5]), [0.0, t]).u.values,
        lambda box, t: RenormalizedFlow(box).evolve(grid([1.0, 0.5]), [0.0, t]),
    ):
        np.testing.assert_allclose(solve(long, 0.1 * length**2), solve(BOX, 0.1), atol=1e-12)
    with pytest.raises(OverflowError, match="exceeds float32"):
        FLOW.solve(grid([1.0, 0.5]).astype(np.float32), 0.1, C=1e90)


@pytest.mark.parametrize("modes", [{1: 1.0}, {1: 1.0, 2: 1.0}, {2: 1e-20, 7: 1e-100}])
def test_backwards_to_the_limit(modes):
    """What is left is the highest mode present, though modes above it are absent."""
    for n in (24, 64, 4096):
        ds = RenormalizedFlow(Box((n,))).solve_modes(modes, [-1e13, -math.inf])
        np.testing.assert_allclose(ds.energy_fraction.sel(k_x=max(modes)), 1, rtol=1e-14)
        np.testing.assert_allclose(ds.energy, ds.energy[0], rtol=1e-14)
    box = RenormalizedFlow(Box((8, 64), (1.0, 1e-3)))
    ds = box.solve_modes({(1, 0): 1.0, (2, 0): 1.0}, [-1e13, -math.inf])
    np.testing.assert_allclose(ds.energy_fraction.sel(k_x=2, k_y=0), 1, rtol=1e-14)


def test_amplitudes_600_decades_apart():
    ds = FLOW.solve_modes({1: 1e-300, 5: 1e300}, [0.0, 10.0], C=1.0)
    np.testing.assert_allclose(ds.energy_fraction.sel(k_x=1), [0, 1], atol=1e-15)


def test_named_dimensions():
    """A DataArray is read by its names; what contradicts the domain, or the solution's own names, is refused."""
    box = Box((6, 6))
    flow = RenormalizedFlow(box)
    x, y = box.coordinates
    u_0 = xr.DataArray(np.random.default_rng(0).standard_normal((6, 6)), dims=("x", "y"), coords={"x": x, "y": y})
    expected = flow.solve(u_0, 0.01).u
    np.testing.assert_array_equal(expected, flow.solve(u_0.values, 0.01).u)
    np.testing.assert_array_equal(flow.solve(u_0.transpose("y", "x"), 0.01).u, expected)
    with pytest.raises(ValueError, match="the coordinate x of u_0 must be the domain's"):
        flow.solve(u_0.assign_coords(x=x + 1), 0.01)
    with pytest.raises(ValueError, match="u_0 has a dimension 'time' that the solution has too"):
        flow.solve(expected, 0.01)
    np.testing.assert_allclose(flow.solve(expected.isel(time=0), 0.0).u[0], expected[0], atol=1e-14)


@pytest.mark.parametrize("method", ["spectral", "finite-difference"])
def test_a_large_mean_does_not_drown_the_rest(method):
    """Kept, it grows like exp(mu_1 t); the energy, the shares and the multiplier are those without it."""
    u_0 = grid([1.0, 0.3])
    for t in (1.0, 3.8, 6.0):
        kept, without = (
            FLOW.solve(0.25 * (mean == "keep") + u_0, t, method, mean=mean) for mean in ("keep", "project")
        )
        for name in ("energy", "multiplier", "energy_fraction"):
            np.testing.assert_allclose(kept[name], without[name], rtol=1e-6, atol=1e-9)
    value = RenormalizedFlow(BOX, "value").solve(0.25 + u_0, [1.0, 40.0, 1e4], mean="keep")
    np.testing.assert_allclose(value.u[-1], math.sqrt(float(value.preserved[0])), rtol=1e-12)  # the mean wins


@pytest.mark.parametrize("method", ["spectral", "finite-difference"])
@pytest.mark.parametrize("shape", [(16,), (6, 8)])
def test_dataset(method, shape, tmp_path):
    """Any times in their order, coordinates, units, attributes; through a file and back."""
    box = Box(shape=shape, lengths=(2.0,) * len(shape))
    u_0 = np.random.default_rng(0).standard_normal((2, *shape))
    u_0 -= u_0.mean(axis=tuple(range(1, u_0.ndim)), keepdims=True)
    ds = RenormalizedFlow(box).solve(u_0, [0.3, 0.0], method)
    np.testing.assert_array_equal(ds.time, [0.3, 0.0])
    np.testing.assert_array_equal(ds.x, box.coordinates[0])
    np.testing.assert_allclose(ds.u.sel(time=0.0), u_0, atol=1e-13)
    assert (ds.time.attrs["units"], ds.x.attrs["units"]) == ("length^2", "length")
    assert ds.multiplier.attrs["units"] == "1 / length^2"
    assert (ds.attrs["preserve"], ds.attrs["method"]) == ("gradient", method)
    assert ds.attrs["mean"] == "project"
    assert "(22)" in ds.attrs["equation"]
    assert "diffmath" in ds.attrs["versions"]
    np.testing.assert_allclose(ds.energy_fraction.sum(axis=tuple(range(2, ds.energy_fraction.ndim))), 1, rtol=1e-13)
    ds.to_netcdf(tmp_path / "flow.nc")
    with xr.open_dataset(tmp_path / "flow.nc") as back:
        xr.testing.assert_identical(back.load(), ds)


def test_bad_arguments():
    u_0 = grid([1.0])
    with pytest.raises(ValueError, match="must not be constant: it is 2.0 everywhere"):
        FLOW.solve(np.full(64, 2.0), 1.0)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=rf"u_0\[3\] = {value}"):
            FLOW.solve(np.where(np.arange(64) == 3, value, u_0), 1.0)
    with pytest.raises(ValueError, match=r"domain's shape \(64,\) in its last axes; its shape is \(63,\)"):
        FLOW.solve(u_0[:-1], 1.0)
    with pytest.raises(TypeError, match="u_0 must be real numbers; the dtype is complex128"):
        FLOW.solve(u_0.astype(complex), 1.0)
    with pytest.raises(ValueError, match="times must be numbers"):
        FLOW.solve(u_0, [0.0, np.nan])
    with pytest.raises(ValueError, match='method must be "spectral" or "finite-difference"'):
        FLOW.solve(u_0, 1.0, method="magic")
    with pytest.raises(ValueError, match='mean must be "project" or "keep"'):
        FLOW.solve(u_0, 1.0, mean="lose")
    with pytest.raises(ValueError, match='preserve must be "gradient", "value"'):
        RenormalizedFlow(BOX, preserve="mass")
    for call in (lambda: FLOW.growth_rate(0, 1), lambda: FLOW.steady_state(0)):
        with pytest.raises(ValueError, match="k must not be the constant mode"):
            call()
    for call in (
        lambda: FLOW.steady_state(1, C=-1.0),
        lambda: FLOW.solve(u_0, 1.0, C=0.0),
        lambda: FLOW.solve_modes({1: 1.0}, 1.0, C=math.inf),
    ):
        with pytest.raises(ValueError, match="C must be positive"):
            call()
    with pytest.raises(TypeError, match='method "spectral" has no option dt'):
        FLOW.solve(u_0, 1.0, dt=0.1)
    with pytest.raises(ValueError, match=r"u_0\[1\] must not be constant"):
        FLOW.solve(np.stack([u_0, np.ones(64)]), 1.0)
    with pytest.raises(ValueError, match="c must not be constant: it has no other mode"):
        FLOW.solve_modes({0: 1.0}, 1.0)
    with pytest.raises(ValueError, match="at least one initial condition"):
        FLOW.solve(np.zeros((0, 64)), 1.0)
    with pytest.raises(ValueError, match="forward in time"):
        FLOW.solve(u_0, -1.0, "finite-difference", integrator="pade02")
    with pytest.raises(ValueError, match="times must be finite"):
        FLOW.solve(u_0, math.inf, "finite-difference", integrator="pade02")


@pytest.mark.parametrize("n_axes", [3, 4])
def test_names_of_axes(n_axes):
    """x, y, z; beyond that numbers."""
    u_0 = np.random.default_rng(0).standard_normal((3,) * n_axes)
    ds = RenormalizedFlow(Box(shape=(3,) * n_axes)).solve(u_0, 0.1)
    names = ("x", "y", "z") if n_axes == 3 else ("x1", "x2", "x3", "x4")
    assert ds.u.dims == ("time", *names)
    assert ds.energy_fraction.dims == ("time", *(f"k_{name}" for name in names))
    assert list(ds.data_vars) == ["u", "multiplier", "energy", "preserved", "energy_fraction"]
    assert list(ds.coords) == ["time", *names, *(f"k_{name}" for name in names)]
    assert ds.attrs["domain"] == " x ".join(["[0, 1] in 3 cells"] * n_axes)


@pytest.mark.parametrize("boundary", [("periodic", "no-flux"), ("fixed", "no-flux"), ("fixed", "periodic")])
@pytest.mark.parametrize("preserve", ["gradient", "value", "total_variation"])
def test_other_boundaries(boundary, preserve):
    """The heat flow by exponentials of the eigenvalues, rescaled; with fixed ends constants are no steady states."""
    box = Box((6, 5), (1.0, 2.0), boundary, (-1.0, 3.0))
    flow = RenormalizedFlow(box, preserve)
    u_0 = np.random.default_rng(0).standard_normal(box.shape)
    t = 0.02
    for mean in ("project", "keep"):
        ds = flow.solve(u_0, [0.0, t, math.inf] if mean == "project" else [0.0, t], mean=mean)
        np.testing.assert_allclose(ds.preserved, ds.preserved[0], rtol=1e-12)
        start = box.apply(lambda mu, mean=mean: np.where((mu == 0) & (mean == "project"), 0.0, 1.0), u_0)
        v = box.apply(lambda mu: np.exp(-mu * t), start)
        scale = float(flow.norm.value(box, start) / flow.norm.value(box, v))
        np.testing.assert_allclose(ds.u[1], scale * v, rtol=0, atol=1e-12)
        if mean == "project":
            np.testing.assert_allclose(ds.multiplier[-1], box.eigenvalues[box.lowest_mode], rtol=1e-12)
    if "fixed" in boundary:
        flow.solve(np.ones(box.shape), 0.1)
        assert not box.null_modes.any()
        assert flow.steady_state((1, 0)).shape == box.shape
    else:
        with pytest.raises(ValueError, match="must not be constant"):
            flow.solve(np.ones(box.shape), 0.1)


def test_the_difference_laplacian_exactly():
    """On ``box.discrete`` the flow is that of the semi-discrete equation: a matrix exponential, rescaled."""
    box = Box((8, 4), (1.0, 0.7))
    flow = RenormalizedFlow(box.discrete)
    u_0 = np.random.default_rng(0).standard_normal(box.shape)
    t = 0.003
    v = scipy.linalg.expm(-t * box.discrete.stiffness.toarray() / box.cell_volume) @ u_0.ravel()
    v -= v.mean()
    K = box.discrete.stiffness
    expected = v * math.sqrt((u_0.ravel() @ K @ u_0.ravel()) / (v @ K @ v))
    np.testing.assert_allclose(flow.evolve(u_0, t).ravel(), expected, rtol=0, atol=1e-12)
    ds = flow.solve(u_0, [0.0, t])
    np.testing.assert_allclose(ds.energy, u_0.ravel() @ K @ u_0.ravel(), rtol=1e-12)
    np.testing.assert_allclose(ds.multiplier[1], (K @ v) @ (K @ v) / box.cell_volume / (v @ K @ v), rtol=1e-12)


def test_degenerate_modes_stay_level_at_infinity():
    """Modes (1, 0) and (0, 3) on sides 1 and 3 have one eigenvalue, which rounding splits."""
    flow = RenormalizedFlow(Box((4, 8), (1.0, 3.0)))
    ds = flow.solve_modes({(1, 0): 1.0, (0, 3): 0.5, (2, 2): 7.0}, [1e4, math.inf])
    np.testing.assert_allclose(ds.amplitude[:, 0, 3] / ds.amplitude[:, 1, 0], 0.5, rtol=1e-14)
