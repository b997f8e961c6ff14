r"""The renormalised flow under noise: the steps' errors, the laws they tend to, and the way back.

Question   Are the steps of weak order 2, beside exponential Euler with rescaling, and right for stiff modes? Does mode
           1 keep a share of the energy as the modes become more, in one dimension and in two? Does the exact score
           bring two and three modes back to their initial law, and what if the steps are equal or the time too short?
           All but the paths of many modes is without sampling error: densities go through the steps by quadrature.
Command    python experiments/forced.py
Minutes    2 on a CPU core; --smoke: seconds
Result     results/forced.json: for each claim the value, the bound, and whether it holds
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import numpy.typing as npt
import torch
import typer

from diffmath._files import write_json
from diffmath.ddpm._environment import provenance
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.harmonics import Harmonics
from diffmath.pde.invariant import Bingham, circle_density, shares_on_a_cube
from diffmath.pde.reversal import SphereModel, graded_times
from diffmath.pde.stochastic import READINGS, ForcedFlow, step

HERE = Path(__file__).parent
Floats = npt.NDArray[np.float64]

MU, D = np.pi**2 * np.array([1.0, 4.0]), np.array([15.0, 4.0])  # two modes of the unit interval; C = 1
STEPS = (8e-3, 4e-3, 2e-3)
STIFFNESS = (0.01, 1.0, 10.0, 40.0)  # mu dt
COUNTS = (8, 32, 128, 256, 1024, 4096)  # numbers of modes
T, SHORT = 16.0, 0.5


def claim(value: float, bound: float, least: bool = False) -> dict[str, Any]:
    """A number, and whether it is at most its bound, or at least."""
    return {
        "value": value,
        "at least" if least else "at most": bound,
        "holds": value >= bound if least else value <= bound,
    }


Move = Callable[[Floats, Floats, npt.NDArray[np.bool_]], Floats]


def law_of(move: Move, harmonics: Harmonics) -> Floats:
    """The invariant law of a random step on the circle, in harmonics."""
    matrix = harmonics.advance(np.eye(len(harmonics.degrees)), move, 14)
    eigenvalues, vectors = np.linalg.eig(matrix)
    c = vectors[:, np.abs(eigenvalues - 1).argmin()].real
    law: Floats = c / (c @ harmonics.coefficients(np.ones(len(harmonics.weights))))
    return law


def ours(rates: Floats, dt: float) -> Move:
    """The step of the package."""
    noise = np.sqrt(D * dt)[:, None]
    return lambda z, xi, order: step(z, rates - rates.min(), dt, noise * xi, order)


def exponential_euler(dt: float) -> Move:
    """A step of the heat equation with noise, exact in each mode, and rescaling."""
    noise = np.sqrt(D * -np.expm1(-2 * MU * dt) / (2 * MU))[:, None]

    def move(z: Floats, xi: Floats, _: npt.NDArray[np.bool_]) -> Floats:
        y = z * np.exp(-MU * dt)[:, None] + noise * xi
        z = y / np.linalg.norm(y, axis=0)
        return z

    return move


def weak_errors() -> dict[str, Any]:
    """Errors of E y_2^2 under the invariant law, and of that law in total variation."""
    h, table = Harmonics(2, 24), {}
    theta = np.arctan2(h.points[1], h.points[0])
    for name, sign in READINGS.items():
        rates = MU + sign * D / 2
        exact = h.coefficients(circle_density(theta, rates, D))
        square = h.coefficients(h.points[1] ** 2)
        steps: dict[str, Callable[[float], Move]] = {name: lambda dt, rates=rates: ours(rates, dt)}  # type: ignore[misc]
        if name == "rescale":
            steps["exponential Euler with rescaling"] = exponential_euler
        for label, move in steps.items():
            laws = [law_of(move(dt), h) for dt in STEPS]
            errors = [abs(float((law - exact) @ square)) for law in laws]
            distance = float(h.weights @ np.abs((laws[-1] - exact) @ h.at_points)) / 2
            row: dict[str, Any] = {"dt": STEPS, "errors of E y_2^2": errors, "total variation": distance}
            if label == name:
                row["order is 2 but for"] = claim(abs(math.log2(errors[1] / errors[2]) - 2), 0.1)
                row["total variation at dt = 2e-3"] = claim(distance, 1e-3)
            table[label] = row
    return table


def stiff_ratios() -> dict[str, Any]:
    """The variance of a stiff mode under small noise over D / (2 m), by the linear recursion that a step is then."""
    dt, small, table = 1e-3, 1e-12, {}
    ahead, still = np.zeros(1, bool), np.zeros((2, 1))
    for x in STIFFNESS:

        def ratio(rate: float, x: float = x) -> float:
            rates = np.array([0.0, rate])
            decay = step(np.array([[1.0], [1e-7]]), rates, dt, still, ahead)[1, 0] / 1e-7
            push = step(np.array([[1.0], [0.0]]), rates, dt, np.array([[0.0], [math.sqrt(small * dt)]]), ahead)[1, 0]
            return float(push**2 / (1 - decay**2) / (small / (2 * x / dt)))

        mended = ratio(x / dt)
        plain = ratio(math.sinh(x) / dt)  # of which asinh makes x again
        table[f"mu dt = {x:g}"] = {"ratio": mended, "plain splitting": plain, "1 but for": claim(abs(mended - 1), 0.02)}
    return table


def paths(n_paths: int, n_steps: int, seed: int) -> dict[str, Any]:
    """Six modes against Bingham's law; the energy, and the time of a step, of 100 modes."""
    box = Box(7)
    forced = ForcedFlow(RenormalizedFlow(box), lambda mu: 5 / mu)
    ds = forced.solve(box.eigenfunction(1), [0.5, 0.75, 1.0, 1.25], dt=2e-3, n_paths=n_paths, C=2.0, rng=seed)
    moments = Bingham(2 * forced.rates(2.0) / 5).moments()
    error = float(np.abs(ds.energy_fraction.mean(("path", "time")).values[1:] - moments).max())
    box = Box(101)
    forced = ForcedFlow(RenormalizedFlow(box), lambda mu: 1 / mu)
    start = time.process_time()
    ds = forced.solve(box.eigenfunction(1), 1e-4 * n_steps, dt=1e-4, n_paths=300, C=1.0, rng=seed)
    spent = time.process_time() - start
    theta = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
    density = circle_density(theta, [1.0, 4.0], [1e-3, 1e-3])
    variance = float((density * np.sin(theta) ** 2).mean() * 2 * np.pi)
    return {
        "moments of six modes": claim(error, 4e-3),
        "energy is C but for": claim(float(np.abs(ds.energy - 1).max()), 2e-15),
        "nanoseconds for a step of a mode": spent / (n_steps * 300 * 100) * 1e9,
        "small noise: variance over D / (2 (m_2 - m_1)) is 1 but for": claim(abs(variance / (1e-3 / 6) - 1), 1e-3),
    }


def shares() -> dict[str, Any]:
    """The mean share of mode 1 for noise of variance q ~ 1 / mu."""
    rows: dict[str, Any] = {str(n): {f"{d}-D": float(shares_on_a_cube(n, d)[0]) for d in (1, 2)} for n in COUNTS}
    last, before = rows[str(COUNTS[-1])], rows[str(COUNTS[-2])]
    rows["1-D changes from 1,024 to 4,096 modes by"] = claim(abs(last["1-D"] - before["1-D"]), 1e-3)
    rows["2-D shrinks from 1,024 to 4,096 modes by the factor"] = claim(last["2-D"] / before["2-D"], 0.4)
    return rows


def on_the_circle(degree: int) -> SphereModel:
    """Two modes, and a law with two bumps."""

    def density(z: Floats) -> Floats:
        a, b = (np.cos(at) * z[0] + np.sin(at) * z[1] for at in (1, 4))
        p: Floats = np.exp(8 * a) + 0.6 * np.exp(20 * b - 12)
        return p

    return SphereModel(density, [1.0, 4.0], [2.0, 1.0], degree=degree)


def on_the_sphere(degree: int) -> SphereModel:
    """Three modes, and a law with two bumps; the invariant law is Bingham's."""

    def density(z: Floats) -> Floats:
        p: Floats = np.exp(4 * (0.6 * z[0] + 0.8 * z[2])) + 0.5 * np.exp(4 * (0.6 * z[1] - 0.8 * z[0]))
        return p

    return SphereModel(density, [1.0, 2.0, 4.0], [2.0, 2.0, 2.0], degree=degree)


def backwards(model: SphereModel, ode: int, sde: int) -> dict[str, Any]:
    """The total variation to the initial law of what comes back, and what goes wrong."""
    return {
        f"ODE, {ode} graded steps": claim(model.total_variation(graded_times(T, ode), "ode"), 0.01),
        f"SDE, {sde} graded steps": claim(model.total_variation(graded_times(T, sde), "sde"), 0.03),
        f"ODE, {ode} equal steps": model.total_variation(graded_times(T, ode, power=1.0), "ode"),
        f"SDE, {sde} equal steps": model.total_variation(graded_times(T, sde, power=1.0), "sde"),
        f"ODE, {ode} graded steps, T = {SHORT}": claim(
            model.total_variation(graded_times(SHORT, ode), "ode"), 0.03, least=True
        ),
    }


def holds(report: Any) -> list[bool]:
    """Whether each claim in a report holds."""
    if not isinstance(report, dict):
        return []
    return [bool(report["holds"])] if "holds" in report else [h for part in report.values() for h in holds(part)]


def main(
    seed: int = 0,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "forced.json"
    ode, sde = (20, 4) if smoke else (200, 400)
    report: dict[str, Any] = {
        "weak errors": weak_errors(),
        "stiff modes": stiff_ratios(),
        "paths": paths(20 if smoke else 1500, 10 if smoke else 300, seed),
        "share of mode 1": shares(),
        "two modes": backwards(on_the_circle(24 if smoke else 48), ode, sde),
        "three modes": backwards(on_the_sphere(11 if smoke else 14), ode, sde),
    }
    verdicts = holds(report)
    report |= {"claims": len(verdicts), "claims that hold": sum(verdicts), "seed": seed}
    write_json(results, report | provenance(torch.device("cpu")))
    for name, part in report.items():
        typer.echo(f"{name}: {part}" if not isinstance(part, dict) else name)
        for key, value in part.items() if isinstance(part, dict) else ():
            typer.echo(f"    {key}: {value}")
    if not smoke and not all(verdicts):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
