"""``python -m diffmath flow``: the renormalised heat flow (22)."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from diffmath.cli._options import FILMS, PICTURES, option_in, require_distinct, require_output

__all__ = ["flow"]

INTERRUPTED = 130  # the exit status of a program that SIGINT ended, to a shell


class Method(StrEnum):
    """The solvers of the flow."""

    spectral = "spectral"
    finite_difference = "finite-difference"


def _norm(name: str | None) -> str | None:
    """The name of a norm that there is; their registry is read only when a command runs, as numpy takes its time."""
    from diffmath.pde.norms import as_norm

    if name is not None:
        try:
            as_norm(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return name


def flow(
    context: typer.Context,
    initial: Annotated[
        str,
        typer.Argument(
            help='A name (step, bump, noise, modes), a sum of eigenfunctions such as "w5 + 1e-4 w2" (after -- if it '
            "begins with a minus), or a file. A .npy file has the values at the cell centres. A .nc file that this "
            "command wrote goes on from its last state: its equation, box and mean are kept, and times count from that "
            "state. From another .nc file a variable is taken (its last time if it has several), and the box from its "
            "coordinates, the cell centres; axes x, y, z count by name, others in their order."
        ),
    ],
    time: Annotated[
        Optional[list[float]], typer.Option("--time", "-t", help="An output time; repeat the option for more.")
    ] = None,
    times: Annotated[
        Optional[str], typer.Option(help="Equidistant output times, start:stop:count, such as 0:0.2:60 for a film.")
    ] = None,
    shape: Annotated[
        Optional[list[int]],
        typer.Option("--shape", "-n", min=2, help="Cells along each axis, in order; 256 unless given or in the file."),
    ] = None,
    length: Annotated[
        Optional[list[float]], typer.Option(help="The box's length along each axis, in order; 1 unless given.")
    ] = None,
    domain: Annotated[
        Optional[str],
        typer.Option(
            help="Another domain than a box: disc, ellipse, annulus, l-shape, ball or sphere; a .png, whose bright "
            "pixels are the domain; or a file with a mesh, such as a .msh."
        ),
    ] = None,
    refinement: Annotated[
        Optional[int], typer.Option(help="How often the triangles of a domain by name are divided in four.")
    ] = None,
    n_modes: Annotated[
        Optional[int], typer.Option("--n-modes", help="How many modes of that domain to find; 50 unless given.")
    ] = None,
    method: Annotated[
        Optional[Method], typer.Option(help="Exact in the eigenfunctions (unless given), or finite differences.")
    ] = None,
    integrator: Annotated[
        Optional[str], typer.Option(help="Of the finite differences, such as pade02; exact in time unless given.")
    ] = None,
    dt: Annotated[Optional[float], typer.Option(help="Their time step.")] = None,
    theta: Annotated[Optional[float], typer.Option(help="Their time step times lambda(t); 1/16 unless given.")] = None,
    steady_tolerance: Annotated[
        Optional[float], typer.Option(help="Stop their steps where the relative change per unit of time is below this.")
    ] = None,
    boundary: Annotated[
        Optional[list[str]],
        typer.Option(help="no-flux (unless given), periodic or fixed, for each axis in order, or one for all."),
    ] = None,
    preserve: Annotated[
        Optional[str],
        typer.Option(
            callback=_norm,
            help="The norm that the flow preserves: gradient unless given or in the file; a wrong name lists them all.",
        ),
    ] = None,
    keep_mean: Annotated[
        Optional[bool],
        typer.Option("--keep-mean/--remove-mean", help="Keep the mean, with its growth; removed unless given."),
    ] = None,
    variable: Annotated[Optional[str], typer.Option(help="The variable of a .nc file; u unless given.")] = None,
    noise: Annotated[
        Optional[float],
        typer.Option(
            min=0,
            help="Force the flow by noise that is white in time, of this strength in each mode of the preserved "
            "quantity. --dt is then the largest step, 1e-3 unless given.",
        ),
    ] = None,
    reading: Annotated[
        Optional[str], typer.Option(help="Of the noise: rescale (unless given), stratonovich or force.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise, and of the initial conditions noise and modes.")] = 0,
    out: Annotated[
        Path,
        typer.Option(help="The NetCDF file to write. Its times count from the initial state, whose own is start_time."),
    ] = Path("flow.nc"),
    plot: Annotated[Optional[Path], typer.Option(help="A picture to draw too: .png or .pdf.")] = None,
    animate: Annotated[Optional[Path], typer.Option(help="A film to make too: .gif or .mp4.")] = None,
) -> None:
    """Solve the renormalised heat flow (22) in one or more dimensions.

    Ctrl-C ends the steps of finite differences early, and writes the states that are finished.
    """
    from diffmath._files import replacing
    from diffmath.pde import Interrupted
    from diffmath.pde.problem import read_problem

    moments = [*(time or []), *_equidistant(times)]
    if not moments:
        raise typer.BadParameter("give at least one output time", param_hint="--time or --times")
    mean = None if keep_mean is None else "keep" if keep_mean else "project"
    try:
        problem = read_problem(
            initial,
            shape=shape or None,
            lengths=length or None,
            boundary=boundary or None,
            preserve=preserve,
            mean=mean,  # type: ignore[arg-type]
            variable=variable,
            seed=seed,
            domain=domain,
            refinement=refinement,
            n_modes=n_modes,
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise typer.BadParameter(str(error), param_hint=option_in(error, context.params) or "initial") from None
    if (plot or animate) and problem.is_batch:
        raise typer.BadParameter("pictures show one solution; the file has a batch", param_hint="--plot, --animate")
    dimension = len(problem.flow.domain.shape)
    require_output(out, "--out")
    picture = require_output(plot, "--plot", PICTURES, dimension=dimension)
    require_output(animate, "--animate", tuple(FILMS), dimension=dimension)
    require_distinct({"--out": out, "--plot": plot, "--animate": animate}, {"initial": initial, "--domain": domain})
    chosen = {"integrator": integrator, "dt": dt, "theta": theta, "steady_tolerance": steady_tolerance}
    options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if noise is not None and (method or set(options) - {"dt"}):
        raise typer.BadParameter("of the solvers' options only --dt goes with noise", param_hint="--noise")
    if reading is not None and noise is None:
        raise typer.BadParameter("a reading needs --noise", param_hint="--reading")
    if (method or problem.method) == Method.finite_difference:
        options["progress"] = sys.stderr.isatty()
    interrupted = False
    try:
        if noise is None:
            dataset = problem.solve(moments, method and method.value, **options)
        else:
            dataset = problem.solve_forced(moments, noise, reading, dt=1e-3 if dt is None else dt, rng=seed)
    except Interrupted as interruption:
        interrupted, dataset = True, interruption.dataset
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    dataset.attrs["initial_condition"] = initial
    with replacing(out) as temporary:
        dataset.to_netcdf(temporary)
    typer.echo(f"{dataset.sizes['time']} states on {dataset.attrs['domain']} in {out}")
    if plot is not None:
        from diffmath.pde import plots

        with replacing(plot) as temporary:
            plots.plot(dataset).savefig(temporary, dpi=150, format=picture[1:])
        typer.echo(f"a picture in {plot}")
    if animate is not None:
        from diffmath.pde import plots

        plots.animate(dataset, animate)
        typer.echo(f"a film in {animate}")
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _equidistant(times: str | None) -> list[float]:
    """The times that start:stop:count states."""
    import numpy as np

    if times is None:
        return []
    try:
        start, stop, count = times.split(":")
        n = int(count)
        if n < 1:
            raise ValueError
        ends = float(start), float(stop)
        if not np.isfinite(ends).all():
            raise ValueError
        return [float(t) for t in np.linspace(*ends, n)]
    except ValueError:
        need = f"times must be start:stop:count, such as 0:0.2:60; they are {times!r}"
        raise typer.BadParameter(need, param_hint="--times") from None
