"""Every public function refuses bad values by name; which functions there are is read from the package."""

import pytest

from tests import option_doors
from tests.doors import BAD, attempt, doors, functions

ALL = list(doors())


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
