"""What goes beyond the paper: (24)-(29), the flow backwards and under noise.

The posterior's reference inverts matrices of condition up to 1e6, steps are compared with an integration to 1e-12, and
the way back takes 100 steps of second order.
"""

from __future__ import annotations

import numpy as np
from scipy import special
from scipy.integrate import quad, solve_ivp

from diffmath.domains.eigenbasis import Floats
from diffmath.pde import Box, RenormalizedFlow, invariant, inverse, priors, reversal, stochastic
from diffmath.verification._references import worst_error
from diffmath.verification.checks import Example, check

PRIORS = "diffmath.pde.priors"


@check(
    "(24)",
    "the posterior of the modes given a noisy state",
    code=[f"{PRIORS}.PowerLaw", f"{PRIORS}.GaussianPrior"],
    method="general rule",
    tolerance=1e-8,
)
def _equation_24(rng: np.random.Generator) -> Example:
    n, rank = int(rng.integers(2, 9)), int(rng.integers(1, 9))
    mu: Floats = (np.pi * np.arange(1.0, n + 1)) ** 2
    sigma = float(10 ** rng.uniform(-2, 0))
    decay: Floats = np.exp(-mu * rng.uniform(0, 0.01))
    seen = priors.Observation(mu, decay, rng.standard_normal(n), sigma)
    p, mean, root = rng.uniform(0, 2), rng.standard_normal(n), rng.standard_normal((n, rank))
    errors = []
    for prior, m, S in (
        (priors.PowerLaw(2.0, p), np.zeros(n), np.diag(4 * mu**-p)),
        (priors.GaussianPrior(mean, root), mean, root @ root.T),
    ):
        gain = S * decay @ np.linalg.inv(decay[:, None] * S * decay + sigma**2 * np.eye(n))
        found, V = prior.posterior(seen), S - gain * decay @ S
        expected = m + gain @ (seen.data - decay * m)
        errors.append(np.abs(found.mean - expected).max() / np.abs(expected).max())
        errors.append(np.abs(found.variance - np.diag(V)).max() / S.max())
    return Example(worst_error(*errors), f"n = {n}, rank {rank}, sigma = {sigma:.2g}")


@check(
    "(25)",
    "the scale of a reconstruction: the expected energy is C",
    code=["diffmath.pde.inverse.reconstruct"],
    method="property",
    tolerance=1e-12,
    share=0.2,
)
def _equation_25(rng: np.random.Generator) -> Example:
    box, C = Box(16), float(10 ** rng.uniform(-3, 3))
    ds = inverse.reconstruct(RenormalizedFlow(box), rng.standard_normal(16), 0.01, noise=0.1, C=C)
    energy = box.eigenvalues @ (ds.amplitude.values**2 + ds.amplitude_deviation.values**2)
    return Example(abs(energy / C - 1), f"C = {C:.3g}")


@check(
    "(26)",
    "a step under noise: half a flow, exact pushes along the axes, half a flow",
    code=["diffmath.pde.stochastic.step"],
    method="exact solution",
    tolerance=1e-9,
    share=0.05,
)
def _equation_26(rng: np.random.Generator) -> Example:
    n, dt = int(rng.integers(2, 5)), float(10 ** rng.uniform(-3, 0))
    rates = np.append(0.0, np.cumsum(rng.uniform(0, 10, n - 1)))
    start, pushes = rng.standard_normal(n), rng.standard_normal(n)
    start /= np.linalg.norm(start)
    descending = bool(rng.integers(2))
    half = (1 + (rates * dt) ** 2) ** 0.5 - rates * dt  # exp(-asinh x) is sqrt(1 + x^2) - x

    def flowed(y: Floats) -> Floats:
        moved: Floats = y * np.sqrt(half)
        return moved / float(np.linalg.norm(moved))

    y = flowed(start)
    for j in range(n)[:: -1 if descending else 1]:
        axis = np.eye(n)[j]
        push = float(pushes[j])

        def pushed(_: float, z: Floats, a: float = push, e: Floats = axis) -> Floats:
            return a * (e - z * float(z @ e))

        y = solve_ivp(pushed, (0, 1), y, "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    found = stochastic.step(start[:, None], rates, dt, pushes[:, None], np.array([descending]))[:, 0]
    return Example(float(np.abs(found - flowed(y)).max()), f"n = {n}, dt = {dt:.2g}")


@check(
    "(27)",
    "the invariant law of two modes: no probability flows",
    code=["diffmath.pde.invariant.circle_density"],
    method="property",
    tolerance=1e-9,
    share=0.5,
)
def _equation_27(rng: np.random.Generator) -> Example:
    D, rates, C = rng.uniform(1, 3, 2), rng.uniform(0, 4, 2), float(rng.uniform(0.5, 2))
    theta = 2 * np.pi * np.arange(256) / 256
    p = invariant.circle_density(theta, rates, D, C)
    g = np.sqrt((D[0] * np.sin(theta) ** 2 + D[1] * np.cos(theta) ** 2) / C)
    slope = np.fft.irfft(1j * np.arange(129) * np.fft.rfft(g * p), 256)
    current = -(rates[1] - rates[0]) / 2 * np.sin(2 * theta) * p - g * slope / 2
    total = abs(p.mean() * 2 * np.pi - 1)
    return Example(worst_error(np.abs(current).max() / np.abs(g * slope).max(), total), f"D = {D.round(2).tolist()}")


@check(
    "(28)",
    "the moments of Bingham's law",
    code=["diffmath.pde.invariant.Bingham"],
    method="quadrature",
    tolerance=1e-9,
    share=0.1,
)
def _equation_28(rng: np.random.Generator) -> Example:
    a = np.sort(10 ** rng.uniform(-1, 1.5, 3))
    half, spread = (a[0] + a[1]) / 2, (a[1] - a[0]) / 2

    def density(z: float) -> float:
        """The density of the third component; integrating over the angle of the others gives a Bessel function."""
        s = 1 - z * z
        return float(np.exp(-(half - spread) * s - a[2] * z * z) * special.ive(0, spread * s))

    total, second = (quad(lambda z, k=k: z**k * density(z), 0, 1, epsabs=0, epsrel=1e-12)[0] for k in (0, 2))
    moments = invariant.Bingham(a).moments()
    return Example(
        worst_error(abs(moments[2] * total / second - 1), abs(moments.sum() - 1)), f"a = {a.round(2).tolist()}"
    )


@check(
    "(29)",
    "backwards by the score: the ordinary differential equation returns moments",
    code=["diffmath.pde.reversal.SphereModel"],
    method="exact solution",
    tolerance=1e-4,
    share=0.02,
)
def _equation_29(rng: np.random.Generator) -> Example:
    n, T, axis = int(rng.integers(2, 4)), float(rng.uniform(0.1, 1)), rng.standard_normal(3)
    axis *= rng.uniform(1, 2) / float(np.linalg.norm(axis))

    def initial(z: Floats) -> Floats:
        p: Floats = np.exp(axis[: len(z)] @ z)
        return p

    model = reversal.SphereModel(initial, rng.uniform(0, 4, n), rng.uniform(1, 2, n), degree=16)
    points, weights = model.harmonics.points, model.harmonics.weights
    end = model.sample(points, reversal.graded_times(T, 100), "ode")
    found = [(weights * model.density(points, T) * moment) for moment in (end, end**2)]
    expected = [(weights * model.density(points, 0.0) * moment) for moment in (points, points**2)]
    errors = [np.abs((f - e).sum(axis=1)).max() for f, e in zip(found, expected, strict=True)]
    return Example(worst_error(*errors), f"n = {n}, T = {T:.2g}")
