"""Figure 3: the backward process from nine pure-noise images.

Algorithm 2 at t = T, at four times between, and at t = 0; each panel is 3 x 3. Ours chooses the times where digits
take shape rather than equally spaced ones.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.run import Backward, Run, show

TIMES = (500, 200, 100, 50, 20, 0)  # of T = 500; in proportion for a network trained with another T


def compute(run: Run) -> Backward:
    """Nine samples, looked at six times on their way."""
    return run.backward(TIMES, n_samples=9)


def draw(backward: Backward) -> Figure:
    """Six panels in two rows."""
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.08, hspace=0.04)  # type: ignore[union-attr, call-arg]
    for ax, images, t in zip(figure.subplots(2, 3).flat, backward.states, backward.times, strict=True):
        show(ax, images, columns=3, title=f"$t = {t}$")
    figure.suptitle("The backward process from nine pure-noise images", fontsize=11)
    return figure
