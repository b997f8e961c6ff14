"""``python -m diffmath lab``: the page that needs no server."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from diffmath.cli._options import require_output

__all__ = ["lab"]


def lab(
    out: Annotated[Path, typer.Option(help="The page to write (.html), which needs no other file.")] = Path("lab.html"),
    open: Annotated[bool, typer.Option("--open", help="Open it in the browser too.")] = False,
) -> None:
    """Write the lab, one page: the trained network and the exact flow in a browser, without a server."""
    require_output(out, "--out", (".html",))

    from diffmath.lab import write_page

    write_page(out)
    typer.echo(f"the lab is in {out}")
    if open:
        webbrowser.open(out.expanduser().resolve().as_uri())
