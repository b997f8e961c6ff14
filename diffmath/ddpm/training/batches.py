"""The minibatches of Algorithm 1: images, noise and times."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmath.ddpm._processes import Processes
from diffmath.process import ForwardProcess, Process, spread

__all__ = ["Batches", "OnDevice"]


class Batches:
    """The images, noise and times of any step, from the seed and the step's number alone.

    Each process keeps its own share of a minibatch; the shares of all processes make up the minibatch of one. All of it
    lies on the device of the images, so that no step waits for the device.

    Parameters
    ----------
    images : Tensor, shape (N, ...)
    process : Process
        Its T, and how often each time is to be drawn.
    batch_size, seed : int
    processes : Processes
    """

    def __init__(self, images: Tensor, process: Process, batch_size: int, seed: int, processes: Processes) -> None:
        self.images, self.n_times, self.batch_size, self.seed = images, process.n_steps, batch_size, seed
        frequencies = process.frequencies
        self.frequencies = None if frequencies is None else torch.tensor(frequencies, device=images.device)
        self.own = processes.share(batch_size)
        self.generator = torch.Generator(images.device)
        self.order: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """x_0, eps and t of a step, 0 the first."""
        x_0 = self.images[self._indices(step)[self.own]]
        self.generator.manual_seed(_mix(self.seed, 1, step))
        if self.frequencies is None:
            t = torch.randint(1, self.n_times + 1, (self.batch_size,), device=x_0.device, generator=self.generator)
        else:
            t = 1 + torch.multinomial(self.frequencies, self.batch_size, replacement=True, generator=self.generator)
        self.generator.manual_seed(_mix(self.seed, 2, step))
        shape = (self.batch_size, *x_0.shape[1:])
        eps = torch.randn(shape, dtype=x_0.dtype, device=x_0.device, generator=self.generator)
        return x_0, eps[self.own], t[self.own]

    def _indices(self, step: int) -> Tensor:
        """The next images of an endless sequence of epochs, each in a new order; none is left out where they meet."""
        n, parts = len(self.images), []
        begin, end = step * self.batch_size, (step + 1) * self.batch_size
        while begin < end:
            epoch, first = divmod(begin, n)
            if self.order is None or self.order[0] != epoch:
                generator = torch.Generator().manual_seed(_mix(self.seed, 0, epoch))
                self.order = epoch, torch.randperm(n, generator=generator).to(self.images.device)
            parts.append(self.order[1][first : first + end - begin])
            begin += len(parts[-1])
        return torch.cat(parts)


class OnDevice:
    """A process whose `add_noise` takes times that lie on a device, and does not wait for it.

    Everything else is the process's.
    """

    @classmethod
    def of(cls, process: Process, like: Tensor) -> Any:
        """The process on the device of a tensor; itself, if it is none of `ForwardProcess`."""
        return cls(process, like) if isinstance(process, ForwardProcess) else process

    def __init__(self, process: ForwardProcess, like: Tensor) -> None:
        self._process = process
        t = np.arange(1, process.n_steps + 1)
        # The coefficients are float64 until here.
        self._coefficients = [torch.tensor(np.sqrt(c)).to(like) for c in process.transition(t, np.zeros_like(t))]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """`ForwardProcess.add_noise`, eq. (8)."""
        if not isinstance(t, Tensor) or t.ndim != 1:  # one time for all
            noised: Tensor = self._process.add_noise(x_0, eps, t)
            return noised
        a, b = (spread(c[t - 1], 1, x_0.shape) for c in self._coefficients)
        x_t: Tensor = a * x_0 + b * eps
        return x_t


def _mix(*key: int) -> int:
    """A seed from a tuple of integers, well mixed: torch's CPU generator uses the low 32 bits only."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])
