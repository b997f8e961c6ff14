"""The forward process: the Gaussian density (1), steps and leaps of it, eqs. (2)-(9).

Each coefficient is a product of a few factors that are rounded to half an eps each, and a sum of terms is compared with
the largest of them, so that a few tens of eps are allowed. In (1) the quadrature's own error is far below rounding. Its
points m + s u are rounded by up to 1e3 eps of s and move the mean and the variance as much: hence 1e-12.
"""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath as mp
import numpy as np

from diffmath.gaussian import Gaussian
from diffmath.verification._references import (
    DIGITS,
    EPS,
    GAUSSIAN,
    SCHEDULE,
    as_array,
    describe,
    draw_jump,
    draw_pair,
    draw_schedule,
    error_of_sum,
    exact_alpha,
    log_density_terms,
    relative_error,
    worst_error,
)
from diffmath.verification.checks import Example, check


@check(
    "(1)",
    "the printed density, its mass 1, mean and variances",
    code=[f"{GAUSSIAN}.log_density", f"{GAUSSIAN}.density"],
    method="quadrature",
    tolerance=1e-12,
    share=0.25,
)
def _density(rng: np.random.Generator) -> Example:
    d, isotropic = int(rng.integers(1, 4)), rng.random() < 0.5
    m, s = 3 * rng.normal(size=d), 10.0 ** rng.uniform(-2, 2, () if isotropic else d)
    g = Gaussian(m, s * s)
    # By the trapezoidal rule, whose error falls like exp(-2 (pi / h)^2) in the spacing h, on a cube of half-width 10.
    h = 0.5
    u = np.stack(np.meshgrid(*[np.arange(-10, 10 + h, h)] * d), axis=-1).reshape(-1, d)
    mass = g.density(m + s * u) * np.prod(h * np.broadcast_to(s, d))
    moments = abs(mass.sum() - 1), np.abs(mass @ u).max(), np.abs((u.T * mass) @ u - np.eye(d)).max()
    x = m + s * rng.normal(size=d)
    with mp.workdps(DIGITS):
        terms = log_density_terms(x, [mp.mpf(b) for b in m], [mp.mpf(b) for b in np.broadcast_to(g.variance, d)])
        printed = relative_error(g.log_density(x), mp.fsum(terms), max(map(abs, terms)))
    return Example(worst_error(*moments, printed), f"d = {d}, deviations {np.array2string(s, precision=3)}")


@check("(2)", "the forward step", code=[f"{SCHEDULE}.forward_step"], method="property", tolerance=8 * EPS)
def _step(rng: np.random.Generator) -> Example:
    schedule, (_, t) = draw_jump(rng)
    x, eps = draw_pair(rng)
    with mp.workdps(DIGITS):
        beta = mp.mpf(float(schedule.beta[t]))
        terms = mp.sqrt(1 - beta) * mp.mpf(x), mp.sqrt(beta) * mp.mpf(eps)
        error = error_of_sum(schedule.forward_step(as_array(x), as_array(eps), t)[0], terms)
    return Example(error, describe(schedule, t=t))


@check(
    "(3)",
    "the transition density's mean and variance",
    code=[f"{SCHEDULE}.transition"],
    method="property",
    tolerance=4 * EPS,
)
def _transition_density(rng: np.random.Generator) -> Example:
    schedule, (_, t) = draw_jump(rng)
    alpha, variance = schedule.transition(t)
    with mp.workdps(DIGITS):
        beta = mp.mpf(float(schedule.beta[t]))
        error = worst_error(relative_error(math.sqrt(alpha), mp.sqrt(1 - beta)), relative_error(variance, beta))
    return Example(error, describe(schedule, t=t))


@check("(4)", "alpha = 1 - beta", code=[SCHEDULE], method="property", tolerance=4 * EPS)
def _alpha_is_one_minus_beta(rng: np.random.Generator) -> Example:
    schedule, (_, t) = draw_jump(rng)
    with mp.workdps(DIGITS):
        exact = 1 - mp.mpf(float(schedule.beta[t]))
        error = worst_error(relative_error(schedule.alpha[t], exact), relative_error(schedule.transition(t)[0], exact))
    return Example(error, describe(schedule, t=t))


@check(
    "(5)",
    "two steps in one: amplitudes multiply, variances add",
    code=[f"{SCHEDULE}.transition"],
    method="property",
    tolerance=8 * EPS,
)
def _two_steps(rng: np.random.Generator) -> Example:
    schedule = draw_schedule(rng, 2)
    t = int(rng.integers(2, schedule.n_steps + 1))
    with mp.workdps(DIGITS):
        last, before = (1 - mp.mpf(float(schedule.beta[i])) for i in (t, t - 1))
        variance = last * (1 - before) + (1 - last)
        alpha, rest = schedule.transition(t, t - 2)
        error = worst_error(relative_error(alpha, last * before), relative_error(rest, variance))
    return Example(error, describe(schedule, t=t))


@check(
    "(6)",
    "k steps in one, pushed through step by step (error a step)",
    code=[f"{SCHEDULE}.transition"],
    method="general rule",
    tolerance=16 * EPS,
)
def _many_steps(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng)
    law = start = Gaussian([1.0], 0.3)
    for i in range(s + 1, t + 1):
        law = law.push(math.sqrt(1 - schedule.beta[i]), schedule.beta[i])
    alpha, variance = schedule.transition(t, s)
    jump = start.push(math.sqrt(alpha), variance)
    # Pushing step by step rounds once a step; that many roundings are the rule's, not the equation's.
    error = worst_error(
        abs(law.mean[0] - jump.mean[0]) / max(abs(jump.mean[0]), 1e-290), abs(law.variance / jump.variance - 1)
    )
    return Example(float(error) / (t - s), describe(schedule, s=s, t=t))


@check("(7)", "alpha_bar is the product of the alphas", code=[SCHEDULE], method="property", tolerance=32 * EPS)
def _product(rng: np.random.Generator) -> Example:
    schedule, (_, t) = draw_jump(rng)
    exact = math.prod((1 - Fraction(float(b)) for b in schedule.beta[1 : t + 1]), start=Fraction(1))
    error = abs(Fraction(float(schedule.alpha_bar[t])) - exact) / exact
    return Example(float(error), describe(schedule, t=t))


@check("(8)", "the leap from the image", code=[f"{SCHEDULE}.add_noise"], method="property", tolerance=32 * EPS)
def _leap(rng: np.random.Generator) -> Example:
    schedule, (_, t) = draw_jump(rng)
    x, eps = draw_pair(rng)
    with mp.workdps(DIGITS):
        alpha = exact_alpha(schedule, t, 0)
        terms = mp.sqrt(alpha) * mp.mpf(x), mp.sqrt(1 - alpha) * mp.mpf(eps)
        error = error_of_sum(schedule.add_noise(as_array(x), as_array(eps), t)[0], terms)
    return Example(error, describe(schedule, t=t))


@check(
    "(9)",
    "the law given the image, by recursion over (2)",
    code=[f"{SCHEDULE}.transition"],
    method="property",
    tolerance=32 * EPS,
)
def _law_given_image(rng: np.random.Generator) -> Example:
    schedule, (_, t) = draw_jump(rng)
    with mp.workdps(DIGITS):
        mean, variance = mp.mpf(1), mp.mpf(0)
        for b in schedule.beta[1 : t + 1]:
            beta = mp.mpf(float(b))
            mean, variance = mp.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        alpha_bar, rest = schedule.transition(t, 0)
        error = worst_error(relative_error(math.sqrt(alpha_bar), mean), relative_error(rest, variance))
    return Example(error, describe(schedule, t=t))
