"""Does the network copy its training images? Beside it the minimiser that does: the exact denoiser of a finite set.

Question   How far are generated digits from the nearest training image, over the distance to the second nearest, for
           the network, for real test images, for copies with a little noise, and for Algorithm 2 with the exact
           denoiser of the training images (section 6 of the paper: the loss has a minimiser that memorises)?
Command    python experiments/memorisation.py [--checkpoint NAME] [--data-dir DIRECTORY]
Minutes    about 10 on 2 CPU cores; --smoke: seconds
Result     results/memorisation.json, and the picture as results/memorisation.png and .pdf
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from sample_statistics import cached_samples, network, record
from torch import Tensor

from diffmath._files import save_figure, write_json
from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import choose_device, classify, load_checkpoint, load_classifier, points_denoiser, sample
from diffmath.ddpm.metrics import Memorisation, memorisation

HERE = Path(__file__).parent
NOISE = 0.02  # of the copies
STYLES = {
    "the network": {"color": "black", "linestyle": "-"},
    "real test images": {"color": "0.6", "linestyle": "-"},
    f"training images with noise of {NOISE}": {"color": "0.4", "linestyle": "--"},
    "the exact denoiser of the training images": {"color": "0.2", "linestyle": ":"},
}


def pairs(images: Tensor, found: Memorisation, training: Tensor, columns: int) -> Any:
    """A sheet of one image of each digit, or as many as there are, above their nearest training images."""
    digits = classify(load_classifier(), images).digit.numpy()
    pick = np.unique(digits, return_index=True)[1][:columns]
    return tile(torch.cat([images[pick], training[found.indices[pick]]]).clamp(-1, 1), columns=len(pick))


def draw(found: dict[str, Memorisation], sheets: dict[str, Any]) -> Figure:
    """The two sheets, and the distribution of the ratios of all."""
    figure = Figure((8, 7.5), layout="constrained")
    axes = figure.subplots(3, 1, height_ratios=[1, 1, 1.6])
    for ax, (name, sheet) in zip(axes, sheets.items(), strict=False):
        ax.imshow(sheet, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(f"{name}, and below the nearest training images", fontsize=10)
        ax.set_axis_off()
    for name, result in found.items():
        ratios = np.sort(result.ratios)
        axes[2].plot(
            ratios, np.arange(1, len(ratios) + 1) / len(ratios), label=name, drawstyle="steps-post", **STYLES[name]
        )
    axes[2].axvline(1 / 3, color="0.8", zorder=0)
    axes[2].set(
        xlabel="distance to the nearest over distance to the second nearest training image (grey line: 1/3)",
        ylabel="share of images below",
        xlim=(-0.02, 1.02),
    )
    axes[2].legend(loc="center", fontsize=9)
    return figure


def main(
    checkpoint: Annotated[Optional[str], typer.Option(help="A trained network: a file or a name.")] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_samples: int = 500,
    n_steps: Annotated[int, typer.Option(help="Of the network's samples, by Algorithm 2.")] = 50,
    seed: int = 0,
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    n_samples, n_steps, n_exact = (12, 2, 6) if smoke else (n_samples, n_steps, 100)
    results = results or (Path("runs") if smoke else HERE / "results") / "memorisation.json"
    chosen = choose_device(device)
    trained = load_checkpoint(checkpoint, device=chosen)
    training = to_tensor(load_mnist("sample").images if smoke else load_mnist("train", data_dir).images)
    test = to_tensor(load_mnist("sample").images[::50] if smoke else load_mnist("test", data_dir).images)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    generated, _ = cached_samples(trained, n_samples, n_steps, seed, chosen, method="ancestral")
    # Every point of the training set is a mode of this law; the same schedule, fewer samples.
    exact = sample(
        points_denoiser(trained.schedule, training),
        trained.schedule,
        None,
        n_exact,
        n_steps,
        generator=generator,
        batch_size=10,
        progress=True,
    )
    some = training[torch.from_numpy(rng.permutation(len(training))[:n_samples])]
    copies = some + NOISE * torch.randn(some.shape, generator=generator)
    of_test = test[torch.from_numpy(rng.permutation(len(test))[:n_samples])]
    sets = dict(zip(STYLES, (generated, of_test, copies, exact), strict=True))
    found = {name: memorisation(images, training, rng=seed) for name, images in sets.items()}
    names = list(STYLES)
    sheets = {name: pairs(sets[name], found[name], training, 10) for name in (names[0], names[3])}
    report = {
        name: {
            "images": len(result.ratios),
            "median ratio": result.median._asdict(),
            "share below 1/3": result.copies._asdict(),
            "least ratio": float(result.ratios.min()),
            "median distance": float(np.median(result.distances)),
            "largest pixel difference from the nearest": float(
                (sets[name].clamp(-1, 1) - training[result.indices]).abs().max()
            ),
        }
        for name, result in found.items()
    } | {
        "training images": len(training),
        "sampler": f"ancestral, {n_steps} of {trained.schedule.n_steps} steps, for both",
        "seed": seed,
        "network": network(trained),
        **record(chosen),
    }
    write_json(results, report)
    save_figure(draw(found, sheets), results, dpi=120)
    typer.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
