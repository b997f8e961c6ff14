"""The loss on images that are not trained on, by which the better of several averages of the weights is chosen."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffmath._files import replacing
from diffmath.ddpm.training.algorithm import Loss, Predictor
from diffmath.ddpm.training.hooks import Clock
from diffmath.ddpm.training.log import NoiseLevels
from diffmath.ddpm.training.state import State

__all__ = ["HeldOut"]


class HeldOut:
    """At the end of each epoch and of the training every average meets the same images, noise and times.

    Parameters
    ----------
    state : State
        It keeps the losses, for its checkpoints.
    clock : Clock
    images : Tensor, shape (N, ...)
    loss, process : callable, ForwardProcess
        The same as in `minimise`.
    predictor : callable
        Makes the noise predictor of a module.
    every, n_steps : int
        Steps of an epoch, and of the training.
    path : pathlib.Path or None
        The table to write: a row for each average at each time, with the losses by noise level.
    """

    NAME, BATCH = "held_out.csv", 256

    def __init__(
        self,
        state: State,
        clock: Clock,
        images: Tensor,
        loss: Loss,
        process: Any,
        predictor: Callable[[nn.Module], Predictor],
        every: int,
        n_steps: int,
        path: Path | None,
    ) -> None:
        self.state, self.clock, self.loss, self.process, self.predictor = state, clock, loss, process, predictor
        self.every, self.n_steps, self.path, n = every, n_steps, path, len(images)
        own = state.processes.share(n)
        eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=images.dtype)
        t = 1 + (2 * torch.arange(n) + 1) * process.n_steps // (2 * n)  # all noise levels alike
        device = next(state.model.parameters()).device
        self.batch = [part[own].to(device) for part in (images, eps, t)]

    def on_step(self, losses: Tensor) -> None:
        """Take the losses when an epoch or the training is over."""
        if self.state.step % self.every and self.state.step != self.n_steps:
            return
        with self.clock.pause():
            for decay, average in zip(self.state.decays, self.state.averages, strict=True):
                by_level = self._losses(average)
                # In the logarithm every noise level counts; the plain mean is that of the least noise, nearly. Another
                # loss may be negative.
                terms = map(math.log, by_level) if min(by_level) > 0 else by_level
                score = sum(terms) / len(by_level)
                self.state.held_out.append([self.state.step, decay, score, *by_level])
            if self.path is not None and self.state.processes.first:
                with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
                    names = (f"loss_t{name}" for name in self.state.levels.names)
                    table = [["step", "average_decay", "mean_log_loss", *names], *self.state.held_out]
                    csv.writer(file).writerows(table)

    def on_end(self) -> None:
        """Take no further losses."""

    @torch.no_grad()
    def _losses(self, average: nn.Module) -> list[float]:
        """The mean loss of one average in each bin of noise levels."""
        levels, network = NoiseLevels(self.process.n_steps, self.batch[0].device), self.predictor(average.eval())
        for x_0, eps, t in zip(*(part.split(self.BATCH) for part in self.batch), strict=True):
            levels.add(self.loss(network, self.process, x_0, eps, t), t)
        sums = self.state.processes.sum(levels.sums)
        found: list[float] = (sums[0] / sums[1]).tolist()
        return found
