"""Pictures and films of a flow's Dataset, in one and two dimensions and on surfaces.

The functions use matplotlib without its global state. Every picture is a `Picture`, a matplotlib figure that a notebook
displays as the value of a cell.
"""

from __future__ import annotations

import io
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib import animation
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from diffmath._arguments import require_instance, require_positive
from diffmath._files import as_path, replacing
from diffmath.pde.fields import GREY_SAFE, Field, axis_label, field_of, units

__all__ = ["Film", "Picture", "animate", "plot"]

DARK, LIGHT = GREY_SAFE(0.1), GREY_SAFE(0.65)
MOST_CURVES, MOST_FRAMES = 7, 6
FLAT = 0.35  # a first state below this share of the largest one gets a panel of its own
FRAMES_PER_SECOND = 12
WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}


class Picture(Figure):
    """A matplotlib figure that a notebook displays."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=100)
        return content.getvalue()


class Film:
    """A film of a solution. A notebook displays it as a player; `save` writes it to a file.

    Attributes
    ----------
    animation : matplotlib.animation.FuncAnimation
    """

    def __init__(self, film: animation.FuncAnimation, frames_per_second: float) -> None:
        self.animation, self.frames_per_second = film, frames_per_second

    def save(self, path: str | Path) -> None:
        """Write the film as a .gif, or as an .mp4, which needs ffmpeg."""
        writer = _writer(path)
        with replacing(path) as temporary:
            self.animation.save(temporary, writer=writer, fps=self.frames_per_second)  # type: ignore[arg-type]

    def _repr_html_(self) -> str:
        return self.animation.to_jshtml(fps=self.frames_per_second)  # type: ignore[arg-type]


def plot(ds: xr.Dataset) -> Picture:
    r"""Draw a solution: curves and a space-time image in 1-D, frames in 2-D; and the multiplier.

    The multiplier's panel marks :math:`\mu_1`, its limit for almost every initial condition. In 2-D each frame has its
    own scale, given above it, since amplitudes grow as the flow smooths.

    Parameters
    ----------
    ds : xarray.Dataset
        A solution of `RenormalizedFlow.solve` without a batch.

    Returns
    -------
    Picture
        A matplotlib figure; ``plot(ds).savefig(path)`` writes it.

    Raises
    ------
    ValueError
        If the solution has a batch, or more than two dimensions.

    Examples
    --------
    >>> from diffmath.pde import Box, RenormalizedFlow
    >>> from diffmath.pde.initial import bump
    >>> ds = RenormalizedFlow(Box((64,))).solve(bump(Box((64,))), [0.0, 0.01, 0.1])
    >>> len(plot(ds).axes)  # curves, image, colour bar, multiplier
    4
    """
    axes = _space(ds)
    ds = ds.sortby("time")
    field = field_of(ds, axes)
    return _curves(ds, axes[0]) if field is None else _frames(ds, ds.u.transpose("time", *axes).values, field)


def animate(ds: xr.Dataset, path: str | Path | None = None, *, frames_per_second: float = FRAMES_PER_SECOND) -> Film:
    """Make a film of a solution, with one frame per output time and a strip of the multiplier below.

    Parameters
    ----------
    ds : xarray.Dataset
        A solution of `RenormalizedFlow.solve` without a batch. Frames follow in the order of time.
    path : path, optional
        A .gif or an .mp4 file to write; an .mp4 needs ffmpeg.
    frames_per_second : float

    Returns
    -------
    Film
        A notebook displays it as a player.

    Raises
    ------
    ValueError
        If the solution has a batch or more than two dimensions, or the file has another suffix.
    RuntimeError
        If ffmpeg is missing for an .mp4.

    Examples
    --------
    >>> from diffmath.pde import Box, RenormalizedFlow
    >>> ds = RenormalizedFlow(Box((16,))).solve_modes({1: 1.0, 3: 1.0}, [0.0, 0.01, 0.1])
    >>> animate(ds).animation.new_frame_seq().__length_hint__()
    3
    """
    axes = _space(ds)
    frames_per_second = require_positive("frames_per_second", frames_per_second)
    if path is not None:
        path = as_path(path)
        _writer(path)  # known before any frame is drawn
    ds = ds.sortby("time")
    figure = Picture(figsize=(6, 5.2), layout="constrained")
    field = field_of(ds, axes)
    grid = figure.add_gridspec(2, 1, height_ratios=[4, 1])
    above = figure.add_subplot(grid[0], projection=field and field.projection)
    below = figure.add_subplot(grid[1])
    u = ds.u.transpose("time", *axes).values
    if field is None:
        (line,) = above.plot(ds[axes[0]], u[0], color=DARK)
        low, high = u.min(), u.max()
        above.set(
            xlabel=axis_label(ds, axes[0]),
            ylabel="$u$" + units(ds, "u"),
            ylim=(low - 0.05 * (high - low), high + 0.05 * (high - low)),
        )
    else:
        image = field.draw(above, u[0])
        figure.colorbar(image, ax=above, label=r"$u\ /\ \max |u|$")
    _multiplier(below, ds)
    below.set_ylabel(r"$\lambda(t)$")
    (now,) = below.plot([], [], "o", color=DARK, ms=7)
    places = _on_axis(ds.time.values)[0]

    def show(i: int) -> list[object]:
        if field is None:
            line.set_ydata(u[i])
        else:
            field.update(image, u[i])
        if np.isfinite(places[i]):
            now.set_data([places[i]], [ds.multiplier.values[i]])
        else:
            now.set_data([], [])
        above.title.set_text(_title(ds, i, with_size=field is not None))
        return []

    show(0)

    film = Film(animation.FuncAnimation(figure, show, frames=len(u)), frames_per_second)  # type: ignore[arg-type]
    film.animation._draw_was_started = True  # type: ignore[attr-defined]  # no warning if nobody plays it
    if path is not None:
        film.save(path)
    return film


def _writer(path: str | Path) -> str:
    """The name of matplotlib's writer for a path."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"a film must end in .gif or .mp4; it is {Path(path).name!r}")
    if not animation.writers.is_available(WRITERS[suffix]):
        raise RuntimeError(f"a {suffix} film needs {WRITERS[suffix]}, which is not installed; try a .gif")
    return WRITERS[suffix]


def _space(ds: xr.Dataset) -> tuple[Hashable, ...]:
    """The dimensions of space."""
    require_instance("ds", ds, xr.Dataset)
    if missing := {"u", "multiplier"} - set(ds):
        raise ValueError(
            f"ds must be a solution of RenormalizedFlow.solve; it has no {' and no '.join(sorted(missing))}"
        )
    if "time" not in ds.u.dims:
        raise ValueError("the solution must have its dimension time, if only of one entry: ds.isel(time=[0])")
    if not ds.sizes["time"]:
        raise ValueError("the solution must have a state at one time at least; it has none")
    axes: tuple[Hashable, ...] = ds.u.dims[ds.u.dims.index("time") + 1 :]
    if ds.u.dims[0] != "time":
        raise ValueError(f"choose one solution of the batch {ds.u.dims[: ds.u.dims.index('time')]}, as by ds.isel")
    return axes


def _time(t: float) -> str:
    return r"\infty" if t == np.inf else r"-\infty" if t == -np.inf else f"{t:.3g}"


def _title(ds: xr.Dataset, i: int, with_size: bool = False) -> str:
    size = rf",  $\max |u| = {np.abs(ds.u.values[i]).max():.3g}$" if with_size else ""
    return f"$t = {_time(ds.time.values[i])}$,  $\\lambda = {ds.multiplier.values[i]:.4g}$" + size


def _some(n: int, most: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))})


def _curves(ds: xr.Dataset, axis: Hashable) -> Picture:
    figure = Picture(figsize=(9.6, 5.2), layout="constrained")
    several = len(ds.time) > 1
    sizes = np.abs(ds.u.values).max(axis=1)
    flat = several and sizes[0] < FLAT * sizes.max()
    rows: list[Any]
    if flat:
        rows, heights = [["first", "image"], ["curves", "image"], ["curves", "multiplier"]], [1.2, 0.8, 2]
    elif several:
        rows, heights = [["curves", "image"], ["curves", "multiplier"]], [1, 1]
    else:
        rows, heights = [["curves"]], [1]
    panels = figure.subplot_mosaic(rows, height_ratios=heights)
    ax = panels["curves"]
    chosen = _some(len(ds.time), MOST_CURVES)
    for n, i in enumerate(chosen):
        colour = GREY_SAFE(0.92 * n / max(1, len(chosen) - 1))
        label = f"$t = {_time(ds.time.values[i])}$"
        ax.plot(ds[axis], ds.u[i], color=colour, lw=0.9 + 0.25 * n, label=label)
    ax.set(xlabel=axis_label(ds, axis), ylabel="$u$" + units(ds, "u"))
    ax.legend(fontsize=8)
    if flat:
        panels["first"].plot(ds[axis], ds.u[0], color=GREY_SAFE(0.0), lw=0.9)
        panels["first"].set(
            ylabel="$u$" + units(ds, "u"), title=f"$t = {_time(ds.time.values[0])}$, on a scale of its own"
        )
        panels["first"].tick_params(labelbottom=False)
        panels["first"].sharex(ax)
    else:
        ax.set_title("solution")
    if several:
        ax = panels["image"]
        index = np.arange(len(ds.time))
        image = ax.pcolormesh(ds[axis], index, ds.u, cmap=GREY_SAFE, shading="nearest", rasterized=True)
        ticks = _some(len(ds.time), 6)
        ax.set_yticks(ticks, [f"${_time(ds.time.values[i])}$" for i in ticks])
        ax.set(xlabel=axis_label(ds, axis), ylabel="$t$, by output time")
        figure.colorbar(image, ax=ax, label="$u$" + units(ds, "u"))
        _multiplier(panels["multiplier"], ds)
    return figure


def _frames(ds: xr.Dataset, u: npt.NDArray[Any], field: Field) -> Picture:
    chosen = _some(len(ds.time), MOST_FRAMES)
    several = len(ds.time) > 1
    columns = 2 if len(chosen) == 4 else min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    x, y = field.size
    height = float(np.clip(2.6 * y / x, 1.2, 4.0)) + 0.9
    figure = Picture(figsize=(3.1 * columns + 1.1, height * rows + (1.9 if several else 0.0)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[height * rows, 1.9]) if several else [figure]
    above = parts[0]
    grid = above.subplots(rows, columns, squeeze=False, subplot_kw={"projection": field.projection})
    panels = list(grid.flat)
    for ax, i in zip(panels, chosen, strict=False):
        image = field.draw(ax, u[i])
        size = np.abs(u[i]).max()
        ax.set_title(rf"$t = {_time(ds.time.values[i])}$,  $\max |u| = {size:.3g}$", fontsize=9)
    for ax in panels[len(chosen) :]:
        ax.remove()
    for ax in panels[: len(chosen)] if field.projection is None else []:
        ax.label_outer()
    above.colorbar(image, ax=panels[: len(chosen)], label=r"$u\ /\ \max |u|$", shrink=0.8)
    if several:
        _multiplier(parts[1].subplots(), ds)
    return figure


def _on_axis(t: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], bool]:
    """Where times lie on the multiplier's axis, NaN if nowhere, and whether the axis is logarithmic.

    Infinity lies a little beyond the last finite time.
    """
    positive = t[(t > 0) & np.isfinite(t)]
    logarithmic = bool((t >= 0).all()) and len(positive) > 2 and positive.max() > 50 * positive.min()
    finite = t[np.isfinite(t)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if logarithmic:
        beyond = positive.max() * (positive.max() / positive.min()) ** 0.12
        return np.where(t > 0, np.minimum(t, beyond), np.nan), True
    margin = 0.12 * ((high - low) or 1.0)
    return np.clip(t, low - margin, high + margin), False


def _multiplier(ax: Axes, ds: xr.Dataset) -> None:
    """The multiplier over time, with the eigenvalue that it tends to."""
    t = ds.time.values
    x, logarithmic = _on_axis(t)
    shown, finite = np.isfinite(x), np.isfinite(t)
    ax.plot(x[shown & finite], ds.multiplier.values[shown & finite], ".-", color=DARK)
    if logarithmic:
        ax.set_xscale("log")
    if (ds.multiplier.values > 0).all():
        ax.set_yscale("log")
    low, high = ds.multiplier.values.min(), ds.multiplier.values.max()
    if high - low <= 1e-6 * abs(high):  # constant but for rounding, whose size would be no scale
        ax.set_ylim(low - 0.1 * abs(low), high + 0.1 * abs(high))
    lowest = ds.attrs.get("lowest_eigenvalue")
    if lowest is not None:
        ax.axhline(lowest, color=LIGHT, ls="--", lw=1, zorder=0)
        ax.annotate(r"$\mu_1$", (0.01, lowest), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    if (shown & ~finite).any():
        infinite = shown & ~finite
        ax.plot(x[infinite], ds.multiplier.values[infinite], "D", color=DARK, ms=5)
        if logarithmic:
            ax.xaxis.set_minor_locator(NullLocator())
        ticks = [tick for tick in ax.get_xticks() if x[shown & finite].min() <= tick <= x[shown & finite].max()]
        labels = [f"$10^{{{round(np.log10(tick))}}}$" if logarithmic else f"{tick:.3g}" for tick in ticks]
        ax.set_xticks([*ticks, *x[infinite]], [*labels, *(f"${_time(value)}$" for value in t[infinite])])
    ax.set(xlabel="$t$" + units(ds, "time"), ylabel=r"$\lambda(t)$" + units(ds, "multiplier"))
