"""The heat flow of spectra as a softmax: against 80 digits, where nothing else is left standing."""

import math
from functools import reduce

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings, target
from hypothesis import strategies as st

from diffmath.pde import Box, RenormalizedFlow
from tests.strategies import boxes, times_of_interest, wide_spectra

FLOW = RenormalizedFlow(Box(shape=(24,)))


def tolerance(c):
    """Of amplitudes relative to the largest, of shares and of the multiplier.

    Where two modes of amplitudes d decades apart are equally large, the exponent of their ratio is 2.3 d, and has three
    roundings of 1.1e-16 relative to that: 1.2e-14 for 16 decades if they all add up, of which 5e-15 are ever seen.
    """
    sizes = np.log10(np.abs(c[c != 0]))
    return 5e-15 if np.ptp(sizes) <= 16 else 1e-12


def rounding(box, b, t):
    """What several axes may add to the tolerance, for the solution's amplitudes b; 0 for one axis.

    The gaps of the axes, (j^2 - k^2) pi^2 / L^2, may cancel in their sum, and each is rounded relative to itself: twice
    for pi^2, twice for the quotient, once for the product with an integer, once in each sum, and once for t. So the
    exponent of a mode has an error of (6 + d) eps / 2 times t times the sum of the gaps' absolute values, and its
    amplitude has that error relative to itself. Scaling at most doubles it.
    """
    if box.ndim == 1:
        return 0.0
    k = np.unravel_index(abs(b).argmax(), b.shape)
    squares = zip(k, box.shape, box.lengths, strict=True)
    gaps = reduce(np.add.outer, [abs(np.arange(n) ** 2 - i**2) * (math.pi / length) ** 2 for i, n, length in squares])
    exponents = (6 + box.ndim) * np.finfo(float).eps / 2 * abs(t) * gaps
    return float(2 * (exponents * abs(b)).max() / abs(b).max())


def exact(box, c, t, s=1):
    """Amplitudes, shares and the multiplier of the flow that keeps sum mu^s c^2, to 80 digits."""
    with mp.workdps(80):
        mu = [
            mp.fsum((k * mp.pi / mp.mpf(length)) ** 2 for k, length in zip(numbers, box.lengths, strict=True))
            for numbers in np.ndindex(*box.shape)
        ]
        present = [i for i, a in enumerate(c.flat) if a]
        v = {i: mp.mpf(float(c.flat[i])) * mp.exp(-mu[i] * mp.mpf(float(t))) for i in present}
        energy = {i: mu[i] ** s * v[i] ** 2 for i in present}
        total, first = mp.fsum(energy.values()), mp.fsum(mu[i] ** s * mp.mpf(float(c.flat[i])) ** 2 for i in present)
        b, p = np.zeros(c.size), np.zeros(c.size)
        for i in present:
            b[i], p[i] = float(v[i] * mp.sqrt(first / total)), float(energy[i] / total)
        return b.reshape(c.shape), p.reshape(c.shape), float(mp.fsum(mu[i] * energy[i] for i in present) / total)


def compare(flow, c, t, s=1):
    ds = flow.solve_modes(c, t, mean="keep" if s == 0 else "project")
    b, p, multiplier = exact(flow.domain, c, t, s)
    error, allowed = np.abs(ds.amplitude.values[0] - b).max() / np.abs(b).max(), tolerance(c)
    several = rounding(flow.domain, b, t)
    assert error <= max(allowed, several)
    assert np.abs(ds.energy_fraction.values[0] - p).max() <= max(allowed, 2 * several)  # squares of amplitudes
    # Once a constant dominates, the multiplier decays like exp(-2 mu_1 t): its error is that of a share, beside mu_1,
    # and no longer relative to itself.
    absolute = allowed * flow.domain.lowest_eigenvalue if s == 0 else 0
    assert ds.multiplier.item() == pytest.approx(multiplier, rel=max(allowed, 2 * several), abs=absolute)
    return error


@given(st.data())
def test_one_dimension(data):
    """Amplitudes up to 1e200 apart, absent low modes, times up to 1e4 of both signs, and where two modes are level."""
    c = data.draw(wide_spectra(24, decades=data.draw(st.sampled_from([16, 200]))))
    target(compare(FLOW, c, data.draw(times_of_interest(c, FLOW.domain.eigenvalues))))


@pytest.mark.parametrize("t", [1e-300, 1e-3, 0.02, 7.0, 1e4, 1e300, math.inf, -1e-3, -1e4, -math.inf])
@pytest.mark.parametrize(
    "c", [[0, 1e-200, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0, 0, -3.0], [0, 1e-150, 1e50, 1e-100, 1e150]]
)
def test_any_time(c, t):
    c = np.pad(np.array(c, dtype=float), (0, 24 - len(c)))
    finite = math.copysign(min(abs(t), 1e6), t)  # by then it is the limit
    ds = FLOW.solve_modes(c, t)
    b, p, multiplier = exact(FLOW.domain, c, finite)
    np.testing.assert_allclose(ds.amplitude.values[0], b, rtol=0, atol=tolerance(c) * abs(b).max())
    np.testing.assert_allclose(ds.energy_fraction.values[0], p, rtol=0, atol=tolerance(c))
    assert ds.multiplier.item() == pytest.approx(multiplier, rel=tolerance(c), abs=0)


@settings(max_examples=min(100, settings.default.max_examples))  # of up to 200 modes in 80 digits
@given(st.data())
def test_several_dimensions(data):
    box = data.draw(boxes(max_cells=6))
    n = math.prod(box.shape)
    c = data.draw(wide_spectra(n, decades=data.draw(st.sampled_from([16, 200])))).reshape(box.shape)
    target(compare(RenormalizedFlow(box), c, data.draw(times_of_interest(c, box.eigenvalues))))


@pytest.mark.parametrize("s", [0, 2])
@settings(max_examples=min(50, settings.default.max_examples))
@given(data=st.data())
def test_other_quadratic_functionals(data, s):
    c = data.draw(wide_spectra(24))
    flow = RenormalizedFlow(FLOW.domain, preserve={0: "value", 2: "laplacian"}[s])
    if s == 0:
        c[0] = 1e-3  # the mean is a mode like any other: it wins in the end
    compare(flow, c, data.draw(times_of_interest(c, FLOW.domain.eigenvalues)), s)


@pytest.mark.parametrize(
    ("n", "modes", "t"), [(24, {22: 1e90, 23: 1.0}, -0.4666), (400, {1: 1.0, 5: 1e5, 30: 1e10}, 3.5e-3)]
)
def test_modes_beside_those_that_have_vanished(n, modes, t):
    """Most are, but not all of those that were there, at a time at which two are level."""
    c = np.zeros(n)
    c[list(modes)] = list(modes.values())
    compare(RenormalizedFlow(Box(shape=(n,))), c, t)


def test_high_modes_that_differ_little():
    """Modes 4094 and 4095 alone, when they are level: mu t is 1e5, its rounding error as such would be 1e-11."""
    box = Box(shape=(4096,))
    c = np.zeros(4096)
    c[4094], c[4095] = 1e-20, 1.0
    mu = box.eigenvalues
    compare(RenormalizedFlow(box), c, math.log(1e20) / (mu[4095] - mu[4094]))


def test_degenerate_modes_stay_level():
    """On a square (0, 5) and (3, 4) have one eigenvalue: their ratio never changes, however long it takes."""
    box = Box(shape=(8, 8))
    c = np.zeros(box.shape)
    c[0, 5], c[3, 4], c[7, 7] = 1.0, 0.5, 1e100
    ds = RenormalizedFlow(box).solve_modes(c, [1.0, 1e4, 1e8])
    np.testing.assert_allclose(ds.amplitude[:, 3, 4] / ds.amplitude[:, 0, 5], 0.5, rtol=1e-15)


@given(st.data())
@example(data=0.5)
@example(data=-0.5)
def test_batches_are_their_members(data):
    """Also where one has a mode that another lacks, and where one alone has a wide range."""
    c = np.zeros((3, 24))
    if isinstance(data, float):
        c[0, 1], c[1, 20], c[2, [1, 3]], t = 1.0, 1.0, (1e-300, 1.0), data
    else:
        for member in c:
            member[:] = data.draw(wide_spectra(24, decades=data.draw(st.sampled_from([3, 300]))))
        t = data.draw(times_of_interest(c[0], FLOW.domain.eigenvalues))
    together = FLOW.solve_modes(c, [t, 0.0])
    assert together.amplitude.dims == ("batch", "time", "k_x")
    for i, member in enumerate(c):
        alone = FLOW.solve_modes(member, [t, 0.0])
        for name in ("amplitude", "energy_fraction", "multiplier"):
            size = abs(alone[name].values).max()
            np.testing.assert_allclose(
                together[name].values[i], alone[name].values, rtol=0, atol=2 * tolerance(c[i]) * size
            )
