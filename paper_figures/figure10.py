r"""Figure 10, beyond the paper: the flow (22) under noise, its laws, and the way back.

Section 7 of the paper asks how these flows work "when they are subject to stochastic forcing over a finite time" and
how they might be run backwards "under various Markovian assumptions". First the invariant density of two modes in the
three readings of the noise, lines in closed form and dots simulated; then the shares of six modes under noise of equal
strength, against Bingham's law; then two modes as a generative model: from a law with two bumps forwards to the
invariant law, and back by the exact score as section 4 of the paper does with digits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.invariant import Bingham, circle_density
from diffmath.pde.reversal import CircleModel, graded_times
from diffmath.pde.stochastic import READINGS, ForcedFlow
from paper_figures.run import Run

Floats = npt.NDArray[np.float64]

NOISE = (60.0, 15.0)  # D of the two modes; C = 1
N_PATHS, BINS = 2000, 40
STRENGTH = 30.0  # D of each of six modes
FORWARD = (0.0, 0.1, 0.4, 1.2, 16.0)


class Forced(NamedTuple):
    """What is drawn: for each reading the simulated angles; shares of six modes; densities, and angles run back."""

    angles: dict[str, Floats]
    densities: dict[str, Floats]
    shares: Floats
    expected: Floats
    model: CircleModel
    back: dict[str, Floats]


def compute(run: Run) -> Forced:
    """Simulations and closed forms."""
    rng = np.random.default_rng([run.figure, run.seed])
    box = Box(3)
    grid = np.linspace(0, 2 * np.pi, 200)
    angles: dict[str, Floats] = {}
    densities: dict[str, Floats] = {}
    for reading in READINGS:
        forced = ForcedFlow(RenormalizedFlow(box), np.append(0.0, np.array(NOISE) / box.eigenvalues[1:]), reading)
        ds = forced.solve(box.eigenfunction(1), np.linspace(0.2, 1.0, 9), dt=2e-3, n_paths=N_PATHS, C=1.0, rng=rng)
        y = np.sqrt(box.eigenvalues) * ds.amplitude.values
        angles[reading] = np.arctan2(y[..., 2], y[..., 1]).ravel() % (2 * np.pi)
        densities[reading] = circle_density(grid, forced.rates(1.0), forced.D)
    six = Box(7)
    forced = ForcedFlow(RenormalizedFlow(six), lambda mu: STRENGTH / mu)
    ds = forced.solve(six.eigenfunction(1), np.linspace(0.2, 1.0, 9), dt=2e-3, n_paths=N_PATHS // 4, C=1.0, rng=rng)
    shares = ds.energy_fraction.mean(("path", "time")).values[1:]
    theta = 2 * np.pi * np.arange(128) / 128
    bumps = np.exp(8 * np.cos(theta - 1)) + 0.6 * np.exp(20 * np.cos(theta - 4) - 12)
    model = CircleModel(bumps, rates=[1.0, 4.0], D=[2.0, 1.0])
    start = rng.choice(theta, 20_000, p=model.invariant / model.invariant.sum())
    start = start + rng.uniform(0, theta[1], len(start))
    times = graded_times(FORWARD[-1], 200)
    back = {method: model.sample(start, times, method, rng) for method in ("sde", "ode")}
    run.note = f"{N_PATHS} paths for each reading | cpu"
    return Forced(angles, densities, shares, Bingham(forced.rates(1.0) / STRENGTH).moments(), model, back)


def draw(found: Forced) -> Figure:
    """Four panels."""
    figure = Figure(figsize=(9.6, 6.6), layout="constrained")
    (readings, six), (forwards, backwards) = figure.subplots(2, 2)
    colours = ("black", "tab:blue", "tab:orange", "0.55", "tab:red")
    edges = np.linspace(0, 2 * np.pi, BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    grid = np.linspace(0, 2 * np.pi, 200)
    for (name, angles), colour, marker in zip(found.angles.items(), colours, "os^", strict=False):
        readings.plot(grid, found.densities[name], color=colour, lw=1.3, label=f"{name}")
        readings.plot(centres, _histogram(angles, edges), marker, color=colour, ms=3)
    readings.set(title="two modes: three readings of the noise", ylabel="density", ylim=(0, None))
    readings.legend(fontsize=8)
    k = np.arange(1, 7)
    six.bar(k, found.expected, color="0.8", label="Bingham's law")
    six.plot(k, found.shares, "o", color="tab:blue", label="simulated")
    six.set(title=r"six modes, equal $D_k$", xlabel="mode $k$", ylabel="mean share of $C$", yscale="log")
    six.legend(fontsize=8)
    for t, colour, style in zip(FORWARD, colours, ("-", "--", "-.", ":", "-"), strict=True):
        forwards.plot(found.model.angles, found.model.density(t), style, color=colour, lw=1.3, label=f"$t = {t:g}$")
    forwards.set(title="forwards: to the invariant law", ylabel="density", ylim=(0, None))
    forwards.legend(fontsize=8)
    backwards.plot(found.model.angles, found.model.p_0, color="black", lw=1.3, label="initial law")
    for (method, angles), colour, marker in zip(found.back.items(), ("tab:blue", "tab:orange"), "o^", strict=True):
        label = {"sde": "back by the SDE", "ode": "back by the ODE"}[method]
        backwards.plot(centres, _histogram(angles % (2 * np.pi), edges), marker, color=colour, ms=4, label=label)
    backwards.set(title="backwards: by the exact score", ylim=(0, None))
    backwards.legend(fontsize=8)
    for ax in (readings, forwards, backwards):
        ax.set(xlabel=r"angle $\theta$ of $(y_1, y_2)$", xlim=(0, 2 * np.pi))
        ax.set_xticks(
            [0, np.pi / 2, np.pi, 3 * np.pi / 2, 2 * np.pi], ["0", r"$\pi/2$", r"$\pi$", r"$3\pi/2$", r"$2\pi$"]
        )
    figure.suptitle("Beyond the paper: the flow under noise, its laws, and the way back", fontsize=11)
    return figure


def _histogram(angles: Floats, edges: Floats) -> Floats:
    density: Floats = np.histogram(angles, edges, density=True)[0]
    return density
