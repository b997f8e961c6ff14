"""Every equation of the paper, checked by other means: ``python -m diffmath verify``.

For each of the equations (1)-(23) and the two algorithms there is one check: what is claimed, how it is found out, on
how many random examples, and the worst relative error among them with the place where it was. The other means are the
printed formulas in exact or 50-digit arithmetic, the general rules of `diffmath.gaussian`, numerical integration,
computer algebra, exact solutions of the differential equation, and for Algorithm 1 a training with a known minimiser.

The tolerances: each coefficient is a product of a few factors that are rounded to half an eps each, and a sum of terms
is compared with the largest of them, so a few tens of eps are allowed; (12) compares logarithms of densities, whose
conditioning is divided out; differences in time (20) and the eigenvalues of 24 x 24 matrices (23) have errors of their
own; and Algorithm 1 ends where its last few hundred minibatches leave it, some parts in a thousand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
import sympy
from scipy.integrate import quad
from tqdm.auto import tqdm

from diffmath.gaussian import Gaussian
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.stability import check_stability
from diffmath.schedule import VarianceSchedule

__all__ = ["CHECKS", "Check", "Result", "table", "verify"]

EPS = float(np.finfo(np.float64).eps)
DIGITS = 50


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
        The equation's number in the paper, or the algorithm's name.
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
    """Run the checks.

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
                example = check.example(rng)
                if not example.error <= worst.error:  # a NaN is the worst there is
                    worst = example
                bar.update()
            results.append(
                Result(
                    check.label,
                    check.claim,
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


def table(results: Iterable[Result]) -> str:
    """The results as a Markdown table, a line for each."""
    lines = [
        "| | what is checked | how | examples | worst relative error | where | tolerance | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        verdict = "holds" if r.passed else "**fails**"
        lines.append(
            f"| {r.label} | {r.claim} | {r.method} | {r.examples} | {r.worst:.1e} | {r.where} | {r.tolerance:.0e} "
            f"| {verdict} |"
        )
    return "\n".join(lines)


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
    while True:
        schedule = _schedule(rng, n_times + first)
        if schedule.n_steps >= n_times + first - 1:
            times = first + rng.choice(schedule.n_steps + 1 - first, n_times, replace=False)
            return schedule, sorted(int(t) for t in times)


def _place(schedule: VarianceSchedule, **values: Any) -> str:
    numbers = ", ".join(f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in values.items())
    return f"T = {schedule.n_steps}, {numbers}"


def _alpha(schedule: VarianceSchedule, t: int, s: int) -> Any:
    """alpha_{t|s} in the working precision of mpmath, by the product (7)."""
    return mp.fprod(1 - mp.mpf(float(b)) for b in schedule.beta[s + 1 : t + 1])


def _relative(value: Any, exact: Any, scale: Any = 0) -> float:
    """|value - exact| / max(|exact|, scale)."""
    size = max(abs(exact), abs(scale))
    return float(abs(mp.mpf(float(value)) - exact) / size) if size else float(abs(mp.mpf(float(value))))


def _pair(rng: np.random.Generator) -> tuple[float, float]:
    x, y = rng.normal(size=2)
    return float(x), float(y)


def _one(x: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([x])


# Section 3, forwards


def _density(rng: np.random.Generator) -> Example:
    m, s = float(rng.normal() * 3), float(10.0 ** rng.uniform(-2, 2))
    g = Gaussian([m], s * s)
    moments = [
        quad(lambda u, p=p: u**p * s * float(g.density([m + s * u])), -12, 12, epsabs=1e-13, epsrel=1e-13)[0]
        for p in (0, 1, 2)
    ]
    error = max(abs(a - b) for a, b in zip(moments, (1, 0, 1), strict=True))
    return Example(error, f"mean {m:.3g}, deviation {s:.3g}")


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
        error = max(_relative(math.sqrt(alpha), mp.sqrt(1 - beta)), _relative(variance, beta))
    return Example(error, _place(schedule, t=t))


def _alpha_is_one_minus_beta(rng: np.random.Generator) -> Example:
    schedule, (_, t) = _jump(rng)
    with mp.workdps(DIGITS):
        exact = 1 - mp.mpf(float(schedule.beta[t]))
        error = max(_relative(schedule.alpha[t], exact), _relative(schedule.transition(t)[0], exact))
    return Example(error, _place(schedule, t=t))


def _two_steps(rng: np.random.Generator) -> Example:
    schedule = _schedule(rng, 2)
    if schedule.n_steps < 2:
        return Example(0.0, "T = 1")
    t = int(rng.integers(2, schedule.n_steps + 1))
    with mp.workdps(DIGITS):
        last, before = (1 - mp.mpf(float(schedule.beta[i])) for i in (t, t - 1))
        variance = last * (1 - before) + (1 - last)
        alpha, rest = schedule.transition(t, t - 2)
        error = max(_relative(alpha, last * before), _relative(rest, variance))
    return Example(error, _place(schedule, t=t))


def _many_steps(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng)
    law = start = Gaussian([1.0], 0.3)
    for i in range(s + 1, t + 1):
        law = law.push(math.sqrt(1 - schedule.beta[i]), schedule.beta[i])
    alpha, variance = schedule.transition(t, s)
    jump = start.push(math.sqrt(alpha), variance)
    # Pushing step by step rounds once a step; that many roundings are the rule's, not the equation's.
    error = max(abs(law.mean[0] - jump.mean[0]) / max(abs(jump.mean[0]), 1e-290), abs(law.variance / jump.variance - 1))
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
        error = max(_relative(math.sqrt(alpha_bar), mean), _relative(rest, variance))
    return Example(error, _place(schedule, t=t))


# Section 4, backwards


def _bayes_laws(schedule: VarianceSchedule, s: int, t: int, x_0: float) -> tuple[Gaussian, float, float]:
    """The law (9) at s, and the scale and the variance of the transition (3), (6) from s to t."""
    alpha_bar, variance_s = schedule.transition(s, 0)
    alpha, variance = schedule.transition(t, s)
    return Gaussian([math.sqrt(alpha_bar) * x_0], variance_s), math.sqrt(alpha), float(variance)


def _bayes(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng, first=1)
    x_0, z = _pair(rng)
    prior, scale, variance = _bayes_laws(schedule, s, t, x_0)
    evidence = prior.push(scale, variance)
    x_t = evidence.mean + z * np.sqrt(evidence.variance)
    m = schedule.posterior_mean(x_t, _one(x_0), t, s)[0]
    spread = math.sqrt(schedule.posterior_variance(t, s))

    def integrand(u: float, power: int) -> float:
        x = _one(m + spread * u)
        log = Gaussian(scale * x, variance).log_density(x_t) + prior.log_density(x) - evidence.log_density(x_t)
        return float(u**power * spread * np.exp(log))

    moments = [quad(integrand, -12, 12, args=(p,), epsabs=1e-11, epsrel=1e-11, limit=200)[0] for p in (0, 1, 2)]
    error = max(abs(a - b) for a, b in zip(moments, (1, 0, 1), strict=True))
    return Example(error, _place(schedule, s=s, t=t))


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
        error = max(abs(gain[0]), _relative(math.sqrt(alpha), gain[1]), _relative(variance, rest))
    return Example(float(error), _place(schedule, s=s, t=t))


def _densities(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng, first=1)
    x_0, z = _pair(rng)
    prior, scale, variance = _bayes_laws(schedule, s, t, x_0)
    evidence = prior.push(scale, variance)
    x_t = evidence.mean + z * np.sqrt(evidence.variance)
    posterior = Gaussian(schedule.posterior_mean(x_t, _one(x_0), t, s), schedule.posterior_variance(t, s))
    x_s = posterior.mean + rng.normal() * np.sqrt(posterior.variance)
    terms = (
        Gaussian(scale * x_s, variance).log_density(x_t),
        prior.log_density(x_s),
        -evidence.log_density(x_t),
    )
    # A rounding of x_s moves the narrowest density by this much in its logarithm.
    condition = 1 + sum(abs(float(v)) for v in terms) + abs(float(x_t[0])) / math.sqrt(variance) * 8
    return Example(abs(float(sum(terms) - posterior.log_density(x_s))) / condition, _place(schedule, s=s, t=t))


def _symbols() -> tuple[sympy.Symbol, ...]:
    return sympy.symbols("x_t x_s x_0 eps"), sympy.symbols("alpha alpha_bar_s", positive=True)


def _completing_the_square(rng: np.random.Generator) -> Example:
    (x_t, x_s, x_0, _), (a, b) = _symbols()
    exponent = (
        (x_t - sympy.sqrt(a) * x_s) ** 2 / (1 - a)
        + (x_s - sympy.sqrt(b) * x_0) ** 2 / (1 - b)
        - (x_t - sympy.sqrt(a * b) * x_0) ** 2 / (1 - a * b)
    )
    variance = (1 - a) * (1 - b) / (1 - a * b)  # (15)
    mean = (sympy.sqrt(a) * (1 - b) * x_t + sympy.sqrt(b) * (1 - a) * x_0) / (1 - a * b)  # (16)
    rest = sympy.simplify(sympy.expand(exponent - (x_s - mean) ** 2 / variance))
    return Example(0.0 if rest == 0 else math.inf, "for all alpha, alpha_bar in (0, 1)")


def _general_rule(rng: np.random.Generator) -> Example:
    schedule, (s, t) = _jump(rng, first=1)
    x_0, x_t = _pair(rng)
    prior, scale, variance = _bayes_laws(schedule, s, t, x_0)
    posterior = prior.given([x_t], scale, variance)
    mean = schedule.posterior_mean(_one(x_t), _one(x_0), t, s)[0]
    # The general rule subtracts x_t / a from the prior's mean.
    size = max(abs(mean), abs(x_t) / scale, abs(x_0))
    error = max(
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


def _substitution(rng: np.random.Generator) -> Example:
    (x_t, _, _, eps), (a, b) = _symbols()
    x_0 = (x_t - sympy.sqrt(1 - a * b) * eps) / sympy.sqrt(a * b)
    mean = (sympy.sqrt(a) * (1 - b) * x_t + sympy.sqrt(b) * (1 - a) * x_0) / (1 - a * b)
    printed = (x_t - (1 - a) / sympy.sqrt(1 - a * b) * eps) / sympy.sqrt(a)  # (18)
    return Example(0.0 if sympy.simplify(mean - printed) == 0 else math.inf, "for all alpha, alpha_bar in (0, 1)")


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
        terms = (
            mp.mpf(x_t) / mp.sqrt(a),
            -(1 - a) / mp.sqrt(1 - c) * mp.mpf(eps) / mp.sqrt(a),
            sigma * mp.mpf(z),
        )
        value = schedule.backward_step(_one(x_t), _one(eps), _one(z), t, s)[0]
        error = _relative(value, sum(terms), max(map(abs, terms)))
    return Example(error, _place(schedule, s=s, t=t))


# Section 5, the algorithms


def _algorithm_1(rng: np.random.Generator) -> Example:
    import torch
    from torch import nn

    from diffmath.ddpm import train

    class Line(nn.Module):
        """The noise predictor a x + b at one noise level: linear regression."""

        def __init__(self) -> None:
            super().__init__()
            self.slope, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self.slope * x + self.shift

    beta, seed = float(rng.uniform(0.2, 0.8)), int(rng.integers(2**31))
    data = 0.3 + 0.5 * torch.randn((20_000, 1), generator=torch.Generator().manual_seed(seed))
    m, v = data.mean().item(), data.var(correction=0).item()
    settings: dict[str, Any] = {"batch_size": 512, "learning_rate": 2e-3, "betas": (0.9, 0.999), "autocast": False}
    result = train(
        Line(), VarianceSchedule([beta]), data, 3000, seed=seed, device="cpu", progress=False, **settings
    ).model
    slope = math.sqrt(beta) / ((1 - beta) * v + beta)
    found = [parameter.item() for parameter in result.parameters()]
    error = max(abs(a - b) for a, b in zip(found, (slope, -slope * math.sqrt(1 - beta) * m), strict=True))
    return Example(error / slope, f"beta = {beta:.3g}")


def _algorithm_2(rng: np.random.Generator) -> Example:
    import torch

    from diffmath.ddpm import sample
    from diffmath.ddpm.denoisers import gaussian_denoiser

    n, mean, spread = int(rng.integers(2, 60)), float(rng.normal()), float(10.0 ** rng.uniform(-1, 0.5))
    schedule = VarianceSchedule.linear(n, 1e-3, 0.2)
    exact = gaussian_denoiser(schedule, mean, spread**2)
    # Each step is affine, x_s = A x + B z + c, with coefficients read off the update that `sample` uses, at 0 and 1.
    m, v = 0.0, 1.0
    for t in range(n, 0, -1):
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        eps = exact(x, torch.full((2,), t))
        c, by_x = schedule.backward_step(x, eps, torch.zeros_like(x), t).flatten().tolist()
        by_z = schedule.backward_step(x[:1], eps[:1], torch.ones_like(x[:1]), t).item()
        m, v = (by_x - c) * m + c, (by_x - c) ** 2 * v + (by_z - c) ** 2
    with mp.workdps(DIGITS):
        exact_m, exact_v = mp.mpf(0), mp.mpf(1)
        for t in range(n, 0, -1):
            a, b, d = _alpha(schedule, t, t - 1), _alpha(schedule, t - 1, 0), _alpha(schedule, t, 0)
            gain = mp.sqrt(1 - d) / (d * mp.mpf(spread) ** 2 + 1 - d)
            slope = (1 - (1 - a) / mp.sqrt(1 - d) * gain) / mp.sqrt(a)
            shift = (1 - a) / mp.sqrt(1 - d) * gain * mp.sqrt(d) * mp.mpf(mean) / mp.sqrt(a)
            exact_m, exact_v = slope * exact_m + shift, slope**2 * exact_v + (1 - a) * (1 - b) / (1 - d)
        error = max(_relative(m, exact_m, 0.1), _relative(v, exact_v))
        # And the samples themselves: their mean, within 5 standard errors of that law's, counts as no error.
        x_T = torch.randn(
            (2000, 1), dtype=torch.float64, generator=torch.Generator().manual_seed(int(rng.integers(2**31)))
        )
        images = sample(
            exact, schedule, x_T, generator=torch.Generator().manual_seed(int(rng.integers(2**31))), batch_size=2000
        )
        if abs(images.mean().item() - float(exact_m)) > 5 * math.sqrt(float(exact_v) / 2000):
            error = math.inf
    return Example(error, f"T = {n}, data N({mean:.3g}, {spread:.3g}^2)")


# Section 7, the flow


def _flow(rng: np.random.Generator, n: int = 16) -> tuple[RenormalizedFlow, Any, float]:
    box = Box((n,), (float(10.0 ** rng.uniform(-1, 1)),))
    c = np.zeros(n)
    c[1:] = rng.normal(size=n - 1) * 10.0 ** rng.uniform(-3, 0, n - 1)
    return RenormalizedFlow(box), c, box.lengths[0] ** 2 * float(10.0 ** rng.uniform(-4, 0))


def _equation_20(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    mu = flow.domain.eigenvalues
    dt = 1e-3 / mu.max()
    ds = flow.solve_modes(c, t + dt * np.array([-2, -1, 0, 1, 2]))
    b = ds.amplitude.values
    rate = (b[0] - 8 * b[1] + 8 * b[3] - b[4]) / (12 * dt)
    residual = rate - (-mu + ds.multiplier.values[2]) * b[2]
    return Example(float(np.abs(residual).max() / (np.abs(mu * b[2]).max())), f"t = {t:.3g}")


def _equation_21(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    (length,), n = flow.domain.lengths, len(c)
    x, w = np.polynomial.legendre.leggauss(4 * n)
    x, w = length / 2 * (x + 1), length / 2 * w
    k = np.arange(n)
    sines = -(k * math.pi / length) * math.sqrt(2 / length) * np.sin(np.outer(x, k * math.pi / length))
    energies = [float(w @ (sines @ b) ** 2) for b in (c, flow.solve_modes(c, t).amplitude.values[0])]
    return Example(abs(energies[1] / energies[0] - 1), f"t = {t:.3g}")


def _equation_22(rng: np.random.Generator) -> Example:
    flow, c, t = _flow(rng)
    ds = flow.solve_modes(c, t)
    with mp.workdps(DIGITS + 30):
        mu = [(k * mp.pi / mp.mpf(flow.domain.lengths[0])) ** 2 for k in range(len(c))]
        v = [mp.mpf(float(a)) * mp.exp(-(m - mu[1]) * mp.mpf(t)) for a, m in zip(c, mu, strict=True)]
        C, now = (mp.fsum(m * mp.mpf(a) ** 2 for m, a in zip(mu, values, strict=True)) for values in (c.tolist(), v))
        u = [a * mp.sqrt(C / now) for a in v]
        multiplier = mp.fsum((m * a) ** 2 for m, a in zip(mu, u, strict=True)) / C
        size = max(map(abs, u))
        errors = [_relative(b, a, size) for b, a in zip(ds.amplitude.values[0], u, strict=True)]
        return Example(max(*errors, _relative(ds.multiplier.item(), multiplier)), f"t = {t:.3g}")


def _equation_23(rng: np.random.Generator) -> Example:
    k = int(rng.integers(1, 6))
    flow = RenormalizedFlow(Box((24,), (float(10.0 ** rng.uniform(-1, 1)),)))
    ds = check_stability(flow, k, solvers=["spectral"])
    other = ds.j_x.values != k
    theory, found = ds.theory.values[other], np.stack([ds.jacobian.values[other], ds.measured.values[0, other]])
    return Example(float(np.abs(found / theory - 1).max()), f"k = {k}")


CHECKS = (
    Check("(1)", "the density has mass 1, and its mean and variance", "quadrature", 1e-11, _density, 0.25),
    Check("(2)", "the forward step", "property", 8 * EPS, _step),
    Check("(3)", "the transition density's mean and variance", "property", 4 * EPS, _transition_density),
    Check("(4)", "alpha = 1 - beta", "property", 4 * EPS, _alpha_is_one_minus_beta),
    Check("(5)", "two steps in one: amplitudes multiply, variances add", "property", 8 * EPS, _two_steps),
    Check("(6)", "k steps in one, pushed through step by step (error a step)", "general rule", 16 * EPS, _many_steps),
    Check("(7)", "alpha_bar is the product of the alphas", "property", 32 * EPS, _product),
    Check("(8)", "the leap from the image", "property", 32 * EPS, _leap),
    Check("(9)", "the law given the image, by recursion over (2)", "property", 32 * EPS, _law_given_image),
    Check("(10)", "Bayes' right side has mass 1, mean (16), variance (15)", "quadrature", 1e-7, _bayes, 0.1),
    Check("(11)", "given x_s, the image says nothing more of x_t", "property", 32 * EPS, _markov),
    Check("(12)", "the quotient of densities is the density (14)", "general rule", 1e-10, _densities),
    Check("(13)", "completing the square gives (15), (16)", "symbolic", 0.0, _completing_the_square, 0.0),
    Check("(14)", "the posterior, by adding precisions", "general rule", 64 * EPS, _general_rule),
    Check("(15)", "the posterior variance", "property", 16 * EPS, _posterior_variance),
    Check("(16)", "the posterior mean", "property", 64 * EPS, _posterior_mean),
    Check("(17)", "(16) with the image by its noise is (18)", "symbolic", 0.0, _substitution, 0.0),
    Check("(18)", "the posterior mean from the noise", "property", 64 * EPS, _mean_from_noise),
    Check("(19)", "the backward step", "property", 64 * EPS, _backward_step),
    Check(
        "Algorithm 1", "a line is trained to the conditional mean of the noise", "Monte Carlo", 0.03, _algorithm_1, 0.01
    ),
    Check(
        "Algorithm 2",
        "the update's law for Gaussian data step by step, and the samples' mean",
        "exact solution",
        1e-12,
        _algorithm_2,
        0.25,
    ),
    Check("(20)", "u_t = Lap u + lambda u, by differences in time", "exact solution", 1e-8, _equation_20),
    Check("(21)", "the energy stays, integrated by Gauss-Legendre", "quadrature", 1e-12, _equation_21),
    Check("(22)", "the solution and lambda in 80 digits", "exact solution", 2e-15, _equation_22),
    Check(
        "(23)",
        "growth rates: eigenvalues of the linearisation, and measured",
        "exact solution",
        1e-8,
        _equation_23,
        0.1,
    ),
)
"""One check for each equation and each algorithm, in the order of the paper."""
