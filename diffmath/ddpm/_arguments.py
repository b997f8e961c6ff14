"""Argument checks that need torch; see `diffmath._arguments` for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffmath._arguments import real_array, require_callable, require_count
from diffmath.schedule import VarianceSchedule

__all__ = [
    "Seed",
    "as_floating",
    "as_generator",
    "as_tensor",
    "check_prediction",
    "require_finite",
    "require_model",
    "require_one_each",
    "require_process",
    "require_trained_size",
]

Seed = torch.Generator | int
"""A source of randomness: a generator, or the integer that seeds a new one."""


def as_generator(
    generator: Seed | None, device: str | torch.device = "cpu", name: str = "generator"
) -> torch.Generator:
    """The given generator; a new one on the device from an integer seed, 0 included; one seeded at random for None."""
    if isinstance(generator, torch.Generator):
        return generator
    new = torch.Generator(device)
    if generator is None:
        new.seed()
        return new
    try:
        return new.manual_seed(require_count(name, generator, 0, 2**64 - 1))
    except TypeError:
        raise TypeError(f"{name} must be a torch.Generator or an integer seed; it is {generator!r}") from None


def as_tensor(values: Any, name: str) -> Tensor:
    """Values as a tensor: tensors as they are, else numpy arrays, xarray's and lists of numbers; not masked ones."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, (str, bytes)) or values is None:
        raise TypeError(f"{name} must be a tensor or an array; it is {values!r}")
    array = real_array(values, name)
    if not isinstance(values, (list, tuple)) and np.asarray(values).dtype.kind in "iu":
        array = np.asarray(values)  # an array's integers are meant, a list's may be numbers without a point
    return torch.from_numpy(array.astype(np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")))


def as_floating(values: Any, name: str, least: int = 1, ndim: int = 1) -> Tensor:
    """Values as a finite, floating tensor of shape (N, ...) with enough samples N and at least so many axes."""
    tensor = as_tensor(values, name)
    if not tensor.is_floating_point():
        hint = ": images of 0..255 become images / 127.5 - 1" if tensor.dtype == torch.uint8 else ""
        raise TypeError(f"{name} must be a floating tensor; it is {tensor.dtype}{hint}")
    if tensor.ndim < ndim or len(tensor) < least or tensor.numel() == 0:
        raise ValueError(f"{name} must have shape (N, ...) with N >= {least}; its shape is {tuple(tensor.shape)}")
    require_finite(tensor, name)
    return tensor


def require_finite(tensor: Tensor, name: str) -> None:
    """ValueError if an entry is NaN or infinite. It waits for the device."""
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} must be finite; it holds NaN or infinity")


def require_process(schedule: Any, kind: type = VarianceSchedule) -> None:
    """TypeError unless this is a schedule, or another kind of process: a model comes before it, not after."""
    if not isinstance(schedule, kind):
        raise TypeError(f"schedule must be a {kind.__name__}; it is a {type(schedule).__name__}")


def require_model(model: Any, name: str = "model") -> None:
    """TypeError unless this can be called as ``model(x_t, t)``."""
    require_callable(name, model, f"{name}(x_t, t)")


def require_one_each(name: str, values: Any, n: int) -> Tensor:
    """What a user's function of that name returned, once it is known to be a tensor of one number for each image."""
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} must return a tensor; it returned a {type(values).__name__}")
    if values.shape != (n,):
        raise ValueError(
            f"{name} must return one number for each of the {n} images; its shape is {tuple(values.shape)}"
        )
    return values


def require_trained_size(name: str, images: Tensor, model: Any) -> None:
    """ValueError unless images have the shape that a model has, if it has one."""
    shape = getattr(model, "image_shape", None)
    if shape is not None and images.shape[1:] != tuple(shape):
        raise ValueError(
            f"{name} must have shape (N, {', '.join(map(str, shape))}), that of the images which the model was "
            f"trained for; its shape is {tuple(images.shape)}. A function (x, t) -> model(x, t) has no such shape."
        )


def check_prediction(eps: Any, x: Tensor, *, shape: tuple[int, ...] | None = None, finite: bool = False) -> Tensor:
    """What a model returned for x, checked: a floating tensor of x's shape, or of another that is asked for.

    Whether it is finite is looked at only if asked for, at a walk's first and last call say: it waits for the device.
    """
    if not isinstance(eps, Tensor):
        raise TypeError(f"the model must return a tensor; it gave {type(eps).__name__}")
    if tuple(eps.shape) != (shape := tuple(x.shape if shape is None else shape)):
        raise ValueError(f"the model must return the shape {shape}; it gave {tuple(eps.shape)}")
    if not eps.is_floating_point():
        raise TypeError(f"the model must return floating numbers; it gave {eps.dtype}")
    if finite and not torch.isfinite(eps).all():
        raise ValueError("the model's predictions led to NaN or infinity, the first of them already")
    return eps
