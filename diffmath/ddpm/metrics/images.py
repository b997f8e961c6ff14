"""What the classifier and the pixels say of images: features, digits, confidence, background, memorisation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffmath._arguments import as_array, as_rng, real_array, require_count
from diffmath.ddpm.classifier import Classifier, load_classifier, require_classifier
from diffmath.ddpm.metrics.estimates import Array, Estimate, Interval, Seed, clipped_images, error_of_mean, share_of

__all__ = [
    "Background",
    "ClassBalance",
    "Confidence",
    "Features",
    "Memorisation",
    "background",
    "class_balance",
    "confidence",
    "features",
    "memorisation",
]

CLASSES = 10
FRAME = 4
ENTRIES = 2**22  # resampled numbers are held at once


class Features(NamedTuple):
    """What a classifier makes of N images.

    Attributes
    ----------
    values : numpy.ndarray, shape (N, 128), float64
        The activations before its last layer, as they are (`evaluate` scales them).
    digits : numpy.ndarray, shape (N,), int64
        The most probable digits.
    confidences : numpy.ndarray, shape (N,), float64
        Their probabilities.
    """

    values: Array
    digits: npt.NDArray[np.int64]
    confidences: Array


class ClassBalance(NamedTuple):
    """The share of each digit, 0 to 9, and the total variation distance from the reference's shares."""

    shares: tuple[Estimate, ...]
    distance: Estimate


class Confidence(NamedTuple):
    """The mean probability of the most probable digit, and the share of images for which it is above 0.9."""

    mean: Estimate
    sure: Estimate


class Background(NamedTuple):
    """The mean and the standard deviation of the pixels in the outer frame, where black is -1."""

    mean: Estimate
    spread: Estimate


class Memorisation(NamedTuple):
    """The nearest training images of N images.

    Attributes
    ----------
    indices : numpy.ndarray, shape (N,), int64
        Which training image is nearest.
    distances : numpy.ndarray, shape (N,), float64
        Its distance: the root of the sum of the squared differences of pixels.
    ratios : numpy.ndarray, shape (N,), float64
        The ratio of that distance to the second nearest one's; 0 where both are 0.
    median : Interval
        The median of the ratios, with its interval by the bootstrap.
    copies : Interval
        The share of ratios below 1/3.
    """

    indices: npt.NDArray[np.int64]
    distances: Array
    ratios: Array
    median: Interval
    copies: Interval


@torch.no_grad()
def features(
    images: Tensor, classifier: Classifier | None = None, *, batch_size: int = 500, progress: bool = False
) -> Features:
    """The features of images, shape (N, 1, 32, 32), and their digits, by the shipped classifier unless given another.

    Examples
    --------
    >>> from diffmath.data import load_mnist, to_tensor
    >>> seen = features(to_tensor(load_mnist("sample").images[:2]))
    >>> seen.values.shape, seen.digits
    ((2, 128), array([0, 0]))
    """
    images = clipped_images(images, "images")
    batch_size = require_count("batch_size", batch_size)
    classifier = load_classifier() if classifier is None else require_classifier(classifier)
    weight = classifier.head.weight
    values: list[Tensor] = []
    digits: list[Tensor] = []
    confidences: list[Tensor] = []
    with tqdm(total=len(images), unit=" images", desc="features", disable=not progress) as bar:
        for part in images.split(batch_size):
            h = classifier.features(part.to(weight))
            logits, h = classifier.head(h).cpu(), h.cpu()  # not every device knows float64
            confidence, digit = logits.double().softmax(dim=1).max(dim=1)
            for found, kept in ((h.double(), values), (digit, digits), (confidence, confidences)):
                kept.append(found)
            bar.update(len(part))
    return Features(torch.cat(values).numpy(), torch.cat(digits).numpy(), torch.cat(confidences).numpy())


def class_balance(digits: npt.ArrayLike, reference: npt.ArrayLike) -> ClassBalance:
    r"""The shares of the digits, and the total variation distance :math:`\frac12 \sum_i |p_i - q_i|` of two such.

    Both are arrays of integers in 0..9, shapes (N,) and (M,). The distance of finite sets is never below 0, and so is
    biased: see that of real images.

    Examples
    --------
    >>> class_balance([0, 1, 1, 1], [0, 1]).distance.value  # (|1/4 - 1/2| + |3/4 - 1/2|) / 2
    0.25
    """
    d, r = (_digits(z, name) for z, name in ((digits, "digits"), (reference, "reference")))
    p, q = (np.bincount(z, minlength=CLASSES) / len(z) for z in (d, r))
    # The distance is the difference of the mean of these signs over the two sets, halved.
    sign = np.where(p >= q, 0.5, -0.5)
    error = math.sqrt(sum(sign[z].var() / len(z) for z in (d, r)))
    shares = tuple(share_of(share, len(d)) for share in p.tolist())
    return ClassBalance(shares, Estimate(float(np.abs(p - q).sum() / 2), error))


def confidence(confidences: npt.ArrayLike) -> Confidence:
    """How sure the classifier is, from the probabilities of the most probable digits, shape (N,) with N at least 2.

    Examples
    --------
    >>> confidence([0.5, 1.0]).mean.value
    0.75
    """
    p = real_array(confidences, "confidences").astype(np.float64)
    if p.ndim != 1 or len(p) < 2 or not ((p >= 0) & (p <= 1)).all():
        came = f", from {p.min():.3g} to {p.max():.3g}" if p.size else ""
        raise ValueError(f"confidences must be at least 2 numbers in [0, 1]; they have shape {p.shape}{came}")
    return Confidence(Estimate(float(p.mean()), error_of_mean(p)), share_of(float((p > 0.9).mean()), len(p)))


def background(images: Tensor) -> Background:
    """The frame of the outer four pixels, where digits hardly are.

    Its mean and standard deviation are those of all pixels of the frame and all images, shape (N, 1, 32, 32) with N at
    least 2. The errors take images, not pixels, as independent.

    Examples
    --------
    >>> background(-torch.ones(2, 1, 32, 32)).mean
    Estimate(value=-1.0, error=0.0)
    """
    x = clipped_images(images, "images", 2)
    frame = torch.ones(x.shape[-2:], dtype=torch.bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    pixels = x[:, 0, frame].double().numpy()
    mean = float(pixels.mean())
    square = ((pixels - mean) ** 2).mean(1)  # each image's share in the variance
    spread = math.sqrt(square.mean())
    # s = sqrt(v), ds = dv / 2 s; the mean's own error enters the variance in second order only.
    error = error_of_mean(square) / (2 * spread) if spread > 0 else 0.0
    return Background(Estimate(mean, error_of_mean(pixels.mean(1))), Estimate(spread, error))


def memorisation(images: Tensor, training: Tensor, *, rng: Seed = 0, progress: bool = False) -> Memorisation:
    """Whether images are copies of training images: much nearer to one of them than to any other.

    For MNIST's test images the ratio of the two distances is 0.95 in the median, and hardly ever below 1/3
    (``experiments/memorisation.py``). Pixels are clipped to [-1, 1] first, as noise hides copies: the more of it, the
    fewer of them have a ratio below 1/3. The median's interval is the bootstrap's percentiles; that of the share is the
    exact one of a binomial number (Clopper & Pearson 1934), which is honest also where no image is a copy.

    Parameters
    ----------
    images, training : Tensor, shapes (N, 1, 32, 32), (M, 1, 32, 32), floating
        At least 2 of each. The matrix of all distances is never held at once.
    rng : numpy.random.Generator or int
        Draws the bootstrap's 1,000 resamples, or seeds what does.
    progress : bool
        Whether to show a progress bar.

    Examples
    --------
    >>> from diffmath.data import load_mnist, to_tensor
    >>> digits = to_tensor(load_mnist("sample").images[::500])
    >>> memorisation(digits[:3], digits).copies.value
    1.0
    """
    from scipy.stats import binomtest, bootstrap  # takes as long to import as torch
    from sklearn.neighbors import NearestNeighbors

    x, y = (clipped_images(z, name, 2).flatten(1) for z, name in ((images, "images"), (training, "training")))
    found = []
    # Found by squares that cancel, in part; the distances of four candidates are exact.
    search = NearestNeighbors(n_neighbors=min(4, len(y)), algorithm="brute").fit(y.float().numpy())
    with tqdm(total=len(x), unit=" images", desc="nearest training images", disable=not progress) as bar:
        for part in x.split(500):
            candidates = torch.from_numpy(search.kneighbors(part.float().numpy(), return_distance=False))
            distance = (part[:, None].double() - y[candidates].double()).square().sum(2).sqrt()
            nearest, which = distance.topk(2, dim=1, largest=False)
            found.append((candidates.gather(1, which)[:, 0], nearest))
            bar.update(len(part))
    indices, nearest = torch.cat([i for i, _ in found]).numpy(), torch.cat([d for _, d in found]).numpy()
    ratios = np.divide(nearest[:, 0], nearest[:, 1], out=np.zeros(len(nearest)), where=nearest[:, 1] > 0)
    drawn: dict[str, Any] = {"n_resamples": 1000, "batch": max(1, ENTRIES // len(x)), "rng": as_rng(rng)}
    sampled = bootstrap((ratios,), np.median, method="percentile", **drawn)
    median = Interval(float(np.median(ratios)), *map(float, sampled.confidence_interval))
    copies = int((ratios < 1 / 3).sum())
    exact = binomtest(copies, len(ratios)).proportion_ci(method="exact")
    share = Interval(copies / len(ratios), float(exact.low), float(exact.high))
    return Memorisation(indices, nearest[:, 0], ratios, median, share)


def _digits(values: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    digits = as_array(values, name)
    if digits.ndim != 1 or len(digits) == 0 or digits.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape (N,); they are {digits.dtype} of shape {digits.shape}")
    if digits.min() < 0 or digits.max() >= CLASSES:
        raise ValueError(f"{name} must lie in 0..9; they range from {digits.min()} to {digits.max()}")
    return digits.astype(np.int64)
