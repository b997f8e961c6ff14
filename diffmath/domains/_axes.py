"""What a box is told of its axes: lengths, names, cell centres."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from diffmath._arguments import real_array, require_unmasked
from diffmath.domains.eigenbasis import Floats

__all__ = ["names", "one_per_axis", "outer_sum", "span"]

UNIFORM = 1e-6  # of the spacing: the deviation of coordinates that counts as rounding


def names(ndim: int) -> tuple[str, ...]:
    """The names of so many axes of space."""
    return ("x", "y", "z")[:ndim] if ndim <= 3 else tuple(f"x{d + 1}" for d in range(ndim))


def one_per_axis(name: str, values: Any) -> tuple[Any, ...]:
    """One value for each axis, from a number or a sequence of numbers."""
    require_unmasked(values, name)
    values = values if isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, str) else (values,)
    if any(isinstance(v, bool) or not isinstance(v, (int, float, np.integer, np.floating)) for v in values):
        raise TypeError(f"{name} must be a number or a tuple of one number for each axis; it is {values!r}")
    return tuple(values)


def outer_sum(parts: Sequence[Floats]) -> Floats:
    """The outer sum of one array for each axis."""
    total: Floats = reduce(np.add.outer, parts)
    return total


def span(name: str, x: Any) -> tuple[int, float, float]:
    """The number of cells, the length and the beginning of an axis of cell centres."""
    x = real_array(x, f"the axis {name}")
    if x.ndim != 1 or len(x) < 2:
        raise ValueError(f"the axis {name} must have at least 2 numbers in one dimension; its shape is {x.shape}")
    rounding = 4 * float(np.finfo(x.dtype).eps)
    n, x = len(x), x.astype(np.float64)
    if not np.isfinite(x).all():
        i = int((~np.isfinite(x)).argmax())
        raise ValueError(f"the axis {name} must be finite; {name}[{i}] = {x[i]}")
    h = (x[-1] - x[0]) / (n - 1)
    off = np.abs(x - (x[0] + h * np.arange(n)))
    tolerance = UNIFORM * h + rounding * np.abs(x).max()
    if not (h > 0 and off.max() <= tolerance):
        raise ValueError(f"the axis {name} must increase in equal steps; it is {np.array2string(x, threshold=6)}")
    # Rounding noise is left out, so that the cell centres of a box give that box.
    tolerance = n * rounding * float(np.abs(x).max())
    length, origin = float(f"{n * h:.12g}"), float(f"{x[0] - h / 2:.12g}")
    length = length if abs(length - n * h) <= tolerance else float(n * h)
    origin = origin if abs(origin - (x[0] - h / 2)) <= tolerance else float(x[0] - h / 2)
    return n, length, 0.0 if abs(origin) <= tolerance else origin
