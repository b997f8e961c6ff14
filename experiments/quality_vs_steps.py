"""What do fewer steps cost? Quality against network evaluations, for every sampler, from both starts.

Question   How good are the samples (Frechet distance extrapolated to infinitely many, kernel distance, confidence, the
           background and the energy distance of pixels, each with its error) after 10, 20, 50, 100, 250 and 500 network
           evaluations of a sample, and is some sampler at 20 within the error bar of Algorithm 2 at 500?
Command    python experiments/quality_vs_steps.py [--checkpoint NAME ...] [--most EVALUATIONS] [--n-samples N]
Minutes    hours on a CPU (930 evaluations a sample for Algorithm 2, 180 for each of the six others to 100); blocks of
           100 samples are kept in runs/ and not made again. --smoke: seconds
Result     results/quality_vs_steps.json, the table on the terminal, and the picture as results/quality_vs_steps.png and
           .pdf
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from sample_statistics import BLOCK, block, origin
from torch import Tensor

from diffmath._files import replacing
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import Checkpoint, choose_device, load_checkpoint, matched_start, metrics

HERE = Path(__file__).parent
EVALUATIONS = (10, 20, 50, 100, 250, 500)
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
    "sure": "share with confidence above 0.9",
    "background": "mean of the background",
    "energy": "energy distance of pixels",
}


def steps(method: str, evaluations: int) -> tuple[int, int]:
    """The steps that take so many network evaluations, and how many they do take: Heun's take two but for the last."""
    n = (evaluations + 1) // 2 if method == "heun" else evaluations
    return n, 2 * n - 1 if method == "heun" else n


def mnist_start(training: Tensor, trained: Checkpoint, n: int) -> Callable[[torch.Generator], Tensor]:
    """x_T of the law that Gaussian data with MNIST's mean and covariance would have."""
    flat = training.flatten(1).double()
    mean, covariance = flat.mean(0).reshape(training.shape[1:]), torch.cov(flat.T)
    return lambda generator: matched_start(trained.schedule, n, mean, covariance=covariance, generator=generator)


def numbers(evaluation: metrics.Evaluation) -> dict[str, tuple[float, float]]:
    """What is shown of an evaluation: values and standard errors."""
    pairs: dict[str, Any] = {
        "frechet": evaluation.frechet,
        "kernel": evaluation.kernel,
        "sure": evaluation.confidence.sure,
        "background": evaluation.background.mean,
        "energy": evaluation.energy,
    }
    return {name: (float(pair.value), float(pair.error)) for name, pair in pairs.items()}


def curve(
    name: str,
    counts: Mapping[tuple[str, bool], Sequence[int]],
    n_samples: int,
    seed: int,
    device: torch.device,
    judge: Callable[[Tensor], metrics.Evaluation],
    training: Tensor,
) -> list[dict[str, Any]]:
    """A row for each sampler, start and number of evaluations, of one checkpoint."""
    trained = load_checkpoint(name, device=device)
    made_by, rows = origin(trained, device), []
    sizes = [min(BLOCK, n_samples - i) for i in range(0, n_samples, BLOCK)]
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes)).tolist()
    for (method, matched), asked in counts.items():
        for count in asked:
            n_steps, evaluations = steps(method, count)
            parts = [
                block(
                    trained,
                    n_steps,
                    n,
                    s,
                    made_by,
                    device,
                    start=mnist_start(training, trained, n) if matched else None,
                    method=method,
                )
                for n, s in zip(sizes, seeds, strict=True)
            ]
            images = torch.cat([part for part, _ in parts])
            row = {"checkpoint": name, "method": method, "matched start": matched, "steps": n_steps}
            row |= {"evaluations": evaluations, "seconds": round(sum(seconds for _, seconds in parts), 1)}
            rows.append(row | numbers(judge(images)))
            typer.echo(describe(rows[-1]))
    return rows


def describe(row: dict[str, Any]) -> str:
    """A line of the table."""
    start = "matched" if row["matched start"] else ""
    values = "  ".join(f"{name} {row[name][0]:.3f} ± {row[name][1]:.3f}" for name in SHOWN)
    return f"{row['checkpoint']:8} {row['method']:14} {start:8} {row['evaluations']:4}  {values}"


def reached(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which samplers at about 20 evaluations are, by Frechet and kernel distance, within the error of Algorithm 2's."""
    found = []
    for name in dict.fromkeys(row["checkpoint"] for row in rows):
        own = [row for row in rows if row["checkpoint"] == name]
        goal = max((row for row in own if row["method"] == "ancestral"), key=lambda row: int(row["evaluations"]))
        for row in own:
            if row["evaluations"] in (19, 20):
                within = {
                    k: row[k][0] - goal[k][0] <= float(np.hypot(row[k][1], goal[k][1])) for k in ("frechet", "kernel")
                }
                found.append({k: row[k] for k in ("checkpoint", "method", "matched start")} | within)
    return found


def draw(rows: list[dict[str, Any]], real: dict[str, tuple[float, float]]) -> Figure:
    """Every number against the evaluations, a column for each checkpoint."""
    names = list(dict.fromkeys(row["checkpoint"] for row in rows))
    figure = Figure((5.2 * len(names) + 0.6, 2.5 * len(SHOWN)), layout="constrained")
    axes = figure.subplots(len(SHOWN), len(names), squeeze=False, sharex=True, sharey="row")
    for column, name in zip(axes.T, names, strict=True):
        for ax, (key, label) in zip(column, SHOWN.items(), strict=True):
            for (method, matched), style in LINES.items():
                line = [
                    (row["evaluations"], *row[key])
                    for row in rows
                    if (row["checkpoint"], row["method"], row["matched start"]) == (name, method, matched)
                ]
                if line:
                    x, y, error = np.transpose(line)
                    title = f"{method}, matched start" if matched else method
                    fill = None if matched else "white"
                    ax.errorbar(x, y, error, label=title, markerfacecolor=fill, markersize=4, capsize=2, **style)
            value, error = real[key]
            ax.axhspan(value - error, value + error, color="0.85", zorder=0, label="real images")
            ax.set(xscale="log", ylabel=label)
        column[0].set_title(f"{name} network")
        column[-1].set(xlabel="network evaluations for a sample", xticks=EVALUATIONS, xticklabels=EVALUATIONS)
        column[-1].minorticks_off()
    axes[0, 0].legend(fontsize=7)
    return figure


def main(
    checkpoint: Annotated[
        Optional[list[str]], typer.Option(help="Names or files; the shipped ones unless given.")
    ] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    most: Annotated[int, typer.Option(help="Evaluations at most, of the samplers other than Algorithm 2.")] = 100,
    n_samples: int = 1000,
    seed: int = 0,
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    counts = {line: [n for n in EVALUATIONS if n <= most or line[0] == "ancestral"] for line in LINES}
    if smoke:
        counts, n_samples = {("ancestral", False): [1], ("ddim", True): [1]}, 100
    results = results or (Path("runs") if smoke else HERE / "results") / "quality_vs_steps.json"
    place = choose_device(device)
    splits = ("sample", "sample") if smoke else ("test", "train")
    reference, training = (to_tensor(load_mnist(split, data_dir).images) for split in splits)  # type: ignore[arg-type]
    judge = partial(metrics.evaluate, reference=reference, training=training, rng=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(training)))[:n_samples]
    real = numbers(judge(training[order]))
    rows = [
        row
        for name in checkpoint or ["compact"]
        for row in curve(name, counts, n_samples, seed, place, judge, training)
    ]
    report = {
        "samples of each": n_samples,
        "real training images, as many": real,
        "rows": rows,
        "at 20 evaluations within the error of Algorithm 2 with all": reached(rows),
        "seed": seed,
        "device": str(place),
        "torch": torch.__version__,
    }
    with replacing(results) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    figure = draw(rows, real)
    for suffix in (".png", ".pdf"):
        with replacing(results.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, dpi=120)


if __name__ == "__main__":
    typer.run(main)
