"""Figure 6: a training image noised by the forward process to x_T, and nine denoising runs from that x_T.

None of the nine resembles the original: at T = 500 only 8 % of its amplitude is left. Ours also shows the runs on their
way, at the times of the noising.
"""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from paper_figures.run import Backward, Run, show

DIGIT = 2
TIMES = (500, 400, 300, 200, 100, 0)  # of T = 500; in proportion for a network trained with another T


class Runs(NamedTuple):
    """The path of the forward process at the times, from 0 to T, shape (6, 1, 32, 32), and the nine runs."""

    forward: Tensor
    backward: Backward


def compute(run: Run) -> Runs:
    """Noise a training image step by step, then nine runs from there."""
    schedule = run.checkpoint.schedule
    times = run.scaled(TIMES)[::-1]
    path = run.forward(schedule, run.one_digit(DIGIT), times)
    return Runs(path, run.backward(TIMES, x_T=path[-1:].expand(9, 1, 32, 32)))


def draw(runs: Runs) -> Figure:
    """Left the image on its way to x_T, downwards; right the runs."""
    figure = Figure(figsize=(8.6, 5.6))
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 7.2])  # type: ignore[misc]
    times = runs.backward.times
    column = left.subplots(6, 1, gridspec_kw={"left": 0.24, "right": 0.99, "bottom": 0.02, "top": 0.89, "hspace": 0.06})
    for ax, image, t in zip(column, runs.forward, times[::-1], strict=True):
        show(ax, image[None], columns=1)
        ax.text(-0.12, 0.5, f"$t = {t}$", transform=ax.transAxes, rotation=90, ha="center", va="center", fontsize=8)
    left.suptitle("noising", fontsize=11)
    panels = right.subplots(
        2, 3, gridspec_kw={"left": 0.03, "right": 0.99, "bottom": 0.02, "top": 0.89, "wspace": 0.06, "hspace": 0.12}
    ).flat
    for ax, images, t in zip(panels, runs.backward.states, times, strict=True):
        same = t == times[0]
        show(ax, images[:1] if same else images, 1 if same else 3, title=f"$t = {t}$" + ": this $x_T$ for all" * same)
    right.suptitle("nine denoising runs from the noised training image", fontsize=11)
    return figure
