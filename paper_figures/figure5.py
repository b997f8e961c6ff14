"""Figure 5: one Gaussian x_T, and nine independent denoising runs from it.

The runs start from the same noise and differ in the noise z that Algorithm 2 adds on its way. The paper shows x_T and
the nine images; ours also shows the runs at four times between, where they part.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from paper_figures.run import Backward, Run, show

TIMES = (500, 400, 300, 200, 100, 0)  # of T = 500; in proportion for a network trained with another T


def compute(run: Run) -> Backward:
    """Nine runs from one x_T, looked at six times on their way."""
    x_T = torch.randn((1, 1, 32, 32), generator=run.generator)
    return run.backward(TIMES, x_T=x_T.expand(9, 1, 32, 32))


def draw(runs: Backward) -> Figure:
    """Six panels in two rows: x_T, then the nine runs."""
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.08, hspace=0.04)  # type: ignore[union-attr, call-arg]
    first, *others = figure.subplots(2, 3).flat
    show(first, runs.states[0][:1], columns=1, title=f"$t = {runs.times[0]}$: one $x_T$ for all")
    for ax, images, t in zip(others, runs.states[1:], runs.times[1:], strict=True):
        show(ax, images, columns=3, title=f"$t = {t}$")
    figure.suptitle("Nine denoising runs from one Gaussian $x_T$", fontsize=11)
    return figure
