"""Initial conditions by name or by expression: cell averages, noise from a seed, and sums of eigenfunctions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np

from diffmath._arguments import as_rng, require_instance, require_number
from diffmath.domains.box import Box
from diffmath.domains.eigenbasis import Eigenbasis, Floats

__all__ = ["INITIAL_CONDITIONS", "bump", "modes_from", "noise", "random_modes", "step"]

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
TERM = re.compile(rf"\s*(?P<sign>[+-]?)\s*(?:(?P<factor>{NUMBER})\s*\*?\s*)?w_?(?P<k>\d+(?:,\d+)*)")


def step(domain: Eigenbasis, position: float = 0.4) -> Floats:
    """The cell averages, on boxes, of a step from -1 to 1 along the first axis; elsewhere its values at the nodes.

    The averages start the step where it should be within its cell. Its gradient energy grows in proportion to the
    resolution, as that of the step itself is infinite.

    Parameters
    ----------
    domain : Eigenbasis
    position : float
        Where the step is, as a fraction of the first length, in (0, 1).

    Examples
    --------
    >>> step(Box(4), 0.375)
    array([-1.,  0.,  1.,  1.])
    """
    require_instance("domain", domain, Eigenbasis)
    position = require_number("position", position)
    if not 0 < position < 1:
        raise ValueError(f"position must lie in (0, 1); it is {position}")
    if not isinstance(domain, Box):
        return np.where(_fractions(domain)[0] < position, -1.0, 1.0)
    n = domain.shape[0]
    before = np.clip(position * n - np.arange(n), 0, 1)  # the part of each cell that lies before the step
    return np.broadcast_to((1 - 2 * before).reshape(-1, *[1] * (domain.ndim - 1)), domain.shape).copy()


def bump(domain: Eigenbasis, position: float = 0.3, width: float = 0.1) -> Floats:
    r"""The smooth bump :math:`\exp(-|x - p|^2 / (2 w^2))`, with p and w as fractions of every length.

    Examples
    --------
    >>> bump(Box(4), 0.375, 0.1).round(3)
    array([0.044, 1.   , 0.044, 0.   ])
    """
    require_instance("domain", domain, Eigenbasis)
    position, width = require_number("position", position), require_number("width", width)
    if not (0 < width < math.inf and math.isfinite(position)):
        raise ValueError(f"width must be positive and finite, the position finite; they are {width} and {position}")
    if not isinstance(domain, Box):
        return np.asarray(np.exp(-(((_fractions(domain) - position) / width) ** 2).sum(axis=0) / 2))
    u = np.ones(domain.shape)
    for axis, n in enumerate(domain.shape):
        factor = np.exp(-((((np.arange(n) + 0.5) / n - position) / width) ** 2) / 2)
        u *= factor.reshape([-1 if a == axis else 1 for a in range(domain.ndim)])
    return u


def _fractions(domain: Eigenbasis) -> Floats:
    """The coordinates of the nodes as fractions of the domain's lengths, shape (n, ``*shape``)."""
    x = domain.points.reshape(len(domain.points), -1)
    fractions: Floats = ((x - x.min(axis=1, keepdims=True)) / np.ptp(x, axis=1, keepdims=True)).reshape(
        -1, *domain.shape
    )
    return fractions


def noise(domain: Eigenbasis, rng: np.random.Generator | int) -> Floats:
    """Independent standard Gaussian numbers in the cells, from a generator or a seed."""
    return as_rng(rng).standard_normal(domain.shape)


def random_modes(domain: Eigenbasis, rng: np.random.Generator | int) -> Floats:
    """Gaussian amplitudes of all modes but null ones, whose shares in the energy (21) are alike on average."""
    c = as_rng(rng).standard_normal(domain.mode_shape)
    c[domain.null_modes] = 0.0
    present = ~domain.null_modes
    c[present] /= np.sqrt(domain.eigenvalues[present] * present.sum())
    return domain.to_values(c)


INITIAL_CONDITIONS: dict[str, Callable[[Eigenbasis, np.random.Generator], Floats]] = {
    "step": lambda domain, rng: step(domain),
    "bump": lambda domain, rng: bump(domain),
    "noise": noise,
    "modes": random_modes,
}
"""What ``python -m diffmath flow`` knows by name: functions of a domain and a random generator."""


def modes_from(expression: str) -> dict[tuple[int, ...], float]:
    """The amplitudes in a sum of eigenfunctions.

    Parameters
    ----------
    expression : str
        Such as ``"w5 + 1e-4 w2 - 3*w1"``; in several dimensions ``"w1,0 + 0.5 w0,2"``.

    Returns
    -------
    dict of tuple of int to float
        Mode numbers and amplitudes, for `RenormalizedFlow.solve_modes`.

    Examples
    --------
    >>> modes_from("w5 + 1e-4 w2 - 3*w1")
    {(5,): 1.0, (2,): 0.0001, (1,): -3.0}
    """
    require_instance("expression", expression, str)
    modes: dict[tuple[int, ...], float] = {}
    start = 0
    while start < len(expression.rstrip()):
        term = TERM.match(expression, start)
        if term is None or (start > 0 and not term["sign"]):
            raise ValueError(
                'the expression must be a sum of eigenfunctions such as "w5 + 1e-4 w2"; '
                f"{expression!r} is not from {start} on"
            )
        k = tuple(int(i) for i in term["k"].split(","))
        size = float(term["factor"] or 1)
        modes[k] = modes.get(k, 0.0) + math.copysign(size, -1 if term["sign"] == "-" else 1)
        start = term.end()
    if not modes or len({len(k) for k in modes}) > 1:
        raise ValueError(f"the expression must have eigenfunctions of one dimension; it is {expression!r}")
    return modes
