"""The renormalised flow backwards: what priors recover of functions and of digits, the trained network among them.

Question   Section 7 of the paper ends with running the flow backwards "in seeking to recover or approximate the
           initial conditions under various Markovian assumptions". How far does empirical Bayes get on functions,
           beside the best that spectral cut-off and Tikhonov's method could do; does the expected energy give the
           scale; and on digits, how far do a Gaussian, a mixture of Gaussians and the trained network get? Why are
           the network's bands too narrow: too few draws, too few steps, or the network?
Command    python experiments/backwards.py [--part NAME ...] [--checkpoint NAME] [--data-dir DIRECTORY]
Minutes    about 10 on a CPU core, 6 of them for the network; --smoke: seconds
Result     results/backwards.json, written after each part, and the picture as results/backwards.png and .pdf
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
from scipy import stats
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

PARTS = ("functions", "scale", "digits", "network", "steps")
CELLS, TIME, NOISE = 512, 1e-2, 1e-3
SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "step": lambda x: np.sign(0.4 - x),
    "hat": lambda x: np.maximum(0.0, 1 - 4 * np.abs(x - 0.4)),
    "smooth": lambda x: np.exp(np.cos(2 * np.pi * (x - 0.1))),  # its even extension has kinks
    "analytic": lambda x: np.exp(np.cos(2 * np.pi * x)),
}
CUTOFFS = [SpectralCutoff(n) for n in range(1, 18)]  # mu T stays below 30
TIKHONOVS = [Tikhonov(alpha) for alpha in 10.0 ** np.arange(-12, 1, 0.25)]
SIZE, PIXEL_NOISE, BLURS = 32, 0.01, (2, 4)  # pixels by which digits are blurred: the heat kernel's deviation
LEVEL = 0.9
LIKE_TIKHONOV = {  # the median error over that of Tikhonov's best
    "Gaussian at a blur of 2 pixels": (2, "Gaussian", 0.87),
    "mixture at a blur of 4 pixels": (4, "mixture", 0.72),
}
LIKE_CLASSICAL = 1.15  # how much larger than the best classical estimate's the error of empirical Bayes may be


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
        ratio = table[name]["empirical Bayes"] / best
        table[name] |= {"empirical Bayes over the best": ratio, "holds": ratio <= LIKE_CLASSICAL}
    return table


def scales(n_draws: int, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """A step under the renormalised flow, whose factor is unknown: three ways to the scale."""
    box = Box(CELLS)
    flow = RenormalizedFlow(box)
    table = {}
    for jump, T in ((0.5, 1e-3), (0.4, 1e-3), (0.4, 2e-3)):
        truth = box.to_modes(np.sign(jump - box.coordinates[0]))
        truth[0] = 0.0
        C = float(box.eigenvalues @ truth**2)
        u_T = flow.evolve(box.to_values(truth), T)[0]
        factor = np.linalg.norm(u_T) / np.linalg.norm(box.to_values(np.exp(-box.eigenvalues * T) * truth))
        noise = NOISE * float(np.sqrt((u_T**2).mean()))
        errors = []
        for _ in range(n_draws):
            estimate = reconstruct(flow, u_T + noise * rng.standard_normal(CELLS), T, noise=noise, C=C)
            mean = estimate.amplitude.values / estimate.scale
            alone = mean * math.sqrt(C / float(box.eigenvalues @ mean**2))
            known, expected = mean / float(factor), estimate.amplitude.values
            errors.append([relative(a, truth) for a in (known, expected, alone)])
        names = ("the factor is known", "the expected energy is C", "the energy of the mean is C")
        table[f"jump at {jump:g}, T = {T:g}"] = dict(zip(names, np.median(errors, axis=0).tolist(), strict=True))
    return table


class Blurred(NamedTuple):
    """Digits (N, 32, 32), what the heat flow and noise have made of them, and the decay of each cosine mode."""

    truth: Floats
    data: Floats
    T: float
    decay: Floats


def blurred(images: Floats, blur: int, seed: int) -> Blurred:
    """Digits after the heat flow that blurs them by so many pixels, with noise."""
    box, T = Box((SIZE, SIZE)), (blur / SIZE) ** 2 / 2
    decay, rng = np.exp(-box.eigenvalues * T), np.random.default_rng(seed)
    data = box.to_values(decay * box.to_modes(images)) + PIXEL_NOISE * rng.standard_normal(images.shape)
    return Blurred(images, data, T, decay)


class Found(NamedTuple):
    """Estimates of digits by name, and the lower and upper ends of their bands."""

    estimates: dict[str, Floats]
    bands: dict[str, tuple[Floats, Floats]]

    def report(self, truth: Floats) -> dict[str, Any]:
        """Median errors, and what the bands cover of the background, where digits are exactly -1, and of the rest."""
        masks = {"all": np.ones_like(truth, dtype=bool), "background": truth == -1, "digit": truth > -1}
        errors = {
            name: float(np.median([relative(u, image) for u, image in zip(found, truth, strict=True)]))
            for name, found in self.estimates.items()
        }
        inside = {name: (lower <= truth) & (truth <= upper) for name, (lower, upper) in self.bands.items()}
        cover = {name: {m: float(held[mask].mean()) for m, mask in masks.items()} for name, held in inside.items()}
        return {"digits": len(truth), "error": errors, "90 % bands cover": cover}


def by_priors(seen: Blurred, priors: dict[str, Prior]) -> Found:
    """The estimates by every prior, and by the best of Tikhonov's parameters with each digit known."""
    box = Box((SIZE, SIZE))
    flow = RenormalizedFlow(box)
    estimates: dict[str, list[Floats]] = {name: [] for name in ("Tikhonov, the best", *priors)}
    bands: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in priors}
    for image, data in zip(seen.truth, tqdm(seen.data, desc="priors", disable=None), strict=True):
        modes = Observation(box.eigenvalues.ravel(), seen.decay.ravel(), box.to_modes(data).ravel(), PIXEL_NOISE / SIZE)
        candidates = [box.to_values(prior.posterior(modes).mean.reshape(box.shape)) for prior in TIKHONOVS]
        misses = [relative(u, image) for u in candidates]
        estimates["Tikhonov, the best"].append(candidates[int(np.argmin(misses))])
        for name, prior in priors.items():
            found = reconstruct(flow, data, seen.T, noise=PIXEL_NOISE, prior=prior, mean="keep", level=LEVEL)
            estimates[name].append(found.u.values)
            bands[name].append((found.lower.values, found.upper.values))
    ends = {name: (np.array(both)[:, 0], np.array(both)[:, 1]) for name, both in bands.items()}
    return Found({name: np.array(found) for name, found in estimates.items()}, ends)


def by_network(seen: Blurred, trained: Checkpoint, variance: Floats, n_draws: int, n_steps: int, seed: int) -> Floats:
    """Draws from the network's posterior, of shape (N, n_draws, 32, 32); those of a digit depend on the seed alone."""
    draws = []
    for i, data in enumerate(tqdm(seen.data, desc=f"network, {n_steps} steps", disable=None)):
        network = conditioned(
            trained.model, trained.schedule, data, decay=seen.decay, noise=PIXEL_NOISE, variance=variance
        )
        x = sample(network, trained.schedule, None, n_draws, n_steps, generator=seed + i)
        draws.append(x[:, 0].double().numpy())
    return np.array(draws)


def judged(draws: Floats) -> Found:
    """The mean of draws, with bands of three kinds.

    Those of 1.64 deviations ignore that the deviation of few draws is uncertain. Student's hold one more draw with the
    probability of 90 % if draws are Gaussian. Clipped draws use that pixels lie in [-1, 1].
    """
    n = draws.shape[1]
    student = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * math.sqrt(1 + 1 / n)
    clipped = draws.clip(-1, 1)
    bands = {}
    for name, x, width in (
        ("network, 1.64 deviations", draws, float(stats.norm.ppf((1 + LEVEL) / 2))),
        ("network", draws, student),
        ("network, clipped", clipped, student),
    ):
        mean, half = x.mean(axis=1), width * x.std(axis=1, ddof=1)
        bands[name] = mean - half, mean + half
    estimates = {"network": draws.mean(axis=1), "network, clipped": clipped.mean(axis=1)}
    return Found(estimates | {"network, one draw": draws[:, 0]}, bands)


def draw(seen: Blurred, found: Found, draws: Floats, blur: int, columns: int = 8) -> Figure:
    """A row for each estimate; the last rows are draws from the network's posterior."""
    errors = found.report(seen.truth)["error"]
    rows = {"digits": seen.truth, f"blurred by {blur} pixels": seen.data}
    rows |= {name: u for name, u in found.estimates.items() if "," not in name or "best" in name}
    rows |= {f"network, draw {i + 1}": draws[:, i] for i in range(min(2, draws.shape[1]))}
    columns = min(columns, len(seen.truth))
    figure = Figure((1.1 * columns + 2.2, 1.1 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        error = errors.get(name)
        label = name if error is None else f"{name}\nerror {error:.3f}"
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def main(
    part: Annotated[
        Optional[list[str]], typer.Option(help=f"One of {', '.join(PARTS)}; all unless given. The rest is kept.")
    ] = None,
    checkpoint: Annotated[Optional[str], typer.Option(help="A trained network: a file or a name.")] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_noises: Annotated[int, typer.Option(help="Draws of the noise for each function.")] = 60,
    n_digits: Annotated[int, typer.Option(help="Digits that the priors recover.")] = 100,
    n_network: Annotated[int, typer.Option(help="The first of them, for the network.")] = 40,
    n_components: Annotated[int, typer.Option(help="Of the mixture.")] = 150,
    n_training: Annotated[int, typer.Option(help="Digits from which the priors are made.")] = 20_000,
    n_draws: Annotated[int, typer.Option(help="From the network's posterior, for each digit.")] = 5,
    n_steps: Annotated[int, typer.Option(help="Of each draw.")] = 25,
    seed: int = 0,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "backwards.json"
    if unknown := set(part or ()) - set(PARTS):
        raise typer.BadParameter(f"part must be one of {', '.join(PARTS)}; it is {unknown.pop()}")
    if smoke:
        n_noises, n_digits, n_network, n_components, n_training, n_draws, n_steps = 1, 2, 1, 2, 60, 2, 2
    settings = {
        "n_noises": n_noises, "training": n_training, "components": n_components, "n_draws": n_draws,
        "n_steps": n_steps, "seed": seed,
    }  # fmt: skip
    report: dict[str, Any] = json.loads(results.read_text()) if part and results.exists() else {}
    rng = np.random.default_rng(seed)
    train = (load_mnist("sample") if smoke else load_mnist("train", data_dir)).images
    test = (load_mnist("sample") if smoke else load_mnist("test", data_dir)).images
    training, images = (
        to_tensor(a[rng.permutation(len(a))[:n]]).squeeze(1).double().numpy()
        for a, n in ((train, n_training), (test, n_digits))
    )
    modes = Box((SIZE, SIZE)).to_modes(training).reshape(len(training), -1)
    variance = (modes.var(axis=0) * SIZE**2 + 1e-6).reshape(SIZE, SIZE)
    priors: dict[str, Prior] = {
        "empirical Bayes": EmpiricalBayes(),
        "Gaussian": GaussianPrior.of(modes),
        "mixture": MixturePrior.of(modes, n_components, rng=seed),
    }
    trained = load_checkpoint(checkpoint or "compact", device=choose_device("cpu"))
    few = images[:n_network]

    def digits() -> dict[str, Any]:
        found = {blur: by_priors(blurred(images, blur, seed), priors) for blur in BLURS}
        table = {f"blurred by {blur} pixels": f.report(images) for blur, f in found.items()}
        for name, (blur, prior, bound) in LIKE_TIKHONOV.items():
            errors = table[f"blurred by {blur} pixels"]["error"]
            ratio = errors[prior] / errors["Tikhonov, the best"]
            table[name] = {"ratio": ratio, "at most": bound, "holds": ratio <= bound}
        return table

    def network() -> dict[str, Any]:
        table = {}
        for blur in BLURS:
            seen = blurred(few, blur, seed)
            draws = by_network(seen, trained, variance, n_draws, n_steps, seed)
            (names, ends), (others, other_ends) = by_priors(seen, priors), judged(draws)
            found = Found(names | others, ends | other_ends)
            table[f"blurred by {blur} pixels"] = found.report(few)
        save_figure(draw(seen, found, draws, blur), results, dpi=120)
        return table

    def steps() -> dict[str, Any]:
        seen = blurred(few[:8], BLURS[0], seed)
        counts = (n_steps, 4 * n_steps)
        draws = {n: by_network(seen, trained, variance, n_draws, n, seed) for n in counts}
        return {f"{n} steps": judged(x).report(seen.truth) for n, x in draws.items()}

    run: dict[str, Callable[[], Any]] = {
        "functions": lambda: functions(n_noises, np.random.default_rng(seed)),
        "scale": lambda: scales(n_noises, np.random.default_rng(seed)),
        "digits": digits,
        "network": network,
        "steps": steps,
    }
    for name in part or PARTS:
        report[name] = run[name]()
        report.setdefault("runs", {})[name] = settings | provenance(torch.device("cpu"))
        write_json(results, report)
    typer.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
