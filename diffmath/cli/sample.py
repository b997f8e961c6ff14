"""``python -m diffmath sample``: Algorithm 2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from diffmath.cli._options import (
    GUIDANCE,
    GUIDANCE_INTERVAL,
    SAMPLER,
    Start,
    blamed_on,
    guidance_of,
    is_first,
    require_output,
    start_of,
)

__all__ = ["sample"]


def sample(
    out: Annotated[Path, typer.Option(help="A picture (.png), or the array (.npy), of shape (N, 1, 32, 32).")] = Path(
        "samples.png"
    ),
    checkpoint: Annotated[
        Optional[str], typer.Option(help="A trained network: a file, or the name of a shipped one.")
    ] = None,
    n_samples: Annotated[int, typer.Option("--n-samples", "-n", min=1, help="How many images.")] = 9,
    n_steps: Annotated[Optional[int], typer.Option(min=1, help="Steps; all T of Algorithm 2 unless given.")] = None,
    method: Annotated[str, SAMPLER] = "ancestral",
    eta: Annotated[float, typer.Option(help="Of ddim: the share of Algorithm 2's noise.")] = 0.0,
    start: Annotated[
        Start, typer.Option(help="x_T: N(0, I) as in Algorithm 2, or with the mean and covariance it has for MNIST.")
    ] = Start.noise,
    guidance: Annotated[Optional[float], GUIDANCE] = None,
    guidance_interval: Annotated[Optional[tuple[int, int]], GUIDANCE_INTERVAL] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    autocast: Annotated[bool, typer.Option("--autocast", help="bfloat16 in the network where that is quick.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network (minutes of warm-up).")] = False,
) -> None:
    """Sample images by Algorithm 2, or another way; torchrun shares them out over devices."""
    import numpy as np
    import torch

    from diffmath import ddpm
    from diffmath._files import replacing
    from diffmath.data import crop, save_sheet

    with ddpm.joined(device) as chosen:
        with blamed_on("--checkpoint"):
            trained = ddpm.load_checkpoint(checkpoint, device=chosen)
        channels = getattr(trained.model, "image_shape", (1,))[0]
        kind = require_output(out, "--out", (".png", ".npy"), channels=channels)
        model, how = guidance_of(trained, guidance, guidance_interval)
        generator = torch.Generator(chosen if chosen.type == "cuda" else "cpu").manual_seed(seed)
        images = ddpm.sample(
            model,
            trained.schedule,
            start_of(start, trained, n_samples, generator),
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
    if not is_first():
        return
    images = crop(images, trained.metadata.get("images"))
    if kind == ".png":
        save_sheet(out, images, columns=min(n_samples, max(3, round(n_samples**0.5))), scale=3)
    else:
        with replacing(out) as temporary, open(temporary, "wb") as file:
            np.save(file, images.cpu().numpy())
    described = f" (guidance {guidance}, times {how['guidance interval']})" if how else ""
    typer.echo(f"{n_samples} images in {out}{described}")
