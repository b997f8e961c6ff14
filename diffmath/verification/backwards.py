"""The backward process: Bayes' theorem (10)-(14), the posterior (15)-(18), and the backward step (19).

The tolerances of coefficients are a few tens of eps, as for the forward process. (10) asks adaptive integration for
each moment to 1e-11 and allows ten times that, since the integrands are exponentials of differences of large numbers.
(12) compares logarithms of densities and divides out their conditioning. Where components do not mix, one is tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import mpmath as mp
import numpy as np
import sympy
from scipy.integrate import quad

from diffmath.gaussian import Gaussian
from diffmath.schedule import VarianceSchedule
from diffmath.verification._references import (
    DIGITS,
    EPS,
    GAUSSIAN,
    SCHEDULE,
    as_array,
    describe,
    draw_jump,
    draw_pair,
    error_of_sum,
    exact_alpha,
    exact_alphas,
    log_density_terms,
    relative_error,
    worst_error,
)
from diffmath.verification.checks import Example, check


def _bayes_laws(schedule: VarianceSchedule, s: int, t: int, x_0: Any) -> tuple[Gaussian, float, float]:
    """The law (9) at s, and the scale and the variance of the transition (3), (6) from s to t."""
    alpha_bar, variance_s = schedule.transition(s, 0)
    alpha, variance = schedule.transition(t, s)
    return Gaussian(math.sqrt(alpha_bar) * x_0, variance_s), math.sqrt(alpha), float(variance)


@check(
    "(10)",
    "Bayes' right side has mass 1, mean (16), variance (15)",
    code=[f"{GAUSSIAN}.given"],
    method="quadrature",
    tolerance=1e-10,
    share=0.1,
)
def _bayes(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng, first=1)
    x_0, z = draw_pair(rng)
    prior, scale, variance = _bayes_laws(schedule, s, t, as_array(x_0))
    evidence = prior.push(scale, variance)
    x_t = evidence.mean + z * np.sqrt(evidence.variance)
    posterior = prior.given(x_t, scale, variance)
    m = schedule.posterior_mean(x_t, as_array(x_0), t, s)[0]
    spread = math.sqrt(schedule.posterior_variance(t, s))

    def integrand(u: float, power: int) -> float:
        x = as_array(m + spread * u)
        log = Gaussian(scale * x, variance).log_density(x_t) + prior.log_density(x) - evidence.log_density(x_t)
        return float(u**power * spread * np.exp(log))

    moments = [quad(integrand, -12, 12, args=(p,), epsabs=1e-11, epsrel=1e-11, limit=200)[0] for p in (0, 1, 2)]
    found = *moments, (posterior.mean[0] - m) / spread, float(posterior.variance) / spread**2
    error = worst_error(*(abs(a - b) for a, b in zip(found, (1, 0, 1, 0, 1), strict=True)))
    return Example(float(error), describe(schedule, s=s, t=t))


@check(
    "(11)",
    "given x_s, the image says nothing more of x_t",
    code=[f"{SCHEDULE}.transition", f"{GAUSSIAN}.push"],
    method="property",
    tolerance=32 * EPS,
)
def _markov(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng, first=1)
    with mp.workdps(DIGITS):
        a, b = mp.sqrt(exact_alpha(schedule, s, 0)), mp.sqrt(exact_alpha(schedule, t, 0))
        # Of x_0, of variance 1, x_s and x_t: covariances by eq. (8) and its like between s and t.
        between = mp.sqrt(exact_alpha(schedule, t, s))
        known, with_t = mp.matrix([[1, a], [a, 1]]), mp.matrix([b, between])
        gain = mp.lu_solve(known, with_t)
        rest = 1 - (gain.T * with_t)[0]
        alpha, variance = schedule.transition(t, s)
        error = worst_error(abs(gain[0]), relative_error(math.sqrt(alpha), gain[1]), relative_error(variance, rest))
        # So, with the law (9) at s, it leads to the law at t.
        prior, scale, noise = _bayes_laws(schedule, s, t, as_array(1.0))
        law = prior.push(scale, noise)
        error = worst_error(error, relative_error(law.mean[0], b), relative_error(law.variance, 1 - b**2))
    return Example(float(error), describe(schedule, s=s, t=t))


@check(
    "(12)",
    "the quotient of densities is the density (14)",
    code=[f"{GAUSSIAN}.log_density"],
    method="property",
    tolerance=8 * EPS,
)
def _densities(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng, first=1)
    d = int(rng.integers(1, 4))
    x_0, y, z = rng.normal(size=(3, d))
    prior, scale, variance = _bayes_laws(schedule, s, t, x_0)
    evidence = prior.push(scale, variance)
    x_t = evidence.mean + y * np.sqrt(evidence.variance)
    posterior = Gaussian(schedule.posterior_mean(x_t, x_0, t, s), schedule.posterior_variance(t, s))
    x_s = posterior.mean + z * np.sqrt(posterior.variance)
    terms = (
        Gaussian(scale * x_s, variance).log_density(x_t),
        prior.log_density(x_s),
        -evidence.log_density(x_t),
    )
    with mp.workdps(DIGITS):
        a, b, c = exact_alphas(schedule, s, t)
        mean = [
            (mp.sqrt(a) * (1 - b) * mp.mpf(p) + mp.sqrt(b) * (1 - a) * mp.mpf(q)) / (1 - c)
            for p, q in zip(x_t, x_0, strict=True)
        ]
        exact = mp.fsum(log_density_terms(x_s, mean, [(1 - a) * (1 - b) / (1 - c)] * d))
        error = worst_error(*(abs(mp.mpf(float(v)) - exact) for v in (sum(terms), posterior.log_density(x_s))))
    # A rounding of x moves the narrowest of the densities, the posterior, by this much in its logarithm.
    largest = np.abs([x_0, x_t, x_s]).sum()
    condition = 1 + sum(abs(float(v)) for v in terms) + 8 * largest / math.sqrt(posterior.variance)
    return Example(float(error / condition), describe(schedule, s=s, t=t, d=d))


def _symbols() -> tuple[tuple[sympy.Symbol, ...], tuple[sympy.Symbol, ...]]:
    return sympy.symbols("x_t x_s x_0 eps"), sympy.symbols("alpha alpha_bar_s", positive=True)


@cache
def _completed_square() -> tuple[bool, Callable[..., Any], Callable[..., Any]]:
    """Whether (13) is the exponent of (14) with (15), (16), for all alphas; and its variance and mean, as functions."""
    (x_t, x_s, x_0, _), (a, b) = _symbols()
    exponent = (
        (x_t - sympy.sqrt(a) * x_s) ** 2 / (1 - a)
        + (x_s - sympy.sqrt(b) * x_0) ** 2 / (1 - b)
        - (x_t - sympy.sqrt(a * b) * x_0) ** 2 / (1 - a * b)
    )
    variance = (1 - a) * (1 - b) / (1 - a * b)  # (15)
    mean = (sympy.sqrt(a) * (1 - b) * x_t + sympy.sqrt(b) * (1 - a) * x_0) / (1 - a * b)  # (16)
    rest = sympy.simplify(sympy.expand(exponent - (x_s - mean) ** 2 / variance))
    square, linear, _ = sympy.Poly(exponent, x_s).all_coeffs()
    return (
        rest == 0,
        sympy.lambdify((a, b), 1 / square, "mpmath"),
        sympy.lambdify((a, b, x_t, x_0), -linear / (2 * square), "mpmath"),
    )


@check(
    "(13)",
    "completing the square gives (15), (16), and their values",
    code=[f"{GAUSSIAN}.product"],
    method="symbolic",
    tolerance=64 * EPS,
)
def _completing_the_square(rng: np.random.Generator) -> Example:
    identical, variance, mean = _completed_square()
    schedule, (s, t) = draw_jump(rng, first=1)
    x_t, x_0 = draw_pair(rng)
    prior, scale, noise = _bayes_laws(schedule, s, t, as_array(x_0))
    product, _ = prior.product(Gaussian([x_t / scale], noise / scale**2))
    with mp.workdps(DIGITS):
        a, b = exact_alpha(schedule, t, s), exact_alpha(schedule, s, 0)
        exact, size = mean(a, b, x_t, x_0), mean(a, b, abs(x_t), abs(x_0))
        error = worst_error(
            *(relative_error(v, variance(a, b)) for v in (product.variance, schedule.posterior_variance(t, s))),
            relative_error(schedule.posterior_mean(as_array(x_t), as_array(x_0), t, s)[0], exact, size),
            relative_error(
                product.mean[0], exact, max(size, abs(x_t) / scale)
            ),  # it subtracts x_t / a from the prior's
        )
    return Example(error if identical else math.inf, describe(schedule, s=s, t=t))


@check(
    "(14)",
    "the posterior, by adding precisions",
    code=[f"{GAUSSIAN}.given", f"{SCHEDULE}.posterior_variance"],
    method="general rule",
    tolerance=64 * EPS,
)
def _general_rule(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng, first=1)
    x_0, x_t = draw_pair(rng)
    prior, scale, variance = _bayes_laws(schedule, s, t, as_array(x_0))
    posterior = prior.given([x_t], scale, variance)
    mean = schedule.posterior_mean(as_array(x_t), as_array(x_0), t, s)[0]
    # The general rule subtracts x_t / a from the prior's mean.
    size = max(abs(mean), abs(x_t) / scale, abs(x_0))
    error = worst_error(
        abs(posterior.mean[0] - mean) / size, abs(float(posterior.variance) / schedule.posterior_variance(t, s) - 1)
    )
    return Example(float(error), describe(schedule, s=s, t=t))


@check("(15)", "the posterior variance", code=[f"{SCHEDULE}.posterior_variance"], method="property", tolerance=16 * EPS)
def _posterior_variance(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng)
    with mp.workdps(DIGITS):
        a, b, c = exact_alphas(schedule, s, t)
        error = relative_error(schedule.posterior_variance(t, s), (1 - a) * (1 - b) / (1 - c))
    return Example(error, describe(schedule, s=s, t=t))


@check("(16)", "the posterior mean", code=[f"{SCHEDULE}.posterior_mean"], method="property", tolerance=64 * EPS)
def _posterior_mean(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng)
    x_t, x_0 = draw_pair(rng)
    with mp.workdps(DIGITS):
        a, b, c = exact_alphas(schedule, s, t)
        terms = mp.sqrt(a) * (1 - b) * mp.mpf(x_t) / (1 - c), mp.sqrt(b) * (1 - a) * mp.mpf(x_0) / (1 - c)
        error = error_of_sum(schedule.posterior_mean(as_array(x_t), as_array(x_0), t, s)[0], terms)
    return Example(error, describe(schedule, s=s, t=t))


@cache
def _substituted() -> tuple[bool, Callable[..., Any]]:
    """Whether (16) with the image by its noise is (18), for all alphas; and what it is, as a function."""
    (x_t, _, _, eps), (a, b) = _symbols()
    x_0 = (x_t - sympy.sqrt(1 - a * b) * eps) / sympy.sqrt(a * b)
    mean = (sympy.sqrt(a) * (1 - b) * x_t + sympy.sqrt(b) * (1 - a) * x_0) / (1 - a * b)
    printed = (x_t - (1 - a) / sympy.sqrt(1 - a * b) * eps) / sympy.sqrt(a)  # (18)
    return sympy.simplify(mean - printed) == 0, sympy.lambdify((a, b, x_t, eps), mean, "mpmath")


@check(
    "(17)",
    "(16) with the image by its noise is (18), and its values",
    code=[f"{SCHEDULE}.predict_x_0", f"{SCHEDULE}.posterior_mean"],
    method="symbolic",
    tolerance=64 * EPS,
)
def _substitution(rng: np.random.Generator) -> Example:
    identical, mean = _substituted()
    schedule, (s, t) = draw_jump(rng)
    x_t, eps = draw_pair(rng)
    x_0 = schedule.predict_x_0(as_array(x_t), as_array(eps), t)
    with mp.workdps(DIGITS):
        alphas = exact_alpha(schedule, t, s), exact_alpha(schedule, s, 0)
        # The terms in x_t are of one sign, that in eps is of the other: so they all add up.
        exact, size = mean(*alphas, x_t, eps), mean(*alphas, abs(x_t), -abs(eps))
        error = worst_error(
            relative_error(schedule.posterior_mean(as_array(x_t), x_0, t, s)[0], exact, size),
            relative_error(schedule.posterior_mean_from_noise(as_array(x_t), as_array(eps), t, s)[0], exact, size),
        )
    return Example(error if identical else math.inf, describe(schedule, s=s, t=t))


@check(
    "(18)",
    "the posterior mean from the noise",
    code=[f"{SCHEDULE}.posterior_mean_from_noise"],
    method="property",
    tolerance=64 * EPS,
)
def _mean_from_noise(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng)
    x_t, eps = draw_pair(rng)
    with mp.workdps(DIGITS):
        a, c = exact_alpha(schedule, t, s), exact_alpha(schedule, t, 0)
        terms = mp.mpf(x_t) / mp.sqrt(a), -(1 - a) / mp.sqrt(1 - c) * mp.mpf(eps) / mp.sqrt(a)
        value = schedule.posterior_mean_from_noise(as_array(x_t), as_array(eps), t, s)[0]
        error = error_of_sum(value, terms)
    return Example(error, describe(schedule, s=s, t=t))


@check(
    "(19)",
    "the backward step",
    code=[f"{SCHEDULE}.backward_step", f"{SCHEDULE}.backward_coefficients"],
    method="property",
    tolerance=64 * EPS,
)
def _backward_step(rng: np.random.Generator) -> Example:
    schedule, (s, t) = draw_jump(rng)
    (x_t, eps), z = draw_pair(rng), float(rng.normal())
    with mp.workdps(DIGITS):
        a, b, c = exact_alphas(schedule, s, t)
        sigma = mp.sqrt((1 - a) * (1 - b) / (1 - c))
        exact = 1 / mp.sqrt(a), -(1 - a) / mp.sqrt(1 - c) / mp.sqrt(a), sigma
        terms = [f * mp.mpf(x) for f, x in zip(exact, (x_t, eps, z), strict=True)]
        value = schedule.backward_step(as_array(x_t), as_array(eps), as_array(z), t, s)[0]
        error = worst_error(
            error_of_sum(value, terms),
            *(relative_error(f, g) for f, g in zip(schedule.backward_coefficients(t, s), exact, strict=True)),
        )
    return Example(error, describe(schedule, s=s, t=t))
