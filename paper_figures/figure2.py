"""Figure 2: the forward process (2) from an MNIST image at t = 0 to noise at t = T.

One path of the process, step by step, shown at several times. Ours adds to each panel how much of the image's
amplitude is left, sqrt(alpha_bar_t): 0.0797 at T = 500, so that x_T is nearly, not quite, pure noise.
"""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from diffmath.schedule import VarianceSchedule
from paper_figures.run import Run, show

TIMES = (0, 25, 50, 100, 150, 200, 300, 500)
DIGIT = 3


class Path(NamedTuple):
    """The states (len(TIMES), 1, 32, 32) of one path, and sqrt(alpha_bar_t) at these times."""

    states: Tensor
    amplitudes: list[float]


def compute(run: Run) -> Path:
    """The path: T steps of eq. (2)."""
    schedule = VarianceSchedule.linear()
    states = run.forward(schedule, run.one_digit(DIGIT), TIMES)
    return Path(states, [float(schedule.alpha_bar[t]) ** 0.5 for t in TIMES])


def draw(path: Path, rows: int = 1) -> Figure:
    """Images in time, in one row; in two for a slide."""
    figure = Figure(figsize=(9.6, 1.85) if rows == 1 else (9.6, 5.4), layout="constrained")
    panels = figure.subplots(rows, len(TIMES) // rows).flat
    for ax, image, t, amplitude in zip(panels, path.states, TIMES, path.amplitudes, strict=True):
        show(ax, image[None], columns=1, title=f"$t = {t}$\n{amplitude:.4f}")
    figure.suptitle(
        r"The forward process (2), with the amplitude $\sqrt{\bar\alpha_t}$ of the image that is left"
        rf" ($\sqrt{{\bar\alpha_T}} = {path.amplitudes[-1]:.4f}$)",
        fontsize=11,
    )
    return figure
