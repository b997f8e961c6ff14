"""Where the network runs, and in which precision it is quick there."""

from __future__ import annotations

import torch

__all__ = ["autocast_dtype", "choose_device", "describe"]


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The given device, else the best of this machine: CUDA, then Apple's MPS, then the CPU."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device has instructions for it, else None: no autocast."""
    if device.type == "cuda":
        good = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        good = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.bfloat16 if good else None


def describe(device: torch.device) -> str:
    """A name for records: the card, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU ({torch.cpu.get_capabilities().get('cpu_name', 'unknown')}, {torch.get_num_threads()} threads)"
    return device.type
