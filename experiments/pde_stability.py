"""Eigenmode stability of the steady states, eq. (23), as every solver sees it, and the cascade it implies.

Question   Does a perturbation of steady state k by mode j grow at the rate mu_k - mu_j, eq. (23): in the eigenvalues of
           the linearised equation (22), and as measured with each solver? And does mode 5, perturbed a little by mode 2
           and far less by mode 1, pass through mode 2 on its way to mode 1?
Command    python experiments/pde_stability.py
Minutes    less than 1 on a CPU core; --smoke: seconds
Result     results/pde_stability.json, and .png and .pdf with the same name
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
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure

from diffmath import __version__
from diffmath._files import save_figure, write_json
from diffmath.pde import Box, RenormalizedFlow

HERE = Path(__file__).parent
N_CELLS = 64
CASCADE = {5: 1.0, 2: 1e-4, 1: 1e-8}
CASCADE_TIMES = np.linspace(0, 0.5, 501)
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")


def deviation(values: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """Relative, or to the largest reference where that is zero; NaN where there is nothing to measure."""
    scale = abs(reference)
    return abs(values - reference) / scale.where(scale > 0, float(scale.max()))


def others(ds: xr.Dataset, k: int) -> xr.Dataset:
    """Without j = k, where the eigenvalue of the Jacobian is 2 mu_k, across the constraint."""
    return ds.isel(mode=(ds.j_x != k).values)


def worst(ds: dict[int, xr.Dataset]) -> dict[str, Any]:
    """The largest deviations, over all k and j."""

    def largest(value: str, reference: str) -> float:
        return max(float(deviation(others(d, k)[value], others(d, k)[reference]).max()) for k, d in ds.items())

    solvers = ds[1].solver.values.tolist()
    measured = {
        name: max(
            float(deviation(others(d, k).measured, others(d, k).expected).sel(solver=name).max()) for k, d in ds.items()
        )
        for name in solvers
    }
    return {
        "Jacobian against theory": largest("jacobian", "theory"),
        "Jacobian of the differences against their theory": largest("jacobian_discrete", "theory_discrete"),
        "measured against expected": measured,
        "goals": {"Jacobian": 1e-8, "measured": 1e-3},
        "reached": {
            "Jacobian": max(largest("jacobian", "theory"), largest("jacobian_discrete", "theory_discrete")) < 1e-8,
            "measured": max(measured.values()) < 1e-3,
        },
    }


def table(ds: xr.Dataset, k: int) -> list[dict[str, Any]]:
    """One row for each perturbing mode."""
    return [
        {
            "j": int(d.j_x),
            "theory": float(d.theory),
            "theory of the differences": float(d.theory_discrete),
            "measured": {str(s): float(d.measured.sel(solver=s)) for s in d.solver.values},
            "verdict": str(d.verdict.values),
        }
        for d in (ds.isel(mode=i) for i in range(ds.sizes["mode"]))
        if int(d.j_x) != k
    ]


def leads(cascade: xr.Dataset) -> list[dict[str, Any]]:
    """Which mode holds most of the energy, and from which time on."""
    modes = np.array(list(CASCADE))
    first = modes[cascade.energy_fraction.sel(k_x=modes).argmax("k_x").values]
    starts = [0, *(np.flatnonzero(np.diff(first)) + 1)]
    return [
        {
            "mode": int(first[i]),
            "from t": float(cascade.time[i]),
            "multiplier over mu_k, at the closest": float(
                cascade.multiplier[np.abs(cascade.multiplier.values - (first[i] * math.pi) ** 2).argmin()]
                / (first[i] * math.pi) ** 2
            ),
        }
        for i in starts
    ]


def draw(ds: dict[int, xr.Dataset], cascade: xr.Dataset) -> Figure:
    """Left the rates and their deviations, right the cascade."""
    figure = Figure(figsize=(10.4, 7.2), layout="constrained")
    axes = figure.subplot_mosaic([["rates", "p"], ["deviations", "lambda"]], height_ratios=[1.25, 1])
    viridis = colormaps["viridis"]
    solvers = ds[max(ds)].solver.values.tolist()
    shift = np.linspace(-0.3, 0.3, len(solvers))  # side by side, as they would lie on top of one another
    colours = [viridis(0.9 * i / max(1, len(solvers) - 1)) for i in range(len(solvers))]

    ax = axes["rates"]
    for k, d in ds.items():
        j = d.j_x.values
        ax.plot(j, d.theory / math.pi**2, "-", color="0.55", lw=1, zorder=0)
        ax.annotate(f"$k = {k}$", (j[-1], float(d.theory[-1]) / math.pi**2), xytext=(0, -14), ha="center",
                    textcoords="offset points", fontsize=9)  # fmt: skip
        for i, name in enumerate(solvers):
            rates = d.measured.sel(solver=name) / math.pi**2
            ax.plot(j + shift[i], rates, MARKERS[i], ms=3.5, color=colours[i], label=name if k == max(ds) else None)
    ax.axhline(0, color="k", lw=0.6)
    ax.set(
        title=r"growth of mode $j$ on state $k$: $\mu_k - \mu_j$ and measured",
        xlabel="perturbing mode $j$ (solvers side by side)",
        ylabel=r"rate (units of $\pi^2 / L^2$)",
        xlim=(-0.7, 2 * max(ds) + 0.7),
        ylim=(-95, 32),
    )
    ax.legend(fontsize=8, ncols=1, loc="lower left")

    ax = axes["deviations"]
    for i, name in enumerate(solvers):
        for k, d in ds.items():
            rest = others(d, k)
            size = deviation(rest.measured, rest.expected).sel(solver=name)
            ax.semilogy(rest.j_x + shift[i], np.maximum(size, 1e-16), MARKERS[i], ms=3.5, color=colours[i])
    for goal in (1e-3, 1e-8):
        ax.axhline(goal, color="k", ls=":", lw=1)
    jacobians = [float(deviation(others(d, k).jacobian, others(d, k).theory).max()) for k, d in ds.items()]
    ax.axhline(max(jacobians), color="0.4", ls="--", lw=1)
    ax.annotate("largest deviation of the Jacobian's eigenvalues", (0, max(jacobians)), xytext=(0, 3),
                textcoords="offset points", fontsize=8)  # fmt: skip
    ax.set(
        title="relative deviations from theory, all $k$ (dotted: goals)",
        xlabel="perturbing mode $j$",
        ylabel="relative deviation",
        xlim=(-0.7, 2 * max(ds) + 0.7),
        ylim=(1e-16, 1e-2),
    )

    ax = axes["p"]
    for (k, a), style, shade in zip(CASCADE.items(), ("-", "--", "-."), (0.0, 0.45, 0.8), strict=True):
        label = f"$p_{k}$, from amplitude {a:g}"
        ax.plot(cascade.time, cascade.energy_fraction.sel(k_x=k), ls=style, lw=1.8, color=viridis(shade), label=label)
    ax.set(
        title="the cascade from mode 5 by mode 2 to mode 1",
        ylabel="energy fraction $p_k(t)$",
        xlabel="time $t$ (units of $L^2$)",
        xlim=(0, float(cascade.time[-1])),
    )
    ax.legend(fontsize=8, loc="center", bbox_to_anchor=(0.36, 0.5))

    ax = axes["lambda"]
    ax.semilogy(cascade.time, cascade.multiplier, color=viridis(0.0), lw=1.8)
    for k in CASCADE:
        ax.axhline((k * math.pi) ** 2, color="k", ls=":", lw=1)
        label = rf"${k * k if k > 1 else ''}\pi^2$"
        ax.annotate(label, (0.49, (k * math.pi) ** 2), xytext=(0, 3), textcoords="offset points", ha="right")
    ax.set(
        xlabel="time $t$ (units of $L^2$)",
        ylabel=r"multiplier $\lambda(t)$ (units of $L^{-2}$)",
        xlim=(0, float(cascade.time[-1])),
        ylim=(7, 400),
    )
    return figure


def main(
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "pde_stability.json"
    flow = RenormalizedFlow(Box(shape=(16 if smoke else N_CELLS,)))
    options: dict[str, Any] = {"solvers": ["spectral", "backward-euler", "pade02"]} if smoke else {}
    ds = {k: flow.check_stability(k, **options) for k in ((1, 2) if smoke else (1, 2, 3, 4, 5))}
    cascade = flow.solve_modes(CASCADE, CASCADE_TIMES)
    report = {
        "stability": worst(ds),
        "cells": flow.domain.shape[0],
        "perturbation": ds[1].attrs["perturbation"],
        "rates": {f"k = {k}": table(d, k) for k, d in ds.items()},
        "cascade": {
            "amplitudes": {str(k): a for k, a in CASCADE.items()},
            "leading mode": leads(cascade),
            "energy drift": float(abs(cascade.energy / cascade.energy[0] - 1).max()),
            "largest rise of the multiplier": max(0.0, float(cascade.multiplier.diff("time").max())),
        },
        "versions": {"diffmath": __version__, "numpy": np.__version__, "scipy": scipy.__version__},
        "device": "cpu",
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
    }
    write_json(results, report)
    save_figure(draw(ds, cascade), results, dpi=90)
    typer.echo(json.dumps({k: report[k] for k in ("stability", "cascade")}, indent=2, ensure_ascii=False))
    for k, d in ds.items():
        verdicts = zip(d.j_x.values.tolist(), d.verdict.values.tolist(), strict=True)
        typer.echo(f"k = {k}: " + ", ".join(f"{j} {verdict}" for j, verdict in verdicts))


if __name__ == "__main__":
    typer.run(main)
