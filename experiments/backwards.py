"""The renormalised flow backwards: what priors recover of functions and of digits, the trained network among them.

Question   Section 7 of the paper ends with running the flow backwards "in seeking to recover or approximate the
           initial conditions under various Markovian assumptions". How far does empirical Bayes get on functions,
           beside the best that spectral cut-off and Tikhonov's method could do; does the expected energy give the
           scale; and on digits, how far do a Gaussian, a mixture of Gaussians and the trained network get?
Command    python experiments/backwards.py [--checkpoint NAME] [--data-dir DIRECTORY]
Minutes    about 6 on 2 CPU cores; --smoke: seconds
Result     results/backwards.json, and the picture as results/backwards.png and .pdf
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt
import torch
import typer
from matplotlib.figure import Figure
from tqdm import tqdm

from diffmath._files import save_figure, write_json
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import Checkpoint, choose_device, conditioned, load_checkpoint, sample
from diffmath.ddpm._environment import provenance
from diffmath.domains import Box
from diffmath.pde import RenormalizedFlow
from diffmath.pde.inverse import reconstruct
from diffmath.pde.priors import (
    EmpiricalBayes,
    GaussianPrior,
    MixturePrior,
    Observation,
    Prior,
    SpectralCutoff,
    Tikhonov,
)

HERE = Path(__file__).parent
Floats = npt.NDArray[np.float64]

CELLS, TIME, NOISE = 512, 1e-2, 1e-3
SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "step": lambda x: np.sign(0.4 - x),
    "hat": lambda x: np.maximum(0.0, 1 - 4 * np.abs(x - 0.4)),
    "smooth": lambda x: np.exp(np.cos(2 * np.pi * (x - 0.1))),
}
CUTOFFS = [SpectralCutoff(n) for n in range(1, 18)]  # mu T stays below 30
TIKHONOVS = [Tikhonov(alpha) for alpha in 10.0 ** np.arange(-12, 1, 0.25)]
SIZE, PIXEL_NOISE, BLURS = 32, 0.01, (2, 4)  # pixels by which digits are blurred: the heat kernel's deviation
Z_90 = 1.6448536269514722


def relative(estimate: Floats, truth: Floats) -> float:
    """The L2 error over the L2 norm, from amplitudes or values."""
    return float(np.linalg.norm(estimate - truth) / np.linalg.norm(truth))


def functions(n_draws: int, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Medians over draws of the noise of the relative error of each estimate, for the plain heat flow."""
    box = Box(CELLS)
    flow, mu = RenormalizedFlow(box), box.eigenvalues
    deviation, decay = NOISE / math.sqrt(CELLS), np.exp(-mu[1:] * TIME)
    table = {}
    for name in (*SHAPES, "rough"):
        errors: dict[str, list[float]] = {}
        for _ in range(n_draws):
            if name == "rough":
                truth = np.append(0.0, mu[1:] ** -0.5 * rng.standard_normal(CELLS - 1))
            else:
                truth = box.to_modes(SHAPES[name](box.coordinates[0]))
                truth[0] = 0.0
            u_T = box.apply(lambda mu: np.exp(-mu * TIME), box.to_values(truth)) + NOISE * rng.standard_normal(CELLS)
            seen = Observation(mu[1:], decay, box.to_modes(u_T)[1:], deviation)

            def error(prior: Prior, seen: Observation = seen, truth: Floats = truth) -> float:
                return relative(prior.posterior(seen).mean, truth[1:])

            estimate = reconstruct(flow, u_T, TIME, noise=NOISE)
            inside = (estimate.lower <= box.to_values(truth)) & (box.to_values(truth) <= estimate.upper)
            for key, value in {
                "cut-off, the best": min(map(error, CUTOFFS)),
                "Tikhonov, the best": min(map(error, TIKHONOVS)),
                "cut-off, discrepancy": error(SpectralCutoff()),
                "Tikhonov, discrepancy": error(Tikhonov()),
                "empirical Bayes": relative(estimate.amplitude.values, truth),
                "90 % bands cover": float(inside.mean()),
            }.items():
                errors.setdefault(key, []).append(value)
        table[name] = {key: float(np.median(values)) for key, values in errors.items()}
        table[name]["90 % bands cover"] = float(np.mean(errors["90 % bands cover"]))
        best = min(table[name]["cut-off, the best"], table[name]["Tikhonov, the best"])
        table[name]["empirical Bayes over the best"] = table[name]["empirical Bayes"] / best
    return table


def scales(n_draws: int, rng: np.random.Generator) -> dict[str, float]:
    """A step under the renormalised flow to T = 2e-3, whose factor is unknown: three ways to the scale."""
    box, T = Box(CELLS), 2e-3
    flow = RenormalizedFlow(box)
    truth = box.to_modes(SHAPES["step"](box.coordinates[0]))
    truth[0] = 0.0
    C = float(box.eigenvalues @ truth**2)
    u_T = flow.evolve(box.to_values(truth), T)[0]
    factor = np.linalg.norm(u_T) / np.linalg.norm(box.apply(lambda mu: np.exp(-mu * T), box.to_values(truth)))
    noise = NOISE * float(np.sqrt((u_T**2).mean()))
    errors = []
    for _ in range(n_draws):
        estimate = reconstruct(flow, u_T + noise * rng.standard_normal(CELLS), T, noise=noise, C=C)
        mean = estimate.amplitude.values / estimate.scale
        alone = mean * math.sqrt(C / float(box.eigenvalues @ mean**2))
        known, expected = mean / float(factor), estimate.amplitude.values
        errors.append([relative(a, truth) for a in (known, expected, alone)])
    names = ("the factor is known", "the expected energy is C", "the energy of the mean is C")
    return dict(zip(names, np.median(errors, axis=0).tolist(), strict=True))


class Digits(NamedTuple):
    """Estimates of digits from blurred ones: name -> images, and name -> whether the bands hold each pixel."""

    truth: Floats
    blurred: Floats
    estimates: dict[str, Floats]
    errors: dict[str, float]
    cover: dict[str, float]
    draws: Floats


def digits(
    blur: int, images: Floats, priors: dict[str, Prior], trained: Checkpoint, variance: Floats, options: dict[str, int]
) -> Digits:
    """Estimates by every prior; the network's is the mean of draws from its posterior."""
    box, rng = Box((SIZE, SIZE)), np.random.default_rng(options["seed"])
    T = (blur / SIZE) ** 2 / 2
    decay = np.exp(-box.eigenvalues * T)
    blurred = box.apply(lambda mu: np.exp(-mu * T), images) + PIXEL_NOISE * rng.standard_normal(images.shape)
    flow = RenormalizedFlow(box)
    estimates: dict[str, list[Floats]] = {name: [] for name in priors}
    cover: dict[str, list[float]] = {name: [] for name in priors}
    best = []
    for image, data in zip(images, tqdm(blurred, desc=f"blur {blur}", disable=None), strict=True):
        for name, prior in priors.items():
            found = reconstruct(flow, data, T, noise=PIXEL_NOISE, prior=prior, mean="keep")
            estimates[name].append(found.u.values)
            cover[name].append(float(((found.lower <= image) & (image <= found.upper)).mean()))
        seen = Observation(box.eigenvalues.ravel(), decay.ravel(), box.to_modes(data).ravel(), PIXEL_NOISE / SIZE)
        candidates = [box.to_values(prior.posterior(seen).mean.reshape(box.shape)) for prior in TIKHONOVS]
        misses = [relative(u, image) for u in candidates]
        best.append(candidates[int(np.argmin(misses))])
    draws = []
    for i, data in enumerate(blurred):
        network = conditioned(trained.model, trained.schedule, data, decay=decay, noise=PIXEL_NOISE, variance=variance)
        x = sample(
            network, trained.schedule, None, options["n_draws"], options["n_steps"],
            generator=options["seed"] + i, progress=True,
        )  # fmt: skip
        draws.append(x[:, 0].double().numpy())
    drawn = np.array(draws)
    mean, spread = drawn.mean(axis=1), drawn.std(axis=1, ddof=1)
    cover["network"] = [float((np.abs(mean - images) <= Z_90 * spread).mean())]
    together = {"Tikhonov, the best": np.array(best)}
    together |= {name: np.array(found) for name, found in estimates.items()} | {"network": mean}
    errors = {
        name: float(np.median([relative(u, image) for u, image in zip(found, images, strict=True)]))
        for name, found in (together | {"network, one draw": drawn[:, 0]}).items()
    }
    return Digits(images, blurred, together, errors, {k: float(np.mean(v)) for k, v in cover.items()}, drawn)


def draw(found: Digits, blur: int, columns: int = 8) -> Figure:
    """A row for each estimate; the last rows are draws from the network's posterior."""
    rows = {"digits": found.truth, f"blurred by {blur} pixels": found.blurred} | found.estimates
    rows |= {f"network, draw {i + 1}": found.draws[:, i] for i in range(min(2, found.draws.shape[1]))}
    columns = min(columns, len(found.truth))
    figure = Figure((1.1 * columns + 2.2, 1.1 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        error = found.errors.get(name)
        label = name if error is None else f"{name}\nerror {error:.3f}"
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def main(
    checkpoint: Annotated[Optional[str], typer.Option(help="A trained network: a file or a name.")] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_draws: Annotated[int, typer.Option(help="Draws of the noise for each function.")] = 60,
    n_digits: int = 16,
    n_components: Annotated[int, typer.Option(help="Of the mixture.")] = 150,
    n_training: Annotated[int, typer.Option(help="Digits from which the priors are made.")] = 20_000,
    n_steps: Annotated[int, typer.Option(help="Of each draw from the network's posterior.")] = 25,
    seed: int = 0,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "backwards.json"
    if smoke:
        n_draws, n_digits, n_components, n_training, n_steps = 1, 1, 2, 60, 2
    rng = np.random.default_rng(seed)
    trained = load_checkpoint(checkpoint or "compact", device=choose_device("cpu"))
    train = (load_mnist("sample") if smoke else load_mnist("train", data_dir)).images
    test = (load_mnist("sample") if smoke else load_mnist("test", data_dir)).images
    training, images = (
        to_tensor(a[rng.permutation(len(a))[:n]]).squeeze(1).double().numpy()
        for a, n in ((train, n_training), (test, n_digits))
    )
    box = Box((SIZE, SIZE))
    modes = box.to_modes(training).reshape(len(training), -1)
    variance = (modes.var(axis=0) * SIZE**2 + 1e-6).reshape(SIZE, SIZE)
    priors: dict[str, Prior] = {
        "empirical Bayes": EmpiricalBayes(),
        "Gaussian": GaussianPrior.of(modes),
        "mixture": MixturePrior.of(modes, n_components, rng=seed),
    }
    options = {"n_draws": 2 if smoke else 5, "n_steps": n_steps, "seed": seed}
    found = {blur: digits(blur, images, priors, trained, variance, options) for blur in BLURS}
    report: dict[str, Any] = {
        "functions": functions(n_draws, rng),
        "scale": scales(n_draws, rng),
        "digits": {
            f"blurred by {blur} pixels": {"error": d.errors, "90 % bands cover": d.cover} for blur, d in found.items()
        },
        "settings": options | {"digits": n_digits, "training": n_training, "components": n_components},
        "seed": seed,
        **provenance(torch.device("cpu")),
    }
    write_json(results, report)
    save_figure(draw(found[BLURS[-1]], BLURS[-1]), results, dpi=120)
    typer.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
