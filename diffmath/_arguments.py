"""Checks of arguments that say what was required and what came."""

from __future__ import annotations

import operator
from typing import Any

__all__ = ["require_count"]


def require_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer in a range: TypeError or ValueError if it is not."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer; it is {value!r}")
    if most is not None and not least <= count <= most:
        raise ValueError(f"{name} must lie in {least}..{most}; it is {count}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}; it is {count}")
    return count
