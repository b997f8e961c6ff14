r"""Forward processes: noise added in steps, and the exact way back given the noise; eqs. (2)-(9) and (15)-(19).

A process is known by the pair :math:`(\alpha_{t|s}, v_{t|s})` of its transition from a time s to a later time t,

.. math:: p(x_t | x_s) = N\bigl(x_t;\ \sqrt{\alpha_{t|s}}\, x_s,\ v_{t|s}\bigr),

on which the equations are written once, with :math:`\bar\alpha_t = \alpha_{t|0}` and :math:`v_t = v_{t|0}`. The pair is
two numbers for the paper's process, `diffmath.schedule.VarianceSchedule`, where :math:`v = 1 - \alpha`, and two arrays
where each component of x, such as the amplitude of an eigenfunction, has numbers of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import ReadOnly, as_array, real_array, require_count

__all__ = ["Array", "ForwardProcess", "Process", "Times"]

Array = Any
"""A numpy array or a torch tensor."""

Times = Any
"""A time of the process: an int, or an integer array or tensor with one entry per sample."""

TINY = float(np.finfo(np.float64).tiny)


class Process(ReadOnly, ABC):
    """Noise added to images in steps 1..T, as `diffmath.ddpm.train` and `diffmath.ddpm.sample` need to know it.

    A subclass sets ``n_steps``, T, and ``modes``, the last axes of its samples if they have numbers of their own, and
    implements `add_noise` and `arrays`. ``frequencies``, of shape (T,), says how often a training draws each time; None
    is equally often. If the states at T are not standard Gaussian, ``start(n_samples, rng)`` draws them.

    Examples
    --------
    >>> from diffmath.schedule import VarianceSchedule
    >>> isinstance(VarianceSchedule.linear(500), Process)
    True
    """

    n_steps: int
    modes: tuple[int, ...] = ()
    frequencies: npt.NDArray[np.float64] | None = None

    @abstractmethod
    def add_noise(self, x_0: Array, eps: Array, t: Times) -> Array:
        """The state at the times t, from images and standard Gaussian noise of their shape."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What tells one process of its class from another, by name: a checkpoint stores it."""

    def prediction_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what a model predicts for states of a shape: the same, as for the noise."""
        return shape

    def image(self, x: Array) -> Array:
        """The image in a state at t = 0: all of it."""
        return x

    def subsequence(self, n_steps: int | None = None) -> npt.NDArray[np.int64]:
        """Times for sampling in fewer steps: 0 = t_0 < t_1 < ... < t_n = T, as equally spaced as integers can be.

        The number n of jumps lies in 1..T and defaults to T; the times are int64.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule.linear(500).subsequence(4)
        array([  0, 125, 250, 375, 500])
        """
        n = self.n_steps if n_steps is None else require_count("n_steps", n_steps)
        if n > self.n_steps:
            raise ValueError(f"n_steps must be at most T = {self.n_steps}; it is {n}")
        return np.arange(n + 1) * self.n_steps // n  # as n <= T the gaps are at least 1

    def _time(self, t: Times, name: str, least: int) -> npt.NDArray[np.int64]:
        """The times as an int64 array, checked to lie in least..T."""
        times = as_array(t, name)
        if times.dtype.kind not in "iu":
            raise TypeError(f"{name} must be an integer, or an array of integers; its dtype is {times.dtype}")
        if times.ndim > 1:
            raise ValueError(f"{name} must be one integer or one for each sample; its shape is {times.shape}")
        if ((times < least) | (times > self.n_steps)).any():
            raise ValueError(
                f"{name} must lie in {least}..{self.n_steps}; it ranges from {times.min()} to {times.max()}"
            )
        return times.astype(np.int64)

    def _times(self, t: Times, s: Times | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The pair of times of a jump, checked: 0 <= s < t <= T."""
        t_ = self._time(t, "t", least=1)
        s_ = t_ - 1 if s is None else self._time(s, "s", least=0)
        t_, s_ = np.broadcast_arrays(t_, s_)
        if (s_ >= t_).any():
            i = np.flatnonzero(s_ >= t_)[0]
            raise ValueError(f"s must be earlier than t; got s = {s_.flat[i]} and t = {t_.flat[i]}")
        return t_, s_


class ForwardProcess(Process):
    r"""The forward process of a `transition`, and the backward process given the noise.

    Times are integers, 0 for the image and 1..T for the noise levels: one for all samples, or an array of shape (N,).
    An earlier time ``s`` is ``t - 1`` unless given. Samples are floating arrays or torch tensors of shape (N, ...),
    whose last axes are the modes if there are any; results have the shape, dtype and device of the first of them. All
    methods raise ValueError where a time is out of range or shapes do not fit, TypeError where a dtype does not.

    A subclass sets ``n_steps``, T, and ``modes``, their shape, and implements ``_transition(t, s)``: of int64 arrays of
    one shape with 0 <= s <= t <= T it returns :math:`\alpha_{t|s}` and :math:`v_{t|s}`, float64 arrays of the shape
    times.shape + modes, positive for s < t, and 1 and 0 for s = t.

    Examples
    --------
    >>> class Decay(ForwardProcess):  # three modes, each with a rate of its own
    ...     n_steps, modes, rates = 10, (3,), np.array([0.1, 0.2, 0.4])
    ...
    ...     def _transition(self, t, s):
    ...         log_alpha = -self.rates * (t - s)[..., None]
    ...         return np.exp(log_alpha), -np.expm1(log_alpha)
    >>> Decay().posterior_variance(2).round(2)
    array([0.05, 0.1 , 0.2 ])
    """

    @abstractmethod
    def _transition(self, t: npt.NDArray[np.int64], s: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """The pair of alpha_t|s and the variance of x_t given x_s, for checked times s <= t."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The pair of eq. (9) at the times 1..T.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> list(VarianceSchedule([0.5]).arrays())
        ['beta']
        """
        t = np.arange(1, self.n_steps + 1)
        return dict(zip(("alpha_bar", "variance"), self.transition(t, np.zeros_like(t)), strict=True))

    # Forwards

    def transition(self, t: Times, s: Times | None = None) -> tuple[Array, Array]:
        r"""The pair :math:`(\alpha_{t|s}, v_{t|s})` of :math:`p(x_t | x_s)`.

        Eq. (3) for s = t - 1, (5) for t - 2, (6) for t - k, (9) for 0, and (11), as the image changes nothing. Both are
        float64 of the shape that t and s have together, + modes; torch tensors if t is one.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.5, 0.5]).transition(2, 0)
        (0.25, 0.75)
        """
        alpha, variance = self._transition(*self._times(t, s))
        return _as(t, alpha), _as(t, variance)

    def forward_step(self, x_s: Array, eps: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eqs. (2), (4), (5), (6): :math:`x_t = \sqrt{\alpha_{t|s}}\, x_s + \sqrt{v_{t|s}}\, \epsilon`.

        One forward step or jump, with ``eps`` standard Gaussian noise.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.36, 0.5]).forward_step(np.array([1.0]), np.array([2.0]), 1)
        array([2.])
        """
        t_, s_ = self._times(t, s)
        alpha, variance = self._transition(t_, s_)
        return _combine(np.sqrt(alpha), x_s, np.sqrt(variance), eps, t_.ndim, ("x_s", "eps"))

    def add_noise(self, x_0: Array, eps: Array, t: Times) -> Array:
        r"""Eq. (8): :math:`x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{v_t}\, \epsilon`, with t from 0 to T.

        One leap from the image, which t = 0 returns unchanged. Integers, such as pixels of 0..255, are refused.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.36, 0.5]).add_noise(np.array([[1.0], [1.0]]), np.array([[2.0], [0.0]]), [1, 0])
        array([[2.],
               [1.]])
        """
        t_ = self._time(t, "t", least=0)
        alpha_bar, variance = self._from_image(t_)
        return _combine(np.sqrt(alpha_bar), x_0, np.sqrt(variance), eps, t_.ndim, ("x_0", "eps"))

    # Backwards

    def predict_x_0(self, x_t: Array, eps: Array, t: Times) -> Array:
        r"""Eq. (8) solved for :math:`x_0 = (x_t - \sqrt{v_t}\, \epsilon) / \sqrt{\bar\alpha_t}`, from (16) to (17).

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.36, 0.5]).predict_x_0(np.array([2.0]), np.array([2.0]), 1)
        array([1.])
        """
        t_ = self._time(t, "t", least=1)
        alpha_bar, variance = self._from_image(t_)
        _require_invertible(alpha_bar, "alpha_bar_t")
        return _combine(1 / np.sqrt(alpha_bar), x_t, -np.sqrt(variance / alpha_bar), eps, t_.ndim, ("x_t", "eps"))

    def posterior_variance(self, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (15): :math:`\sigma_t^2 = v_{t|s}\, v_s / v_t`, the variance of (14), as `transition` returns numbers.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.5, 0.5]).posterior_variance(2) == 0.5 * 0.5 / 0.75
        True
        """
        t_, s_ = self._times(t, s)
        variance_ts, variance_s, variance_t = (
            pair[1] for pair in (self._transition(t_, s_), self._from_image(s_), self._from_image(t_))
        )
        return _as(t, variance_ts * (variance_s / variance_t))  # a quotient in [0, 1]: the product might underflow

    def posterior_mean(self, x_t: Array, x_0: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (16): the mean of :math:`p(x_s | x_t, x_0)`; eq. (17) with x_0 from `predict_x_0`.

        .. math:: \mu_t = \frac{\sqrt{\alpha_{t|s}}\, v_s\, x_t + \sqrt{\bar\alpha_s}\, v_{t|s}\, x_0}{v_t}

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.5, 0.5]).posterior_mean(np.array([1.0]), np.array([0.25]), 1)
        array([0.25])
        """
        t_, s_ = self._times(t, s)
        alpha_ts, variance_ts = self._transition(t_, s_)
        alpha_bar_s, variance_s = self._from_image(s_)
        variance_t = self._from_image(t_)[1]
        a, b = np.sqrt(alpha_ts) * variance_s / variance_t, np.sqrt(alpha_bar_s) * variance_ts / variance_t
        return _combine(a, x_t, b, x_0, t_.ndim, ("x_t", "x_0"))

    def posterior_mean_from_noise(self, x_t: Array, eps: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (18): the mean (16) in terms of the noise of eq. (8), or its prediction.

        .. math:: \mu_t = \frac{1}{\sqrt{\alpha_{t|s}}} \Bigl( x_t - \frac{v_{t|s}}{\sqrt{v_t}}\, \epsilon \Bigr)

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.36, 0.5]).posterior_mean_from_noise(np.array([2.0]), np.array([2.0]), 1)
        array([1.])
        """
        t_, s_ = self._times(t, s)
        a, b = self._mean_from_noise(t_, s_)
        return _combine(a, x_t, b, eps, t_.ndim, ("x_t", "eps"))

    def backward_step(self, x_t: Array, eps: Array, z: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (19): :math:`x_s = \mu_t(x_t, \epsilon) + \sigma_t z`, one step of Algorithm 2.

        At s = 0 the variance (15) vanishes, so that ``z`` has no effect, as Algorithm 2 demands.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.36, 0.5]).backward_step(np.array([2.0]), np.array([2.0]), np.array([9.0]), 1)
        array([1.])
        """
        t_, s_ = self._times(t, s)
        mean = self.posterior_mean_from_noise(x_t, eps, t_, s_)
        sigma = np.sqrt(self.posterior_variance(t_, s_))
        return _combine(np.ones(np.shape(sigma)), mean, sigma, z, t_.ndim, ("x_t", "z"))

    def backward_coefficients(self, t: int, s: int | None = None) -> tuple[Any, Any, Any]:
        r"""The a, b, c of eq. (19), :math:`x_s = a\, x_t + b\, \epsilon + c\, z`: floats, or arrays over modes.

        Examples
        --------
        >>> from diffmath.schedule import VarianceSchedule
        >>> VarianceSchedule([0.75, 0.5]).backward_coefficients(1)[0]
        2.0
        """
        t_, s_ = self._times(require_count("t", t), None if s is None else require_count("s", s, 0))
        a, b = self._mean_from_noise(t_, s_)
        return _number(a), _number(b), _number(np.sqrt(self.posterior_variance(t_, s_)))

    # Private

    def _from_image(self, t: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """alpha_bar_t and v_t of eq. (9)."""
        return self._transition(t, np.zeros_like(t))

    def _mean_from_noise(self, t: npt.NDArray[np.int64], s: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """The coefficients of x_t and of its noise in eq. (18)."""
        alpha_ts, variance_ts = self._transition(t, s)
        variance_t = self._from_image(t)[1]
        _require_invertible(alpha_ts, "alpha_t|s")
        return 1 / np.sqrt(alpha_ts), -variance_ts / np.sqrt(alpha_ts * variance_t)


def spread(coefficients: Any, n_axes: int, shape: tuple[int, ...]) -> Any:
    """Coefficients of the shape times.shape + modes, shaped to multiply samples of a shape (N, ..., *modes).

    ``n_axes`` is the number of the times' axes, 0 or 1. Coefficients may be of numpy or torch.
    """
    modes = tuple(coefficients.shape[n_axes:])
    if n_axes and (not shape or len(coefficients) != shape[0]):
        raise ValueError(f"t must have one entry for each sample; {len(coefficients)} times came with shape {shape}")
    free = len(shape) - n_axes - len(modes)
    if free < 0 or shape[len(shape) - len(modes) :] != modes:
        raise ValueError(
            f"samples of this process must have shape (N, ..., {', '.join(map(str, modes))}), to fit its "
            f"modes; their shape is {shape}"
        )
    return coefficients.reshape(len(coefficients), *[1] * free, *modes) if n_axes else coefficients


def _require_invertible(alpha: Any, name: str) -> None:
    if (alpha < TINY).any():
        raise ValueError(f"{name} must be at least {TINY:.3g} to be divided by; it is {alpha.min():.3g}")


def _combine(a: Any, x: Array, b: Any, y: Array, n_axes: int, names: tuple[str, str]) -> Array:
    """The sample-wise a x + b y in x's kind and dtype, with float64 coefficients cast where they meet the data."""
    if hasattr(x, "new_tensor") != hasattr(y, "new_tensor"):
        raise TypeError(
            f"the arrays {' and '.join(names)} must both be torch tensors or neither; got {type(x).__name__}, "
            f"{type(y).__name__}"
        )
    if hasattr(x, "new_tensor"):
        if not x.is_floating_point():
            raise TypeError(f"{names[0]} must be floating; it is {x.dtype}: images of 0..255 become images / 127.5 - 1")
        if y.is_complex():
            raise TypeError(f"{names[1]} must be real; it is {y.dtype}")
        import torch

        y, most = y.to(x.dtype), torch.finfo(x.dtype).max
    else:
        x = _floating(x, names[0])
        y, most = _floating(y, names[1]).astype(x.dtype, copy=False), float(np.finfo(x.dtype).max)
    if x.shape != y.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have one shape; they have {tuple(x.shape)} and {tuple(y.shape)}"
        )
    a, b = np.asarray(a), np.asarray(b)
    if (size := max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))) > most:
        raise ValueError(f"the coefficients must fit {x.dtype}, up to {most:.3g}; one is {size:.3g}")
    a, b = (spread(c, n_axes, tuple(x.shape)) for c in (a, b))
    if hasattr(x, "new_tensor"):
        return x.new_tensor(a) * x + x.new_tensor(b) * y
    return a.astype(x.dtype) * x + b.astype(x.dtype) * y


def _floating(x: Any, name: str) -> npt.NDArray[Any]:
    """The values as a floating numpy array; integers, most often pixels of 0..255, are refused."""
    if not isinstance(x, (list, tuple)) and np.asarray(x).ndim and np.asarray(x).dtype.kind in "iu":
        raise TypeError(
            f"{name} must be floating; the dtype is {np.asarray(x).dtype}: images of 0..255 become images / 127.5 - 1"
        )
    return real_array(x, name)


def _number(values: Any) -> Any:
    return values if np.ndim(values) else float(values)


def _as(like: Any, values: Any) -> Any:
    """Float64 values as what `like` is: a torch tensor on its device, a numpy array, or a float."""
    if hasattr(like, "new_tensor"):
        import torch

        return torch.tensor(values, device="cpu" if like.device.type == "mps" else like.device)  # MPS has no float64
    return _number(values)
