"""Several processes that train or sample together: which of them this is, and what they agree on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from diffmath.ddpm._environment import choose_device

__all__ = ["Processes", "joined", "launched"]

T = TypeVar("T")


class Processes:
    """The processes of `torch.distributed`, or this one alone.

    Attributes
    ----------
    rank, size : int
        This process's number, and how many there are.
    first : bool
        Whether it is the one that writes files.
    """

    def __init__(self, together: bool = True) -> None:
        self.rank, self.size = 0, 1
        if together and dist.is_available() and dist.is_initialized():
            self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.first = self.rank == 0
        # What the processes agree on lies in main memory, so that no step waits for a GPU. None is the group of all.
        self._talk = _main_memory(dist.group.WORLD) if self.size > 1 and dist.get_backend() != "gloo" else None

    def share(self, n: int) -> slice:
        """Which of n items are this process's: nearly as many for each."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is set in any process."""
        if self.size == 1:
            return flags
        numbers = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self._talk)
        return tuple(bool(n) for n in numbers.tolist())

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.size == 1:
            return number
        numbers = torch.tensor(number)
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self._talk)
        return int(numbers)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self._talk if tensor.device.type == "cpu" else None)
        return tensor

    def by_first(self, work: Callable[[], T]) -> T | None:
        """What the first process gets by doing some work, None for the others; if it fails, none of them goes on."""
        result, error = None, None
        if self.first:
            try:
                result = work()
            except Exception as caught:
                error = caught
        (failed,) = self.any(error is not None)
        if error is not None:
            raise error
        if failed:
            raise RuntimeError("the first process could not go on, and says why")
        return result

    def wait(self) -> None:
        """Block until every process arrives."""
        if self.size > 1:
            dist.barrier(group=self._talk)


def launched() -> tuple[int, int]:
    """Return the number of this process, and how many were launched together, as `torchrun` says in the environment.

    A number without a count, or with a count of 1, is a leftover of something else: the process is alone then.
    """
    try:
        size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    except ValueError:
        names = {name: os.environ.get(name) for name in ("WORLD_SIZE", "RANK")}
        raise ValueError(f"the environment variables WORLD_SIZE and RANK must be integers; they are {names}") from None
    return (rank, size) if size > 1 else (0, 1)


def _require_launched(*further: str) -> None:
    """ValueError unless the environment says all that processes need to find each other, and further variables."""
    rank, size = launched()
    names = ("RANK", *further, "MASTER_ADDR", "MASTER_PORT")
    if lacking := [name for name in names if name not in os.environ]:
        raise ValueError(
            f"the environment variable WORLD_SIZE says that {size} processes were launched together, but not "
            f"{', '.join(lacking)}: start them with torchrun, or unset WORLD_SIZE to work alone"
        )
    if not 0 <= rank < size:
        raise ValueError(f"the environment variable RANK must lie in 0..{size - 1}, by WORLD_SIZE; it is {rank}")


@lru_cache(maxsize=1)
def _main_memory(everyone: dist.ProcessGroup | None) -> dist.ProcessGroup:
    """A group of all processes for tensors that lie on no GPU, made once for each start of `torch.distributed`."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo")
    return group


@contextmanager
def joined(device: str | torch.device | None = None) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, if it did, and leave them at the end; yields this one's device.

    With several processes each takes a GPU of its own, or the CPU where there is none.

    Raises
    ------
    ValueError
        If the device is not available, or several processes are given one GPU or a device that they cannot speak over.

    Examples
    --------
    >>> with joined("cpu") as device:
    ...     device
    device(type='cpu')
    """
    if launched() == (0, 1) or dist.is_initialized():
        yield choose_device(device)
        return
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if str(device).startswith("cuda:"):
        raise ValueError(f"several processes take a GPU each; the device is {device}, and must be cuda")
    if str(device) == "cuda":  # before any GPU is touched, so that none has the others' contexts
        _require_launched("LOCAL_RANK")
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    device = choose_device(device)
    if device.type not in ("cuda", "cpu"):
        raise ValueError(f"several processes must compute on cuda or cpu; the device is {device}")
    _require_launched()
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield device
    dist.destroy_process_group()  # not after an error: it could wait for processes that wait for this one
