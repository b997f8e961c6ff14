r"""How fast the paper's network trains and samples: beside its peers, and beside what this machine can do at most.

Question   Images a second in training and network evaluations a second in sampling: of diffmath, of diffusers
           (UNet2DModel, DDPMScheduler) and of denoising-diffusion-pytorch (Unet, GaussianDiffusion) with about as many
           parameters, in float32 and with bfloat16 autocast; per image and per GFLOP; and the share of the largest rate
           of a plain matrix product and of a plain 3 x 3 convolution of the network's main shapes. Goals on a CPU: 1.5
           and 2 times the training rate of these peers, judged in equal precision and as all come (ours in bfloat16,
           theirs in float32), and for sampling 0.8 of the limit of convolutions. On a GPU: 5 million training images in
           8 minutes, twice the rate of diffusers, and 500 samples with T = 500 in 30 s.
Command    python experiments/ddpm_benchmark.py [--rounds N] [--compile]      peers need the extra "bench"
Minutes    about 8 on 2 idle CPU cores; --smoke: seconds, with the compact network
Result     results/ddpm_benchmark.json, which the terminal shows too
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

# Threads that wait give the processor away; see diffmath.__main__. Before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from diffmath._files import write_json
from diffmath.ddpm import UNet, choose_device, forward_flop, sample, train
from diffmath.ddpm._environment import autocast_dtype, memory_format, peak_memory, provenance
from diffmath.schedule import VarianceSchedule

HERE = Path(__file__).parent
SCHEDULE = VarianceSchedule.linear()
SHAPES = ((64, 64, 32), (128, 64, 32), (128, 128, 16), (256, 128, 16), (256, 256, 8), (512, 256, 8))  # in, out, pixels
GOALS = {  # of training, over the peers; on a CPU, and on a GPU
    "cpu": {"diffusers": 1.5, "denoising-diffusion-pytorch": 2.0},
    "cuda": {"diffusers": 2.0},
}
SHARE = 0.8  # of the convolutions' limit, of sampling on a CPU
MINUTES, SECONDS = 8, 30  # of 5 million training images and of 500 samples on a GPU


class Contender(NamedTuple):
    """A library's network, and how it takes steps: both return the seconds that ``n`` steps of a batch took.

    Of compiled ones the seconds until the first step is done are noted in `warm_ups`.
    """

    name: str
    network: nn.Module  # (x, t) -> noise
    train: Callable[[int, bool], float]
    sample: Callable[[int, bool], float]
    warm_ups: list[float]


class Setting(NamedTuple):
    """What is the same for all."""

    images: Tensor  # of the training set
    batch_size: int
    device: torch.device
    compile: bool


# The contenders


def ours(setting: Setting) -> Contender:
    """`diffmath.ddpm.train` and `sample` as they are; their first step, a warm-up, is not counted."""
    small = setting.batch_size < 8
    model = (UNet.compact() if small else UNet.paper()).to(setting.device)
    model.to(memory_format=memory_format(setting.device))  # type: ignore[call-overload]
    options: dict[str, Any] = {"device": setting.device, "compile": setting.compile, "progress": False}
    warm_ups: list[float] = []

    def training(n: int, autocast: bool) -> float:
        record = train(
            model, SCHEDULE, setting.images, 1 + n, batch_size=setting.batch_size, autocast=autocast, **options
        ).metadata
        if setting.compile:
            warm_ups.append(record["warm_up_seconds"])
        return float(record["seconds"] - record["warm_up_seconds"])

    def sampling(n: int, autocast: bool) -> float:
        model.eval()

        def run() -> None:
            generator = torch.Generator(setting.device).manual_seed(0)
            common: dict[str, Any] = {"batch_size": setting.batch_size, "autocast": autocast, "generator": generator}
            sample(model, SCHEDULE, n_samples=setting.batch_size, n_steps=n, **options, **common)

        run()
        return timed(run, setting.device)

    return Contender("diffmath", model, training, sampling, warm_ups)


def diffusers(setting: Setting) -> Contender:
    """The training loop of its tutorial for unconditional generation, and the denoising loop of its DDPMPipeline."""
    from diffusers import DDPMScheduler, UNet2DModel

    model = UNet2DModel(
        sample_size=32,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(64, 128, 240),
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    ).to(setting.device)
    scheduler = DDPMScheduler(SCHEDULE.n_steps, beta_start=1e-4, beta_end=0.02)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

    def step() -> None:
        x_0 = batch(setting)
        noise = torch.randn_like(x_0)
        t = torch.randint(0, SCHEDULE.n_steps, (len(x_0),), device=x_0.device)
        predicted = model(scheduler.add_noise(x_0, noise, t), t, return_dict=False)[0]
        F.mse_loss(predicted.float(), noise).backward()
        optimizer.step()
        optimizer.zero_grad()

    def denoise(n: int) -> None:
        scheduler.set_timesteps(SCHEDULE.n_steps)
        x = torch.randn((setting.batch_size, 1, 32, 32), device=setting.device)
        for t in scheduler.timesteps[:n]:
            x = scheduler.step(model(x, t).sample, t, x).prev_sample

    class Noise(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            noise: Tensor = model(x, t).sample
            return noise

    network = Noise()
    network.model = model
    return Contender("diffusers", network, *peer(setting, model, step, denoise), [])


def lucidrains(setting: Setting) -> Contender:
    """The loss that its GaussianDiffusion returns, as its README trains, and its p_sample."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    model = Unet(dim=72, dim_mults=(1, 2, 4), channels=1).to(setting.device)
    diffusion = GaussianDiffusion(model, image_size=32, timesteps=SCHEDULE.n_steps).to(setting.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

    def step() -> None:
        diffusion((batch(setting) + 1) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()

    def denoise(n: int) -> None:
        x = torch.randn((setting.batch_size, 1, 32, 32), device=setting.device)
        for t in islice(reversed(range(SCHEDULE.n_steps)), n):
            x, _ = diffusion.p_sample(x, t)

    return Contender("denoising-diffusion-pytorch", model, *peer(setting, model, step, denoise), [])


def peer(
    setting: Setting, model: nn.Module, step: Callable[[], None], denoise: Callable[[int], None]
) -> tuple[Callable[[int, bool], float], Callable[[int, bool], float]]:
    """The two measurements of a peer, from its own step of training and its own loop of sampling."""
    dtype = autocast_dtype(setting.device) or torch.bfloat16

    def training(n: int, autocast: bool) -> float:
        model.train()

        def run(n: int) -> None:
            for _ in range(n):
                with torch.autocast(setting.device.type, dtype, enabled=autocast):
                    step()

        run(1)
        return timed(lambda: run(n), setting.device)

    def sampling(n: int, autocast: bool) -> float:
        model.eval()

        def run() -> None:
            with torch.no_grad(), torch.autocast(setting.device.type, dtype, enabled=autocast):
                denoise(n)

        run()
        return timed(run, setting.device)

    return training, sampling


def batch(setting: Setting) -> Tensor:
    """Images at random, on the device."""
    return setting.images[torch.randint(len(setting.images), (setting.batch_size,), device=setting.device)]


# Measuring


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call, until the device is done."""
    finish(device)
    begin = time.perf_counter()
    run()
    finish(device)
    return time.perf_counter() - begin


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def limits(setting: Setting, rounds: int) -> dict[str, dict[str, float]]:
    """The largest GFLOP/s of a plain matrix product and of a plain 3 x 3 convolution, forwards, by precision."""
    found: dict[str, dict[str, float]] = {}
    calls = 100 if setting.device.type == "cuda" else 1  # in a row: one would be mostly its launch

    def fastest(call: Callable[[], Any]) -> float:
        def run() -> None:
            for _ in range(calls):
                call()

        return min(timed(run, setting.device) for _ in range(1 + rounds)) / calls

    for dtype in (torch.float32, torch.bfloat16):
        product = convolution = 0.0
        largest = 256 if setting.batch_size < 8 else 8192 if setting.device.type == "cuda" else 4096
        for size in (largest // 4, largest // 2, largest):
            a, b = torch.randn((2, size, size), device=setting.device).to(dtype)
            product = max(product, 2e-9 * size**3 / fastest(partial(torch.matmul, a, b)))
        for n_in, n_out, pixels in SHAPES:
            for order in (torch.contiguous_format, torch.channels_last):
                x = torch.randn((setting.batch_size, n_in, pixels, pixels), device=setting.device)
                x = x.to(dtype, memory_format=order)
                w = torch.randn((n_out, n_in, 3, 3), device=setting.device).to(dtype, memory_format=order)
                seconds = fastest(partial(F.conv2d, x, w, padding=1))
                flop = 2 * setting.batch_size * n_in * n_out * 9 * pixels**2
                convolution = max(convolution, flop / seconds / 1e9)
        name = str(dtype).removeprefix("torch.")
        found[name] = {"matrix product": product, "convolution": convolution}
    return found


def peak(build: Callable[[Setting], Contender], setting: Setting) -> float | None:
    """The most GiB in use in a step of training in float32: allocated on the GPU, else in main memory.

    On a CPU to be called in a process of its own, as memory that was freed stays with a process.
    """
    gc.collect()  # what others left on a GPU would count
    contender = build(setting)
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
    contender.train(1, False)
    most = peak_memory(setting.device)
    return most and most / 2**30


def measure(builders: list[Callable[[Setting], Contender]], setting: Setting, rounds: int) -> list[dict[str, Any]]:
    """Medians of the rounds, in which all take turns."""
    if setting.device.type == "cpu":
        peaks = []
        for build in builders:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                peaks.append(pool.submit(peak, build, setting).result())
    else:
        peaks = [peak(build, setting) for build in builders]
    contenders = [build(setting) for build in builders]
    memory = {c.name: peak for c, peak in zip(contenders, peaks, strict=True)}
    n = {"training": 1, "sampling": 1} if setting.device.type == "cpu" else {"training": 20, "sampling": 50}
    precisions = {"float32": False} | ({"bfloat16": True} if autocast_dtype(setting.device) else {})
    keys = [(c, p) for c in contenders for p in precisions]
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for _ in tqdm(range(rounds), desc="rounds"):
        for contender, precision in keys:
            for kind, work in (("training", contender.train), ("sampling", contender.sample)):
                took = work(n[kind], precisions[precision]) / n[kind]
                seconds.setdefault((contender.name, precision, kind), []).append(took)
    rows = []
    for contender, precision in keys:
        gflop = forward_flop(contender.network) / 1e9
        row: dict[str, Any] = {
            "library": contender.name,
            "precision": precision,
            "parameters": sum(p.numel() for p in contender.network.parameters()),
            "GFLOP an evaluation": round(gflop, 3),
        }
        for kind, factor in (("training", 3), ("sampling", 1)):
            rates = [setting.batch_size / s for s in seconds[contender.name, precision, kind]]
            rate = statistics.median(rates)
            row[kind] = {
                "images/s" if kind == "training" else "evaluations/s": round(rate, 2),
                "of each round": [round(r, 2) for r in rates],
                "GFLOP/s": round(factor * gflop * rate, 1),
            }
        row["peak memory of training in float32, GiB"] = memory[contender.name]
        if contender.warm_ups:
            row["warm-up of training, at most, s"] = round(max(contender.warm_ups), 1)
        rows.append(row)
    return rows


def compare(rows: list[dict[str, Any]], most: dict[str, dict[str, float]], on: str) -> dict[str, Any]:
    """Our rates over the peers', an image and a GFLOP, and over the limits; on a CPU or another type of device."""
    rate = {(r["library"], r["precision"], k): r[k] for r in rows for k in ("training", "sampling")}
    unit = {"training": "images/s", "sampling": "evaluations/s"}
    precisions = list(dict.fromkeys(r["precision"] for r in rows))
    ratios = {}
    for library in dict.fromkeys(r["library"] for r in rows if r["library"] != "diffmath"):
        pairs = [(p, p) for p in precisions] + ([("bfloat16", "float32")] if "bfloat16" in precisions else [])
        ratios[library] = {
            f"{kind}, {mine} over {theirs}": {
                name: round(rate["diffmath", mine, kind][key] / rate[library, theirs, kind][key], 2)
                for name, key in (("an image", unit[kind]), ("a GFLOP", "GFLOP/s"))
            }
            for kind in unit
            for mine, theirs in pairs
        }
    shares = {
        f"{kind}, {p}": {k: round(rate["diffmath", p, kind]["GFLOP/s"] / value, 3) for k, value in most[p].items()}
        for kind in unit
        for p in precisions
    }
    goals: dict[str, dict[str, float | bool]] = {
        f"{pair}, an image, over {library}": {"goal": goal, "reached": ratio["an image"] >= goal}
        for library, goal in GOALS.get(on, {}).items()
        for pair, ratio in ratios.get(library, {}).items()
        if pair.startswith("training")
    }
    if on == "cpu":
        reached = all(shares[f"sampling, {p}"]["convolution"] >= SHARE for p in precisions)
        goals["sampling, share of the convolutions' limit"] = {"goal": SHARE, "reached": reached}
    return {"ratios": ratios, "shares of the limits": shares, "goals": goals}


def main(
    rounds: int = 7,
    batch_size: int = 64,
    device: Optional[str] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Compile our network (not counted).")] = False,
    results: Annotated[Optional[Path], typer.Option(help="experiments/results/ unless given, or --smoke.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A small run, to see that it runs.")] = False,
) -> None:
    rounds, batch_size = (1, 2) if smoke else (rounds, batch_size)
    results = results or (Path("runs") if smoke else HERE / "results") / "ddpm_benchmark.json"
    chosen = choose_device(device)
    torch.manual_seed(0)
    setting = Setting(torch.rand((1000, 1, 32, 32), device=chosen) * 2 - 1, batch_size, chosen, compile)
    load = getattr(os, "getloadavg", lambda: ())()  # Windows has none
    peers = {"diffusers": diffusers, "denoising_diffusion_pytorch": lucidrains}
    there = [name for name in peers if importlib.util.find_spec(name) is not None and not smoke]
    most = limits(setting, rounds)
    rows = measure([ours, *(peers[name] for name in there)], setting, rounds)
    report: dict[str, Any] = {
        "setting": {k: v for k, v in provenance(chosen).items() if k != "date"}
        | {
            "seed": 0,
            "batch size": batch_size,
            "rounds": rounds,
            "compiled": compile,
            "threads": torch.get_num_threads(),
        }
        | {"load average before": [round(x, 2) for x in load]}
        | {name: version(name) for name in there},
        "rates": rows,
        "limits, GFLOP/s": {p: {k: round(v, 1) for k, v in each.items()} for p, each in most.items()},
        **compare(rows, most, chosen.type),
    }
    if chosen.type == "cuda":
        best = max(r["training"]["images/s"] for r in rows if r["library"] == "diffmath")
        report["minutes for 5 million training images"] = minutes = round(5e6 / best / 60, 2)
        common: dict[str, Any] = {"n_samples": 500, "batch_size": 500, "compile": compile, "autocast": True}
        common["generator"] = torch.Generator(chosen)
        run = partial(sample, ours(setting).network.eval(), SCHEDULE, **common)
        run()
        report["seconds for 500 samples with T = 500"] = seconds = round(timed(run, chosen), 2)
        report["goals"] |= {
            "minutes for 5 million training images": {"goal": MINUTES, "reached": minutes <= MINUTES},
            "seconds for 500 samples with T = 500": {"goal": SECONDS, "reached": seconds <= SECONDS},
        }
    write_json(results, report)
    typer.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
