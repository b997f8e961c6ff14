"""The figures for a lecture: 16:9 pages with large type, and two films, of a digit and of the flow.

``python -m paper_figures --slides`` writes them. The pages are the figures themselves, as their modules draw them,
in another shape. The films are GIFs and, where ffmpeg is installed, MP4s as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import animation
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from torch import Tensor

from diffmath.pde.plots import Film, Picture, animate
from paper_figures import figure7
from paper_figures.run import Run, show

PAGE, FILM = (13.333, 7.5), (9.6, 5.4)  # inches; 16:9
LARGER = 1.15  # by which type grows more than the page
FRAMES_PER_SECOND = 12
N_FRAMES = 48  # of either way of the digit, and of the flow
DIGIT = 3


def slide(figure: Figure, size: tuple[float, float] = PAGE, scale: float | None = None) -> Figure:
    """Give a figure the shape of a page, and scale its type and its lines; by a little more than its width by default.

    A heading that would be wider than the page is broken, or made as small as it has to be.
    """
    scale = LARGER * size[0] / figure.get_figwidth() if scale is None else scale
    figure.set_size_inches(*size)
    for text in figure.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * scale)
    for line in figure.findobj(Line2D):
        line.set_linewidth(float(line.get_linewidth()) * scale)
    heading = getattr(figure, "_suptitle", None)
    if heading is not None:
        first, _, last = heading.get_text().rpartition(";  ")
        heading.set_text(f"{first}\n{last}" if first else last)
        width = heading.get_window_extent().width / figure.bbox.width
        heading.set_fontsize(heading.get_fontsize() * min(1.0, 0.96 / width))
    return figure


def page(number: int, data: Any) -> Figure:
    """The slide of a figure, from what its module computed."""
    module = importlib.import_module(f"paper_figures.figure{number}")
    return slide(module.draw(data, rows=2) if number == 2 else module.draw(data))


class Journey(NamedTuple):
    """The frames of the digit's film: images (n, 1, 32, 32), their times, the image amplitudes at all times."""

    images: Tensor
    times: list[int]
    amplitudes: list[float]
    turn: int


def journey_of(run: Run) -> Journey:
    """A training image that drowns by eq. (2), and the image that Algorithm 2 makes of what is left."""
    network_schedule = run.checkpoint.schedule
    T = network_schedule.n_steps
    # The image is lost and found at small t: let the frames be equidistant in the square root of the time.
    times = sorted({round(T * s * s) for s in np.linspace(0, 1, N_FRAMES)})
    x, states = run.one_digit(DIGIT), {}
    states[0] = x
    for t in range(1, T + 1):
        x = network_schedule.forward_step(x, torch.randn(x.shape, generator=run.generator), t)
        states[t] = x
    _, back = run.sample(x_T=x, trajectory=times[::-1])
    images = torch.cat([*(states[t] for t in times), *back.cpu()])
    amplitudes = np.sqrt(network_schedule.alpha_bar).tolist()
    return Journey(images, [*times, *times[::-1]], amplitudes, len(times))


def film_of_digit(run: Run) -> Film:
    """The image on the left; on the right how much of the first image is left, and where we are."""
    journey = journey_of(run)
    figure = Picture(figsize=FILM, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.1, 1])
    show(left, journey.images[:1], columns=1, title=" ")
    (picture,) = left.images
    t = np.arange(len(journey.amplitudes))
    right.plot(t, journey.amplitudes, label=r"image, $\sqrt{\bar\alpha_t}$")
    right.plot(t, np.sqrt(1 - np.square(journey.amplitudes)), "--", label=r"noise, $\sqrt{1 - \bar\alpha_t}$")
    (now,) = right.plot([0], [1.0], "o", color="k", ms=9)
    right.set(xlabel="$t$", ylim=(-0.03, 1.08))
    right.legend()
    _settled(slide(figure, FILM, scale=1.5))

    def draw(i: int) -> list[object]:
        picture.set_data(journey.images[i, 0].numpy())
        way = "forwards, by (2)" if i < journey.turn else "backwards, by Algorithm 2"
        left.title.set_text(f"{way}:  $t = {journey.times[i]}$")
        now.set_data([journey.times[i]], [journey.amplitudes[journey.times[i]]])
        return []

    # The film stops for a second at the noise and at either end.
    n, pause = len(journey.images), FRAMES_PER_SECOND
    frames = [*[0] * pause, *range(journey.turn), *[journey.turn] * pause, *range(journey.turn, n), *[n - 1] * pause]
    return _film(figure, draw, frames)


def film_of_flow(run: Run) -> Film:
    """Figure 7's flow in time, above the strip of its multiplier."""
    ds = figure7.compute(run).sel(time=slice(1e-6, None))
    chosen = np.unique(np.linspace(0, len(ds.time) - 1, N_FRAMES).round().astype(int))
    film = animate(ds.isel(time=chosen), frames_per_second=FRAMES_PER_SECOND)
    _settled(slide(film.animation._fig, FILM, scale=1.4))  # type: ignore[attr-defined]
    return film


def save_film(film: Film, path: Path) -> list[Path]:
    """Write the film as a GIF and, where ffmpeg is, as an MP4; returns the files."""
    endings = [".gif", *([".mp4"] if animation.writers.is_available("ffmpeg") else [])]
    for ending in endings:
        film.save(path.with_suffix(ending))
    return [path.with_suffix(ending) for ending in endings]


FILMS: dict[int, tuple[str, Callable[[Run], Film]]] = {2: ("digit", film_of_digit), 7: ("flow", film_of_flow)}
"""The films, and the figures that they come with."""


def _settled(figure: Figure) -> None:
    """Arrange the figure once, rather than anew for each frame."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _film(figure: Figure, draw: object, frames: list[int]) -> Film:
    film = animation.FuncAnimation(figure, draw, frames=frames)  # type: ignore[arg-type]
    film._draw_was_started = True  # type: ignore[attr-defined]  # no warning if nobody plays it
    return Film(film, FRAMES_PER_SECOND)
