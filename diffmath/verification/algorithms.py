"""Algorithm 1 trains a model whose minimiser is known; Algorithm 2 samples from data whose law is known at all times.

Algorithm 1 ends some standard errors, here parts in a thousand, from its minimiser; five of them are allowed.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np

from diffmath.schedule import VarianceSchedule
from diffmath.verification._references import (
    DIGITS,
    exact_alpha,
    relative_error,
    worst_error,
)
from diffmath.verification.checks import Example, check


@check(
    "Algorithm 1",
    "a line for each time is trained to the noise's conditional mean (error in standard errors)",
    code=["diffmath.ddpm.training.train"],
    method="Monte Carlo",
    tolerance=5,
    share=0.005,
)
def _algorithm_1(rng: np.random.Generator) -> Example:
    import torch
    from torch import nn

    from diffmath.ddpm import train

    n, n_batch, n_steps, n_last = 5, 8192, 1000, 250

    class Lines(nn.Module):
        """The noise predictor a_t x + b_t: at each noise level a linear regression. It counts the times it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.coefficients = nn.Parameter(torch.zeros(n + 1, 2))
            self.seen = torch.zeros(n + 1)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            self.seen += t.bincount(minlength=n + 1)
            a, b = nn.functional.embedding(t, self.coefficients).unsqueeze(-1).unbind(1)
            return a * x + b

    schedule, seed = VarianceSchedule(rng.uniform(0.1, 0.5, n)), int(rng.integers(2**31))
    data = 0.3 + 0.5 * torch.randn((20_000, 1), generator=torch.Generator().manual_seed(seed))
    lines = Lines()
    trained = train(
        lines,
        schedule,
        data,
        n_steps,
        batch_size=n_batch,
        learning_rate=0.01,
        betas=(0.9, 0.999),
        seed=seed,
        device="cpu",
        autocast=False,
        log_every=n_last,
        progress=False,
    )
    # The regression of the noise on x_t, and the variance that it leaves: the covariance of the two is sqrt(rest).
    m, v = data.mean().item(), data.var(correction=0).item()
    alpha_bar = np.cumprod(1 - schedule.beta)[1:]
    rest = 1 - alpha_bar
    mean, variance = np.sqrt(alpha_bar) * m, alpha_bar * v + rest
    slope, left = np.sqrt(rest) / variance, 1 - rest / variance
    # The average's weights grow like the 8th power of the step: it is as good as an equal one of 17/81 of the steps,
    # and that as the least squares solution from all their examples (Polyak and Juditsky, 1992).
    per_time = n_batch * n_steps * 17 / 81 / n
    n_seen = n_batch * n_steps / n
    found = trained.model.get_parameter("coefficients").detach().numpy()[1:]
    errors = [  # in standard errors; a square of noise of variance r has the variance 2 r^2
        (found[:, 0] - slope) / np.sqrt(left / variance / per_time),
        (found[:, 1] + slope * mean) / np.sqrt(left * (1 + mean**2 / variance) / per_time),
        (trained.losses[-1][1] - left.mean()) / math.sqrt((3 * (left**2).mean() - left.mean() ** 2) / n_batch / n_last),
        (lines.seen.numpy()[1:] - n_seen) / math.sqrt(n_seen * (1 - 1 / n)),
    ]
    return Example(float(np.abs(np.hstack(errors)).max()), f"T = {n}, alpha_bar_T = {alpha_bar[-1]:.3g}")


@check(
    "Algorithm 2",
    "the law of the states, for Gaussian data, by impulses instead of noise",
    code=["diffmath.ddpm.sampling.sample", "diffmath.ddpm.samplers.ancestral"],
    method="exact solution",
    tolerance=1e-12,
    share=0.25,
)
def _algorithm_2(rng: np.random.Generator) -> Example:
    import torch
    from torch.overrides import TorchFunctionMode

    from diffmath.ddpm import sample
    from diffmath.ddpm.denoisers import gaussian_denoiser

    class Impulses(TorchFunctionMode):
        """Instead of noise: in the i-th draw, 1 for sample i, and 0 for the others."""

        n_draws = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is not torch.randn:
                return result
            self.n_draws += 1
            result = torch.zeros_like(result, dtype=torch.float64)
            result[self.n_draws] = 1
            return result

    n, mean, spread = int(rng.integers(2, 60)), float(rng.normal()), float(10.0 ** rng.uniform(-1, 0.5))
    schedule = VarianceSchedule.linear(n, 1e-3, 0.2)
    exact: Any = gaussian_denoiser(schedule, mean, spread**2)
    exact.image_shape = (1,)
    # The states are affine in x_T and each z: sample 0 is their mean, and the squares of the differences of the others
    # from it, a coefficient each, add up to their variance. There is one sample more, for a draw too many.
    with Impulses() as impulses:
        _, states = sample(exact, schedule, n_samples=n + 2, trajectory=range(n, -1, -1))
    laws = [(x[0].item(), (x - x[0]).square().sum().item()) for x in states]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    images = sample(exact, schedule, n_samples=2000, generator=generator, batch_size=2000).double()
    with mp.workdps(DIGITS):
        m, v = mp.mpf(0), mp.mpf(1)
        error = worst_error(relative_error(laws[0][0], m, 1), relative_error(laws[0][1], v))
        for t, (found_m, found_v) in zip(range(n, 0, -1), laws[1:], strict=True):
            a, b, d = exact_alpha(schedule, t, t - 1), exact_alpha(schedule, t - 1, 0), exact_alpha(schedule, t, 0)
            gain = mp.sqrt(1 - d) / (d * mp.mpf(spread) ** 2 + 1 - d)
            slope = (1 - (1 - a) / mp.sqrt(1 - d) * gain) / mp.sqrt(a)
            shift = (1 - a) / mp.sqrt(1 - d) * gain * mp.sqrt(d) * mp.mpf(mean) / mp.sqrt(a)
            m, v = slope * m + shift, slope**2 * v + (1 - a) * (1 - b) / (1 - d)
            error = worst_error(error, relative_error(found_m, m, mp.sqrt(v)), relative_error(found_v, v))
        # Noise for x_T and all steps but the last. That it is fresh each time shows in actual samples: within 5
        # standard errors of that mean and variance counts as no error.
        deviations = (images.mean().item() - m) / mp.sqrt(v / 2000), (images.var().item() / v - 1) / math.sqrt(2 / 2000)
        if impulses.n_draws != n or worst_error(*map(abs, deviations)) > 5:
            error = math.inf
    return Example(error, f"T = {n}, data N({mean:.3g}, {spread:.3g}^2)")
