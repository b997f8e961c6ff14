"""What a check is: a claim about an equation of the paper, and a function that finds its error in a random example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Check", "Example", "check"]


class Example(NamedTuple):
    """The relative error of one example, and a description of the example."""

    error: float
    where: str


@dataclass(frozen=True)
class Check:
    """How one equation is checked.

    Attributes
    ----------
    label, claim : str
        The equation's number or the algorithm's name, and what is checked.
    code : tuple of str
        The dotted names of the objects that implement the equation. The check calls all of them, which a test asserts.
    method : str
        "property" (the printed formula), "general rule" (`diffmath.gaussian`), "quadrature" and so on.
    example : callable
        Takes a random generator and returns one `Example`.
    tolerance, share : float
        The largest relative error that passes, and the part of the requested examples that a costly check takes.
    """

    label: str
    claim: str
    code: tuple[str, ...]
    method: str
    tolerance: float
    example: Callable[[np.random.Generator], Example]
    share: float = 1.0


def check(
    label: str, claim: str, *, code: Sequence[str], method: str, tolerance: float, share: float = 1.0
) -> Callable[[Callable[[np.random.Generator], Example]], Check]:
    """Turn a function that tries one example into a `Check`; the arguments are the attributes of `Check`.

    Examples
    --------
    >>> @check("(4)", "alpha = 1 - beta", code=["diffmath.schedule.VarianceSchedule"], method="property", tolerance=0)
    ... def one_minus_beta(rng):
    ...     schedule = VarianceSchedule(rng.uniform(0.1, 0.5, 10))
    ...     return Example(abs(schedule.alpha + schedule.beta - 1).max(), "T = 10")
    """

    def decorate(example: Callable[[np.random.Generator], Example]) -> Check:
        return Check(label, claim, tuple(code), method, tolerance, example, share)

    return decorate
