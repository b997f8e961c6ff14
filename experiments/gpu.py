r"""Everything that this package claims of a GPU, by one command of at most nine minutes on a machine without a network.

Question   On a GPU: do the tests pass that need one; has the compiled network the gradients of the network itself; how
           fast are training and sampling beside diffusers and denoising-diffusion-pytorch, and beside the largest rate
           of a plain matrix product and of a plain convolution, in batches of 256, 512 and 1,024; and how good does the
           paper's network become in the time that is left (batches of 512, learning rate 1e-3 after 500 steps of
           warm-up, falling to 0 in the last 30 %, betas 0.9 and 0.999, average 0.999), judged by 2,000 samples of 20
           evaluations, plain and guided with the weights 0.2 and 0.4?
Command    python experiments/gpu.py [--seconds N] [--wheels DIRECTORY] [--out DIRECTORY]
           DIFFMATH_DATA names the directory of MNIST's IDX files; --wheels that of the peers' wheels, if they are not
           installed.
Minutes    9 at most: each part has a share of the seconds, and the training takes what is left. --smoke: seconds, on a
           CPU, where small networks rehearse every part but the tests, the compiler and the peers
Result     in --out, runs/gpu unless given: results.json, written anew after each part; log.csv of the training; and its
           weights in parts below 16 MiB, which `cat model.safetensors.part*` joins. A part that fails is recorded with
           its error, and the others go on
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import ddpm_benchmark as benchmark
import torch
import typer
from sample_statistics import Ways, surer
from torch import Tensor

from diffmath._files import replacing, write_json
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import UNet, choose_device, load_checkpoint, metrics, squared_error, train, training_cost
from diffmath.ddpm._environment import autocast_dtype, memory_format, provenance
from diffmath.ddpm.training.algorithm import predictor
from diffmath.ddpm.training.compiled import differing, gradients
from diffmath.schedule import VarianceSchedule

ROOT = Path(__file__).resolve().parent.parent
SCHEDULE = VarianceSchedule.linear()
BATCHES, BATCH = (256, 512, 1024), 512
WEIGHTS = (0.0, 0.2, 0.4)
PART_BYTES = 15 * 2**20
SHARES = {"tests": 0.13, "gradients": 0.15, "rates": 0.22, "samples": 0.17}
"""Of the seconds, at most; the training takes what is left but for the samples' share."""


class Job(NamedTuple):
    """What all parts share."""

    device: torch.device
    images: Tensor  # to train on
    test: Tensor
    out: Path
    wheels: Path | None
    seconds: float  # for everything
    ends: float  # when, in seconds of time.monotonic()
    smoke: bool

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def network(self) -> UNet:
        """The paper's, or a small one on the way to it."""
        model = UNet.for_images((1, 32, 32), 8 if self.smoke else 64).to(self.device)
        return model.to(memory_format=memory_format(self.device))  # type: ignore[call-overload,no-any-return]


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """TimeoutError if the block takes longer, where the system has such alarms."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError(f"it took longer than {seconds:.0f} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1.0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tests(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """The tests that need a GPU; in a rehearsal only whether pytest is there."""
    chosen = ["--version"] if job.smoke else ["-q", "-n", "0", "-rs", "-k", "cuda or gpu", "tests/ddpm"]
    seconds = SHARES["tests"] * job.seconds
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen], cwd=ROOT, capture_output=True, text=True, timeout=seconds
    )
    return {"exit status": done.returncode, "end of the output": (done.stdout + done.stderr).splitlines()[-12:]}


def compiled_gradients(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """The first gradients of the compiled network against those of the network, in both precisions."""
    model, found, wrong = job.network(), {}, {}
    with torch.no_grad():  # as after some training: a network that begins with zeros has few gradients
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight))
    n = 8 if job.smoke else 64
    generator = torch.Generator().manual_seed(1)
    eps = torch.randn(job.images[:n].shape, generator=generator)
    t = torch.randint(1, SCHEDULE.n_steps + 1, (n,), generator=generator)
    x_0, eps, t = (part.to(job.device) for part in (job.images[:n], eps, t))
    compiled = model if job.smoke else torch.compile(model)
    for name, dtype in {"float32": None, "bfloat16": autocast_dtype(job.device)}.items():
        if name == "bfloat16" and dtype is None:
            continue
        expected, other = (
            gradients(squared_error, predictor(each, SCHEDULE, job.device, dtype), model, SCHEDULE, (x_0, eps, t))
            for each in (model, compiled)
        )
        wrong[name] = differing(expected, other, 0.01 if dtype is None else 0.25)
        found[name] = {
            "weights": len(expected),
            "that differ": wrong[name],
            "largest relative difference": max(
                float((other[key] - g).norm() / g.norm().clamp(min=1e-12)) for key, g in expected.items()
            ),
        }
    return found | {"agree": not any(wrong.values())}


def rates(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """`ddpm_benchmark` at several batch sizes, one round each: a rehearsal measures the limits only."""
    found: dict[str, Any] = {}
    builders: list[Callable[[benchmark.Setting], benchmark.Contender]] = [benchmark.ours]
    peers = {"diffusers": benchmark.diffusers, "denoising_diffusion_pytorch": benchmark.lucidrains}
    if job.wheels is not None:
        folder = job.out / "peers"
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-index",
            "--no-deps",
            "--quiet",
            "--target",
            folder,
        ]
        subprocess.run([*command, *job.wheels.glob("*.whl")], check=True, timeout=60)
        sys.path.append(str(folder))
    builders += [build for name, build in peers.items() if importlib.util.find_spec(name) and not job.smoke]
    for size in (2,) if job.smoke else BATCHES:
        setting = benchmark.Setting(job.images[:5000].to(job.device), size, job.device, compile=False)
        most = benchmark.limits(setting, rounds=1)
        rows = [] if job.smoke else benchmark.measure(builders, setting, rounds=1)
        found[f"batches of {size}"] = {"limits, GFLOP/s": most, "rates": rows} | (
            benchmark.compare(rows, most, job.device.type) if rows else {}
        )
        report["rates"] = found  # kept if the next size takes too long
    return found


def training(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """The paper's network for the time that is left, compiled if that gives the same gradients and is faster."""
    options: dict[str, Any] = {"batch_size": 8 if job.smoke else BATCH, "device": job.device}
    ends = job.ends - SHARES["samples"] * job.seconds
    found: dict[str, Any] = {"rates": {}}
    best, rate, warm_up = False, 0.0, 0.0
    agree = report.get("gradients", {}).get("agree", False) and not job.smoke
    for compile in (False, True) if agree else (False,):
        cost = training_cost(
            job.network(), SCHEDULE, job.images, n_steps=2 if job.smoke else 20, compile=compile, **options
        )
        found["rates"]["compiled" if compile else "eager"] = cost._asdict()
        if cost.images_per_second > 1.02 * rate:
            best, rate, warm_up = compile, cost.images_per_second, cost.warm_up_seconds
    seconds = ends - time.monotonic() - warm_up
    n_steps = 3 if job.smoke else max(100, int(0.95 * seconds * rate / options["batch_size"]))

    result = train(
        job.network(),
        SCHEDULE,
        job.images,
        n_steps,
        learning_rate=1e-3,
        betas=(0.9, 0.999),
        warm_up=min(500, n_steps // 4),
        decay=0.3,
        average_decay=(0.999, 0.997),
        held_out=job.test[:: len(job.test) // (100 if job.smoke else 1024)],
        compile=best,
        directory=job.out,
        callback=lambda step, loss: time.monotonic() > ends,
        metadata={"data": "MNIST", "network": "paper"},
        progress=False,
        **options,
    )
    record = {key: result.metadata[key] for key in ("steps", "images_seen", "seconds", "average_decay", "precision")}
    write_parts(job.out / "model.safetensors")
    return found | record | {"steps planned": n_steps, "compiled": best, "last losses": result.losses[-5:]}


def write_parts(path: Path) -> None:
    """A file in parts below 16 MiB."""
    content = path.read_bytes()
    for i in range(0, len(content), PART_BYTES):
        with replacing(path.with_name(f"{path.name}.part{i // PART_BYTES}")) as temporary:
            temporary.write_bytes(content[i : i + PART_BYTES])


def samples(job: Job, report: dict[str, Any]) -> dict[str, Any]:
    """Samples of the trained network, judged beside real images, plain and guided."""
    n_samples, n_steps, weights = (100, 1, WEIGHTS[:1]) if job.smoke else (2000, 20, WEIGHTS)
    trained = load_checkpoint(None if job.smoke else job.out / "model.safetensors", device=job.device)
    ways = Ways(trained, job.images, job.test, n_samples, n_steps, 0, job.device)
    found: dict[str, Any] = {}
    plain = None
    for weight in weights:
        images, seconds = ways.samples(weight, (100, 400))
        plain = images if plain is None else plain
        found[f"w = {weight}"] = metrics.summary(ways.judge(images.cpu(), training=job.images)) | {
            "seconds of sampling": seconds,
            "surer than plain, in pairs": surer(plain, images),
        }
        report["samples"] = found
    found["real images"] = metrics.summary(ways.real())
    return found


PARTS: dict[str, Callable[[Job, dict[str, Any]], dict[str, Any]]] = {
    "tests": tests,
    "gradients": compiled_gradients,
    "rates": rates,
    "training": training,
    "samples": samples,
}


def main(
    seconds: Annotated[float, typer.Option(min=10, max=3600, help="For everything.")] = 540,
    wheels: Annotated[Optional[Path], typer.Option(help="Directory of the peers' wheels.")] = None,
    data_dir: Annotated[Optional[Path], typer.Option(help="Directory of MNIST's IDX files.")] = None,
    out: Annotated[Path, typer.Option(help="Directory of everything that is written.")] = Path("runs/gpu"),
    device: Optional[str] = None,
    results: Annotated[Optional[Path], typer.Option(help="results.json in --out unless given.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A rehearsal on a CPU.")] = False,
) -> None:
    began = time.monotonic()
    chosen = choose_device("cpu" if smoke else device)
    splits = ("sample", "sample") if smoke else ("train", "test")
    images, test = (to_tensor(load_mnist(split, data_dir).images) for split in splits)  # type: ignore[arg-type]
    if smoke:
        images, test = images[::10], images[1::10]
    job = Job(chosen, images, test, out, wheels, seconds, began + seconds, smoke)
    report: dict[str, Any] = {"seconds for everything": seconds, **provenance(chosen)}
    file = results or out / "results.json"
    for name, part in PARTS.items():
        before = time.monotonic()
        try:
            with limited(seconds if smoke else min(SHARES.get(name, 1.0) * seconds, job.left())):
                report[name] = part(job, report)
        except Exception as error:  # whatever it is, the parts that follow are worth their time
            traceback.print_exc()
            report[name] = {**report.get(name, {}), "failed": f"{type(error).__name__}: {error}"}
        report.setdefault("seconds", {})[name] = round(time.monotonic() - before, 1)
        write_json(file, report)
        typer.echo(f"{name}: {report['seconds'][name]} s{', failed' if 'failed' in report[name] else ''}")
    if smoke and (failed := [name for name in PARTS if "failed" in report[name]]):
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    typer.run(main)
