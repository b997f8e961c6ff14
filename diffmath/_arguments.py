"""Argument checks whose messages state what was required and what was received.

Every public function passes its arguments through these. They need numpy alone: torch tensors are recognised by their
methods. `diffmath.ddpm._arguments` has those that need torch.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ReadOnly",
    "as_array",
    "as_rng",
    "number_array",
    "real_array",
    "require_callable",
    "require_count",
    "require_counts",
    "require_each",
    "require_finite",
    "require_instance",
    "require_number",
    "require_pixels",
    "require_positive",
    "require_unmasked",
]


def require_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer in a range, as an int: numpy's integers and tensors of one integer are fine, booleans are not."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        raise TypeError(f"{name} must be an integer; it is {value!r}")
    if most is not None and not least <= count <= most:
        raise ValueError(f"{name} must lie in {least}..{most}; it is {count}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}; it is {count}")
    return count


def require_counts(name: str, values: Any, least: int = 1, most: int | None = None) -> list[int]:
    """Several integers in a range, as a list of int."""
    try:
        each = list(values)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers; it is {values!r}") from None
    return [require_count(f"each of {name}", value, least, most) for value in each]


def require_number(name: str, value: Any) -> float:
    """A real number, as a float; it may be infinite or NaN, which the comparison with its range finds."""
    array = None if isinstance(value, (str, bytes)) else real_array(value, name)
    if array is None or array.ndim:
        raise TypeError(f"{name} must be a number; it is {value!r}")
    return float(array)


def require_finite(name: str, value: Any) -> float:
    """A finite number, as a float."""
    number = require_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite; it is {number}")
    return number


def require_positive(name: str, value: Any) -> float:
    """A positive and finite number, as a float."""
    number = require_finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be positive; it is {number}")
    return number


def require_instance(name: str, value: Any, kind: type) -> None:
    """TypeError unless a value is of a class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}; it is a {type(value).__name__}")


def require_each(name: str, values: Any, kind: type) -> list[Any]:
    """The values as a list; TypeError unless each of them is of a class."""
    try:
        each = list(values)
    except TypeError:
        each = [values]
    for value in each:
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a sequence of {kind.__name__}; it has a {type(value).__name__}")
    return each


def require_callable(name: str, value: Any, call: str) -> None:
    """TypeError unless a value can be called, in the way that ``call`` shows."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, as {call}; it is a {type(value).__name__}")


def real_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Values as a numpy array of real floating numbers: integers become float64, other dtypes stay.

    Lists, tensors and xarray's arrays are fine, masked arrays are not.
    """
    array = number_array(values, name)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Values as a numpy array of any dtype, from lists, tensors or xarray's arrays; not from masked or uneven ones."""
    require_unmasked(values, name)
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except ValueError as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from None


def number_array(values: Any, name: str, kinds: str = "fiu") -> npt.NDArray[Any]:
    """Values as a numpy array of numbers of some kinds: "f" floating, "iu" integers, "c" complex."""
    array = as_array(values, name)
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name} must be {'real ' * ('c' not in kinds)}numbers; the dtype is {array.dtype}")
    return array


def require_unmasked(values: Any, name: str) -> None:
    """ValueError for a masked array, in a list too: the numbers under a mask mean nothing, and numpy would use them."""

    if type(values) is not np.ndarray and _is_masked(values):
        raise ValueError(f"{name} must not have masked entries: fill them, or leave them out")


def _is_masked(values: Any) -> bool:
    if isinstance(values, (list, tuple)):
        return any(map(_is_masked, values))
    return isinstance(values, np.ma.MaskedArray) and bool(np.ma.is_masked(values))


def as_rng(rng: Any, name: str = "rng") -> np.random.Generator:
    """A numpy generator: the given one, a new one from an integer seed, or one seeded at random for None."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    try:
        return np.random.default_rng(require_count(name, rng, 0))
    except TypeError:
        raise TypeError(f"{name} must be a numpy.random.Generator or an integer seed; it is {rng!r}") from None


def require_pixels(images: Any, name: str = "images", dark: float = 0.0) -> None:
    """Refuse images whose pixels are plainly not on the scale [-1, 1], and state the call that rescales them.

    Of images (N, C, H, W) in [-1, 1] some pixels are dark, below -0.5, and most lie within 1.5 of 0. Arrays of another
    shape are no images, and any real numbers are fine.

    Parameters
    ----------
    images : numpy.ndarray or torch.Tensor
    name : str
        The argument's name.
    dark : float
        The least share of dark pixels, if more than none is to be required.
    """
    if len(images.shape) != 4 or not (n := math.prod(images.shape)):
        return
    low, high = float(images.min()), float(images.max())
    darker, outside = (float((part).sum()) / n for part in (images < -0.5, abs(images) > 1.5))
    if darker > 0 and darker >= dark and outside <= 0.5:
        return
    if low >= -0.5 and high <= 1.5:
        call = f"2 * {name} - 1"
    elif low >= 0 and high <= 255:
        call = f"{name} / 127.5 - 1"
    else:
        call = f"2 * ({name} - {name}.min()) / ({name}.max() - {name}.min()) - 1"
    raise ValueError(
        f"{name} must have pixels in [-1, 1], black being -1; they range from {low:.3g} to {high:.3g}, {darker:.0%} of "
        f"them are below -0.5, and {outside:.0%} outside by more than 0.5: rescale them, as by {call}"
    )


class ReadOnly:
    """A base class whose arrays are read-only, in copies and after pickling too (numpy forgets it)."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._freeze()

    def _freeze(self) -> None:
        """Make the arrays read-only, those in tuples included."""
        for value in self.__dict__.values():
            for array in value if isinstance(value, tuple) else (value,):
                if isinstance(array, np.ndarray):
                    array.setflags(write=False)
