"""Domains of any shape: orders of the eigenvalues, the flow beyond the modes, slow mixing, and the cost.

Question   (1) How accurate are the eigenvalues of meshes, beside exact ones, and of which order? (2) How close is the
           flow from noise, with 50 modes and what lies beyond, to the one with all modes? (3) How slowly does noise
           mix on a dumbbell, and what if its handle is cut? (4) What do masks of many cells cost, and a mesh?
Command    python experiments/domains.py
Minutes    3 on a CPU core; --smoke: seconds
Result     results/domains.json, and (3) as results/domains.png and .pdf
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import numpy.typing as npt
import scipy
import typer
import xarray as xr
from matplotlib.figure import Figure

from diffmath import __version__
from diffmath._files import save_figure, write_json
from diffmath.domains import Mask, Mesh
from diffmath.domains.operator import Operator
from diffmath.pde import RenormalizedFlow
from diffmath.pde.fields import GREY_SAFE, field_of
from diffmath.pde.initial import noise

HERE = Path(__file__).parent

DISC = 1.8411837813406593**2  # J_1'(x) = 0
BALL = 2.0815759778181**2  # j_1'(x) = 0
ELL = 1.475621824  # of the L of three unit squares, from upper bounds on graded meshes
CASES: dict[str, tuple[Callable[..., Operator], dict[str, Any], float, tuple[int, ...]]] = {
    "disc, P1": (Mesh.disc, {"order": 1}, DISC, (2, 3, 4, 5)),
    "disc, curved P2": (Mesh.disc, {"order": 2}, DISC, (1, 2, 3, 4, 5)),
    "disc, P3 on cells of order 2": (Mesh.disc, {"order": 3}, DISC, (1, 2, 3, 4)),
    "sphere, P1": (Mesh.sphere, {"order": 1}, 2.0, (1, 2, 3, 4)),
    "sphere, curved P2": (Mesh.sphere, {"order": 2}, 2.0, (1, 2, 3)),
    "ball, curved P2": (Mesh.ball, {"order": 2}, BALL, (1, 2, 3)),
    "L, P2": (Mesh.l_shape, {"order": 2}, ELL, (1, 2, 3, 4, 5)),
    "L, P2 graded": (Mesh.l_shape, {"order": 2, "grading": 14}, ELL, (0, 1, 2, 3)),
    "L, P4 graded": (Mesh.l_shape, {"order": 4, "grading": 20}, ELL, (0, 1)),
}
TIMES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


def pixels(n: int, n_modes: int = 50) -> Mask:
    """A disc of n cells across."""
    x, y = (np.mgrid[:n, :n] + 0.5) / n - 0.5
    return Mask(np.hypot(x, y) < 0.5, n_modes=n_modes)


COSTS: dict[str, Callable[[], Operator]] = {
    "mask of 100 cells across": lambda: pixels(100),
    "mask of 200 cells across": lambda: pixels(200),
    "mask of 357 cells across": lambda: pixels(357),
    "annulus, curved P2": lambda: Mesh.annulus(refinement=6),
}
GOALS = {  # largest error, and the range of the last order: held to in the report
    "disc, P1": (0.01, 1.9, 2.1),
    "disc, curved P2": (1e-7, 3.9, 4.1),
    "ball, curved P2": (1e-4, 3.7, 4.3),
    "sphere, P1": (0.01, 1.9, 2.1),
    "L, P2": (1e-3, 4 / 3 - 0.05, 4 / 3 + 0.05),
    "L, P2 graded": (1e-6, 3.0, 4.1),
    "L, P4 graded": (1e-8, 6.0, 8.1),
}
LARGEST = {"mask of 357 cells across": (20.0, 0.6), "annulus, curved P2": (60.0, 2.5)}  # of the eigenpairs: seconds, GB


def convergence(coarsest: int) -> dict[str, Any]:
    """(1) The errors of the lowest eigenvalue, at most the first few refinements of each case."""
    table = {}
    for name, (domain, options, exact, refinements) in CASES.items():
        meshes = [domain(r, n_modes=4, **options) for r in refinements[:coarsest]]
        errors = [abs(float(mesh.eigenvalues[1]) - exact) for mesh in meshes]
        orders = [float(np.log2(a / b)) for a, b in pairwise(errors)]
        table[name] = {"exact": exact, "unknowns": [m.shape[0] for m in meshes], "errors": errors, "orders": orders}
    return table


def beyond(domain: Operator, seed: int) -> dict[str, Any]:
    """(2) The flow from noise, beside the one with all modes."""
    u_0 = noise(domain, np.random.default_rng(seed))
    ours, whole = (RenormalizedFlow(d).evolve(u_0, TIMES) for d in (domain, domain.discrete))
    errors = np.abs(ours - whole).max(axis=1) / np.abs(whole).max(axis=1)
    return {"modes": domain.n_modes, "unknowns": domain.shape[0], "times": TIMES, "errors": errors.tolist()}


def dumbbell(n: int, handle: bool) -> Mask:
    """Two discs of n cells across, with a handle between them or none."""
    x, y = np.mgrid[: 2 * n + n // 2, :n] + 0.5
    left, right = (np.hypot(x - c, y - n / 2) < n / 2 for c in (n / 2, 2 * n))
    between = (np.abs(y - n / 2) < n / 16) & (np.abs(x - 1.25 * n) < 0.75 * n)
    return Mask(left | right | (between if handle else False), spacing=1 / n)


def draw(solutions: dict[str, xr.Dataset], times: npt.ArrayLike) -> Figure:
    """(3) A row for each: states at four times, and the multiplier."""
    shown = np.asarray(times)
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(len(solutions), len(shown) + 1)
    for row, (name, ds) in zip(axes, solutions.items(), strict=True):
        field = field_of(ds, ("cell",))
        assert field is not None
        for ax, t in zip(row, shown, strict=False):
            field.draw(ax, ds.u.sel(time=t).values)
            ax.set_axis_off()
            ax.set_title(f"$t = {t:g}$", fontsize=9)
        row[-1].loglog(ds.time[1:], ds.multiplier[1:], color=GREY_SAFE(0.1))
        row[-1].axhline(ds.attrs["lowest_eigenvalue"], color="k", ls=":", lw=1)
        row[-1].set(
            xlabel="$t$", ylabel=r"$\lambda(t)$", title=rf"{name}, $\mu_1 = {ds.attrs['lowest_eigenvalue']:.4g}$"
        )
    return figure


def cost(name: str, seed: int) -> dict[str, Any]:
    """(4) Seconds of one core for 50 eigenpairs and for a flow from noise, and the process's most memory so far."""
    domain = COSTS[name]()
    start = time.process_time()
    domain.eigenvalues  # noqa: B018
    found, at_first = time.process_time(), peak()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        RenormalizedFlow(domain).evolve(noise(domain, np.random.default_rng(seed)), TIMES)
    return {
        "domain": name,
        "unknowns": domain.shape[0],
        "eigenpairs, s": round(found - start, 2),
        "eigenpairs, GB": round(at_first, 2),
        "flow, s": round(time.process_time() - found, 2),
        "flow, GB": round(peak(), 2),
        "warnings": [str(w.message) for w in caught],
    }


def peak() -> float:
    """The largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def costs(names: list[str], seed: int) -> list[dict[str, Any]]:
    """The costs of domains by name, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return list(pool.map(cost, names, [seed] * len(names)))


def missed(report: dict[str, Any]) -> list[str]:
    """Which of the goals of accuracy, order and cost the results do not reach."""
    wrong = []
    for name, (error, least, most) in GOALS.items():
        row = report["eigenvalues"][name]
        if row["errors"][-1] > error or not least <= row["orders"][-1] <= most:
            wrong.append(f"{name}: error {row['errors'][-1]:.1e}, order {row['orders'][-1]:.2f}")
    if (worst := max(report["beyond the modes"]["errors"])) > 1e-10:
        wrong.append(f"the flow beyond the modes: error {worst:.1e}")
    for row in report["cost"]:
        seconds, memory = LARGEST.get(row["domain"], (np.inf, np.inf))
        if row["eigenpairs, s"] > seconds or row["eigenpairs, GB"] > memory or row["warnings"]:
            wrong.append(f"{row['domain']}: {row['eigenpairs, s']} s, {row['eigenpairs, GB']} GB, {row['warnings']}")
    return wrong


def main(
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    seed: int = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "domains.json"
    n, times = (12, (0.0, 0.01, 0.1, 1.0)) if smoke else (48, (0.0, 0.01, 0.3, 10.0))
    moments = np.union1d(times, np.geomspace(1e-5, times[-1], 40))
    solutions = {}
    for name, handle in (("dumbbell", True), ("two discs", False)):
        domain = dumbbell(n, handle)
        solutions[name] = RenormalizedFlow(domain).solve(noise(domain, np.random.default_rng(seed)), moments)
    mesh = Mesh.disc(2 if smoke else 3)
    report: dict[str, Any] = {
        "eigenvalues": convergence(1 if smoke else 9),
        "beyond the modes": beyond(mesh, seed),
        "mixing": {name: ds.attrs["lowest_eigenvalue"] for name, ds in solutions.items()},
        "cost": costs(list(COSTS)[: 1 if smoke else None], seed),
        "versions": {"diffmath": __version__, "numpy": np.__version__, "scipy": scipy.__version__},
        "device": "cpu",
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
    }
    if not smoke:
        report["missed"] = missed(report)
    write_json(results, report)
    save_figure(draw(solutions, times), results, dpi=96)
    for name, row in report["eigenvalues"].items():
        orders = ", ".join(f"{order:.2f}" for order in row["orders"])
        typer.echo(f"{name:30} {row['unknowns'][-1]:6} unknowns, error {row['errors'][-1]:.1e}, orders {orders}")
    typer.echo(f"beyond the modes: errors up to {max(report['beyond the modes']['errors']):.1e}")
    for row in report["cost"]:
        typer.echo(", ".join(f"{name} {value}" for name, value in row.items()))
    if report.get("missed"):
        typer.echo("missed: " + "; ".join(report["missed"]))
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
