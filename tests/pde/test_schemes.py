"""Norms and schemes on the difference Laplacian: values, amplification, bounds and orders."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmath.domains import Box
from diffmath.pde.norms import UserNorm
from diffmath.pde.schemes import SCHEMES
from tests import laws
from tests.pde.differences import (
    BOUNDED,
    BOX,
    LINEAR,
    LONG,
    MONOTONE,
    QUADRATIC,
    SMALL,
    SMOOTH,
    discrete_multiplier,
    discrete_norm,
    distance,
    grid,
    integrate,
    noise,
    semidiscrete,
    shape_of,
    symmetric_start,
)
from tests.strategies import spectra


@pytest.mark.parametrize("box", [BOX, LONG, Box(shape=(3, 4, 2), lengths=(1.0, 0.3, 2.0))])
def test_laplacian_and_its_eigenpairs(box):
    """scipy's LaplacianNd against the cosines and 4/h^2 sin^2(k pi h / 2)."""
    for k in np.ndindex(*box.shape):
        w = box.eigenfunction(k)
        m = sum(
            (2 / h * math.sin(i * math.pi / (2 * n))) ** 2 for i, n, h in zip(k, box.shape, box.spacing, strict=True)
        )
        laws.close(
            box.laplacian @ w.ravel(), -m * w.ravel(), ulps=16, scale=box.discrete_eigenvalues.max() * abs(w).max()
        )


@pytest.mark.parametrize("box", [BOX, LONG])
@pytest.mark.parametrize("preserve", QUADRATIC)
def test_quadratic_functionals(box, preserve):
    """N^2 = sum m^s c^2, and lambda the mean of m under these shares: Parseval."""
    u, m, s = noise(box), box.discrete_eigenvalues, QUADRATIC[preserve]
    share = m**s * box.to_modes(u) ** 2
    assert discrete_norm(box, u, preserve) ** 2 == pytest.approx(share.sum(), rel=1e-13)
    assert discrete_multiplier(box, u, preserve) == pytest.approx((m * share).sum() / share.sum(), rel=1e-13)


@pytest.mark.parametrize("box", [BOX, LONG])
@pytest.mark.parametrize("preserve", [*QUADRATIC, "total_variation", lambda u: float((u**4).sum()) ** 0.25])
def test_multiplier_is_the_logarithmic_derivative(box, preserve):
    """lambda = -d/dh log N(u + h L u), by differences that are not the module's."""
    u, h = noise(box, 3), 1e-9
    Lu = (box.laplacian @ u.ravel()).reshape(box.shape)
    before, after = (math.log(discrete_norm(box, u + s * h * Lu, preserve)) for s in (-1, 1))
    slope = (after - before) / (2 * h)
    assert discrete_multiplier(box, u, preserve) == pytest.approx(-slope, rel=1e-5)


def test_total_variation():
    """In 1-D the sum of the jumps; in 2-D the mean over the corners of each cell, zero across the boundary."""
    u = noise(BOX)
    assert discrete_norm(BOX, u, "total_variation") == pytest.approx(abs(np.diff(u)).sum(), rel=1e-14)
    u, total = noise(LONG), 0.0
    for i, j in np.ndindex(*LONG.shape):
        for di in (-1, 1):
            for dj in (-1, 1):
                beside, above = u[np.clip(i + di, 0, 5), j], u[i, np.clip(j + dj, 0, 4)]
                slopes = (beside - u[i, j]) / LONG.spacing[0], (above - u[i, j]) / LONG.spacing[1]
                total += math.hypot(*slopes) * LONG.cell_volume / 4
    assert discrete_norm(LONG, u, "total_variation") == pytest.approx(total, rel=1e-14)


@pytest.mark.parametrize("preserve", [*QUADRATIC, "total_variation"])
def test_functionals_at_any_size(preserve):
    """N(a u) = |a| N(u) and lambda(a u) = lambda(u), to the ends of float64; units of length; constants."""
    u = noise(BOX)
    norm, multiplier = discrete_norm(BOX, u, preserve), discrete_multiplier(BOX, u, preserve)
    for a in (-(2.0**1000), 2.0**-1000):
        assert discrete_norm(BOX, a * u, preserve) == abs(a) * norm
        assert discrete_multiplier(BOX, a * u, preserve) == multiplier
    for power in (-200, 200):
        box = Box(shape=(16,), lengths=(2.0**power,))
        assert discrete_multiplier(box, u, preserve) == pytest.approx(multiplier / 4.0**power, rel=1e-13)
    assert discrete_multiplier(BOX, np.full(16, 3.0), preserve) == 0


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("box", [BOX, LONG, Box(shape=(2,))])
def test_a_step_multiplies_each_mode_by_its_amplification(name, box):
    scheme, c = SCHEMES[name], np.ones(box.shape)
    for z in (1e-3, 0.3, 2.0, 50.0):
        dt = z / box.discrete_eigenvalues.max()
        actual = box.to_modes(scheme.step(box.discrete, box.to_grid(c), dt))
        expected = scheme.amplification(box.discrete_eigenvalues * dt)
        laws.close(actual, expected, ulps=100, scale=abs(expected).max())


@pytest.mark.parametrize("name", LINEAR)
def test_amplification_approximates_exp(name):
    """R(z) = exp(-z) + O(z^(p + 1)), no more and no less."""
    scheme, z = SCHEMES[name], 0.02
    errors = [abs(scheme.amplification(x) - math.exp(-x)) for x in (z, z / 2)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order + 1, abs=0.05)


@pytest.mark.parametrize("name", MONOTONE)
def test_monotone_for_every_step(name):
    """R falls over the whole half line: a higher mode is always damped more than a lower one."""
    assert SCHEMES[name].bound_on(BOX.discrete) == math.inf
    r = SCHEMES[name].amplification(np.concatenate([[0.0], np.geomspace(1e-6, 1e100, 20_000)]))
    assert (np.diff(r) < 0).all()
    assert (r > 0).all()


@pytest.mark.parametrize("name", MONOTONE)
@pytest.mark.parametrize("dt", [1e-3, 0.3, 10.0, 1000.0])
def test_the_first_mode_wins_for_every_step(name, dt):
    """Also in the solution, to rounding, after a time of 2 or 60 steps; up to where rounding would win."""
    n = max(60, math.ceil(2 / dt))
    u, _ = integrate(BOX, noise(BOX), [n * dt], integrator=name, dt=dt)
    assert shape_of(u[0])[1] == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match=r"needs dt < 1016.47 on this grid, else the lowest mode loses to rounding"):
        integrate(BOX, noise(BOX), [1e4], integrator=name, dt=1020.0)
    u, _ = integrate(BOX, noise(BOX), [1e5], integrator=name, theta=1e9)
    assert shape_of(u[0])[1] == pytest.approx(1, abs=1e-12)


def test_sdirk2_and_tr_bdf2_do_not_keep_the_order():
    """Both have this R, the only one of order 2 with (1 + g z)^2 below that vanishes at infinity.

    It has a zero at 2.414 and an extremum at 8.243, where it is as large as at 1.412: from a lowest mode with z in
    between, a higher one takes over. Outside of it, none does.
    """
    g = 1 - 1 / math.sqrt(2)

    def sdirk2(z):
        k = [-z / (1 + g * z)]  # the two stages, as in the tableau (g, 0; 1 - g, g)
        k.append(-z * (1 + (1 - g) * k[0]) / (1 + g * z))
        return 1 + (1 - g) * k[0] + g * k[1]

    def tr_bdf2(z):
        a = 2 - math.sqrt(2)
        middle = (1 - a / 2 * z) / (1 + a / 2 * z)  # trapezoidal to a dt, then the backward difference formula
        return (middle / (a * (2 - a)) - (1 - a) ** 2 / (a * (2 - a))) / (1 + (1 - a) / (2 - a) * z)

    for scheme in (sdirk2, tr_bdf2):
        for z_1, loses in ((1.40, False), (1.42, True), (2.41, True), (5.0, True), (8.2, True), (8.26, False)):
            higher = abs(scheme(np.linspace(z_1, 40, 100_001)[1:]))
            assert (higher.max() > abs(scheme(z_1))) == loses, (scheme.__name__, z_1)


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("box", [BOX, LONG])
def test_the_bound_is_where_the_highest_mode_wins(name, box):
    """Two percent below the bound mode 1 wins; above it the solver refuses, with reason: the highest mode would win."""
    scheme = SCHEMES[name]
    bound, m = scheme.bound_on(box.discrete), box.discrete_eigenvalues
    u, info = integrate(box, noise(box), [3000 * 0.98 * bound], integrator=name, dt=0.98 * bound)
    lowest = np.unravel_index(np.where(m > 0, m, np.inf).argmin(), box.shape)
    assert shape_of(u[0], box)[lowest] == pytest.approx(1, abs=1e-12)
    assert info["dt_bound"] == bound

    for dt in (bound, 1.02 * bound):
        with pytest.raises(ValueError, match=rf"needs dt < {bound:.6g} on this grid.*the highest; dt = {dt:.6g}"):
            integrate(box, noise(box), [1.0], integrator=name, dt=dt)
    r = abs(scheme.amplification(m * 1.02 * bound))
    r.flat[0] = 0
    assert r.argmax() == m.argmax()
    r = abs(scheme.amplification(m * 0.98 * bound))
    r.flat[0] = 0
    assert r.argmax() == np.ravel_multi_index(lowest, box.shape)


def test_the_bounds():
    """Of Euler 2 / (m_1 + m_N); of Crank-Nicolson 2 / sqrt(m_1 m_N), which is about h / pi on [0, 1]."""
    m = (4 * 16**2) * np.sin(np.arange(1, 16) * math.pi / 32) ** 2
    assert SCHEMES["euler"].bound_on(BOX.discrete) == pytest.approx(2 / (m[0] + m[-1]), rel=1e-14)
    assert SCHEMES["crank-nicolson"].bound_on(BOX.discrete) == pytest.approx(2 / math.sqrt(m[0] * m[-1]), rel=1e-14)
    assert SCHEMES["crank-nicolson"].bound_on(Box(shape=(2048,)).discrete) == pytest.approx(
        1 / 2048 / math.pi, rel=1e-4
    )
    # With two cells there is one mode: nothing to compete with, and still a bound.
    assert SCHEMES["rk4"].bound_on(Box(shape=(2,)).discrete) < 2.8 / 8


@pytest.mark.parametrize("name", ["euler", "rk4"])
def test_steps_at_half_the_bound_keep_the_order_of_all_modes(name):
    """The steps by theta go no further, so that every mode is damped more than those below it."""
    for box in (BOX, LONG, Box(shape=(256,))):
        m = np.unique(box.discrete_eigenvalues)
        r = SCHEMES[name].amplification(m * SCHEMES[name].bound_on(box.discrete) / 2)
        assert (np.diff(r) < 0).all()
        assert (r > 0).all()


@pytest.mark.parametrize(
    ("name", "n"), [("euler", 20), ("backward-euler", 20), ("pade02", 10), ("crank-nicolson", 5), ("rk4", 20)]
)
def test_order_in_time(name, n):
    """Against the exact solution of the discrete equations."""
    t, order = 0.02, SCHEMES[name].order
    expected = semidiscrete(BOX, SMOOTH, [t])
    errors = []
    for steps in (n, 2 * n, 4 * n, 8 * n):
        u, info = integrate(BOX, SMOOTH, [t], integrator=name, dt=t / steps)
        assert info["n_steps"] == steps
        errors.append(distance(u, expected))
    observed = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(observed, order, atol=0.1)


def test_order_in_space():
    """2, against the exact solution of (22) at the cell centres: rk4's own error, 1e-10, is none beside it."""
    c, times, errors = np.array([0.4, 0.7, -0.2]), [0.005, 0.02], []
    for n in (16, 32, 64):
        box = Box(shape=(n,))
        mu = (np.arange(1, 4) * math.pi) ** 2
        w = math.sqrt(2) * np.cos(np.outer(np.arange(1, 4) * math.pi, (np.arange(n) + 0.5) / n))
        expected = []
        for t in times:
            v = c * np.exp(-mu * t)
            expected.append(math.sqrt((mu * c**2).sum() / (mu * v**2).sum()) * v @ w)
        u, _ = integrate(box, c @ w, times, integrator="rk4", dt=1e-4)
        errors.append(abs(u - np.array(expected)).max(axis=1))
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.1)


@given(spectra(max_modes=7), st.sampled_from(MONOTONE), st.floats(1e-6, 1e3))
def test_one_step_never_raises_a_higher_mode(c, name, dt):
    """Each mode loses against each lower one, whatever the step."""
    u_0 = grid(c, SMALL)
    u, _ = integrate(SMALL, u_0, [dt], integrator=name, dt=dt)
    before, after = abs(SMALL.to_modes(u_0)), abs(SMALL.to_modes(u[0]))
    ratio = after[1:] / np.where(before[1:] > 1e-6, before[1:], np.nan)
    ratio = ratio[~np.isnan(ratio)]
    # Rounding of 1e-16 of the largest mode, against modes of 1e-6 and more.
    assert (np.diff(ratio) <= 1e-9 * ratio[:-1].max(initial=0)).all()


@pytest.mark.parametrize("name", BOUNDED)
def test_the_bound_is_that_of_the_lowest_mode_present(name):
    """Where mode 1 is absent, a step that mode 1 would survive may let the highest mode win over mode 2: refused."""
    box = Box(shape=(32,))
    u_0, scheme = symmetric_start(box), SCHEMES[name]
    bound = scheme.bound_on(box.discrete, u_0)
    assert bound <= scheme.bound_on(box.discrete)
    with pytest.raises(ValueError, match="needs dt <"):
        integrate(box, u_0, [1.0], integrator=name, dt=bound * 1.0001)
    if name == "crank-nicolson":
        m = box.discrete_eigenvalues
        assert bound == pytest.approx(2 / math.sqrt(m[2] * m[31]), rel=1e-12)
        with pytest.raises(ValueError, match="needs dt <"):
            integrate(box, u_0, [1.0], integrator=name, dt=0.9 * scheme.bound_on(box.discrete))
    state = integrate(box, u_0, [0.45], integrator=name, dt=0.9 * bound)[0][0]
    assert abs(box.to_modes(state)).argmax() == 2


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_logarithmic_derivative(size):
    """Of the L4 norm it is <u^3, d> / <u^4, 1>: by differences to 1e-10 of |d| / |u|, skewed or not, at any size."""
    rng = np.random.default_rng(0)
    for u, d in (
        (rng.standard_normal(20), rng.standard_normal(20)),
        (-np.abs(rng.standard_normal(20)), rng.standard_normal(20)),
        (np.append(np.full(19, -1.0), 1e-9), np.append(np.full(19, -2.0), 1e-9)),
    ):
        expected = (u**3 * d).sum() / (u**4).sum()
        actual = UserNorm(lambda v: float((v**4).sum()) ** 0.25)._logarithmic_derivative(size * u, d)
        assert actual == pytest.approx(expected / size, rel=0, abs=1e-10 * abs(d).max() / abs(u).max() / size)
    assert UserNorm(lambda v: float(abs(v).sum()))._logarithmic_derivative(np.ones(3), np.zeros(3)) == 0.0


def test_a_functional_of_positive_factors_alone_is_refused():
    """max u scales with a > 0 but not with a < 0."""
    with pytest.raises(ValueError, match=r"must obey N\(a u\) = |a| N\(u\)"):
        integrate(BOX, SMOOTH, [0.1], preserve=lambda u: float(u.max()))


@pytest.mark.parametrize("preserve", [*QUADRATIC, "total_variation"])
def test_functionals_at_any_size_with_a_zero(preserve):
    """The scale is that of the largest value of either sign, not the least, which may be 0."""
    some = np.where(np.arange(16) == 3, 0.0, noise(BOX))
    for u in (some, -abs(some)):
        norm, multiplier = discrete_norm(BOX, u, preserve), discrete_multiplier(BOX, u, preserve)
        for a in (2.0**1000, 2.0**-1000):
            assert discrete_norm(BOX, a * u, preserve) == a * norm
            assert discrete_multiplier(BOX, a * u, preserve) == multiplier
