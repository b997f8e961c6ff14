"""Arrays in, Dataset out: initial conditions and times as they are given, and solutions with names and units."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
import xarray as xr

from diffmath import __version__
from diffmath.domains.box import Box, Floats, axis_names
from diffmath.pde.functionals import power_of_mu

if TYPE_CHECKING:
    from diffmath.pde.flow import RenormalizedFlow

__all__ = ["MEANS", "Layout", "Solution", "as_dtype", "read_initial", "read_times", "to_dataset"]

MEANS = {
    "project": "solved on the zero-mean subspace: the mean of u_0 is removed",
    "keep": "the mean is kept, and grows like exp of the integral of lambda",
}
QUANTITIES = {
    "gradient": "integral of |grad u|^2",
    "value": "integral of u^2",
    "laplacian": "integral of (Lap u)^2",
    "total_variation": "integral of |grad u|",
}
EQUATIONS = {
    "gradient": "u_t = Lap u + (u / C) integral (Lap u)^2 dx, no flux; Higham, Higham and Grindrod, eq. (22)",
}


class Solution(NamedTuple):
    """Arrays over (B, time, ...): modes, or grid values, and what is known of them."""

    u: Floats
    modes: Floats
    fraction: Floats
    multiplier: Floats
    energy: Floats
    preserved: Floats


class Layout(NamedTuple):
    """The leading axes of initial conditions: their names, shape and coordinates; the dtype to answer in; the size."""

    dims: tuple[Hashable, ...]
    shape: tuple[int, ...]
    coords: dict[Hashable, Any]
    dtype: type[np.floating[Any]]
    largest: float

    @classmethod
    def of(cls, u_0: Any, shape: tuple[int, ...], dtype: type[np.floating[Any]], largest: float) -> Layout:
        """From an array's leading axes, or a DataArray's leading dimensions."""
        if isinstance(u_0, xr.DataArray):
            dims = u_0.dims[: len(shape)]
            return cls(dims, shape, {d: u_0.coords[d] for d in dims if d in u_0.coords}, dtype, largest)
        names = ("batch",) if len(shape) == 1 else tuple(f"batch_{i + 1}" for i in range(len(shape)))
        return cls(names, shape, {}, dtype, largest)


def read_initial(
    domain: Box, u_0: npt.ArrayLike | xr.DataArray, kind: Literal["values", "modes"] = "values"
) -> tuple[Floats, Layout]:
    """The initial conditions with one batch axis, checked, and what that axis was.

    Parameters
    ----------
    domain : Box
    u_0 : array or xarray.DataArray of float, shape (..., N_1, ..., N_n)
    kind : {"values", "modes"}
        Whether these are values at the cell centres, or amplitudes of the eigenfunctions.

    Returns
    -------
    values : array of float64, shape (B, N_1, ..., N_n)
    layout : Layout
    """
    name = "u_0" if kind == "values" else "c"
    shape = domain.shape
    if isinstance(u_0, xr.DataArray):
        u_0 = _in_order(domain, u_0, kind)
    values = np.asarray(u_0)
    u = _real(values, name)
    if u.shape[-len(shape) :] != shape:
        raise ValueError(f"{name} must have the domain's shape {shape} in its last axes; its shape is {u.shape}")
    if u.size == 0:
        raise ValueError(f"{name} must hold at least one initial condition; its shape is {u.shape}")
    largest = max(float(u.max()), -float(u.min()))
    dtype = np.float32 if values.dtype == np.float32 else np.float64
    batch = Layout.of(u_0, u.shape[: -len(shape)], dtype, largest)
    if not math.isfinite(largest):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(u))[0])
        raise ValueError(f"{name} must be finite; {name}{list(where)} = {u[where]}")
    u = u.reshape(-1, *shape)
    flat = u.reshape(len(u), -1)
    constant = flat[:, -1] == (0 if name == "c" else flat[:, 0])
    if constant.any():  # perhaps: most often the ends differ
        constant = (flat[:, 1:] == (0 if name == "c" else flat[:, :1])).all(axis=1)
    if constant.any():
        i = int(constant.argmax())
        which = f"{name}[{i}]" if batch.shape else name
        raise ValueError(
            f"{which} must not be constant: "
            + ("it has no other mode" if name == "c" else f"it is {flat[i, 0]} everywhere")
            + ", so C = 0 and there is no flow"
        )
    return u, batch


def _in_order(domain: Box, u_0: xr.DataArray, kind: str) -> xr.DataArray:
    """With the axes of space last, if they are named; refused if its coordinates are not those of the domain."""
    name = "u_0" if kind == "values" else "c"
    axes, modes = axis_names(domain)
    space = axes if kind == "values" else modes
    if set(space) <= set(u_0.dims):
        u_0 = u_0.transpose(..., *space)
    batch = u_0.dims[: u_0.ndim - len(space)]
    if taken := [d for d in batch if d in ("time", *axes, *modes)]:
        raise ValueError(f"{name} has a dimension {taken[0]!r} that the solution has too: select from it, or rename it")
    for axis, x in zip(axes, domain.coordinates, strict=True):
        if axis in u_0.coords and not np.allclose(u_0.coords[axis], x, rtol=1e-6, atol=1e-6 * x[0]):
            raise ValueError(f"the coordinates {axis} of {name} are not the domain's cell centres")
    return u_0


def read_times(times: npt.ArrayLike | Sequence[float]) -> Floats:
    """Times as a one-dimensional float64 array, in their order; none of them may be NaN."""
    t = np.atleast_1d(_real(times, "times"))
    if t.ndim != 1 or len(t) == 0 or np.isnan(t).any():
        raise ValueError(f"times must be numbers, one or a one-dimensional array of them; they are {times!r}")
    return t


def as_dtype(u: Floats, dtype: type[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """The solution in the dtype of the initial condition, in which it must be finite."""
    if dtype == np.float32 and np.abs(u).max() > np.finfo(np.float32).max:
        raise OverflowError("the solution exceeds float32, the dtype of u_0: give u_0 in float64")
    return u.astype(dtype, copy=False)


def to_dataset(
    flow: RenormalizedFlow,
    t: Floats,
    solution: Solution,
    layout: Layout,
    attributes: Mapping[str, Any],
    *,
    amplitudes: bool = False,
) -> xr.Dataset:
    """The solution of a flow with names, coordinates, units and attributes.

    Parameters
    ----------
    flow : RenormalizedFlow
    t : array of float64, shape (n,)
    solution : Solution
    layout : Layout
        That of the initial conditions.
    attributes : mapping
        With ``method`` and ``mean``.
    amplitudes : bool
        Whether to hold the coefficients of the solution, too.
    """
    domain, s = flow.domain, power_of_mu(flow.preserve)
    axes, modes = axis_names(domain)

    def variable(
        values: npt.NDArray[np.floating[Any]], *dims: str, **attrs: str
    ) -> tuple[tuple[Hashable, ...], npt.NDArray[np.floating[Any]], dict[str, str]]:
        return (*layout.dims, "time", *dims), values.reshape(*layout.shape, *values.shape[1:]), attrs

    name = flow.preserve if isinstance(flow.preserve, str) else getattr(flow.preserve, "__name__", "a functional")
    share = f"share of each mode in the {'energy' if s in (None, 1) else 'preserved quantity'}"
    variables = {
        "u": variable(as_dtype(solution.u, layout.dtype), *axes, long_name="solution"),
        "multiplier": variable(solution.multiplier, long_name="multiplier lambda(t)", units="1 / length^2"),
        "energy": variable(solution.energy, long_name="integral of |grad u|^2"),
        "preserved": variable(solution.preserved, long_name=QUANTITIES.get(name, name)),
        "energy_fraction": variable(solution.fraction, *modes, long_name=share),
    }
    if amplitudes:
        variables["amplitude"] = variable(solution.modes, *modes, long_name="coefficients in the eigenfunctions")
    coordinates: dict[Hashable, Any] = {
        **layout.coords,
        "time": ("time", t, {"long_name": "time", "units": "length^2"}),
        **{a: (a, x, {"units": "length"}) for a, x in zip(axes, domain.coordinates, strict=True)},
        **{m: (m, np.arange(n), {"long_name": "mode number"}) for m, n in zip(modes, domain.shape, strict=True)},
    }
    return xr.Dataset(variables, coordinates).assign_attrs(
        equation=EQUATIONS.get(name, "u_t = Lap u + lambda(t) u, no flux; Higham, Higham and Grindrod, eq. (20)"),
        domain=" x ".join(
            f"[0, {length:g}] in {n} cells" for n, length in zip(domain.shape, domain.lengths, strict=True)
        ),
        preserve=name,
        lowest_eigenvalue=float(domain.eigenvalues.ravel()[1:].min()),
        **attributes,
        mean_note=MEANS[attributes["mean"]],
        versions=f"diffmath {__version__}, numpy {np.__version__}, scipy {scipy.__version__}",
    )


def _real(values: npt.ArrayLike | Sequence[float] | xr.DataArray, name: str) -> Floats:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers; the dtype is {array.dtype}")
    return array.astype(np.float64, copy=False)
