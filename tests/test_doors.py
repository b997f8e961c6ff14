"""Every public function refuses bad values by name; which functions there are is read from the package."""

import inspect
import re

import numpy as np
import pytest

from tests import option_doors
from tests.doors import BAD, arguments, attempt, doors, example, functions

ALL = list(doors())


def test_every_public_function_has_an_example():
    """In its docstring, its class's, or that of the method it overrides; or it names the one whose variant it is."""
    lacking = []
    for name, function in functions().items():
        owner = getattr(function.call, "__self__", None)
        classes = [] if owner is None else inspect.getmro(owner if inspect.isclass(owner) else type(owner))
        overridden = [vars(c)[function.call.__name__] for c in classes if function.call.__name__ in vars(c)]
        documents = [inspect.getdoc(x) or "" for x in (function.call, *overridden)]
        of_class = f".{function.call.__name__}(" in (inspect.getdoc(classes[0]) or "") if classes else False
        if not of_class and not any(">>>" in text or re.search("[Aa]s for `", text) for text in documents):
            lacking.append(name)
    assert lacking == []


@pytest.mark.parametrize("function", sorted(functions()))
def test_bad_values_are_refused_by_name(function):
    """Refused by a ValueError, a TypeError or an error of the package that names the parameter or the function.

    NaN and complex numbers may also come out again, as they do from a linear map.
    """
    for door in (door for door in ALL if door.function == function):
        assert door.kind != "unknown", f"tests/doors.py knows no kind for {door}"
        outcomes = {bad: attempt(door, bad) for bad in BAD[door.kind]}
        failed = {bad: outcome for bad, outcome in outcomes.items() if outcome.verdict not in ("refused", "carried")}
        assert not failed, f"{door}: {failed}"


@pytest.mark.parametrize("door", list(option_doors.option_doors()), ids=lambda door: f"{door.command} {door.words}")
def test_bad_values_of_options_are_refused_by_name(door):
    """Exit status 2, the one of wrong calls, and the option's name, whether the command or the API refuses."""
    for bad in option_doors.BAD[door.kind]:
        status, output = option_doors.attempt(door, bad)
        assert option_doors.is_refused(door, status, output), (bad, status, output)


SLOW = {"ddpm.evaluate", "ddpm.metrics.evaluate_beside_real", "RenormalizedFlow.check_stability", "verification.verify"}
DOWNLOADING = {"data.held_out_images"}
COUNTED = sorted({door.function for door in ALL if door.kind == "count"} - SLOW - DOWNLOADING)


@pytest.mark.parametrize("function", COUNTED)
def test_numpy_integers_are_counts(function):
    """The example of each function works, with numpy's integers for its counts."""
    called = functions()[function]
    given = arguments(function, called)
    for door in ALL:
        if door.function == function and door.kind == "count":
            value = example(function, called, called.parameters[door.parameter])
            given[door.parameter] = value if value is None else np.int64(value)
    called.call(**given)
