"""The flow under noise: the step's order, its readings and stiff modes, and invariant laws."""

import math
import tracemalloc

import numpy as np
import pytest
import xarray as xr
from scipy import special
from scipy.integrate import solve_ivp

from diffmath.domains import Mask
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.harmonics import Harmonics
from diffmath.pde.invariant import Bingham, circle_density
from diffmath.pde.stochastic import READINGS, ForcedFlow, step

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(14)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
PAIRS = [(x, y, v * w) for x, v in zip(POINTS, WEIGHTS, strict=True) for y, w in zip(POINTS, WEIGHTS, strict=True)]


def points(theta):
    return np.array([np.cos(theta), np.sin(theta)])


def outcomes(theta, rates, D, dt):
    """Each outcome of a step from all angles, with its probability by Gauss's quadrature of the noise."""
    for descending in (False, True):
        for *xi, weight in PAIRS:
            pushes = np.repeat(np.array(xi)[:, None] * np.sqrt(D * dt)[:, None], len(theta), axis=1)
            yield step(points(theta), rates - rates.min(), dt, pushes, np.full(len(theta), descending)), weight / 2


def invariant_law(rates, D, dt, degree=24):
    """The invariant law of the steps on the circle, without sampling, and its harmonics."""
    h, noise = Harmonics(2, degree), np.sqrt(D * dt)[:, None]
    still = rates - rates.min()
    matrix = h.advance(np.eye(len(h.degrees)), lambda z, xi, order: step(z, still, dt, noise * xi, order), 14)
    eigenvalues, vectors = np.linalg.eig(matrix)
    c = vectors[:, np.abs(eigenvalues - 1).argmin()].real
    return h, c / (c @ h.coefficients(np.ones(len(h.weights))))


def share(rates, D):
    """E z_2^2 by the density in closed form."""
    theta = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    return float((circle_density(theta, rates, D) * np.sin(theta) ** 2).mean() * 2 * np.pi)


@pytest.mark.parametrize("reading", READINGS)
def test_the_weak_order_is_two(reading):
    """And at dt = 2e-3 the invariant law is within 1e-3 of the one in closed form."""
    D = np.array([15.0, 4.0])
    rates = np.pi**2 * np.array([1.0, 4.0]) + READINGS[reading] * D / 2
    exact, errors = share(rates, D), []
    for dt in (4e-3, 2e-3):
        h, c = invariant_law(rates, D, dt)
        errors.append(abs(c @ h.coefficients(h.points[1] ** 2) - exact))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
    difference = c @ h.at_points - circle_density(np.arctan2(h.points[1], h.points[0]), rates, D)
    assert h.weights @ np.abs(difference) / 2 < 1e-3


@pytest.mark.parametrize("reading", READINGS)
def test_readings(reading):
    """One short step by the definition of each reading, and by ours: the same mean of a function, to first order.

    "rescale" divides by the length, "force" adds a multiple of y itself, "stratonovich" of the midpoint.
    """
    theta, dt, D = np.array([0.3, 1.1, 2.0]), 1e-4, np.array([3.0, 1.0])
    mu = np.array([2.0, 5.0])
    y = points(theta)
    before = y[1] ** 2 + 0.3 * y[0] * y[1]
    defined, ours = np.zeros(3), np.zeros(3)
    for *xi, weight in PAIRS:
        moved = y * (1 - mu[:, None] * dt) + np.array(xi)[:, None] * np.sqrt(D * dt)[:, None]
        along = {"rescale": moved, "force": y, "stratonovich": (y + moved / np.linalg.norm(moved, axis=0)) / 2}[reading]
        a, b, c = (along**2).sum(0), (along * moved).sum(0), (moved**2).sum(0) - 1
        z = moved + along * (-c / (b + np.sqrt(b**2 - a * c)))
        defined += weight * (z[1] ** 2 + 0.3 * z[0] * z[1])
    forced = mu + READINGS[reading] * D / 2
    for z, weight in outcomes(theta, forced, D, dt):
        ours += weight * (z[1] ** 2 + 0.3 * z[0] * z[1])
    np.testing.assert_allclose((ours - before) / dt, (defined - before) / dt, atol=0.01)  # readings are 0.1 to 1 apart


def test_the_flow_of_the_noise_is_exact():
    """One push along an axis against an accurate integration of y' = a (e_j - y y_j)."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((4, 1))
    y /= np.linalg.norm(y)
    pushes = np.zeros((4, 1))
    pushes[2] = 0.8
    ode = solve_ivp(lambda _, z: 0.8 * (np.eye(4)[2] - z * z[2]), (0, 1), y[:, 0], rtol=1e-11, atol=1e-12)
    for descending in (False, True):
        done = step(y, np.zeros(4), 0.1, pushes, np.array([descending]))
        np.testing.assert_allclose(done[:, 0], ode.y[:, -1], atol=1e-9)
    two = np.array([[0.0], [0.0], [0.5], [0.8]])  # ascending: axis 2 before axis 3
    first = step(step(y, np.zeros(4), 0.1, two * [[1], [1], [1], [0]], np.zeros(1, bool)), np.zeros(4), 0.1,
                 two * [[1], [1], [0], [1]], np.zeros(1, bool))  # fmt: skip
    np.testing.assert_allclose(step(y, np.zeros(4), 0.1, two, np.zeros(1, bool)), first, rtol=1e-13)
    assert np.abs(step(y, np.zeros(4), 0.1, two, np.ones(1, bool)) - first).max() > 1e-3


@pytest.mark.parametrize("stiffness", [0.01, 1.0, 10.0, 40.0])
def test_small_noise_in_stiff_modes(stiffness):
    """The variance D / (2 m), by the linear recursion that a step is near mode 1: within 2 %."""
    m, dt, D = stiffness / 1e-3, 1e-3, 1e-12
    rates, still, ahead = np.array([0.0, m]), np.zeros((2, 1)), np.zeros(1, bool)
    decay = step(np.array([[1.0], [1e-7]]), rates, dt, still, ahead)[1, 0] / 1e-7
    push = step(np.array([[1.0], [0.0]]), rates, dt, np.array([[0.0], [math.sqrt(D * dt)]]), ahead)[1, 0]
    assert push**2 / (1 - decay**2) == pytest.approx(D / (2 * m), rel=0.02)


def test_paths_keep_the_energy():
    """To rounding, for 400 steps, in two dimensions, from 100 modes; u and the amplitudes agree; seeds repeat."""
    box = Box((10, 10))
    forced = ForcedFlow(RenormalizedFlow(box), lambda mu: 1 / mu)
    u_0 = np.random.default_rng(0).standard_normal((10, 10))
    ds = forced.solve(u_0, [0.0, 0.1, 0.2], dt=5e-4, n_paths=3, rng=1)
    C = forced.flow.solve(u_0, 0.0).preserved.item()
    np.testing.assert_allclose(ds.energy, C, rtol=2e-15)
    np.testing.assert_allclose(ds.energy_fraction.sum(("k_x", "k_y")), 1, rtol=1e-14)
    np.testing.assert_allclose(box.to_modes(ds.u.values), ds.amplitude, atol=1e-13)
    np.testing.assert_allclose(ds.u.isel(time=0, path=0), u_0 - u_0.mean(), atol=1e-13)
    assert np.abs(ds.u.isel(time=1, path=0) - ds.u.isel(time=1, path=1)).max() > 0.1
    assert ds.identical(forced.solve(u_0, [0.0, 0.1, 0.2], dt=5e-4, n_paths=3, rng=1))
    assert forced.solve(u_0, 0.01, dt=5e-3, C=2.0, rng=0).preserved.item() == pytest.approx(2)


def test_a_domain_of_any_shape():
    """On an L of 20 x 20 cells paths keep the energy, and leave the mode that they start from."""
    shape = np.ones((20, 20), dtype=bool)
    shape[10:, 10:] = False
    domain = Mask(shape, n_modes=20)
    ds = ForcedFlow(RenormalizedFlow(domain), lambda mu: 0.1 / mu).solve(
        domain.eigenfunction(3), 1.0, dt=0.05, n_paths=3, rng=0
    )
    np.testing.assert_allclose(ds.energy, domain.eigenvalues[3], rtol=1e-12)
    assert (ds.energy_fraction[:, 0, 3] < 0.999).all()


def test_long_paths_come_in_parts(capsys):
    """Which are those of one solution, one at a time, with a progress bar over all."""
    forced = ForcedFlow(RenormalizedFlow(Box(6)), lambda mu: 1 / mu)
    u_0, times = forced.flow.domain.eigenfunction(2), np.linspace(0.01, 0.08, 8)
    options = {"dt": 0.005, "n_paths": 2, "rng": 3}
    parts = forced.chunks(u_0, times, 3, progress=True, **options)
    assert next(parts).sizes["time"] == 3
    assert "0/16 " in capsys.readouterr().err
    whole = forced.solve(u_0, times, **options)
    found = xr.concat(forced.chunks(u_0, times, 3, **options), "time")
    xr.testing.assert_identical(found.transpose(*whole.sizes), whole)
    with pytest.raises(ValueError, match="size must be at least 1; it is 0"):
        forced.chunks(u_0, times, 0, dt=0.005)


def test_a_long_path_needs_little_memory():
    """5,000 times of 100 modes are 12 MB in the dataset; parts of 100 times stay below 3 MB."""
    box = Box(100)
    forced = ForcedFlow(RenormalizedFlow(box), lambda mu: 1 / mu)
    tracemalloc.start()
    shares = [
        p.energy_fraction[0, -1, 1].item() for p in forced.chunks(box.eigenfunction(1), np.zeros(5000), 100, dt=1)
    ]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(shares) == 50
    assert peak < 3e6


def test_without_noise_it_is_the_flow():
    """To second order in dt."""
    flow = RenormalizedFlow(Box(8))
    u_0 = np.random.default_rng(0).standard_normal(8)
    exact = flow.evolve(u_0, 0.02)[0]
    errors = [np.abs(ForcedFlow(flow, 0.0).solve(u_0, 0.02, dt=dt).u.values[0, 0] - exact).max() for dt in (2e-4, 1e-4)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_the_law_that_paths_tend_to_is_binghams():
    """For q ~ 1 / mu all D are equal: six modes, D = 5, dt = 2e-3; moments of 6,000 paths to 4e-3 (deviation 1e-3)."""
    box = Box(7)
    forced = ForcedFlow(RenormalizedFlow(box), lambda mu: 5 / mu)
    ds = forced.solve(box.eigenfunction(1), [0.5, 0.75, 1.0, 1.25], dt=2e-3, n_paths=1500, C=2.0, rng=0)
    expected = Bingham(2 * forced.rates(2.0) / 5).moments()
    np.testing.assert_allclose(ds.energy_fraction.mean(("path", "time"))[1:], expected, atol=4e-3)


def test_binghams_law():
    """On the circle Bessel functions tell the moments; without a potential they are equal; samples have them."""
    for a in (0.0, 0.1, 3.0, 200.0):
        moments = Bingham([2.0, 2.0 + a]).moments()
        assert moments[0] - moments[1] == pytest.approx(special.ive(1, a / 2) / special.ive(0, a / 2), abs=1e-13)
    np.testing.assert_allclose(Bingham(np.zeros(500)).moments(), 1 / 500, rtol=1e-12)
    law = Bingham([0.0, 1.0, 4.0, 30.0])
    z = law.sample(40_000, 0)
    np.testing.assert_allclose((z**2).sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose((z**2).mean(axis=0), law.moments(), atol=5e-3)  # deviations of at most 1.3e-3
    assert law.moments().sum() == pytest.approx(1, abs=1e-13)


def test_no_probability_flows_in_the_invariant_law():
    """f p = g (g p)' / 2 at every angle, and equal D are the limit of nearly equal ones."""
    theta = 2 * np.pi * np.arange(256) / 256
    for D in ([3.0, 1.0], [1.0, 2.5], [2.0, 2.0]):
        p = circle_density(theta, [1.0, 4.0], D, C=2.0)
        assert p.mean() * 2 * np.pi == pytest.approx(1, rel=1e-12)
        g = np.sqrt((D[0] * np.sin(theta) ** 2 + D[1] * np.cos(theta) ** 2) / 2)
        slope = np.fft.irfft(1j * np.arange(129) * np.fft.rfft(g * p))
        np.testing.assert_allclose(-1.5 * np.sin(2 * theta) * p, g * slope / 2, atol=1e-11)
    near = circle_density(theta, [1.0, 4.0], [2.0, 2.0 + 1e-8], C=2.0)
    np.testing.assert_allclose(near, p, rtol=1e-7)


def test_what_is_refused():
    flow = RenormalizedFlow(Box(8))
    u_0 = flow.domain.eigenfunction(1)
    for make, message in (
        (lambda: ForcedFlow(flow, 1.0, "ito"), "reading must be one of rescale, stratonovich, force"),
        (lambda: ForcedFlow(flow, -1.0), "q must be finite and not negative"),
        (lambda: ForcedFlow(flow, np.ones(5)), r"q must be of the shape \(8,\)"),
        (lambda: ForcedFlow(flow, lambda mu: mu[:3]), r"q must be of the shape \(7,\) of modes; its shape is \(3,\)"),
        (lambda: ForcedFlow(RenormalizedFlow(Box(8), "total_variation"), 1.0), "flow must preserve a sum over modes"),
        (lambda: ForcedFlow(flow, 1.0).solve(u_0, [0.1, 0.0], dt=0.01), "times must be .* ascending"),
        (lambda: ForcedFlow(flow, 1.0).solve(u_0, np.inf, dt=0.01), "times must be finite"),
        (lambda: ForcedFlow(flow, 1.0).solve(u_0, 0.1, dt=0.0), "dt must be positive"),
        (lambda: ForcedFlow(flow, lambda mu: 1e5 / mu).solve(u_0, 0.1, dt=1, C=1.0), r"dt must be at most 4e-05 "),
        (lambda: ForcedFlow(flow, 1.0).solve(u_0, 0.1, dt=0.01, n_paths=0), "n_paths must be at least 1"),
        (lambda: ForcedFlow(flow, 1.0).solve([u_0, u_0], 0.1, dt=0.01), "u_0 must be one state"),
        (lambda: circle_density(0.0, [1.0, 2.0], [0.0, 1.0]), "D positive"),
        (lambda: Bingham([1.0]), "at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_the_strongest_noise_that_is_taken():
    """Its pushes have the deviation 2; those of 8 lose all digits in a boost and one back."""
    box = Box(71)
    forced = ForcedFlow(RenormalizedFlow(box), lambda mu: 4 / mu)
    ds = forced.solve(box.eigenfunction(1), [0.0, 50.0], dt=1.0, n_paths=200, C=1.0, rng=0)
    np.testing.assert_allclose(ds.energy, 1, rtol=1e-13)


def test_the_size_of_many_boosts_is_taken_out():
    """The boosts of 130 modes, one after the other, are those of a plain loop, which never rescales."""
    y, pushes = (np.random.default_rng(seed).standard_normal((130, 1)) for seed in (0, 1))
    y /= np.linalg.norm(y)
    z, size = y[:, 0].copy(), 1.0
    for j, push in enumerate(0.1 * pushes[:, 0]):
        z[j], size = z[j] * np.cosh(push) + size * np.sinh(push), size * np.cosh(push) + z[j] * np.sinh(push)
    moved = step(y.copy(), np.zeros(130), 0.1, 0.1 * pushes, np.array([False]))
    np.testing.assert_allclose(moved[:, 0], z / np.linalg.norm(z), rtol=0, atol=1e-14)
