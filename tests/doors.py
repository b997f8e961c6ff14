"""The doors of the package: its public functions, their parameters, and the bad values that each has to refuse.

``python -m tests.doors`` prints them with what became of each bad value. What is public, and the kind of every
parameter, is read from the package; only valid values of parameters are written down, in `tests.door_examples`.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import diffmath
from diffmath.data import DataError
from diffmath.ddpm import CheckpointError
from diffmath.domains import Eigenbasis
from diffmath.gaussian import Gaussian
from tests.door_examples import examples

INTERNAL = "|".join(
    (
        r"Check|verification\.check|Interrupted|Scheme",
        r"(ddpm\.samplers|pde\.(dataset|restart|spectral|stochastic|truncated))\..*",
        r".*\.(arrays|start|prediction_shape|image)|HeatProcess\.(at|from_arrays|state|noisy|kept|(to|flow)_\w+)|"
        r"Operator\.gradient|.*\.into_values|UserNorm\.(?!value).*|.*\.(posterior|log_evidence)",
    )
)
"""What only the package itself calls: steps of the algorithms, which stand behind the doors."""

KINDS = (  # the first that an annotation matches
    ("seed", r"Seed|Generator"),
    ("object", r"Dataset"),
    ("film", r"FuncAnimation"),
    ("function", r"^Callable|Denoiser|Decoder|Loss|Predictor|Functional|Callback"),
    ("mapping", r"^Mapping|^dict"),
    ("record", r"\bResult\b|\bCheck\b|Evaluation|Sheet"),
    ("array", r"Tensor|ArrayLike|NDArray|Floats|DataArray|Array"),
    ("time", r"Times"),
    ("mode", r"Mode\b"),
    ("path", r"Path"),
    (
        "object",
        r"Dataset|Schedule|Process|Moments|TerminalLaw|Module|Classifier|Box|Eigenbasis|Flow|Gaussian|Walk|Prior|Norm|Mesh",
    ),
    ("sequence", r"Sequence|tuple|Iterable"),
    ("choice", r"Literal|Preserve|Method|Mean|Split|Kind|Reading|str|dtype"),
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
        "uneven": lambda _: [[1.0], [1.0, 2.0]],
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
    "choice": {"nonsense": lambda _: "nonsense", "3": lambda _: 3, "[]": lambda _: []},
    "flag": {},
    "film": {"3": lambda _: 3},
    "record": {"3": lambda _: 3},
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
    """The public functions, the constructors of classes, and their methods, by name.

    Public is what a package or a module of the first level exports, and what another module exports with an example.
    """
    found: dict[str, Any] = {}
    known = set()
    for module in _modules():
        outer = hasattr(module, "__path__") or module.__name__.count(".") == 1
        for name in module.__all__:
            thing = getattr(module, name)
            if id(thing) in known or not (outer or ">>>" in (thing.__doc__ or "")):
                continue
            known.add(id(thing))
            if inspect.isfunction(thing):
                found[f"{module.__name__.removeprefix('diffmath.')}.{name}"] = thing
            elif inspect.isclass(thing) and _is_made_by_users(thing):
                found[name] = thing
    found = {name: thing for name, thing in found.items() if not re.fullmatch(INTERNAL, name)}
    functions = {name: Function(thing, _parameters(thing)) for name, thing in found.items()}
    for name, thing in found.items():
        if inspect.isclass(thing):
            own = thing(**arguments(name, functions[name]))
            for attribute in dir(thing):
                static = inspect.getattr_static(thing, attribute)
                if attribute.startswith("_") or not (inspect.isfunction(static) or isinstance(static, classmethod)):
                    continue
                method = getattr(own, attribute)
                inherited = any(hasattr(base, attribute) for base in thing.__mro__ if base.__module__[:8] != "diffmath")
                if method.__module__.startswith("diffmath") and not inherited:
                    functions[f"{name}.{attribute}"] = Function(method, _parameters(method))
    return {name: function for name, function in functions.items() if not re.fullmatch(INTERNAL, name)}


def _modules() -> list[ModuleType]:
    """The modules of the package without a private name, the outer ones first; the commands have doors of their own."""
    names = [module.name for module in pkgutil.walk_packages(diffmath.__path__, "diffmath.")]
    public = [name for name in names if not re.search(r"\._|\.cli\b", name)]
    modules = [import_module(name) for name in sorted(public, key=lambda name: (name.count("."), name))]
    return [module for module in modules if hasattr(module, "__all__")]


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
            yield Door(name, parameter.name, kind_of(parameter))


def kind_of(parameter: inspect.Parameter) -> str:
    """The kind of values that a parameter takes."""
    annotation = str(parameter.annotation)
    if annotation == "Any":
        annotation = {"process": "Process", "preserve": "Preserve"}.get(parameter.name, "ArrayLike")
    return next((kind for kind, pattern in KINDS if re.search(pattern, annotation)), "unknown")


def example(door: str, function: Function, parameter: inspect.Parameter) -> Any:
    """A valid value for a parameter, LookupError if none is known."""
    own = getattr(function.call, "__self__", None)
    if isinstance(own, Eigenbasis) and parameter.name in ("u", "c"):
        return np.ones(own.shape if parameter.name == "u" else own.mode_shape)
    for name in (f"{door}.{parameter.name}", parameter.name):
        if name in examples():
            return examples()[name]
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    try:
        return OF_KIND[kind_of(parameter)]
    except KeyError:
        raise LookupError(f"tests/doors.py has no example of {door}'s parameter {parameter.name}") from None


OF_KIND: dict[str, Any] = {
    "array": np.ones(8),
    "count": 2,
    "number": 0.5,
    "function": lambda u: float(np.abs(u).max()),
    "mapping": {},
    "sequence": (1.0,),
    "mode": 2,
    "time": 2,
    "seed": 0,
}
"""Valid values of parameters whose names say no more than their kind."""


CHEAP = (
    "n_steps", "n_epochs", "n_repeats", "batch_size", "n_samples", "n_examples", "variance", "progress", "source",
    "refinement",
)  # fmt: skip
"""What is given though it has a default, which is expensive."""


def arguments(name: str, function: Function) -> dict[str, Any]:
    """A minimal valid call."""
    parameters = function.parameters.values()
    return {
        p.name: example(name, function, p)
        for p in parameters
        if p.default is inspect.Parameter.empty or p.name in CHEAP
    }


class Outcome(NamedTuple):
    """What became of a bad value: "refused", "silent" or "raw", and the error."""

    verdict: str
    said: str


def attempt(door: Door, bad: str) -> Outcome:
    """Call a function with one bad value among valid ones."""
    function = functions()[door.function]
    parameter = function.parameters[door.parameter]
    given = arguments(door.function, function)
    value = BAD[door.kind][bad](example(door.function, function, parameter))
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
    except (ValueError, TypeError, OSError, CheckpointError, DataError) as error:
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
