"""``python -m diffmath evaluate``: samples judged beside real images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from diffmath.cli._options import (
    GUIDANCE,
    GUIDANCE_INTERVAL,
    SAMPLER,
    Start,
    blamed_on,
    guidance_of,
    require_distinct,
    require_output,
    require_unset,
    start_of,
)

__all__ = ["evaluate"]


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
    method: Annotated[str, SAMPLER] = "dpmsolver++2m",
    eta: Annotated[float, typer.Option(help="Of ddim: the share of Algorithm 2's noise.")] = 0.0,
    start: Annotated[
        Start, typer.Option(help="x_T: N(0, I) as in Algorithm 2, or with the mean and covariance it has for MNIST.")
    ] = Start.matched,
    guidance: Annotated[Optional[float], GUIDANCE] = None,
    guidance_interval: Annotated[Optional[tuple[int, int]], GUIDANCE_INTERVAL] = None,
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
    from diffmath._files import as_path, replacing
    from diffmath.data import load_mnist, to_tensor
    from diffmath.ddpm import metrics
    from diffmath.ddpm._environment import autocast_dtype, provenance
    from diffmath.ddpm.metrics.evaluation import judged_images
    from diffmath.ddpm.samplers import SAMPLERS

    if samples is not None:
        idle = (
            "checkpoint",
            "n_samples",
            "n_steps",
            "method",
            "eta",
            "start",
            "autocast",
            "guidance",
            "guidance_interval",
        )
        require_unset(context, f"it is of no use with samples from a file; {samples} came", *idle)
    require_output(json, "--json")
    require_distinct({"--json": json}, {"samples": samples})
    chosen = ddpm.choose_device(device)
    origin: dict[str, Any]
    if samples is not None:
        try:
            images = np.load(as_path(samples), allow_pickle=False)
            if not isinstance(images, np.ndarray):
                images.close()
                raise ValueError("it is an archive of several arrays")
        except (OSError, ValueError, EOFError) as error:
            raise typer.BadParameter(f"{samples} is no .npy file of numbers: {error}", param_hint="samples") from None
        try:  # before the real images are read
            images = judged_images(images)
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="samples") from None
        origin = {"file": str(samples)}
    else:
        with blamed_on("--checkpoint"):
            trained = ddpm.load_checkpoint(checkpoint, device=chosen)
        if (shape := getattr(trained.model, "image_shape", None)) != (1, 32, 32):
            raise typer.BadParameter(
                f"images are judged beside MNIST's, of shape (1, 32, 32); the network's have {shape}",
                param_hint="--checkpoint",
            )
        model, how = guidance_of(trained, guidance, guidance_interval)
    with blamed_on(None if data_dir is None else "--data-dir"):
        reference, training = (to_tensor(load_mnist(split, data_dir).images) for split in ("test", "train"))
    if samples is None:
        generator = torch.Generator(chosen if chosen.type == "cuda" else "cpu").manual_seed(seed)
        x_T = start_of(start, trained, n_samples, generator)
        options: dict[str, Any] = {"eta": eta, "autocast": autocast, "progress": True}
        images = ddpm.sample(model, trained.schedule, x_T, n_samples, n_steps, method, generator, **options).cpu()
        precision = (autocast_dtype(chosen) if autocast else None) or torch.float32
        origin = {"network": checkpoint or trained.metadata.get("network", "shipped"), "method": method}
        origin |= {"eta": eta} if SAMPLERS[method].most_eta else {}
        origin |= {"steps": n_steps, "start": start.value, "precision": str(precision).removeprefix("torch.")} | how
    origin["seed"] = seed
    found = metrics.evaluate_beside_real(
        images, reference, training, classifier=ddpm.load_classifier(device=chosen), rng=seed, progress=True
    )
    typer.echo(metrics.describe(found, origin))
    if json is not None:
        record = {name: metrics.summary(e) for name, e in found.items()} | {"origin": origin} | provenance(chosen)
        with replacing(json) as temporary:
            temporary.write_text(dumps(record, indent=2, allow_nan=False) + "\n")
