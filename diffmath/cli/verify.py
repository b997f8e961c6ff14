"""``python -m diffmath verify``: every equation checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from diffmath.cli._options import require_output

__all__ = ["verify"]


def verify(
    examples: Annotated[int, typer.Option(min=1, help="Random examples of each property.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed tries the same examples.")] = 0,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a wide table in Markdown, with claims, code and places.")
    ] = False,
    json: Annotated[
        Optional[Path], typer.Option(dir_okay=False, help="A file to write the results to as well.")
    ] = None,
) -> None:
    """Check every equation of the paper, and the algorithms; exit status 1 if any check fails."""
    import shutil
    import time
    from json import dumps
    from math import isfinite

    from diffmath import verification
    from diffmath._files import replacing

    start = time.perf_counter()
    require_output(json, "--json")
    results = verification.verify(examples, seed=seed, progress=True)
    width = min(100, max(70, shutil.get_terminal_size().columns))
    typer.echo(verification.table(results) if markdown else verification.terminal_table(results, width))
    if json is not None:
        # JSON knows no infinity.
        entries = [r._asdict() | {"worst": r.worst if isfinite(r.worst) else None} for r in results]
        with replacing(json) as temporary:
            temporary.write_text(dumps(entries, indent=2, allow_nan=False) + "\n")
    failed = [result.label for result in results if not result.passed]
    said = f"{len(results) - len(failed)} of {len(results)} hold" + f"; {'; '.join(failed)} fail" * bool(failed)
    typer.echo(f"{said}. It took {time.perf_counter() - start:.0f} s.")
    raise typer.Exit(1 if failed else 0)
