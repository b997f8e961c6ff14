r"""Algorithm 2 with exact denoisers: what discretisation costs, and the memorisation of a perfect minimiser.

The network is replaced by the conditional mean of the noise, E[eps | x_t], in closed form: what is left to see is
Algorithm 2 itself, eqs. (18), (19). Nothing in (1) and (2) is drawn at random, but for one control of the quadrature.

Question   (1) For data N(0.3, s^2), what is the variance of the output over s^2 (an exact recursion, as the output is
           Gaussian), and is the bias first order in 1/T when the betas scale with 1/T? (Up to a factor log T.) (2) For
           a mixture of Gaussians, how far is the output's law from the data's (quadrature), against the number of
           steps? (3) For 1,000 MNIST digits as the data, how far are the samples from a training digit (section 6:
           memorisation)?
Command    python experiments/exact_denoisers.py
Minutes    about 4 on a CPU core; --smoke: seconds
Result     results/exact_denoisers.json, and the picture as results/exact_denoisers.png and .pdf; exit status 1 if a
           control does not hold
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Annotated, Any, Optional

import matplotlib
import numpy as np
import scipy.integrate
import scipy.interpolate
import scipy.special
import scipy.stats
import torch
import typer
from _laws import (
    Floats,
    Law,
    between_gaussians,
    denoiser_of,
    distances,
    jumps,
    limit_law,
    mean_step,
    mixture_at,
    output_law,
)
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtr

from diffmath import __version__
from diffmath._files import save_figure, write_json
from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import sample
from diffmath.ddpm.denoisers import gaussian_denoiser, points_denoiser
from diffmath.schedule import VarianceSchedule

HERE = Path(__file__).parent

T = 500
MEAN, DEVIATIONS = 0.3, (0.05, 0.1, 0.2, 0.5, 1.0)
MEASURED_BEFORE = (0.832, 0.909, 0.952, 0.979, 0.988)  # variance ratios by another program, to three decimals
MIXTURE = ((0.5, -0.9, 0.1), (0.3, -0.2, 0.2), (0.2, 0.8, 0.05))  # weights, means, standard deviations


def scaled(n_steps: int) -> VarianceSchedule:
    """The paper's linear schedule with the betas scaled by 500 / T: alpha_bar_T hardly depends on T."""
    return VarianceSchedule.linear(n_steps, 1e-4 * T / n_steps, 0.02 * T / n_steps)


# (1) A Gaussian


def moments(schedule: VarianceSchedule, n_steps: int | None, deviations: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Mean and variance of the output for data N(0.3, s^2), one of each for each s.

    The step is affine, x -> a + b x, so that the mean becomes a + b mean and the variance b^2 variance + (15).
    """
    denoise = gaussian_denoiser(schedule, MEAN, torch.tensor(deviations, dtype=torch.float64) ** 2)
    mean, variance = np.zeros(len(deviations)), np.ones(len(deviations))  # x_T ~ N(0, 1)
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, len(deviations))
    for t, s in jumps(schedule, n_steps):
        a, at_one = mean_step(schedule, denoise, ends, t, s).numpy()
        b = at_one - a
        mean, variance = a + b * mean, b**2 * variance + schedule.posterior_variance(t, s)
    return mean, variance


def gaussian_row(schedule: VarianceSchedule, n_steps: int | None) -> dict[str, Any]:
    """A row of the table: the output's variance over the data's, and its mean, for each standard deviation s."""
    mean, variance = moments(schedule, n_steps, DEVIATIONS)
    return {
        "T": schedule.n_steps,
        "steps": n_steps or schedule.n_steps,
        "alpha_bar_T": float(schedule.alpha_bar[-1]),
        "variance / s^2": (variance / np.square(DEVIATIONS)).tolist(),
        "mean": mean.tolist(),
    }


def discretisation(counts: list[int], all_T: list[int]) -> dict[str, Any]:
    """The bias of the variance: the paper's T with fewer of its times, and other T with all of theirs."""
    paper = [gaussian_row(scaled(T), None if n == T else n) for n in counts]
    rescaled = [gaussian_row(scaled(n), None) for n in all_T]
    ratios = gaussian_row(scaled(T), None)["variance / s^2"]
    # From N(0, 1) in place of the law at T, the exact backward process too would return another variance: subtract it.
    v, ab = np.square(DEVIATIONS), np.array([row["alpha_bar_T"] for row in rescaled])[:, None]
    start = ab**2 * v * (1 - v) / (1 - ab + ab * v) ** 2
    bias = 1 + start - np.array([row["variance / s^2"] for row in rescaled])
    log_T = np.log(all_T)[:, None]
    orders = np.diff(np.log(bias), axis=0) / -np.diff(log_T, axis=0)
    # (15) is less than beta_t by beta_t^2 / (1 - alpha_bar_t), which is about beta_1 / t for small t, where beta_t is
    # beta_1: they add up to beta_1 log T. As T beta_1 = 0.05, T times the bias grows like (0.05 / s^2) log T.
    growth = np.diff(all_T * bias.T).T / np.diff(log_T, axis=0) * v
    return {
        "data": f"N({MEAN}, s^2)",
        "s": list(DEVIATIONS),
        "times of T = 500": paper,
        "betas scaled with 1/T, all steps": rescaled,
        "part of variance / s^2 that is due to x_T ~ N(0, 1), last T": start[-1].tolist(),
        "bias": "1 + that part - variance / s^2, for the betas scaled with 1/T",
        "order of the bias in 1/T, between neighbours": orders.round(4).tolist(),
        "order, of the last two T": orders[-1].round(4).tolist(),
        "T bias at the last T": (all_T[-1] * bias[-1]).round(3).tolist(),
        "growth of T bias with log T, times s^2, between neighbours": growth.round(4).tolist(),
        "expected growth": 1e-4 * T,
        "check": {
            "measured before, T = 500": list(MEASURED_BEFORE),
            "agrees to three decimals": bool(np.allclose(ratios, MEASURED_BEFORE, rtol=0, atol=5.01e-4)),
        },
    }


# (2) A mixture


def drawn(law: Law, n: int, n_steps: int, n_samples: int, seed: int) -> dict[str, Any]:
    """A control of the quadrature by `sample`: Kolmogorov and Smirnov's test of its samples against the law."""
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn((n_samples, 1), generator=generator, dtype=torch.float64)
    x = sample(denoiser_of(scaled(n), MIXTURE), scaled(n), x_T, n_steps=n_steps, generator=generator, batch_size=10_000)
    test = scipy.stats.kstest(
        x[:, 0].numpy(), scipy.interpolate.CubicHermiteSpline(law.x, law.distribution, law.density)
    )
    return {
        "T": n,
        "steps": n_steps,
        "samples": n_samples,
        "statistic": float(test.statistic),
        "p-value": float(test.pvalue),
    }


def mixture_table(
    runs: list[tuple[int, int]], refine: float, n_samples: int, seed: int
) -> tuple[dict[str, Any], dict[tuple[int, int], Law]]:
    """Distances of the output's law from the data's for some (T, steps), and the controls of the quadrature."""
    rows, laws = [], {}
    for n, n_steps in runs:
        law, mass = output_law(scaled(n), n_steps, MIXTURE, refine)
        rows.append({"T": n, "steps": n_steps} | distances(law, MIXTURE) | {"largest |mass - 1|": mass})
        laws[n, n_steps] = law
    controls = []
    most = max(run for run in runs if run[0] == T)
    for s, n, n_steps in ((0.05, *runs[0]), (0.2, *runs[0]), (0.2, *most)):
        law, _ = output_law(scaled(n), n_steps, ((1.0, MEAN, s),), refine)
        (mean,), (variance,) = moments(scaled(n), n_steps, (s,))
        exact = ndtr((law.x - mean) / math.sqrt(variance))
        got_mean, got_variance = law.moments()
        data, output = scipy.stats.norm(MEAN, s), scipy.stats.norm(mean, math.sqrt(variance))
        variation, found = between_gaussians(output, data), distances(law, ((1.0, MEAN, s),))["total variation"]
        controls.append(
            {
                "s": s,
                "T": n,
                "steps": n_steps,
                "error of the mean": float(abs(got_mean - mean)),
                "relative error of the variance": float(abs(got_variance / variance - 1)),
                "largest error of the distribution function": float(np.abs(law.distribution - exact).max()),
                "total variation, less the exact one": abs(found - variation),
            }
        )
    n, n_steps = runs[0]
    fine = distances(output_law(scaled(n), n_steps, MIXTURE, 2 * refine)[0], MIXTURE)
    change = max(abs(fine[name] - rows[0][name]) / fine[name] for name in fine)
    report = {
        "weights, means, standard deviations": MIXTURE,
        "x_0, the data's mean": sum(w * m for w, m, _ in MIXTURE),
        "runs": rows,
        "limit of many steps, from x_T ~ N(0, 1)": distances(limit_law(scaled(max(runs)[0]), MIXTURE), MIXTURE),
        "controls": {
            "one Gaussian, against the recursion": controls,
            f"largest relative change of a distance on half the spacing, T = {n} and {n_steps} steps": change,
            "samples, against the law": drawn(laws[n, n_steps], n, n_steps, n_samples, seed),
        },
    }
    return report, laws


# (3) Points


def memorisation(
    n_points: int, n_samples: int, counts: list[int], n_shown: int, seed: int
) -> tuple[dict[str, Any], Floats]:
    """Samples for a training set of MNIST digits: how far they are from it, and some above their nearest digits."""
    mnist = load_mnist("sample")  # in the order of the digits
    chosen = np.linspace(0, len(mnist.images) - 1, n_points).round().astype(int)
    points = to_tensor(mnist.images[chosen]).double()
    schedule = scaled(T)
    denoise = points_denoiser(schedule, points)
    flat = points.flatten(1)
    rows, shown = [], np.empty(0)
    for dtype, n_steps in [(torch.float64, n) for n in counts] + [(torch.float32, counts[0])]:
        generator = torch.Generator().manual_seed(seed)
        x_T = torch.randn((n_samples, *points.shape[1:]), generator=generator, dtype=torch.float64).to(dtype)
        images = sample(denoise, schedule, x_T, n_steps=n_steps, generator=generator, batch_size=n_samples)
        x = images.double().flatten(1)
        nearest = torch.cdist(x, flat).argmin(dim=1)
        gap = x - flat[nearest]
        if not len(shown):
            first = np.unique(mnist.labels[chosen][nearest.numpy()], return_index=True)[1]  # one sample of each digit
            pick = first[:n_shown]
            shown = tile(torch.cat([images[pick], points[nearest[pick]]]), columns=len(pick)).astype(float)
        rows.append(
            {
                "dtype of x_T": str(dtype).removeprefix("torch."),
                "steps": n_steps,
                "largest pixel difference from the nearest training digit": float(gap.abs().max()),
                "largest relative distance from it": float((gap.norm(dim=1) / flat[nearest].norm(dim=1)).max()),
                "all within 1e-6": bool(gap.abs().max() < 1e-6),
                "different training digits found": len(nearest.unique()),
                "samples of digits 0 to 9": np.bincount(mnist.labels[chosen][nearest.numpy()], minlength=10).tolist(),
            }
        )
    between = torch.cdist(flat, flat)
    between.fill_diagonal_(float("inf"))
    report = {
        "training digits": n_points,
        "shape": list(points.shape[1:]),
        "samples": n_samples,
        "T": T,
        "seed": seed,
        "least distance of two training digits, over the mean norm": float(between.min() / flat.norm(dim=1).mean()),
        "runs": rows,
    }
    return report, shown


def failures(report: dict[str, Any]) -> list[str]:
    """The controls that do not hold; none, if the numbers are to be believed."""
    one, two, three = (report[name] for name in ("discretisation", "mixture", "memorisation"))
    controls, last = two["controls"], one["growth of T bias with log T, times s^2, between neighbours"][-1]
    rows = controls["one Gaussian, against the recursion"]
    gaussian = [value for row in rows for name, value in row.items() if "error" in name]
    variations = [row["total variation, less the exact one"] for row in rows]
    holds = {
        "the variance at T = 500 is what was measured before": one["check"]["agrees to three decimals"],
        "the order of the bias tends to 1 from below": all(0.8 < o < 1 for o in one["order, of the last two T"]),
        "T times the bias grows with log T as expected": np.allclose(last, one["expected growth"], rtol=0.6),
        "the quadrature keeps the mass": max(row["largest |mass - 1|"] for row in two["runs"]) < 1e-11,
        "the quadrature is exact for a Gaussian": max(gaussian) < 1e-8,
        "the distances of two Gaussians are exact": max(variations) < 1e-3,
        "half the spacing changes nothing": next(v for k, v in controls.items() if "half" in k) < 1e-3,
        "samples have the law": controls["samples, against the law"]["p-value"] > 1e-4,
        "every sample is a training digit": all(row["all within 1e-6"] for row in three["runs"]),
    }
    return [name for name, held in holds.items() if not held]


# The picture


def draw(report: dict[str, Any], laws: dict[tuple[int, int], Law], shown: Floats) -> Figure:
    """The bias against T, the laws, their distances against the number of steps, and the digits."""
    figure = Figure(figsize=(9.6, 8.6), layout="constrained")
    axes = figure.subplot_mosaic([["bias", "law"], ["distances", "law"], ["digits", "digits"]], height_ratios=(5, 4, 3))
    draw_bias(axes["bias"], report["discretisation"])
    draw_laws(axes["law"], laws)
    draw_distances(axes["distances"], report["mixture"])
    ax = axes["digits"]
    ax.imshow(shown, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    run = report["memorisation"]["runs"][0]
    most = run["largest pixel difference from the nearest training digit"]
    height = shown.shape[0]
    ax.set(
        title=f"(d) memorisation of {report['memorisation']['training digits']:,} digits: no pixel of"
        f" {report['memorisation']['samples']} samples differs by more than {most:.0e}",
        xticks=[],
        yticks=[height * 0.25 - 0.5, height * 0.75 - 0.5],
        yticklabels=["sample", "nearest\ntraining digit"],
    )
    ax.tick_params(length=0)
    return figure


def draw_bias(ax: Axes, table: dict[str, Any]) -> None:
    """Panel (a)."""
    rows, fewer = table["betas scaled with 1/T, all steps"], table["times of T = 500"]
    n = np.array([row["T"] for row in rows])
    for i, (s, marker) in enumerate(zip(DEVIATIONS, "osD^v", strict=True)):
        colour = colormaps["viridis"](0.88 * (1 - i / 4))
        bias = [1 - row["variance / s^2"][i] for row in rows]
        ax.loglog(n, bias, f"{marker}-", color=colour, ms=4.5, lw=1.2, label=f"$s = {s:g}$")
        bias = [1 - row["variance / s^2"][i] for row in fewer]
        ax.loglog([row["steps"] for row in fewer], bias, marker, color=colour, mfc="white", ms=5, zorder=2.5)
    guide = np.array([n[0] * 4, n[-1]])
    ax.loglog(guide, 2.2 / guide, "k--", lw=1)
    middle = math.sqrt(float(guide[0] * guide[1]))
    ax.annotate(
        "slope −1", (middle, 2.2 / middle), xytext=(-4, -14), textcoords="offset points", fontsize=9, ha="right"
    )
    ax.set(
        title=r"(a) data $N(0.3, s^2)$: the variance lost",
        xlabel="steps (filled: all $T$, betas scaled; open: of $T = 500$)",
        ylabel="1 − (variance of the output) / $s^2$",
    )
    ax.legend(fontsize=8, loc="lower left", ncols=2)


def draw_laws(ax: Axes, laws: dict[tuple[int, int], Law]) -> None:
    """Panel (b): the densities above each other, each with the data's behind it."""
    wanted = {steps: law for (n, steps), law in sorted(laws.items()) if n == T and steps in (10, 20, 50, 100, 500)}
    x = np.linspace(-1.5, 1.2, 1351)
    q = mixture_at(x, MIXTURE)[0]
    shift = 1.15 * max(q.max(), *(law.density.max() for law in wanted.values())) / 1.6
    for i, (steps, law) in enumerate(sorted(wanted.items(), reverse=True)):
        base = i * shift
        ax.fill_between(x, base, base + q, color="0.82", lw=0, label="the data" if i == 0 else None)
        colour = colormaps["viridis"](0.75 * i / max(1, len(wanted) - 1))
        ax.plot(law.x, base + law.density, color=colour, lw=1.4)
        ax.annotate(f"{steps} steps", (0.4, base), xytext=(0, 14), textcoords="offset points", fontsize=9, ha="center")
    ax.set(
        title="(b) a mixture: Algorithm 2's law (no sampling)",
        xlabel="$x_0$",
        ylabel="density, each from its own zero",
        xlim=(x[0], x[-1]),
        yticks=[i * shift + height for i in range(len(wanted)) for height in (0, 1)],
        yticklabels=["0", "1"] * len(wanted),
    )
    ax.legend(fontsize=8, loc="upper left")


def draw_distances(ax: Axes, table: dict[str, Any]) -> None:
    """Panel (c)."""
    limit = table["limit of many steps, from x_T ~ N(0, 1)"]
    for (name, floor), marker, shade in zip(limit.items(), "os^", (0.0, 0.45, 0.8), strict=True):
        colour = colormaps["viridis"](shade)
        for filled, style in ((True, "-"), (False, "")):
            rows = [row for row in table["runs"] if (row["T"] == row["steps"]) == filled]
            ax.loglog(
                [row["steps"] for row in sorted(rows, key=lambda row: row["steps"])],
                [row[name] for row in sorted(rows, key=lambda row: row["steps"])],
                f"{marker}{style}", color=colour, mfc=colour if filled else "white", ms=5, lw=1.2,
                label=name if filled else None, zorder=2 + 0.5 * (not filled),
            )  # fmt: skip
        ax.axhline(floor, color=colour, ls=":", lw=1.2)
    ax.set(
        title="(c) its distance from the data's law",
        xlabel=r"steps (dotted: the limit, as $\bar\alpha_T > 0$)",
        ylabel="distance (Wasserstein-1: units of $x_0$)",
    )
    ax.legend(fontsize=8)


def echo(report: dict[str, Any]) -> None:
    """The tables."""
    one = report["discretisation"]
    typer.echo("variance / s^2 for s = " + ", ".join(f"{s:g}" for s in DEVIATIONS))
    for key in ("times of T = 500", "betas scaled with 1/T, all steps"):
        for row in one[key]:
            ratios = "  ".join(f"{ratio:.5f}" for ratio in row["variance / s^2"])
            typer.echo(f"  T = {row['T']:5}, {row['steps']:5} steps   {ratios}")
    typer.echo(f"  order in 1/T, of the last two T: {one['order, of the last two T']}")
    growth = one["growth of T bias with log T, times s^2, between neighbours"][-1]
    typer.echo(f"  growth of T bias with log T, times s^2: {growth}, expected {one['expected growth']}")
    typer.echo(f"  agrees with what was measured before: {one['check']['agrees to three decimals']}")
    typer.echo("mixture: distances from the data's law")
    two = report["mixture"]
    limit = {"T": "limit", "steps": "", **two["limit of many steps, from x_T ~ N(0, 1)"]}
    for row in [*two["runs"], limit]:
        values = [f"{name} {row[name]:.5f}" for name in ("total variation", "Wasserstein-1", "Kolmogorov")]
        typer.echo(f"  T = {row['T']:5}, {row['steps']:5} steps   " + "  ".join(values))
    for row in two["controls"]["one Gaussian, against the recursion"]:
        typer.echo(f"  control: {row}")
    typer.echo(f"  control: {two['controls']['samples, against the law']}")
    typer.echo("memorisation")
    for row in report["memorisation"]["runs"]:
        typer.echo(f"  {row}")


def main(
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    seed: int = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "exact_denoisers.json"
    fewer, all_T = [T, 250, 100, 50, 20], [50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000]
    if smoke:
        fewer, all_T = [T, 20], [T, 2000, 8000]
    runs = [(T, n) for n in ((10, 20) if smoke else (10, 20, 50, 100, 250, 500))]
    runs += [(n, n) for n in ((50,) if smoke else (50, 100, 200, 1000, 2000, 4000))]
    start = time.perf_counter()
    report: dict[str, Any] = {"discretisation": discretisation(fewer, all_T)}
    report["mixture"], laws = mixture_table(runs, 2.0, 1000 if smoke else 1_000_000, seed)
    n_points, n_samples, counts = (50, 10, [10]) if smoke else (1000, 200, [T, 20])
    report["memorisation"], shown = memorisation(n_points, n_samples, counts, 10, seed)
    report |= {
        "seconds": round(time.perf_counter() - start, 1),
        "versions": {
            "diffmath": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
            "matplotlib": matplotlib.__version__,
        },
        "device": "cpu",
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
    }
    write_json(results, report)
    save_figure(draw(report, laws, shown), results, dpi=96, colours=256)
    echo(report)
    if failed := failures(report):
        typer.echo(f"FAILED: {'; '.join(failed)}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
