"""The strategies draw what they say, in all its variety; and the laws can be broken."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, target
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, NoSuchExample

from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import (
    boxes,
    covariances,
    images,
    jumps,
    schedules,
    spectra,
    times_of_interest,
    walks,
    wide_spectra,
)

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


@given(images(2))
def test_images(pair):
    x, y = pair
    assert x.shape == y.shape
    assert (len(x), x.dtype) == (3, np.float64)
    assert abs(x).max() <= 4


def test_images_of_all_shapes():
    find(images(), lambda one: one[0].ndim == 2, settings=QUICK)
    find(images(), lambda one: one[0].ndim == 4 and one[0].shape[2] != one[0].shape[3], settings=QUICK)


@given(walks())
def test_walks(case):
    schedule, times = case
    assert times[0] == 0
    assert times[-1] <= schedule.n_steps
    assert (np.diff(times) > 0).all()


def test_walks_are_of_any_length():
    find(walks(), lambda case: len(case[1]) == 2, settings=QUICK)
    find(walks(), lambda case: len(case[1]) > 10, settings=QUICK)
    find(walks(), lambda case: case[0].n_steps > 5 and len(case[1]) == case[0].n_steps + 1, settings=QUICK)


@given(covariances(3))
def test_covariances(case):
    s, axes = case
    assert s.min() >= 0
    laws.close(axes.T @ axes, np.eye(3), ulps=16, scale=1)


def test_covariances_are_singular_and_turned():
    find(covariances(3), lambda case: (case[0] == 0).sum() == 1, settings=QUICK)
    find(covariances(3), lambda case: np.abs(case[1]).max() < 0.9, settings=QUICK)


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
    find(spectra(), lambda c: len(c) > 5 and (np.abs(c[3:]) < 1e-3 * c[0]).all() and c[3:].any(), settings=QUICK)
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

    def normal(e):
        laws.gaussian_samples(
            np.random.default_rng(0).standard_normal((10_000, 3)) + e[0], np.zeros(3), np.eye(3) + e[1]
        )

    cases = [
        (lambda e: laws.within([1, 1 + e], [1, 1], [0, 1e-3]), 2e-3),
        (lambda e: laws.close(1 + e, 1, ulps=8), 1e-14),
        (lambda e: laws.variances_add(0.5, 0.5 + e), 1e-13),
        (lambda e: laws.normalised(lambda x: gaussian(x, 1 + e), 0.0, 1.0, atol=1e-10), 1e-9),
        (lambda e: laws.normalised(gaussian, e, 1.0, atol=1e-10), 1e-9),
        (lambda e: laws.composes(leaky if e else good.transition, [1, 4, 6, 9], ulps=30), 1),
        (lambda e: laws.semigroup(lambda u, t: u * np.exp(-t) + e, np.ones(2), 0.3, 0.4, ulps=8), 1e-10),
        (lambda e: laws.conserved([1.0, 1.0 + e], ulps=8), 1e-14),
        (lambda e: laws.never_rises([1.0, 1.0 + e]), 1e-14),
        (lambda e: laws.sample_mean(np.random.default_rng(0).standard_normal(10_000), e), 0.1),
        (lambda e: normal((np.array([e, 0, 0]), 0)), 0.08),
        (lambda e: normal((0, np.diag([0, e, 0]))), 0.12),
        (lambda e: normal((0, e * (np.eye(3)[::-1] - np.diag([0, 1, 0])))), 0.08),
    ]
    for law in (lambda: laws.within([], [], 1), lambda: laws.conserved([1.0], ulps=8), lambda: laws.never_rises([1.0])):
        with pytest.raises(AssertionError):
            law()
    for law, error in cases:
        law(0)
        with pytest.raises(AssertionError):
            law(error)


def test_gaussian_samples_alarms_as_often_as_it_says():
    """Of 1000 correct laws, with few samples, so many that nine numbers are beside tails of 0.1 / 9: to 5 sigma."""
    rng, factor = np.random.default_rng(0), np.array([[1.0, 0, 0], [2, 1, 0], [0, -1, 3]])
    alarms = 0
    for _ in range(1000):
        try:
            laws.gaussian_samples(1 + rng.standard_normal((5, 3)) @ factor.T, 1, factor @ factor.T, false_alarm=0.1)
        except AssertionError:
            alarms += 1
    rate = 1 - (1 - 0.1 / 9) ** 9
    assert abs(alarms / 1000 - rate) < 5 * np.sqrt(rate * (1 - rate) / 1000)


@given(st.floats(0, 1))
def test_laws_drive_the_search(x):
    """Hypothesis hears of the worst error, as a share of what is allowed: a label cannot be told again."""
    laws.within([1.0, x], [1.0, 0.0], [0.1, 2.0], label="some")
    laws.close(1 + 4 * laws.EPS, 1, ulps=8)
    laws.conserved([1.0, 1 + laws.EPS], ulps=4)
    laws.conserved([1.0, 1.0], ulps=4)  # only the first of a label counts
    for label, share in (("some", x / 2), ("", 0.5), ("conserved", 0.25)):
        with pytest.raises(InvalidArgument, match=re.escape(f"would overwrite target({share}, label={label!r})")):
            target(0.0, label=label)
