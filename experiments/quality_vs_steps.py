"""What do fewer steps cost? Quality against network evaluations, for every sampler, from both starts.

Question   How good are the samples (Frechet distance extrapolated to infinitely many, kernel distance, confidence, the
           background and the energy distance of pixels, each with its error) after 10, 20, 50, 100, 250 and 500 network
           evaluations of a sample, and is some sampler at 20 within the error bar of Algorithm 2 at 500?
           The others than Algorithm 2, which change little there, get a fifth of the samples beyond 100 evaluations;
           from N(0, I), which is not their start, they are shown to 20.
Command    python experiments/quality_vs_steps.py [--checkpoint NAME ...] [--n-samples N]
Minutes    155 of one CPU core for the compact network (2,000 evaluations for each of 500 samples), and 6 to judge them;
           2.3 times as long for the paper's by the times in results/sample_statistics_50_steps.json. Blocks of 100
           samples are kept in runs/ and not made again. --smoke: seconds
Result     results/quality_vs_steps.json, the table on the terminal, and the picture as results/quality_vs_steps.png and
           .pdf
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from sample_statistics import made, network, record
from torch import Tensor

from diffmath._files import save_figure, write_json
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import choose_device, load_checkpoint, matched_start, metrics, moments
from diffmath.ddpm.checkpoints import SHIPPED

HERE = Path(__file__).parent
EVALUATIONS = (10, 20, 50, 100, 250, 500)
MANY = 100  # evaluations, beyond which only Algorithm 2 gets all samples
LINES = {  # sampler, whether from the matched start, and how the picture shows it
    ("ancestral", False): {"color": "black", "marker": "o", "linestyle": "-"},
    ("ddim", False): {"color": "0.6", "marker": "s", "linestyle": "--"},
    ("ddim", True): {"color": "0.6", "marker": "s", "linestyle": "-"},
    ("heun", False): {"color": "0.4", "marker": "^", "linestyle": "--"},
    ("heun", True): {"color": "0.4", "marker": "^", "linestyle": "-"},
    ("dpmsolver++2m", False): {"color": "0.2", "marker": "D", "linestyle": "--"},
    ("dpmsolver++2m", True): {"color": "0.2", "marker": "D", "linestyle": "-"},
}
SHOWN = {
    "frechet": "Fréchet distance, extrapolated",
    "kernel": "kernel distance",
    "sure": "confidence above 0.9, share",
    "background": "mean of the background",
    "energy": "energy distance of pixels",
}


def steps(method: str, evaluations: int) -> tuple[int, int]:
    """The steps that take so many network evaluations, and how many they do take: Heun's take two but for the last."""
    n = (evaluations + 1) // 2 if method == "heun" else evaluations
    return n, 2 * n - 1 if method == "heun" else n


def sizes(n_samples: int) -> dict[tuple[str, bool], dict[int, int]]:
    """How many samples are made, for each line and number of evaluations."""
    found: dict[tuple[str, bool], dict[int, int]] = {}
    for method, matched in LINES:
        if method == "ancestral":
            found[method, matched] = dict.fromkeys(EVALUATIONS, n_samples)
        elif matched:
            found[method, matched] = {n: n_samples // (5 if n > MANY else 1) for n in EVALUATIONS}
        else:
            found[method, matched] = {n: n_samples for n in EVALUATIONS if n <= 20}
    return found


def numbers(evaluation: metrics.Evaluation) -> dict[str, tuple[float, float]]:
    """What is shown of an evaluation: values and standard errors. Of few digits the Frechet distance is biased."""
    pairs: dict[str, Any] = {
        "frechet": evaluation.frechet,
        "kernel": evaluation.kernel,
        "sure": evaluation.confidence.sure,
        "background": evaluation.background.mean,
        "energy": evaluation.energy,
    }
    if evaluation.n_images < metrics.FEW:
        del pairs["frechet"]
    return {name: (float(pair.value), float(pair.error)) for name, pair in pairs.items()}


def curve(
    name: str,
    counts: Mapping[tuple[str, bool], Mapping[int, int]],
    seed: int,
    device: torch.device,
    judge: Callable[[Tensor], metrics.Evaluation],
    training: Tensor,
) -> list[dict[str, Any]]:
    """A row for each sampler, start and number of evaluations, of one checkpoint."""
    trained = load_checkpoint(name, device=device)
    mean, covariance = moments(training)

    def start(n: int, generator: torch.Generator) -> Tensor:
        return matched_start(trained.schedule, n, mean, covariance=covariance, generator=generator)

    rows = []
    for (method, matched), asked in counts.items():
        for count, n_samples in asked.items():
            n_steps, evaluations = steps(method, count)
            images, seconds = made(trained, n_samples, n_steps, seed, device, start if matched else None, method=method)
            row = {"checkpoint": name, "method": method, "matched start": matched, "steps": n_steps}
            row |= {"evaluations": evaluations, "samples": n_samples, "seconds": round(seconds, 1)}
            evaluation = judge(images)
            rows.append(row | numbers(evaluation) | {"all numbers": metrics.summary(evaluation)})
            typer.echo(describe(rows[-1]))
    return rows


def describe(row: dict[str, Any]) -> str:
    """A line of the table."""
    start = "matched" if row["matched start"] else ""
    values = "  ".join(f"{name} {row[name][0]:.3f} ± {row[name][1]:.3f}" for name in SHOWN if name in row)
    return f"{row['checkpoint']:8} {row['method']:14} {start:8} {row['evaluations']:4}  {values}"


def compare(
    rows: list[dict[str, Any]], real: Mapping[str, tuple[float, float]], at: Collection[int]
) -> list[dict[str, Any]]:
    """The rows at some numbers of evaluations against Algorithm 2 with all: by how much they are worse.

    In its error bars, and in errors of the difference. Worse is a larger distance, a smaller share, and a background
    farther from that of real images.
    """

    def badness(row: dict[str, Any], key: str) -> float:
        value = float(row[key][0])
        return -value if key == "sure" else abs(value - real[key][0]) if key == "background" else value

    found = []
    for name in dict.fromkeys(row["checkpoint"] for row in rows):
        own = [row for row in rows if row["checkpoint"] == name]
        goal = max((row for row in own if row["method"] == "ancestral"), key=lambda row: int(row["evaluations"]))
        for row in (row for row in own if row["evaluations"] in at):
            entry = {k: row[k] for k in ("checkpoint", "method", "matched start", "evaluations")}
            for key in (key for key in SHOWN if key in row and key in goal):
                more, bar = badness(row, key) - badness(goal, key), float(goal[key][1])
                entry[key] = {
                    "worse by, in error bars": round(more / bar, 2),
                    "in errors of the difference": round(more / math.hypot(bar, row[key][1]), 2),
                    "within the error bar": more <= bar,
                }
            found.append(entry)
    return found


def draw(rows: list[dict[str, Any]], real: dict[str, tuple[float, float]]) -> Figure:
    """Every number against the evaluations, a column for each checkpoint.

    Points of fewer samples than the rest of their line are pale and not joined to it.
    """
    names = list(dict.fromkeys(row["checkpoint"] for row in rows))
    figure = Figure((5.2 * len(names) + 0.6, 2.5 * len(SHOWN)), layout="constrained")
    axes = figure.subplots(len(SHOWN), len(names), squeeze=False, sharex=True, sharey="row")
    for column, name in zip(axes.T, names, strict=True):
        for ax, (key, label) in zip(column, SHOWN.items(), strict=True):
            for (method, matched), style in LINES.items():
                line = [
                    (row["evaluations"], *row[key], row["samples"])
                    for row in rows
                    if (row["checkpoint"], row["method"], row["matched start"]) == (name, method, matched)
                    and key in row
                ]
                title = f"{method}, matched start" if matched else method
                fill = None if matched else "white"
                most = max((n for *_, n in line), default=0)
                for some, part in (
                    (False, [p for p in line if p[3] == most]),
                    (True, [p for p in line if p[3] < most]),
                ):
                    if part:  # fewer samples are others: not the same line
                        x, y, error, _ = np.transpose(part)
                        look = style | ({"linestyle": "", "alpha": 0.5} if some else {"label": title})
                        ax.errorbar(x, y, error, markerfacecolor=fill, markersize=4, capsize=2, **look)
            if key in real:
                value, error = real[key]
                ax.axhspan(value - error, value + error, color="0.85", zorder=0, label="real images")
            ax.set(xscale="log", ylabel=label)
        column[0].set_title(f"{name} network")
        column[-1].set(xlabel="network evaluations for a sample", xticks=EVALUATIONS, xticklabels=EVALUATIONS)
        column[-1].minorticks_off()
    few = sorted({row["samples"] for row in rows})
    note = f"; pale: {few[0]} samples, not {few[-1]}" if len(few) > 1 else ""
    figure.supxlabel(f"bars: one standard error{note}", fontsize=8)
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8)
    return figure


def main(
    checkpoint: Annotated[
        Optional[list[str]], typer.Option(help="Names or files; the shipped ones unless given.")
    ] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_samples: Annotated[int, typer.Option(min=500, help="Of each, but for those of which a fifth is made.")] = 500,
    seed: int = 0,
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    counts = sizes(n_samples)
    if smoke:
        counts, n_samples = {("ancestral", False): {1: 100}, ("ddim", True): {1: 100}}, 100
    results = results or (Path("runs") if smoke else HERE / "results") / "quality_vs_steps.json"
    place = choose_device(device)
    names = checkpoint or list(SHIPPED)
    splits = ("sample", "sample") if smoke else ("test", "train")
    reference, training = (to_tensor(load_mnist(split, data_dir).images) for split in splits)  # type: ignore[arg-type]
    judge = partial(metrics.evaluate, reference=reference, training=training, rng=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(training)))[:n_samples]
    real = numbers(judge(training[order]))
    rows = [row for name in names for row in curve(name, counts, seed, place, judge, training)]
    report = {
        "real training images": real | {"images": n_samples},
        "rows": rows,
        "quick samplers against Algorithm 2 with all": compare(rows, real, (1,) if smoke else (19, 20)),
        "seed": seed,
        "networks": {name: network(load_checkpoint(name)) for name in names},
        **record(place),
    }
    write_json(results, report)
    save_figure(draw(rows, real), results, dpi=120)


if __name__ == "__main__":
    typer.run(main)
