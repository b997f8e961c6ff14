"""The times and the noise of the heat model, for images of any size on the unit square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import real_array, require_count, require_finite, require_positive

__all__ = ["heat_sigma", "heat_times", "require_times"]

Floats = npt.NDArray[np.float64]
REFERENCE = 32  # pixels a side, for which the defaults were chosen


def heat_times(n: int = REFERENCE, T: float = 0.81, ratio: float = 0.07, longest: float = 0.0175) -> Floats:
    r"""Times :math:`0 = t_0 < t_1 < \ldots < t_K = T`, in constant ratios until steps reach their longest.

    Parameters
    ----------
    n : int
        Pixels a side.
    T, ratio, longest : float
        The last time in units of the side squared, a step over the time it begins at, and the longest step.

    Returns
    -------
    numpy.ndarray, float64, shape (K + 1,)

    Examples
    --------
    >>> len(heat_times()) - 1
    180
    """
    # The first step blurs by a fraction of a pixel.
    t_1 = 1.2e-5 * (REFERENCE / require_count("n", n, 2)) ** 2
    T, ratio, longest = (require_positive(*pair) for pair in (("T", T), ("ratio", ratio), ("longest", longest)))
    if not t_1 < T:
        raise ValueError(f"T must be later than the first time, {t_1:.3g}; it is {T}")
    if longest < T / 1e5 or ratio < 1e-4:
        raise ValueError(f"steps must be longer; ratio is {ratio}, longest is {longest}, for T = {T}")
    times = [0.0, t_1]
    while times[-1] < T:
        times.append(min(T, times[-1] + min(ratio * times[-1], longest)))
    return np.array(times)


def heat_sigma(times: npt.ArrayLike, n: int = REFERENCE, first: float = 0.1, last: float = 4.0) -> Floats:
    r"""The deviation of a pixel's noise: 0 at t = 0, and log-linear in log t from t = 1e-4 to 0.1, constant outside.

    Parameters
    ----------
    times : array of float, shape (K + 1,)
    n : int
        Pixels a side.
    first, last : float
        At early and at late times, for 32 pixels a side.

    Returns
    -------
    numpy.ndarray, float64, shape (K + 1,)

    Examples
    --------
    >>> heat_sigma([0.0, 1e-5, 1e-4, 0.1, 0.8]).round(9).tolist()
    [0.0, 0.1, 0.1, 4.0, 4.0]
    """
    t = require_times(times)
    unit = require_count("n", n, 2) / REFERENCE  # as the amplitudes of a digit's orthonormal cosines grow with n
    low, high = require_positive("first", first), require_positive("last", last)
    share = np.clip(np.log(np.maximum(t, 1e-4) / 1e-4) / math.log(1e3), 0, 1)
    sigma: Floats = unit * low * (high / low) ** share
    sigma[0] = 0.0
    return sigma


def require_times(times: Any) -> Floats:
    """The times as float64, once they are known to increase from 0."""
    t = real_array(times, "times").astype(np.float64)
    if t.ndim != 1 or len(t) < 2 or t[0] != 0 or not (np.diff(t) > 0).all():
        raise ValueError(f"times must increase from 0, two of them or more; they are {t}")
    require_finite("the last of the times", t[-1])
    return t
