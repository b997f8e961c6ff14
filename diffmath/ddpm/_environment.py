"""Where the network runs, in which precision it is quick there, and what a record of a training says of it."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from diffmath import __version__

__all__ = ["autocast_dtype", "choose_device", "memory_format", "peak_memory", "provenance"]


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The given device, else the best of this machine: CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ValueError
        If the device is unknown or not available here.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    if device is None:
        if torch.cuda.is_available():  # pragma: no cover (needs a GPU)
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"the device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device has instructions for it, else None: no autocast."""
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        good = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        good = device.type == "cpu" and bool(_cpu().get("avx512_bf16"))
    return torch.bfloat16 if good else None


def _cpu() -> dict[str, Any]:
    """What torch knows of the processor; versions without ``torch.cpu.get_capabilities`` know nothing."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())


def memory_format(device: torch.device) -> torch.memory_format:
    """The order of a convolution's numbers in memory: channels last on CUDA, as its tensor cores take them.

    On a CPU convolutions gain a tenth by it, but group normalisation loses more: backwards it takes 13 times as long.
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def peak_memory(device: torch.device) -> int | None:
    """Bytes: the most that was allocated on CUDA, elsewhere the most that this process had in main memory, ever.

    None where the system does not tell.
    """
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):  # on Linux, where getrusage counts what the process's parent had too
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    try:  # pragma: no cover (not on Linux)
        import resource
    except ImportError:  # pragma: no cover (Windows)
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # pragma: no cover (bytes on macOS)


def provenance(device: torch.device) -> dict[str, str | None]:
    """The device, the versions of torch and diffmath, the commit of the code and the date, for the record."""
    return {
        "device": _describe(device),
        "torch": torch.__version__,
        "diffmath": __version__,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _describe(device: torch.device) -> str:
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU ({_cpu().get('cpu_name', 'unknown')}, {torch.get_num_threads()} threads)"
    return device.type  # pragma: no cover (needs a GPU)


def _commit() -> str | None:
    """The commit of the code, if it runs from its own git checkout; "-dirty" if that was changed."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        here = Path(__file__)
        return subprocess.run(command, cwd=here.parent, capture_output=True, text=True, timeout=10, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else a repository that this one merely lies in
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    except (OSError, subprocess.SubprocessError):
        return None
