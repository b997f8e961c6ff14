r"""How good are samples? Distances of law, pixels and copies, each with its error.

Features are those of the shipped classifier, which was trained apart from the generator; their distances say whether
the samples are such digits as MNIST's, in the right proportions, and as varied. That classifier was trained to overlook
a slightly grey or noisy background, so pixels have statistics of their own, and so has memorisation.

No number stands without its error: the standard error over repetitions with new images on both sides. Even so a number
means little without that of real images, of the same number: the command ``evaluate`` prints it too. (It takes
them from the training set, which was the classifier's as well: it is a little surer of them than of new ones.)

All images have shape (N, 1, 32, 32), pixels in [-1, 1]; values outside are clipped, as a picture of them would be. Only
`evaluate` refuses what is plainly on another scale, such as [0, 1]. All results are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffmath._arguments import as_rng, real_array, require_count, require_pixels, require_unmasked
from diffmath.ddpm._arguments import as_floating
from diffmath.ddpm.classifier import Classifier, load_classifier, require_classifier

__all__ = [
    "Background",
    "ClassBalance",
    "Confidence",
    "Estimate",
    "Evaluation",
    "Extrapolation",
    "Features",
    "Interval",
    "Memorisation",
    "Neighbours",
    "background",
    "class_balance",
    "confidence",
    "energy_distance",
    "evaluate",
    "features",
    "frechet_distance",
    "frechet_extrapolated",
    "kernel_distance",
    "memorisation",
    "precision_recall_density_coverage",
    "summary",
    "table",
]

Array = npt.NDArray[np.float64]
Seed = np.random.Generator | int

GROUPS = 20  # of the jackknife
HALF = 1000  # points at most in a half of them
LEAST = 5 * GROUPS  # of images: a fifth of them must have a covariance
FEW = 500  # digits; of fewer the extrapolated Frechet distance is too small
ENERGY_IMAGES = 5000
CLASSES = 10
FRAME = 4
ENTRIES = 2**22  # of a matrix of distances are held at once: more would be slower


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


class Interval(NamedTuple):
    """A number and the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


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


class Extrapolation(NamedTuple):
    """A distance without its small-sample bias, its standard error, and the line that led to it.

    Attributes
    ----------
    value, error : float
        The line's value at infinitely many images.
    sizes : tuple of float
        The number of samples over the mean reciprocal share of a subset, falling.
    distances : tuple of float
        The mean distance, with its bias, of subsets of these sizes.
    """

    value: float
    error: float
    sizes: tuple[float, ...]
    distances: tuple[float, ...]


class Neighbours(NamedTuple):
    """Shares of images with neighbours among the others; see `precision_recall_density_coverage`."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


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
        That over the distance to the second nearest; 0 where both are 0.
    median : Interval
        Of the ratios, by the bootstrap.
    copies : Interval
        The share of ratios below 1/3.
    """

    indices: npt.NDArray[np.int64]
    distances: Array
    ratios: Array
    median: Interval
    copies: Interval


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


@torch.no_grad()
def features(
    images: Tensor, classifier: Classifier | None = None, *, batch_size: int = 500, progress: bool = False
) -> Features:
    """The features of images, and their digits.

    Parameters
    ----------
    images : Tensor, shape (N, 1, 32, 32), floating
    classifier : Classifier, optional
        In evaluation mode; the one shipped with the package unless given.
    batch_size : int
        Images that the classifier sees at once.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Features

    Raises
    ------
    ValueError, TypeError
        If the images are not finite floating tensors of that shape, or none.
    """
    images = _clipped(images, "images")
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


def frechet_distance(mean_1: npt.ArrayLike, cov_1: npt.ArrayLike, mean_2: npt.ArrayLike, cov_2: npt.ArrayLike) -> float:
    r"""The squared Frechet distance of two Gaussians (Dowson & Landau 1982); of Inception features, the "FID".

    .. math:: |m_1 - m_2|^2 + \operatorname{tr} C_1 + \operatorname{tr} C_2
              - 2 \operatorname{tr} (C_1^{1/2} C_2 C_1^{1/2})^{1/2}

    The last trace is the sum of the roots of the eigenvalues of a symmetric matrix, which need not be regular; that of
    the usual :math:`(C_1 C_2)^{1/2}` is the same, but of a matrix that is not symmetric, whose
    root is not always computed as real.

    Parameters
    ----------
    mean_1, mean_2 : array, shape (d,)
    cov_1, cov_2 : array, shape (d, d)
        Symmetric and positive semidefinite, up to roundings.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes do not fit, something is not finite, or a matrix is no covariance.

    Examples
    --------
    >>> frechet_distance([0.0], [[1.0]], [3.0], [[4.0]])  # (0 - 3)^2 + (1 - 2)^2
    10.0
    """
    m_1, c_1, m_2, c_2 = (
        real_array(a, "means and covariances").astype(np.float64) for a in (mean_1, cov_1, mean_2, cov_2)
    )
    d = m_1.size
    if not (m_1.shape == m_2.shape == (d,) and c_1.shape == c_2.shape == (d, d)):
        shapes = ", ".join(str(a.shape) for a in (m_1, c_1, m_2, c_2))
        raise ValueError(f"means and covariances must have shapes (d,), (d, d), (d,), (d, d); they have {shapes}")
    if not all(np.isfinite(a).all() for a in (m_1, c_1, m_2, c_2)):
        raise ValueError("means and covariances must be finite; they hold NaN or infinity")
    # More than float32's roundings in the covariances, and float64's in the squares that they are differences of.
    rounding = 1e-5 * (np.trace(c_1) + np.trace(c_2)) + 1e-12 * max((m_1**2).sum(), (m_2**2).sum())
    for c in (c_1, c_2):
        asymmetry, least = np.abs(c - c.T).max(initial=0.0), np.linalg.eigvalsh(c).min(initial=0.0)
        if max(asymmetry, -least) > rounding:
            raise ValueError(
                f"covariances must be symmetric and positive semidefinite; one is asymmetric by {asymmetry:.3g}, and "
                f"its least eigenvalue is {least:.3g}"
            )
    eigenvalues, axes = np.linalg.eigh(c_1)
    root = axes * np.sqrt(eigenvalues.clip(min=0))  # C_1 = root root^T; C_1^{1/2} is this but for a rotation
    overlap = np.sqrt(np.linalg.eigvalsh(root.T @ c_2 @ root).clip(min=0)).sum()
    # The traces of what is a covariance by its eigenvalues: else roundings could make the distance negative.
    traces = eigenvalues.clip(min=0).sum() + np.linalg.eigvalsh(c_2).clip(min=0).sum()
    return max(0.0, float(((m_1 - m_2) ** 2).sum() + traces - 2 * overlap))


def frechet_extrapolated(
    samples: npt.ArrayLike, reference: npt.ArrayLike, *, n_repeats: int = 4, rng: Seed = 0
) -> Extrapolation:
    r"""The Frechet distance of two laws from finitely many points of each, without the bias of their number.

    From n and m points the distance is too large by nearly a / n + b / m (Chong & Forsyth 2020), more than most
    differences of interest. So both sets are dealt into k = 1, ..., 5 parts, parts are compared with parts, and the
    least-squares line through the mean distances, in the reciprocal of a part's share, is read at 0. As both sets get
    smaller by the same factor, both terms go.

    The error is a delete-a-group jackknife (Kott 2001): the points are in 20 groups at random, of which the parts are
    made, and the whole is found again without each group,

    .. math:: \sigma^2 = \frac{g - 1}{g} \sum_b (\theta_{(b)} - \bar\theta)^2 , \qquad g = 20.

    For equal laws, where the distance is quadratic in all differences, the error is too large, up to twice.

    Parameters
    ----------
    samples, reference : array, shapes (N, d), (M, d)
        At least 100 of each.
    n_repeats : int
        How often to deal them anew.
    rng : numpy.random.Generator or int
        Deals the points, or seeds what does.

    Returns
    -------
    Extrapolation
        The value may be a little below 0: it is as often too small as too large, if a fifth of the points are many
        in all directions that matter. Of digits 500 are enough, to 0.3; from 100 the value is too small by 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are too few points, or something is not finite.
    """
    x, y = _points(samples, reference, LEAST)
    n_repeats, rng = require_count("n_repeats", n_repeats), as_rng(rng)
    moments = [_moments(z - y.mean(0), rng) for z in (x, y)]  # seen from their mean, as squares would cancel
    deals = [[np.array_split(rng.permutation(GROUPS), k) for _ in range(n_repeats)] for k in range(1, 6)]
    known: dict[frozenset[int], float] = {}

    def distance(groups: frozenset[int]) -> float:
        if groups not in known:
            (m_1, c_1), (m_2, c_2) = (_law(*m, sorted(groups)) for m in moments)
            known[groups] = frechet_distance(m_1, c_1, m_2, c_2)
        return known[groups]

    def line(left_out: int) -> tuple[Array, Array]:
        """For each k the mean of 1 / share, and of the distance."""
        means = []
        for deal in deals:
            parts = [frozenset(part.tolist()) - {left_out} for repeat in deal for part in repeat]
            means.append([np.mean([GROUPS / len(p) for p in parts]), np.mean([distance(p) for p in parts])])
        inverse, distances = np.transpose(means)
        return inverse, distances

    inverse, distances = line(-1)
    intercepts = [np.polynomial.Polynomial.fit(*line(b), 1)(0.0) for b in (*range(GROUPS), -1)]
    value, error = _jackknife(intercepts)
    return Extrapolation(value, error, tuple((len(x) / inverse).tolist()), tuple(distances.tolist()))


def kernel_distance(samples: npt.ArrayLike, reference: npt.ArrayLike) -> Estimate:
    r"""The squared kernel distance of two laws, unbiased, with the kernel :math:`k(x, y) = (x \cdot y / d + 1)^3`.

    Binkowski et al. (2018); the U-statistic of Gretton et al. (2012). The error has the terms of orders 1/N and 1/N^2
    in the variance, so that it is honest for equal laws too, where the first vanishes.

    Parameters
    ----------
    samples, reference : array, shapes (N, d), (M, d)
        At least 2 of each.

    Returns
    -------
    Estimate
        The value may be below 0.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are too few points, or something is not finite.
    """
    x, y = (torch.from_numpy(z) for z in _points(samples, reference, 2))
    return _discrepancy(x, y, lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3)


def energy_distance(images: Tensor, reference: Tensor) -> Estimate:
    r"""The squared energy distance of images, as vectors of 1,024 pixels, unbiased (Szekely & Rizzo 2013).

    .. math:: 2 E |x - y| - E |x - x'| - E |y - y'|

    with Euclidean norms, over all pairs of an image and a reference and all pairs of different images of a set. It is
    0 for equal laws only, and is `kernel_distance` with the kernel :math:`-|x - y|`.

    Parameters
    ----------
    images, reference : Tensor, shapes (N, 1, 32, 32), (M, 1, 32, 32), floating
        At least 2 of each.

    Returns
    -------
    Estimate
        The value may be below 0. There is no root taken of it.

    Raises
    ------
    ValueError, TypeError
        If these are not finite floating tensors of that shape, or too few.
    """
    x, y = (_clipped(z, n, 2).double().flatten(1) for z, n in ((images, "images"), (reference, "reference")))
    return _discrepancy(x, y, lambda a, b: -torch.cdist(a, b))


def precision_recall_density_coverage(
    samples: npt.ArrayLike, reference: npt.ArrayLike, *, k: int = 5, rng: Seed = 0
) -> Neighbours:
    """Whether samples are near real points, and real points near samples.

    The ball of a point reaches to its k-th nearest neighbour in its own set. Precision is the share of samples in the
    ball of some real point, recall the share of real points in the ball of some sample (Kynkaanniemi et al. 2019).
    Density is the mean number of real points' balls that a sample is in, over k, and coverage the share of real points
    with a sample in their ball (Naeem et al. 2020). They depend on the numbers of points: compare equal ones.

    These are no smooth functions of the points' law, and a jackknife gives up to twice their error. So both sets are
    halved, again and again, and half of the variance between the values of the halves is that of the whole
    (subsampling; Politis & Romano 1994); of large sets parts of 1,000 do for halves. Shares have at least the error of
    as many independent points.

    Parameters
    ----------
    samples, reference : array, shapes (N, d), (M, d)
        At least 100 of each.
    k : int
        Less than half of the smaller number of points, and than 1,000.
    rng : numpy.random.Generator or int
        Deals the points, or seeds what does.

    Returns
    -------
    Neighbours

    Raises
    ------
    ValueError
        If the shapes do not fit, there are too few points, k is out of range, or something is not finite.
    """
    x, y = _points(samples, reference, LEAST)
    share = min(0.5, HALF / min(len(x), len(y)))
    n, m = (int(share * len(z)) for z in (x, y))
    k, rng = require_count("k", k, most=min(n, m) - 1), as_rng(rng)
    variances = []
    for _ in range(10):
        i, j = (rng.permutation(len(z)) for z in (x, y))
        values = [_neighbour_shares(x[i[:n]], y[j[:m]], k), _neighbour_shares(x[i[n : 2 * n]], y[j[m : 2 * m]], k)]
        variances.append(share * np.var(values, axis=0, ddof=1))
    errors = np.sqrt(np.mean(variances, axis=0)).tolist()
    precision, recall, density, coverage = _neighbour_shares(x, y, k).tolist()
    shares = [_share(precision, len(x)), _share(recall, len(y)), Estimate(density, 0.0), _share(coverage, len(y))]
    return Neighbours(*(Estimate(s.value, max(s.error, error)) for s, error in zip(shares, errors, strict=True)))


def class_balance(digits: npt.ArrayLike, reference: npt.ArrayLike) -> ClassBalance:
    r"""The shares of the digits, and the total variation distance :math:`\frac12 \sum_i |p_i - q_i|` of two such.

    Parameters
    ----------
    digits, reference : array of int, shapes (N,), (M,)
        In 0..9.

    Returns
    -------
    ClassBalance
        Of ``digits``. The distance of finite sets is never below 0, and so is biased: see that of real images.

    Raises
    ------
    ValueError
        If there are no digits, or others.
    """
    d, r = (_digits(z, name) for z, name in ((digits, "digits"), (reference, "reference")))
    p, q = (np.bincount(z, minlength=CLASSES) / len(z) for z in (d, r))
    # The distance is the difference of the mean of these signs over the two sets, halved.
    sign = np.where(p >= q, 0.5, -0.5)
    error = math.sqrt(sum(sign[z].var() / len(z) for z in (d, r)))
    shares = tuple(_share(share, len(d)) for share in p.tolist())
    return ClassBalance(shares, Estimate(float(np.abs(p - q).sum() / 2), error))


def confidence(confidences: npt.ArrayLike) -> Confidence:
    """How sure the classifier is.

    Parameters
    ----------
    confidences : array, shape (N,)
        The probabilities of the most probable digits; at least 2.

    Returns
    -------
    Confidence

    Raises
    ------
    ValueError
        If they are too few, or not in [0, 1].
    """
    p = real_array(confidences, "confidences").astype(np.float64)
    if p.ndim != 1 or len(p) < 2 or not ((p >= 0) & (p <= 1)).all():
        came = f", from {p.min():.3g} to {p.max():.3g}" if p.size else ""
        raise ValueError(f"confidences must be at least 2 numbers in [0, 1]; they have shape {p.shape}{came}")
    return Confidence(Estimate(float(p.mean()), _error_of_mean(p)), _share(float((p > 0.9).mean()), len(p)))


def background(images: Tensor) -> Background:
    """The frame of the outer four pixels, where digits hardly are.

    Parameters
    ----------
    images : Tensor, shape (N, 1, 32, 32), floating
        At least 2.

    Returns
    -------
    Background
        Mean and standard deviation over all pixels of the frame and all images. The errors take images, not pixels, as
        independent.

    Raises
    ------
    ValueError, TypeError
        If the images are not finite floating tensors of that shape, or too few.
    """
    x = _clipped(images, "images", 2)
    frame = torch.ones(x.shape[-2:], dtype=torch.bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    pixels = x[:, 0, frame].double().numpy()
    mean = float(pixels.mean())
    square = ((pixels - mean) ** 2).mean(1)  # each image's share in the variance
    spread = math.sqrt(square.mean())
    # s = sqrt(v), ds = dv / 2 s; the mean's own error enters the variance in second order only.
    error = _error_of_mean(square) / (2 * spread) if spread > 0 else 0.0
    return Background(Estimate(mean, _error_of_mean(pixels.mean(1))), Estimate(spread, error))


def memorisation(images: Tensor, training: Tensor, *, rng: Seed = 0, progress: bool = False) -> Memorisation:
    """Whether images are copies of training images: much nearer to one of them than to any other.

    For MNIST's test images the ratio of the two distances is 0.95 in the median, and hardly ever below 1/3
    (``experiments/memorisation.py``). Pixels are clipped to [-1, 1] first, as noise hides copies: the more of it, the
    fewer of them have a ratio below 1/3.

    Parameters
    ----------
    images : Tensor, shape (N, 1, 32, 32), floating
        At least 2.
    training : Tensor, shape (M, 1, 32, 32), floating
        At least 2. The matrix of all distances is never held at once.
    rng : numpy.random.Generator or int
        Draws the bootstrap's resamples, 1,000, or seeds what does.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Memorisation
        The median's interval is the bootstrap's percentiles, that of the share the exact one of a binomial number
        (Clopper & Pearson 1934), which is honest also where no image is a copy.

    Raises
    ------
    ValueError, TypeError
        If these are not finite floating tensors of that shape, or too few.
    """
    from scipy.stats import binomtest, bootstrap  # takes as long to import as torch
    from sklearn.neighbors import NearestNeighbors

    x, y = (_clipped(z, name, 2).flatten(1) for z, name in ((images, "images"), (training, "training")))
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


def evaluate(
    images: Tensor,
    reference: Tensor,
    training: Tensor,
    *,
    classifier: Classifier | None = None,
    rng: Seed = 0,
    progress: bool = False,
) -> Evaluation:
    """All of the above about a set of images.

    Parameters
    ----------
    images : Tensor, shape (N, 1, 32, 32), floating
        At least 100, in any order; of fewer than 500 the Frechet distance is too small.
    reference : Tensor, shape (M, 1, 32, 32), floating
        What they are to be like, such as MNIST's 10,000 test images; at least 100. Features are scaled to a root mean
        square of 1 over these. Precision, recall, density and coverage take equally many images of both sets, chosen at
        random, and the energy distance at most 5,000 of each.
    training : Tensor, shape (K, 1, 32, 32), floating
        What they are not to copy: the generator's training images.
    classifier : Classifier, optional
        In evaluation mode; the one shipped with the package unless given.
    rng : numpy.random.Generator or int
        The source of all randomness, or its seed.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError, TypeError
        If these are not finite floating tensors of that shape, or too few, or plainly on another scale than [-1, 1].
    """
    images, reference = _checked(images, "images", LEAST), _checked(reference, "reference", LEAST)
    training = _checked(training, "training", 2)
    for name, given in (("images", images), ("reference", reference), ("training", training)):
        require_pixels(given, name, dark=0.05)
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


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as nested dictionaries and lists that JSON can hold, without the numbers of single images.

    A Frechet distance of fewer than 500 images is marked as "too small".
    """

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", None)
            if fields is None:
                return [plain(entry) for entry in value]
            return {f: plain(v) for f, v in zip(fields, value, strict=True) if not isinstance(v, np.ndarray)}
        return value

    plainly: dict[str, Any] = plain(evaluation)
    plainly["frechet"]["too small"] = _is_biased(evaluation)
    return plainly


def table(evaluations: Mapping[str, Evaluation]) -> str:
    """Evaluations as plain text: in each of its parts a line for each of them, under its name.

    Numbers stand with their standard errors, or with 95 % intervals in brackets. A Frechet distance of fewer than 500
    images is marked, as it is too small.
    """

    def frechet(e: Evaluation) -> str:
        return _text(e.frechet) + " (too small)" * _is_biased(e)

    columns: list[tuple[str, dict[str, Callable[[Evaluation], str]]]] = [
        (
            "On the classifier's features",
            {
                "Frechet": frechet,
                "kernel": lambda e: _text(e.kernel),
                "precision": lambda e: _text(e.neighbours.precision),
                "recall": lambda e: _text(e.neighbours.recall),
                "density": lambda e: _text(e.neighbours.density),
                "coverage": lambda e: _text(e.neighbours.coverage),
            },
        ),
        (
            "What the classifier says",
            {
                "confidence": lambda e: _text(e.confidence.mean),
                "share above 0.9": lambda e: _text(e.confidence.sure),
                "total variation of the classes": lambda e: _text(e.balance.distance),
            },
        ),
        ("Images of each digit, in %", {str(digit): _percent(digit) for digit in range(CLASSES)}),
        (
            "Pixels",
            {
                "background's mean": lambda e: _text(e.background.mean),
                "its spread": lambda e: _text(e.background.spread),
                "energy distance": lambda e: _text(e.energy),
            },
        ),
        (
            "Nearest over second nearest training image",
            {
                "median": lambda e: _text(e.memorisation.median),
                "share below 1/3": lambda e: _text(e.memorisation.copies),
            },
        ),
    ]
    width = max(map(len, evaluations), default=0)
    lines: list[str] = []
    for title, cells in columns:
        texts = [[head, *(cell(e) for e in evaluations.values())] for head, cell in cells.items()]
        padded = [[text.rjust(max(map(len, column))) for text in column] for column in texts]
        rows = zip(["", *evaluations], *padded, strict=True)
        lines += ["", title, *("  ".join([name.ljust(width), *row]).rstrip() for name, *row in rows)]
    if any(map(_is_biased, evaluations.values())):
        lines += ["", f"(too small): the Frechet distance of fewer than {FEW} images is, by about 1 for {LEAST}."]
    return "\n".join(lines[1:])


def _is_biased(evaluation: Evaluation) -> bool:
    return min(evaluation.n_images, evaluation.n_reference) < FEW


def _percent(digit: int) -> Callable[[Evaluation], str]:
    return lambda e: "±".join(f"{100 * number:.1f}" for number in e.balance.shares[digit])


def _text(number: Estimate | Extrapolation | Interval) -> str:
    """A number to two digits of its error, with the error."""
    value, *rest = number[:3] if isinstance(number, Interval) else number[:2]
    error = (rest[1] - rest[0]) / 4 if len(rest) == 2 else rest[0]
    places = min(6, max(0, 1 - math.floor(math.log10(error)))) if error > 0 else 3
    texts = [f"{v:z.{places}f}" for v in (value, *rest)]
    return f"{texts[0]} ± {texts[1]}" if len(texts) == 2 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def _clipped(images: Tensor, name: str, least: int = 1) -> Tensor:
    """Checked images, clipped to [-1, 1] as a picture of them would be."""
    return _checked(images, name, least).clamp(-1, 1)


def _checked(images: Tensor, name: str, least: int = 1) -> Tensor:
    """Images on the CPU, wherever they were."""
    images = as_floating(images, name)
    if images.shape[1:] != (1, 32, 32) or len(images) < least:
        raise ValueError(
            f"{name} must have shape (N, 1, 32, 32) with N at least {least}; the shape is {tuple(images.shape)}"
        )
    return images.detach().cpu()


def _points(samples: npt.ArrayLike, reference: npt.ArrayLike, least: int) -> tuple[Array, Array]:
    x, y = (
        np.ascontiguousarray(real_array(z, name), dtype=np.float64)
        for z, name in ((samples, "samples"), (reference, "reference"))
    )
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(
            f"samples and reference must have shapes (N, d) and (M, d) with N and M at least {least}; the shapes are "
            f"{x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("samples and reference must be finite; they hold NaN or infinity")
    return x, y


def _digits(values: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    require_unmasked(values, name)
    digits = np.asarray(values)
    if digits.ndim != 1 or len(digits) == 0 or digits.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape (N,); they are {digits.dtype} of shape {digits.shape}")
    if digits.min() < 0 or digits.max() >= CLASSES:
        raise ValueError(f"{name} must lie in 0..9; they range from {digits.min()} to {digits.max()}")
    return digits.astype(np.int64)


def _deal(n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A group in 0..GROUPS - 1 for each of n points, at random, of sizes that differ by 1 at most."""
    return rng.permutation(np.arange(n) % GROUPS)


def _jackknife(values: npt.ArrayLike) -> Estimate:
    """From the statistic without each group, and at last that of all."""
    *without, value = np.asarray(values, dtype=np.float64)
    return Estimate(float(value), math.sqrt((GROUPS - 1) * np.var(without)))


def _moments(x: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """The number of points, their sum and the sum of their squares, (g,), (g, d), (g, d, d), in random groups."""
    group = _deal(len(x), rng)
    parts = [x[group == b] for b in range(GROUPS)]
    return (
        np.array([float(len(p)) for p in parts]),
        np.array([p.sum(0) for p in parts]),
        np.array([p.T @ p for p in parts]),
    )


def _law(counts: Array, sums: Array, squares: Array, groups: list[int]) -> tuple[Array, Array]:
    """Mean and unbiased covariance of some groups' points."""
    n = counts[groups].sum()
    mean: Array = sums[groups].sum(0) / n
    return mean, (squares[groups].sum(0) - n * np.outer(mean, mean)) / (n - 1)


def _discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Estimate:
    """E k(x, x') + E k(y, y') - 2 E k(x, y), unbiased, for any symmetric kernel."""
    n, m = len(x), len(y)
    (k_xx, _, noise_xx), (k_yy, _, noise_yy) = (_kernel_means(z, z, kernel) for z in (x, y))
    k_xy, k_yx, noise_xy = _kernel_means(x, y, kernel)
    value = k_xx.mean() + k_yy.mean() - 2 * k_xy.mean()
    # Hoeffding: the variance is that of the projections, and that of what they leave of the kernel. The projections are
    # means over finitely many points, so their variances have twice the second term in them.
    first = 4 * (k_xx - k_xy).var() / n + 4 * (k_yy - k_yx).var() / m
    second = 2 * noise_xx / (n * (n - 1)) + 2 * noise_yy / (m * (m - 1)) + 4 * noise_xy / (n * m)
    return Estimate(float(value), float(((first - 2 * second).clamp(min=0) + second).sqrt()))


def _kernel_means(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Means of k(x_i, y_j) over j and over i, without i = j if x is y, and the variance that they leave."""
    same = x is y
    over_j, over_i, squares = [], torch.zeros(len(y), dtype=x.dtype, device=x.device), x.new_zeros(())
    step = max(1, ENTRIES // len(y))
    for start in range(0, len(x), step):
        k = kernel(x[start : start + step], y)
        if same:
            k.diagonal(start).zero_()
        over_j.append(k.sum(1))
        over_i += k.sum(0)
        squares += k.square().sum()
    rows, columns = torch.cat(over_j) / (len(y) - same), over_i / (len(x) - same)
    mean = rows.mean()
    left = squares / (len(x) * (len(y) - same)) - rows.square().mean() - columns.square().mean() + mean.square()
    return rows, columns, left.clamp(min=0)


def _neighbour_shares(samples: Array, reference: Array, k: int) -> Array:
    """Precision, recall, density and coverage."""
    fake, real = torch.from_numpy(samples), torch.from_numpy(reference)
    # Of equal points the distances by matrix products are no zeros: roots of roundings. Ties count as neighbours.
    tie = 1e-7 * float(torch.cat([fake, real]).norm(dim=1).max())
    fake_radius, real_radius = _radii(samples, k) + tie, _radii(reference, k) + tie
    precise = torch.zeros(len(fake), dtype=torch.bool)
    pairs = covered = recalled = 0
    step = max(1, ENTRIES // len(fake))
    for part, radius in zip(real.split(step), real_radius.split(step), strict=True):
        distance = torch.cdist(part, fake)
        in_real = distance <= radius[:, None]
        precise |= in_real.any(dim=0)
        pairs += int(in_real.sum())
        covered += int(in_real.any(dim=1).sum())
        recalled += int((distance <= fake_radius).any(dim=1).sum())
    n, m = len(fake), len(real)
    return np.array([int(precise.sum()) / n, recalled / m, pairs / (k * n), covered / m])


def _radii(x: Array, k: int) -> Tensor:
    """The distance of each point to its k-th nearest other, shape (N,)."""
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()
    return torch.from_numpy(distances[:, -1])


def _error_of_mean(values: Array) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _share(p: float, n: int) -> Estimate:
    """A share of n, and half of its Wilson interval of one standard error, which does not vanish for none or all."""
    return Estimate(p, math.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n))
