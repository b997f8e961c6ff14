"""The heat model, beyond the paper: (31)-(35).

The references are the exact flow by `RenormalizedFlow`, and the general rules for Gaussians. The images are small, and
the flow amplifies the rounding of their slowest modes by less than 1e3.
"""

from __future__ import annotations

import numpy as np

from diffmath.gaussian import Gaussian
from diffmath.heat import HeatProcess, LinearHeatProcess, flow_posterior
from diffmath.pde import Box, RenormalizedFlow
from diffmath.verification._references import worst_error
from diffmath.verification.checks import Example, check

SHAPE = (6, 5)
PROCESS = HeatProcess(SHAPE)


@check(
    "(31)",
    "the state less its noise: the exact flow, with C and the mean kept",
    code=[f"diffmath.heat.HeatProcess.{name}" for name in ("add_noise", "flow", "energy")],
    method="exact solution",
    tolerance=1e-9,
    share=0.2,
)
def _equation_31(rng: np.random.Generator) -> Example:
    t, x_0, eps = int(rng.integers(1, PROCESS.n_steps + 1)), rng.uniform(-1, 1, (2, 1, *SHAPE)), np.ones((2, 1, *SHAPE))
    mean = x_0.mean(axis=(2, 3), keepdims=True)
    expected = RenormalizedFlow(Box(SHAPE)).evolve(x_0, PROCESS.times[t])[:, :, 0] + mean
    u = PROCESS.image(PROCESS.add_noise(x_0, eps, t)) - PROCESS.sigma[t]
    C = PROCESS.energy(PROCESS.flow(x_0, t)) / PROCESS.energy(x_0)
    error = np.abs(u - expected).max() / np.abs(expected).max()
    return Example(worst_error(error, 1e3 * np.abs(C - 1).max()), f"t = {PROCESS.times[t]:.3g}")


@check(
    "(32)",
    "the posterior of any flow: its marginal is N(u_s, sigma_s^2), whatever kappa is",
    code=["diffmath.heat.flow_posterior"],
    method="general rule",
    tolerance=1e-11,
)
def _equation_32(rng: np.random.Generator) -> Example:
    u, u_s = rng.standard_normal((2, 3))
    sigma, sigma_s = 10 ** rng.uniform(-2, 2, 2)
    kappa = rng.uniform(0, 1, 3)
    at_zero, deviation = flow_posterior(np.zeros(3), u, u_s, sigma, sigma_s, kappa)
    slope = flow_posterior(np.ones(3), u, u_s, sigma, sigma_s, kappa)[0] - at_zero
    errors = []
    for i in range(3):
        found = Gaussian([u[i]], sigma**2).push(slope[i], deviation[i] ** 2)
        scale = abs(u_s[i]) + abs(slope[i]) * (1 + abs(u[i]))
        errors += [abs(found.mean[0] + at_zero[i] - u_s[i]) / scale, abs(found.variance / sigma_s**2 - 1)]
    return Example(
        worst_error(*errors), f"sigma = {sigma:.2g}, sigma_s = {sigma_s:.2g}, kappa = {kappa.round(2).tolist()}"
    )


@check(
    "(33)",
    "a step back with the known flow: of the noise of mode k the share exp(-eta mu dt) is kept",
    code=["diffmath.heat.HeatProcess.backward_step"],
    method="property",
    tolerance=1e-10,
    share=0.2,
)
def _equation_33(rng: np.random.Generator) -> Example:
    t, eta = int(rng.integers(2, PROCESS.n_steps + 1)), float(rng.uniform(0, 5))
    x_0, eps, z = rng.uniform(-1, 1, (3, 1, 1, *SHAPE))
    u, before = PROCESS.flow(x_0, t), PROCESS.flow(x_0, t - 1)
    x = PROCESS.backward_step(u + PROCESS.sigma[t] * eps, u, before - u, z, t, eta=eta)
    noise = PROCESS.domain.to_modes(x - before) * np.sqrt(np.prod(SHAPE)) / PROCESS.sigma[t - 1]
    kept = np.exp(-eta * PROCESS.domain.eigenvalues * (PROCESS.times[t] - PROCESS.times[t - 1]))
    expected = kept * PROCESS.domain.to_modes(eps) * np.sqrt(np.prod(SHAPE)) + np.sqrt(1 - kept**2) * z
    scale = np.abs(expected).max() * (1 + np.abs(before).max() / PROCESS.sigma[t - 1])
    return Example(float(np.abs(noise - expected).max() / scale), f"t = {PROCESS.times[t]:.3g}, eta = {eta:.2g}")


@check(
    "(34)",
    "Gaussian data in the linear flow: with the exact law of u given x, a step back has the forward process's law",
    code=["diffmath.heat.flow_posterior"],
    method="general rule",
    tolerance=1e-12,
)
def _equation_34(rng: np.random.Generator) -> Example:
    mean, S, rate = float(rng.standard_normal()), float(10 ** rng.uniform(-2, 2)), float(rng.uniform(0, 3))
    (sigma, sigma_s), kappa = 10 ** rng.uniform(-1, 1, 2), float(rng.uniform(0, 1))
    grown, a = float(np.exp(rate)), np.exp(-rate)  # u = a x_0, and u_s = x_0
    u = Gaussian([a * mean], a**2 * S)
    state = u.push(1.0, sigma**2)

    def step(x: float, v: float) -> float:
        return float(flow_posterior(np.array([x]), np.array([v]), np.array([grown * v]), sigma, sigma_s, kappa)[0][0])

    deviation = float(flow_posterior(np.zeros(1), np.zeros(1), np.zeros(1), sigma, sigma_s, kappa)[1])
    of_x, of_u = step(1.0, 0.0), step(0.0, 1.0)
    given = [u.given([x], 1.0, sigma**2) for x in (0.0, 1.0)]
    slope = float(given[1].mean[0] - given[0].mean[0])
    left = float(given[0].variance)
    found = state.push(of_x + of_u * slope, of_u**2 * left + deviation**2)
    shift = of_u * float(given[0].mean[0])
    scale = abs(mean) + abs(of_x) * (abs(mean) + 1) + abs(of_u) * (abs(mean) + 1)
    errors = abs(found.mean[0] + shift - mean) / scale, abs(found.variance / (S + sigma_s**2) - 1)
    weight = 1 + of_u**2 * u.variance / (S + sigma_s**2)  # terms of either sign cancel
    return Example(worst_error(errors[0], errors[1] / weight), f"S = {S:.2g}, sigma = {sigma:.2g}, kappa = {kappa:.2g}")


@check(
    "(35)",
    "the linear sibling, mode by mode: x_k = a_k x_0 + sigma_k eps, and a Markov chain to it",
    code=["diffmath.heat.LinearHeatProcess"],
    method="general rule",
    tolerance=1e-11,
    share=0.2,
)
def _equation_35(rng: np.random.Generator) -> Example:
    times = np.append(0.0, np.cumsum(rng.uniform(1e-3, 1e-2, 3)))
    r = np.append(1.0, np.exp(np.cumsum(rng.uniform(0, 0.2, 3))))
    sigma = np.append(0.0, 0.1 * r[1:] * np.exp(np.cumsum(rng.uniform(0.05, 0.5, 3))))
    box = Box(4)
    process, x_0, errors = LinearHeatProcess(box, times, sigma, r), rng.standard_normal((1, 4)), []
    for k in range(4):
        steps = [[part[k] for part in process.transition(t)] for t in (1, 2, 3)]
        law = Gaussian(np.sqrt(steps[0][0]) * x_0[0, k : k + 1], steps[0][1])
        for t, (alpha, variance) in enumerate(steps, start=1):
            law = law.push(np.sqrt(alpha), variance) if t > 1 else law
            a = r[t] * np.exp(-box.eigenvalues[k] * times[t])
            errors += [abs(law.mean[0] / (a * x_0[0, k]) - 1), abs(law.variance / sigma[t] ** 2 - 1)]
    return Example(worst_error(*errors), f"r = {r.round(3).tolist()}")
