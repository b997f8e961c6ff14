"""What a training costs, before it is begun: ``python -m diffmath train --dry-run``."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffmath._arguments import require_count, require_counts, require_instance
from diffmath.ddpm._arguments import require_process
from diffmath.ddpm._environment import choose_device, peak_memory
from diffmath.ddpm.training import train
from diffmath.ddpm.training.settings import as_images
from diffmath.process import ForwardProcess

__all__ = ["TrainingCost", "forward_flop", "training_cost"]


class TrainingCost(NamedTuple):
    """What `training_cost` returns.

    Attributes
    ----------
    parameters : int
        Trainable numbers of the network.
    flop_per_image : int
        The operations for one training image: forwards, and about twice as many backwards.
    memory : int or None
        Bytes: on CUDA the most that was allocated while measuring, elsewhere the most that this process ever had in
        main memory, libraries and data included; None where the system does not tell.
    warm_up_seconds : float
        The time of the first step, including compilation if there is any.
    images_per_second : float
        The rate of the steps after it.
    """

    parameters: int
    flop_per_image: int
    memory: int | None
    warm_up_seconds: float
    images_per_second: float

    def report(self, n_images: int) -> str:
        """State the cost in lines, with the time for a number of images.

        Examples
        --------
        >>> print(TrainingCost(3_254_177, 2_540_000_000, None, 2.0, 50.0).report(15_000))
                      parameters: 3,254,177
               an image forwards: 0.85 GFLOP; in training 2.54
                          memory: unknown
                   measured here: 50.0 images/s after 2.0 s of warm-up
                   15,000 images: 5.0 minutes
        """
        seconds = self.warm_up_seconds + require_count("n_images", n_images, 0) / self.images_per_second
        flop = self.flop_per_image / 1e9
        lines = {
            "parameters": f"{self.parameters:,}",
            "an image forwards": f"{flop / 3:.2f} GFLOP; in training {flop:.2f}",
            "memory": f"{self.memory / 2**30:.2f} GiB" if self.memory else "unknown",
            "measured here": f"{self.images_per_second:.1f} images/s after {self.warm_up_seconds:.1f} s of warm-up",
            f"{n_images:,} images": f"{seconds / 3600:.2f} hours" if seconds > 3600 else f"{seconds / 60:.1f} minutes",
        }
        return "\n".join(f"{name:>24}: {value}" for name, value in lines.items())


def forward_flop(model: nn.Module, shape: tuple[int, ...] | None = None) -> int:
    """Count the floating-point operations of one image's forward pass: matrix products, convolutions and attention.

    A multiplication and an addition count as two.

    Parameters
    ----------
    model : torch.nn.Module
        Called as ``model(x_t, t)``.
    shape : tuple of int, optional
        An image's shape; the model's ``image_shape`` by default, or 1 x 32 x 32 if it has none.

    Examples
    --------
    >>> from diffmath.ddpm import UNet
    >>> round(forward_flop(UNet.paper()) / 1e9, 2)
    3.23
    """
    require_instance("model", model, nn.Module)
    if shape is None:
        shape = getattr(model, "image_shape", (1, 32, 32))
    device = next(model.parameters()).device
    x = torch.zeros((1, *require_counts("shape", shape)), device=device)
    t = torch.ones(1, dtype=torch.int64, device=device)
    # Only the plain implementation of attention is counted everywhere.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, t)
    return int(counter.get_total_flops())


def training_cost(
    model: nn.Module,
    schedule: ForwardProcess,
    images: Any,
    *,
    batch_size: int = 128,
    n_steps: int | None = None,
    device: str | torch.device | None = None,
    **options: Any,
) -> TrainingCost:
    """Measure a few steps of training, of a copy of the network.

    Parameters
    ----------
    model, schedule, images, batch_size, device, **options
        The same as for `diffmath.ddpm.train`.
    n_steps : int, optional
        Steps to measure after the first; 3 on a CPU and 50 elsewhere by default.

    Examples
    --------
    >>> from diffmath import toy
    >>> from diffmath.ddpm import MLP
    >>> from diffmath.schedule import VarianceSchedule
    >>> training_cost(MLP(), VarianceSchedule.linear(), toy.moons(1000), device="cpu").flop_per_image
    3443712
    """
    device = choose_device(device)
    require_instance("model", model, nn.Module)
    require_process(schedule, ForwardProcess)
    batch_size = require_count("batch_size", batch_size)
    n_steps = (3 if device.type == "cpu" else 50) if n_steps is None else require_count("n_steps", n_steps)
    model = copy.deepcopy(model).to(device)
    images = as_images(images, model)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    flop = 3 * forward_flop(model, tuple(images.shape[1:]))
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        torch.cuda.reset_peak_memory_stats(device)
    settings = {"batch_size": batch_size, "device": device, "progress": False, **options}
    record = train(model, schedule, images, 1 + n_steps, **settings).metadata
    warm_up = record["warm_up_seconds"]
    rate = n_steps * batch_size / max(record["seconds"] - warm_up, 1e-6)
    return TrainingCost(parameters, flop, peak_memory(device), warm_up, rate)
