r"""The likelihood of images under Algorithm 2: the variational bound, term by term, in bits per dimension.

Algorithm 2 is a chain of Gaussians, :math:`p(x_T) = N(0, I)` and
:math:`p(x_{t-1} | x_t) = N(\mu_\theta(x_t, t), \sigma_t^2 I)` with (18) and (15), so that each image has a density
:math:`p(x_0)`, of which the forward process (2) gives a bound (Ho, Jain & Abbeel 2020, eq. (5)):

.. math:: -\log p(x_0) \le \mathrm{KL}\bigl(p(x_T | x_0) \,\|\, N(0, I)\bigr)
          + \sum_{t=2}^T E\, \mathrm{KL}\bigl(p(x_{t-1} | x_t, x_0) \,\|\, p(x_{t-1} | x_t)\bigr)
          - E \log p(x_0 | x_1)

The two Gaussians of a step have one variance, (15), and their means (18) differ by the noise predicted alone:

.. math:: \mathrm{KL}_t = w_t\, |\epsilon - \epsilon_\theta(x_t, t)|^2, \qquad
          w_t = \frac{\beta_t}{2 \alpha_t (1 - \bar\alpha_{t-1})} .

This is the least squares of Algorithm 1 but for the weights, 1 there. With the paper's schedule w_t is 0.70 at t = 2
and at most 0.02 from t = 50 on: training cares more for the large noise levels, where an image takes shape, than the
likelihood, which is mostly about the finest noise. Both have the minimiser :math:`E[\epsilon \mid x_t]`.

With it the bound exceeds the entropy of Gaussian data that are much wider than the noise, in the first of many small
steps, by half of Euler's constant, 0.416 bits per dimension: the variance of x_{t-1} given x_t is t / (t - 1) times
(15) there, and no number of steps removes that if all betas are scaled with 1 / T. The script
`experiments/start_and_likelihood.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import hyp2f1
from torch import Tensor, nn
from tqdm.auto import tqdm

from diffmath._arguments import require_callable, require_count, require_number, require_pixels
from diffmath.ddpm._arguments import (
    Seed,
    as_floating,
    as_generator,
    as_tensor,
    check_prediction,
    require_model,
    require_one_each,
    require_process,
    require_trained_size,
)
from diffmath.ddpm.sampling import Denoiser
from diffmath.schedule import Times, VarianceSchedule

__all__ = ["MeanAndError", "VariationalBound", "bound_weight", "gaussian_decoder", "pixel_decoder", "variational_bound"]

Decoder = Callable[[Tensor, Tensor, float], Tensor]
"""The last step: (x_0 of shape (N, ...), mean of its shape, variance) -> log p(x_0 | x_1) in nats, shape (N,)."""

LEVELS = 255  # pixel values 0..255 are -1..1


class MeanAndError(NamedTuple):
    """Means over the images and their standard errors: float64 arrays of one shape, or numbers.

    The errors are those of a mean over images drawn independently, noise and times included.
    """

    mean: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]


class VariationalBound(NamedTuple):
    """What `variational_bound` returns, all in bits per dimension.

    Attributes
    ----------
    total : MeanAndError
        The bound: prior + sum of (last - first + 1) steps + reconstruction.
    prior : MeanAndError
        KL(p(x_T | x_0) || N(0, I)), exactly, for each image.
    steps : MeanAndError, shape (K,)
        The term KL_t of one time: the mean over the times of each stratum.
    reconstruction : MeanAndError
        -log p(x_0 | x_1).
    first, last : numpy.ndarray, shape (K,), int64
        The strata: the first and the last time of each, from 2 to T.
    """

    total: MeanAndError
    prior: MeanAndError
    steps: MeanAndError
    reconstruction: MeanAndError
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]


def bound_weight(schedule: VarianceSchedule, t: Times) -> Times:
    r"""The weight of a squared error in the bound, :math:`w_t = \beta_t / (2 \alpha_t (1 - \bar\alpha_{t-1}))` nats.

    It is the square of the noise's coefficient in (18) over twice the variance (15), here without cancellation, for
    times in 2..T; at t = 1 the variance is 0 and the weight infinite.

    Examples
    --------
    >>> round(bound_weight(VarianceSchedule.linear(500), 2), 2)
    0.7
    """
    require_process(schedule)
    alpha, variance = schedule.transition(t)
    t = t if isinstance(t, (int, Tensor)) else np.asarray(t)
    if (torch.as_tensor(t) < 2).any():
        raise ValueError(f"t must lie in 2..{schedule.n_steps}: there is no noise before t = 1; it is {t}")
    _, variance_before = schedule.transition(t - 1, 0 * t)
    return variance / (2 * alpha * variance_before)


def gaussian_decoder(x_0: Tensor, mean: Tensor, variance: float) -> Tensor:
    """The logarithm, in nats, of the density N(x_0; mean, variance I), eq. (1), for continuous data; shape (N,).

    Examples
    --------
    >>> gaussian_decoder(torch.zeros(1, 2), torch.zeros(1, 2), 1 / (2 * math.pi))
    tensor([0.])
    """
    x_0, mean, variance = _fitting(x_0, mean, variance)
    log_density: Tensor = -0.5 * ((x_0 - mean).square() / variance + math.log(2 * math.pi * variance))
    return log_density.flatten(1).sum(1)


def pixel_decoder(x_0: Tensor, mean: Tensor, variance: float) -> Tensor:
    r"""The log-probability, in nats, of pixels of 256 values: N(mean, variance I) integrated over bins of width 2/255.

    The bins of -1 and 1 are open to the outside, so that the 256 probabilities add up to 1 (Ho, Jain & Abbeel 2020,
    eq. (13)). With it the bound is that of a discrete law, and not negative. The pixels of ``x_0`` must be
    :math:`-1, -1 + 2/255, \ldots, 1`, to a thousandth of their distance.

    Examples
    --------
    >>> pixel_decoder(-torch.ones(1, 2), torch.zeros(1, 2), 1e8).exp().round(decimals=3)  # -1 or 1, each of the two
    tensor([0.2500], dtype=torch.float64)
    """
    x_0, mean, variance = _fitting(x_0, mean, variance)
    level = (x_0.double() + 1) * (LEVELS / 2)
    off = (level - level.round().clamp(0, LEVELS)).abs().max()
    if off > 1e-3:
        raise ValueError(
            "pixel_decoder needs pixels of 256 values from -1 to 1, as (127.5 (x + 1)).round() / 127.5 - 1 has; one is "
            f"off by {off:.3g} of their distance"
        )
    gap, half, root = x_0.double() - mean.double(), 1 / LEVELS, math.sqrt(variance)
    low = torch.where(level < 0.5, -torch.inf, (gap - half) / root)
    high = torch.where(level > LEVELS - 0.5, torch.inf, (gap + half) / root)
    # Phi(high) - Phi(low), both in the lower tail, where no digits are lost; it is even about 0.
    low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    log_probability: Tensor = log_high + torch.log1p(-torch.exp(log_low - log_high))
    return log_probability.flatten(1).sum(1)


@torch.no_grad()
def variational_bound(
    model: Denoiser,
    schedule: VarianceSchedule,
    images: Tensor,
    *,
    decoder: Decoder = gaussian_decoder,
    n_times: int | None = None,
    n_repeats: int = 1,
    generator: Seed | None = None,
    batch_size: int = 100,
    progress: bool = False,
) -> VariationalBound:
    r"""Bound -log p(x_0) under Algorithm 2 with all T steps, from N(0, I), in bits per dimension.

    The prior's term is exact; in the others the expectation over the noise of eq. (8) is estimated by one draw for each
    image. The last step of Algorithm 2 adds no noise, which is no density; in its place the decoder has the mean
    :math:`\mu_\theta(x_1, 1)` and the variance :math:`1 - \bar\alpha_1 = \beta_1`, where (15) would be 0.

    With ``n_times`` the times 2..T are divided into so many strata, and each image draws one time of each: an unbiased
    estimate of the same bound. The strata are single times at first and then longer in proportion to t.

    Parameters
    ----------
    model : callable
        The noise predictor, as for `sample`; it is asked at a time of its own for each image.
    schedule : VarianceSchedule
    images : Tensor, shape (N, ...), floating
        x_0: at least two, as the errors are found from their differences.
    decoder : callable
        ``decoder(x_0, mean, variance)`` returns log p(x_0 | x_1) in nats, shape (N,): `gaussian_decoder`, a density for
        continuous data (which may give a negative bound), or `pixel_decoder` for images of 256 pixel values.
    n_times : int, optional
        K, the number of strata. Defaults to T - 1, all times.
    n_repeats : int
        Draws of noise and times for each image and stratum.
    generator : torch.Generator or int, optional
        The source of noise and times, or its seed. Defaults to a new, randomly seeded generator on the CPU.
    batch_size : int
        The most images that the model sees at once.
    progress : bool
        Whether to show a progress bar.

    Examples
    --------
    >>> from diffmath.ddpm import gaussian_denoiser
    >>> schedule, x = VarianceSchedule.linear(50, 1e-3, 0.2), torch.linspace(-2, 2, 500)[:, None]
    >>> bound = variational_bound(gaussian_denoiser(schedule, 0.0, 1.0), schedule, x, generator=0)
    >>> bound.steps.mean.shape
    (49,)
    """
    require_model(model)
    require_process(schedule)
    require_callable("decoder", decoder, "decoder(x_0, mean, variance)")
    images = as_floating(images, "images", least=2, ndim=2)
    require_pixels(images)
    require_trained_size("images", images, model)
    batch_size, n_repeats = require_count("batch_size", batch_size), require_count("n_repeats", n_repeats)
    generator = as_generator(generator)
    first, last = _strata(schedule.n_steps, n_times)
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    device, dtype = (images.device, images.dtype) if weight is None else (weight.device, weight.dtype)

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        return check_prediction(model(x_t.to(device, dtype), t.to(device)), x_t).to(x_t)

    def nats(x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        x_t = schedule.add_noise(x_0, eps, t)
        predicted = predict(x_t, t)
        if t[0] > 1:
            kl: Tensor = bound_weight(schedule, t).to(x_0) * (eps - predicted).square().flatten(1).sum(1)
            return kl
        mean = schedule.posterior_mean_from_noise(x_t, predicted, t)
        return -require_one_each("decoder", decoder(x_0, mean, schedule.transition(1, 0)[1]), len(x_0))

    n, x_0 = len(images), images.double()
    spans = [(1, 1), *zip(first.tolist(), last.tolist(), strict=True)]  # the decoder, and the steps
    terms = torch.zeros((len(spans), n), dtype=torch.float64, device=images.device)
    with tqdm(total=terms.numel() * n_repeats, unit=" evaluations", unit_scale=True, disable=not progress) as bar:
        for term, (low, high) in zip(terms, spans, strict=True):
            for _ in range(n_repeats):
                t = torch.randint(low, high + 1, (n,), generator=generator, device=generator.device).to(x_0.device)
                eps = torch.randn(x_0.shape, generator=generator, device=generator.device, dtype=x_0.dtype).to(x_0)
                for part in torch.arange(n).split(batch_size):
                    term[part] += nats(x_0[part], eps[part], t[part])
                    bar.update(len(part))
    if not torch.isfinite(terms).all():
        raise ValueError("the model's predictions led to NaN or infinity")

    bits = 1 / (math.log(2) * x_0[0].numel())
    terms = bits / n_repeats * terms
    prior = bits * _prior(schedule, x_0)
    lengths = torch.tensor([high - low + 1 for low, high in spans], dtype=torch.float64).to(x_0)
    total = prior + lengths @ terms
    return VariationalBound(_estimate(total), _estimate(prior), _estimate(terms[1:]), _estimate(terms[0]), first, last)


def _prior(schedule: VarianceSchedule, x_0: Tensor) -> Tensor:
    """KL(p(x_T | x_0) || N(0, I)) of each image, in nats."""
    alpha_bar, rest = schedule.transition(schedule.n_steps, 0)
    # -log(1 - a) - a = a^2 / 2 + a^3 / 3 + ..., which would cancel for small a.
    excess = alpha_bar**2 / 2 * hyp2f1(1, 2, 3, alpha_bar) if alpha_bar < 0.5 else -math.log(rest) - alpha_bar
    squares = x_0.flatten(1).square().sum(1)
    kl: Tensor = 0.5 * (alpha_bar * squares + x_0[0].numel() * float(excess))
    return kl


def _strata(n_steps: int, n_times: int | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first and the last times of the strata of 2..T, each in proportion to its times but of one at least."""
    n = n_steps - 1 if n_times is None else require_count("n_times", n_times)
    if n > n_steps - 1:
        raise ValueError(f"n_times must be at most T - 1 = {n_steps - 1}; it is {n}")
    edges = [1]
    for left in range(n, 0, -1):
        proportional = round(edges[-1] * (n_steps / edges[-1]) ** (1 / left))
        edges.append(max(edges[-1] + 1, proportional))
    return np.array(edges[:-1], dtype=np.int64) + 1, np.array(edges[1:], dtype=np.int64)


def _fitting(x_0: Tensor, mean: Tensor, variance: float) -> tuple[Tensor, Tensor, float]:
    """A decoder's arguments, checked."""
    x_0, mean, variance = as_tensor(x_0, "x_0"), as_tensor(mean, "mean"), require_number("variance", variance)
    if x_0.shape != mean.shape:
        raise ValueError(f"x_0 and mean must have one shape; they have {tuple(x_0.shape)} and {tuple(mean.shape)}")
    if not 0 < variance < math.inf:
        raise ValueError(f"variance must be positive and finite; it is {variance}")
    return x_0, mean, variance


def _estimate(values: Tensor) -> MeanAndError:
    """Mean and its standard error along the last axis, the images."""
    of_images = values.cpu().numpy()
    return MeanAndError(of_images.mean(-1), of_images.std(-1, ddof=1) / math.sqrt(of_images.shape[-1]))
