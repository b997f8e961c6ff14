"""Pictures and films of a flow's Dataset, in one and two dimensions, with matplotlib and without its global state."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import animation, colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diffmath._files import replacing

__all__ = ["animate", "plot"]

GREY_SAFE = colormaps["viridis"]  # its lightness rises evenly, so it survives a grey print
MOST_CURVES, MOST_FRAMES = 7, 6
FRAMES_PER_SECOND = 12
WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}


def plot(ds: xr.Dataset) -> Figure:
    r"""Draw a solution: curves and a space-time image in 1-D, frames in 2-D; and the multiplier.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `RenormalizedFlow.solve`, without a batch.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the solution has a batch, or more than two dimensions.
    """
    axes = _axes(ds)
    ds = ds.sortby("time")
    return _curves(ds, axes[0]) if len(axes) == 1 else _frames(ds, axes)


def animate(ds: xr.Dataset, path: str | Path, *, frames_per_second: float = FRAMES_PER_SECOND) -> None:
    """Write a film of a solution, a frame for each output time in increasing order.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `RenormalizedFlow.solve`, without a batch.
    path : path
        A .gif or an .mp4; the latter needs ffmpeg.
    frames_per_second : float

    Raises
    ------
    ValueError
        If the solution has a batch or more than two dimensions, or the ending is another.
    RuntimeError
        If there is no ffmpeg for an .mp4.
    """
    axes, path = _axes(ds), Path(path)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"a film must end in .gif or .mp4; it is {path.name!r}")
    if not animation.writers.is_available(writer):
        raise RuntimeError(f"a {path.suffix} film needs {writer}, which is not installed; try a .gif")
    ds = ds.sortby("time")
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    u = ds.u.transpose("time", *axes).values
    if len(axes) == 1:
        (line,) = ax.plot(ds[axes[0]], u[0], color=GREY_SAFE(0.1))
        low, high = u.min(), u.max()
        ax.set(xlabel=_label(ds, axes[0]), ylabel="$u$", ylim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
    else:
        image = _image(ax, ds, axes, u[0], np.abs(u).max())
        figure.colorbar(image, ax=ax, label="$u$")

    def show(i: int) -> list[object]:
        if len(axes) == 1:
            line.set_ydata(u[i])
        else:
            image.set_data(u[i].T)
        ax.set_title(f"$t = {ds.time.values[i]:.4g}$,  $\\lambda = {ds.multiplier.values[i]:.4g}$")
        return []

    film = animation.FuncAnimation(figure, show, frames=len(u))  # type: ignore[arg-type]
    with replacing(path) as temporary:
        film.save(temporary, writer=writer, fps=frames_per_second)  # type: ignore[arg-type]


def _axes(ds: xr.Dataset) -> tuple[Hashable, ...]:
    """The dimensions of space."""
    if "time" not in ds.u.dims:
        raise ValueError("the solution must have its dimension time, if only of one entry: ds.isel(time=[0])")
    axes: tuple[Hashable, ...] = ds.u.dims[ds.u.dims.index("time") + 1 :]
    if ds.u.dims[0] != "time":
        raise ValueError(f"choose one solution of the batch {ds.u.dims[: ds.u.dims.index('time')]}, as by ds.isel")
    if len(axes) > 2:
        raise ValueError(f"pictures are of one and two dimensions; the solution has {len(axes)}")
    return axes


def _label(ds: xr.Dataset, axis: Hashable) -> str:
    return f"${axis}$ ({ds[axis].attrs.get('units', 'length')})"


def _some(n: int, most: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))})


def _curves(ds: xr.Dataset, axis: Hashable) -> Figure:
    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    both = len(ds.time) > 1
    places = figure.subplot_mosaic([["curves", "image"], ["curves", "multiplier"]] if both else [["curves"]])
    ax = places["curves"]
    chosen = _some(len(ds.time), MOST_CURVES)
    for n, i in enumerate(chosen):
        colour = GREY_SAFE(0.92 * n / max(1, len(chosen) - 1))
        ax.plot(ds[axis], ds.u[i], color=colour, lw=0.9 + 0.25 * n, label=f"$t = {ds.time.values[i]:.3g}$")
    ax.set(xlabel=_label(ds, axis), ylabel="$u$", title="solution")
    ax.legend(fontsize=8)
    if both:
        ax = places["image"]
        index = np.arange(len(ds.time))
        image = ax.pcolormesh(ds[axis], index, ds.u, cmap=GREY_SAFE, shading="nearest", rasterized=True)
        ticks = _some(len(ds.time), 5)
        ax.set_yticks(ticks, [f"{ds.time.values[i]:.2g}" for i in ticks])
        ax.set(xlabel=_label(ds, axis), ylabel="$t$, by output time")
        figure.colorbar(image, ax=ax, label="$u$")
        _multiplier(places["multiplier"], ds)
    return figure


def _frames(ds: xr.Dataset, axes: tuple[Hashable, ...]) -> Figure:
    chosen = _some(len(ds.time), MOST_FRAMES)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(3.1 * columns + 0.8, 2.9 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    limit = float(np.abs(ds.u.values).max())
    for ax, i in zip(places, chosen, strict=False):
        image = _image(ax, ds, axes, ds.u.transpose("time", *axes).values[i], limit)
        ax.set_title(f"$t = {ds.time.values[i]:.3g}$,  $\\lambda = {ds.multiplier.values[i]:.4g}$", fontsize=9)
    for ax in places[len(chosen) :]:
        ax.remove()
    figure.colorbar(image, ax=places[: len(chosen)], label="$u$", shrink=0.8)
    return figure


def _image(ax, ds, axes, u, limit):  # type: ignore[no-untyped-def]
    x, y = (ds[a].values for a in axes)
    dx, dy = x[0], y[0]  # half a cell
    image = ax.imshow(
        u.T, origin="lower", extent=(0, x[-1] + dx, 0, y[-1] + dy), cmap=GREY_SAFE, vmin=-limit, vmax=limit
    )
    ax.set(xlabel=_label(ds, axes[0]), ylabel=_label(ds, axes[1]))
    return image


def _multiplier(ax, ds):  # type: ignore[no-untyped-def]
    after = ds.isel(time=ds.time.values > 0)
    logarithmic = len(after.time) > 2 and after.time.values[-1] > 50 * after.time.values[0]
    shown = after if logarithmic else ds
    ax.plot(shown.time, shown.multiplier, ".-", color=GREY_SAFE(0.1))
    if logarithmic:
        ax.set_xscale("log")
    if (ds.multiplier.values > 0).all():
        ax.set_yscale("log")
    ax.set(xlabel="$t$ (length$^2$)", ylabel=r"$\lambda(t)$ (1 / length$^2$)")
