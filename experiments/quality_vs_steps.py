"""What do fewer steps cost? Quality against network evaluations, for every sampler, from both starts.

Question   How good are the samples (Frechet distance extrapolated to infinitely many, kernel distance, confidence,
           coverage, the balance of the digits, the background and the energy distance of pixels, each with its error)
           after 10, 20, 50, 100, 250 and 500 network evaluations of a sample, and is some sampler at 20 within the
           error bar of Algorithm 2 at 500, and of all its samples with 100 or more together, whose bar is smaller?
           Each sampler is shown at all six from its own start: N(0, I) for Algorithm 2, x_T's mean and covariance for
           the ODE's; from the other start to 20. The ODE's samplers change little beyond 50, where they make a fifth of
           the samples. These are set against what the same starts gave after 50: the same numbers, and how far the
           features moved, which bounds the change of the Frechet distance's square root.
Command    python experiments/quality_vs_steps.py [--checkpoint NAME ...] [--n-samples N]
Minutes    on 2 CPU cores about 75 for the compact network (1,800 evaluations for each of 500 samples) and 165 for the
           paper's, and 6 for each to judge them; blocks of 100 samples are kept in runs/ and not made again. --smoke:
           seconds
Result     results/quality_vs_steps.json, the table on the terminal, and as .png and .pdf two pictures: every sampler
           from its own start in the three numbers that tell most, as results/quality_vs_steps, and all that there is,
           as results/quality_vs_steps_all. --redraw draws them again from the numbers
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sample_statistics import cached_samples, network, record
from torch import Tensor

from diffmath._files import save_figure, write_json
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import Checkpoint, choose_device, load_checkpoint, matched_start, metrics, moments
from diffmath.ddpm.checkpoints import SHIPPED
from diffmath.ddpm.samplers import SAMPLERS

HERE = Path(__file__).parent
EVALUATIONS = (10, 20, 50, 100, 250, 500)
EARLY, MANY = 20, 50  # evaluations: to which the other start is shown, and beyond which an ODE's sampler makes a fifth
SETTLED = 100  # evaluations, from which on all samples of Algorithm 2 are one reference: each of these has its own seed
COLOURS = ("#000000", "#0b4f8a", "#d1495b", "#edae49")  # also as greys
MARKERS = ("o", "s", "^", "D", "v")  # one more, so that colour and marker together tell many samplers apart
LINES = {  # sampler, whether from the matched start, and how the picture shows it: dotted from the other start
    (method, matched): {
        "color": colour,
        "marker": marker,
        "linestyle": "-" if matched == (method != "ancestral") else ":",
    }
    for method, colour, marker in zip(SAMPLERS, cycle(COLOURS), cycle(MARKERS), strict=False)
    for matched in (False, True)
}
OWN = {(method, method != "ancestral"): LINES[method, method != "ancestral"] for method in SAMPLERS}
SHOWN = {
    "frechet": "Fréchet distance",
    "kernel": "kernel distance",
    "sure": "confidence\nabove 0.9, share",
    "coverage": "coverage",
    "imbalance": "imbalance\nof the digits",
    "background": "mean of\nthe background",
    "energy": "energy distance\nof pixels",
}
TELLING = ("frechet", "sure", "background")
SHARES = ("sure", "coverage")  # more is better
SIZED = ("coverage", "imbalance")  # to be compared between equally many samples only


def steps(method: str, evaluations: int) -> tuple[int, int]:
    """The most steps that take no more network evaluations than these, and how many they do take."""
    taken = SAMPLERS[method].evaluations
    n = max(n for n in range(1, evaluations + 1) if n == 1 or taken(n) <= evaluations)
    return n, taken(n)


def sizes(n_samples: int) -> dict[tuple[str, bool], dict[int, int]]:
    """How many samples are made, for each line and number of evaluations."""
    found = {}
    for method, matched in LINES:
        is_ode = method != "ancestral"
        asked = [n for n in EVALUATIONS if matched == is_ode or n <= EARLY]
        found[method, matched] = {n: n_samples // (5 if is_ode and n > MANY else 1) for n in asked}
    return found


def numbers(evaluation: metrics.Evaluation) -> dict[str, tuple[float, float]]:
    """What is shown of an evaluation: values and standard errors. Of few digits the Frechet distance is biased.

    The imbalance is the total variation distance of the digits' shares from those of the test images.
    """
    pairs: dict[str, Any] = {
        "frechet": evaluation.frechet,
        "kernel": evaluation.kernel,
        "sure": evaluation.confidence.sure,
        "coverage": evaluation.neighbours.coverage,
        "imbalance": evaluation.balance.distance,
        "background": evaluation.background.mean,
        "energy": evaluation.energy,
    }
    if evaluation.n_images < metrics.FEW:
        pairs = {name: pair for name, pair in pairs.items() if name not in ("frechet", *SIZED)}
    return {name: (float(pair.value), float(pair.error)) for name, pair in pairs.items()}


def moved(before: Tensor, after: Tensor, unit: float) -> tuple[float, float]:
    """The root mean square distance between features of pairs of images, and its standard error."""
    squares = ((metrics.features(after).values - metrics.features(before).values) ** 2).sum(1) / unit**2
    distance = math.sqrt(squares.mean())
    return distance, float(squares.std(ddof=1) / math.sqrt(len(squares)) / (2 * distance))


def seed_of(method: str, count: int, most: int, seed: int) -> int:
    """Other numbers of evaluations have the same x_T; samples that are pooled are independent."""
    return seed + count if method == "ancestral" and SETTLED <= count < most else seed


def curve(
    name: str,
    trained: Checkpoint,
    counts: Mapping[tuple[str, bool], Mapping[int, int]],
    seed: int,
    device: torch.device,
    judge: Callable[[Tensor], metrics.Evaluation],
    training: Tensor,
    unit: float,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each sampler, start and number of evaluations, of one checkpoint, and one of Algorithm 2's together."""
    mean, covariance = moments(training)

    def start(n: int, generator: torch.Generator) -> Tensor:
        return matched_start(trained.schedule, n, mean, covariance=covariance, generator=generator)

    rows, settled = [], []
    for (method, matched), asked in counts.items():
        line: dict[int, Tensor] = {}
        before: dict[int, dict[str, Any]] = {}
        for count, n_samples in asked.items():
            n_steps, evaluations = steps(method, count)
            own = seed_of(method, count, max(asked), seed)
            images, seconds = cached_samples(
                trained, n_samples, n_steps, own, device, start if matched else None, method=method
            )
            line[count] = images
            row = {"checkpoint": name, "method": method, "matched start": matched, "steps": n_steps}
            row |= {"evaluations": evaluations, "samples": n_samples, "seconds": round(seconds, 1)}
            row |= judged(judge(images))
            if n_samples < max(asked.values()):
                last, more = next((n, x) for n, x in reversed(line.items()) if len(x) > n_samples)
                if n_samples not in before:
                    before[n_samples] = {"evaluations": steps(method, last)[1]} | numbers(judge(more[:n_samples]))
                row["the same starts"] = before[n_samples]
                row["features moved since"] = moved(more[:n_samples], images, unit)
            rows.append(row)
            typer.echo(describe(row))
        if (method, matched) == ("ancestral", False):
            settled = [images for count, images in line.items() if count >= min(SETTLED, max(line))]
    together = {"checkpoint": name, "method": "ancestral", "matched start": False, "evaluations": f">={SETTLED}"}
    together |= {"samples": sum(map(len, settled)), **judged(judge(torch.cat(settled)))}
    together = {key: value for key, value in together.items() if key not in SIZED}
    typer.echo(describe(together))
    return rows, together


def judged(evaluation: metrics.Evaluation) -> dict[str, Any]:
    """What is kept of an evaluation."""
    whole = metrics.summary(evaluation)
    if evaluation.n_images < metrics.FEW:
        del whole["frechet"]
    return {**numbers(evaluation), "all numbers": whole}


def describe(row: Mapping[str, Any]) -> str:
    """A line of the table."""
    start = "matched" if row.get("matched start") else ""
    values = "  ".join(f"{name} {row[name][0]:.3f} ± {row[name][1]:.3f}" for name in SHOWN if name in row)
    return f"{row['checkpoint']:8} {row['method']:15} {start:8} {row['evaluations']:>5} {row['samples']:5}  {values}"


def compare(
    rows: list[dict[str, Any]],
    goals: Mapping[str, Mapping[str, dict[str, Any]]],
    real: Mapping[str, Any],
    at: Collection[int],
) -> list[dict[str, Any]]:
    """The rows at some numbers of evaluations against each goal of their checkpoint: by how much they are worse.

    In the goal's error bars, and in errors of the difference as if both were independent; they share the images that
    they are compared with, and some their starts, so that these errors are rather too large. Worse is a larger
    distance, a smaller share, and a background farther from that of real images. The coverage and the balance depend on
    the number of samples, and are compared between equal ones only.
    """

    def badness(row: Mapping[str, Any], key: str) -> float:
        value = float(row[key][0])
        return -value if key in SHARES else abs(value - real[key][0]) if key == "background" else value

    found = []
    for row in (row for row in rows if row["evaluations"] in at):
        for label, goal in goals[row["checkpoint"]].items():
            entry = {k: row[k] for k in ("checkpoint", "method", "matched start", "evaluations")} | {"against": label}
            for key in (key for key in SHOWN if key in row and key in goal):
                more, bar = badness(row, key) - badness(goal, key), float(goal[key][1])
                entry[key] = {
                    "worse by, in error bars": round(more / bar, 2),
                    "in errors of the difference": round(more / math.hypot(bar, row[key][1]), 2),
                    "within the error bar": more <= bar,
                }
            found.append(entry)
    return found


def verdict(entry: Mapping[str, Any]) -> str:
    """A comparison in words: what is within the error bar, and how many bars what is not is off."""
    values = ", ".join(
        f"{key} {'within' if one['within the error bar'] else one['worse by, in error bars']}"
        for key, one in ((key, entry[key]) for key in SHOWN if key in entry)
    )
    start = ", matched start" if entry["matched start"] else ""
    return (
        f"{entry['checkpoint']}: {entry['method']}{start}, {entry['evaluations']}, against {entry['against']}: {values}"
    )


def draw(rows: list[dict[str, Any]], real: Mapping[str, Any]) -> Figure:
    """Every sampler from its own start, with the first network, in the numbers that tell most: full samples only."""
    name, most = rows[0]["checkpoint"], max(row["samples"] for row in rows)
    figure = Figure((9.6, 3.3), layout="constrained")
    for ax, key in zip(figure.subplots(1, len(TELLING)), TELLING, strict=True):
        panel(ax, [row for row in rows if row["checkpoint"] == name and row["samples"] == most], real, key, OWN)
        ax.set_xlabel("network evaluations for a sample")
    handles, labels = figure.axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9, frameon=False)
    return figure


def draw_all(rows: list[dict[str, Any]], real: Mapping[str, Any]) -> Figure:
    """Every number against the evaluations, a column for each checkpoint.

    Rows of fewer samples are pale, and joined to what the same starts gave before.
    """
    names = list(dict.fromkeys(row["checkpoint"] for row in rows))
    figure = Figure((5.2 * len(names) + 0.6, 2.1 * len(SHOWN)), layout="constrained")
    axes = figure.subplots(len(SHOWN), len(names), squeeze=False, sharex=True, sharey="row")
    for column, name in zip(axes.T, names, strict=True):
        for ax, key in zip(column, SHOWN, strict=True):
            panel(ax, [row for row in rows if row["checkpoint"] == name], real, key, LINES)
            if name != names[0]:
                ax.set_ylabel("")
        column[0].set_title(f"{name} network")
        column[-1].set_xlabel("network evaluations for a sample")
    sizes = sorted({row["samples"] for row in rows})
    note = f"; pale: {sizes[0]} samples, not {sizes[-1]}, too few for some of the numbers" if len(sizes) > 1 else ""
    figure.supxlabel(f"bars: one standard error{note}", fontsize=8)
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8)
    return figure


def panel(
    ax: Axes,
    rows: list[dict[str, Any]],
    real: Mapping[str, Any],
    key: str,
    lines: Mapping[tuple[str, bool], Mapping[str, Any]],
) -> None:
    """One number of one checkpoint against the evaluations, beside that of real images."""
    for shift, ((method, matched), style) in zip(np.linspace(0.96, 1.04, len(lines)), lines.items(), strict=True):
        line = [row for row in rows if (row["method"], row["matched start"]) == (method, matched) and key in row]
        title = {"ancestral": "Algorithm 2"}.get(method, method) + ", matched start" * matched
        few = [row for row in line if "the same starts" in row]
        for part, look in (
            ([row for row in line if row not in few], {"label": title}),
            ([row["the same starts"] for row in few[:1]] + few, {"alpha": 0.4}),
        ):
            if part:
                x, y, error = np.transpose([(row["evaluations"], *row[key]) for row in part])
                fill = None if style["linestyle"] == "-" else "white"
                ax.errorbar(shift * x, y, error, markerfacecolor=fill, markersize=4, capsize=2, **{**style, **look})
    if key in real:
        value, error = real[key]
        ax.axhspan(value - error, value + error, color="0.85", zorder=0, label="real images")
    ax.set(xscale="log", ylabel=SHOWN[key], xticks=EVALUATIONS, xticklabels=EVALUATIONS)
    ax.minorticks_off()


def save(results: Path, report: Mapping[str, Any]) -> None:
    """Draw both pictures from what the file of results holds."""
    real = report["real training images"]
    save_figure(draw(report["rows"], real), results, dpi=150)
    save_figure(draw_all(report["rows"], real), results.with_name(f"{results.stem}_all"), dpi=100, colours=256)


def main(
    checkpoint: Annotated[
        Optional[list[str]], typer.Option(help="Names or files; the shipped ones unless given.")
    ] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_samples: Annotated[int, typer.Option(min=500, help="Of each, but for those of which a fifth is made.")] = 500,
    seed: int = 0,
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    redraw: Annotated[bool, typer.Option("--redraw", help="Only draw the numbers of the results again.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    counts = sizes(n_samples)
    if smoke:
        counts, n_samples = {("ancestral", False): {1: 100}, ("ddim", True): {1: 200, 2: 100}}, 200
    results = results or (Path("runs") if smoke else HERE / "results") / "quality_vs_steps.json"
    if redraw:
        save(results, json.loads(results.read_text()))
        return
    chosen = choose_device(device)
    names = checkpoint or list(SHIPPED[: 1 if smoke else None])
    networks = {name: load_checkpoint(name, device=chosen) for name in names}
    origin = {"networks": {name: network(trained) for name, trained in networks.items()}, **record(chosen)}
    splits = ("sample", "sample") if smoke else ("test", "train")
    reference, training = (to_tensor(load_mnist(split, data_dir).images) for split in splits)  # type: ignore[arg-type]
    judge = partial(metrics.evaluate, reference=reference, rng=seed)
    unit = float(np.sqrt((metrics.features(reference).values ** 2).mean()))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(training)))
    drawn, others = training[order[:n_samples]], training[order[n_samples:]]  # memorisation: against those not drawn
    real = judged(judge(drawn, training=others))
    line = {"checkpoint": "real", "method": "training images", "evaluations": "", "samples": n_samples, **real}
    typer.echo(describe(line))
    rows, goals, together = [], {}, {}
    for name in names:
        own, together[name] = curve(
            name, networks[name], counts, seed, chosen, partial(judge, training=training), training, unit
        )
        best = max((row for row in own if row["method"] == "ancestral"), key=lambda row: int(row["evaluations"]))
        goals[name] = {f"Algorithm 2 with {best['evaluations']}": best}
        goals[name] |= {f"Algorithm 2 with {SETTLED} or more": together[name]}
        rows += own
    verdicts = compare(rows, goals, real, (1,) if smoke else (19, 20))
    for entry in verdicts:
        typer.echo(verdict(entry))
    report = {
        "real training images": {"images": n_samples, **real},
        "rows": rows,
        f"Algorithm 2 with {SETTLED} evaluations or more, together": together,
        "quick samplers against Algorithm 2": verdicts,
        "seed": seed,
        **origin,
    }
    write_json(results, report)
    save(results, report)


if __name__ == "__main__":
    typer.run(main)
