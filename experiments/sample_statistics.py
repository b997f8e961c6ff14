"""Are the samples digits? Plain and guided samples of Algorithm 2 beside real images, by all numbers of the metrics.

Question   Of samples by 20 evaluations of a network, from the matched start: of how many is the classifier more than
           90 % sure, how far is their law from that of real images, is it as varied, are the frames as black, are there
           copies, how many are there of each digit? Plain, and guided by the exact denoiser of a Gaussian, from the
           same noise; beside both, as many real images.
Command    python experiments/sample_statistics.py [--checkpoint NAME ...] [--n-samples N] [--n-steps N]
           [--guidance W] [--guidance-interval FIRST LAST] [--start noise]
Minutes    2 x N x steps evaluations, of which a CPU core makes 40 a second with the compact network: 20 for 2,000
           samples on 2 idle cores, and 5 to judge them; blocks of 100 samples are kept in runs/ and not made again.
           --smoke: seconds
Result     results/sample_statistics.json, or sample_statistics_N_steps.json with --n-steps N, the table on the
           terminal, and the samples as runs/sample_statistics_NAME.png
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import torch
import typer
from matplotlib import image
from torch import Tensor

from diffmath import schedule
from diffmath._files import replacing, write_json
from diffmath.cli._options import Start
from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import (
    Checkpoint,
    choose_device,
    classify,
    gaussian_denoiser,
    guidance,
    guided,
    load_checkpoint,
    load_classifier,
    matched_start,
    metrics,
    moments,
    sample,
    samplers,
    sampling,
    unet,
)
from diffmath.ddpm._environment import autocast_dtype, provenance
from diffmath.ddpm.checkpoints import SHIPPED

HERE = Path(__file__).parent
BLOCK = 100


def origin(trained: Checkpoint, device: torch.device) -> str:
    """What could change samples but their start: network, guidance, schedule, code, torch, device, precision."""
    parts = [p.detach().cpu().numpy().tobytes() for p in trained.model.parameters()]
    parts += [array.tobytes() for array in trained.schedule.arrays().values()]
    parts += [Path(str(module.__file__)).read_bytes() for module in (schedule, samplers, sampling, unet, guidance)]
    if isinstance(trained.model, guidance.Guided):
        one = torch.ones((1, *trained.model.image_shape), device=device)
        weak = trained.model.reference(one, torch.ones(1, dtype=torch.int64, device=device))
        parts += [f"{trained.model.weight} {trained.model.interval}".encode(), weak.cpu().numpy().tobytes()]
    return f"{hashlib.sha256(b''.join(parts)).hexdigest()} {torch.__version__} {device} {autocast_dtype(device)}"


def record(device: torch.device) -> dict[str, Any]:
    """Where and by which code samples are made, and in which precision."""
    return {"precision of the network": str(autocast_dtype(device) or torch.float32), **provenance(device)}


def network(trained: Checkpoint) -> dict[str, Any]:
    """Which network made them."""
    return {key: trained.metadata.get(key) for key in ("network", "data", "images_seen", "steps", "commit")}


def cached_samples(
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


class Ways:
    """Samples of one network by Algorithm 2, plain and guided, of the same noise; and their judge.

    Parameters
    ----------
    trained : Checkpoint
    training, reference : Tensor, shape (N, 1, 32, 32)
        Real images: those for the moments and to look for copies in, and those to compare with.
    n_samples, n_steps : int
    seed : int
        Of the noise, and of the judge.
    device : torch.device
    matched : bool
        Whether x_T has the mean and covariance that it has for the training images, or is from N(0, I).
    """

    def __init__(
        self, trained: Checkpoint, training: Tensor, reference: Tensor, n_samples: int, n_steps: int, seed: int,
        device: torch.device, matched: bool = True,
    ) -> None:  # fmt: skip
        self.trained, self.training, self.n_samples, self.n_steps = trained, training, n_samples, n_steps
        self.seed, self.device, self.matched = seed, device, matched
        self.mean, self.covariance = moments(training)
        self.gaussian = gaussian_denoiser(trained.schedule, self.mean, covariance=self.covariance)
        self.judge = partial(metrics.evaluate, reference=reference, rng=seed)

    def samples(self, weight: float, interval: tuple[int, int]) -> tuple[Tensor, float]:
        """Samples with this guidance, plain with weight 0, and the seconds they took."""
        trained = self.trained
        if weight:
            trained = trained._replace(model=guided(trained.model, self.gaussian, weight, interval))

        def start(n: int, generator: torch.Generator) -> Tensor:
            return matched_start(trained.schedule, n, self.mean, covariance=self.covariance, generator=generator)

        return cached_samples(
            trained,
            self.n_samples,
            self.n_steps,
            self.seed,
            self.device,
            start if self.matched else None,
            method="ancestral",
        )

    def real(self) -> metrics.Evaluation:
        """The judge's numbers for as many real images, which are not looked for among themselves."""
        order = torch.from_numpy(np.random.default_rng(self.seed).permutation(len(self.training)))
        drawn, others = self.training[order[: self.n_samples]], self.training[order[self.n_samples :]]
        return self.judge(drawn, training=others)


def surer(plain: Tensor, other: Tensor) -> dict[str, float]:
    """By how much the share that the classifier is sure of is larger for other samples from the same noise."""
    sure = [(classify(load_classifier(), images).confidence > 0.9).double() for images in (plain, other)]
    change = sure[1] - sure[0]
    return {"value": float(change.mean()), "error": float(change.std() / math.sqrt(len(change)))}


def main(
    checkpoint: Annotated[
        Optional[list[str]], typer.Option(help="Names or files; the default network unless given.")
    ] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    n_samples: Annotated[int, typer.Option(min=100)] = 2000,
    n_steps: Annotated[Optional[int], typer.Option(min=1, help="Steps of Algorithm 2; 20 unless given.")] = None,
    weight: Annotated[float, typer.Option("--guidance", min=0)] = 0.4,
    interval: Annotated[tuple[int, int], typer.Option("--guidance-interval")] = (100, 400),
    start: Annotated[Start, typer.Option(help="The law of x_T.")] = Start.matched,
    seed: int = 0,
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    pictures: Annotated[Path, typer.Option(help="Directory of the samples' pictures.")] = Path("runs"),
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    file = f"sample_statistics_{n_steps}_steps.json" if n_steps else "sample_statistics.json"
    results = results or (Path("runs") if smoke else HERE / "results") / file
    n_samples, n_steps, weight, interval = (
        (100, 1, 0.4, (1, 500)) if smoke else (n_samples, n_steps or 20, weight, interval)
    )
    chosen = choose_device(device)
    splits = ("sample", "sample") if smoke else ("train", "test")
    training, reference = (to_tensor(load_mnist(split, data_dir).images) for split in splits)  # type: ignore[arg-type]
    if smoke:
        training, reference = training[::10], reference[1::10]
    found: dict[str, metrics.Evaluation] = {}
    samples: dict[str, Any] = {}
    for name in checkpoint or SHIPPED[:1]:
        ways = Ways(
            load_checkpoint(name, device=chosen),
            training,
            reference,
            n_samples,
            n_steps,
            seed,
            chosen,
            start is Start.matched,
        )
        found = found or {"real images": ways.real()}
        plain, _ = ways.samples(0.0, interval)
        for label, own in {name: 0.0, **({f"{name}, guided": weight} if weight else {})}.items():
            images, seconds = ways.samples(own, interval)
            found[label] = ways.judge(images, training=training)
            samples[label] = {
                "sampler": f"ancestral, {n_steps} of {ways.trained.schedule.n_steps} steps, start {start.value}",
                "guidance": {"weight": own, "times": list(interval)} if own else None,
                "seconds": round(seconds, 1),
                "surer than plain, in pairs": surer(plain, images) if own else None,
                "network": network(ways.trained),
            }
            order = classify(load_classifier(), images).digit.argsort(stable=True)
            picture = f"sample_statistics_{Path(name).stem}{'_guided' if own else ''}.png"
            with replacing(pictures / picture) as temporary:
                image.imsave(temporary, tile(images[order], columns=25), cmap="gray", vmin=-1, vmax=1)
    typer.echo(metrics.table(found))
    report = {
        "numbers": {label: metrics.summary(evaluation) for label, evaluation in found.items()},
        "samples": samples,
        "images of each": n_samples,
        "real images": "drawn from the training images; all are compared with the test images",
        "seed": seed,
        **record(chosen),
    }
    write_json(results, report)


if __name__ == "__main__":
    typer.run(main)
