r"""The variance schedule: the forward process, and the exact backward step given the noise.

Equations (2)-(9) and (15)-(19) of the paper. Time is the paper's integer ``t``: 0 is the image and 1..T are
the noise levels, so every table has T + 1 entries and no index is ever shifted.

All of these equations hold for a jump between *any* two times ``s < t`` of the schedule, once
:math:`\alpha_t` is replaced by

.. math:: \alpha_{t|s} = \bar\alpha_t / \bar\alpha_s = \alpha_{s+1} \cdots \alpha_t ,

which is eq. (6) read as a jump. The methods therefore take an earlier time ``s``, by default ``t - 1``.

Numerics. The printed :math:`1 - \bar\alpha_t` cancels for small ``t``. Here the schedule is one table,
:math:`\log \bar\alpha_t = \sum_i \log(1 - \beta_i)`, accumulated in twice the working precision, so that
:math:`\log \alpha_{t|s}` is a difference of two entries without cancellation, :math:`\alpha_{t|s}` is its
``exp`` and :math:`1 - \alpha_{t|s}` its ``-expm1``: in units of the last place of a float64, the error is a few for
:math:`1 - \alpha_{t|s}` and a few plus :math:`|\log\alpha_{t|s}|` for :math:`\alpha_{t|s}`, whatever T is.

The module needs numpy alone; torch tensors are recognised, and answered in kind, without importing torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import ReadOnly, real_array, require_count, require_number, require_unmasked

__all__ = ["VarianceSchedule"]

Array = Any
"""A numpy array or a torch tensor."""

Times = Any
"""A time of the schedule: an int, or an integer array or tensor with one entry per sample."""

TINY = float(np.finfo(np.float64).tiny)


class VarianceSchedule(ReadOnly):
    r"""The sequence :math:`\beta_1, \ldots, \beta_T` and what follows from it.

    Parameters
    ----------
    beta : sequence of float, shape (T,)
        The variances :math:`\beta_1, \ldots, \beta_T` added in each forward step (2), each in (0, 1).

    Attributes
    ----------
    n_steps : int
        T.
    beta, alpha, alpha_bar : numpy.ndarray, shape (T + 1,), float64, read-only
        :math:`\beta_t`, :math:`\alpha_t = 1 - \beta_t` (4) and :math:`\bar\alpha_t` (7), indexed by the paper's t;
        entry 0 is 0, 1 and 1.

    Raises
    ------
    ValueError
        If ``beta`` is empty, not one-dimensional, or has an entry outside (0, 1).
    TypeError
        If it does not hold real numbers.

    Examples
    --------
    >>> s = VarianceSchedule.linear(n_steps=500, beta_1=1e-4, beta_T=0.02)
    >>> round(float(s.alpha_bar[500]) ** 0.5, 4)
    0.0797
    """

    def __init__(self, beta: Sequence[float] | npt.NDArray[np.floating[Any]]) -> None:
        betas = real_array(beta, "beta").astype(np.float64)
        if betas.ndim != 1 or betas.size == 0:
            raise ValueError(f"beta must be a non-empty sequence beta_1, ..., beta_T; its shape is {betas.shape}")
        outside = ~((betas > 0) & (betas < 1))  # also catches NaN
        if outside.any():
            i = int(np.argmax(outside))
            raise ValueError(f"beta must lie in (0, 1); beta[{i + 1}] = {betas[i]}")
        self.n_steps = len(betas)
        self.beta = np.concatenate([[0.0], betas])
        self.alpha = 1.0 - self.beta
        self._log_alpha_bar = _cumulative_sum(np.log1p(-self.beta))
        times = np.arange(self.n_steps + 1)
        self.alpha_bar = self._transition(times, np.zeros_like(times))[0]
        self._freeze()

    @classmethod
    def linear(cls, n_steps: int = 500, beta_1: float = 1e-4, beta_T: float = 0.02) -> VarianceSchedule:
        r"""Variances that increase linearly from :math:`\beta_1` to :math:`\beta_T`.

        The defaults are the paper's; Ho, Jain and Abbeel (2020) use the same range with T = 1000.

        Parameters
        ----------
        n_steps : int
            T.
        beta_1, beta_T : float
            The first and the last variance, in (0, 1).

        Raises
        ------
        ValueError
            If ``n_steps`` is not positive or a variance lies outside (0, 1).
        TypeError
            If ``n_steps`` is no integer.
        """
        first, last = require_number("beta_1", beta_1), require_number("beta_T", beta_T)
        return cls(np.linspace(first, last, require_count("n_steps", n_steps)))

    @classmethod
    def cosine(cls, n_steps: int = 500, offset: float = 0.008, beta_max: float = 0.999) -> VarianceSchedule:
        r"""The schedule :math:`\bar\alpha_t \propto \cos^2(\frac{\pi}{2} \frac{t/T + o}{1 + o})` with offset *o*.

        Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021), eq. (17).

        Parameters
        ----------
        n_steps : int
            T.
        offset : float
            The *o* that keeps the first variances from being too small; finite, not negative.
        beta_max : float
            Caps :math:`\beta_t`, which would be 1 at t = T; in (0, 1).

        Raises
        ------
        ValueError
            If an argument is out of range.
        TypeError
            If ``n_steps`` is no integer.
        """
        n, offset = require_count("n_steps", n_steps), require_number("offset", offset)
        beta_max = require_number("beta_max", beta_max)
        if not 0 < beta_max < 1:
            raise ValueError(f"beta_max must lie in (0, 1); it is {beta_max}")
        if not 0 <= offset < np.inf:
            raise ValueError(f"offset must be finite and not negative; it is {offset}")
        angle = np.pi / 2 * (np.arange(n + 1) / n + offset) / (1 + offset)
        before, after = angle[:-1], angle[1:]
        # 1 - cos^2(after) / cos^2(before), by a product formula: the difference of the squares cancels.
        beta = np.sin(after - before) * np.sin(after + before) / np.cos(before) ** 2
        return cls(np.minimum(beta, beta_max))

    def zero_terminal(self, sqrt_alpha_bar_T: float = 1e-3) -> VarianceSchedule:
        r"""The same with (nearly) nothing of the image left at t = T, so that N(0, I) is the law of x_T.

        Lin, Liu, Li and Yang, *Common Diffusion Noise Schedules and Sample Steps Are Flawed* (2024), algorithm 1: with
        :math:`r_t = \sqrt{\bar\alpha_t}`, and :math:`\delta` for their 0,

        .. math:: r_t' = \delta + (r_t - r_T) \frac{r_1 - \delta}{r_1 - r_T}, \qquad t = 1, \ldots, T,

        shifted and scaled so that the first stays and the last is :math:`\delta`. It cannot be 0 here: a noise
        prediction says nothing of the image where there is none, (17) divides by r_T. The default is small enough, as
        :math:`N(\delta x_0, (1 - \delta^2) I)` is, to leading order, within :math:`\delta |x_0| / \sqrt{2 \pi}` of N(0,
        I) in total variation, 1.2 % for an MNIST image (:math:`|x_0|` about 30), and large enough for (17), which
        amplifies the roundings of float32 by :math:`1 / \delta` to 1e-4, and for the last beta, whose rounding near 1
        leaves a relative error of :math:`10^{-16} / \alpha_T` in :math:`\bar\alpha_T`.

        A network trained with one schedule meets other noise levels at the same times of the other, and those with less
        of the image than the old r_T it has never seen (69 of the 500 times, for the paper's): it needs training with
        the new schedule. `diffmath.ddpm.matched_start` is a remedy that needs none.

        Parameters
        ----------
        sqrt_alpha_bar_T : float
            :math:`\delta`, the amplitude of the image at t = T; in (0, :math:`\sqrt{\bar\alpha_1}`).

        Returns
        -------
        VarianceSchedule
            With as many steps.

        Raises
        ------
        ValueError
            If T is 1, or the amplitude is out of range, or so small that the last beta rounds to 1.
        """
        if self.n_steps == 1:
            raise ValueError("a schedule of one step cannot keep its first amplitude and have another last one")
        sqrt_alpha_bar_T = require_number("sqrt_alpha_bar_T", sqrt_alpha_bar_T)
        times = np.arange(1, self.n_steps + 1)
        amplitude = np.sqrt(self.alpha_bar[1:])
        if not 0 < sqrt_alpha_bar_T < amplitude[0]:
            raise ValueError(f"sqrt_alpha_bar_T must lie in (0, {amplitude[0]:.6g}); it is {sqrt_alpha_bar_T}")
        alpha, variance = self._transition(np.full_like(times, self.n_steps), times)
        # r_t - r_T, and r_{t-1} - r_t below, in quotients: the differences themselves cancel.
        above_last = amplitude * variance / (1 + np.sqrt(alpha))
        scale = (amplitude[0] - sqrt_alpha_bar_T) / above_last[0]
        new = sqrt_alpha_bar_T + scale * above_last
        step = amplitude[:-1] * self.beta[2:] / (1 + np.sqrt(self.alpha[2:]))
        beta = scale * step * (new[:-1] + new[1:]) / new[:-1] ** 2
        return VarianceSchedule(np.concatenate([self.beta[1:2], beta]))

    def __repr__(self) -> str:
        return f"VarianceSchedule(n_steps={self.n_steps}, beta_1={self.beta[1]:g}, beta_T={self.beta[-1]:g})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VarianceSchedule):
            return NotImplemented
        return np.array_equal(self.beta, other.beta)

    def __hash__(self) -> int:
        return hash(self.beta.tobytes())

    def subsequence(self, n_steps: int | None = None) -> npt.NDArray[np.int64]:
        """Times for sampling in fewer steps: 0 = t_0 < t_1 < ... < t_n = T, as equally spaced as integers can be.

        Parameters
        ----------
        n_steps : int, optional
            The number n of jumps, from 1 to T; all T unless given.

        Returns
        -------
        numpy.ndarray, shape (n_steps + 1,), int64

        Raises
        ------
        ValueError
            If ``n_steps`` is not in 1..T.
        TypeError
            If ``n_steps`` is no integer.
        """
        n = self.n_steps if n_steps is None else require_count("n_steps", n_steps)
        if n > self.n_steps:
            raise ValueError(f"n_steps must be at most T = {self.n_steps}; it is {n}")
        return np.arange(n + 1) * self.n_steps // n  # as n <= T the gaps are at least 1

    # Forwards

    def transition(self, t: Times, s: Times | None = None) -> tuple[Array, Array]:
        r"""The pair (:math:`\alpha_{t|s}`, :math:`1 - \alpha_{t|s}`) of the transition from time s to time t.

        The transition density is :math:`p(x_t | x_s) = N(x_t; \sqrt{\alpha_{t|s}}\, x_s, (1 - \alpha_{t|s}) I)`:
        eq. (3) for s = t - 1, (5) for t - 2, (6) for t - k, (9) for 0. By eq. (11) it is the same given the image too.

        Parameters
        ----------
        t, s : int or integer array, at most one-dimensional
            Times with 0 <= s < t <= T; s is t - 1 unless given.

        Returns
        -------
        tuple of float64, each of the shape that t and s have together (torch tensors if t is one)

        Raises
        ------
        ValueError
            If a time is out of range.
        TypeError
            If a time is not an integer.
        """
        t_, s_ = self._times(t, s)
        alpha, variance = self._transition(t_, s_)
        return _as(t, alpha), _as(t, variance)

    def forward_step(self, x_s: Array, eps: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eqs. (2), (4), (5), (6): :math:`x_t = \sqrt{\alpha_{t|s}}\, x_s + \sqrt{1 - \alpha_{t|s}}\, \epsilon`.

        One forward step, or one jump, from time s to time t; with s = 0 it is eq. (8).

        Parameters
        ----------
        x_s, eps : array, shape (N, ...)
            The state at time s and standard Gaussian noise, of one shape.
        t, s : int or integer array of shape (N,)
            Times with 0 <= s < t <= T; s is t - 1 unless given.

        Returns
        -------
        array, the shape, dtype, kind and device of ``x_s``

        Raises
        ------
        ValueError
            If a time is out of range, or the shapes do not fit.
        TypeError
            If a time is not an integer.
        """
        alpha, variance = self._transition(*self._times(t, s))
        return _combine(np.sqrt(alpha), x_s, np.sqrt(variance), eps)

    def add_noise(self, x_0: Array, eps: Array, t: Times) -> Array:
        r"""Eq. (8): :math:`x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon`.

        The forward process in a single leap from the image. With ``t = 0`` the image is returned unchanged.

        Parameters
        ----------
        x_0, eps : array, shape (N, ...)
            Images and standard Gaussian noise, of one shape.
        t : int or integer array of shape (N,)
            Times, 0 <= t <= T.

        Returns
        -------
        array, the shape, dtype, kind and device of ``x_0``

        Raises
        ------
        ValueError
            If a time is out of range, or the shapes do not fit.
        TypeError
            If a time is not an integer.
        """
        t_ = self._time(t, "t", least=0)
        alpha_bar, variance = self._transition(t_, np.zeros_like(t_))
        return _combine(np.sqrt(alpha_bar), x_0, np.sqrt(variance), eps)

    # Backwards

    def predict_x_0(self, x_t: Array, eps: Array, t: Times) -> Array:
        r"""Eq. (8) solved for x_0: :math:`x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \epsilon) / \sqrt{\bar\alpha_t}`.

        The step from (16) to (17).

        Parameters
        ----------
        x_t, eps : array, shape (N, ...)
            The noisy images at time t, and their noise or its prediction, of one shape.
        t : int or integer array of shape (N,)
            Times, 1 <= t <= T.

        Returns
        -------
        array, the shape, dtype, kind and device of ``x_t``

        Raises
        ------
        ValueError
            If a time is out of range, the shapes do not fit, or alpha_bar_t is below the least float64.
        TypeError
            If a time is not an integer.
        """
        t_ = self._time(t, "t", least=1)
        alpha_bar, variance = self._transition(t_, np.zeros_like(t_))
        _require_invertible(alpha_bar, "alpha_bar_t")
        return _combine(1 / np.sqrt(alpha_bar), x_t, -np.sqrt(variance / alpha_bar), eps)

    def posterior_variance(self, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (15): :math:`\sigma_t^2 = (1 - \alpha_{t|s})(1 - \bar\alpha_s) / (1 - \bar\alpha_t)`; 0 at s = 0.

        The variance of :math:`p(x_s | x_t, x_0)`, eq. (14).

        Parameters
        ----------
        t, s : int or integer array, at most one-dimensional
            Times with 0 <= s < t <= T; s is t - 1 unless given.

        Returns
        -------
        float64 of the shape that t and s have together (a torch tensor if t is one)

        Raises
        ------
        ValueError
            If a time is out of range.
        TypeError
            If a time is not an integer.
        """
        t_, s_ = self._times(t, s)
        zero = np.zeros_like(t_)
        variance_ts, variance_s, variance_t = (self._transition(a, b)[1] for a, b in ((t_, s_), (s_, zero), (t_, zero)))
        return _as(t, variance_ts * (variance_s / variance_t))  # a quotient in [0, 1]: the product might underflow

    def posterior_mean(self, x_t: Array, x_0: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (16): the mean of :math:`p(x_s | x_t, x_0)`; eq. (17) with x_0 from `predict_x_0`.

        .. math:: \mu_t = \frac{\sqrt{\alpha_{t|s}}\,(1 - \bar\alpha_s)\, x_t
                         + \sqrt{\bar\alpha_s}\,(1 - \alpha_{t|s})\, x_0}{1 - \bar\alpha_t}

        Parameters
        ----------
        x_t, x_0 : array, shape (N, ...)
            The noisy images at time t, and the images, of one shape.
        t, s : int or integer array of shape (N,)
            Times with 0 <= s < t <= T; s is t - 1 unless given.

        Returns
        -------
        array, the shape, dtype, kind and device of ``x_t``

        Raises
        ------
        ValueError
            If a time is out of range, or the shapes do not fit.
        TypeError
            If a time is not an integer.
        """
        t_, s_ = self._times(t, s)
        zero = np.zeros_like(t_)
        alpha_ts, variance_ts = self._transition(t_, s_)
        alpha_bar_s, variance_s = self._transition(s_, zero)
        variance_t = self._transition(t_, zero)[1]
        return _combine(
            np.sqrt(alpha_ts) * variance_s / variance_t, x_t, np.sqrt(alpha_bar_s) * variance_ts / variance_t, x_0
        )

    def posterior_mean_from_noise(self, x_t: Array, eps: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (18): the mean (16) in terms of the noise of eq. (8).

        .. math:: \mu_t = \frac{1}{\sqrt{\alpha_{t|s}}}
                  \Bigl( x_t - \frac{1 - \alpha_{t|s}}{\sqrt{1 - \bar\alpha_t}}\, \epsilon \Bigr)

        Parameters
        ----------
        x_t, eps : array, shape (N, ...)
            The noisy images at time t, and their noise or its prediction, of one shape.
        t, s : int or integer array of shape (N,)
            Times with 0 <= s < t <= T; s is t - 1 unless given.

        Returns
        -------
        array, the shape, dtype, kind and device of ``x_t``

        Raises
        ------
        ValueError
            If a time is out of range, or the shapes do not fit.
        TypeError
            If a time is not an integer.
        """
        a, b = self._mean_from_noise(*self._times(t, s))
        return _combine(a, x_t, b, eps)

    def backward_step(self, x_t: Array, eps: Array, z: Array, t: Times, s: Times | None = None) -> Array:
        r"""Eq. (19): :math:`x_s = \mu_t(x_t, \epsilon) + \sigma_t z`, one step of Algorithm 2.

        At s = 0 the variance (15) vanishes, so that ``z`` has no effect, as the paper's Algorithm 2 demands.

        Parameters
        ----------
        x_t, eps, z : array, shape (N, ...)
            The noisy images at time t, the prediction of their noise, and fresh standard Gaussian noise.
        t, s : int or integer array of shape (N,)
            Times with 0 <= s < t <= T; s is t - 1 unless given.

        Returns
        -------
        array, the shape, dtype, kind and device of ``x_t``

        Raises
        ------
        ValueError
            If a time is out of range, or the shapes do not fit.
        TypeError
            If a time is not an integer.
        """
        t_, s_ = self._times(t, s)
        mean = self.posterior_mean_from_noise(x_t, eps, t_, s_)
        return _combine(np.ones(t_.shape), mean, np.sqrt(self.posterior_variance(t_, s_)), z)

    def backward_coefficients(self, t: int, s: int | None = None) -> tuple[float, float, float]:
        r"""The three numbers of eq. (19): :math:`x_s = a\, x_t + b\, \epsilon + c\, z`.

        For samplers that update x in place; `backward_step` is the same for arrays of times.

        Parameters
        ----------
        t, s : int
            Times with 0 <= s < t <= T; s is t - 1 unless given.

        Returns
        -------
        a, b, c : float
            :math:`1 / \sqrt{\alpha_{t|s}}`,
            :math:`-(1 - \alpha_{t|s}) / \sqrt{\alpha_{t|s} (1 - \bar\alpha_t)}` and :math:`\sigma_t`.

        Raises
        ------
        ValueError
            If a time is out of range, or alpha_t|s is below the least float64.
        TypeError
            If a time is not an integer.
        """
        a, b = self._mean_from_noise(*self._times(t, s))
        return float(a), float(b), float(np.sqrt(self.posterior_variance(t, s)))

    # Private

    def _time(self, t: Times, name: str, least: int) -> npt.NDArray[np.int64]:
        """The times as an int64 array, checked to lie in least..T."""
        require_unmasked(t, name)
        times = np.asarray(t.detach().cpu() if hasattr(t, "detach") else t)
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

    def _mean_from_noise(self, t: npt.NDArray[np.int64], s: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """The coefficients of x_t and of its noise in eq. (18)."""
        alpha_ts, variance_ts = self._transition(t, s)
        variance_t = self._transition(t, np.zeros_like(t))[1]
        _require_invertible(alpha_ts, "alpha_t|s")
        return 1 / np.sqrt(alpha_ts), -variance_ts / np.sqrt(alpha_ts * variance_t)

    def _transition(self, t: npt.NDArray[np.int64], s: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """alpha_{t|s} and 1 - alpha_{t|s}, both to a few units in the last place; s <= t, unchecked."""
        high, low = self._log_alpha_bar
        log_high, log_low = high[t] - high[s], low[t] - low[s]
        # Betas so small that they are lost even there, beside the larger ones before them, are summed by themselves.
        lost = (np.abs(log_high + log_low) < 1e-14 * np.abs(high[s])) & (t > s)
        if lost.any():
            log_high, log_low = np.array(log_high), np.where(lost, 0.0, log_low)
            pairs = zip(np.broadcast_to(s, lost.shape)[lost], np.broadcast_to(t, lost.shape)[lost], strict=True)
            log_high[lost] = [math.fsum(np.log1p(-self.beta[i + 1 : j + 1])) for i, j in pairs]
        return np.exp(log_high) * np.exp(log_low), 0.0 - np.expm1(log_high + log_low)


def _require_invertible(alpha: Any, name: str) -> None:
    if (alpha < TINY).any():
        raise ValueError(f"{name} must be at least {TINY:.3g} to be divided by; it is {alpha.min():.3g}")


def _cumulative_sum(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Prefix sums in twice float64's precision, as a (2, n) array whose rows add up to them (Knuth's two-sum)."""
    sums = np.empty((2, len(terms)))
    high = low = 0.0
    for i, term in enumerate(terms.tolist()):
        total = high + term
        virtual = total - high
        low += (high - (total - virtual)) + (term - virtual)
        high = total
        sums[:, i] = high, low
    return sums


def _combine(a: Any, x: Array, b: Any, y: Array) -> Array:
    """The sample-wise a x + b y in x's kind and dtype, with float64 coefficients cast where they meet the data."""
    if hasattr(x, "new_tensor") != hasattr(y, "new_tensor"):
        raise TypeError(f"the arrays must both be torch tensors or neither; got {type(x).__name__}, {type(y).__name__}")
    if hasattr(x, "new_tensor"):
        if not x.is_floating_point():
            raise TypeError(f"tensors must be floating; got {x.dtype}: images of 0..255 become images / 127.5 - 1")
        if y.is_complex():
            raise TypeError(f"tensors must be real; got {y.dtype}")
        import torch

        y, most = y.to(x.dtype), torch.finfo(x.dtype).max
    else:
        x = _floating(x)
        y, most = _floating(y).astype(x.dtype, copy=False), float(np.finfo(x.dtype).max)
    if x.shape != y.shape:
        raise ValueError(f"the two arrays must have one shape; they have {tuple(x.shape)} and {tuple(y.shape)}")
    a, b = np.asarray(a), np.asarray(b)
    if (size := max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))) > most:
        raise ValueError(f"the coefficients must fit {x.dtype}, up to {most:.3g}; one is {size:.3g}")
    if a.ndim == 1:
        if x.ndim == 0 or len(a) != len(x):
            raise ValueError(f"t must have one entry for each sample; {len(a)} times came with shape {tuple(x.shape)}")
        a, b = (c.reshape(-1, *[1] * (x.ndim - 1)) for c in (a, b))
    if hasattr(x, "new_tensor"):
        return x.new_tensor(a) * x + x.new_tensor(b) * y
    return a.astype(x.dtype) * x + b.astype(x.dtype) * y


def _floating(x: Any) -> npt.NDArray[Any]:
    """As a numpy array of a floating dtype. Pixels of 0..255 are the usual integers, and not what eq. (8) is about."""
    if not isinstance(x, (list, tuple)) and np.asarray(x).ndim and np.asarray(x).dtype.kind in "iu":
        raise TypeError(
            f"arrays must be floating; the dtype is {np.asarray(x).dtype}: images of 0..255 become images / 127.5 - 1"
        )
    return real_array(x, "arrays")


def _as(like: Any, values: Any) -> Any:
    """Float64 values as what `like` is: a torch tensor on its device, a numpy array, or a float."""
    if hasattr(like, "new_tensor"):
        import torch

        return torch.tensor(values, device="cpu" if like.device.type == "mps" else like.device)  # MPS has no float64
    return values if np.ndim(values) else float(values)
