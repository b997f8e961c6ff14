"""What the figures share: the run's settings, its network and randomness, and drawing images."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from diffmath.data import load_mnist, tile, to_tensor
from diffmath.ddpm import Checkpoint, choose_device, load_checkpoint, matched_start, moments, sample
from diffmath.schedule import VarianceSchedule


class Profile(StrEnum):
    """How many steps Figure 4's 500 samples get, and from where."""

    auto = "auto"
    paper = "paper"


class Backward(NamedTuple):
    """States of nine samples, shape (6, 9, 1, 32, 32), and their times."""

    states: Tensor
    times: tuple[int, ...]


class Run:
    """One figure's settings. `note` says afterwards how its samples were made."""

    def __init__(
        self, figure: int, profile: Profile, device: str | None, seed: int, checkpoint: str | Path | None = None
    ) -> None:
        self.figure, self.profile, self.seed = figure, profile, seed
        self.device = choose_device(device)
        self.path = checkpoint or ("compact" if self.device.type == "cpu" else "paper")
        self.note = "no network"
        # On the CPU whatever the device, so that the same seed starts from the same noise everywhere.
        own_seed = np.random.SeedSequence((figure, seed)).generate_state(1)
        self.generator = torch.Generator().manual_seed(int(own_seed[0]))

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The network, loaded once for all figures."""
        return _load(self.path, str(self.device))

    @cached_property
    def heat(self) -> Checkpoint:
        """The heat model's network, with its process."""
        return _load("heat", str(self.device))

    def sample(self, *, quick_steps: int | None = None, **arguments: Any) -> Any:
        """`diffmath.ddpm.sample` with this run's network and noise.

        All T steps, from N(0, I) unless x_T is given; or where the profile is "auto" and there is only a CPU,
        `quick_steps` from the mean and covariance that MNIST gives x_T. `experiments/quality_vs_steps.py` says what
        these cost in quality.
        """
        quick = self.profile is Profile.auto and self.device.type == "cpu"
        network, schedule, metadata = self.checkpoint
        n_steps = min(quick_steps, schedule.n_steps) if quick and quick_steps else schedule.n_steps
        name = f"{metadata.get('network', 'unnamed')} network trained on {metadata.get('images_seen', 0):,} images"
        how = f"ancestral, {n_steps} of {schedule.n_steps} steps"
        if n_steps < schedule.n_steps:
            mean, covariance = moments(self.mnist()[0])
            arguments["x_T"] = matched_start(
                schedule, arguments.pop("n_samples"), mean, covariance=covariance, generator=self.generator
            )
            how += " from the matched start"
        self.note = f"{name} | {how} | {self.device}"
        return sample(
            network, schedule, n_steps=n_steps, generator=self.generator, device=self.device, progress=True, **arguments
        )

    def backward(self, times: Sequence[int], **arguments: Any) -> Backward:
        """Samples by all steps of Algorithm 2, seen at these times of 500; see `sample`."""
        scaled = self.scaled(times)
        return Backward(self.sample(trajectory=scaled, **arguments)[1], scaled)

    def scaled(self, times: Sequence[int]) -> tuple[int, ...]:
        """Times of 500, in proportion to the network's T."""
        return tuple(round(t * self.checkpoint.schedule.n_steps / 500) for t in times)

    def forward(self, schedule: VarianceSchedule, x_0: Tensor, times: Sequence[int]) -> Tensor:
        """One path of the forward process (2), step by step from an image (1, ...), at times in increasing order."""
        x, states = x_0, [x_0] * (0 in times)
        for t in range(1, times[-1] + 1):
            x = schedule.forward_step(x, torch.randn(x.shape, generator=self.generator), t)
            states += [x] * (t in times)
        return torch.cat(states)

    def one_digit(self, digit: int) -> Tensor:
        """A random training image of a digit, shape (1, 1, 32, 32)."""
        images, labels = self.mnist()
        candidates = images[torch.from_numpy(labels == digit)]
        chosen = int(torch.randint(len(candidates), (1,), generator=self.generator))
        return candidates[chosen : chosen + 1]

    def mnist(self) -> tuple[Tensor, npt.NDArray[np.uint8]]:
        """The 5,000 MNIST training images that need no network, in [-1, 1], and their labels."""
        images, labels = load_mnist("sample")
        return to_tensor(images), labels


@lru_cache(maxsize=1)
def _load(path: str | Path, device: str) -> Checkpoint:
    return load_checkpoint(path, device=device)


def show(ax: Axes, images: Tensor, columns: int, title: str = "", rows: int | None = None) -> None:
    """Draw images as a tile: black is -1 and below, white is +1 and above."""
    ax.imshow(tile(images.cpu(), columns, rows), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()
