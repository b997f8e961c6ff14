"""The doors of the package: its public functions, their parameters, and the bad values that each has to refuse.

``python -m tests.doors`` prints them with what became of each bad value. What is public, and the kind of every
parameter, is read from the package; only a valid value for each parameter's name is written here.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import meshio
import numpy as np
import skfem
import torch

import diffmath
from diffmath import ddpm
from diffmath.data import load_mnist
from diffmath.ddpm import metrics
from diffmath.domains import Mask
from diffmath.gaussian import Gaussian
from diffmath.pde import Box, RenormalizedFlow
from diffmath.schedule import VarianceSchedule

ROOMS = [name for name in diffmath.__all__ if inspect.ismodule(getattr(diffmath, name))]
INTERNAL = {"Check", "verification.check", "Interrupted"}  # what only the package itself calls

KINDS = (  # the first that an annotation matches
    ("seed", r"Seed|Generator"),
    ("object", r"Dataset"),
    ("film", r"FuncAnimation"),
    ("function", r"^Callable|Denoiser|Decoder|Loss|Predictor"),
    ("mapping", r"^Mapping|^dict"),
    ("record", r"\bResult\b|\bCheck\b|Evaluation|Sheet"),
    ("array", r"Tensor|ArrayLike|NDArray|Floats|DataArray|Array"),
    ("time", r"Times"),
    ("mode", r"Mode\b"),
    ("path", r"Path"),
    ("object", r"Dataset|Schedule|Process|Module|Classifier|Box|Eigenbasis|Flow|Dataset|Gaussian|Mesh"),
    ("sequence", r"Sequence|tuple|Iterable"),
    ("choice", r"Literal|Preserve|Method|Mean|Split|str|dtype"),
    ("flag", r"bool"),
    ("count", r"\bint\b"),
    ("complex", r"\bcomplex\b"),
    ("number", r"\bfloat\b"),
)


def _like(value: Any, change: Callable[[Any], Any]) -> Any:
    return change(np.array(value.numpy() if hasattr(value, "numpy") else value, dtype=float))


def _with_nan(array: Any) -> Any:
    array.flat[-1] = np.nan
    return array


def _masked(array: Any) -> Any:
    mask = np.zeros(array.shape, dtype=bool)
    mask.flat[-1] = True
    return np.ma.array(array, mask=mask)


BAD: dict[str, dict[str, Callable[[Any], Any]]] = {
    "seed": {"True": lambda _: True, "0.0": lambda _: 0.0, '"0"': lambda _: "0", "-1": lambda _: -1},
    "array": {
        "masked": lambda value: _like(value, _masked),
        "NaN": lambda value: _like(value, _with_nan),
        "complex": lambda value: _like(value, lambda array: array + 1j),
        "text": lambda _: "text",
        "objects": lambda _: [object()],
    },
    "time": {
        "1.5": lambda _: 1.5,
        "-1": lambda _: -1,
        "NaN": lambda _: np.nan,
        '"1"': lambda _: "1",
        "True": lambda _: True,
    },
    "mode": {
        "1.5": lambda _: 1.5,
        "-1": lambda _: -1,
        '"1"': lambda _: "1",
        "True": lambda _: True,
        "NaN": lambda _: np.nan,
    },
    "path": {"3": lambda _: 3, "[]": lambda _: []},
    "object": {"3": lambda _: 3, "text": lambda _: "text"},
    "function": {"3": lambda _: 3},
    "mapping": {"3": lambda _: 3, "text": lambda _: "text"},
    "sequence": {"text": lambda _: "text", "objects": lambda _: [object()], "NaN": lambda _: [np.nan]},
    "choice": {"nonsense": lambda _: "nonsense", "3": lambda _: 3},
    "flag": {},
    "film": {},
    "record": {},
    "count": {
        "True": lambda _: True,
        "2.5": lambda _: 2.5,
        '"2"': lambda _: "2",
        "-1": lambda _: -1,
        "[2]": lambda _: [2],
        "NaN": lambda _: np.nan,
    },
    "number": {
        '"1"': lambda _: "1",
        "1j": lambda _: 1j,
        "[1.0]": lambda _: [1.0],
        "NaN": lambda _: np.nan,
        "masked": lambda _: np.ma.array(1.0, mask=True),
    },
}
BAD["complex"] = {name: bad for name, bad in BAD["number"].items() if name != "1j"}


class Door(NamedTuple):
    """A parameter of a public function."""

    function: str
    parameter: str
    kind: str


class Function(NamedTuple):
    """A public function, or the method of an object."""

    call: Callable[..., Any]
    parameters: dict[str, inspect.Parameter]


@cache
def functions() -> dict[str, Function]:
    """The public functions, the constructors of classes, and their methods, by name."""
    found = {}
    for module in (import_module(f"diffmath.{name}") for name in ROOMS):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                found[f"{module.__name__.removeprefix('diffmath.')}.{name}"] = thing
            elif inspect.isclass(thing) and _is_made_by_users(thing):
                found[name] = thing
                own = instances().get(name, thing)
                for attribute in dir(thing):
                    method = getattr(own, attribute, None)
                    home = getattr(method, "__module__", None) or ""
                    if not attribute.startswith("_") and inspect.ismethod(method) and home.startswith("diffmath"):
                        found[f"{name}.{attribute}"] = method
    return {name: Function(call, _parameters(call)) for name, call in found.items() if name not in INTERNAL}


def _is_made_by_users(thing: type) -> bool:
    """Whether a class is no record that functions return, no error and no protocol."""
    return not issubclass(thing, (tuple, Exception)) and not inspect.isabstract(thing) and "__init__" in vars(thing)


def _parameters(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)
    return {n: p for n, p in inspect.signature(call).parameters.items() if p.kind in named}


def doors() -> Iterator[Door]:
    """Every parameter of every public function, with the kind that its annotation says."""
    for name, function in functions().items():
        for parameter in function.parameters.values():
            annotation = str(parameter.annotation)
            if annotation == "Any":
                annotation = "Process" if parameter.name == "process" else "ArrayLike"
            kind = next((kind for kind, pattern in KINDS if re.search(pattern, annotation)), "unknown")
            yield Door(name, parameter.name, kind)


@cache
def instances() -> dict[str, Any]:
    """Objects whose methods are tried."""
    domain = Box(8)
    return {
        "VarianceSchedule": VarianceSchedule.linear(4),
        "Gaussian": Gaussian([0.0, 1.0], 1.0),
        "Box": domain,
        "Mask": Mask(np.ones(8, dtype=bool)),
        "RenormalizedFlow": RenormalizedFlow(domain),
    }


@cache
def examples() -> dict[str, Any]:
    """A valid value for each parameter's name, or for that of one function."""
    rng = np.random.default_rng(0)
    schedule, domain = instances()["VarianceSchedule"], instances()["Box"]
    digits = torch.from_numpy(rng.uniform(-1, 1, (120, 1, 32, 32)).astype(np.float32))
    ds = RenormalizedFlow(domain).solve(domain.eigenfunction(2), [0.0, 0.1])
    evaluation = metrics.Evaluation(*[None] * len(metrics.Evaluation._fields))  # type: ignore[arg-type]
    network, classifier = ddpm.UNet(32, 1, 8), ddpm.Classifier().eval()
    directory = Path(tempfile.mkdtemp())
    pixels, idx = directory / "pixels.npy", directory / "idx"
    triangles = directory / "triangles.vtk"
    meshio.Mesh(np.eye(3), [("triangle", np.array([[0, 1, 2]]))]).write(triangles)
    np.save(pixels, np.zeros((2, 8, 8), dtype=np.uint8))
    idx.write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 1, 7)))
    return {
        "classifier": classifier,
        "schedule": schedule,
        "process": schedule,
        "domain": domain,
        "flow": instances()["RenormalizedFlow"],
        "ds": ds,
        "model": ddpm.gaussian_denoiser(schedule, 0.0, 1.0),
        "network": network,
        "n_steps": 2,
        "n_samples": 2,
        "n_times": 2,
        "n_repeats": 1,
        "n_epochs": 1,
        "n_examples": 1,
        "n": 2,
        "batch_size": 2,
        "size": 8,
        "columns": 3,
        "images": digits,
        "reference": digits,
        "training": digits[:20],
        "samples": digits.flatten(1)[:, :3],
        "digits": np.arange(10),
        "confidences": np.linspace(0, 1, 5),
        "confidence": np.linspace(0, 1, 5),
        "labels": torch.arange(120) % 10,
        "times": [0.0, 0.1],
        "u_0": domain.eigenfunction(2),
        "u": domain.eigenfunction(2),
        "c": domain.to_modes(domain.eigenfunction(2)),
        "k": 2,
        "j": 1,
        "t": 2,
        "s": 1,
        "x": np.array([0.5, 1.0]),
        "y": np.array([0.5, 1.0]),
        "x_0": np.ones((2, 3)),
        "x_t": np.ones((2, 3)),
        "x_s": np.ones((2, 3)),
        "z": np.ones((2, 3)),
        "x_T": torch.zeros(2, 3),
        "eps": np.ones((2, 3)),
        "mean": np.array([0.0, 1.0]),
        "means": torch.zeros(2, 3),
        "points": torch.zeros(2, 3),
        "variance": 1.0,
        "variances": 1.0,
        "covariance": torch.eye(2),
        "weights": torch.ones(2),
        "mean_1": np.zeros(2),
        "mean_2": np.zeros(2),
        "cov_1": np.eye(2),
        "cov_2": np.eye(2),
        "data": digits,
        "beta": [0.1, 0.2],
        "other": Gaussian([0.0, 1.0], 2.0),
        "scale": 2,
        "shift": 0.5,
        "shape": 8,
        "M": np.ones(3),
        "mesh": skfem.MeshTri(),
        "Mesh.polygon.points": [(0, 0), (1, 0), (0, 1)],
        "holes": [[(0.2, 0.2), (0.4, 0.2), (0.2, 0.4)]],
        "Mesh.read.path": triangles,
        "K": np.diag([1.0, 2.0, 3.0]),
        "mask": np.ones(8, dtype=bool),
        "lengths": (1.0,),
        "rng": 0,
        "generator": 0,
        "split": "sample",
        "source": "sample",
        "expression": "w2 + w3",
        "evaluation": evaluation,
        "evaluations": {"samples": evaluation},
        "description": None,
        "metadata": {},
        "progress": False,
        "label": "(1)",
        "claim": "a claim",
        "code": (),
        "Check.method": "property",
        "verification.check.method": "property",
        "tolerance": 1e-6,
        "example": lambda rng: None,
        "film": None,
        "mu": domain.eigenvalues[1:],
        "results": [],
        "f": lambda mu: np.exp(-mu),
        "dt": 0.1,
        "path": directory / "doors.safetensors",
        "data.load_images.path": pixels,
        "data.read_idx.path": idx,
        "ddpm.squared_error.x_0": torch.ones(2, 3),
        "ddpm.squared_error.eps": torch.ones(2, 3),
        "ddpm.squared_error.t": torch.tensor([1, 2]),
        "ddpm.gaussian_decoder.x_0": torch.ones(2, 3),
        "ddpm.pixel_decoder.x_0": torch.ones(2, 3),
        "ddpm.load_checkpoint.path": None,
        "ddpm.load_checkpoint.model": None,
        "data.tile.images": digits[:6],
        "data.save_sheet.images": digits[:6],
        "data.save_sheet.path": directory / "doors.png",
        "data.to_tensor.images": load_mnist("sample").images[:2],
        "ddpm.train.model": network,
        "ddpm.train.images": digits[:4, :, :8, :8],
        "ddpm.save_checkpoint.model": network,
        "ddpm.training_cost.model": network,
        "ddpm.training_cost.images": digits[:4, :, :8, :8],
        "ddpm.forward_flop.model": network,
        "ddpm.forward_flop.shape": (1, 8, 8),
        "ddpm.train_classifier.images": digits[:4],
        "ddpm.train_classifier.labels": torch.arange(4),
        "ddpm.variational_bound.images": torch.ones(2, 3),
        "ddpm.pixel_decoder.mean": torch.ones(2, 3),
        "ddpm.gaussian_decoder.mean": torch.ones(2, 3),
        "ddpm.metrics.frechet_extrapolated.reference": digits.flatten(1)[:, :3],
        "ddpm.metrics.kernel_distance.reference": digits.flatten(1)[:, :3],
        "ddpm.metrics.precision_recall_density_coverage.reference": digits.flatten(1)[:, :3],
        "ddpm.metrics.class_balance.reference": np.arange(10),
        "UNet.for_images.shape": (1, 8, 8),
        "ddpm.guided.reference": network,
        "RenormalizedFlow.solve.mean": "project",
        "RenormalizedFlow.solve_modes.mean": "project",
        "RenormalizedFlow.evolve.mean": "project",
    }


def example(function: str, parameter: inspect.Parameter) -> Any:
    """A valid value for a parameter, LookupError if none is known."""
    for name in (f"{function}.{parameter.name}", parameter.name):
        if name in examples():
            return examples()[name]
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    raise LookupError(f"tests/doors.py has no example of {function}'s parameter {parameter.name}")


CHEAP = {
    "n_steps",
    "n_epochs",
    "n_repeats",
    "batch_size",
    "n_samples",
    "n_examples",
    "variance",
    "progress",
}  # given though they have defaults


def arguments(function: str) -> dict[str, Any]:
    """A minimal valid call."""
    parameters = functions()[function].parameters.values()
    return {p.name: example(function, p) for p in parameters if p.default is inspect.Parameter.empty or p.name in CHEAP}


class Outcome(NamedTuple):
    """What became of a bad value: "refused", "silent" or "raw", and the error."""

    verdict: str
    said: str


def attempt(door: Door, bad: str) -> Outcome:
    """Call a function with one bad value among valid ones."""
    function = functions()[door.function]
    parameter = function.parameters[door.parameter]
    given = arguments(door.function)
    value = BAD[door.kind][bad](example(door.function, parameter))
    positional = [
        value if p.name == door.parameter else given[p.name]
        for p in function.parameters.values()
        if p.kind is inspect.Parameter.POSITIONAL_ONLY
    ]
    named = {n: v for n, v in given.items() if function.parameters[n].kind is not inspect.Parameter.POSITIONAL_ONLY}
    if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
        named[door.parameter] = value
    own = door.function.rpartition(".")[2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function.call(*positional, **named)
            if isinstance(result, AbstractContextManager):
                with result:
                    pass
    except (ValueError, TypeError, OSError, ddpm.CheckpointError, diffmath.data.DataError) as error:
        words = (door.parameter, own, "mode numbers?") if door.kind == "mode" else (door.parameter, own)
        named_in = re.search(rf"\b({'|'.join(words)})\b", str(error))
        return Outcome("refused" if named_in else "raw", f"{type(error).__name__}: {error}")
    except Exception as error:
        return Outcome("raw", f"{type(error).__name__}: {error}")
    if door.kind == "array" and _carries(result, bad):
        return Outcome("carried", "")
    return Outcome("silent", "")


def _carries(result: Any, bad: str) -> bool:
    """Whether NaN or complex numbers that came in are in the result, as they are in that of a linear map."""
    if isinstance(result, (tuple, list)):
        return any(_carries(part, bad) for part in result)
    if isinstance(result, Gaussian):
        return _carries((result.mean, result.variance), bad)
    numbers = np.asarray(result.detach() if hasattr(result, "detach") else result)
    if bad == "complex":
        return numbers.dtype.kind == "c"
    return bad == "NaN" and numbers.dtype.kind == "f" and bool(np.isnan(numbers).any())


def main() -> None:
    """Print the doors, and what became of each bad value."""
    wanted = sys.argv[1:]
    for door in doors():
        if wanted and not any(word in door.function for word in wanted):
            continue
        outcomes = {bad: attempt(door, bad) for bad in BAD.get(door.kind, {})}
        print(f"{door.function}({door.parameter}): {door.kind}")
        for bad, outcome in outcomes.items():
            first = (outcome.said.splitlines() or [""])[0]
            print(f"    {outcome.verdict:8} {bad:8} {first[:150]}")


if __name__ == "__main__":
    main()
