r"""The start of Algorithm 2, and what its chain of Gaussians says of the likelihood of test images.

With T = 500 the amplitude of the image in x_T is sqrt(alpha_bar_T) = 0.08, so that N(0, I) is not the law of x_T. Two
remedies: the start N(sqrt(alpha_bar_T) m, alpha_bar_T C + (1 - alpha_bar_T) I), for data of mean m and covariance C;
and a schedule at whose end nothing is left (Lin et al. 2024). The shipped network was trained with the paper's schedule
and has never seen what the other has at its end, so the second is measured with exact denoisers alone: of Gaussians,
and of a set of 5,000 digits, whose samples are those digits.

Question   (a) For a Gaussian, N(0.3, 0.2^2) or one with the mean and covariance of MNIST, and its exact denoiser, how
           far are the mean and the variance of the output from the data's with either remedy, both, or none? (Exact:
           the output is Gaussian.) And of 5,000 digits as data, are those that come out as bright, and each of the ten
           as frequent, as in the data? (b) For the shipped network, what does the first change in samples from the
           same noise: brightness, digits as the shipped classifier sees them? (c) How many bits per dimension does the
           variational bound give test images, where in t are they, and how many would the exact denoiser of a Gaussian
           with MNIST's mean and covariance need? And how far is the bound above the entropy where both are known, for
           N(0.3, 0.2^2)?
Command    python experiments/start_and_likelihood.py [--data-dir DIRECTORY]
Minutes    about 6 on 2 CPU cores; --smoke: seconds
Result     results/start_and_likelihood.json, and the picture as results/start_and_likelihood.png and .pdf
"""

from __future__ import annotations

import json
import math
import time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sample_statistics import network
from torch import Tensor

from diffmath._files import save_figure, write_json
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import (
    VariationalBound,
    bound_weight,
    classify,
    gaussian_denoiser,
    load_checkpoint,
    load_classifier,
    matched_start,
    metrics,
    moments,
    pixel_decoder,
    points_denoiser,
    sample,
    variational_bound,
)
from diffmath.ddpm._environment import provenance
from diffmath.ddpm.denoisers import Denoiser
from diffmath.schedule import VarianceSchedule

HERE = Path(__file__).parent
MEAN, DEVIATION = 0.3, 0.2
PAPER = VarianceSchedule.linear()
ZERO = PAPER.zero_terminal()
SAMPLERS = (("ancestral", 500), ("ancestral", 50), ("ddim", 500), ("dpmsolver++2m", 20))
STARTS = ("N(0, I)", "matched", "zero terminal", "zero terminal, matched")

# (a) A Gaussian


def output(
    schedule: VarianceSchedule, matched: bool, method: str, n_steps: int, m: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of the output for independent data N(m, v): each step is affine in x, and so are all of them.

    All of shape (d,), float64.
    """
    denoise = gaussian_denoiser(schedule, m, v)
    alpha_bar, rest = schedule.transition(schedule.n_steps, 0)
    mean, variance = (math.sqrt(alpha_bar) * m, alpha_bar * v + rest) if matched else (0 * m, 0 * v + 1)
    ends = torch.stack([torch.zeros_like(m), torch.ones_like(m)])
    times = schedule.subsequence(n_steps)[::-1].tolist()
    for t, s in pairwise(times) if method == "ancestral" else [(times[0], 0)]:
        if method == "ancestral":
            a, at_one = schedule.posterior_mean_from_noise(ends, denoise(ends, torch.full((2,), t)), t, s)
        else:
            a, at_one = sample(denoise, schedule, ends, n_steps=n_steps, method=method)
        b = at_one - a
        mean, variance = a + b * mean, b**2 * variance
        if method == "ancestral":
            variance = variance + schedule.posterior_variance(t, s)
    return mean, variance


def gaussian_tables(mean: Tensor, covariance: Tensor) -> dict[str, list[dict[str, Any]]]:
    """The output's mean and variance against the data's, for every sampler and start, and both Gaussians.

    For images of a mean and a covariance: the offset of the mean as brightness (over all pixels) and as the root mean
    square of the pixels', and the sum of the variances over the data's. In the covariance's eigenbasis the components
    are independent.
    """
    m, v = (torch.tensor([x], dtype=torch.float64) for x in (MEAN, DEVIATION**2))
    of_images, axes = torch.linalg.eigh(covariance)
    of_images, in_basis = of_images.clamp(min=0), mean.double().flatten() @ axes
    scalar, images = [], []
    for method, n_steps in SAMPLERS:
        for start in STARTS:
            schedule, matched = ZERO if start.startswith("zero") else PAPER, start.endswith("matched")
            row = {"sampler": method, "steps": n_steps, "start": start}
            at, spread = output(schedule, matched, method, n_steps, m, v)
            scalar.append(row | {"mean": float(at), "variance / 0.04": float(spread / v)})
            at, spread = output(schedule, matched, method, n_steps, in_basis, of_images)
            offset = axes @ (at - in_basis)
            images.append(
                row
                | {
                    "brightness off by": float(offset.mean()),
                    "pixels off by, root mean square": float(offset.square().mean().sqrt()),
                    "variance / the data's": float(spread.sum() / of_images.sum()),
                }
            )
    return {"Gaussian data": scalar, "Gaussian with MNIST's mean and covariance": images}


def of_digits(images: Tensor, labels: Tensor, n_samples: int, seed: int) -> list[dict[str, Any]]:
    """Samples with the exact denoiser of a set of digits, by start: brightness and balance.

    The matched starts have noise of their own, in float32. The start is matched to the mean and covariance of the set.
    The error of the brightness is that of the samples, of a set that is known.
    """
    mean, covariance = moments(images)
    rows = []
    for method, n_steps in SAMPLERS[1::2]:
        for start in STARTS:
            schedule, generator = ZERO if start.startswith("zero") else PAPER, torch.Generator().manual_seed(seed)
            x_T = torch.randn((n_samples, *images.shape[1:]), generator=generator, dtype=torch.float64)
            if start.endswith("matched"):
                generator.manual_seed(seed)
                x_T = matched_start(schedule, n_samples, mean, covariance=covariance, generator=generator).double()
            denoise = points_denoiser(schedule, images)
            x_0 = sample(denoise, schedule, x_T, n_steps=n_steps, method=method, generator=generator, progress=True)
            nearest = torch.cdist(x_0.flatten(1), images.double().flatten(1)).argmin(1)
            brightness = x_0.mean((1, 2, 3))
            balance = metrics.class_balance(labels[nearest].numpy(), labels.numpy())
            rows.append(
                {
                    "sampler": method,
                    "steps": n_steps,
                    "start": start,
                    "samples": n_samples,
                    "brightness off by": float(brightness.mean() - images.double().mean()),
                    "its standard error": float(brightness.std() / math.sqrt(n_samples)),
                    "counts of digits 0 to 9": torch.bincount(labels[nearest], minlength=10).tolist(),
                    "total variation of the digits": balance.distance._asdict(),
                }
            )
    return rows


# (b) The shipped network


def describe(images: Tensor) -> dict[str, Any]:
    """Brightness, and the digits that the classifier sees."""
    seen = classify(load_classifier(), images)
    brightness = images.mean((1, 2, 3))
    return {
        "images": len(images),
        "mean brightness": float(brightness.mean()),
        "its standard error": float(brightness.std() / math.sqrt(len(images))),
        "standard deviation of the images' brightness": float(brightness.std()),
        "mean of the outer 4 pixels": metrics.background(images).mean.value,
        "share with confidence above 0.9": float((seen.confidence > 0.9).float().mean()),
        "counts of digits 0 to 9": torch.bincount(seen.digit, minlength=10).tolist(),
    }


def pairs(n_samples: int, n_steps: int, mean: Tensor, covariance: Tensor, real: Tensor, seed: int) -> dict[str, Any]:
    """Samples of the shipped network from N(0, I) and from the matched start, by pairs of one noise."""
    model, schedule, _ = load_checkpoint(None)
    z = torch.randn((n_samples, 1, 32, 32), generator=torch.Generator().manual_seed(seed))
    x_T = matched_start(schedule, n_samples, mean, covariance=covariance, generator=torch.Generator().manual_seed(seed))
    images = [  # clipped, as they would be shown
        sample(model, schedule, x, n_steps=n_steps, method="dpmsolver++2m", progress=True).clamp(-1, 1)
        for x in (z, x_T)
    ]
    change = images[1] - images[0]
    brighter = change.mean((1, 2, 3))
    digits = [classify(load_classifier(), x).digit for x in images]
    return {
        "sampler": f"dpmsolver++2m, {n_steps} of {schedule.n_steps} steps",
        "seed": seed,
        "sqrt(alpha_bar_T)": math.sqrt(schedule.alpha_bar[-1]),
        "mean of x_T": {"N(0, I)": float(z.mean()), "matched": float(x_T.mean())},
        "from N(0, I)": describe(images[0]),
        "from the matched start": describe(images[1]),
        "real test images": describe(real),
        "change by the matched start, in pairs": {
            "mean brightness": float(brighter.mean()),
            "its standard error": float(brighter.std() / math.sqrt(n_samples)),
            "root mean square of the pixels": float(change.square().mean().sqrt()),
            "share of samples of another digit": float((digits[0] != digits[1]).float().mean()),
        },
    }


# (c) The likelihood


def tightness(n_steps: int) -> dict[str, Any]:
    """The bound less the entropy for data N(0.3, 0.2^2) and the exact denoiser, in nats; the betas scale with 1/T.

    It is KL(p(x_T) || N(0, 1)) and, in each step, (r - 1 - log r) / 2 with r the variance of x_s given x_t over the
    model's: here for the variance (15) of Algorithm 2, and for beta_t, the other choice of Ho, Jain & Abbeel (2020).
    """
    schedule = VarianceSchedule.linear(n_steps, 0.05 / n_steps, 10 / n_steps)
    t = np.arange(1, n_steps + 1)
    alpha, beta = schedule.transition(t)
    alpha_bar, rest = schedule.transition(t, 0 * t)
    spread = alpha_bar * DEVIATION**2 + rest  # of x_t
    before = np.concatenate([[DEVIATION**2], spread[:-1]])
    model = {"(15)": np.concatenate([beta[:1], schedule.posterior_variance(t)[1:]]), "beta_t": beta}
    ratio = {name: 1 / (1 / before + alpha / beta) / variance for name, variance in model.items()}
    gaps = {name: float((0.5 * (r - 1 - np.log(r))).sum()) for name, r in ratio.items()}
    # The same for (15) from the terms of the bound.
    left = alpha_bar * DEVIATION**2 / spread  # the variance of the noise given x_t
    steps = float(bound_weight(schedule, t[1:]) @ left[1:])
    last = 0.5 * math.log(2 * math.pi * beta[0]) + left[0] / (2 * alpha[0])
    prior = 0.5 * (alpha_bar[-1] * (MEAN**2 + DEVIATION**2 - 1) - math.log(rest[-1]))
    start = 0.5 * (spread[-1] + alpha_bar[-1] * MEAN**2 - 1 - math.log(spread[-1]))
    entropy = 0.5 * math.log(2 * math.pi * math.e * DEVIATION**2)
    return {
        "T": n_steps,
        "entropy": entropy,
        "bound": prior + steps + last,
        "bound less entropy": prior + steps + last - entropy,
        "of it KL(p(x_T) || N(0, 1))": start,
        "of it the steps": gaps["(15)"],
        "of it the steps, less Euler's constant / 2": gaps["(15)"] - float(np.euler_gamma) / 2,
        "the steps, if the variance were beta_t": gaps["beta_t"],
    }


def numbers(bound: VariationalBound) -> dict[str, Any]:
    """A bound, in bits per dimension, and where its bits are."""
    lengths = bound.last - bound.first + 1
    parts = {name: getattr(bound, name) for name in ("total", "prior", "reconstruction")}
    report: dict[str, Any] = {
        name: {"mean": float(part.mean), "standard error": float(part.error)} for name, part in parts.items()
    }
    report["sum of the steps 2..T"] = float(lengths @ bound.steps.mean)
    report["steps"] = {
        "first t": bound.first.tolist(),
        "last t": bound.last.tolist(),
        "mean of a term": bound.steps.mean.tolist(),
        "standard error": bound.steps.error.tolist(),
    }
    return report


def matched_prior(schedule: VarianceSchedule, x_0: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """The mean of KL(p(x_T | x_0) || matched start) over images, in bits per dimension."""
    alpha_bar, rest = schedule.transition(schedule.n_steps, 0)
    v, axes = torch.linalg.eigh(covariance)
    spread = alpha_bar * v.clamp(min=0) + rest
    gap = (x_0.double() - mean).flatten(1) @ axes
    nats = 0.5 * ((rest + alpha_bar * gap.square()) / spread - 1 + (spread / rest).log()).sum(1)
    return float(nats.mean()) / (math.log(2) * x_0[0].numel())


def likelihood(x_0: Tensor, n_times: int, mean: Tensor, covariance: Tensor, seed: int) -> dict[str, Any]:
    """The bound of the network, and of the exact denoiser of a Gaussian, on the same images and noise."""
    trained, schedule, _ = load_checkpoint(None)
    models: dict[str, Denoiser] = {
        "network": trained,
        "Gaussian": gaussian_denoiser(schedule, mean, covariance=covariance),
    }
    report: dict[str, Any] = {
        "images": len(x_0),
        "data": "MNIST resized to 32 x 32 and rounded to 256 values; decoder: bins of width 2/255",
        "strata": n_times,
        "seed": seed,
        "prior of the matched start": matched_prior(schedule, x_0, mean, covariance),
    }
    for name, model in models.items():
        generator = torch.Generator().manual_seed(seed)
        report[name] = numbers(
            variational_bound(
                model, schedule, x_0, decoder=pixel_decoder, n_times=n_times, generator=generator, progress=True
            )
        )
    return report


# The picture


def draw(report: dict[str, Any]) -> Figure:
    """The output's law, the brightness of samples, the bound by t and its bits added up."""
    figure = Figure(figsize=(10.4, 7.6), layout="constrained")
    above, below = figure.subfigures(2, 1)  # type: ignore[misc]
    mean, variance, samples = above.subplots(1, 3, width_ratios=[1.5, 1, 1])
    terms, total = below.subplots(1, 2)
    draw_law(mean, variance, report["Gaussian with MNIST's mean and covariance"])
    draw_brightness(samples, report["network's samples"])
    draw_terms(terms, report["likelihood"])
    draw_sum(total, report["likelihood"])
    return figure


def draw_law(left: Axes, right: Axes, rows: list[dict[str, Any]]) -> None:
    """Panels (a) and (b)."""
    for i, (start, marker, shade) in enumerate(zip(STARTS, "osD^", ("0.0", "0.0", "0.55", "0.55"), strict=True)):
        chosen = [row for row in rows if row["start"] == start]
        y = np.arange(len(chosen)) + 0.18 * (i - 1.5)
        style: dict[str, Any] = {
            "color": shade,
            "mfc": "white" if start.endswith("matched") else shade,
            "ls": "",
            "ms": 6,
        }
        left.plot([row["brightness off by"] for row in chosen], y, marker, label=start, **style)
        right.plot([row["variance / the data's"] for row in chosen], y, marker, **style)
    left.set(
        title="(a) Gaussian like MNIST, exact denoiser",
        xlabel="brightness of the output less the data's (pixels in [-1, 1])",
        yticks=range(len(SAMPLERS)),
        yticklabels=[f"{method},\n{n_steps} steps" for method, n_steps in SAMPLERS],
        ylim=(len(SAMPLERS) - 0.5, -0.5),
    )
    right.set(title="(b) its variance", xlabel="output / data", yticks=[], ylim=left.get_ylim())
    left.axvline(0, color="0.8", lw=1, zorder=0)
    right.axvline(1, color="0.8", lw=1, zorder=0)
    left.legend(fontsize=8, loc="lower center")


def draw_brightness(ax: Axes, table: dict[str, Any]) -> None:
    """Panel (c)."""
    kinds = ("from N(0, I)", "from the matched start", "real test images")
    values = [table[kind]["mean brightness"] for kind in kinds]
    errors = [2 * table[kind]["its standard error"] for kind in kinds]
    ax.errorbar(range(3), values, errors, fmt="ko", ms=5, capsize=3)
    ax.set(
        title="(c) samples of the network",
        ylabel="mean brightness, ± 2 standard errors",
        xticks=range(3),
        xticklabels=["N(0, I)", "matched\nstart", "test\nimages"],
        xlim=(-0.5, 2.5),
    )


def draw_terms(ax: Axes, table: dict[str, Any]) -> None:
    """Panel (d)."""
    for name, style, shade in (("Gaussian", "--", "0.5"), ("network", "-", "0.0")):
        steps = table[name]["steps"]
        low, high, term, error = (
            np.array(steps[key]) for key in ("first t", "last t", "mean of a term", "standard error")
        )
        ax.errorbar(
            np.sqrt(low * high), term, 2 * error, fmt=style, marker="o" if name == "network" else "s", color=shade,
            ms=3, lw=1, capsize=2, label=f"exact denoiser of a {name}" if name == "Gaussian" else f"the {name}",
        )  # fmt: skip
    ax.set(
        title="(d) the bound: the term of one time, ± 2 standard errors",
        xlabel="t (strata: their geometric middle)",
        ylabel="KL, bits per dimension",
        xscale="log",
        yscale="log",
    )
    ax.legend(fontsize=8)


def draw_sum(ax: Axes, table: dict[str, Any]) -> None:
    """Panel (e)."""
    for name, style, shade in (("Gaussian", "--", "0.5"), ("network", "-", "0.0")):
        one = table[name]
        low, high, term = (np.array(one["steps"][key]) for key in ("first t", "last t", "mean of a term"))
        bits = one["prior"]["mean"] + np.cumsum(((high - low + 1) * term)[::-1])[::-1]
        total = one["total"]["mean"]
        # From the prior at T down to t = 2, and the reconstruction at t = 1.
        ax.plot([*low, high[-1] + 1], [*bits, one["prior"]["mean"]], style, color=shade, lw=1.4)
        ax.plot([1, low[0]], [total, bits[0]], ":", color=shade, lw=1.2)
        ax.plot(
            1, total, "o" if name == "network" else "s", color=shade, ms=6,
            label=f"{name}: {total:.3f} ± {one['total']['standard error']:.3f}",
        )  # fmt: skip
    ax.set(
        title="(e) the bound: terms added up from T down",
        xlabel="from T down to t (at 1 also the pixels given $x_1$)",
        ylabel="bits per dimension",
        xscale="log",
    )
    ax.set_ylim(0, None)
    ax.legend(fontsize=8)


def main(
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_samples: int = 200,
    n_images: int = 500,
    n_times: int = 40,
    seed: int = 0,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    n_samples, n_steps, n_images, n_times = (4, 3, 4, 4) if smoke else (n_samples, 20, n_images, n_times)
    results = results or (Path("runs") if smoke else HERE / "results") / "start_and_likelihood.json"
    training, test = (load_mnist("sample" if smoke else split, data_dir) for split in ("train", "test"))
    mean, covariance = moments(to_tensor(training.images))
    chosen = np.random.default_rng(seed).permutation(len(test.images))[:n_images]  # the file is ordered
    real = to_tensor(test.images)
    x_0 = ((real[chosen] + 1) * 127.5).round() / 127.5 - 1
    start = time.perf_counter()
    report: dict[str, Any] = {**gaussian_tables(mean, covariance)}
    report["Gaussian data, tightness of the bound"] = [tightness(n) for n in (250, 500, 1000, 2000, 4000, 8000, 16000)]
    set_of_digits = load_mnist("sample")
    few = slice(None, None, 100 if smoke else 1)
    labels = torch.from_numpy(set_of_digits.labels.astype(np.int64))[few]
    report["5,000 digits"] = of_digits(to_tensor(set_of_digits.images[few]), labels, 5 * n_samples, seed)
    report["network's samples"] = pairs(n_samples, n_steps, mean, covariance, real, seed)
    report["likelihood"] = likelihood(x_0, n_times, mean, covariance, seed)
    report |= {
        "seconds": round(time.perf_counter() - start, 1),
        "network": network(load_checkpoint(None)),
        **provenance(torch.device("cpu")),
    }
    write_json(results, report)
    save_figure(draw(report), results, dpi=96, colours=256)
    typer.echo(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
