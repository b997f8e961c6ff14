"""States of a solution as pictures: on grids, on the pixels of a mask, on triangles and on surfaces in space."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.tri import Triangulation

__all__ = ["GREY_SAFE", "Field", "axis_label", "field_of", "scaled", "units"]

GREY_SAFE = colormaps["viridis"]  # its lightness rises evenly, so it survives a grey print


class Field:
    """How the states of a solution are drawn: here, on a grid of two axes.

    Attributes
    ----------
    projection : str or None
        The projection of the axes to draw on, by matplotlib's name.
    size : tuple of float
        The lengths along the axes of the picture.
    """

    projection: str | None = None

    def __init__(self, ds: xr.Dataset, axes: tuple[Hashable, ...]) -> None:
        self.names = [axis_label(ds, a) for a in axes]
        edges = []
        for x in (ds[a].values for a in axes):
            half = (x[1] - x[0]) / 2
            edges += [x[0] - half, x[-1] + half]
        self._set_edges(edges)

    def _set_edges(self, edges: list[float]) -> None:
        self.edges = tuple(edges)
        self.size = edges[1] - edges[0], edges[3] - edges[2]

    def image(self, u: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The numbers that the picture shows, from a state."""
        return scaled(u).T

    def draw(self, ax: Axes, u: npt.NDArray[Any]) -> Any:
        """A picture of a state, on a scale of its own."""
        ax.set(xlabel=self.names[0], ylabel=self.names[1])
        options: dict[str, Any] = {"origin": "lower", "extent": self.edges}
        return ax.imshow(self.image(u), cmap=GREY_SAFE, vmin=-1, vmax=1, **options)

    def update(self, picture: Any, u: npt.NDArray[Any]) -> None:
        """Show another state in a picture."""
        picture.set_data(self.image(u))


class _Pixels(Field):
    """The cells of a mask, which stand on a grid."""

    def __init__(self, ds: xr.Dataset) -> None:
        self.names = [axis_label(ds, a) for a in "xy"]
        self.at = tuple(ds[f"index_{a}"].values.astype(int) for a in "xy")
        edges = []
        for a, i in zip("xy", self.at, strict=True):
            x = ds[a].values
            h = np.ptp(x) / np.ptp(i) if np.ptp(i) else 2 * x[0] / (2 * i[0] + 1)
            edges += [i.min() * h, (i.max() + 1) * h]
        self.at = tuple(i - i.min() for i in self.at)
        self._set_edges(edges)

    def image(self, u: npt.NDArray[Any]) -> npt.NDArray[Any]:
        grid = np.full([i.max() + 1 for i in self.at], np.nan)
        grid[self.at] = scaled(u)
        return grid.T


class _Triangles(Field):
    """The nodes of a mesh in the plane."""

    def __init__(self, ds: xr.Dataset) -> None:
        self.names = [axis_label(ds, a) for a in "xy"]
        self.at = Triangulation(ds.x.values, ds.y.values, ds.mesh_faces.values)
        self.size = float(np.ptp(ds.x.values)), float(np.ptp(ds.y.values))

    def draw(self, ax: Axes, u: npt.NDArray[Any]) -> Any:
        ax.set(xlabel=self.names[0], ylabel=self.names[1], aspect="equal")
        options: dict[str, Any] = {"shading": "gouraud", "rasterized": True}
        return ax.tripcolor(self.at, scaled(u), cmap=GREY_SAFE, vmin=-1, vmax=1, **options)

    def update(self, picture: Any, u: npt.NDArray[Any]) -> None:
        picture.set_array(scaled(u))


class _Surface(Field):
    """The nodes of a surface in space, or of the boundary of a solid."""

    projection = "3d"
    size = 1.0, 1.0

    def __init__(self, ds: xr.Dataset) -> None:
        self.x, self.faces = [ds[a].values for a in "xyz"], ds.mesh_faces.values

    def draw(self, ax: Any, u: npt.NDArray[Any]) -> Any:
        picture = ax.plot_trisurf(
            *self.x, triangles=self.faces, cmap=GREY_SAFE, vmin=-1, vmax=1, shade=False, linewidth=0, antialiased=False
        )
        picture.set_rasterized(True)
        lengths = [np.ptp(x) for x in self.x]
        ax.set(**{f"{a}lim": (x.min(), x.max()) for a, x in zip("xyz", self.x, strict=True)})
        ax.set_box_aspect(lengths, zoom=1.5)
        ax.set_axis_off()
        self.update(picture, u)
        picture.set_clim(-1, 1)
        return picture

    def update(self, picture: Any, u: npt.NDArray[Any]) -> None:
        picture.set_array(scaled(u)[self.faces].mean(axis=1))


def field_of(ds: xr.Dataset, axes: tuple[Hashable, ...]) -> Field | None:
    """How the states over these axes are drawn, None for curves over one axis.

    Raises
    ------
    ValueError
        If there are more than two axes, or pixels in three dimensions.
    """
    if len(axes) > 2 or "index_z" in ds:
        n = max(len(axes), 3)
        raise ValueError(f"pictures are of surfaces, and of one and two dimensions; the solution has {n}")
    if len(axes) == 2:
        return Field(ds, axes)
    if "index_y" in ds:
        return _Pixels(ds)
    if "mesh_faces" in ds:
        return _Surface(ds) if "z" in ds else _Triangles(ds)
    return None


def scaled(u: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A state divided by its largest absolute value."""
    largest: float = np.abs(u).max()
    return u / largest if largest else u


def axis_label(ds: xr.Dataset, axis: Hashable) -> str:
    """The name of an axis, with its units."""
    return (f"${axis}$" if len(str(axis)) == 1 else str(axis)) + units(ds, axis)


def units(ds: xr.Dataset, name: Hashable) -> str:
    """The units of a variable in parentheses, nothing if it has none."""
    found = re.sub(r"\^(-?[0-9]+)", r"$^{\1}$", str(ds[name].attrs.get("units", "")))
    return f" ({found})" if found else ""
