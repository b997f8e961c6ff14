"""Section 4 derived anew: (13)-(16) and (17)-(18) by computer algebra, (10) by numerical integration."""

import math

import mpmath as mp
import numpy as np
import pytest
import sympy
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sympy import sqrt

from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import jumps
from tests.test_schedule import exact_alpha

PAPER = VarianceSchedule.linear()

x_s, x_t, x_0, eps = sympy.symbols("x_s x_t x_0 epsilon", real=True)
alpha, alpha_bar_s = sympy.symbols("alpha alpha_bar_s", positive=True)
alpha_bar_t = alpha * alpha_bar_s

# As printed.
EXPONENT_13 = (
    (x_t - sqrt(alpha) * x_s) ** 2 / (1 - alpha)
    + (x_s - sqrt(alpha_bar_s) * x_0) ** 2 / (1 - alpha_bar_s)
    - (x_t - sqrt(alpha_bar_t) * x_0) ** 2 / (1 - alpha_bar_t)
)
VARIANCE_15 = (1 - alpha) * (1 - alpha_bar_s) / (1 - alpha_bar_t)
MEAN_16 = (sqrt(alpha) * (1 - alpha_bar_s) * x_t + sqrt(alpha_bar_s) * (1 - alpha) * x_0) / (1 - alpha_bar_t)
X_0_OF_17 = (x_t - sqrt(1 - alpha_bar_t) * eps) / sqrt(alpha_bar_t)
MEAN_18 = (x_t - (1 - alpha) / sqrt(1 - alpha_bar_t) * eps) / sqrt(alpha)

# As derived. The square completed: a x_s^2 + b x_s + c = (x_s - mean)^2 / variance + rest.
a, b, c = sympy.Poly(sympy.expand(EXPONENT_13), x_s).all_coeffs()
VARIANCE, MEAN, REST = sympy.factor(1 / a), sympy.simplify(-b / (2 * a)), c - b**2 / (4 * a)
MEAN_FROM_NOISE = MEAN.subs(x_0, X_0_OF_17)


@pytest.mark.parametrize(
    ("derived", "printed"),
    [(VARIANCE, VARIANCE_15), (MEAN, MEAN_16), (REST, 0), (MEAN_FROM_NOISE, MEAN_18)],
    ids=["(15)", "(16)", "(14)", "(18)"],
)
def test_the_printed_formulas_follow(derived, printed):
    """For all alpha, alpha_bar and x: (13) is the exponent of (14), without a rest; and (16) with (17) is (18)."""
    assert sympy.simplify(derived - printed) == 0


variance_of = sympy.lambdify((alpha, alpha_bar_s), VARIANCE, "mpmath")
mean_of = sympy.lambdify((alpha, alpha_bar_s, x_t, x_0), MEAN, "mpmath")
mean_from_noise_of = sympy.lambdify((alpha, alpha_bar_s, x_t, eps), MEAN_FROM_NOISE, "mpmath")


@given(jumps(), st.floats(-3, 3), st.floats(-3, 3))
@example((PAPER, [0, 1]), 1.0, -1.0)
@example((PAPER, [499, 500]), 1.0, -1.0)
@example((VarianceSchedule([0.8883691275167785] * 125), [0, 125]), 0.0, 3.0)
def test_the_schedule_has_the_derived_values(case, x, y):
    """Eqs. (15), (16), (18) of any schedule and jump, y the image or the noise; in 50 digits."""
    schedule, (s, t) = case
    with mp.workdps(50 + 310):  # where 1 - alpha_bar is 1e-300, 50 are left
        products = exact_alpha(schedule, t, s), exact_alpha(schedule, s, 0)
        variance = float(variance_of(*products))
        mean, mean_from_noise = (float(f(*products, mp.mpf(x), mp.mpf(y))) for f in (mean_of, mean_from_noise_of))
    laws.close(schedule.posterior_variance(t, s), variance, ulps=24, label="variance")
    # Each coefficient has a relative error of some roundings; the terms have size at most 3, and 3 / sqrt(alpha), of
    # which alpha has the rounding of its logarithm too.
    x, y, alpha_ts = np.array([x]), np.array([y]), schedule.transition(t, s)[0]
    laws.close(schedule.posterior_mean(x, y, t, s), mean, ulps=60, scale=3, label="mean")
    ulps, size = 60 + abs(math.log(alpha_ts)), 3 / math.sqrt(alpha_ts)
    value = schedule.posterior_mean_from_noise(x, y, t, s)
    laws.close(value, mean_from_noise, ulps=ulps, scale=size, label="mean from noise")


def log_normal(x, mean, variance):
    """The logarithm of eq. (1) on the line."""
    return -((x - mean) ** 2) / (2 * variance) - math.log(2 * math.pi * variance) / 2


@given(jumps(max_steps=20), st.floats(-2, 2), st.floats(-2, 2))
def test_bayes_by_quadrature(case, x_0, z):
    """Eqs. (10)-(14): the right side of (12), integrated numerically, has mass 1, the mean (16) and variance (15)."""
    schedule, (s, t) = case
    assume(s > 0)
    (alpha_bar_s, rest_s), (alpha, rest), (alpha_bar_t, rest_t) = (
        schedule.transition(*jump) for jump in ((s, 0), (t, s), (t, 0))
    )
    # The integrand is a function of differences of numbers of order 1, so they must not be below their rounding.
    assume(min(rest_s, rest) > 1e-8)
    x_t = math.sqrt(alpha_bar_t) * x_0 + math.sqrt(rest_t) * z

    def right_side(x_s):
        likelihood = log_normal(x_t, math.sqrt(alpha) * x_s, rest)
        prior = log_normal(x_s, math.sqrt(alpha_bar_s) * x_0, rest_s)
        evidence = log_normal(x_t, math.sqrt(alpha_bar_t) * x_0, rest_t)
        return math.exp(likelihood + prior - evidence)

    mean = schedule.posterior_mean(np.array([x_t]), np.array([x_0]), t, s)[0]
    laws.normalised(right_side, mean, math.sqrt(schedule.posterior_variance(t, s)), atol=1e-8)
