"""Figure 4: 500 samples from independent noise, sorted into the ten digit classes.

The paper shows all of them, as many in a class as there are. Ours states the numbers and shows the first few of each
class, equally many, large enough for a slide.

The classifier is a small convolutional network trained apart from the generator, on real MNIST. On a CPU the profile
"auto" makes these samples with a 20-step subsequence of the 500 times, from noise of x_T's mean and covariance; "paper"
takes all 500, from N(0, I).
"""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from diffmath.ddpm import classify, load_classifier
from paper_figures.run import Run, show

N_SAMPLES = 500
COLUMNS, ROWS = 6, 4  # at most, of each digit


class Sorted(NamedTuple):
    """Samples (500, 1, 32, 32), the digits the classifier sees in them, and how they were made."""

    images: Tensor
    digits: Tensor
    note: str


def compute(run: Run) -> Sorted:
    """Sample, then classify."""
    images = run.sample(n_samples=N_SAMPLES, quick_steps=20).cpu()
    return Sorted(images, classify(load_classifier(), images).digit, run.note.split(" | ")[1])


def draw(samples: Sorted) -> Figure:
    """Ten panels, one for each digit, with their numbers of samples; whole rows only."""
    classes = [samples.images[samples.digits == digit] for digit in range(10)]
    rows = max(1, min(ROWS, min(map(len, classes)) // COLUMNS))
    figure = Figure(figsize=(9.6, 2 * (0.32 + 1.9 * rows / COLUMNS) + 0.35), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04)  # type: ignore[union-attr, call-arg]
    for ax, images, digit in zip(figure.subplots(2, 5).flat, classes, range(10), strict=True):
        show(ax, images[: rows * COLUMNS], COLUMNS, rows=rows, title=f"digit {digit}: {len(images)} samples")
    figure.suptitle(f"{len(samples.images)} samples, sorted by a classifier", fontsize=11)
    return figure
