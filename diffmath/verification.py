r"""Every equation of the paper, checked by other means: ``python -m diffmath verify``.

For each of the equations (1)-(23) and the two algorithms there is a check: what is claimed, how it is found out, on how
many random examples, and the worst relative error among them with the place where it was; (22) and (23) have others
beside, for the finite differences. `CODE` says which objects of the package are the equation. The other means are the
printed formulas in exact or 50-digit arithmetic, the general rules of `diffmath.gaussian`, numerical integration,
computer algebra, exact solutions of the differential equation, and for Algorithm 1 a training with a known minimiser.

The tolerances. Each coefficient is a product of a few factors that are rounded to half an eps each, and a sum of terms
is compared with the largest of them, so a few tens of eps are allowed; (12) compares logarithms of densities, whose
conditioning is divided out. The quadratures: in (1) the rule's own error is far below rounding, and 1e-12 is for the
points m + s u, which are rounded by up to 1e3 eps of s, so that the mean and the variance move as much; (10) asks
adaptive integration for each moment to 1e-11, and allows ten times that for integrands that are exponentials of
differences of large numbers; the energy (21) is a sum of squares mu_k b_k^2, in which the roundings of u weigh up to
the root of mu_max / mu_1, some tens, times the number of cells: 1e-12. Differences in time (20) and the eigenvalues of
24 x 24 matrices (23) have errors of their own. The finite differences of (22) take up to four steps, each a linear
system of condition 10 or so; their observed order is 2 up to terms of order h; those of (23) take steps that make the
rate wrong by about 5e-4, and twice that is allowed. Algorithm 1 ends some standard errors, parts in a thousand here,
from its minimiser: 5 of them are allowed.

Where components do not mix, as in (10), one of them is tried; the rates (23) are those on an interval.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, reduce
from itertools import product
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
import sympy
from scipy.integrate import quad
from tqdm.auto import tqdm

from diffmath.gaussian import Gaussian
from diffmath.pde import Box, RenormalizedFlow, finite_difference
from diffmath.pde.stability import check_stability
from diffmath.schedule import VarianceSchedule

__all__ = ["CHECKS", "CODE", "Check", "Result", "table", "verify"]

EPS = float(np.finfo(np.float64).eps)
DIGITS = 50

GAUSSIAN, SCHEDULE = "diffmath.gaussian.Gaussian", "diffmath.schedule.VarianceSchedule"
FLOW, STABILITY = "diffmath.pde.flow.RenormalizedFlow", "diffmath.pde.stability"
DIFFERENCES = "diffmath.pde.finite_difference"
CODE = {
    "(1)": (f"{GAUSSIAN}.log_density", f"{GAUSSIAN}.density"),
    "(2)": (f"{SCHEDULE}.forward_step",),
    "(3)": (f"{SCHEDULE}.transition",),
    "(4)": (SCHEDULE,),
    "(5)": (f"{SCHEDULE}.transition",),
    "(6)": (f"{SCHEDULE}.transition",),
    "(7)": (SCHEDULE,),
    "(8)": (f"{SCHEDULE}.add_noise",),
    "(9)": (f"{SCHEDULE}.transition",),
    "(10)": (f"{GAUSSIAN}.given",),
    "(11)": (f"{SCHEDULE}.transition", f"{GAUSSIAN}.push"),
    "(12)": (f"{GAUSSIAN}.log_density",),
    "(13)": (f"{GAUSSIAN}.product",),
    "(14)": (f"{GAUSSIAN}.given", f"{SCHEDULE}.posterior_variance"),
    "(15)": (f"{SCHEDULE}.posterior_variance",),
    "(16)": (f"{SCHEDULE}.posterior_mean",),
    "(17)": (f"{SCHEDULE}.predict_x_0", f"{SCHEDULE}.posterior_mean"),
    "(18)": (f"{SCHEDULE}.posterior_mean_from_noise",),
    "(19)": (f"{SCHEDULE}.backward_step", f"{SCHEDULE}.backward_coefficients"),
    "Algorithm 1": ("diffmath.ddpm.training.train",),
    "Algorithm 2": ("diffmath.ddpm.sampling.sample", "diffmath.ddpm.samplers.ancestral"),
    "(20)": (f"{FLOW}.solve", f"{FLOW}.evolve", f"{FLOW}.solve_modes"),
    "(21)": (f"{FLOW}.solve", f"{FLOW}.evolve", f"{FLOW}.solve_modes"),
    "(22)": (f"{FLOW}.solve", f"{FLOW}.evolve", f"{FLOW}.solve_modes"),
    "(22), differences": (f"{FLOW}.solve", f"{DIFFERENCES}.integrate", f"{DIFFERENCES}.discrete_multiplier"),
    "(22), order": (f"{FLOW}.solve",),
    "(23)": (f"{FLOW}.growth_rate", f"{STABILITY}.check_stability", f"{STABILITY}.jacobian"),
    "(23), differences": (f"{FLOW}.check_stability",),
}
"""The objects of the package that are each equation; its check calls them all, which the tests see to."""


class Example(NamedTuple):
    """The relative error of one example, and what the example was."""

    error: float
    where: str


@dataclass(frozen=True)
class Check:
    """How one equation is checked.

    Attributes
    ----------
    label : str
        The equation's number in the paper, perhaps with what of it is checked, or the algorithm's name.
    claim : str
        What is checked.
    method : str
        "property" (against the printed formula in 50 digits or exact arithmetic), "general rule" (against
        `diffmath.gaussian`), "quadrature", "symbolic", "exact solution" or "Monte Carlo".
    tolerance : float
        The largest relative error that passes.
    example : callable
        A random generator -> one `Example`.
    share : float
        Of the examples asked for, for checks that cost more; at least one is tried.
    """

    label: str
    claim: str
    method: str
    tolerance: float
    example: Callable[[np.random.Generator], Example]
    share: float = 1.0


class Result(NamedTuple):
    """What became of a check: its attributes, the examples tried, the worst error and where, and the verdict."""

    label: str
    claim: str
    code: tuple[str, ...]
    method: str
    examples: int
    worst: float
    where: str
    tolerance: float
    passed: bool
    seconds: float


def verify(
    n_examples: int = 200, *, seed: int = 0, checks: Sequence[Check] | None = None, progress: bool = False
) -> list[Result]:
    """Run the checks. An exception in one fails it, as an infinite error, and the others still run.

    Parameters
    ----------
    n_examples : int
        Random examples of each property; costlier checks take a stated share of them.
    seed : int
        The same seed tries the same examples.
    checks : sequence of Check, optional
        All of `CHECKS` unless given.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    list of Result

    Raises
    ------
    ValueError
        If ``n_examples`` is not positive.
    """
    if n_examples < 1:
        raise ValueError(f"n_examples must be at least 1; it is {n_examples}")
    results = []
    chosen = CHECKS if checks is None else checks
    counts = [max(1, math.ceil(n_examples * check.share)) for check in chosen]
    with tqdm(total=sum(counts), unit=" examples", disable=not progress) as bar:
        for check, count in zip(chosen, counts, strict=True):
            bar.set_description(check.label)
            rng = np.random.default_rng([seed, *check.label.encode()])
            start, worst = time.perf_counter(), Example(-1.0, "")
            for _ in range(count):
                example = _tried(check, rng)
                if example.error > worst.error:
                    worst = example
                bar.update()
            results.append(
                Result(
                    check.label,
                    check.claim,
                    CODE.get(check.label, ()),
                    check.method,
                    count,
                    worst.error,
                    worst.where,
                    check.tolerance,
                    bool(worst.error <= check.tolerance),
                    round(time.perf_counter() - start, 3),
                )
            )
    return results


def _tried(check: Check, rng: np.random.Generator) -> Example:
    """One example; a NaN and an exception are infinite errors."""
    try:
        error, where = check.example(rng)
    except Exception as exception:
        return Example(math.inf, f"{type(exception).__name__}: {exception}")
    return Example(_worst(error), where)


def table(results: Iterable[Result]) -> str:
    """The results as a Markdown table, a line for each."""
    lines = [
        "| | what is checked | code | how | examples | worst error | where | tolerance | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        verdict = "holds" if r.passed else "**fails**"
        code = ", ".join(f"`{_short(name)}`" for name in r.code)
        where = " ".join(r.where.split()).replace("|", r"\|")  # an exception's message may be anything
        lines.append(
            f"| {r.label} | {r.claim} | {code} | {r.method} | {r.examples} | {r.worst:.1e} | {where} "
            f"| {r.tolerance:.0e} | {verdict} |"
        )
    return "\n".join(lines)


def _short(name: str) -> str:
    """A class or a function without its module, a method with its class."""
    *_, owner, last = name.split(".")
    return f"{owner}.{last}" if owner[0].isupper() else last


# Random examples


def _schedule(rng: np.random.Generator, least: int = 1) -> VarianceSchedule:
    """Linear, cosine, equal and wild schedules, from tiny variances to ones near 1."""
    kind, n = rng.integers(4), int(rng.integers(least, 501))
    if kind == 0:
        low = 10.0 ** rng.uniform(-6, -2)
        return VarianceSchedule.linear(n, low, rng.uniform(low, 0.1))
    if kind == 1:
        return VarianceSchedule.cosine(n)
    if kind == 2:
        return VarianceSchedule([10.0 ** rng.uniform(-8, -0.5)] * min(n, 60))
    return VarianceSchedule(10.0 ** rng.uniform(-8, -0.05, max(least, min(n, 30))))


def _jump(rng: np.random.Generator, n_times: int = 2, first: int = 0) -> tuple[VarianceSchedule, list[int]]:
    """A schedule and increasing times of it, not before the first."""
    schedule = _schedule(rng, n_times + first)
    times = first + rng.choice(schedule.n_steps + 1 - first, n_times, replace=False)
    return schedule, sorted(int(t) for t in times)


def _place(of: VarianceSchedule | RenormalizedFlow, **values: Any) -> str:
    size = f"T = {of.n_steps}" if isinstance(of, VarianceSchedule) else f"{' x '.join(map(str, of.domain.shape))} cells"
    numbers = ", ".join(f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in values.items())
    return f"{size}, {numbers}"


def _alpha(schedule: VarianceSchedule, t: int, s: int) -> Any:
    """alpha_{t|s} in the working precision of mpmath, by the product (7)."""
    return mp.fprod(1 - mp.mpf(float(b)) for b in schedule.beta[s + 1 : t + 1])


def _relative(value: Any, exact: Any, scale: Any = 0) -> float:
    """|value - exact| / max(|exact|, scale)."""
    size = max(abs(exact), abs(scale))
    return float(abs(mp.mpf(float(value)) - exact) / size) if size else float(abs(mp.mpf(float(value))))


def _worst(*errors: Any) -> float:
    """The largest of some errors, of which a NaN is infinite: `max` might pass over it."""
    return max(math.inf if error != error else float(error) for error in errors)


def _pair(rng: np.random.Generator) -> tuple[float, float]:
    x, y = rng.normal(size=2)
    return float(x), float(y)


def _one(x: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([x])


# Section 3, forwards


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
        terms = _log_density_terms(x, [mp.mpf(b) for b in m], [mp.mpf(b) for b in np.broadcast_to(g.variance, d)])
        printed = _relative(g.log_density(x), mp.fsum(terms), max(map(abs, terms)))
    return Example(_worst(*moments, printed), f"d = {d}, deviations {np.array2string(s, precision=3)}")


def _log_density_terms(x: Any, mean: Sequence[Any], variance: Sequence[Any]) -> list[Any]:
    """The terms of the logarithm of (1), for one variance for each component, by mpmath."""
    squares = [-((mp.mpf(a) - b) ** 2) / (2 * v) for a, b, v in zip(x, mean, variance, strict=True)]
    return squares + [-mp.log(2 * mp.pi * v) / 2 for v in variance]


def _step(rng: np.random.Generator) -> Example:
    schedule, (_, t) = _jump(rng)
    x, eps = _pair(rng)
    with mp.workdps(DIGITS):
        beta = mp.mpf(float(schedule.beta[t]))
        terms = mp.sqrt(1 - beta) * mp.mpf(x), mp.sqrt(beta) * mp.mpf(eps)
        error = _relative(schedule.forward_step(_one(x), _one(eps), t)[0], sum(terms), max(map(abs, terms)))
    return Example(error, _place(schedule, t=t))


def _transition_density(rng: np.random.Generator) -> Example:
    schedule, (_, t) = _jump(rng)
    alpha, variance = schedule.transition(t)
    with mp.workdps(DIGITS):
        beta = mp.mpf(float(schedule.beta[t]))
        error = _worst(_relative(math.sqrt(alpha), mp.sqrt(1 - beta)), _relative(variance, beta))
    return Example(error, _place(schedule, t=t))


def _alpha_is_one_minus_beta(rng: np.random.Generator) -> Example:
    schedule, (_, t) = _jump(rng)
    with mp.workdps(DIGITS):
        exact = 1 - mp.mpf(float(schedule.beta[t]))
        error = _worst(_relative(schedule.alpha[t], exact), _relative(schedule.transition(t)[0], exact))
    return Example(error, _place(schedule, t=t))


def _two_steps(rng: np.random.Generator) -> Example:
    schedule = _schedule(rng, 2)
    t = int(rng.integers(2, schedule.n_steps + 1))
    with mp.workdps(DIGITS):
        last, before = (1 - mp.mpf(float(schedule.beta[i])) for i in (t, t - 1))
        variance = last * (1 - before) + (1 - last)
        alpha, rest = schedule.transition(t, t - 2)
        error = _worst(_relative(alpha, last * before), _relative(rest, variance))
    return Example(error, _place(schedule, t=t))


def _many_steps(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng)
    law = start = Gaussian([1.0], 0.3)
    for i in range(s + 1, t + 1):
        law = law.push(math.sqrt(1 - schedule.beta[i]), schedule.beta[i])
    alpha, variance = schedule.transition(t, s)
    jump = start.push(math.sqrt(alpha), variance)
    # Pushing step by step rounds once a step; that many roundings are the rule's, not the equation's.
    error = _worst(
        abs(law.mean[0] - jump.mean[0]) / max(abs(jump.mean[0]), 1e-290), abs(law.variance / jump.variance - 1)
    )
    return Example(float(error) / (t - s), _place(schedule, s=s, t=t))


def _product(rng: np.random.Generator) -> Example:
    schedule, (_, t) = _jump(rng)
    exact = math.prod((1 - Fraction(float(b)) for b in schedule.beta[1 : t + 1]), start=Fraction(1))
    error = abs(Fraction(float(schedule.alpha_bar[t])) - exact) / exact
    return Example(float(error), _place(schedule, t=t))


def _leap(rng: np.random.Generator) -> Example:
    schedule, (_, t) = _jump(rng)
    x, eps = _pair(rng)
    with mp.workdps(DIGITS):
        alpha = _alpha(schedule, t, 0)
        terms = mp.sqrt(alpha) * mp.mpf(x), mp.sqrt(1 - alpha) * mp.mpf(eps)
        error = _relative(schedule.add_noise(_one(x), _one(eps), t)[0], sum(terms), max(map(abs, terms)))
    return Example(error, _place(schedule, t=t))


def _law_given_image(rng: np.random.Generator) -> Example:
    schedule, (_, t) = _jump(rng)
    with mp.workdps(DIGITS):
        mean, variance = mp.mpf(1), mp.mpf(0)
        for b in schedule.beta[1 : t + 1]:
            beta = mp.mpf(float(b))
            mean, variance = mp.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        alpha_bar, rest = schedule.transition(t, 0)
        error = _worst(_relative(math.sqrt(alpha_bar), mean), _relative(rest, variance))
    return Example(error, _place(schedule, t=t))


# Section 4, backwards


def _bayes_laws(schedule: VarianceSchedule, s: int, t: int, x_0: Any) -> tuple[Gaussian, float, float]:
    """The law (9) at s, and the scale and the variance of the transition (3), (6) from s to t."""
    alpha_bar, variance_s = schedule.transition(s, 0)
    alpha, variance = schedule.transition(t, s)
    return Gaussian(math.sqrt(alpha_bar) * x_0, variance_s), math.sqrt(alpha), float(variance)


def _bayes(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng, first=1)
    x_0, z = _pair(rng)
    prior, scale, variance = _bayes_laws(schedule, s, t, _one(x_0))
    evidence = prior.push(scale, variance)
    x_t = evidence.mean + z * np.sqrt(evidence.variance)
    posterior = prior.given(x_t, scale, variance)
    m = schedule.posterior_mean(x_t, _one(x_0), t, s)[0]
    spread = math.sqrt(schedule.posterior_variance(t, s))

    def integrand(u: float, power: int) -> float:
        x = _one(m + spread * u)
        log = Gaussian(scale * x, variance).log_density(x_t) + prior.log_density(x) - evidence.log_density(x_t)
        return float(u**power * spread * np.exp(log))

    moments = [quad(integrand, -12, 12, args=(p,), epsabs=1e-11, epsrel=1e-11, limit=200)[0] for p in (0, 1, 2)]
    found = *moments, (posterior.mean[0] - m) / spread, float(posterior.variance) / spread**2
    error = _worst(*(abs(a - b) for a, b in zip(found, (1, 0, 1, 0, 1), strict=True)))
    return Example(float(error), _place(schedule, s=s, t=t))


def _markov(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng, first=1)
    with mp.workdps(DIGITS):
        a, b = mp.sqrt(_alpha(schedule, s, 0)), mp.sqrt(_alpha(schedule, t, 0))
        # Of x_0, of variance 1, x_s and x_t: covariances by eq. (8) and its like between s and t.
        between = mp.sqrt(_alpha(schedule, t, s))
        known, with_t = mp.matrix([[1, a], [a, 1]]), mp.matrix([b, between])
        gain = mp.lu_solve(known, with_t)
        rest = 1 - (gain.T * with_t)[0]
        alpha, variance = schedule.transition(t, s)
        error = _worst(abs(gain[0]), _relative(math.sqrt(alpha), gain[1]), _relative(variance, rest))
        # So, with the law (9) at s, it leads to the law at t.
        prior, scale, noise = _bayes_laws(schedule, s, t, _one(1.0))
        law = prior.push(scale, noise)
        error = _worst(error, _relative(law.mean[0], b), _relative(law.variance, 1 - b**2))
    return Example(float(error), _place(schedule, s=s, t=t))


def _densities(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng, first=1)
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
        a, b, c = _alpha(schedule, t, s), _alpha(schedule, s, 0), _alpha(schedule, t, 0)
        mean = [
            (mp.sqrt(a) * (1 - b) * mp.mpf(p) + mp.sqrt(b) * (1 - a) * mp.mpf(q)) / (1 - c)
            for p, q in zip(x_t, x_0, strict=True)
        ]
        exact = mp.fsum(_log_density_terms(x_s, mean, [(1 - a) * (1 - b) / (1 - c)] * d))
        error = _worst(*(abs(mp.mpf(float(v)) - exact) for v in (sum(terms), posterior.log_density(x_s))))
    # A rounding of x moves the narrowest of the densities, the posterior, by this much in its logarithm.
    largest = np.abs([x_0, x_t, x_s]).sum()
    condition = 1 + sum(abs(float(v)) for v in terms) + 8 * largest / math.sqrt(posterior.variance)
    return Example(float(error / condition), _place(schedule, s=s, t=t, d=d))


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


def _completing_the_square(rng: np.random.Generator) -> Example:
    identical, variance, mean = _completed_square()
    schedule, (s, t) = _jump(rng, first=1)
    x_t, x_0 = _pair(rng)
    prior, scale, noise = _bayes_laws(schedule, s, t, _one(x_0))
    product, _ = prior.product(Gaussian([x_t / scale], noise / scale**2))
    with mp.workdps(DIGITS):
        a, b = _alpha(schedule, t, s), _alpha(schedule, s, 0)
        exact, size = mean(a, b, x_t, x_0), mean(a, b, abs(x_t), abs(x_0))
        error = _worst(
            *(_relative(v, variance(a, b)) for v in (product.variance, schedule.posterior_variance(t, s))),
            _relative(schedule.posterior_mean(_one(x_t), _one(x_0), t, s)[0], exact, size),
            _relative(product.mean[0], exact, max(size, abs(x_t) / scale)),  # it subtracts x_t / a from the prior's
        )
    return Example(error if identical else math.inf, _place(schedule, s=s, t=t))


def _general_rule(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng, first=1)
    x_0, x_t = _pair(rng)
    prior, scale, variance = _bayes_laws(schedule, s, t, _one(x_0))
    posterior = prior.given([x_t], scale, variance)
    mean = schedule.posterior_mean(_one(x_t), _one(x_0), t, s)[0]
    # The general rule subtracts x_t / a from the prior's mean.
    size = max(abs(mean), abs(x_t) / scale, abs(x_0))
    error = _worst(
        abs(posterior.mean[0] - mean) / size, abs(float(posterior.variance) / schedule.posterior_variance(t, s) - 1)
    )
    return Example(float(error), _place(schedule, s=s, t=t))


def _posterior_variance(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng)
    with mp.workdps(DIGITS):
        a, b, c = _alpha(schedule, t, s), _alpha(schedule, s, 0), _alpha(schedule, t, 0)
        error = _relative(schedule.posterior_variance(t, s), (1 - a) * (1 - b) / (1 - c))
    return Example(error, _place(schedule, s=s, t=t))


def _posterior_mean(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng)
    x_t, x_0 = _pair(rng)
    with mp.workdps(DIGITS):
        a, b, c = _alpha(schedule, t, s), _alpha(schedule, s, 0), _alpha(schedule, t, 0)
        terms = mp.sqrt(a) * (1 - b) * mp.mpf(x_t) / (1 - c), mp.sqrt(b) * (1 - a) * mp.mpf(x_0) / (1 - c)
        error = _relative(schedule.posterior_mean(_one(x_t), _one(x_0), t, s)[0], sum(terms), max(map(abs, terms)))
    return Example(error, _place(schedule, s=s, t=t))


@cache
def _substituted() -> tuple[bool, Callable[..., Any]]:
    """Whether (16) with the image by its noise is (18), for all alphas; and what it is, as a function."""
    (x_t, _, _, eps), (a, b) = _symbols()
    x_0 = (x_t - sympy.sqrt(1 - a * b) * eps) / sympy.sqrt(a * b)
    mean = (sympy.sqrt(a) * (1 - b) * x_t + sympy.sqrt(b) * (1 - a) * x_0) / (1 - a * b)
    printed = (x_t - (1 - a) / sympy.sqrt(1 - a * b) * eps) / sympy.sqrt(a)  # (18)
    return sympy.simplify(mean - printed) == 0, sympy.lambdify((a, b, x_t, eps), mean, "mpmath")


def _substitution(rng: np.random.Generator) -> Example:
    identical, mean = _substituted()
    schedule, (s, t) = _jump(rng)
    x_t, eps = _pair(rng)
    x_0 = schedule.predict_x_0(_one(x_t), _one(eps), t)
    with mp.workdps(DIGITS):
        alphas = _alpha(schedule, t, s), _alpha(schedule, s, 0)
        # The terms in x_t are of one sign, that in eps is of the other: so they all add up.
        exact, size = mean(*alphas, x_t, eps), mean(*alphas, abs(x_t), -abs(eps))
        error = _worst(
            _relative(schedule.posterior_mean(_one(x_t), x_0, t, s)[0], exact, size),
            _relative(schedule.posterior_mean_from_noise(_one(x_t), _one(eps), t, s)[0], exact, size),
        )
    return Example(error if identical else math.inf, _place(schedule, s=s, t=t))


def _mean_from_noise(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng)
    x_t, eps = _pair(rng)
    with mp.workdps(DIGITS):
        a, c = _alpha(schedule, t, s), _alpha(schedule, t, 0)
        terms = mp.mpf(x_t) / mp.sqrt(a), -(1 - a) / mp.sqrt(1 - c) * mp.mpf(eps) / mp.sqrt(a)
        value = schedule.posterior_mean_from_noise(_one(x_t), _one(eps), t, s)[0]
        error = _relative(value, sum(terms), max(map(abs, terms)))
    return Example(error, _place(schedule, s=s, t=t))


def _backward_step(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng)
    (x_t, eps), z = _pair(rng), float(rng.normal())
    with mp.workdps(DIGITS):
        a, b, c = _alpha(schedule, t, s), _alpha(schedule, s, 0), _alpha(schedule, t, 0)
        sigma = mp.sqrt((1 - a) * (1 - b) / (1 - c))
        exact = 1 / mp.sqrt(a), -(1 - a) / mp.sqrt(1 - c) / mp.sqrt(a), sigma
        terms = [f * mp.mpf(x) for f, x in zip(exact, (x_t, eps, z), strict=True)]
        value = schedule.backward_step(_one(x_t), _one(eps), _one(z), t, s)[0]
        error = _worst(
            _relative(value, sum(terms), max(map(abs, terms))),
            *(_relative(f, g) for f, g in zip(schedule.backward_coefficients(t, s), exact, strict=True)),
        )
    return Example(error, _place(schedule, s=s, t=t))


# Section 5, the algorithms


def _algorithm_1(rng: np.random.Generator) -> Example:
    import torch
    from torch import nn

    from diffmath.ddpm import train

    n, n_batch, n_steps, n_last = 5, 8192, 1000, 250

    class Lines(nn.Module):
        """The noise predictor a_t x + b_t: at each noise level a linear regression. It counts the times it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.coefficients = nn.Parameter(torch.zeros(n + 1, 2))
            self.seen = torch.zeros(n + 1)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            self.seen += t.bincount(minlength=n + 1)
            a, b = nn.functional.embedding(t, self.coefficients).unsqueeze(-1).unbind(1)
            return a * x + b

    schedule, seed = VarianceSchedule(rng.uniform(0.1, 0.5, n)), int(rng.integers(2**31))
    data = 0.3 + 0.5 * torch.randn((20_000, 1), generator=torch.Generator().manual_seed(seed))
    lines = Lines()
    trained = train(
        lines,
        schedule,
        data,
        n_steps,
        batch_size=n_batch,
        learning_rate=0.01,
        betas=(0.9, 0.999),
        seed=seed,
        device="cpu",
        autocast=False,
        log_every=n_last,
        progress=False,
    )
    # The regression of the noise on x_t, and the variance that it leaves: the covariance of the two is sqrt(rest).
    m, v = data.mean().item(), data.var(correction=0).item()
    alpha_bar = np.cumprod(1 - schedule.beta)[1:]
    rest = 1 - alpha_bar
    mean, variance = np.sqrt(alpha_bar) * m, alpha_bar * v + rest
    slope, left = np.sqrt(rest) / variance, 1 - rest / variance
    # The average's weights grow like the 8th power of the step: it is as good as an equal one of 17/81 of the steps,
    # and that as the least squares solution from all their examples (Polyak and Juditsky, 1992).
    per_time = n_batch * n_steps * 17 / 81 / n
    n_seen = n_batch * n_steps / n
    found = trained.model.get_parameter("coefficients").detach().numpy()[1:]
    errors = [  # in standard errors; a square of noise of variance r has the variance 2 r^2
        (found[:, 0] - slope) / np.sqrt(left / variance / per_time),
        (found[:, 1] + slope * mean) / np.sqrt(left * (1 + mean**2 / variance) / per_time),
        (trained.losses[-1][1] - left.mean()) / math.sqrt((3 * (left**2).mean() - left.mean() ** 2) / n_batch / n_last),
        (lines.seen.numpy()[1:] - n_seen) / math.sqrt(n_seen * (1 - 1 / n)),
    ]
    return Example(float(np.abs(np.hstack(errors)).max()), f"T = {n}, alpha_bar_T = {alpha_bar[-1]:.3g}")


def _algorithm_2(rng: np.random.Generator) -> Example:
    import torch
    from torch.overrides import TorchFunctionMode

    from diffmath.ddpm import sample
    from diffmath.ddpm.denoisers import gaussian_denoiser

    class Impulses(TorchFunctionMode):
        """Instead of noise: in the i-th draw, 1 for sample i, and 0 for the others."""

        n_draws = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is not torch.randn:
                return result
            self.n_draws += 1
            result = torch.zeros_like(result, dtype=torch.float64)
            result[self.n_draws] = 1
            return result

    n, mean, spread = int(rng.integers(2, 60)), float(rng.normal()), float(10.0 ** rng.uniform(-1, 0.5))
    schedule = VarianceSchedule.linear(n, 1e-3, 0.2)
    exact: Any = gaussian_denoiser(schedule, mean, spread**2)
    exact.image_shape = (1,)
    # The states are affine in x_T and each z: sample 0 is their mean, and the squares of the differences of the others
    # from it, a coefficient each, add up to their variance. There is one sample more, for a draw too many.
    with Impulses() as impulses:
        _, states = sample(exact, schedule, n_samples=n + 2, trajectory=range(n, -1, -1))
    laws = [(x[0].item(), (x - x[0]).square().sum().item()) for x in states]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    images = sample(exact, schedule, n_samples=2000, generator=generator, batch_size=2000).double()
    with mp.workdps(DIGITS):
        m, v = mp.mpf(0), mp.mpf(1)
        error = _worst(_relative(laws[0][0], m, 1), _relative(laws[0][1], v))
        for t, (found_m, found_v) in zip(range(n, 0, -1), laws[1:], strict=True):
            a, b, d = _alpha(schedule, t, t - 1), _alpha(schedule, t - 1, 0), _alpha(schedule, t, 0)
            gain = mp.sqrt(1 - d) / (d * mp.mpf(spread) ** 2 + 1 - d)
            slope = (1 - (1 - a) / mp.sqrt(1 - d) * gain) / mp.sqrt(a)
            shift = (1 - a) / mp.sqrt(1 - d) * gain * mp.sqrt(d) * mp.mpf(mean) / mp.sqrt(a)
            m, v = slope * m + shift, slope**2 * v + (1 - a) * (1 - b) / (1 - d)
            error = _worst(error, _relative(found_m, m, mp.sqrt(v)), _relative(found_v, v))
        # Noise for x_T and all steps but the last. That it is fresh each time shows in actual samples: within 5
        # standard errors of that mean and variance counts as no error.
        deviations = (images.mean().item() - m) / mp.sqrt(v / 2000), (images.var().item() / v - 1) / math.sqrt(2 / 2000)
        if impulses.n_draws != n or _worst(*map(abs, deviations)) > 5:
            error = math.inf
    return Example(error, f"T = {n}, data N({mean:.3g}, {spread:.3g}^2)")


# Section 7, the flow


def _flow(rng: np.random.Generator) -> tuple[RenormalizedFlow, Any, float]:
    """A flow on an interval or a rectangle, the amplitudes of u_0, and a time."""
    shape = (16,) if rng.random() < 0.5 else (5, 4)
    box = Box(shape, tuple(10.0 ** rng.uniform(-1, 1) * rng.uniform(0.5, 1, len(shape))))
    c = rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 0, shape)
    c.flat[0] = 0
    return RenormalizedFlow(box), c, max(box.lengths) ** 2 * float(10.0 ** rng.uniform(-4, 0))


def _product_of_axes(parts: Iterable[Any]) -> Any:
    """Functions on the box from those on its sides: Kronecker products, in the order of ``ravel``."""
    return reduce(np.kron, parts)


def _eigenfunctions(flow: RenormalizedFlow) -> Any:
    """The values w_k(x_i) at the cell centres, by i and k, and the eigenvalues mu_k; flat."""
    sides = list(zip(flow.domain.shape, flow.domain.lengths, strict=True))
    w = _product_of_axes(_cosines(n, length, (np.arange(n) + 0.5) * length / n)[0] for n, length in sides)
    return w, _sums_over_axes([(np.arange(n) * math.pi / length) ** 2 for n, length in sides])


def _cosines(n: int, length: float, x: Any) -> tuple[Any, Any]:
    """On one side of a box: its eigenfunctions w_k at the points x, by x and k, and their derivatives."""
    k = np.arange(n)
    norm, angle = np.sqrt((2 - (k == 0)) / length), np.outer(x, k * math.pi / length)
    return norm * np.cos(angle), -norm * k * math.pi / length * np.sin(angle)


def _sums_over_axes(parts: Sequence[Any]) -> Any:
    """The sums of one number for each axis, in the order of ``ravel``."""
    return np.array([sum(numbers) for numbers in product(*parts)])


def _equation_20(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    w, mu = _eigenfunctions(flow)
    dt = 1e-3 / mu.max()
    times = t + dt * np.array([-2, -1, 0, 1, 2])
    u_0 = flow.domain.to_grid(c)
    modes, values = flow.solve_modes(c, times), flow.solve(u_0, times)
    errors = []
    for u, ds in (
        (modes.amplitude.values.reshape(5, -1) @ w.T, modes),
        (values.u.values.reshape(5, -1), values),
        (flow.evolve(u_0, times).reshape(5, -1), values),
    ):
        rate = (u[0] - 8 * u[1] + 8 * u[3] - u[4]) / (12 * dt)
        laplacian = -(w * mu) @ (w.T @ u[2]) * flow.domain.cell_volume
        residual = rate - laplacian - ds.multiplier.values[2] * u[2]
        errors.append(np.abs(residual).max() / np.abs(laplacian).max())
    return Example(_worst(*errors), _place(flow, t=t))


def _equation_21(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    box = flow.domain
    sides = []
    for n, length in zip(box.shape, box.lengths, strict=True):
        x, weight = np.polynomial.legendre.leggauss(4 * n)
        sides.append((*_cosines(n, length, length / 2 * (x + 1)), length / 2 * weight))
    functions, derivatives, weights = zip(*sides, strict=True)
    gradient = [
        _product_of_axes([*functions[:axis], derivatives[axis], *functions[axis + 1 :]]) for axis in range(box.ndim)
    ]
    # The gradient of the cosine series through the grid's values, and of the amplitudes.
    u_0, w = box.to_grid(c), _eigenfunctions(flow)[0]
    values = np.stack([u_0, flow.solve(u_0, t).u.values[0], flow.evolve(u_0, t)[0]]).reshape(3, -1)
    spectra = c.ravel(), flow.solve_modes(c, t).amplitude.values.ravel(), *(box.cell_volume * values @ w)
    first, *energies = (float(_product_of_axes(weights) @ sum((g @ b) ** 2 for g in gradient)) for b in spectra)
    return Example(_worst(*(abs(energy / first - 1) for energy in energies)), _place(flow, t=t))


def _exact_flow(c: Sequence[Any], mu: Sequence[Any], decay: Sequence[Any]) -> tuple[list[Any], Any]:
    """The solution's amplitudes from those of u_0, the eigenvalues and the decay of the heat flow; and lambda."""
    v = [a * factor for a, factor in zip(c, decay, strict=True)]
    C, now = (mp.fsum(m * a**2 for m, a in zip(mu, values, strict=True)) for values in (c, v))
    u = [a * mp.sqrt(C / now) for a in v]
    return u, mp.fsum((m * a) ** 2 for m, a in zip(mu, u, strict=True)) / C


def _condition(c: Any, mu: Any, decay: Any) -> float:
    """How much larger rounding errors of u_0 become beside the solution, its gradient and its Laplacian."""
    grown = [(mu**s * np.abs(decay))[1:] for s in (0, 0.5, 1)]
    return float(np.linalg.norm(c) * max(g.max() / np.linalg.norm(g * c.ravel()[1:]) for g in grown))


@cache
def _transform(shape: tuple[int, ...]) -> Any:
    """The orthogonal matrix of the cosines at the cell centres, in all digits."""
    with mp.workdps(DIGITS + 30):
        sides = [
            np.array(
                [
                    [mp.sqrt(mp.mpf(2 - (k == 0)) / n) * mp.cos(k * (2 * i + 1) * mp.pi / (2 * n)) for k in range(n)]
                    for i in range(n)
                ]
            )
            for n in shape
        ]
        return mp.matrix(_product_of_axes(sides).tolist())


def _equation_22(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    box, u_0, mu = flow.domain, flow.domain.to_grid(c), _eigenfunctions(flow)[1]
    modes, values = flow.solve_modes(c, t), flow.solve(u_0, t)
    with mp.workdps(DIGITS + 30):
        exact = _sums_over_axes(
            [[(k * mp.pi / mp.mpf(a)) ** 2 for k in range(n)] for n, a in zip(box.shape, box.lengths, strict=True)]
        )
        decay = [mp.exp(-(m - min(exact[1:])) * mp.mpf(t)) for m in exact]
        amplitudes, multiplier = _exact_flow([mp.mpf(a) for a in c.ravel()], exact, decay)
        size = max(map(abs, amplitudes))
        errors = [_relative(b, a, size) for b, a in zip(modes.amplitude.values.ravel(), amplitudes, strict=True)]
        errors.append(_relative(modes.multiplier.item(), multiplier))
        on_grid = _errors_on_grid(u_0, exact, decay, [values.u, flow.evolve(u_0, t)], [values.multiplier.item()])
    condition = _condition(c, mu, np.exp(-(mu - mu[1:].min()) * t))
    return Example(_worst(*errors, on_grid / condition), _place(flow, t=t))


def _errors_on_grid(u_0: Any, mu: Any, decay: Any, solutions: Sequence[Any], multipliers: Sequence[float]) -> float:
    """The worst error of grid functions, by the cosine series through the very values of u_0, without its mean."""
    cosines = _transform(u_0.shape)
    series = cosines.T * mp.matrix(u_0.ravel().tolist())
    amplitudes, multiplier = _exact_flow([mp.mpf(0), *series[1:]], mu, decay)
    u = list(cosines * mp.matrix(amplitudes))
    size = max(map(abs, u))
    found = [pair for solution in solutions for pair in zip(np.ravel(solution), u, strict=True)]
    return _worst(*(_relative(b, a, size) for b, a in found), *(_relative(m, multiplier) for m in multipliers))


DECAY: dict[str, Callable[[Any], Any]] = {
    "euler": lambda z: 1 - z,
    "rk4": lambda z: 1 - z + z**2 / 2 - z**3 / 6 + z**4 / 24,
    "backward-euler": lambda z: 1 / (1 + z),
    "pade02": lambda z: 1 / (1 + z + z**2 / 2),
    "crank-nicolson": lambda z: (2 - z) / (2 + z),
}
"""What a step of the finite differences makes of a mode, with z = m dt."""


def _discrete_eigenvalues(box: Box) -> Any:
    """The sums over the axes of (2 / h sin(k pi / 2 n))^2, those of minus the difference Laplacian; flat, by mpmath."""
    return _sums_over_axes(
        [
            [(2 * n / mp.mpf(length) * mp.sin(k * mp.pi / (2 * n))) ** 2 for k in range(n)]
            for n, length in zip(box.shape, box.lengths, strict=True)
        ]
    )


def _differences(rng: np.random.Generator) -> Example:
    flow, c, _ = _flow(rng)
    box, u_0, n_steps = flow.domain, flow.domain.to_grid(c), int(rng.integers(1, 5))
    with mp.workdps(DIGITS):
        exact = _discrete_eigenvalues(box)
    m, errors = exact.astype(float), {}
    for name, factor in DECAY.items():
        # Where explicit schemes and Crank-Nicolson keep the order of the modes.
        longest = 1 / m.max() if name in ("euler", "rk4") else 1 / math.sqrt(m[1:].min() * m.max())
        dt = longest * float(10.0 ** rng.uniform(-2, 0))
        t, options = n_steps * dt, dict[str, Any](integrator=name, dt=dt)
        ds = flow.solve(u_0, t, method="finite-difference", **options)
        state, _ = finite_difference.integrate(box, u_0, t, **options)
        with mp.workdps(DIGITS):
            decay = [factor(a * mp.mpf(t) / n_steps) ** n_steps for a in exact]
            error = _errors_on_grid(u_0, exact, decay, [ds.u, state], [ds.multiplier.item()])
        errors[name] = error / _condition(c, m, factor(m * dt) ** n_steps)
    worst = max(errors, key=lambda name: errors[name])
    return Example(errors[worst], f"{_place(flow, n=n_steps)}, {worst}")


def _order(rng: np.random.Generator) -> Example:
    orders = []
    for d in (1, 2):
        lengths, t = tuple(rng.uniform(0.5, 1, d)), float(rng.uniform(0.005, 0.01))
        amplitudes = rng.normal(size=(3,) * d)
        amplitudes.flat[0] = 0
        errors = []
        for n in (32, 64):
            flow = RenormalizedFlow(Box((n,) * d, lengths))
            u_0 = flow.domain.to_grid(np.pad(amplitudes, (0, n - 3)))
            u = flow.solve(u_0, t, method="finite-difference", dt=t / n, C=1.0).u.values
            exact = flow.evolve(u_0, t, C=1.0)
            errors.append(np.abs(u - exact).max() / np.abs(exact).max())
        orders.append(math.log2(errors[0] / errors[1]))
    return Example(max(abs(order / 2 - 1) for order in orders), "orders {:.3f} in 1-D, {:.3f} in 2-D".format(*orders))


def _stability(rng: np.random.Generator) -> tuple[RenormalizedFlow, int]:
    return RenormalizedFlow(Box((24,), (float(10.0 ** rng.uniform(-1, 1)),))), int(rng.integers(1, 6))


def _equation_23(rng: np.random.Generator) -> Example:
    flow, k = _stability(rng)
    ds = check_stability(flow, k, solvers=["spectral"])
    other = ds.isel(mode=ds.j_x.values != k)
    theory = np.array([flow.growth_rate(k, j) for j in other.j_x.values])
    found = np.stack([other.theory.values, other.jacobian.values, other.measured.values[0]])
    m = _discrete_eigenvalues(flow.domain).astype(float)
    discrete = np.stack([other.theory_discrete.values, other.jacobian_discrete.values])
    error = _worst(np.abs(found / theory - 1).max(), np.abs(discrete / (m[k] - m[other.j_x.values]) - 1).max())
    return Example(error, f"k = {k}")


def _measured(rng: np.random.Generator) -> Example:
    flow, k = _stability(rng)
    ds = flow.check_stability(k, solvers=list(DECAY))
    other = ds.isel(mode=ds.j_x.values != k)
    m = _discrete_eigenvalues(flow.domain).astype(float)
    errors = np.abs(other.measured.values / (m[k] - m[other.j_x.values]) - 1).max(axis=1)
    return Example(float(errors.max()), f"k = {k}, {other.solver.values[errors.argmax()]}")


CHECKS = (
    Check("(1)", "the printed density, its mass 1, mean and variances", "quadrature", 1e-12, _density, 0.25),
    Check("(2)", "the forward step", "property", 8 * EPS, _step),
    Check("(3)", "the transition density's mean and variance", "property", 4 * EPS, _transition_density),
    Check("(4)", "alpha = 1 - beta", "property", 4 * EPS, _alpha_is_one_minus_beta),
    Check("(5)", "two steps in one: amplitudes multiply, variances add", "property", 8 * EPS, _two_steps),
    Check("(6)", "k steps in one, pushed through step by step (error a step)", "general rule", 16 * EPS, _many_steps),
    Check("(7)", "alpha_bar is the product of the alphas", "property", 32 * EPS, _product),
    Check("(8)", "the leap from the image", "property", 32 * EPS, _leap),
    Check("(9)", "the law given the image, by recursion over (2)", "property", 32 * EPS, _law_given_image),
    Check("(10)", "Bayes' right side has mass 1, mean (16), variance (15)", "quadrature", 1e-10, _bayes, 0.1),
    Check("(11)", "given x_s, the image says nothing more of x_t", "property", 32 * EPS, _markov),
    Check("(12)", "the quotient of densities is the density (14)", "property", 8 * EPS, _densities),
    Check(
        "(13)", "completing the square gives (15), (16), and their values", "symbolic", 64 * EPS, _completing_the_square
    ),
    Check("(14)", "the posterior, by adding precisions", "general rule", 64 * EPS, _general_rule),
    Check("(15)", "the posterior variance", "property", 16 * EPS, _posterior_variance),
    Check("(16)", "the posterior mean", "property", 64 * EPS, _posterior_mean),
    Check("(17)", "(16) with the image by its noise is (18), and its values", "symbolic", 64 * EPS, _substitution),
    Check("(18)", "the posterior mean from the noise", "property", 64 * EPS, _mean_from_noise),
    Check("(19)", "the backward step", "property", 64 * EPS, _backward_step),
    Check(
        "Algorithm 1",
        "a line for each time is trained to the noise's conditional mean (error in standard errors)",
        "Monte Carlo",
        5,
        _algorithm_1,
        0.005,
    ),
    Check(
        "Algorithm 2",
        "the law of the states, for Gaussian data, by impulses instead of noise",
        "exact solution",
        1e-12,
        _algorithm_2,
        0.25,
    ),
    Check("(20)", "u_t = Lap u + lambda u, by differences in time", "exact solution", 1e-8, _equation_20),
    Check("(21)", "the energy stays, integrated by Gauss-Legendre", "quadrature", 1e-12, _equation_21),
    Check("(22)", "the solution, from modes and on the grid, and lambda", "exact solution", 8 * EPS, _equation_22),
    Check(
        "(22), differences",
        "five schemes: the discrete flow, and lambda",
        "exact solution",
        64 * EPS,
        _differences,
        0.1,
    ),
    Check("(22), order", "the default scheme: order 2 in h and dt together", "exact solution", 0.02, _order, 0.1),
    Check(
        "(23)",
        "growth rates: eigenvalues of the linearisation, and measured",
        "exact solution",
        1e-8,
        _equation_23,
        0.1,
    ),
    Check("(23), differences", "growth rates, as five schemes measure them", "exact solution", 1e-3, _measured, 0.02),
)
"""A check for each equation and each algorithm, in the order of the paper."""
