"""Checkpoints: a network, its schedule and how it was trained, in one safetensors file that runs no code.

A checkpoint holds the tensors ``model.*``, the weights to sample from, and ``schedule.*``, the arrays of the process,
beta in float64 for a schedule. Its metadata are one JSON document: the format and its version, the network's class and
configuration, the class of a process that is no schedule, the record of the training,
and the SHA-256 digest of these and of all tensors, so that a flipped bit is noticed.
A checkpoint that `diffmath.ddpm.train` writes on its way also holds ``training.*``, the state to resume from.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from diffmath._arguments import require_instance
from diffmath._files import as_path, replacing
from diffmath.ddpm._environment import choose_device, memory_format
from diffmath.ddpm.heat import HeatDenoiser
from diffmath.ddpm.mlp import MLP
from diffmath.ddpm.unet import UNet
from diffmath.heat import HeatProcess
from diffmath.process import Process
from diffmath.schedule import VarianceSchedule

__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"]

FORMAT, VERSION, DIGEST = "diffmath.checkpoint", 2, "sha256"
SHIPPED = ("compact", "paper", "heat")  # the first is the default
NETWORKS: dict[str, type[nn.Module]] = {
    "UNet": UNet,
    "MLP": MLP,
    "HeatDenoiser": HeatDenoiser,
}  # those that a file's configuration, and its process, are enough to build
PROCESSES: dict[str, Callable[[Mapping[str, Any]], Process]] = {
    "VarianceSchedule": lambda arrays: VarianceSchedule(arrays["beta"]),
    "HeatProcess": HeatProcess.from_arrays,
}  # how each is built from the arrays of a file
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class CheckpointError(RuntimeError):
    """A file that is no checkpoint, or not one that this version can read; says which file and why."""


class Checkpoint(NamedTuple):
    """What `load_checkpoint` returns.

    Attributes
    ----------
    model : torch.nn.Module
        The network in evaluation mode, on the requested device; float32 unless a model was given.
    schedule : Process
        The process it was trained with: a `VarianceSchedule`, or a `diffmath.heat.HeatProcess`.
    metadata : dict
        How it was trained: data, network, images seen, steps, seconds, losses; device, precision, versions, commit and
        date; under "settings" batch size, learning rate, seed and the like; if the run was resumed, under "resumed"
        the parts before; if it started from a trained network, under "started_from" the whole record of that one.
    """

    model: Any
    schedule: Any
    metadata: dict[str, Any]


def load_checkpoint(
    path: str | os.PathLike[str] | None = None,
    model: nn.Module | None = None,
    *,
    device: str | torch.device | None = None,
) -> Checkpoint:
    """Load a trained network.

    Parameters
    ----------
    path : path or str, optional
        A file of `save_checkpoint` or `train`, or the name of a network shipped with the package: "compact", the
        default, "paper", the paper's own, four times as large, or "heat", that of the heat model.
    model : torch.nn.Module, optional
        The network to fill with the file's weights, of the class and configuration that were saved. Required for
        classes that are not this package's: a file holds weights and no code.
    device : str or torch.device, optional
        Where to put the network; the CPU by default.

    Returns
    -------
    Checkpoint
        ``model``, ``schedule`` and ``metadata``.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, foreign, from a newer format, or its tensors do not fit the network, or if it
        needs ``model`` and none is given.
    ValueError
        If the device is not available.

    Examples
    --------
    >>> network, schedule, metadata = load_checkpoint("compact")
    >>> network.image_shape, schedule.n_steps
    ((1, 32, 32), 500)
    """
    device = choose_device("cpu" if device is None else device)
    name = SHIPPED[0] if path is None else str(as_path(path))
    if name in SHIPPED:
        with as_file(files("diffmath.ddpm") / "weights" / f"{name}.safetensors") as shipped:
            return _load(shipped, model, device)
    return _load(Path(name), model, device)


def _load(path: Path, model: nn.Module | None, device: torch.device) -> Checkpoint:
    tensors, header = read_tensors(path)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("training.")}
    given, name = model is not None, header["architecture"]["name"]
    if model is None and name not in NETWORKS:
        raise CheckpointError(
            f"{path} holds a {name}, and only its weights: give a network of this class to fill, "
            f"load_checkpoint(path, model={name.rpartition('.')[2]}(...))"
        )
    try:
        arrays = {n.removeprefix("schedule."): tensors.pop(n).numpy() for n in list(tensors) if n[:9] == "schedule."}
        schedule = PROCESSES[header.get("process", "VarianceSchedule")](arrays)
        if model is None:
            network = NETWORKS[name]
            if "process" in inspect.signature(network).parameters:
                network = partial(network, schedule)  # type: ignore[assignment]
            with torch.device("meta"):  # no memory until the file is known to fit
                model = network(**header["architecture"]["config"])
        else:
            require_architecture(header["architecture"], model)
        weights = {name.removeprefix("model."): t for name, t in tensors.items()}
        if not given:
            weights = {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}
        require_fit(weights, model)
        model.load_state_dict(weights, assign=not given)
    except KeyError as error:
        raise CheckpointError(f"{path} does not hold the network that it announces: it has no {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        what = "does not fit the model" if given else "does not hold the network that it announces"
        raise CheckpointError(f"{path} {what}: {error}") from error
    model = model.to(device).to(memory_format=memory_format(device))  # type: ignore[call-overload]
    return Checkpoint(model.eval(), schedule, header["metadata"])


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    schedule: Process,
    metadata: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype | None = None,
    training: Mapping[str, Tensor] | None = None,
) -> None:
    """Save a network with its schedule and the record of its training, atomically.

    Parameters
    ----------
    path : path
        The safetensors file to write; an existing file is replaced only when the new one is complete.
    model : torch.nn.Module
        Any network. Its state dict is saved, with the name of its class and its ``config``, if it has one.
    schedule : VarianceSchedule or HeatProcess
    metadata : mapping, optional
        Anything that JSON gives back equal: keys are strings; tuples come back as lists.
    dtype : torch.dtype, optional
        The precision to store floating weights in, such as ``torch.float16``; their own by default.
    training : mapping of str to Tensor, optional
        Further tensors, saved under ``training.``, for resuming the training.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite, or ``dtype`` is not one of float64, float32, bfloat16 and float16 or turns
        weights into infinities or a whole tensor into zeros.
    TypeError
        If the state dict has entries that are no tensors, or JSON cannot hold the metadata.

    Examples
    --------
    >>> import tempfile, torch
    >>> from diffmath.ddpm import UNet
    >>> from diffmath.schedule import VarianceSchedule
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = f"{directory}/network.safetensors"
    ...     save_checkpoint(path, UNet(32), VarianceSchedule.linear(), {"data": "none"}, dtype=torch.float16)
    ...     load_checkpoint(path).metadata
    {'data': 'none'}
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    require_instance("model", model, nn.Module)
    require_stored(schedule)
    for mapping, value in (("metadata", metadata), ("training", training)):
        require_instance(mapping, {} if value is None else value, Mapping)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}; it is {dtype}")
    tensors = {f"model.{name}": t for name, t in stored_weights(model, dtype).items()}
    tensors |= {f"schedule.{name}": torch.tensor(array) for name, array in schedule.arrays().items()}
    for name, tensor in (training or {}).items():
        tensors[f"training.{name}"] = tensor.detach().to("cpu", copy=True).contiguous()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": architecture(model),
        "metadata": dict(metadata or {}),
    }
    if (kind := type(schedule).__name__) != "VarianceSchedule":  # as files without the entry have
        header["process"] = kind
    to_json(metadata or {})  # by itself, so that an error names the entry
    content = _pack(header, tensors)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def require_stored(schedule: Any) -> None:
    """TypeError unless this is one of the processes that a file can hold."""
    if type(schedule).__name__ not in PROCESSES or not isinstance(schedule, Process):
        raise TypeError(f"schedule must be a {' or a '.join(PROCESSES)}; it is a {type(schedule).__name__}")


def stored_weights(model: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Copies of a network's weights on the CPU, in a precision; ValueError if they do not survive it."""
    weights = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"only a state dict of tensors can be saved; {name} is a {type(tensor).__name__}")
        kept_dtype = dtype if tensor.is_floating_point() else None
        kept = weights[name] = tensor.detach().to("cpu", kept_dtype, copy=True).contiguous()
        if not torch.isfinite(kept).all():
            raise ValueError(f"the weights must be finite in {kept.dtype}; {name} is not")
        if kept.dtype != tensor.dtype and tensor.any() and not kept.any():
            raise ValueError(f"the weights must not vanish in {kept.dtype}; all of {name} becomes zero")
    return weights


def architecture(model: nn.Module) -> dict[str, Any]:
    """What a file says of a network: the name of its class, and its configuration if it has one that JSON holds."""
    kind = type(model)
    name = kind.__qualname__
    if NETWORKS.get(name) is not kind:  # another class could compute something else from the same weights
        name = f"{kind.__module__}.{name}"
    config = getattr(model, "config", None)
    try:
        to_json({"config": config})
    except TypeError:
        config = None
    return {"name": name, "config": config}


def require_architecture(saved: Mapping[str, Any], model: nn.Module) -> None:
    """Raise a ValueError unless a network has the class and the configuration that a file states.

    A class may have moved to another module: only its own name counts, unless it is one of this package's.
    """
    own = architecture(model)
    if {saved["name"], own["name"]} & NETWORKS.keys():
        same = saved["name"] == own["name"]
    else:
        same = saved["name"].rpartition(".")[2] == own["name"].rpartition(".")[2]
    if not same:
        raise ValueError(f"its network is a {saved['name']}, not a {own['name']}")
    if saved["config"] != json.loads(json.dumps(own["config"])):
        raise ValueError(f"its network is {saved['config']}, not {own['config']}")


def to_json(metadata: Mapping[str, Any]) -> str:
    """The metadata as JSON; raises TypeError if JSON cannot hold them or would return something else."""
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
        if (back := json.loads(text)) != (sent := _with_lists(metadata)):
            differing = next((key for key in sent if sent[key] != back.get(key)), "")
            raise TypeError(f"{differing!r} would come back as something else; keys must be strings")
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the metadata must be what JSON can hold: {error}") from error
    return text


def _with_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_lists(each) for key, each in value.items()}
    return [_with_lists(each) for each in value] if isinstance(value, (list, tuple)) else value


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the header of a checkpoint file; raises CheckpointError."""
    if not Path(path).is_file():
        if Path(path).is_dir():
            raise CheckpointError(f"{path} is a directory; the network of a training is its model.safetensors")
        hint = "" if Path(path).suffix else f"; the shipped networks are {', '.join(map(repr, SHIPPED))}"
        raise CheckpointError(f"there is no file {path}{hint}")
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
    """The digest of a header, and of the names, types, shapes and bytes of the tensors."""
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
        header["architecture"]["config"]
        if not isinstance(header["architecture"]["name"], str):
            raise TypeError("the name of its network is no string")
        if not isinstance(header["metadata"], dict):
            raise TypeError(f"its metadata are a {type(header['metadata']).__name__}, not a dict")
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has a damaged header: {error!r}") from error
    result: dict[str, Any] = header
    return result


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond the range of a float")
    return number
