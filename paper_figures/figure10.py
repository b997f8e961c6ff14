r"""Figure 10, beyond the paper: the flow (22) under noise, its laws, and the way back.

Section 7 of the paper asks how these flows work "when they are subject to stochastic forcing over a finite time" and
how they might be run backwards "under various Markovian assumptions". Above: the invariant density of two modes in the
three readings of the noise, lines in closed form and dots simulated; the shares of six modes under noise of equal
strength, against Bingham's law; and what share mode 1 keeps as the modes become more, in one dimension and in two.
Below, the flow as a generative model, as section 4 of the paper is one of digits: two modes forwards from a law with
two bumps to the invariant law, and back by the exact score; then three modes on the sphere, shown by an equal-area
projection, whose initial density is drawn in grey and what has come back from the invariant law as dots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.invariant import Bingham, circle_density, shares_on_a_cube
from diffmath.pde.reversal import SphereModel, graded_times
from diffmath.pde.stochastic import READINGS, ForcedFlow
from paper_figures.run import Run

Floats = npt.NDArray[np.float64]

NOISE = (60.0, 15.0)  # D of the two modes; C = 1
N_PATHS, BINS = 2000, 40
STRENGTH = 30.0  # D of each of six modes
FORWARD = (0.0, 0.1, 0.4, 1.2, 16.0)
COUNTS = (8, 32, 128, 512, 2048, 8192)  # numbers of modes
N_BACK = 20_000  # points on the circle
N_DOTS = 1500  # points on the sphere
METHODS: tuple[Literal["sde"], Literal["ode"]] = ("sde", "ode")


class Forced(NamedTuple):
    """What is drawn: angles of each reading; shares of six modes, and of mode 1; models, and points run back."""

    angles: dict[str, Floats]
    densities: dict[str, Floats]
    shares: Floats
    expected: Floats
    first: dict[str, list[float]]
    circle: SphereModel
    back: dict[str, Floats]
    sphere: SphereModel
    dots: Floats


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
    first = {f"{dimensions}-D": [float(shares_on_a_cube(n, dimensions)[0]) for n in COUNTS] for dimensions in (1, 2)}
    times = graded_times(FORWARD[-1], 200)
    circle = SphereModel(
        _bumps([[np.cos(a), np.sin(a)] for a in (1, 4)], (8.0, 20.0), 0.6), rates=[1.0, 4.0], D=[2.0, 1.0], degree=48
    )
    start = circle.draw(N_BACK, rng)
    back: dict[str, Floats] = {method: _angles(circle.sample(start, times, method, rng)) for method in METHODS}
    sphere = SphereModel(
        _bumps([[0.48, 0.64, 0.6], [-0.48, -0.64, -0.6]], (6.0, 6.0), 0.7),
        rates=[1.0, 2.0, 4.0],
        D=[2.0, 2.0, 2.0],
        degree=24,
    )
    dots = sphere.sample(sphere.draw(N_DOTS, rng), times, "sde", rng)
    expected = Bingham(forced.rates(1.0) / STRENGTH).moments()
    run.note = f"{N_PATHS} paths for each reading | cpu"
    return Forced(angles, densities, shares, expected, first, circle, back, sphere, dots)


def _bumps(at: npt.ArrayLike, widths: tuple[float, float], height: float) -> Callable[[Floats], Floats]:
    """A density with two bumps on the circle or the sphere, the second one of some height."""
    first, second = np.asarray(at)

    def density(z: Floats) -> Floats:
        p: Floats = np.exp(widths[0] * (first @ z - 1)) + height * np.exp(widths[1] * (second @ z - 1))
        return p

    return density


def _angles(z: Floats) -> Floats:
    angles: Floats = np.arctan2(z[1], z[0]) % (2 * np.pi)
    return angles


def draw(found: Forced) -> Figure:
    """Six panels."""
    figure = Figure(figsize=(13.2, 6.8), layout="constrained")
    (readings, six, first), (forwards, backwards, sphere) = figure.subplots(2, 3)
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
    for (name, shares), style in zip(found.first.items(), ("o-", "s--"), strict=True):
        first.semilogx(COUNTS, shares, style, color="black", ms=4, lw=1, label=f"{name}, $q_k \\propto 1 / \\mu_k$")
    first.set(title="more and more modes", xlabel="number of modes", ylabel="mean share of mode 1", ylim=(0, 1))
    first.legend(fontsize=8)
    circle = np.array([np.cos(grid), np.sin(grid)])
    for t, colour, style in zip(FORWARD, colours, ("-", "--", "-.", ":", "-"), strict=True):
        forwards.plot(grid, found.circle.density(circle, t), style, color=colour, lw=1.3, label=f"$t = {t:g}$")
    forwards.set(title="two modes forwards: to the invariant law", ylabel="density", ylim=(0, None))
    forwards.legend(fontsize=8)
    backwards.plot(grid, found.circle.density(circle, 0.0), color="black", lw=1.3, label="initial law")
    for (method, angles), colour, marker in zip(found.back.items(), ("tab:blue", "tab:orange"), "o^", strict=True):
        backwards.plot(
            centres, _histogram(angles, edges), marker, color=colour, ms=4, label=f"back by the {method.upper()}"
        )
    backwards.set(title="two modes backwards: by the exact score", ylim=(0, None))
    backwards.legend(fontsize=8)
    _draw_sphere(sphere, found)
    for ax in (readings, forwards, backwards, sphere):
        ax.set(xlabel=r"angle $\theta$ of $(y_1, y_2)$", xlim=(0, 2 * np.pi))
        ax.set_xticks(
            [0, np.pi / 2, np.pi, 3 * np.pi / 2, 2 * np.pi], ["0", r"$\pi/2$", r"$\pi$", r"$3\pi/2$", r"$2\pi$"]
        )
    figure.suptitle("Beyond the paper: the flow under noise, its laws, and the way back", fontsize=11)
    return figure


def _draw_sphere(ax: Axes, found: Forced) -> None:
    """The initial density of three modes, and points that have come back, by an equal-area projection."""
    longitude, height = np.linspace(0, 2 * np.pi, 181), np.linspace(-1, 1, 91)
    phi, z_3 = np.meshgrid(longitude, height)
    ring = np.sqrt(1 - z_3**2)
    z = np.array([ring * np.cos(phi), ring * np.sin(phi), z_3]).reshape(3, -1)
    ax.contourf(longitude, height, found.sphere.density(z, 0.0).reshape(phi.shape), 12, cmap="Greys")
    ax.plot(_angles(found.dots), found.dots[2], ".", color="tab:blue", ms=2.5, alpha=0.6)
    ax.set(title="three modes backwards, by the SDE", ylabel=r"$y_3 / \sqrt{C}$", ylim=(-1, 1))


def _histogram(angles: Floats, edges: Floats) -> Floats:
    density: Floats = np.histogram(angles, edges, density=True)[0]
    return density
