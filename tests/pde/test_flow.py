"""The exact solution of eq. (22): against 60 digits, and as laws."""

import math

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diffmath.pde import Box, RenormalizedFlow
from tests import laws
from tests.strategies import boxes, spectra

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


@given(spectra())
def test_energy_is_kept_and_the_multiplier_never_rises(c):
    """Eq. (21); d lambda / dt = -2 Var_p(mu) <= 0; lambda ends at the lowest mode's mu."""
    ds = FLOW.solve(grid(c), TIMES)
    laws.conserved(ds.energy.values, ulps=64)
    laws.never_rises(ds.multiplier.values, ulps=64)
    laws.within(ds.energy_fraction.sum("k_x"), 1, 1e-14, label="shares")
    laws.within(ds.multiplier.values[-1], math.pi**2, 1e-14 * math.pi**2, label="multiplier")


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


def test_energy_of_a_step_is_2_log_2_of_the_differences():
    """It grows with the resolution, for both; with one C the solutions agree in scale too."""
    energies = []
    for n in (512, 1024):
        box = Box(shape=(n,))
        flow, u_0 = RenormalizedFlow(box), np.where(box.coordinates[0] < 0.5, -1.0, 1.0)
        spectral = flow.solve(u_0, 0.01)
        energies.append([spectral.energy.item(), flow.solve(u_0, 0.0, "finite-difference").energy.item()])
    noise = np.random.default_rng(0).standard_normal(1 << 16)
    of_noise = RenormalizedFlow(Box(noise.shape))
    spectral_noise, difference_noise = (
        of_noise.solve(noise, 0.0, m).energy.item() for m in ("spectral", "finite-difference")
    )
    assert spectral_noise / difference_noise == pytest.approx(math.pi**2 / 6, rel=0.02)  # 5 sigma is 0.015
    energies = np.array(energies)
    np.testing.assert_allclose(energies[1] / energies[0], 2, rtol=1e-2)
    np.testing.assert_allclose(energies[:, 0] / energies[:, 1], 2 * math.log(2), rtol=1e-4)
    middle = np.where(box.coordinates[0] < 0.5, -1.0, 1.0)
    middle[n // 2] = 0  # the cell's average of a jump in its middle
    halves = [flow.solve(middle, 0.0, m).energy.item() for m in ("spectral", "finite-difference")]
    assert halves[0] / halves[1] == pytest.approx(4 * math.log(2) - math.pi**2 / 6, rel=1e-4)
    u, scaled = spectral.u, flow.solve(u_0, 0.01, C=3.0)
    np.testing.assert_allclose(scaled.energy, 3, rtol=1e-14)
    np.testing.assert_allclose(scaled.u, u * math.sqrt(3 / spectral.energy.item()), rtol=1e-12, atol=1e-14)
    differences = flow.solve(u_0, 0.01, "finite-difference", C=3.0)
    np.testing.assert_allclose(differences.energy, 3, rtol=1e-12)
    np.testing.assert_allclose(differences.u, scaled.u, atol=2e-3)


FUNCTIONALS = ["gradient", "value", "laplacian", "total_variation", lambda u: float(np.abs(u).max())]


@pytest.mark.parametrize("preserve", FUNCTIONALS, ids=lambda p: p if isinstance(p, str) else "callable")
@pytest.mark.parametrize("method", ["spectral", "finite-difference"])
def test_any_functional_is_preserved(preserve, method):
    """And the multiplier is -d/dt log N of the heat flow, here seen in the mean, which grows by it alone."""
    flow = RenormalizedFlow(BOX, preserve)
    u_0 = 0.1 + grid([0.4, 0.7, -0.2, 0.1])
    dt, t = 1e-5, 0.01
    ds = flow.solve(u_0, [0.0, t - dt, t, t + dt, 0.2], method, mean="keep")
    np.testing.assert_allclose(ds.preserved, ds.preserved[0], rtol=1e-12)
    growth = np.log(ds.u.mean("x").values)
    rate = (growth[3] - growth[1]) / (2 * dt)
    # Central differences in time; for finite differences steps of the second order that are not the same ones.
    assert rate == pytest.approx(ds.multiplier.values[2], rel=1e-5 if method == "spectral" else 2e-2)
    for mean in ("keep", "project"):
        scaled = flow.solve(u_0, t, method, mean=mean, C=2.0)
        np.testing.assert_allclose(scaled.preserved, 2.0, rtol=1e-12)


def test_the_total_variation_is_the_true_one():
    """Of a monotone function it is the difference of its ends, from which the flow starts and at which it stays."""
    box = Box(shape=(400,))
    flow = RenormalizedFlow(box, "total_variation")
    c = np.zeros(400)
    c[1] = 1.0
    c[3] = 0.05  # monotone: 9 * 0.05 < 1
    ends = 2 * math.sqrt(2) * (c[1] + c[3])
    ds = flow.solve_modes(c, [0.0, 0.05, 1.0])
    np.testing.assert_allclose(ds.preserved, ds.preserved[0], rtol=1e-13)
    np.testing.assert_allclose(ds.preserved, ends, rtol=1e-5)  # the midpoint rule of 400 cells: (3 pi h)^2 / 24
    # mu_1 at last; before, the rate at which the ends of the heat flow approach each other.
    v = math.sqrt(2) * c[[1, 3]] * np.exp(-np.array([1, 9]) * math.pi**2 * 0.05)
    mu = np.array([1, 9]) * math.pi**2
    np.testing.assert_allclose(ds.multiplier[1:], [(mu * v).sum() / v.sum(), mu[0]], rtol=1e-5)
    plane = Box(shape=(40, 40))  # |grad u| of a function of x + y is sqrt 2 of its slope along x
    ds = RenormalizedFlow(plane, "total_variation").solve_modes({(1, 0): 1.0, (0, 1): 1.0}, 0.0)
    x, y = np.meshgrid(*[np.linspace(0, 1, 1000, endpoint=False) + 5e-4] * 2, indexing="ij")
    expected = np.hypot(np.sin(math.pi * x), np.sin(math.pi * y)).mean() * math.sqrt(2) * math.pi
    assert ds.preserved.item() == pytest.approx(expected, rel=1e-3)


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


@settings(max_examples=100)  # of up to 9 x 9 x 9 cells at eight times
@given(boxes(), st.integers(1, 3), st.integers(0, 2**32 - 1), st.sampled_from(["gradient", "value", "laplacian"]))
@example(Box((300,)), 1, 0, "gradient")
@example(Box((70, 40), (3.0, 1.0)), 2, 0, "gradient")
@example(Box((5, 5)), 1, 0, "gradient")
def test_evolve_is_the_bare_solution(box, n_batch, seed, preserve):
    """What `solve` gives as u, in fewer passes: to a few roundings of each state's size, at all times in any order."""
    rng = np.random.default_rng(seed)
    u_0 = rng.standard_normal((n_batch, *box.shape))
    times = np.append(0, max(box.lengths) ** 2 * 10.0 ** rng.uniform(-6, 3, 7))
    rng.shuffle(times)
    flow = RenormalizedFlow(box, preserve)
    expected = flow.solve(u_0, times).u.values
    size = np.abs(expected).max(axis=tuple(range(2, expected.ndim)), keepdims=True)
    laws.close(flow.evolve(u_0, times), expected, ulps=12, scale=size, label="u")
    laws.within(flow.evolve(u_0, times, C=2.0), flow.solve(u_0, times, C=2.0).u, 1e-12, label="C")


def test_evolve_where_it_must_take_care():
    """A lowest mode that is small or absent, a kept mean, time backwards and at infinity, extreme sizes, float32."""
    u_0 = np.stack([grid([1.0, 0.5]), grid([0.2, -0.4, 0.3])])
    absent = np.zeros(64)
    absent[[3, 9]] = 1.0
    for u, times, options in (
        (u_0, [0.1, -1e-4, 0.0], {"mean": "keep", "C": 2.0}),
        (u_0, [0.1, -1e-4], {}),
        (u_0, [math.inf, 0.1], {}),
        (BOX.to_grid(absent), [0.001, 0.0], {}),
        (1e50 * BOX.to_grid(absent), [0.001, 0.0], {}),
        (np.stack([u_0[0], BOX.to_grid(absent)]), [0.001, 0.0], {}),
        (1e-140 * u_0, [0.1], {}),
        (1e140 * u_0, [0.1], {}),
    ):
        expected = FLOW.solve(u, times, **options).u.values
        np.testing.assert_array_equal(FLOW.evolve(u, times, **options), expected)
    assert FLOW.evolve(u_0[0].astype(np.float32), 0.1).dtype == np.float32
    assert FLOW.evolve(u_0[0], 0.1).shape == (1, 64)
    kept = u_0.copy()
    forth, back = FLOW.evolve(u_0, [0.0, 0.1]), FLOW.evolve(u_0, [0.1, 0.0])
    np.testing.assert_array_equal(u_0, kept)
    np.testing.assert_array_equal(forth, back[:, ::-1])


@pytest.mark.parametrize("cell", [0, 1, 5])
def test_one_cell_that_differs(cell):
    """Is enough not to be constant."""
    u_0 = (np.arange(6) == cell).astype(float)
    ds = RenormalizedFlow(Box((6,))).solve(u_0, 0.0)
    np.testing.assert_allclose(ds.u[0], u_0 - 1 / 6, atol=1e-15)


@pytest.mark.parametrize("method", ["spectral", "finite-difference"])
def test_preserved_value_with_its_mean(method):
    """The integral of u^2, on a box that is not of unit length."""
    box = Box((16,), (2.5,))
    ds = RenormalizedFlow(box, "value").solve(0.3 + grid([1.0, 0.5], box), [0.0, 0.1], method, mean="keep")
    np.testing.assert_allclose((ds.u.values**2).sum(axis=-1) * box.cell_volume, ds.preserved, rtol=1e-13)


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


@pytest.mark.parametrize("n_cells", [5_000, 1 << 15, 1 << 18])
def test_evolve_on_fine_grids(n_cells):
    """Where k^2 leaves few bits for the time, and every mode counts: as exact as `solve`, to some roundings."""
    flow = RenormalizedFlow(Box((n_cells,)))
    u_0 = np.random.default_rng(0).standard_normal(n_cells)
    for octaves in (1.0, 30.0, 120.0):
        t = octaves * math.log(2) / (math.pi * n_cells) ** 2
        expected = flow.solve(u_0, t).u.values
        # Transforms of so many values, and sums over as many, twice.
        laws.close(flow.evolve(u_0, t), expected, ulps=50, scale=np.abs(expected).max())


@pytest.mark.parametrize("short", [1e-3, 1e-6, 1e-8])
def test_flat_boxes(short):
    """A short, fine axis has long decayed when the long one has hardly begun; infinity is that of the slowest mode."""
    flow = RenormalizedFlow(Box((8, 64), (1.0, short)))
    line = RenormalizedFlow(Box((8,)))
    u = line.solve_modes({1: 1.0, 2: 1.0}, [0.1, 1.0, math.inf])
    plane = flow.solve_modes({(1, 0): 1.0, (2, 0): 1.0, (1, 5): 3.0}, [0.1, 1.0, math.inf], C=float(u.energy[0]))
    np.testing.assert_allclose(plane.amplitude.values[..., 0], u.amplitude.values, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(plane.multiplier, u.multiplier, rtol=1e-13)
    batch = np.zeros((2, 8, 64))
    batch[0, 1, 0] = batch[0, 2, 0] = batch[1, 0, 1] = batch[1, 0, 2] = 1.0  # one slow, one fast
    for times in ([math.inf], [-math.inf], [0.1, 0.2]):
        together = flow.solve_modes(batch, times).energy_fraction.values
        for member, share in zip(batch, together, strict=True):
            alone = flow.solve_modes(member, times).energy_fraction.values
            np.testing.assert_allclose(share, alone, rtol=0, atol=1e-14)
        if times == [math.inf]:
            np.testing.assert_allclose([together[0, 0, 1, 0], together[1, 0, 0, 1]], 1, rtol=1e-14)


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


def test_functionals_that_cannot_be_preserved():
    u_0 = grid([1.0, 0.5])
    with pytest.raises(ValueError, match=r"must obey N\(a u\) = \|a\| N\(u\)"):
        RenormalizedFlow(BOX, lambda u: float((u**2).sum())).solve(u_0, 0.1)
    with pytest.raises(ValueError, match="must be positive and finite; it is 0.0"):
        RenormalizedFlow(BOX, lambda u: 0.0).solve(u_0, 0.1)


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


@pytest.mark.parametrize("preserve", FUNCTIONALS, ids=lambda p: p if isinstance(p, str) else "callable")
def test_steady_states_of_any_functional(preserve):
    """A positive multiple of w_k of the preserved quantity C: with that it has N^2 = C, or N = C, and stays."""
    flow = RenormalizedFlow(BOX, preserve)
    u, w = flow.steady_state(3, C=2.5), BOX.eigenfunction(3)
    laws.close(u, w * (u[0] / w[0]), ulps=8, scale=abs(u).max())
    assert u[0] * w[0] > 0
    ds = flow.solve(u, [0.0, 0.001])
    np.testing.assert_allclose(ds.preserved, 2.5, rtol=1e-12)
    np.testing.assert_allclose(ds.multiplier, BOX.eigenvalue(3), rtol=1e-9)


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


@pytest.mark.parametrize(("preserve", "s"), [("gradient", 1), ("value", 0), ("laplacian", 2), ("total_variation", 1)])
def test_shares_of_the_differences(preserve, s):
    """Of the modes in sum m^s c^2, with m of the difference Laplacian; in the energy where there is no such sum."""
    ds = RenormalizedFlow(BOX, preserve).solve(grid([1.0, 0.5, -0.3]), 0.01, "finite-difference")
    share = BOX.discrete_eigenvalues**s * BOX.to_modes(ds.u.values[0]) ** 2
    np.testing.assert_allclose(ds.energy_fraction[0], share / share.sum(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("k", [20, 250])
def test_evolve_of_a_weak_lowest_mode(k):
    """Where modes 1 and k become level, at mu_k t = 30: few larger exponents matter."""
    box = Box(shape=(300,))
    c = np.zeros(300)
    c[1], c[k] = 1e-13, 1.0
    u_0, level = box.to_grid(c), math.log(1e13) / (box.eigenvalue(k) - box.eigenvalue(1))
    times = level * np.linspace(0.9, 1.1, 9)
    flow = RenormalizedFlow(box)
    for got, want in zip(flow.evolve(u_0, times), flow.solve(u_0, times).u.values, strict=True):
        laws.close(got, want, ulps=12, scale=abs(want).max())


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
