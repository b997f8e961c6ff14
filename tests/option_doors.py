"""The options of the commands, read from the commands, and the bad values that each has to refuse.

``python -m tests.option_doors`` prints them with what became of each bad value.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints
from unittest.mock import patch

import numpy as np
import typer
from typer.testing import CliRunner

from diffmath.cli import app
from diffmath.data import load_mnist

BAD: dict[type, tuple[str, ...]] = {
    int: ("x", "1.5", "-5"),
    float: ("x", "nan"),
    str: ("nonsense",),
    Enum: ("nonsense",),
    Path: ("FILE/x",),
    bool: (),
}
"""Bad values by the type of an option; FILE is a regular file, in which nothing can be written or found."""


class OptionDoor(NamedTuple):
    """An option of a command."""

    command: str
    words: str
    kind: type
    n_values: int


@cache
def directory() -> Path:
    """A directory with the small files on which the commands work."""
    path = Path(tempfile.mkdtemp())
    np.save(path / "images.npy", np.random.default_rng(0).integers(0, 256, (8, 8, 8), dtype=np.uint8))
    (path / "FILE").touch()
    return path


SMALL = {
    "train": ("--data", "DIR/images.npy", "--epochs", "1", "--out", "DIR/run"),
    "sample": ("-n", "1", "--n-steps", "1", "--out", "DIR/samples.npy"),
    "flow": ("w2", "-n", "8", "-t", "0.1", "--out", "DIR/flow.nc"),
    "verify": ("--examples", "1"),
    "lab": ("--out", "DIR/lab.html"),
    "evaluate": ("-n", "100", "--n-steps", "1", "--start", "noise"),
}
"""The cheapest call of each command; what it leaves out is required of no command."""

BESIDE = {
    "--data-dir": ("--data", "train"),
    "--change-settings": ("--resume",),
    "--integrator": ("--method", "finite-difference"),
    "--dt": ("--method", "finite-difference"),
    "--theta": ("--method", "finite-difference"),
    "--steady-tolerance": ("--method", "finite-difference"),
    "--eta": ("--method", "ddim"),
    "--guidance-interval": ("--guidance", "0.4"),
}
"""The options without which another one is refused."""


def option_doors() -> Iterator[OptionDoor]:
    """Every option of every command."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        types = get_type_hints(inspect.unwrap(command.callback))
        for option in command.params:
            yield OptionDoor(name, max(option.opts, key=len), _kind(types[option.name]), option.nargs)


def _kind(annotation: Any) -> type:
    """The type of one value: that in Optional, in a list or a tuple."""
    if parts := [part for part in get_args(annotation) if part is not type(None)]:
        return _kind(parts[0])
    return Enum if issubclass(annotation, Enum) else annotation


def _mnist(split: Any, directory: Any = None) -> Any:
    """MNIST without a download: the images that are installed, unless there is a directory to read."""
    return load_mnist("sample" if directory is None else split, directory)


def attempt(door: OptionDoor, bad: str) -> tuple[int, str]:
    """Run a command with one bad value among good ones: the exit status, and what was printed."""
    good = list(SMALL.get(door.command, ()))
    if door.words.startswith("-"):
        given = [*good, *BESIDE.get(door.words, ()), door.words, *[bad] * max(1, door.n_values)]
    else:
        given = [bad, *good[door.command == "flow" :]]
    values = (value.replace("DIR", str(directory())).replace("FILE", str(directory() / "FILE")) for value in given)
    with patch("diffmath.data.load_mnist", _mnist):
        result = CliRunner().invoke(app, [door.command, *values])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 1, f"{type(result.exception).__name__}: {result.exception}"
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output)


def is_refused(door: OptionDoor, status: int, output: str) -> bool:
    """Whether a value was refused as a wrong call, by the name of the option."""
    return status == 2 and door.words in output


def main() -> None:
    """Print the options, and what became of each bad value."""
    for door in option_doors():
        print(f"{door.command} {door.words}: {door.kind.__name__}")
        for bad in BAD[door.kind]:
            status, output = attempt(door, bad)
            verdict = "refused" if is_refused(door, status, output) else f"exit {status}"
            print(f"    {verdict:8} {bad:8} {output[output.find('Error') + 1 :][-160:]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
