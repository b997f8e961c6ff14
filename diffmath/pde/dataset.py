"""Arrays in, Dataset out: initial conditions and times as they are given, and solutions with names and units.

The axes of a DataArray count by name. A domain has names for its axes, x, y, z on boxes, and k_x, k_y, k_z for its
modes. A DataArray with all of these names is transposed to the domain's order. One with none of them has its last axes
taken in their order, and the results keep its names: an initial condition with the dimensions (lat, lon) gives u(time,
lat, lon) and energy_fraction(time, k_lat, k_lon). A mixture is refused, and so are coordinates that differ from the
domain's. Coordinates, attributes and the axes of a batch are kept.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
import xarray as xr
from xarray.indexes import PandasIndex

from diffmath import __version__
from diffmath._arguments import as_array, real_array
from diffmath.domains.box import Box, Floats
from diffmath.domains.eigenbasis import Eigenbasis

if TYPE_CHECKING:
    from diffmath.pde.flow import RenormalizedFlow

__all__ = [
    "MEANS",
    "Layout",
    "Solution",
    "as_dtype",
    "read_initial",
    "read_times",
    "renamed",
    "require_mean",
    "to_dataset",
]

Kind = Literal["values", "modes"]
Mean = Literal["project", "keep"]

MEANS = {
    "project": "solved on the zero-mean subspace: the mean of u_0 is removed",
    "keep": "the mean is kept, and grows like exp of the integral of lambda",
}
NOTABLE_ANGLE = 0.01  # a state that has turned by more between two modes causes a warning
SEPARATE = 0.05  # relative to an eigenvalue: with a larger gap to the next one, the two are distinct
MAIN_SHARE = 0.5  # two modes with a smaller share have not been reached yet, and cause no warning
VARIABLES = ("time", "u", "multiplier", "energy", "preserved", "energy_fraction", "amplitude")
UNIFORM = 1e-6  # of the distance between neighbours: the deviation of coordinates that counts as rounding


class Solution(NamedTuple):
    """Arrays over (B, time, ...): modes, or grid values, and what is known of them."""

    u: Floats
    fraction: Floats
    multiplier: Floats
    energy: Floats
    preserved: Floats
    modes: Floats | None = None


class Layout(NamedTuple):
    """What results take from initial conditions beside the numbers.

    Attributes
    ----------
    dims, shape : tuple
        The names and the lengths of the axes of a batch.
    names : dict
        The domain's names of axes -> those of the results.
    coords : dict
        The coordinates that were given.
    attrs : dict
        The attributes of u, or of the amplitude.
    dtype : type
        The dtype of the result.
    largest : float
        The largest absolute value.
    start_time : float
        The time of the initial condition, if it has one.
    """

    dims: tuple[Hashable, ...]
    shape: tuple[int, ...]
    names: dict[str, Hashable]
    coords: dict[Hashable, Any]
    attrs: dict[str, dict[str, Any]]
    dtype: type[np.floating[Any]]
    largest: float
    start_time: float = 0.0


def read_initial(
    domain: Eigenbasis, u_0: npt.ArrayLike | xr.DataArray, kind: Kind = "values", name: str | None = None
) -> tuple[Floats, Layout]:
    """Check initial conditions, and bring their axes into the domain's order.

    Parameters
    ----------
    domain : Eigenbasis
    u_0 : array or xarray.DataArray of float, shape (..., N_1, ..., N_n)
        Any leading axes are a batch. A function of the coordinates, which gives values, is fine too.
    kind : {"values", "modes"}
        Whether these are values on the grid, or amplitudes of the eigenfunctions.
    name : str, optional
        What errors call them: u_0 or c unless given.

    Returns
    -------
    values : array of float64, shape (B, N_1, ..., N_n)
    layout : Layout

    Examples
    --------
    >>> values, layout = read_initial(Box((3, 2)), xr.DataArray(np.eye(3)[:2], dims=("y", "x")))
    >>> values[0]
    array([[1., 0.],
           [0., 1.],
           [0., 0.]])
    """
    usual, shape = ("u_0", domain.shape) if kind == "values" else ("c", domain.mode_shape)
    name = usual if name is None else name
    if kind == "values" and callable(u_0) and not hasattr(u_0, "__array__"):
        u_0 = as_array(u_0(*domain.points), name)
    if isinstance(u_0, xr.Dataset):
        raise TypeError(f"{name} must be an array; it is a Dataset: go on from it with continue_from, or give its u")
    names: dict[str, Hashable] = {d: d for d in (*domain.dims, *domain.mode_dims)}
    if isinstance(u_0, xr.DataArray):
        u_0, names = _named(domain, u_0, kind, name)
    values = real_array(u_0, name)
    u: Floats = values.astype(np.float64, copy=False)
    if u.shape[-len(shape) :] != shape:
        raise ValueError(f"{name} must have the domain's shape {shape} in its last axes; its shape is {u.shape}")
    if u.size == 0:
        raise ValueError(f"{name} must hold at least one initial condition; its shape is {u.shape}")
    batch = u.shape[: -len(shape)]
    dims: tuple[Hashable, ...] = ("batch",) if len(batch) == 1 else tuple(f"batch_{i + 1}" for i in range(len(batch)))
    coords, attrs = {}, {}
    if isinstance(u_0, xr.DataArray):
        dims, coords = u_0.dims[: len(batch)], _coordinates(domain, u_0, names, kind, name)
        attrs = {"u" if kind == "values" else "amplitude": dict(u_0.attrs)}
    start = float(u_0.coords["time"]) if isinstance(u_0, xr.DataArray) and _has_time(u_0) else 0.0
    largest = max(float(u.max()), -float(u.min()))
    if not math.isfinite(largest):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(u))[0])
        raise ValueError(f"{name} must be finite; {name}{list(where)} = {u[where]}")
    u = u.reshape(-1, *shape)
    _require_flow(domain, u, kind, name, bool(batch))
    dtype = np.float32 if values.dtype.newbyteorder("=") == np.float32 else np.float64
    return u, Layout(dims, batch, names, coords, attrs, dtype, largest, start)


def _require_flow(domain: Eigenbasis, u: Floats, kind: Kind, name: str, several: bool) -> None:
    """ValueError if an initial condition has null modes alone, such as the constants without flux."""
    flat = u.reshape(len(u), -1)
    null = domain.null_positions
    if len(null) == domain.eigenvalues.size:
        raise ValueError(f"the domain must have a mode that is not null; it has {len(null)} null modes alone")
    rest: Floats | float = flat[:, :1] if kind == "values" and len(null) else 0.0
    still = flat[:, -1:] == rest
    if still.any():  # perhaps: most often the ends differ
        if kind == "modes":
            flat = np.delete(flat, null, axis=1)
        still = (flat == rest).all(axis=1)
        if still.any():
            i = int(still.argmax())
            what = "it has no other mode" if kind == "modes" else f"it is {u[i].flat[0]} everywhere"
            which = f"{name}[{i}]" if several else name
            raise ValueError(f"{which} must not be constant: {what}, so C = 0 and there is no flow")


def _named(domain: Eigenbasis, u_0: xr.DataArray, kind: Kind, name: str) -> tuple[xr.DataArray, dict[str, Hashable]]:
    """A DataArray with the domain's axes last, and their names in the results."""
    own = domain.dims if kind == "values" else domain.mode_dims
    given: tuple[Hashable, ...] = u_0.dims[-len(own) :]
    if present := [d for d in own if d in u_0.dims]:
        if len(present) < len(own):
            raise ValueError(
                f"{name} must have all of the domain's axes {own}, or axes of other names alone; it has {u_0.dims}"
            )
        u_0, given = u_0.transpose(..., *own), own
    elif all(re.fullmatch(r"dim_\d+", str(d)) for d in given):  # as xarray calls axes without a name
        u_0, given = u_0.rename(dict(zip(given, own, strict=False))), own
    for d in given:
        if kind == "values" and _of_modes(domain, d):
            raise ValueError(f"{name} must have axes of space; it has the axis {d!r} of modes: use solve_modes")
        if kind == "modes" and not _of_modes(domain, d):
            raise ValueError(
                f"{name} must have axes of modes such as {own}; it has the axis {d!r}: use solve for values"
            )
    space = tuple(str(d).removeprefix("k_") if kind == "modes" and given != own else d for d in given)
    names: dict[str, Hashable] = {d: d for d in (*domain.dims, *domain.mode_dims)}
    if given != own:
        names |= dict(zip(domain.dims, space, strict=False))
        names |= {f"k_{a}": f"k_{b}" for a, b in zip(domain.dims, space, strict=False)}
    batch = u_0.dims[: -len(own)]
    if taken := [d for d in u_0.dims if d in VARIABLES or (d in batch and d in names.values())]:
        raise ValueError(f"{name} has a dimension {taken[0]!r} that the solution has too: select from it, or rename it")
    return u_0, names


def _has_time(u_0: xr.DataArray) -> bool:
    """Whether there is one time, a number."""
    return "time" in u_0.coords and u_0.coords["time"].ndim == 0 and u_0.coords["time"].dtype.kind in "fiu"


def _of_modes(domain: Eigenbasis, dim: Hashable) -> bool:
    return dim in domain.mode_dims or str(dim).startswith("k_")


def _coordinates(
    domain: Eigenbasis, u_0: xr.DataArray, names: Mapping[str, Hashable], kind: Kind, name: str
) -> dict[Hashable, Any]:
    """The coordinates that results keep, once those of the domain's axes are known to be the domain's."""
    own = domain.dims if kind == "values" else domain.mode_dims
    for coordinate, (dims, expected, *_) in domain.coords.items():
        label = names.get(coordinate, coordinate)
        if label not in u_0.coords or not set(np.atleast_1d(dims)) <= set(own):
            continue
        x = real_array(u_0.coords[label], f"the coordinate {label} of {name}")
        rounding = 4 * float(np.finfo(x.dtype).eps) * float(np.abs(expected).max())
        tolerance = UNIFORM * float(np.ptp(expected)) / len(expected) + rounding
        if x.shape != expected.shape or not (np.abs(x - expected) <= tolerance).all():
            raise ValueError(
                f"the coordinate {label} of {name} must be the domain's, from {expected[0]:.6g} to {expected[-1]:.6g}; "
                f"it goes from {x.flat[0]:.6g} to {x.flat[-1]:.6g}"
                + (": Box.from_coordinates makes a domain from coordinates" if kind == "values" else "")
            )
    results = {*VARIABLES, *names.values()} - set(u_0.dims)
    return {label: x.variable for label, x in u_0.coords.items() if label not in results}


def read_times(times: npt.ArrayLike | Sequence[float]) -> Floats:
    """Times as a one-dimensional float64 array, in their order; none of them may be NaN."""
    t: Floats = np.atleast_1d(real_array(times, "times").astype(np.float64, copy=False))
    if t.ndim != 1 or len(t) == 0 or np.isnan(t).any():
        raise ValueError(f"times must be numbers, one or a one-dimensional array of them; they are {times!r}")
    return t


def require_mean(mean: Mean) -> Mean:
    """The name of what happens to the mean; a ValueError if it is none of `MEANS`."""
    if mean not in list(MEANS):
        raise ValueError(f'mean must be "project" or "keep"; it is {mean!r}')
    return mean


def as_dtype(u: Floats, dtype: type[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """The solution in the dtype of the initial condition, in which it must be finite."""
    if dtype == np.float32 and np.abs(u).max() > np.finfo(np.float32).max:
        raise OverflowError("the solution exceeds float32, the dtype of u_0: give u_0 in float64")
    return u.astype(dtype, copy=False)


def renamed(coords: Mapping[Hashable, xr.Variable], layout: Layout) -> dict[Hashable, Any]:
    """A domain's coordinates under the names of the initial condition, with the coordinates that came with it."""
    names: Mapping[Any, Hashable] = layout.names
    return {
        names.get(name, name): (tuple(names.get(d, d) for d in x.dims), x.data, x.attrs) for name, x in coords.items()
    } | layout.coords


def to_dataset(
    flow: RenormalizedFlow,
    t: Floats,
    solution: Solution,
    layout: Layout,
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """The solution of a flow with names, coordinates, units and attributes.

    Parameters
    ----------
    flow : RenormalizedFlow
    t : array of float64, shape (n,)
    solution : Solution
    layout : Layout
        The layout of the initial conditions.
    attributes : mapping
        The attributes of the result; they include ``method`` and ``mean``.
    """
    domain, norm, names = flow.domain, flow.norm, layout.names
    axes, modes = domain.dims, domain.mode_dims
    known: Any = (..., *map(slice, domain.mode_shape))  # of a truncated basis that was extended
    since = "time since the state at start_time" if layout.start_time else "time"
    coords: Any = flow.coords.variables
    if is_renamed := bool(layout.coords) or any(name != own for own, name in names.items()):
        coords = renamed(coords, layout)
    units = {str(xr.as_variable(coords[names[d]]).attrs.get("units", "length")) for d in axes if names[d] in coords}
    unit = units.pop() if len(units) == 1 else "length"
    time = xr.IndexVariable("time", t, {"long_name": since, "units": f"{unit}^2"})
    coords = {"time": time, **coords}
    if not is_renamed:  # the indexes are at hand, and slow to make
        coords = xr.Coordinates(coords, {"time": PandasIndex(time.to_index(), "time"), **flow.coords.xindexes})

    def variable(
        name: str, values: npt.NDArray[np.floating[Any]], *dims: str, **attrs: str
    ) -> tuple[tuple[Hashable, ...], npt.NDArray[np.floating[Any]], dict[str, Any]]:
        labels = (*layout.dims, "time", *(names[d] for d in dims))
        return labels, values.reshape(*layout.shape, *values.shape[1:]), attrs | layout.attrs.get(name, {})

    _warn_of_splits(domain, t, solution.fraction[known])
    share = f"share of each mode in the {'energy' if norm.power in (None, 1) else 'preserved quantity'}"
    parts = [
        ("u", as_dtype(solution.u, layout.dtype), axes, {"long_name": "solution"}),
        ("multiplier", solution.multiplier, (), {"long_name": "multiplier lambda(t)", "units": f"1 / {unit}^2"}),
        ("energy", solution.energy, (), {"long_name": "integral of |grad u|^2"}),
        ("preserved", solution.preserved, (), {"long_name": norm.quantity}),
        ("energy_fraction", solution.fraction[known], modes, {"long_name": share}),
    ]
    if solution.modes is not None:
        parts.append(("amplitude", solution.modes[known], modes, {"long_name": "coefficients in the eigenfunctions"}))
    variables = {name: variable(name, values, *dims, **attrs) for name, values, dims, attrs in parts}
    if "mesh" in (topology := domain.topology):  # the UGRID convention
        variables["u"][2].update(mesh="mesh", location="node")
    attrs: dict[str, Any] = dict(
        equation=norm.equation,
        domain=domain.description,
        **_geometry(domain),
        axes=", ".join(str(names[d]) for d in axes),
        preserve=norm.name,
        lowest_eigenvalue=domain.lowest_eigenvalue,
        **attributes,
        mean_note=MEANS[attributes["mean"]],
        start_time=layout.start_time,
        versions=f"diffmath {__version__}, numpy {np.__version__}, scipy {scipy.__version__}",
    )
    return xr.Dataset(variables | topology, coords, attrs)


def _warn_of_splits(domain: Eigenbasis, t: Floats, fraction: Floats) -> None:
    """A RuntimeWarning where time tells apart modes whose eigenvalues the domain does not, as of a mesh of a disc."""
    if (errors := domain.eigenvalue_errors) is None:
        return
    gaps = np.diff(domain.eigenvalues)
    doubtful = np.flatnonzero((gaps > 0) & (gaps < np.minimum(errors, SEPARATE * domain.eigenvalues)[1:]))
    of_one, of_next = fraction[..., doubtful], fraction[..., doubtful + 1]
    both = (np.minimum(of_one, of_next) > 0).any(axis=(0, 1))
    turned = np.multiply.outer(t, gaps[doubtful]) > NOTABLE_ANGLE
    if (wrong := (both & turned & (of_one + of_next > MAIN_SHARE)).any(axis=(0, 1))).any():
        k = int(doubtful[wrong.argmax()])
        warnings.warn(
            f"the eigenvalues of modes {k} and {k + 1} differ by {gaps[k]:.2g}, and may be wrong by "
            f"{errors[k + 1]:.2g}: if they are one, the state should not turn between these modes, as it has by "
            f"t = {t.max():g}; merge = {2 * gaps[k] / domain.eigenvalues[k + 1]:.1g} makes them one",
            RuntimeWarning,
            stacklevel=4,
        )


def _geometry(domain: Eigenbasis) -> dict[str, Any]:
    """The attributes from which `diffmath.pde.restart.box_of` makes a box again, exactly."""
    if not isinstance(domain, Box):
        return {}
    per_axis = {"lengths": domain.lengths, "origin": domain.origin}  # a file knows no arrays of one number
    attributes: dict[str, Any] = {k: v[0] if len(v) == 1 else np.array(v) for k, v in per_axis.items()}
    return attributes | {"boundary": ", ".join(domain.boundary)}
