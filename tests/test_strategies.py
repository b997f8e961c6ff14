"""The strategies draw what they say, in all its variety; and the laws can be broken."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import boxes, images, jumps, schedules, spectra, times_of_interest, wide_spectra

QUICK = settings(
    max_examples=2000, phases=[Phase.generate], derandomize=True, suppress_health_check=list(HealthCheck), deadline=None
)


@given(schedules())
def test_schedules(schedule):
    assert len(schedule.beta) == schedule.n_steps + 1
    assert ((schedule.beta[1:] > 0) & (schedule.beta[1:] < 1)).all()


@pytest.mark.parametrize(
    "condition",
    [
        lambda s: s.n_steps == 1,
        lambda s: s.n_steps == 4000,
        lambda s: s.beta[1:].max() < 1e-12,
        lambda s: s.beta.max() > 0.99,
        lambda s: s.n_steps > 5 and np.ptp(s.beta[1:]) == 0,
        lambda s: (np.diff(s.beta[1:]) < 0).any(),
    ],
    ids=["T = 1", "T = 4000", "tiny", "near 1", "equal", "falling"],
)
def test_schedules_are_adversarial(condition):
    assert condition(find(schedules(), condition, settings=QUICK))


@given(jumps(n_times=3))
def test_jumps(case):
    schedule, times = case
    assert 0 <= times[0] < times[1] < times[2] <= schedule.n_steps


def test_jumps_begin_and_end_everywhere():
    find(jumps(), lambda case: case[1][0] == 0, settings=QUICK)
    find(jumps(), lambda case: case[1][0] > 0 and case[1][1] == case[0].n_steps, settings=QUICK)
    find(jumps(), lambda case: case[1][1] - case[1][0] > 20, settings=QUICK)
    with pytest.raises(NoSuchExample):
        find(jumps(), lambda case: case[1][0] >= case[1][1], settings=settings(QUICK, max_examples=200))


@given(images(n=2, shape=(3,)))
def test_images(x):
    assert (x.shape, x.dtype) == ((2, 3), np.float64)
    assert abs(x).max() <= 4


@given(boxes())
def test_boxes(box):
    assert 1 <= box.ndim <= 3
    assert box.eigenvalues.shape == box.shape
    assert box.lowest_mode != (0,) * box.ndim


def test_boxes_are_flat_and_long():
    for n in (1, 2, 3):
        find(boxes(), lambda box, n=n: box.ndim == n, settings=QUICK)
    find(boxes(), lambda box: max(box.lengths) > 20 * min(box.lengths), settings=QUICK)


@given(spectra())
def test_spectra(c):
    assert 0.1 <= c[0] <= 1
    assert np.isfinite(c).all()


@given(st.data())
def test_wide_spectra_and_times(data):
    c = data.draw(wide_spectra(12))
    assert (c[0], np.abs(c).max()) == (0, 1)
    mu = np.arange(12.0) ** 2
    t = data.draw(times_of_interest(c, mu))
    assert np.isfinite(t)


def test_spectra_are_rough_sparse_and_wide():
    find(spectra(), lambda c: (c == 0).sum() > 3, settings=QUICK)
    find(spectra(), lambda c: len(c) > 20 and np.abs(c[1:]).max() > 0.1, settings=QUICK)
    find(wide_spectra(12), lambda c: c[1] == 0, settings=QUICK)
    find(wide_spectra(12), lambda c: 0 < abs(c[c != 0]).min() < 1e-150, settings=QUICK)

    def level(draw):
        c, mu = np.array([0.0, 1e-30, 1.0]), np.array([0.0, 1.0, 4.0])
        t = draw(times_of_interest(c, mu))
        return abs(c[1] * np.exp(-mu[1] * t) / (c[2] * np.exp(-mu[2] * t)) - 1) < 1e-9 if abs(t) < 100 else False

    find(st.composite(level)(), bool, settings=QUICK)


def test_laws_can_be_broken():
    """Each law passes what obeys it and fails what is off by little."""
    good = VarianceSchedule.linear(9, 0.01, 0.2)

    def leaky(t, s):
        alpha, variance = good.transition(t, s)
        return alpha * (1 + 1e-12), variance

    def gaussian(x, scale=1.0):
        return scale * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    cases = [
        (lambda e: laws.close(1 + e, 1, ulps=8), 1e-14),
        (lambda e: laws.variances_add(0.5, 0.5 + e), 1e-13),
        (lambda e: laws.normalised(lambda x: gaussian(x, 1 + e), 0.0, 1.0, atol=1e-10), 1e-9),
        (lambda e: laws.normalised(gaussian, e, 1.0, atol=1e-10), 1e-9),
        (lambda e: laws.composes(leaky if e else good.transition, 1, 4, 9, ulps=30), 1),
        (lambda e: laws.semigroup(lambda u, t: u * np.exp(-t) + e, np.ones(2), 0.3, 0.4, ulps=8), 1e-10),
        (lambda e: laws.conserved([1.0, 1.0 + e], ulps=8), 1e-14),
        (lambda e: laws.never_rises([1.0, 1.0 + e]), 1e-14),
        (lambda e: laws.sample_mean(np.random.default_rng(0).standard_normal(10_000), e), 0.1),
    ]
    for law, error in cases:
        law(0)
        with pytest.raises(AssertionError):
            law(error)
