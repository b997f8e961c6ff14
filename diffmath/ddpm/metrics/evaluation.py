"""All metrics together, of samples and of real images beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffmath._arguments import as_rng, require_pixels
from diffmath.ddpm.classifier import Classifier, load_classifier
from diffmath.ddpm.metrics.estimates import LEAST, Estimate, Seed, checked_images
from diffmath.ddpm.metrics.frechet import Extrapolation, frechet_extrapolated
from diffmath.ddpm.metrics.images import (
    Background,
    ClassBalance,
    Confidence,
    Memorisation,
    background,
    class_balance,
    confidence,
    features,
    memorisation,
)
from diffmath.ddpm.metrics.kernel import energy_distance, kernel_distance
from diffmath.ddpm.metrics.neighbours import Neighbours, precision_recall_density_coverage

__all__ = ["Evaluation", "evaluate", "evaluate_beside_real"]

ENERGY_IMAGES = 5000


class Evaluation(NamedTuple):
    """Everything about a set of images, as `evaluate` finds it."""

    n_images: int
    n_reference: int
    n_training: int
    frechet: Extrapolation
    kernel: Estimate
    neighbours: Neighbours
    confidence: Confidence
    balance: ClassBalance
    background: Background
    energy: Estimate
    memorisation: Memorisation


def judged_images(images: Any, name: str = "images", least: int = LEAST) -> Tensor:
    """Images that `evaluate` takes, on the CPU: enough of MNIST's shape, plainly in [-1, 1]."""
    checked = checked_images(images, name, least)
    require_pixels(checked, name, dark=0.05)
    return checked


def evaluate(
    images: Tensor,
    reference: Tensor,
    training: Tensor,
    *,
    classifier: Classifier | None = None,
    rng: Seed = 0,
    progress: bool = False,
) -> Evaluation:
    """Compute all metrics of a set of images.

    Parameters
    ----------
    images : Tensor, shape (N, 1, 32, 32), floating
        At least 100 images, in any order; with fewer than 500 the Frechet distance is too small.
    reference : Tensor, shape (M, 1, 32, 32), floating
        What they are to be like, such as MNIST's 10,000 test images; at least 100. Features are scaled to a root mean
        square of 1 over these. Precision, recall, density and coverage take equally many images of both sets, chosen at
        random, and the energy distance at most 5,000 of each.
    training : Tensor, shape (K, 1, 32, 32), floating
        What they are not to copy: the generator's training images.
    classifier : Classifier, optional
        A classifier in evaluation mode. Defaults to the one shipped with the package.
    rng : numpy.random.Generator or int
        The source of all randomness, or its seed.
    progress : bool
        Whether to show progress bars.

    Raises
    ------
    ValueError
        Also if images are plainly on another scale than [-1, 1].

    Examples
    --------
    >>> from diffmath.data import load_mnist, to_tensor
    >>> digits = to_tensor(load_mnist("sample").images[::5])
    >>> found = evaluate(digits[:100], digits[100:300], digits[300:])
    >>> found.memorisation.copies.value
    0.0
    """
    images, reference = judged_images(images), judged_images(reference, "reference")
    training = judged_images(training, "training", 2)
    rng = as_rng(rng)
    classifier = load_classifier() if classifier is None else classifier
    seen, real = (features(z, classifier, progress=progress) for z in (images, reference))
    unit = math.sqrt((real.values**2).mean())
    x, y = seen.values / unit, real.values / unit
    size = min(len(x), len(y))
    a, b = (rng.permutation(len(z)) for z in (x, y))
    few = [z[torch.from_numpy(i[:ENERGY_IMAGES])] for z, i in ((images, a), (reference, b))]
    stages: dict[str, Callable[[], Any]] = {
        "frechet": lambda: frechet_extrapolated(x, y, rng=rng),
        "kernel": lambda: kernel_distance(x, y),
        "neighbours": lambda: precision_recall_density_coverage(x[a[:size]], y[b[:size]], rng=rng),
        "confidence": lambda: confidence(seen.confidences),
        "balance": lambda: class_balance(seen.digits, real.digits),
        "background": lambda: background(images),
        "energy": lambda: energy_distance(*few),
        "memorisation": lambda: memorisation(images, training, rng=rng, progress=progress),
    }
    found = {}
    with tqdm(total=len(stages), disable=not progress) as bar:
        for name, stage in stages.items():
            bar.set_description(name)
            found[name] = stage()
            bar.update()
    return Evaluation(len(images), len(reference), len(training), **found)


def evaluate_beside_real(
    images: Tensor,
    reference: Tensor,
    training: Tensor,
    *,
    classifier: Classifier | None = None,
    rng: Seed = 0,
    progress: bool = False,
) -> dict[str, Evaluation]:
    """Evaluate images, and beside them as many real ones, which a perfect generator would make.

    The real ones are drawn from the training images, half of them at most, and are not looked for among those.

    Parameters
    ----------
    images, reference, training, classifier, rng, progress
        The same as for `evaluate`.

    Returns
    -------
    dict
        The evaluations of "samples" and of "real images".

    Examples
    --------
    >>> from diffmath.data import load_mnist, to_tensor
    >>> digits = to_tensor(load_mnist("sample").images[::5])
    >>> found = evaluate_beside_real(digits[:100], digits[100:300], digits[300:])  # doctest: +SKIP
    >>> found["real images"].n_training  # doctest: +SKIP
    600
    """
    rng, training = as_rng(rng), checked_images(training, "training", 2)
    order = torch.from_numpy(rng.permutation(len(training)))
    taken = min(len(images), len(training) // 2)
    real, others = training[order[:taken]], training[order[taken:]]
    options: dict[str, Any] = {"classifier": classifier, "rng": rng, "progress": progress}
    return {
        "samples": evaluate(images, reference, training, **options),
        "real images": evaluate(real, reference, others, **options),
    }
