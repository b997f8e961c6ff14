"""Checkpoints: a network, its schedule and how it was trained, in one safetensors file that runs no code.

A checkpoint holds the tensors ``model.*``, the weights to sample from, and ``schedule.beta`` in float64; its metadata
are one JSON document: the format and its version, the network's configuration, the record of the training, and the
SHA-256 digest of these and of all tensors, so that no flipped bit goes unseen.
A checkpoint that `diffmath.ddpm.train` writes on its way also holds ``training.*``, what is needed to go on.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from diffmath._files import replacing
from diffmath.ddpm._environment import choose_device, memory_format
from diffmath.ddpm.unet import UNet
from diffmath.schedule import VarianceSchedule

__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]

FORMAT, VERSION, DIGEST = "diffmath.checkpoint", 2, "sha256"
SHIPPED = ("compact", "paper")  # the first unless told otherwise


class CheckpointError(RuntimeError):
    """A file that is no checkpoint, or not one that this version can read; says which file and why."""


class Checkpoint(NamedTuple):
    """What `load_checkpoint` returns.

    Attributes
    ----------
    model : UNet
        The network, float32, in evaluation mode, on the requested device.
    schedule : VarianceSchedule
        The schedule it was trained with.
    metadata : dict
        How it was trained: data, network, images seen, steps, seconds, losses; device, precision, versions, commit and
        date; under "settings" batch size, learning rate, seed and the like; if the run was resumed, under "resumed"
        the parts before; if it started from a trained network, under "started_from" the whole record of that one.
    """

    model: UNet
    schedule: VarianceSchedule
    metadata: dict[str, Any]


def load_checkpoint(
    path: str | os.PathLike[str] | None = None, *, device: str | torch.device | None = None
) -> Checkpoint:
    """Load a trained network.

    Parameters
    ----------
    path : path or str, optional
        A file of `save_checkpoint` or `train`, or the name of a network shipped with the package: "compact", which it
        is unless given, or "paper", the paper's own, four times as large.
    device : str or torch.device, optional
        Where to put the network; the CPU unless given.

    Returns
    -------
    Checkpoint
        ``model``, ``schedule`` and ``metadata``.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign, from a newer format, or its tensors do not fit its network.
    ValueError
        If the device is not available.
    """
    place = choose_device(device or "cpu")
    if path is None or path in SHIPPED:
        with as_file(files("diffmath.ddpm") / "weights" / f"{path or SHIPPED[0]}.safetensors") as shipped:
            return load_checkpoint(shipped, device=place)
    tensors, header = read_tensors(path)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("training.")}
    try:
        with torch.device("meta"):  # no memory until the file is known to fit
            model = UNet(**header["architecture"]["config"])
        schedule = VarianceSchedule(tensors.pop("schedule.beta").numpy())
        weights = {name.removeprefix("model."): t.float() for name, t in tensors.items()}
        require_fit(weights, model)
        model.load_state_dict(weights, assign=True)
    except KeyError as error:
        raise CheckpointError(f"{path} does not hold the network that it announces: it has no {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold the network that it announces: {error}") from error
    model = model.to(place).to(memory_format=memory_format(place))  # type: ignore[call-overload]
    return Checkpoint(model.eval(), schedule, header["metadata"])


def save_checkpoint(
    path: str | os.PathLike[str],
    model: UNet,
    schedule: VarianceSchedule,
    metadata: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype | None = None,
    training: Mapping[str, Tensor] | None = None,
) -> None:
    """Save a network with its schedule and the record of its training, atomically.

    Parameters
    ----------
    path : path
        The safetensors file to write; what was there is replaced only when the new file is complete.
    model : UNet
    schedule : VarianceSchedule
    metadata : mapping, optional
        Anything that JSON can hold.
    dtype : torch.dtype, optional
        The precision to store the weights in, such as ``torch.float16``; theirs unless given.
    training : mapping of str to Tensor, optional
        Further tensors, saved under ``training.``, for going on with the training.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite (also after conversion to ``dtype``): such a file would never be of use.
    TypeError
        If the model is no `UNet` (compiled or not), or JSON cannot hold the metadata.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if type(model) is not UNet:  # another class could compute something else from the same weights
        raise TypeError(f"only a UNet can be saved; the model is a {type(model).__name__}")
    weights = {name: t.detach().to("cpu", dtype).contiguous() for name, t in model.state_dict().items()}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"the weights must be finite in {tensor.dtype}; {name} is not")
    tensors = {f"model.{name}": t for name, t in weights.items()}
    tensors["schedule.beta"] = torch.tensor(schedule.beta[1:])
    for name, tensor in (training or {}).items():
        tensors[f"training.{name}"] = tensor.detach().cpu().contiguous()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": {"name": type(model).__name__, "config": model.config},
        "metadata": dict(metadata or {}),
    }
    content = _pack(header, tensors)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_json(metadata: Mapping[str, Any]) -> str:
    """As JSON; raises TypeError if there is no JSON for it."""
    try:
        return json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the metadata must be what JSON can hold: {error}") from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the header of a checkpoint file; raises CheckpointError."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, file.metadata() or {})
            # Copies: what get_tensor returns changes with the file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is no complete safetensors file: {error}") from error
    try:
        intact = header.pop(DIGEST, None) == _digest(header, tensors)
    except TypeError as error:  # nested too deeply to be written again
        raise CheckpointError(f"{path} has a damaged header: {error}") from error
    if not intact:
        raise CheckpointError(f"{path} is damaged: its content has not the digest that it had when it was written")
    return tensors, header


def _pack(header: Mapping[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """The content of a checkpoint file."""
    return save(tensors, metadata={FORMAT: to_json({**header, DIGEST: _digest(header, tensors)})})


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Of a header, and of the tensors' names, types, shapes and bytes."""
    digest = hashlib.sha256(to_json(header).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_fit(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise a ValueError that names the first tensor that is missing, of another shape, too many or not finite."""
    expected = model.state_dict()
    for name in expected:
        if name not in weights:
            raise ValueError(f"the tensor {name} is missing")
        if weights[name].shape != expected[name].shape:
            shapes = tuple(expected[name].shape), tuple(weights[name].shape)
            raise ValueError(f"the tensor {name} must have shape {shapes[0]}; its shape is {shapes[1]}")
        if not torch.isfinite(weights[name]).all():
            raise ValueError(f"the tensor {name} must be finite; it holds NaN or infinity")
    if unknown := sorted(weights.keys() - expected.keys()):
        raise ValueError(f"the tensor {unknown[0]} belongs to no such network")


def _header(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but no checkpoint of diffmath: it has no {FORMAT!r} entry"
        )
    try:
        header = json.loads(metadata[FORMAT], parse_constant=_refuse, parse_float=_finite)
        version = header["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged header: {error!r}") from error
    if version != VERSION:  # of which nothing else is known
        raise CheckpointError(f"{path} has format version {version}; this version of diffmath reads {VERSION}")
    try:
        architecture = header["architecture"]["name"]
        header["architecture"]["config"]
        if not isinstance(header["metadata"], dict):
            raise TypeError(f"its metadata are a {type(header['metadata']).__name__}, not a dict")
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has a damaged header: {error!r}") from error
    if architecture != UNet.__name__:
        raise CheckpointError(f"{path} holds a {architecture}; this version of diffmath knows {UNet.__name__}")
    result: dict[str, Any] = header
    return result


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond the range of a float")
    return number
