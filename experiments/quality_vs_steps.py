"""What do fewer steps cost? Quality against network evaluations, for every sampler, from both starts.

Question   How good are the samples (Frechet distance extrapolated to infinitely many, kernel distance, confidence, the
           background and the energy distance of pixels, each with its error) after 10, 20, 50, 100, 250 and 500 network
           evaluations of a sample, and is some sampler at 20 within the error bar of Algorithm 2 at 500?
           The others than Algorithm 2, which change little there, get a fifth of the samples beyond 100 evaluations;
           from N(0, I), which is not their start, they are shown to 20.
Command    python experiments/quality_vs_steps.py [--checkpoint NAME ...] [--n-samples N]
Minutes    75 on 2 CPU cores for the compact network, 200 for the paper's (2,000 evaluations for each of 500 samples);
           blocks of 100 samples are kept in runs/ and not made again. --smoke: seconds
Result     results/quality_vs_steps.json, the table on the terminal, and the picture as results/quality_vs_steps.png and
           .pdf
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from sample_statistics import made
from torch import Tensor

from diffmath._files import replacing
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import choose_device, load_checkpoint, matched_start, metrics, moments
from diffmath.ddpm._environment import provenance

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
    "sure": "share with confidence above 0.9",
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
            rows.append(row | numbers(judge(images)))
            typer.echo(describe(rows[-1]))
    return rows


def describe(row: dict[str, Any]) -> str:
    """A line of the table."""
    start = "matched" if row["matched start"] else ""
    values = "  ".join(f"{name} {row[name][0]:.3f} ± {row[name][1]:.3f}" for name in SHOWN)
    return f"{row['checkpoint']:8} {row['method']:14} {start:8} {row['evaluations']:4}  {values}"


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows at about 20 evaluations against Algorithm 2 with all steps: differences in their standard errors."""
    found = []
    for name in dict.fromkeys(row["checkpoint"] for row in rows):
        own = [row for row in rows if row["checkpoint"] == name]
        goal = max((row for row in own if row["method"] == "ancestral"), key=lambda row: int(row["evaluations"]))
        for row in own:
            if row["evaluations"] in (19, 20):
                apart = {k: round((row[k][0] - goal[k][0]) / float(np.hypot(row[k][1], goal[k][1])), 2) for k in SHOWN}
                within = max(apart["frechet"], apart["kernel"]) <= 1
                found.append({k: row[k] for k in ("checkpoint", "method", "matched start")})
                found[-1] |= {"differences": apart, "Frechet and kernel distance within one": within}
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
    splits = ("sample", "sample") if smoke else ("test", "train")
    reference, training = (to_tensor(load_mnist(split, data_dir).images) for split in splits)  # type: ignore[arg-type]
    judge = partial(metrics.evaluate, reference=reference, training=training, rng=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(training)))[:n_samples]
    real = numbers(judge(training[order]))
    rows = [row for name in checkpoint or ["compact"] for row in curve(name, counts, seed, place, judge, training)]
    report = {
        "real training images": real | {"images": n_samples},
        "rows": rows,
        "at 20 evaluations, less Algorithm 2 with all, in standard errors": compare(rows),
        "seed": seed,
        "precision": "bfloat16 in the network, where the device is good at it",
        **provenance(place),
    }
    with replacing(results) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    figure = draw(rows, real)
    for suffix in (".png", ".pdf"):
        with replacing(results.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, dpi=120)


if __name__ == "__main__":
    typer.run(main)
