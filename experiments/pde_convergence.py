"""The finite differences: orders in dt and dx, steps for a rough start, and the mode that wins where a scheme fails.

Question   (1) The observed order in dt of every scheme, against the exact solution of the same semi-discrete equation;
           (2) the observed order in dx, against the exact spectral solution of (22); (3) from a rough start, the error
           of the whole path with steps theta / lambda(t), and with uniform steps; (4) the wrong winner: Crank-Nicolson
           beyond dt = 2 / sqrt(m_1 m_N), which the package refuses, beside Pade(0,2) with the same step.
Command    python experiments/pde_convergence.py
Minutes    less than 1 on a CPU core; --smoke: seconds
Result     results/pde_convergence.json, and (4) as results/pde_convergence.png and .pdf
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import scipy
import typer
from matplotlib import colormaps
from matplotlib.figure import Figure

from diffmath import __version__
from diffmath._files import save_figure, write_json
from diffmath.domains.box import Floats
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.norms import as_norm
from diffmath.pde.schemes import SCHEMES
from diffmath.pde.stepping import integrate

HERE = Path(__file__).parent

MODES = {1: 0.4, 2: 0.7, 3: -0.2}  # the smooth start
CELLS_IN_TIME, T_END = 16, 0.05
STEPS = {"euler": 32, "rk4": 24}  # the longest step of each, below its bound; 8 for the others
ROUND_OFF = 1e-12  # errors below say nothing about orders

SDIRK_GAMMA = 1 - 1 / math.sqrt(2)
AMPLIFICATION = {name: scheme.amplification for name, scheme in SCHEMES.items()} | {
    # Both are the L-stable (1 - a z) / (1 + g z)^2 of order 2, with a = 1 - 2 g.
    "SDIRK2 and TR-BDF2": lambda z: (1 - (1 - 2 * SDIRK_GAMMA) * z) / (1 + SDIRK_GAMMA * z) ** 2
}


def multiplier(domain: Box, u: Floats) -> float:
    """The multiplier of eq. (22) with the difference Laplacian."""
    return float(as_norm("gradient").multiplier(domain.discrete, domain.discrete.to_modes(u)))


def start(domain: Box) -> Floats:
    """The smooth initial condition: in several dimensions its modes are products."""
    one_axis = [sum(a * math.sqrt(2) * np.cos(k * math.pi * x) for k, a in MODES.items()) for x in domain.coordinates]
    u: Floats = np.asarray(one_axis[0])
    for factor in one_axis[1:]:
        u = np.multiply.outer(u, factor)
    return u


def semi_discrete(domain: Box, u_0: Floats, t: float) -> Floats:
    """The exact solution of the difference equations: as the spectral one, with their own eigenvalues m."""
    m = domain.discrete_eigenvalues
    c = domain.to_modes(u_0)
    c.flat[0] = 0
    b = c * np.exp(-(m - m.ravel()[1:].min()) * t)
    return domain.to_grid(b * math.sqrt((m * c**2).sum() / (m * b**2).sum()))


def distance(u: Floats, exact: Floats) -> float:
    """The relative L2 error."""
    return float(np.linalg.norm(u - exact) / np.linalg.norm(exact))


def orders(sizes: list[float], errors: list[float]) -> list[float | None]:
    """Between neighbours, the exponent p of error = c size^p; None where the error is rounding."""
    pairs = zip(sizes, sizes[1:], errors, errors[1:], strict=False)
    return [round(math.log(a / b) / math.log(h / k), 4) if b > ROUND_OFF else None for h, k, a, b in pairs]


def convergence(sizes: list[float], errors: list[float], expected: int) -> dict[str, Any]:
    """A row of the tables: the order is that of the two smallest sizes above rounding."""
    observed = orders(sizes, errors)
    last = [p for p in observed if p is not None][-1]
    return {
        "expected": expected,
        "order": last,
        "within 0.1": abs(last - expected) < 0.1,
        "orders": observed,
        "sizes": sizes,
        "errors": [float(f"{e:.4g}") for e in errors],
    }


def in_time(halvings: int) -> dict[str, Any]:
    """Orders in dt, against the semi-discrete solution."""
    domain = Box(shape=(CELLS_IN_TIME,))
    u_0 = start(domain)
    exact = semi_discrete(domain, u_0, T_END)
    table = {}
    for name, scheme in SCHEMES.items():
        counts = [STEPS.get(name, 8) * 2**i for i in range(halvings + 1)]
        runs = [integrate(domain, u_0, [T_END], integrator=name, dt=T_END / n).states for n in counts]
        errors = [distance(states[0], exact) for states in runs]
        table[name] = convergence([T_END / n for n in counts], errors, scheme.order)
    return {
        "against": "the exact solution of the semi-discrete equations",
        "cells": CELLS_IN_TIME,
        "t": T_END,
        "schemes": table,
    }


def in_space(counts: list[int]) -> dict[str, Any]:
    """Orders in dx, against the spectral solution: with exact time, in 1-D and 2-D, and with dt proportional to dx."""
    table = {}
    for name, shapes in (("1-D", [(n,) for n in counts]), ("2-D", [(n, n) for n in counts[: max(3, len(counts) - 2)]])):
        own, same = [], []
        for shape in shapes:
            domain = Box(shape=shape)
            u_0 = start(domain)
            exact = RenormalizedFlow(domain).evolve(u_0, T_END)[0]
            u = semi_discrete(domain, u_0, T_END)
            own.append(distance(u, exact))
            m, c = domain.discrete_eigenvalues, domain.to_modes(u)
            ratio = (domain.eigenvalues * domain.to_modes(exact) ** 2).sum() / (m * c**2).sum()
            same.append(distance(u * math.sqrt(ratio), exact))
        dx = [1 / shape[0] for shape in shapes]
        table[f"{name}, time exact, each its own C"] = convergence(dx, own, 2)
        table[f"{name}, time exact, one C"] = convergence(dx, same, 2)
    errors = []
    for n in counts:
        flow = RenormalizedFlow(Box(shape=(n,)))
        u_0 = start(flow.domain)
        exact = flow.evolve(u_0, T_END)[0]
        ds = flow.solve(u_0, T_END, "finite-difference", integrator="pade02", dt=T_END / n)
        errors.append(distance(ds.u.values[0], exact))
    table["1-D, pade02 with dt = 0.05 dx"] = convergence([1 / n for n in counts], errors, 2)
    return {"against": "the exact spectral solution of (22)", "t": T_END, "cells": counts, "discretisations": table}


def rough_start(n_cells: int, factors: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Steps of theta / lambda(t) and uniform steps, from 64 modes of about equal energy."""
    domain = Box(shape=(n_cells,))
    modes = np.zeros(n_cells)
    n_modes = min(64, n_cells // 2)
    modes[1 : n_modes + 1] = np.random.default_rng(seed).standard_normal(n_modes) / np.arange(1, n_modes + 1)
    u_0 = domain.to_grid(modes)
    times = np.geomspace(1e-6, 0.5, 25)

    def path_error(states: Floats, moments: Floats) -> float:
        return max(distance(u, semi_discrete(domain, u_0, t)) for u, t in zip(states, moments.tolist(), strict=True))

    rows = []
    for inverse in (4, 8, 16, 32, 64):
        run = integrate(domain, u_0, times, theta=1 / inverse)
        once = integrate(domain, u_0, [times[-1]], theta=1 / inverse)
        rows.append(
            {
                "steps": f"theta = 1/{inverse}",
                "n_steps": run.info["n_steps"],
                "path error": path_error(run.states, times),
                "end error": distance(run.states[-1], semi_discrete(domain, u_0, times[-1])),
                "n_steps, one output time": once.info["n_steps"],
                "end error, one output time": distance(once.states[0], semi_discrete(domain, u_0, times[-1])),
            }
        )
    base = next(row["n_steps"] for row in rows if row["steps"] == "theta = 1/16")
    for factor in factors:
        # At all its own times: an output time between two steps would shorten a step, so that it is uniform no more.
        n = base * factor
        moments = times[-1] * np.arange(1, n + 1) / n
        run = integrate(domain, u_0, moments, dt=times[-1] / n)
        rows.append(
            {
                "steps": f"uniform, {factor} times as many as theta = 1/16",
                "n_steps": run.info["n_steps"],
                "path error": path_error(run.states, moments),
                "end error": distance(run.states[-1], semi_discrete(domain, u_0, times[-1])),
            }
        )
    return {
        "integrator": "pade02",
        "against": "the exact solution of the semi-discrete equations",
        "path error": "the largest relative L2 error over all output times (theta: 25 from 1e-6 to 0.5, evenly spaced"
        " in the logarithm; uniform: after every step)",
        "cells": n_cells,
        "modes": n_modes,
        "seed": seed,
        "runs": rows,
    }


def damp(domain: Box, u: Floats, factors: Floats, n_steps: int) -> Floats:
    """A scheme by its amplification factors, which is exact for the difference Laplacian; rescaled after each step."""
    m, states = domain.discrete_eigenvalues, [u]
    for _ in range(n_steps):
        b = factors * domain.to_modes(states[-1])
        b.flat[0] = 0
        states.append(domain.to_grid(b / math.sqrt((m * b**2).sum())))
    return np.array(states)


def share(domain: Box, u: Floats, k: int) -> float:
    """The share of mode k in the discrete energy."""
    p = domain.discrete_eigenvalues * domain.to_modes(u) ** 2
    return float(p[k] / p.sum())


def wrong_winner(n_cells: int, times_bound: float, n_steps: int, n_slow: int, seed: int) -> tuple[dict[str, Any], Any]:
    """Crank-Nicolson beyond its bound beside Pade(0,2); and each bounded scheme 2 % before and beyond its own."""
    domain = Box(shape=(n_cells,))
    m = domain.discrete_eigenvalues
    u_0 = np.random.default_rng(seed).standard_normal(n_cells)
    u_0 -= u_0.mean()
    u_0 /= math.sqrt((m * domain.to_modes(u_0) ** 2).sum())
    bound = 2 / math.sqrt(m[1] * m[-1])
    dt = times_bound * bound
    try:
        integrate(domain, u_0, [dt], integrator="crank-nicolson", dt=dt)
        refused = "no"
    except ValueError as error:
        refused = str(error)
    moments = dt * np.arange(n_steps + 1)
    paths = {
        "crank-nicolson": damp(domain, u_0, AMPLIFICATION["crank-nicolson"](m * dt), n_steps),
        "pade02": integrate(domain, u_0, moments, integrator="pade02", dt=dt).states,
    }
    z = np.geomspace(1e-4, 1e5, 200_001)
    monotone = {name: bool((np.diff(np.abs(R(z))) < 0).all()) for name, R in AMPLIFICATION.items()}
    flips = {}
    both = domain.to_grid(np.where(np.isin(np.arange(n_cells), [1, n_cells - 1]), 1 / np.sqrt(np.maximum(m, 1)), 0))
    for name, scheme in SCHEMES.items():
        if monotone[name]:
            continue
        limit, ends = scheme.bound_on(domain.discrete), {}
        for factor in (0.98, 1.02):
            u = damp(domain, both, scheme.amplification(m * factor * limit), n_slow)[-1]
            ends[f"at {factor} of it"] = f"mode {1 if share(domain, u, 1) > 0.99 else n_cells - 1} wins"
        flips[name] = {"bound on dt": limit} | ends
    late = np.abs(AMPLIFICATION["SDIRK2 and TR-BDF2"](z))
    peak = 1 / SDIRK_GAMMA + 2 / (1 - 2 * SDIRK_GAMMA)  # where |R| is largest again after its zero
    height = abs(AMPLIFICATION["SDIRK2 and TR-BDF2"](peak))
    report = {
        "cells": n_cells,
        "dt": dt,
        "bound 2 / sqrt(m_1 m_N)": bound,
        "package refuses": refused,
        "n_steps": n_steps,
        "seed": seed,
        "end": {
            name: {
                "share of mode 1": share(domain, path[-1], 1),
                f"share of mode {n_cells - 1}": share(domain, path[-1], n_cells - 1),
                "multiplier": multiplier(domain, path[-1]),
            }
            for name, path in paths.items()
        },
        "m_1": float(m[1]),
        "m_N": float(m[-1]),
        "flips": flips,
        "|R| falls monotonically": monotone,
        "SDIRK2 and TR-BDF2 may pick a wrong mode for m_1 dt from": round(float(z[late < height][0]), 4),
        "SDIRK2 and TR-BDF2 may pick a wrong mode for m_1 dt to": round(peak, 4),
    }
    return report, (domain, dt, bound, paths)


def draw(domain: Box, dt: float, bound: float, paths: dict[str, Floats]) -> Figure:
    """Left the two solutions, right why: the amplification factors, and the multiplier after each step."""
    figure = Figure(figsize=(9.6, 6.2), layout="constrained")
    axes = figure.subplot_mosaic([["crank-nicolson", "R"], ["pade02", "lambda"]])
    colours = [colormaps["viridis"](v) for v in (0.85, 0.45, 0.0)]
    m, (x,) = domain.discrete_eigenvalues, domain.coordinates
    n_steps = len(paths["pade02"]) - 1
    titles = {
        "crank-nicolson": f"Crank-Nicolson, {dt / bound:.3g} times its bound: the highest wins",
        "pade02": "Padé(0,2), the same $dt$: the first mode wins",
    }
    for (name, path), early in zip(paths.items(), (10, 1), strict=True):
        ax = axes[name]
        styles = ((0, "-", 0.8), (early, "--", 1.2), (n_steps, ".-", 1.4))
        for (n, style, width), colour in zip(styles, colours, strict=True):
            label = f"after {n} step{'s' * (n > 1)}" if n else "$u_0$, noise"
            ax.plot(x, path[n], style, color=colour, lw=width, ms=5, label=label)
        ax.set(title=titles[name], xlabel="$x$ (units of $L$)", ylabel=r"$u$ (for $C = 1$)", xlim=(0, 1))
        ax.legend(fontsize=8)

    ax = axes["R"]
    z = np.geomspace(1e-2, 1e4, 4001)
    styles_of: dict[str, tuple[Any, float]] = {
        "euler": (":", 0.8),
        "rk4": ("--", 0.7),
        "backward-euler": ("-", 0.55),
        "pade02": ("-", 0.0),
        "crank-nicolson": ("-.", 0.25),
        "SDIRK2 and TR-BDF2": ((0, (5, 1, 1, 1, 1, 1)), 0.4),
    }
    for name, (style, shade) in styles_of.items():
        size = np.abs(AMPLIFICATION[name](z))
        falls = "" if (np.diff(size) < 0).all() else " *"
        ax.semilogx(z, size, ls=style, color=colormaps["viridis"](shade), lw=1.6, label=name + falls)
    for k, label, side in ((1, "$m_1 dt$", "right"), (-1, "$m_N dt$", "left")):
        ax.axvline(m[k] * dt, color="0.6", lw=0.8, zorder=0)
        ax.annotate(label, (m[k] * dt, 1.04), fontsize=9, ha=side, xytext=(-3 if side == "right" else 3, 0),
                    textcoords="offset points")  # fmt: skip
    ax.set(
        title=r"$|R(z)|$ (* not monotone)", xlabel=r"$z = m\, dt$", ylabel="$|R(z)|$", ylim=(0, 1.12), xlim=(1e-2, 1e4)
    )
    ax.legend(fontsize=8, loc="center right")

    ax = axes["lambda"]
    for (name, path), style, colour in zip(paths.items(), ("-.", "-"), (colours[1], colours[2]), strict=True):
        multipliers = [multiplier(domain, u) for u in path]
        ax.loglog(np.arange(n_steps + 1) + 1, multipliers, ls=style, color=colour, lw=1.6, label=name)
    for k, label in ((1, "$m_1$"), (-1, "$m_N$")):
        ax.axhline(m[k], color="0.6", lw=0.8, zorder=0)
        ax.annotate(label, (1.2, m[k]), xytext=(0, 4), textcoords="offset points", fontsize=9)
    ax.set(
        title="the multiplier",
        xlabel="1 + number of steps",
        ylabel=r"$\lambda$ (units of $L^{-2}$)",
        ylim=(m[1] / 2, m[-1] * 3),
    )
    ax.legend(fontsize=8, loc="center right")
    return figure


def main(
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    seed: int = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "pde_convergence.json"
    report: dict[str, Any] = {
        "order in dt": in_time(2 if smoke else 5),
        "order in dx": in_space([16, 32, 64] if smoke else [16, 32, 64, 128, 256, 512]),
        "rough start": rough_start(64, (1, 10), seed) if smoke else rough_start(512, (1, 10, 100), seed),
    }
    report["wrong winner"], picture = wrong_winner(16, 1.5, 2000, 2_000 if smoke else 20_000, seed)
    report |= {
        "versions": {"diffmath": __version__, "numpy": np.__version__, "scipy": scipy.__version__},
        "device": "cpu",
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
    }
    write_json(results, report)
    save_figure(draw(*picture), results, dpi=96)

    for title, key in (("order in dt", "schemes"), ("order in dx", "discretisations")):
        typer.echo(f"{title}, against {report[title]['against']}")
        for name, row in report[title][key].items():
            errors = f"{row['errors'][0]:.1e} .. {row['errors'][-1]:.1e}"
            typer.echo(f"  {name:36} {row['order']:7.4f} (expected {row['expected']}), errors {errors}")
    typer.echo("rough start, pade02")
    for row in report["rough start"]["runs"]:
        typer.echo(f"  {row['steps']:42} {row['n_steps']:6} steps, path error {row['path error']:.1e}")
    typer.echo(json.dumps(report["wrong winner"], indent=2, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
