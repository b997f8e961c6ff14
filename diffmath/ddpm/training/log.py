"""What a training leaves to be watched: a CSV file, pictures of samples and, if wanted, TensorBoard's events."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffmath._files import replacing
from diffmath.data import save_sheet, tile

__all__ = ["Log", "NoiseLevels"]

BINS = 10


class NoiseLevels:
    """The loss at bins of the times 1..T, summed on the device until somebody asks.

    Attributes
    ----------
    names : list of str
        The first and last time of each bin.
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
    """The log of a run in a directory: a new one, or the continuation of an existing one.

    What cannot be continued is kept under another name, ``log-1.csv`` and ``tensorboard-1``: the log of a run whose
    checkpoint is gone, and one that was edited since and no longer agrees with the checkpoint. The latter is warned of.

    Parameters
    ----------
    directory : pathlib.Path
    levels : list of str
        Names of the noise levels' bins.
    step : int
        The step to continue from. Entries beyond it are dropped: they will be written again.
    losses : list of (int, float)
        The steps and losses of the entries up to there, as the checkpoint has them.
    tensorboard : bool
        Whether to write TensorBoard's events too.
    go_on : bool
        Whether there may be a log already.

    Raises
    ------
    FileExistsError
        If there is a log that must not be there, or a foreign file of that name and no checkpoint.
    ModuleNotFoundError
        If TensorBoard is wanted and not installed.
    """

    NAME, SHEETS, EVENTS = "log.csv", "samples-*", "tensorboard"

    def __init__(
        self,
        directory: Path,
        levels: list[str],
        step: int,
        losses: list[tuple[int, float]],
        tensorboard: bool,
        go_on: bool,
    ) -> None:
        self.directory, self.path = directory, directory / self.NAME
        writer = _events() if tensorboard else None  # known to be there before any file is touched
        self.columns = ["step", "images", "epoch", "loss", "learning_rate", "gradient_norm", "images_per_second"]
        self.columns += [f"loss_t{name}" for name in levels]
        rows = self._rows() if self.path.exists() else []
        if step == 0:
            if rows is None:
                raise FileExistsError(f"{self.path} exists and is no log of such a training: use another directory")
            if rows and not go_on:
                raise FileExistsError(f"{self.path} exists: resume its run, or train in another directory")
            if rows:
                self._set_aside(self.directory / self.EVENTS, self.path)
            rows = []
        else:
            rows = self._continued(rows, step, losses)
        with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([self.columns, *rows])
        self._events: Any = writer and writer(str(directory / self.EVENTS), purge_step=step + 1)

    def _rows(self) -> list[list[str]] | None:
        """The entries of the file; None if it is no log of such a run."""
        try:
            with open(self.path, newline="", encoding="utf-8") as file:
                header, *rows = list(csv.reader(file)) or [[]]
        except (csv.Error, UnicodeDecodeError):
            return None
        return rows if header == self.columns else None

    def _continued(self, rows: list[list[str]] | None, step: int, losses: list[tuple[int, float]]) -> list[list[str]]:
        """The entries up to the step, if they are the latest of the checkpoint's; else none, and a warning."""
        if rows is not None:
            whole = [row for row in rows if len(row) == len(self.columns) and row[0].isdigit()]
            kept = [row for row in whole if int(row[0]) <= step]
            with suppress(ValueError):
                known = losses[len(losses) - len(kept) :]
                if (kept or not losses) and [(int(row[0]), float(row[3])) for row in kept] == known:
                    return kept
        if self.path.exists():
            new = self._set_aside(self.path)
            reason = f"{self.path} does not agree with the checkpoint at step {step}: it is kept as {new.name}, and"
        elif losses:
            reason = f"{self.path} is missing:"
        else:
            return []
        warnings.warn(f"{reason} a new log begins after step {step}", stacklevel=2)
        return []

    def _set_aside(self, *paths: Path) -> Path:
        """Keep files under the first number that is free; the new name of the last."""
        for i in count(1):
            new = [path.with_stem(f"{path.stem}-{i}") for path in paths]
            if not any(path.exists() for path in new):
                break
        for old, kept in zip(paths, new, strict=True):
            if old.exists():
                os.replace(old, kept)
        return new[-1]

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
        """Write a sheet of samples, shape (N, 1, H, W) or (N, 3, H, W), as ``samples-<step>.png``."""
        save_sheet(self.directory / f"samples-{step:07d}.png", images, scale=2)
        if self._events:
            sheet = torch.from_numpy(tile(images.cpu().numpy(), columns=round(len(images) ** 0.5)))
            formats = "HW" if sheet.ndim == 2 else "HWC"
            self._events.add_image("samples", (sheet.clamp(-1, 1) + 1) / 2, step, dataformats=formats)
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
