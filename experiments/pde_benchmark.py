r"""What the exact solution of (22) costs: beside the DCTs it cannot avoid, beside other solvers, and at 4096 x 4096.

Question   (a) Seconds of `flow.evolve` (arrays) and of `flow.solve` (a Dataset with diagnostics) over those of one DCT
           of u_0 and one inverse DCT for each output time, each made in one call, by scipy's fastest (in place). Goal
           for `evolve`: at most 1.5 for batches and for single 1-D solves of 2048 points or more.
           (b) Error, energy drift and seconds of py-pde and of scipy's BDF on (22), for a smooth, a noisy and a step
           start. Goals: 1,000 times the exact solver's time with py-pde's stepper reused, 10,000 times cold, at a
           larger error. (Cold is py-pde's first call, with its compilation; the exact solver's has none to do.)
           (c) Seconds and peak memory of a 4096 x 4096 solve at three times. Goal: below 8 GB.
Command    python experiments/pde_benchmark.py [--parts abc]     (b) needs the extra "bench", else it is skipped
Minutes    about 22 on one idle CPU core, most of them py-pde's; --smoke: seconds
Result     results/pde_benchmark.json, and the tables on the terminal; parts that are not run again keep their entries
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import resource
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import numpy.typing as npt
import scipy
import typer
from _solvers import (
    BDF_NAME,
    EXACT,
    PEERS,
    SETTINGS,
    SOLVERS,
    T_END,
    Prepare,
    Run,
    errors,
    start,
    warm_up_numba,
)
from scipy import fft

from diffmath import __version__
from diffmath._files import write_json
from diffmath.domains.box import Floats
from diffmath.pde import Box, RenormalizedFlow

HERE = Path(__file__).parent

# (a): batch or None for a single solve, cells, number of times; the goal is for batches, and from 2048 cells on
SINGLE = [(None, n_cells, n_times) for n_cells in (512, 2048, 8192, 32768) for n_times in (1, 10)]
OVERHEAD = [*SINGLE, (64, 512, 1), (64, 512, 3), (256, 2048, 1), (256, 2048, 3)]
TIMES = {1: [1e-2], 3: [1e-3, 1e-2, 1e-1], 10: np.geomspace(1e-5, 1e-1, 10).tolist()}
GOAL = 1.5

# (b)
CELLS = (128, 512, 2048)
ACCURATE = 1e-4  # raw error within which a setting of py-pde may be the best one
GOAL_REUSED, GOAL_COLD = 1_000, 10_000

# (c)
LARGE, LARGE_TIMES = (4096, 4096), (1e-6, 1e-4, 1e-2)
GOAL_GB = 8.0


# Timing


def medians(functions: dict[str, Callable[[], Any]], n_repeats: int) -> dict[str, float]:
    """Seconds of each function: the median of the repeats, which take turns, after a warm-up."""
    inner = {}
    for name, function in functions.items():
        function()
        begin = time.perf_counter()
        function()
        inner[name] = max(1, int(2e-3 / (time.perf_counter() - begin)))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(n_repeats):
        for name, function in functions.items():
            begin = time.perf_counter()
            for _ in range(inner[name]):
                function()
            seconds[name].append((time.perf_counter() - begin) / inner[name])
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in the block once the time is over (and Python code runs again)."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# (a) Over the DCTs


def dcts(domain: Box, u_0: Floats, solution: npt.NDArray[Any]) -> Callable[[], Any]:
    """One DCT of u_0 and one inverse for each output time, as one call each."""
    b = fft.dctn(solution, type=2, norm="ortho", axes=domain.axes)

    def both() -> None:
        if domain.ndim == 1:  # with less ado than dctn
            fft.dct(u_0, norm="ortho")
            fft.idct(b, norm="ortho", overwrite_x=True)
        else:
            fft.dctn(u_0, norm="ortho", axes=domain.axes)
            fft.idctn(b, norm="ortho", axes=domain.axes, overwrite_x=True)

    return both


def overhead(batch: int | None, n_cells: int, n_times: int, n_repeats: int, seed: int) -> dict[str, Any]:
    """One row of (a), from white noise."""
    domain = Box(shape=(n_cells,))
    flow, times = RenormalizedFlow(domain), TIMES[n_times]
    shape = (n_cells,) if batch is None else (batch, n_cells)
    u_0 = np.random.default_rng(seed).standard_normal(shape)
    seconds = medians(
        {
            "evolve": lambda: flow.evolve(u_0, times),
            "solve": lambda: flow.solve(u_0, times),
            "DCTs": dcts(domain, u_0, flow.evolve(u_0, times)),
        },
        n_repeats,
    )
    ratio = seconds["evolve"] / seconds["DCTs"]
    return {
        "batch": batch,
        "cells": n_cells,
        "times": n_times,
        "seconds": seconds,
        "evolve over DCTs": round(ratio, 3),
        "solve over DCTs": round(seconds["solve"] / seconds["DCTs"], 3),
        "goal 1.5 reached": ratio <= GOAL if batch or n_cells >= 2048 else None,
    }


# (b) Beside other solvers


def repeated(function: Callable[[], Any], n_repeats: int, limit: float) -> tuple[float, Any, int]:
    """The median of up to so many repeats, as long as a third of the limit is not used up; the first result."""
    seconds: list[float] = []
    result = None
    while len(seconds) < n_repeats and sum(seconds) < limit / 3:
        with at_most(limit):
            begin = time.perf_counter()
            value = function()
            seconds.append(time.perf_counter() - begin)
        result = value if result is None else result
    return statistics.median(seconds), result, len(seconds)


def contest(
    name: str, prepare: Prepare, domain: Box, u_0: Floats, n_repeats: int, limit: float, exact: float | None
) -> dict[str, Any]:
    """One row of (b)."""
    is_peer = name in PEERS
    row: dict[str, Any] = {"solver": name}
    kept: list[Run] = []

    def cold() -> Floats:
        kept[:] = [prepare(domain, u_0)]
        return kept[0]()

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if is_peer:
                row["cold, seconds"], u, row["cold repeats"] = repeated(cold, min(3, n_repeats), limit)
                row["reused, seconds"], _, row["repeats"] = repeated(kept[0], n_repeats, limit)
            else:
                u = cold()
                row["repeats"] = 5 * n_repeats if name == EXACT else n_repeats  # all ratios are over this one
                row["reused, seconds"] = medians({name: kept[0]}, row["repeats"])[name]
    except Exception as error:  # a solver of others may stop in its own way: that is its result
        row["stopped"] = f"{type(error).__name__}: {error}".strip()[:200]
        if "cold, seconds" not in row:
            return row
    row |= errors(domain, u_0, u, discrete=name not in (EXACT, "diffmath, exact, as a Dataset"))
    if exact is not None:
        for kind in ("reused", "cold"):
            if f"{kind}, seconds" in row:
                row[f"{kind} over exact"] = row[f"{kind}, seconds"] / exact
    return row


def verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The goals, against py-pde's BDF, and against whichever of its settings is the fastest, reused, and accurate."""
    exact = next(row for row in rows if row["solver"] == EXACT)
    done = [row for row in rows if row["solver"] in PEERS and "reused over exact" in row]
    accurate = sorted((row for row in done if row["raw error, own"] < ACCURATE), key=lambda row: row["reused, seconds"])
    rivals = {BDF_NAME: [row for row in done if row["solver"] == BDF_NAME], "the fastest accurate setting": accurate}
    return {
        name: {
            "solver": chosen[0]["solver"],
            "reused over exact": round(chosen[0]["reused over exact"]),
            "cold over exact": round(chosen[0]["cold over exact"]),
            "goal reached, reused": chosen[0]["reused over exact"] >= GOAL_REUSED,
            "goal reached, cold": chosen[0]["cold over exact"] >= GOAL_COLD,
            "the exact solver's error is smaller": exact["raw error, own"]
            < min(chosen[0][f"{kind} error, {of}"] for kind in ("raw", "shape") for of in ("own", "spectral")),
        }
        if chosen
        else None
        for name, chosen in rivals.items()
    }


def contests(solvers: dict[str, Prepare], starts: list[str], cells: tuple[int, ...], n_repeats: int, limit: float,
             seed: int) -> list[dict[str, Any]]:  # fmt: skip
    """All of (b)."""
    results = []
    for n_cells in cells:
        for name in starts:
            domain, u_0 = Box(shape=(n_cells,)), start(name, n_cells, seed)
            rows: list[dict[str, Any]] = []
            for solver, prepare in solvers.items():
                exact = rows[0]["reused, seconds"] if rows else None
                rows.append(contest(solver, prepare, domain, u_0, n_repeats, limit, exact))
            print_contest(name, n_cells, rows)
            results.append({"cells": n_cells, "start": name, "solvers": rows, "goals": verdict(rows)})
    return results


def print_contest(name: str, n_cells: int, rows: list[dict[str, Any]]) -> None:
    typer.echo(
        f"\n{name} start, N = {n_cells}, t = {T_END}: error against the exact solution of the own discretisation"
    )
    typer.echo(f"  {'':37} raw      shape    | spectral: raw, shape | drift    | reused s  /exact | cold s  /exact")
    for row in rows:
        if "raw error, own" not in row:
            typer.echo(f"  {row['solver']:37} {row['stopped']}")
            continue
        columns = [f"{row[key]:.1e}" for key in ("raw error, own", "shape error, own")]
        columns += ["|", *(f"{row[key]:.1e}" for key in ("raw error, spectral", "shape error, spectral"))]
        columns += ["|", f"{row['energy drift']:+.1e}", "|"]
        for kind in ("reused", "cold"):
            if f"{kind}, seconds" in row:
                columns += [f"{row[f'{kind}, seconds']:9.2e}", f"{row.get(f'{kind} over exact', 1):8.0f}", "|"]
        typer.echo(f"  {row['solver']:37} " + "  ".join(columns) + row.get("stopped", ""))


# (c) Large


def peak_gigabytes() -> float:
    """The largest memory this process has held."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1e9 if platform.system() == "Darwin" else 1e9 / 1024)  # bytes there, KiB elsewhere


def large(shape: tuple[int, ...], n_repeats: int, seed: int) -> dict[str, Any]:
    """(c): first the arrays alone, then the Dataset, as the peak of the memory only ever rises."""
    domain = Box(shape=shape)
    flow, times = RenormalizedFlow(domain), list(LARGE_TIMES)
    u_0 = np.random.default_rng(seed).standard_normal(shape)
    solution = flow.evolve(u_0, times)
    peak = {"evolve": peak_gigabytes()}
    seconds = medians(
        {"evolve": lambda: flow.evolve(u_0, times), "DCTs": dcts(domain, u_0, solution)},
        n_repeats,
    )
    del solution
    begin = time.perf_counter()
    ds = flow.solve(u_0, times)
    seconds["solve"] = time.perf_counter() - begin
    peak["solve"] = peak_gigabytes()
    return {
        "shape": shape,
        "times": times,
        "repeats": n_repeats,
        "seconds": seconds,
        "evolve over DCTs": round(seconds["evolve"] / seconds["DCTs"], 3),
        "solve over DCTs": round(seconds["solve"] / seconds["DCTs"], 3),
        "peak memory of the process, GB": {name: round(size, 2) for name, size in peak.items()},
        "goal 8 GB reached": peak["solve"] < GOAL_GB,
        "energy drift": float(abs(ds.energy / ds.energy[0] - 1).max()),
    }


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    information = Path("/proc/cpuinfo")
    names = (
        [line for line in information.read_text().splitlines() if "model name" in line] if information.exists() else []
    )
    return names[0].partition(":")[2].strip() if names else platform.machine()


def main(
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    parts: Annotated[str, typer.Option(help="Which of (a), (b), (c) to run.")] = "acb",
    repeats: Annotated[int, typer.Option(min=1, help="Of which the median is taken.")] = 15,
    time_limit: Annotated[float, typer.Option(help="Seconds for one run of a peer.")] = 60.0,
    seed: int = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "pde_benchmark.json"
    if not parts or set(parts) - set("abc"):
        raise typer.BadParameter(f"parts are among a, b, c; got {parts!r}", param_hint="--parts")
    os.environ |= {"NUMBA_NUM_THREADS": "1"} | ({"NUMBA_DISABLE_JIT": "1"} if smoke else {})  # read by its import
    report: dict[str, Any] = json.loads(results.read_text()) if results.exists() and not smoke else {}
    repeats = 3 if smoke else repeats
    sections = {"a": ("over the DCTs", part_a), "c": ("large", part_c), "b": ("beside other solvers", part_b)}
    with importlib.import_module("threadpoolctl").threadpool_limits(1):  # it comes with scikit-learn
        for part in [p for p in sections if p in parts]:
            name, run = sections[part]
            getloadavg = getattr(os, "getloadavg", lambda: ())  # Windows has none
            load = getloadavg()
            found = run(smoke, repeats, time_limit, seed)
            if found is None:
                continue
            report[name] = found | {
                "repeats": found.get("repeats", repeats),
                "seed": seed,
                "versions": {"diffmath": __version__, "numpy": np.__version__, "scipy": scipy.__version__},
                "device": "cpu",
                "processor": processor(),
                "threads": "1: BLAS and OpenMP by threadpoolctl, numba by NUMBA_NUM_THREADS, scipy.fft by its default",
                "load average at the start and the end": [round(x[0], 2) for x in (load, getloadavg()) if x],
            }
            write_json(results, report)


def part_a(smoke: bool, repeats: int, time_limit: float, seed: int) -> dict[str, Any]:
    """Over the DCTs."""
    typer.echo("(a) seconds over those of the DCTs\n   batch  cells  times   evolve    solve     DCTs, s")
    rows = []
    for batch, n_cells, n_times in [(None, 64, 1), (4, 64, 3)] if smoke else OVERHEAD:
        rows.append(row := overhead(batch, n_cells, n_times, repeats, seed))
        typer.echo(
            f"  {batch or 1:6} {n_cells:6} {n_times:6} {row['evolve over DCTs']:8.2f} {row['solve over DCTs']:8.2f}"
            f" {row['seconds']['DCTs']:11.2e}  "
            + {None: "", True: "reached", False: "goal 1.5 not reached"}[row["goal 1.5 reached"]]
        )
    return {"rows": rows}


def part_c(smoke: bool, repeats: int, time_limit: float, seed: int) -> dict[str, Any]:
    """Millions of unknowns."""
    found = large((64, 64) if smoke else LARGE, 3, seed)
    typer.echo("(c) " + json.dumps(found, indent=2))
    return found


def part_b(smoke: bool, repeats: int, time_limit: float, seed: int) -> dict[str, Any] | None:
    """Beside other solvers."""
    if importlib.util.find_spec("pde") is None:
        typer.echo('(b) py-pde is not installed (the extra "bench"): this part was left out')
        return None
    pde = importlib.import_module("pde")
    note = f"py-pde {pde.__version__}, numba {importlib.import_module('numba').__version__}"
    warm_up_numba()
    solvers = SOLVERS | (dict([list(PEERS.items())[-1]]) if smoke else PEERS)
    typer.echo(f"(b) {note}")
    starts = ["smooth"] if smoke else ["smooth", "noisy", "step"]
    found = contests(solvers, starts, (64,) if smoke else CELLS, repeats, time_limit, seed)
    for result in found:
        for name, goal in result["goals"].items():
            typer.echo(f"{result['start']:7} N = {result['cells']:5}, {name}: {json.dumps(goal)}")
    return {
        "peer": note,
        "t": T_END,
        "starts": "smooth: cos 3 pi x + 0.3 cos pi x + 0.1 cos 5 pi x; noisy: N(0, 1) at every point; step: cell"
        " averages of sign(x - 0.3); the mean removed",
        "errors": "relative L2 at t; own: against the exact solution of the solver's own discretisation (for"
        " finite differences the semi-discrete one), spectral: against the exact solution of (22) through the"
        " grid values; both in extended precision; shape: after scaling to the exact solution's C",
        "settings": SETTINGS,
        "time limit, seconds": time_limit,
        "results": found,
    }


if __name__ == "__main__":
    typer.run(main)
