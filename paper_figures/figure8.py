r"""Figure 8, beyond the paper: the flow (22) from noise to the slowest mode on domains of any shape.

The paper poses (20) on a bounded domain with a piecewise smooth boundary, and shows an interval. Here are a disc, an L,
a polygon with a hole, a sphere, and the pixels of a digit, each at four times, which count in units of 1 / mu_1. Below
each is the multiplier lambda(t), which falls to mu_1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from diffmath.data import load_mnist
from diffmath.domains import Mask, Mesh
from diffmath.domains.catalogue import upright
from diffmath.domains.operator import Operator
from diffmath.pde import RenormalizedFlow
from diffmath.pde.fields import GREY_SAFE, field_of
from diffmath.pde.initial import noise
from paper_figures.run import Run

SNAPSHOTS = (0.0, 3e-3, 0.1, 8.0)  # in units of 1 / mu_1
SQUARE = [(0, 0), (1.6, 0), (1.6, 1), (0, 1)]
HOLE = [(0.3, 0.3), (0.8, 0.2), (1.0, 0.6), (0.4, 0.7)]
SCALE = 4  # pixels of the domain for each pixel of the digit, along each axis
FINENESS = 1  # how often fine meshes are divided beyond coarse ones


def domains(run: Run) -> dict[str, Operator]:
    """The five domains, with their names."""
    images, labels = load_mnist("sample")
    of_three = np.flatnonzero(labels == 3)
    digit = images[of_three[np.random.default_rng([run.figure, run.seed]).integers(len(of_three))]]
    pixels = np.kron(upright(digit > 100), np.ones((SCALE, SCALE), dtype=bool))
    return {
        "disc": Mesh.disc(3 + FINENESS),
        "L": Mesh.l_shape(3 + FINENESS, grading=1),
        "polygon with a hole": Mesh.polygon(SQUARE, [HOLE], 1 + FINENESS),
        "sphere": Mesh.sphere(2 + FINENESS),
        "pixels of a 3": Mask(pixels),
    }


def compute(run: Run) -> dict[str, xr.Dataset]:
    """The flow on each domain, at the snapshots and times between them."""
    solutions = {}
    for i, (name, domain) in enumerate(domains(run).items()):
        slowest = float(domain.eigenvalues[domain.lowest_mode])
        times = np.union1d(np.geomspace(1e-4, SNAPSHOTS[-1], 61), SNAPSHOTS) / slowest
        solutions[name] = RenormalizedFlow(domain).solve(noise(domain, np.random.default_rng([i, run.seed])), times)
    run.note = (
        f"finite elements and pixels, {', '.join(str(ds.u.shape[-1]) for ds in solutions.values())} unknowns | cpu"
    )
    return solutions


def draw(solutions: dict[str, xr.Dataset]) -> Figure:
    """A column for each domain: four states, each on a scale of its own, and the multiplier in units of mu_1."""
    rows, columns = len(SNAPSHOTS) + 1, len(solutions)
    figure = Figure(figsize=(2.3 * columns, 2.05 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    for j, (name, ds) in enumerate(solutions.items()):
        field = field_of(ds, ("",))
        assert field is not None
        scaled = ds.time.values * ds.attrs["lowest_eigenvalue"]
        for i, t in enumerate(SNAPSHOTS):
            options: dict[str, Any] = {} if field.projection is None else {"projection": field.projection}
            ax = figure.add_subplot(grid[i, j], **options)
            field.draw(ax, ds.u.values[np.abs(scaled - t).argmin()])
            ax.set_axis_off()
            ax.set_title(name if i == 0 else "", fontsize=11)
            if j == 0:
                ax.annotate(
                    rf"$\mu_1 t = {t:g}$", (-0.06, 0.5), xycoords="axes fraction", rotation=90, ha="right", va="center"
                )
        ax = figure.add_subplot(grid[-1, j])
        ax.loglog(scaled[1:], ds.multiplier[1:] / ds.attrs["lowest_eigenvalue"], color=GREY_SAFE(0.1))
        ax.axhline(1, color="k", ls=":", lw=1)
        ax.set(xlabel=r"$\mu_1 t$", ylabel=r"$\lambda(t) / \mu_1$" if j == 0 else "")
        ax.set_title(rf"$\mu_1 = {ds.attrs['lowest_eigenvalue']:.5g}$", fontsize=9)
        ax.tick_params(labelsize=8)
    figure.suptitle("Beyond the paper: the flow (22) from noise to the slowest mode, each state over its largest value")
    return figure
