"""How good are digits drawn from the first eigenmode? The heat model beside real images, and beside another network.

Question   Of samples of the heat model (`load_checkpoint("heat")`) from its three-number law: of how many is the
           classifier more than 90 % sure, how far is their law from that of real images, is it as varied, are there
           copies, how many are there of each digit? For two rates eta at which the way back renews its noise. How well
           do the energies of the samples follow those that were asked for? Beside them as many real images and, with
           --beside, samples of a network trained for Algorithm 2.
Command    python experiments/heat.py [--n-samples N] [--n-steps N] [--beside NAME]
Minutes    N x steps evaluations for each row, of which a CPU core makes 200 a second: 12 for a row of 1,500 samples by
           90 steps; blocks of 100 samples are kept in runs/ and not made again. --smoke: seconds
Result     results/heat.json, the table on the terminal, and the samples as runs/ROW.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib import image
from sample_statistics import cached_samples, network, record

from diffmath._files import replacing, write_json
from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import choose_device, classify, load_checkpoint, load_classifier, metrics

HERE = Path(__file__).parent
RATES = (4.0, 1.0)
BESIDE_STEPS = 100


def main(
    beside: Annotated[Optional[str], typer.Option(help="A network for Algorithm 2: a shipped name, or a file.")] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_samples: Annotated[int, typer.Option(min=100)] = 1500,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps of the way back.")] = 90,
    seed: int = 0,
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    results = results or (Path("runs") if smoke else HERE / "results") / "heat.json"
    n_samples, n_steps, rates = (100, 2, RATES[:1]) if smoke else (n_samples, n_steps, RATES)
    chosen = choose_device(device)
    splits = ("sample", "sample") if smoke else ("train", "test")
    training, reference = (to_tensor(load_mnist(split, data_dir).images) for split in splits)  # type: ignore[arg-type]
    if smoke:
        training, reference = training[::10], reference[1::10]
    heat = load_checkpoint("heat", device=chosen)
    asked: list[np.ndarray[Any, Any]] = []

    def start(n: int, generator: torch.Generator) -> torch.Tensor:
        rng = np.random.default_rng(generator.initial_seed())
        asked.append(heat.schedule.law.sample(n, rng))
        return torch.from_numpy(heat.schedule.start(n, rng, asked[-1])).float()

    found: dict[str, metrics.Evaluation] = {}
    samples: dict[str, Any] = {}

    def row(label: str, images: torch.Tensor, seconds: float, **entries: Any) -> None:
        """Judge samples, and write the results of all rows until now."""
        if not found:
            both = metrics.evaluate_beside_real(images, reference, training, rng=seed)
            found["real images"], found[label] = both["real images"], both["samples"]
        else:
            found[label] = metrics.evaluate(images, reference, training, rng=seed)
        digits = classify(load_classifier(), images).digit
        counts = torch.bincount(digits, minlength=10).tolist()
        samples[label] = {"digits 0, 1, ..., 9": counts, "seconds": round(seconds, 1), **entries}
        with replacing(Path("runs") / f"{label.replace(', eta = ', '_')}.png") as path:
            image.imsave(path, tile(images[digits.argsort(stable=True)], columns=25), cmap="gray", vmin=-1, vmax=1)
        numbers = {name: metrics.summary(evaluation) for name, evaluation in found.items()}
        report = {"numbers": numbers, "samples": samples, "images of each": n_samples, "seed": seed, **record(chosen)}
        write_json(results, report)

    for eta in rates:
        asked.clear()
        images, seconds = cached_samples(heat, n_samples, n_steps, seed, chosen, start, eta=eta)
        energies = np.stack([np.concatenate(asked)[:, 1], heat.schedule.triples(images.double().numpy())[:, 1]])
        correlations = {"of C": np.corrcoef(np.exp(energies))[0, 1], "of log C": np.corrcoef(energies)[0, 1]}
        row(
            f"heat, eta = {eta:g}",
            images,
            seconds,
            steps=n_steps,
            network=network(heat),
            **{"correlation of asked and got": {name: float(value) for name, value in correlations.items()}},
        )
    if beside is not None:
        other = load_checkpoint(beside, device=chosen)
        steps = min(n_steps, BESIDE_STEPS) if smoke else BESIDE_STEPS
        images, seconds = cached_samples(other, n_samples, steps, seed, chosen, method="ancestral")
        row("DDPM", images, seconds, steps=steps, network=network(other))
    typer.echo(metrics.table(found))


if __name__ == "__main__":
    typer.run(main)
