"""Figure 6: a training image noised by the forward process to x_T, and nine denoising runs from that x_T.

None of the nine resembles the original: at T = 500 only 8 % of its amplitude is left. Ours shows the original too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from paper_figures.run import Run, show

DIGIT = 2


class Runs(NamedTuple):
    """The image and its noised version (1, 1, 32, 32), and the nine images (9, 1, 32, 32)."""

    x_0: Tensor
    x_T: Tensor
    images: Tensor


def compute(run: Run) -> Runs:
    """Noise a training image by eq. (8), then nine runs from there."""
    x_0 = run.one_digit(DIGIT)
    schedule = run.checkpoint.schedule
    x_T = schedule.add_noise(x_0, torch.randn(x_0.shape, generator=run.generator), schedule.n_steps)
    return Runs(x_0, x_T, run.sample(x_T=x_T.expand(9, 1, 32, 32)))


def draw(runs: Runs) -> Figure:
    """Left the image and x_T, right the runs."""
    figure = Figure(figsize=(6.4, 4.3), layout="constrained")
    axes = figure.subplot_mosaic([["x_0", "runs"], ["x_T", "runs"]], width_ratios=[1, 2])
    show(axes["x_0"], runs.x_0, columns=1, title="$x_0$: a training image")
    show(axes["x_T"], runs.x_T, columns=1, title="$x_T$ by the forward process")
    show(axes["runs"], runs.images, columns=3, title="nine denoising runs from this $x_T$")
    return figure
