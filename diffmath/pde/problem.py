"""Problems by name, by expression or from files: what the shell takes, as functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from diffmath._arguments import require_count
from diffmath._files import as_path
from diffmath.domains._axes import names
from diffmath.domains.box import Box
from diffmath.domains.catalogue import find_domain
from diffmath.domains.operator import Operator
from diffmath.pde.dataset import require_mean
from diffmath.pde.flow import RenormalizedFlow
from diffmath.pde.initial import INITIAL_CONDITIONS, modes_from
from diffmath.pde.norms import as_norm
from diffmath.pde.restart import Problem, continuation, last_state, require_same

__all__ = ["read_problem"]


def read_problem(
    initial: str | os.PathLike[str],
    *,
    shape: Sequence[int] | None = None,
    lengths: Sequence[float] | None = None,
    boundary: Sequence[str] | None = None,
    preserve: Any = None,
    mean: Literal["project", "keep"] | None = None,
    variable: str | None = None,
    seed: int = 0,
    domain: str | os.PathLike[str] | None = None,
    refinement: int | None = None,
    n_modes: int | None = None,
) -> Problem:
    """Find the flow and the initial condition that a name, an expression or a file states.

    Parameters
    ----------
    initial : str or path
        A name in `diffmath.pde.initial.INITIAL_CONDITIONS`; a sum of eigenfunctions such as "w5 + 1e-4 w2"; or a file:
        a .npy array, the values at the cell centres, or a .nc file. A .nc file that a flow wrote goes on: its equation,
        domain and mean, its last state and the time reached are taken up, and an argument that contradicts them is
        refused. From any other .nc file a variable is taken, at its last time if it has several, with the box whose
        cell centres are its coordinates; amplitudes if its axes are called k_x, k_y and so on.
    shape : sequence of int, optional
        The cells along each axis, 256 unless given or in the file.
    lengths, boundary : sequence, optional
        The same as for `Box`.
    preserve, mean : optional
        The same as for `RenormalizedFlow` and its `solve`.
    variable : str, optional
        The variable of a .nc file, "u" unless given.
    seed : int
        The seed of the random initial conditions.
    domain : str or path, optional
        Another domain than a box: a name, a picture or a mesh, see `diffmath.domains.catalogue.find_domain`; the
        initial condition is then a name, a sum of eigenfunctions or a .npy file, the values at the nodes.
    refinement, n_modes : int, optional
        How fine that domain is, and how many of its modes are computed.

    Examples
    --------
    >>> problem = read_problem("w3", shape=[64])
    >>> ds = problem.solve([1.0])
    >>> float(ds.multiplier[0]) == 9 * np.pi**2
    True
    """
    text, path, seed = str(initial), as_path(initial, "initial"), require_count("seed", seed, 0)
    if mean is not None:
        require_mean(mean)
    if preserve is not None:
        as_norm(preserve)
    given: dict[str, Any] = {"shape": shape, "lengths": lengths, "boundary": boundary}
    geometry = {name: value and tuple(value) for name, value in given.items()}
    if domain is not None:
        return _on_domain(
            text, path, find_domain(domain, refinement=refinement, n_modes=n_modes), given, preserve, mean, seed
        )
    for name, value in (("refinement", refinement), ("n_modes", n_modes)):
        if value is not None:
            raise ValueError(f"{name} must go with a domain that is no box; it is {value}, and no domain is named")
    if (suffix := path.suffix.lower()) not in (".npy", ".nc"):
        if variable is not None:
            raise ValueError(f"variable must be that of a .nc file; it is {variable!r}, and there is no file {text!r}")
        return _by_name(text, geometry, preserve or "gradient", mean or "project", seed)
    if suffix == ".npy":
        if variable is not None:
            raise ValueError(f"variable must be that of a .nc file; it is {variable!r}, and {text} is a .npy file")
        u_0 = _array(path)
        require_same("shape", geometry["shape"], u_0.shape, text)
        box = _box(u_0.shape, geometry)
        return Problem(RenormalizedFlow(box, preserve or "gradient"), u_0, mean=mean or "project")
    try:
        ds = xr.open_dataset(path)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{text} must be a NetCDF file: {error}") from None
    with ds:
        if "preserve" in ds.attrs and variable in (None, "u"):
            return _continued(ds.load(), text, geometry, preserve, mean)
        name = variable or "u"
        if name not in ds:
            known = ", ".join(map(str, ds.data_vars)) or "none"
            raise ValueError(f"{text} must have a variable {name!r}; it has {known}: choose one by its name")
        u = last_state(ds, name)
    if not u.ndim:
        raise ValueError(f"variable must be a field, with axes of space; {name!r} in {text} has none")
    flow = RenormalizedFlow(_box_around(u, text, geometry), preserve or "gradient")
    values, modes = (None, u) if _of_modes(u) else (u, None)
    return Problem(flow, values, modes, mean or "project")


def _on_domain(
    text: str, path: Path, domain: Operator, geometry: dict[str, Any], preserve: Any, mean: Any, seed: int
) -> Problem:
    """A problem on another domain than a box."""
    for name, value in geometry.items():
        if value:
            raise ValueError(f"{name} must be left out: it is that of a box; it is {value!r}")
    flow, mean = RenormalizedFlow(domain, preserve or "gradient"), mean or "project"
    if path.suffix.lower() == ".npy":
        return Problem(flow, _array(path), mean=mean)
    if path.suffix.lower() == ".nc":
        raise ValueError(f"a .nc file has a domain of its own; {text} is one")
    if text in INITIAL_CONDITIONS:
        return Problem(flow, INITIAL_CONDITIONS[text](domain, np.random.default_rng(seed)), mean=mean)
    return Problem(flow, None, _modes(text), mean)


def _by_name(text: str, geometry: dict[str, Any], preserve: Any, mean: Any, seed: int) -> Problem:
    if text in INITIAL_CONDITIONS:
        n_axes = max([1, *(len(value) for value in geometry.values() if value is not None)])
        domain = _box((256,) * n_axes, geometry)
        values = INITIAL_CONDITIONS[text](domain, np.random.default_rng(seed))
        return Problem(RenormalizedFlow(domain, preserve), values, mean=mean)
    modes = _modes(text)
    domain = _box((256,) * len(next(iter(modes))), geometry)
    return Problem(RenormalizedFlow(domain, preserve), None, modes, mean)


def _modes(text: str) -> dict[tuple[int, ...], float]:
    """The sum of eigenfunctions that is no name and no file."""
    try:
        return modes_from(text)
    except ValueError as error:
        known = ", ".join(INITIAL_CONDITIONS)
        raise ValueError(f"{text!r} is no .npy or .nc file, none of {known}, and: {error}") from None


def _box(shape: tuple[int, ...], geometry: dict[str, Any]) -> Box:
    boundary = geometry["boundary"] or ("no-flux",)
    return Box(geometry["shape"] or shape, geometry["lengths"] or (), boundary[0] if len(boundary) == 1 else boundary)


def _array(path: Path) -> npt.NDArray[Any]:
    try:
        u_0 = np.load(path, allow_pickle=False)
        if not isinstance(u_0, np.ndarray):
            u_0.close()
            raise ValueError("it is an archive of several arrays")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} must be a .npy file of numbers: {error}") from None
    return u_0


def _continued(ds: xr.Dataset, source: str, geometry: dict[str, Any], preserve: Any, mean: Any) -> Problem:
    """Going on from a file, whose problem no argument contradicts."""
    known = ds.attrs["preserve"]
    require_same("preserve", preserve if isinstance(preserve, str) else None, known, source)
    flow = RenormalizedFlow.from_dataset(ds, preserve)
    problem = continuation(ds, flow)
    require_same("mean", mean, problem.mean, source)
    for name, value in geometry.items():
        own = getattr(flow.domain, name)
        require_same(name, value * len(own) if value and name == "boundary" and len(value) == 1 else value, own, source)
    return problem


def _of_modes(u: xr.DataArray) -> bool:
    return all(str(d).startswith("k_") for d in u.dims)


def _box_around(u: xr.DataArray, source: str, geometry: dict[str, Any]) -> Box:
    """The box of a variable: by its coordinates if it has any."""
    space = tuple(f"k_{a}" if _of_modes(u) else a for a in names(u.ndim))
    axes = space if set(u.dims) == set(space) else u.dims
    shape = tuple(u.sizes[d] for d in axes)
    require_same("shape", geometry["shape"], shape, source)
    known = [d for d in axes if d in u.coords]
    if not known or _of_modes(u):
        return _box(shape, geometry)
    if len(known) < len(axes):
        lacks = next(d for d in axes if d not in known)
        raise ValueError(f"each axis of {u.name} in {source} must have coordinates, or none; {lacks!r} has none")
    box = Box.from_coordinates(*(u[d] for d in axes), boundary=_box(shape, geometry | {"lengths": None}).boundary)
    require_same("lengths", geometry["lengths"], box.lengths, source)
    return box
