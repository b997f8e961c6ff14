"""``python -m diffmath flow``: the renormalised heat flow (22)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer

__all__ = ["flow"]


class Method(StrEnum):
    """The solvers of the flow."""

    spectral = "spectral"
    finite_difference = "finite-difference"


class Preserve(StrEnum):
    """What the flow preserves."""

    gradient = "gradient"
    value = "value"
    laplacian = "laplacian"
    total_variation = "total_variation"


def flow(
    initial: Annotated[
        str,
        typer.Argument(
            help='A name (step, bump, noise, modes), a sum of eigenfunctions such as "w5 + 1e-4 w2" (after -- if it '
            "begins with a minus), or a file: .npy, the values at the cell centres, or .nc, whose variable u is taken "
            "(its last time if it has several)."
        ),
    ],
    times: Annotated[list[float], typer.Option("--time", "-t", help="An output time; repeat the option for more.")],
    shape: Annotated[
        Optional[list[int]],
        typer.Option("--shape", "-n", min=2, help="Cells along each axis, in order; 256 unless given or in the file."),
    ] = None,
    length: Annotated[
        Optional[list[float]], typer.Option(help="The box's length along each axis, in order; 1 unless given.")
    ] = None,
    method: Annotated[Method, typer.Option(help="Exact in the eigenfunctions, or finite differences.")] = (
        Method.spectral
    ),
    integrator: Annotated[Optional[str], typer.Option(help="Of the finite differences, such as pade02.")] = None,
    dt: Annotated[Optional[float], typer.Option(help="Their time step.")] = None,
    theta: Annotated[Optional[float], typer.Option(help="Their time step times lambda(t); 1/16 unless given.")] = None,
    preserve: Annotated[Preserve, typer.Option(help="What the flow preserves.")] = Preserve.gradient,
    keep_mean: Annotated[bool, typer.Option("--keep-mean", help="Keep the mean, with its growth.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the initial conditions noise and modes.")] = 0,
    out: Annotated[Path, typer.Option(help="The NetCDF file to write.")] = Path("flow.nc"),
    plot: Annotated[Optional[Path], typer.Option(help="A picture to draw too: .png or .pdf.")] = None,
    animate: Annotated[Optional[Path], typer.Option(help="A film to make too: .gif or .mp4.")] = None,
) -> None:
    """Solve the renormalised heat flow (22) in one or more dimensions."""
    import numpy as np

    from diffmath._files import replacing
    from diffmath.pde import Box, RenormalizedFlow
    from diffmath.pde.initial import INITIAL_CONDITIONS, modes_from

    if plot is not None and plot.suffix.lower() not in (".png", ".pdf"):
        raise typer.BadParameter(f"a picture must end in .png or .pdf; it is {plot.name!r}", param_hint="--plot")
    if animate is not None and animate.suffix.lower() not in (".gif", ".mp4"):
        raise typer.BadParameter(f"a film must end in .gif or .mp4; it is {animate.name!r}", param_hint="--animate")
    modes, u_0, lengths = None, None, tuple(length or ())
    if Path(initial).suffix in (".npy", ".nc"):
        u_0, known = _read_initial(Path(initial))
        lengths = lengths or known
        if shape and tuple(shape) != u_0.shape:
            raise typer.BadParameter(f"{initial} has shape {u_0.shape}, not {tuple(shape)}", param_hint="--shape")
        domain = Box(u_0.shape, lengths)
    elif initial in INITIAL_CONDITIONS:
        domain = Box(tuple(shape or (256,) * max(1, len(lengths))), lengths)
        u_0 = INITIAL_CONDITIONS[initial](domain, np.random.default_rng(seed))
    else:
        try:
            modes = modes_from(initial)
        except ValueError as error:
            names = ", ".join(INITIAL_CONDITIONS)
            raise typer.BadParameter(f"no file, none of {names}, and: {error}", param_hint="initial") from None
        domain = Box(tuple(shape or (256,) * len(next(iter(modes)))), lengths)
    problem = RenormalizedFlow(domain, preserve.value)
    mean: Literal["project", "keep"] = "keep" if keep_mean else "project"
    chosen = {"integrator": integrator, "dt": dt, "theta": theta}
    options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if modes is not None and method is Method.spectral and not options:
        dataset = problem.solve_modes(modes, times, mean=mean)
    else:
        if u_0 is None:
            u_0 = sum(amplitude * domain.eigenfunction(k) for k, amplitude in (modes or {}).items())
        dataset = problem.solve(u_0, times, method.value, mean=mean, **options)
    dataset.attrs["initial_condition"] = initial
    with replacing(out) as temporary:
        dataset.to_netcdf(temporary)
    typer.echo(f"{dataset.sizes['time']} states in {out}")
    if plot is not None:
        from diffmath.pde import plots

        with replacing(plot) as temporary:
            plots.plot(dataset).savefig(temporary, dpi=150)
        typer.echo(f"a picture in {plot}")
    if animate is not None:
        from diffmath.pde import plots

        plots.animate(dataset, animate)
        typer.echo(f"a film in {animate}")


def _read_initial(path: Path) -> tuple[Any, tuple[float, ...]]:
    """The initial condition in a file, and the lengths of its box if the file says them."""
    import numpy as np
    import xarray as xr

    try:
        if path.suffix == ".npy":
            u_0 = np.load(path, allow_pickle=False)
            if not isinstance(u_0, np.ndarray):
                raise ValueError("it is an archive of several arrays")
            return u_0, ()
        with xr.open_dataset(path) as dataset:
            if "u" not in dataset:
                raise ValueError(f"it has no variable u, but {', '.join(map(str, dataset.data_vars)) or 'none'}")
            u = dataset["u"].load()
    except (OSError, ValueError, EOFError, TypeError) as error:
        kind = {".npy": "a .npy file of numbers", ".nc": "a NetCDF file with a variable u"}[path.suffix]
        raise typer.BadParameter(f"{path} is not {kind}: {error}", param_hint="initial") from None
    if "time" in u.dims:
        u = u.sortby("time").isel(time=-1)
    if not any(axis in u.coords for axis in u.dims):
        return u.values, ()
    lengths: list[float] = []
    for axis in u.dims:
        x = np.asarray(u[axis].values if axis in u.coords else [], dtype=float)
        spacing = float(np.diff(x).mean()) if len(x) > 1 else 0.0
        # Cell centres: the first lies half a cell from the boundary at 0, the others a cell further each.
        if not spacing > 0 or not np.allclose(x, (np.arange(len(x)) + 0.5) * spacing, rtol=0, atol=1e-6 * spacing):
            raise typer.BadParameter(
                f"the dimension {axis!r} of u in {path} is no axis of cell centres (i + 1/2) h; select one solution, "
                "or write its values to a .npy file",
                param_hint="initial",
            )
        lengths.append(float(x[0] + x[-1]))
    return u.values, tuple(lengths)
