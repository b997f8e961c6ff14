"""Problems to solve, and going on from a solution's Dataset.

A Dataset of `RenormalizedFlow.solve` states its whole problem: what is preserved, the domain, whether the mean is kept,
the method and its options, and the last state, as exact amplitudes if there are any. The times of a run that goes on
count from that state; the attribute ``start_time`` is the time of the state itself, counted from the first initial
condition. So ``ds.time + ds.start_time`` is the time since then, in every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from diffmath._arguments import require_instance
from diffmath.domains.box import Box
from diffmath.pde.dataset import read_initial
from diffmath.pde.stepping import Interrupted

if TYPE_CHECKING:
    from diffmath.pde.flow import RenormalizedFlow

__all__ = ["Problem", "box_of", "continuation", "last_state", "require_same"]

STEPPING = ("integrator", "dt", "theta", "rtol", "atol")


@dataclass(frozen=True)
class Problem:
    """A flow and an initial condition.

    Attributes
    ----------
    flow : RenormalizedFlow
    values : array, xarray.DataArray or None
        The initial condition on the grid; None if it is to be found from the modes.
    modes : array, xarray.DataArray, mapping or None
        Its amplitudes, if these are what is known exactly.
    mean, method : str
        The same as for `RenormalizedFlow.solve`.
    options : mapping
        The method's options, unless others are given to `solve`.
    previous : xarray.Dataset or None
        The solution from which this one goes on.
    """

    flow: RenormalizedFlow
    values: npt.ArrayLike | xr.DataArray | None
    modes: npt.ArrayLike | Mapping[tuple[int, ...], float] | xr.DataArray | None = None
    mean: Any = "project"
    method: Any = "spectral"
    options: Mapping[str, Any] = field(default_factory=dict)
    previous: xr.Dataset | None = None

    @property
    def is_batch(self) -> bool:
        """Whether there are several initial conditions."""
        initial = self.modes if self.values is None else self.values
        return not isinstance(initial, Mapping) and np.ndim(initial) > len(self.flow.domain.shape)  # type: ignore[arg-type]

    def solve(self, times: npt.ArrayLike, method: Any = None, **options: Any) -> xr.Dataset:
        """Solve the problem, exactly from the amplitudes where these are known and the method is "spectral".

        Parameters
        ----------
        times, method, **options
            The same as for `RenormalizedFlow.solve`; they default to the problem's own.
        """
        method = self.method if method is None else method
        if self.modes is not None and method == "spectral" and not options:
            return self._labelled(self.flow.solve_modes(self.modes, times, mean=self.mean))
        values = self._from_modes() if self.values is None else self.values
        options = self._kept(method, options) | options
        try:
            return self._labelled(self.flow.solve(values, times, method, mean=self.mean, **options))
        except Interrupted as interrupted:
            interrupted.dataset = self._labelled(interrupted.dataset)
            raise

    def solve_forced(self, times: npt.ArrayLike, D: float, reading: Any = None, **options: Any) -> xr.Dataset:
        """Solve the problem under noise of equal strength in all modes, one path of `diffmath.pde.stochastic`.

        Parameters
        ----------
        times : float or array of float
        D : float
            The variance of the noise in each mode of the preserved quantity.
        reading : optional
            "rescale" unless given.
        **options
            Options of `ForcedFlow.solve`, such as ``dt`` and ``rng``.
        """
        from diffmath.pde.stochastic import ForcedFlow

        power, values = self.flow.norm.power or 0, self._from_modes() if self.values is None else self.values
        forced = ForcedFlow(self.flow, lambda mu: D / mu**power, reading or "rescale")
        return self._labelled(forced.solve(values, times, **options).isel(path=0))

    def _labelled(self, solution: xr.Dataset) -> xr.Dataset:
        """A solution with the attributes and coordinates of the one from which it goes on."""
        if self.previous is None:
            return solution
        for name in solution.variables:
            if name in self.previous.variables and name != "time":
                solution[name].attrs = dict(self.previous[name].attrs)
        solution.time.attrs["units"] = self.previous.time.attrs.get("units", "length^2")
        kept = {name: x for name, x in self.previous.u.coords.items() if "time" not in {name, *x.dims}}
        return solution.assign_coords({name: x.variable for name, x in kept.items()})

    def _kept(self, method: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The problem's own options that still hold beside others."""
        integrator = self.options.get("integrator")
        if method != self.method or options.get("integrator", integrator) != integrator:
            return {}
        dropped = {*options, "dt", "theta"} if {"dt", "theta"} & set(options) else set(options)
        return {name: value for name, value in self.options.items() if name not in dropped}

    def _from_modes(self) -> npt.ArrayLike | xr.DataArray:
        domain, modes = self.flow.domain, self.modes
        if isinstance(modes, Mapping):
            return np.asarray(sum(amplitude * domain.eigenfunction(k) for k, amplitude in modes.items()))
        assert modes is not None
        c, layout = read_initial(domain, modes, "modes")
        dims = (*layout.dims, *(layout.names[d] for d in domain.dims))
        return xr.DataArray(domain.to_values(c).reshape(*layout.shape, *domain.shape), dims=dims)


def box_of(ds: xr.Dataset) -> Box:
    """The box on which a solution lives.

    Parameters
    ----------
    ds : xarray.Dataset
        A solution of `RenormalizedFlow.solve` on a box. For other data see `Box.from_coordinates`.

    Examples
    --------
    >>> from diffmath.pde import RenormalizedFlow
    >>> box = Box((8, 6), (1.0, 0.1))
    >>> box_of(RenormalizedFlow(box).solve_modes({(1, 0): 1.0}, 0.1)) == box
    True
    """
    _require_solution(ds)
    if "lengths" not in ds.attrs:
        raise ValueError(
            f"the Dataset's domain must be a box; it is {ds.attrs.get('domain')}: "
            "continue_from of a flow on that domain goes on from it"
        )
    axes = _axes(ds)
    numbers = [tuple(np.atleast_1d(ds.attrs[name]).tolist()) for name in ("lengths", "origin")]
    shape = tuple(ds.sizes[axis] for axis in axes)
    boundary = tuple(ds.attrs["boundary"].split(", "))
    if not len(axes) == len(numbers[0]) == len(numbers[1]) == len(boundary):
        raise ValueError(f"the Dataset must have one length for each of its axes {axes}; it has {numbers[0]}")
    box = Box(shape, numbers[0], boundary, numbers[1])
    for domain in (box, box.discrete):
        if domain.description == ds.attrs["domain"]:
            return domain
    raise ValueError(f"the Dataset's u must fill its domain, {ds.attrs['domain']}; its shape is {shape}")


def last_state(ds: xr.Dataset, name: str = "u") -> xr.DataArray:
    """The state of the latest time, with that time as a coordinate without axis."""
    state = ds[name]
    if "time" in state.dims:
        state = state.sortby("time").isel(time=-1) if "time" in state.coords else state.isel(time=-1)
    return state.load()


def require_same(what: str, given: Any, known: Any, source: str) -> None:
    """ValueError if something is given that contradicts what a file or a Dataset has."""
    if given is not None and given != known:
        raise ValueError(f"{what} must be that of {source}, {known}; it is {given}")


def continuation(ds: xr.Dataset, flow: RenormalizedFlow) -> Problem:
    """The problem of a flow that goes on from the last state of a solution.

    Parameters
    ----------
    ds : xarray.Dataset
        A solution of `RenormalizedFlow.solve`, with its time or at a single one, perhaps with a batch.
    flow : RenormalizedFlow
        A flow with the domain and the norm of the solution.
    """
    _require_solution(ds)
    axes = _axes(ds)
    mode_axes = tuple(f"k_{a}" for a in axes)
    if isinstance(flow.domain, Box):
        require_same("the flow's domain", flow.domain, box_of(ds), "the Dataset")
    else:
        require_same("the flow's domain", flow.domain.description, ds.attrs["domain"], "the Dataset")
        mode_axes = flow.domain.mode_dims
    require_same("what the flow preserves", flow.norm.name, ds.attrs["preserve"], "the Dataset")
    start = float(ds.attrs.get("start_time", 0.0))

    def state(name: str, dims: tuple[str, ...]) -> xr.DataArray:
        last = last_state(ds, name).transpose(..., *dims)
        return last.assign_coords(time=start + float(last.time)) if "time" in last.coords else last

    modes = state("amplitude", mode_axes) if "amplitude" in ds else None
    method = "finite-difference" if ds.attrs["method"] == "finite-difference" else "spectral"
    options = {name: ds.attrs[name] for name in STEPPING if name in ds.attrs and method == "finite-difference"}
    options = {name: value.item() if hasattr(value, "item") else value for name, value in options.items()}
    if options.get("integrator") == "exact":  # the default, to which no other option belongs
        options = {}
    return Problem(flow, state("u", axes), modes, ds.attrs["mean"], method, options, ds)


def _require_solution(ds: xr.Dataset) -> None:
    require_instance("ds", ds, xr.Dataset)
    missing = [name for name in ("preserve", "mean", "method", "axes") if name not in ds.attrs]
    if "u" not in ds or missing:
        lacks = "variable 'u'" if "u" not in ds else f"attribute {missing[0]!r}"
        raise ValueError(f"the Dataset must be a solution of RenormalizedFlow.solve; it has no {lacks}")


def _axes(ds: xr.Dataset) -> tuple[str, ...]:
    axes = tuple(ds.attrs["axes"].split(", "))
    if not set(axes) <= set(ds.u.dims):
        raise ValueError(f"the Dataset's u must have the axes {axes} of its attribute; it has {ds.u.dims}")
    return axes
