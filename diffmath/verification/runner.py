"""Running the checks on random examples."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from diffmath._arguments import require_count, require_each
from diffmath.verification import algorithms, backwards, beyond, flow, forwards, heat, stability
from diffmath.verification._references import worst_error
from diffmath.verification.checks import Check, Example

__all__ = ["CHECKS", "Result", "verify"]

PARTS = (forwards, backwards, algorithms, flow, stability, beyond, heat)
CHECKS = tuple(item for part in PARTS for item in vars(part).values() if isinstance(item, Check))
"""All checks, in the order of the paper: at least one for each equation and algorithm. Then what goes beyond it."""


class Result(NamedTuple):
    """The outcome of a check: its attributes, the number of examples, the worst error and its example, the verdict."""

    label: str
    claim: str
    code: tuple[str, ...]
    method: str
    examples: int
    worst: float
    where: str
    tolerance: float
    passed: bool
    seconds: float


def verify(
    n_examples: int = 200, *, seed: int = 0, checks: Sequence[Check] | None = None, progress: bool = False
) -> list[Result]:
    """Run the checks. An exception in one counts as an infinite error of that check, and the others still run.

    Parameters
    ----------
    n_examples : int
        Number of random examples of each property. Costlier checks take a share of them.
    seed : int
        The same seed tries the same examples.
    checks : sequence of Check, optional
        Defaults to ``CHECKS``.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    list of Result

    Examples
    --------
    >>> from diffmath.verification import table, verify
    >>> print(table(verify(20)))
    """
    n_examples, seed = require_count("n_examples", n_examples), require_count("seed", seed, 0)
    results = []
    chosen = CHECKS if checks is None else require_each("checks", checks, Check)
    counts = [max(1, math.ceil(n_examples * check.share)) for check in chosen]
    with tqdm(total=sum(counts), unit=" examples", disable=not progress) as bar:
        for check, count in zip(chosen, counts, strict=True):
            bar.set_description(check.label)
            rng = np.random.default_rng([seed, *check.label.encode()])
            start, worst = time.perf_counter(), Example(-1.0, "")
            for _ in range(count):
                worst = max(worst, _tried(check, rng), key=lambda example: example.error)
                bar.update()
            passed, seconds = bool(worst.error <= check.tolerance), round(time.perf_counter() - start, 3)
            results.append(
                Result(
                    check.label, check.claim, check.code, check.method, count, *worst, check.tolerance, passed, seconds
                )
            )
    return results


def _tried(check: Check, rng: np.random.Generator) -> Example:
    """One example; a NaN or an exception is an infinite error."""
    try:
        error, where = check.example(rng)
    except Exception as exception:
        return Example(math.inf, f"{type(exception).__name__}: {exception}")
    return Example(worst_error(error), where)
