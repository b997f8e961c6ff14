r"""What sparse factors and solves with them are expected to cost, and a bar for those that take long.

With n unknowns, the factors of a domain of two dimensions hold about :math:`n \log n` numbers, those of a solid about
:math:`n^{4/3}`, and these are the costs of a solve as well. The constants are those of one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tqdm.auto import tqdm

__all__ = ["Cost", "expected_cost", "progress"]

LONG = 60.0  # seconds: what is expected to take longer says so before it starts
FLOPS = 2e9  # per second, of products with a basis

_SIZES: dict[int, Callable[[int], float]] = {
    1: lambda n: n,
    2: lambda n: n * math.log2(n + 1),
    3: lambda n: n ** (4 / 3),
}
_FACTOR = {1: (2e-6, 1.0), 2: (1e-6, 1.2), 3: (5.7e-10, 2.4)}  # seconds, and the power of n
_SOLVE = {1: 3e-7, 2: 1.5e-8, 3: 7e-8}  # seconds for each of the numbers
_BYTES = {1: 150, 2: 62, 3: 540}


class Cost(NamedTuple):
    """Seconds of one core, and gigabytes."""

    seconds: float
    gigabytes: float

    def __str__(self) -> str:
        minutes = self.seconds / 60
        return f"about {math.ceil(minutes)} min and {self.gigabytes:.1f} GB" if minutes < 100 else "hours"


def expected_cost(n: int, dimension: int, n_factors: int, n_solves: int, n_vectors: int) -> Cost:
    """The cost of factorisations and of solves, whose results are made orthogonal to a basis of some vectors.

    Parameters
    ----------
    n : int
        The number of unknowns.
    dimension : int
        That of the cells; more than 3 counts as 3.
    n_factors, n_solves, n_vectors : int

    Examples
    --------
    >>> expected_cost(1_000_000, 2, 1, 300, 140).seconds > 60 > expected_cost(100_000, 2, 1, 300, 140).seconds
    True
    """
    d = min(dimension, 3)
    constant, power = _FACTOR[d]
    size = _SIZES[d](n)
    seconds = n_factors * constant * n**power + n_solves * (_SOLVE[d] * size + 4 * n * n_vectors / FLOPS)
    return Cost(seconds, (n_factors * _BYTES[d] * size + 8 * n * n_vectors) / 1e9)


@contextmanager
def progress(
    what: str, n: int, dimension: int, *, n_factors: int, n_solves: int, n_vectors: int
) -> Iterator[Callable[[], object]]:
    """A bar that says what it expects before it starts, if that is more than a minute; call what it gives per solve.

    Parameters
    ----------
    what : str
    n, dimension, n_factors, n_solves, n_vectors : int
        As for `expected_cost`.

    Examples
    --------
    >>> with progress("50 modes", 1000, 2, n_factors=1, n_solves=3, n_vectors=10) as solved:
    ...     _ = solved()  # no bar: it takes no minute
    """
    cost = expected_cost(n, dimension, n_factors, n_solves, n_vectors)
    with tqdm(
        total=n_solves, desc=f"{what} of {n:,} unknowns, {cost}", unit=" solves", disable=cost.seconds <= LONG
    ) as bar:
        yield bar.update
