"""Eqs. (2)-(9) and (15)-(19): against exact arithmetic, as laws, and in what is refused."""

from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import images, jumps, schedules, walks

PAPER = VarianceSchedule.linear()


def exact_alpha(schedule, t, s, digits=360):
    """alpha_{t|s} to 360 digits, as betas may be 1e-300, from the float64 betas."""
    with mp.workdps(digits):
        return mp.fprod(1 - mp.mpf(float(b)) for b in schedule.beta[s + 1 : t + 1])


def exact(schedule, t, s, digits=360):
    """alpha_{t|s} and 1 - alpha_{t|s}, correctly rounded."""
    with mp.workdps(digits):
        alpha = exact_alpha(schedule, t, s, digits)
        return float(alpha), float(1 - alpha)


def test_paper_schedule():
    assert PAPER.n_steps == 500
    assert (PAPER.beta[0], PAPER.alpha[0], PAPER.alpha_bar[0]) == (0, 1, 1)
    assert (PAPER.beta[1], PAPER.beta[500]) == (1e-4, 0.02)
    assert PAPER.beta.dtype == PAPER.alpha.dtype == PAPER.alpha_bar.dtype == np.float64
    assert round(float(PAPER.alpha_bar[500]) ** 0.5, 4) == 0.0797
    for t in range(501):  # 3 roundings: two exponentials and a product
        laws.close(PAPER.alpha_bar[t], exact(PAPER, t, 0)[0], ulps=3)


@given(jumps())
@example((PAPER, [0, 1]))
@example((PAPER, [499, 500]))
@example((VarianceSchedule.linear(4000), [3999, 4000]))
def test_transition_is_exact(case):
    """Eqs. (3), (6), (7), (9): both coefficients to a few roundings, where 1 - alpha_bar would cancel."""
    schedule, (s, t) = case
    alpha, variance = schedule.transition(t, s)
    exact_one, exact_variance = exact(schedule, t, s)
    # The exponent is rounded to eps |log alpha|, which is its error in alpha too.
    laws.close(alpha, exact_one, ulps=4 + abs(np.log(exact_one)), label="alpha")
    laws.close(variance, exact_variance, ulps=6, label="variance")


@pytest.mark.parametrize("tiny", [1e-16, 1e-20, 1e-32, 1e-40, 1e-300])
def test_tiny_betas_after_ordinary_ones(tiny):
    """They are far below the rounding of what came before, in one step and in jumps over several."""
    schedule = VarianceSchedule([0.3, 0.5, 0.31, tiny, 2 * tiny, 0.1])
    for s, t in ((3, 4), (3, 5), (4, 5), (4, 6), (0, 5)):
        laws.close(schedule.transition(t, s)[1], exact(schedule, t, s)[1], ulps=6)
    variance = schedule.transition(np.array([4, 5, 2]), np.array([3, 3, 0]))[1]
    laws.close(variance, [tiny, 3 * tiny, 1 - 0.7 * 0.5], ulps=6)


@given(jumps())
def test_signal_and_noise_add_to_one(case):
    """Eq. (9): data of unit variance keep it."""
    schedule, (s, t) = case
    laws.variances_add(*schedule.transition(t, s))


@given(jumps(n_times=3))
def test_chain_composes(case):
    """Eqs. (5), (6): two jumps are one jump; amplitudes multiply, variances add."""
    schedule, times = case
    laws.composes(schedule.transition, times, ulps=30)


@given(walks())
def test_chain_composes_however_it_is_split(case):
    """Eqs. (5)-(7), (9): any sub-sequence of the times leads from the image to the same law."""
    schedule, times = case
    laws.composes(schedule.transition, times, ulps=30)


@given(jumps(), images(2))
def test_forward_steps(case, pair):
    """Eqs. (2), (8): a leap from the image is a jump from time 0, and a step is the printed formula."""
    (schedule, (_, t)), (x, eps) = case, pair
    np.testing.assert_array_equal(schedule.add_noise(x, eps, t), schedule.forward_step(x, eps, t, 0))
    beta = schedule.beta[t]
    printed = np.sqrt(1 - beta) * x + np.sqrt(beta) * eps
    laws.close(schedule.forward_step(x, eps, t), printed, ulps=16, scale=8)


def test_what_cannot_be_divided_by():
    """A jump over which nothing of the signal is left has no inverse; complex numbers have no place."""
    schedule = VarianceSchedule([0.9] * 400)
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="alpha_bar_t must be at least 2.23e-308 to be divided by"):
        schedule.predict_x_0(x, x, 400)
    with pytest.raises(ValueError, match=r"alpha_t\|s must be at least"):
        schedule.posterior_mean_from_noise(x, x, 400, 0)
    with pytest.raises(TypeError, match="x_0 must be real numbers; the dtype is complex128"):
        schedule.add_noise(1j * x, x, 4)
    assert schedule.posterior_variance(400) > 0
    for beta in ([0.1 + 0.5j], ["0.1"], [True]):
        with pytest.raises(TypeError, match="beta must be real numbers; the dtype is"):
            VarianceSchedule(beta)
    one = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="the coefficients must fit float32, up to 3.4e"):
        schedule.predict_x_0(one, one, 100)


@given(images(2))
def test_no_noise_at_time_zero(pair):
    x, eps = pair
    np.testing.assert_array_equal(PAPER.add_noise(x, eps, 0), x)


@given(jumps(n_times=2), st.floats(-3, 3), st.floats(-3, 3))
@example((PAPER, [0, 1]), 1.0, -1.0)
@example((PAPER, [499, 500]), 1.0, -1.0)
def test_posterior_is_bayes(case, x_t, x_0):
    """Eqs. (10)-(16): the product of two Gaussians in x_s, by the general rule for precisions, in exact arithmetic."""
    schedule, (s, t) = case
    mean = schedule.posterior_mean(np.array([x_t]), np.array([x_0]), t, s)[0]
    variance = schedule.posterior_variance(t, s)
    if s == 0:
        assert variance == 0
        laws.close(mean, x_0, ulps=16, scale=1)
        return
    with mp.workdps(360):
        alpha, alpha_bar_s = exact_alpha(schedule, t, s), exact_alpha(schedule, s, 0)
        prior, likelihood = 1 / (1 - alpha_bar_s), alpha / (1 - alpha)
        exact_variance = 1 / (prior + likelihood)
        exact_mean = exact_variance * (
            prior * mp.sqrt(alpha_bar_s) * mp.mpf(x_0) + likelihood / mp.sqrt(alpha) * mp.mpf(x_t)
        )
        exact_variance, exact_mean = float(exact_variance), float(exact_mean)
    laws.close(variance, exact_variance, ulps=24, label="variance")
    # Each coefficient has a relative error of some roundings; the terms have size at most 3.
    laws.close(mean, exact_mean, ulps=60, scale=3, label="mean")


@given(jumps(n_times=2), images(2))
def test_posterior_mean_from_noise(case, pair):
    """Eqs. (17), (18): the mean in terms of the noise is the mean in terms of the image."""
    (schedule, (s, t)), (x_0, eps) = case, pair
    x_t = schedule.add_noise(x_0, eps, t)
    # (18) divides by sqrt(alpha_{t|s}), (16) does not: where that is small, rounding of x_t is amplified.
    amplified = 1 / np.sqrt(schedule.transition(t, s)[0])
    laws.close(
        schedule.posterior_mean_from_noise(x_t, eps, t, s),
        schedule.posterior_mean(x_t, x_0, t, s),
        ulps=40 * amplified,
        scale=8,
    )


@given(jumps(n_times=2), images(2))
def test_predict_x_0_inverts_add_noise(case, pair):
    """Eq. (8) and its solution for x_0."""
    (schedule, (_, t)), (x_0, eps) = case, pair
    amplified = 1 / np.sqrt(schedule.alpha_bar[t])
    laws.close(schedule.predict_x_0(schedule.add_noise(x_0, eps, t), eps, t), x_0, ulps=40 * amplified, scale=8)


@given(jumps(n_times=2))
def test_backward_step_keeps_the_marginals(case):
    """Eqs. (9), (14): x_t ~ p(x_t | x_0), then x_s ~ p(x_s | x_t, x_0), has the law p(x_s | x_0)."""
    schedule, (s, t) = case
    zero, one = np.zeros(1), np.ones(1)
    from_x_t = schedule.posterior_mean(one, zero, t, s)[0]
    from_x_0 = schedule.posterior_mean(zero, one, t, s)[0]
    alpha_bar_s = 1.0 if s == 0 else schedule.alpha_bar[s]
    laws.close(from_x_t * np.sqrt(schedule.alpha_bar[t]) + from_x_0, np.sqrt(alpha_bar_s), ulps=40, label="mean")
    noise = from_x_t**2 * schedule.transition(t, 0)[1] + schedule.posterior_variance(t, s)
    laws.close(noise, 0.0 if s == 0 else schedule.transition(s, 0)[1], ulps=60, label="variance")


@given(jumps(n_times=2), images(3))
def test_backward_step_is_mean_and_noise(case, three):
    """Eq. (19); at s = 0 without noise."""
    (schedule, (s, t)), (x, eps, z) = case, three
    mean = schedule.posterior_mean_from_noise(x, eps, t, s)
    step = schedule.backward_step(x, eps, z, t, s)
    np.testing.assert_array_equal(step, mean + np.sqrt(schedule.posterior_variance(t, s)) * z)
    a, b, c = schedule.backward_coefficients(t, s)
    np.testing.assert_array_equal(step, (a * x + b * eps) + c * z)
    if s == 0:
        np.testing.assert_array_equal(step, mean)


@given(schedules(), st.data())
def test_subsequence(schedule, data):
    n = data.draw(st.integers(1, schedule.n_steps))
    times = schedule.subsequence(n)
    assert (times[0], times[-1], len(times)) == (0, schedule.n_steps, n + 1)
    gaps = np.diff(times)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1  # as equal as integers can be
    np.testing.assert_array_equal(schedule.subsequence(), np.arange(schedule.n_steps + 1))


def test_cosine_schedule():
    """alpha_bar follows the squared cosine until the cap is reached."""
    s = VarianceSchedule.cosine(1000)
    f = np.cos(np.pi / 2 * (np.arange(1001) / 1000 + 0.008) / 1.008) ** 2
    uncapped = s.beta < 0.999
    laws.close(s.alpha_bar[uncapped], (f / f[0])[uncapped], ulps=4000)  # 1000 roundings, amplified where f is small
    assert s.beta[-1] == 0.999


@pytest.mark.parametrize(
    ("beta", "message"),
    [
        ([], "non-empty"),
        ([[0.1]], "shape is"),
        ([0.1, 0.2, 1.2], r"beta must lie in \(0, 1\); beta\[3\] = 1.2"),
        ([0.0, 0.1], r"beta\[1\] = 0.0"),
        ([0.1, float("nan")], r"beta\[2\] = nan"),
    ],
)
def test_bad_beta(beta, message):
    with pytest.raises(ValueError, match=message):
        VarianceSchedule(beta)


def test_bad_times_and_shapes():
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"t must lie in 1..500; it ranges from 501 to 501"):
        PAPER.posterior_mean(x, x, 501)
    with pytest.raises(ValueError, match=r"t must lie in 1..500"):
        PAPER.posterior_variance(0)
    with pytest.raises(ValueError, match=r"t must lie in 0..500"):
        PAPER.add_noise(x, x, -1)
    with pytest.raises(ValueError, match=r"s must be earlier than t; got s = 5 and t = 5"):
        PAPER.posterior_variance(5, 5)
    with pytest.raises(TypeError, match="dtype is float64"):
        PAPER.add_noise(x, x, 1.0)
    with pytest.raises(ValueError, match="one entry for each sample"):
        PAPER.add_noise(x, x, np.array([1, 2]))
    with pytest.raises(ValueError, match="one shape"):
        PAPER.add_noise(x, x[:1], 1)
    with pytest.raises(ValueError, match="at most T = 500"):
        PAPER.subsequence(501)
    with pytest.raises(TypeError, match="n_steps must be an integer"):
        VarianceSchedule.linear(2.5)
    with pytest.raises(ValueError, match="offset"):
        VarianceSchedule.cosine(10, offset=-1)
    with pytest.raises(ValueError, match="read-only"):
        PAPER.alpha_bar[1] = 0


def test_dtype_is_that_of_the_state():
    """Noise of another precision, and lists and integers."""
    assert PAPER.add_noise(np.ones(2, np.float32), np.ones(2), 3).dtype == np.float32
    assert PAPER.add_noise([1, 2], [0, 0], 3).dtype == np.float64


def test_equality_and_repr():
    assert VarianceSchedule.linear(10) == VarianceSchedule(np.linspace(1e-4, 0.02, 10))
    assert VarianceSchedule.linear(10) != VarianceSchedule.linear(11)
    assert VarianceSchedule.linear(10) != "linear"
    assert len({VarianceSchedule.linear(10), VarianceSchedule.linear(10)}) == 1
    assert repr(PAPER) == "VarianceSchedule(n_steps=500, beta_1=0.0001, beta_T=0.02)"


@pytest.mark.parametrize(("n_steps", "offset", "beta_max"), [(500, 0.008, 0.999), (40, 0.3, 0.5)])
def test_cosine_schedule_is_the_printed_one(n_steps, offset, beta_max):
    """beta_t = min(1 - f(t) / f(t - 1), beta_max) in 50 digits; by default with Nichol's constants."""
    schedule = VarianceSchedule.cosine(n_steps, offset, beta_max)
    with mp.workdps(50):
        half = [mp.pi / 2 * (mp.mpf(t) / n_steps + mp.mpf(offset)) / (1 + mp.mpf(offset)) for t in range(n_steps + 1)]
        f = [mp.cos(a) ** 2 for a in half]
        beta = [min(float(1 - after / before), beta_max) for before, after in pairwise(f)]
    # Angles near pi / 2 have a rounding error of eps, and their cosine is as small as 1 / T.
    laws.close(schedule.beta[1:], beta, ulps=8 * n_steps)
    if n_steps == 500:
        assert schedule == VarianceSchedule.cosine()
    assert VarianceSchedule.linear().n_steps == 500


def test_more_bad_arguments():
    with pytest.raises(ValueError, match=r"beta_max must lie in \(0, 1\); it is 1"):
        VarianceSchedule.cosine(10, beta_max=1)
    with pytest.raises(ValueError, match=r"t must be one integer or one for each sample; its shape is \(1, 1\)"):
        PAPER.transition(np.array([[1]]))


@given(schedules(max_steps=60).filter(lambda s: s.n_steps > 1), st.floats(0.01, 0.99))
@example(PAPER, 1e-3)
@example(VarianceSchedule.cosine(), 1e-4)
@example(VarianceSchedule([0.5, 1e-300, 1e-20]), 0.1)
def test_zero_terminal_is_the_printed_one(schedule, share):
    """Lin et al. (2024), algorithm 1, in 360 digits: beta, alpha_bar and 1 - alpha_bar to some roundings."""
    last = share * float(schedule.alpha_bar[1]) ** 0.5
    new = schedule.zero_terminal(last)
    with mp.workdps(360):
        bar = [1 - mp.mpf(float(schedule.beta[1]))]
        for b in schedule.beta[2:]:
            bar.append(bar[-1] * (1 - mp.mpf(float(b))))
        r = [mp.sqrt(b) for b in bar]
        printed = [(x - r[-1]) * (r[0] - mp.mpf(last)) / (r[0] - r[-1]) + mp.mpf(last) for x in r]
        alpha = [bar[0], *((after / before) ** 2 for before, after in pairwise(printed))]
        beta, amplification = (
            np.array([float(b) for b in c]) for c in ([1 - a for a in alpha], [1 / a - 1 for a in alpha])
        )
        alpha_bar, rest = (
            np.array([float(b) for b in c]) for c in ([x**2 for x in printed], [1 - x**2 for x in printed])
        )
    # The rounding of r_1 is also that of r_1 - delta, which beta has several times.
    ulps = 40 + 8 / (1 - share)
    laws.close(new.beta[1:], beta, ulps=ulps, label="beta")
    # A relative error of a beta is beta / alpha times as large in alpha; they add up.
    laws.within(
        new.alpha_bar[1:], alpha_bar, ulps * laws.EPS * alpha_bar * (1 + amplification.cumsum()), label="alpha_bar"
    )
    times = np.arange(1, new.n_steps + 1)
    laws.close(new.transition(times, 0 * times)[1], rest, ulps=ulps + 6, label="variance")


def test_zero_terminal():
    """Which of the image is left, and what stays; a float away from the betas that cannot be."""
    new = PAPER.zero_terminal()
    assert new.n_steps == 500
    assert new.beta[1] == PAPER.beta[1]
    laws.close(new.alpha_bar[500] ** 0.5, 1e-3, ulps=40)
    assert (np.sqrt(new.alpha_bar) < np.sqrt(PAPER.alpha_bar[500])).sum() == 69  # as the docstring says
    again = new.zero_terminal(float(PAPER.alpha_bar[500]) ** 0.5)  # shifts and scales are undone by another
    laws.close(again.beta[1:], PAPER.beta[1:], ulps=2000)
    two = VarianceSchedule([0.19, 0.5]).zero_terminal(0.3)
    laws.close(two.beta, [0, 0.19, 1 - (0.3 / 0.9) ** 2], ulps=8)


def test_zero_terminal_bad_arguments():
    for bad in (0, -0.1, 1.0, float(PAPER.alpha_bar[1]) ** 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"sqrt_alpha_bar_T must lie in \(0, 0.99995\)"):
            PAPER.zero_terminal(bad)
    with pytest.raises(ValueError, match="a schedule of one step"):
        VarianceSchedule([0.1]).zero_terminal()
    with pytest.raises(ValueError, match=r"beta must lie in \(0, 1\); beta\[500\] = 1.0"):
        PAPER.zero_terminal(1e-13)
