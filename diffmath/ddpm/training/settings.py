"""The arguments of a training: their checks, and the settings that a resumed run must share with the run before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffmath._arguments import require_callable, require_count, require_number, require_pixels
from diffmath.ddpm._arguments import as_floating, as_tensor
from diffmath.process import Process

__all__ = ["ADDED_LATER", "CHANGEABLE", "as_images", "decays_of", "learning_rate", "minutes_of", "settings_of"]

CHANGEABLE = {
    "average_decay", "betas", "decay", "frozen", "learning_rate", "loss", "n_steps", "seed", "warm_up"
}  # fmt: skip
"""The settings that a resumed run may change: those on which the count of images and epochs does not depend."""

ADDED_LATER: dict[str, Any] = {
    "warm_up": 0,
    "initial_weights": None,
    "frozen": [],
    "loss": "squared_error",
    "decay": 0.0,
    "n_steps": None,
}
"""The settings that older checkpoints do not have, with what they stand for there."""


def settings_of(
    model: nn.Module,
    schedule: Process,
    images: Tensor,
    n_steps: int,
    loss: Callable[..., Any],
    started_from: Mapping[str, Any] | None,
    **numbers: Any,
) -> dict[str, Any]:
    """The settings of a run, all of which JSON can hold; TypeError or ValueError if one is out of range."""
    require_callable("loss", loss, "loss(model, process, x_0, eps, t)")
    rate, betas = require_number("learning_rate", numbers["learning_rate"]), _pair_of("betas", numbers["betas"])
    if not 0 < rate < float("inf"):
        raise ValueError(f"learning_rate must be positive; it is {rate}")
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        raise ValueError(f"betas must be two numbers in [0, 1); they are {betas}")
    given = numbers["average_decay"]
    several = [require_number("average_decay", d) for d in (given if isinstance(given, (list, tuple)) else [given])]
    if not several or not all(0 <= d < 1 for d in several) or len(set(several)) < len(several):
        raise ValueError(f"average_decay must lie in [0, 1), or be different numbers that do; it is {given}")
    decay = require_number("decay", numbers["decay"])
    if not 0 <= decay <= 1:
        raise ValueError(f"decay, a share of the steps, must lie in [0, 1]; it is {decay}")
    settings = {
        "schedule": _digest_of_process(schedule),
        "images": _digest([images]),
        "batch_size": require_count("batch_size", numbers["batch_size"]),
        "learning_rate": rate,
        "betas": betas,
        "average_decay": several if len(several) > 1 else several[0],
        "seed": require_count("seed", numbers["seed"], 0),
        "log_every": require_count("log_every", numbers["log_every"]),
        "warm_up": require_count("warm_up", numbers["warm_up"], 0),
        "initial_weights": None,
        "frozen": [name for name, weight in model.named_parameters() if not weight.requires_grad],
        "loss": getattr(loss, "__qualname__", type(loss).__qualname__),
        "decay": decay,
        "n_steps": n_steps if decay else None,  # on which the learning rate depends then
    }
    if started_from is not None:
        _require_another_seed(started_from, settings)
        settings["initial_weights"] = _digest(model.parameters())
    return settings


def decays_of(settings: Mapping[str, Any]) -> list[float]:
    """The decays of the averages: older checkpoints, and those of one average, have a number."""
    decays = settings.get("average_decay", [])
    return list(decays) if isinstance(decays, (list, tuple)) else [decays]


def learning_rate(settings: Mapping[str, Any], step: int) -> float:
    """That of a step, 1 the first: rising in a warm-up, constant, and falling to 0 in the last steps if so wanted."""
    factor = min(1.0, step / settings["warm_up"]) if settings["warm_up"] else 1.0
    if settings["decay"]:
        n_falling = round(settings["decay"] * settings["n_steps"])
        factor = min(factor, max(0, settings["n_steps"] + 1 - step) / (n_falling + 1))
    return float(settings["learning_rate"] * factor)


def as_images(data: Any, model: nn.Module, name: str = "images") -> Tensor:
    """The training set in the dtype of the model's weights: finite, in [-1, 1] if it is of images, of its shape."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; it is a {type(model).__name__}")
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("the model must have a weight to train; it has none, or all of them are frozen")
    images: Tensor = as_tensor(data, name).detach()
    if images.is_floating_point() and images.ndim > 1 and not torch.isfinite(images).all():
        i = int((~torch.isfinite(images.flatten(1))).any(1).int().argmax())
        raise ValueError(f"{name} must be finite; {name}[{i}] is not")
    images = as_floating(images, name, ndim=2)
    require_pixels(images, name)
    shape = getattr(model, "image_shape", None)
    if shape is not None and images.shape[1:] != tuple(shape):
        raise ValueError(
            f"{name} must have the shape that the model is for, {tuple(shape)}; their shape is "
            f"{tuple(images.shape[1:])}: resize them, or make the model for them (UNet(image_size=...))"
        )
    weight = next(model.parameters())
    return images.to(weight.dtype)


def minutes_of(name: str, value: Any) -> float:
    """A time that is not negative."""
    minutes = require_number(name, value)
    if not minutes >= 0:
        raise ValueError(f"{name} must not be negative; it is {minutes}")
    return minutes


def _pair_of(name: str, values: Any) -> list[float]:
    """Two numbers, whose range the caller looks at."""
    try:
        pair = list(values)
    except TypeError:
        raise TypeError(f"{name} must be two numbers; they are {values!r}") from None
    return [require_number(f"each of {name}", value) for value in pair]


def _digest_of_process(process: Process) -> str:
    """What tells one process from another: its arrays; of a schedule beta with its entry 0, as always."""
    arrays = [process.beta] if hasattr(process, "beta") else process.arrays().values()
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def _digest(tensors: Iterable[Tensor]) -> str:
    """What tells one training set, or one network, from another."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _require_another_seed(before: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> None:
    """That no training before saw the same minibatches."""
    while before is not None:
        known = before.get("settings") or {}
        if all(known.get(name) == settings[name] for name in ("images", "batch_size", "seed")):
            raise ValueError(
                f"seed must not be that of a training before on the same images, whose minibatches would come again; "
                f"it is {settings['seed']} for both"
            )
        before = before.get("started_from")
