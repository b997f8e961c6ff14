"""Figure 5: one Gaussian x_T, and nine independent denoising runs from it.

The runs start from the same noise and differ in the noise z that Algorithm 2 adds on its way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from paper_figures.run import Run, show


class Runs(NamedTuple):
    """The start (1, 1, 32, 32) and the nine images (9, 1, 32, 32)."""

    x_T: Tensor
    images: Tensor


def compute(run: Run) -> Runs:
    """Nine runs from one x_T."""
    x_T = torch.randn((1, 1, 32, 32), generator=run.generator)
    return Runs(x_T, run.sample(x_T=x_T.expand(9, 1, 32, 32)))


def draw(runs: Runs) -> Figure:
    """Two panels: the start, the runs."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    show(left, runs.x_T, columns=1, title="$x_T$: Gaussian noise")
    show(right, runs.images, columns=3, title="nine denoising runs from this $x_T$")
    return figure
