"""The results as a Markdown table, or as one that fits a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from diffmath._arguments import require_count, require_each
from diffmath.verification.runner import Result

__all__ = ["table", "terminal_table"]

HEADER = (
    "| | what is checked | code | how | examples | worst error | where | tolerance | |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
LABEL, NUMBER = 17, 11  # widths of the terminal table's columns: the label, and each of the three after the claim


def table(results: Iterable[Result]) -> str:
    """Write a Markdown table with a line for each result.

    Examples
    --------
    >>> from diffmath.verification import table, verify
    >>> print(table(verify(20)))
    """
    lines = [HEADER]
    for r in require_each("results", results, Result):
        verdict = "holds" if r.passed else "**fails**"
        code = ", ".join(f"`{_short(name)}`" for name in r.code)
        where = " ".join(r.where.split()).replace("|", r"\|")  # an exception's message may contain anything
        lines.append(
            f"| {r.label} | {r.claim} | {code} | {r.method} | {r.examples} | {r.worst:.1e} | {where} "
            f"| {r.tolerance:.0e} | {verdict} |"
        )
    return "\n".join(lines)


def terminal_table(results: Iterable[Result], width: int = 100) -> str:
    """Write a plain table no wider than a terminal: label, claim, worst error, tolerance and verdict.

    The claim is wrapped to the width that is left. Below a check that fails stands the example with the worst error.

    Parameters
    ----------
    results : iterable of Result
    width : int
        Columns of the terminal, at least 70.

    Examples
    --------
    >>> from diffmath.verification import terminal_table, verify
    >>> print(terminal_table(verify(20), width=80))
    """
    width, results = require_count("width", width, 70), require_each("results", results, Result)
    room = width - LABEL - 3 * NUMBER - 1

    def row(label: str, claim: str, *cells: str) -> list[str]:
        first, *rest = textwrap.wrap(claim, room)
        line = f"{label:<{LABEL}} {first:<{room}}" + "".join(f"{cell:>{NUMBER}}" for cell in cells)
        return [line.rstrip(), *(" " * (LABEL + 1) + part for part in rest)]

    lines = [*row("", "what is checked", "worst error", "tolerance", ""), "-" * width]
    for r in results:
        verdict = "holds" if r.passed else "FAILS"
        lines += row(r.label, r.claim, f"{r.worst:.1e}", f"{r.tolerance:.0e}", verdict)
        if not r.passed:
            lines += textwrap.wrap(
                f"at {r.where}", width, initial_indent=" " * (LABEL + 1), subsequent_indent=" " * (LABEL + 1)
            )
    return "\n".join(lines)


def _short(name: str) -> str:
    """A class or a function without its module, a method with its class."""
    *_, owner, last = name.split(".")
    return f"{owner}.{last}" if owner[0].isupper() else last
