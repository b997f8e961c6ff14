"""Are the samples digits? 500 ancestral samples with T = 500, as the classifier sees them.

Question   Of 500 samples of Algorithm 2 (all T steps), of how many is the classifier more than 90 % sure, and how many
           are there of each digit? Beside them: the same on real images, and the samples' backgrounds.
Command    python experiments/sample_statistics.py [--checkpoint NAME ...] [--data-dir DIRECTORY]
Minutes    about 15 for the compact network and 40 for the paper's on 2 CPU cores, a tenth with --n-steps 50; blocks of
           100 samples are not made again. --smoke: seconds
Result     results/sample_statistics.json, or sample_statistics_N_steps.json with --n-steps N, and the samples of each
           network as runs/sample_statistics_NAME.png
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib import image
from torch import Tensor

from diffmath import schedule
from diffmath._files import replacing, write_json
from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import (
    Checkpoint,
    choose_device,
    classify,
    load_checkpoint,
    load_classifier,
    metrics,
    sample,
    samplers,
    sampling,
    unet,
)
from diffmath.ddpm._environment import autocast_dtype, provenance
from diffmath.ddpm.checkpoints import SHIPPED

HERE = Path(__file__).parent
BLOCK = 100


def describe(images: Tensor) -> dict[str, Any]:
    """Confidence, counts of the ten digits, and the frame of the outermost four pixels, where digits hardly are.

    Pixels are clipped, as a picture would show them.
    """
    digit, confidence = classify(load_classifier(), images)
    background = metrics.background(images)
    return {
        "images": len(images),
        "share with confidence above 0.9": round((confidence > 0.9).float().mean().item(), 4),
        "counts of digits 0 to 9": torch.bincount(digit, minlength=10).tolist(),
        "mean of the outer 4 pixels": round(background.mean.value, 4),
        "standard deviation of the outer 4 pixels": round(background.spread.value, 4),
    }


def origin(trained: Checkpoint, device: torch.device) -> str:
    """What could change samples but their start: network, schedule, code, torch, device, precision."""
    parts = [p.detach().cpu().numpy().tobytes() for p in trained.model.parameters()]
    parts.append(trained.schedule.beta.tobytes())
    parts += [Path(str(module.__file__)).read_bytes() for module in (schedule, samplers, sampling, unet)]
    return f"{hashlib.sha256(b''.join(parts)).hexdigest()} {torch.__version__} {device} {autocast_dtype(device)}"


def record(device: torch.device) -> dict[str, Any]:
    """Where and by which code samples are made, and in which precision."""
    return {"precision of the network": str(autocast_dtype(device) or torch.float32), **provenance(device)}


def network(trained: Checkpoint) -> dict[str, Any]:
    """Which network made them."""
    return {key: trained.metadata.get(key) for key in ("network", "data", "images_seen", "steps", "commit")}


def made(
    trained: Checkpoint,
    n_samples: int,
    n_steps: int | None,
    seed: int,
    device: torch.device,
    start: Callable[[int, torch.Generator], Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, float]:
    """Samples and the seconds they took, in blocks, from runs/ where they were made before from the same origin.

    The network runs in bfloat16 where the device is good at it. ``start(n, generator)`` gives x_T.
    """
    blocks = [min(BLOCK, n_samples - i) for i in range(0, n_samples, BLOCK)]
    seeds = np.random.SeedSequence(seed).generate_state(len(blocks)).tolist()
    made_by, n_steps = origin(trained, device), n_steps or trained.schedule.n_steps
    images, took = [], 0.0
    for n, own_seed in zip(blocks, seeds, strict=True):
        generator = torch.Generator().manual_seed(own_seed)
        x_T = start(n, generator) if start else None
        begins = "" if x_T is None else hashlib.sha256(x_T.numpy().tobytes()).hexdigest()
        name = f"{made_by} {n_steps} {n} {own_seed} {sorted(options.items())} {begins}"
        path = Path("runs") / "samples" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            common: dict[str, Any] = {"generator": generator, "device": device, "autocast": True, "progress": True}
            begin = time.perf_counter()
            block = sample(trained.model, trained.schedule, x_T, n, n_steps, **common, **options)
            with replacing(path) as temporary:
                np.savez(temporary, images=block.cpu().numpy(), seconds=time.perf_counter() - begin)
        with np.load(path) as kept:
            images.append(torch.from_numpy(kept["images"]))
            took += float(kept["seconds"])
    return torch.cat(images), took


def main(
    checkpoint: Annotated[
        Optional[list[str]], typer.Option(help="Names or files; the shipped ones unless given.")
    ] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_samples: int = 500,
    n_steps: Annotated[Optional[int], typer.Option(help="All T of Algorithm 2 unless given.")] = None,
    seed: int = 0,
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    pictures: Annotated[Path, typer.Option(help="Directory of the samples' pictures.")] = Path("runs"),
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    n_samples, n_steps = (4, 2) if smoke else (n_samples, n_steps)
    name = f"sample_statistics_{n_steps}_steps.json" if n_steps else "sample_statistics.json"
    results = results or (Path("runs") if smoke else HERE / "results") / name
    place = choose_device(device)
    real = load_mnist("sample") if smoke else load_mnist("test", data_dir)

    samples = {}
    for name in checkpoint or SHIPPED:
        trained = load_checkpoint(name, device=place)
        images, seconds = made(trained, n_samples, n_steps, seed, place, method="ancestral")
        samples[name] = describe(images) | {
            "sampler": f"ancestral, {n_steps or trained.schedule.n_steps} of {trained.schedule.n_steps} steps",
            "seconds": round(seconds, 1),
            "network": network(trained),
        }
        order = classify(load_classifier(), images).digit.argsort(stable=True)
        with replacing(pictures / f"sample_statistics_{Path(name).stem}.png") as temporary:
            image.imsave(temporary, tile(images[order], columns=25), cmap="gray", vmin=-1, vmax=1)
    report = {
        "samples": samples,
        "real MNIST images" if smoke else "real MNIST test images": describe(to_tensor(real.images)),
        "seed": seed,
        **record(place),
    }
    write_json(results, report)
    typer.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
