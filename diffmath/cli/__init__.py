"""``python -m diffmath``: the Python API from the shell, one module for each command, each one call of the API."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from diffmath import __version__
from diffmath.cli._options import by_option
from diffmath.cli.evaluate import evaluate
from diffmath.cli.flow import flow
from diffmath.cli.lab import lab
from diffmath.cli.sample import sample
from diffmath.cli.train import train
from diffmath.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    help="The mathematics of diffusion models: a companion to Higham, Higham and Grindrod (SIAM Review, 2025).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diffmath {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Accept the options that come before a command."""


for command in (train, sample, flow, verify, evaluate, lab):
    app.command()(by_option(command))


def main() -> None:
    """Run a command; what the API raises for bad input becomes one line and exit status 1."""
    try:
        app(prog_name="python -m diffmath")
    except (ValueError, TypeError, OSError, RuntimeError, OverflowError, ImportError) as error:
        sys.exit(f"error: {error}")
