"""What a training leaves to be watched: a CSV file, pictures of samples and, if wanted, TensorBoard's events."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffmath._files import replacing
from diffmath.data import tile

__all__ = ["Log", "NoiseLevels"]

BINS = 10


class NoiseLevels:
    """The loss at bins of the times 1..T, summed on the device until somebody asks.

    Attributes
    ----------
    names : list of str
        Of the bins: their first and last times.
    sums : Tensor, shape (2, number of bins), float64 (float32 on a device without)
        The sum of the images' losses in each, and their number.
    """

    def __init__(self, n_times: int, device: torch.device) -> None:
        n = min(BINS, n_times)
        first = [1 - (-i * n_times // n) for i in range(n)]  # the least t with (t - 1) n // T = i
        self.names = [f"{a}-{b - 1}" for a, b in zip(first, [*first[1:], n_times + 1], strict=True)]
        self.sums = torch.zeros((2, n), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self._bin = ((torch.arange(n_times + 1) - 1) * n // n_times).to(device)

    def add(self, losses: Tensor, t: Tensor) -> None:
        """Losses of images, shape (B,), at their times t."""
        pair = torch.stack([losses, torch.ones_like(losses)]).to(self.sums.dtype)
        self.sums.index_add_(1, self._bin[t], pair)


class Log:
    """The log of a run in a directory, begun, or gone on with after some step.

    Parameters
    ----------
    directory : pathlib.Path
    levels : list of str
        Names of the noise levels' bins.
    step : int
        Entries beyond it are dropped: they will be made again. At 0, the log of a run whose checkpoint is gone is kept
        as ``log-1.csv``, and TensorBoard's events as ``tensorboard-1``.
    tensorboard : bool
        Whether to write TensorBoard's events too.
    go_on : bool
        Whether there may be a log already.

    Raises
    ------
    FileExistsError
        If there is one and must not, or it is no log of such a run.
    ModuleNotFoundError
        If TensorBoard is wanted and not installed.
    """

    NAME, SHEETS, EVENTS = "log.csv", "samples-*", "tensorboard"

    def __init__(self, directory: Path, levels: list[str], step: int, tensorboard: bool, go_on: bool) -> None:
        self.directory, self.path = directory, directory / self.NAME
        writer = _events() if tensorboard else None  # known to be there before any file is touched
        self.columns = ["step", "images", "epoch", "loss", "learning_rate", "gradient_norm", "images_per_second"]
        self.columns += [f"loss_t{name}" for name in levels]
        rows: list[list[str]] = []
        if self.path.exists():
            with open(self.path, newline="") as file:
                header, *rows = list(csv.reader(file)) or [[]]
            if header != self.columns:
                raise FileExistsError(f"{self.path} exists and is no log of such a training: use another directory")
            if rows and not go_on:
                raise FileExistsError(f"{self.path} exists: resume its run, or train in another directory")
            if rows and step == 0:
                self._set_aside()
            rows = [row for row in rows if len(row) == len(header) and row[0].isdigit() and int(row[0]) <= step]
        with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([self.columns, *rows])
        self._events: Any = writer and writer(str(directory / self.EVENTS), purge_step=step + 1)

    def _set_aside(self) -> None:
        """Keep what was written of a run whose checkpoint is gone, under the first number that is free."""
        events = self.directory / self.EVENTS
        moves = ([(p, p.with_stem(f"{p.stem}-{i}")) for p in (events, self.path)] for i in count(1))
        for old, new in next(pairs for pairs in moves if not any(new.exists() for _, new in pairs)):
            if old.exists():
                os.replace(old, new)

    def write(self, entry: Mapping[str, float]) -> None:
        """Append a line, from the columns' values; steps, images and loss are exact, the others are rounded."""
        texts = [repr(entry[c]) if c in ("step", "images", "loss") else f"{entry[c]:.6g}" for c in self.columns]
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow(texts)
        if self._events:
            for column in self.columns[2:]:
                self._events.add_scalar(column, entry[column], int(entry["step"]))
            self._events.flush()

    def sync(self) -> None:
        """What was written is on the disk from here on."""
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())

    def show(self, images: Tensor, step: int) -> None:
        """Write a sheet of samples, shape (N, 1, H, W), as ``samples-<step>.png``."""
        from matplotlib import image

        sheet = tile(images.cpu().numpy(), columns=round(len(images) ** 0.5))
        with replacing(self.directory / f"samples-{step:07d}.png") as temporary:
            image.imsave(temporary, sheet.repeat(2, 0).repeat(2, 1), cmap="gray", vmin=-1, vmax=1)
        if self._events:
            self._events.add_image("samples", (torch.from_numpy(sheet).clamp(-1, 1) + 1) / 2, step, dataformats="HW")
            self._events.flush()

    def close(self) -> None:
        """Nothing more will come."""
        if self._events:
            self._events.close()


def _events() -> Any:
    """TensorBoard's writer of events."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ModuleNotFoundError(
            'TensorBoard is not installed; install it with: python -m pip install "diffmath[tensorboard]"'
        ) from error
    return SummaryWriter
