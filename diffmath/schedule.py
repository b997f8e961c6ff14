r"""The variance schedule: the paper's forward process, in which all pixels share one number.

Its transition is eq. (6): :math:`\alpha_{t|s} = \bar\alpha_t / \bar\alpha_s = \alpha_{s+1} \cdots \alpha_t`, and the
variance is :math:`1 - \alpha_{t|s}`. The equations on it are those of every `diffmath.process.ForwardProcess`.

Numerics. The printed :math:`1 - \bar\alpha_t` cancels for small ``t``. Here the schedule is one table,
:math:`\log \bar\alpha_t = \sum_i \log(1 - \beta_i)`, accumulated in twice the working precision, so that
:math:`\log \alpha_{t|s}` is a difference of two entries without cancellation, :math:`\alpha_{t|s}` is its ``exp`` and
:math:`1 - \alpha_{t|s}` its ``-expm1``. In units of the last place of a float64, the error is a few for
:math:`1 - \alpha_{t|s}` and a few plus :math:`|\log\alpha_{t|s}|` for :math:`\alpha_{t|s}`, whatever T is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import real_array, require_count, require_number
from diffmath.process import ForwardProcess, Times

__all__ = ["Times", "VarianceSchedule"]


class VarianceSchedule(ForwardProcess):
    r"""The sequence :math:`\beta_1, \ldots, \beta_T` and what follows from it.

    Parameters
    ----------
    beta : sequence of float, shape (T,)
        The variances added in each forward step (2), each in (0, 1).

    Attributes
    ----------
    n_steps : int
        T.
    beta, alpha, alpha_bar : numpy.ndarray, shape (T + 1,), float64, read-only
        :math:`\beta_t`, :math:`\alpha_t = 1 - \beta_t` (4) and :math:`\bar\alpha_t` (7), indexed by the paper's t;
        entry 0 is 0, 1 and 1.

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

        Examples
        --------
        >>> VarianceSchedule.linear(3, 0.1, 0.3).beta
        array([0. , 0.1, 0.2, 0.3])
        """
        first, last = require_number("beta_1", beta_1), require_number("beta_T", beta_T)
        for name, beta in (("beta_1", first), ("beta_T", last)):
            if not 0 < beta < 1:
                raise ValueError(f"{name} must lie in (0, 1); it is {beta}")
        return cls(np.linspace(first, last, require_count("n_steps", n_steps)))

    @classmethod
    def cosine(cls, n_steps: int = 500, offset: float = 0.008, beta_max: float = 0.999) -> VarianceSchedule:
        r"""The schedule :math:`\bar\alpha_t \propto \cos^2(\frac{\pi}{2} \frac{t/T + o}{1 + o})` with offset *o*.

        Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021), eq. (17). The offset keeps the
        first variances from being too small; ``beta_max`` caps :math:`\beta_t`, which would be 1 at t = T.

        Examples
        --------
        >>> VarianceSchedule.cosine(4, offset=0.0).alpha_bar[:4].round(4)
        array([1.    , 0.8536, 0.5   , 0.1464])
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

        Lin, Liu, Li and Yang, *Common Diffusion Noise Schedules and Sample Steps Are Flawed* (2024), algorithm 1, shift
        and scale :math:`r_t = \sqrt{\bar\alpha_t}` so that r_1 stays and r_T becomes 0. Here it becomes
        :math:`\delta`, as a prediction of the noise says nothing of the image where none is left: (17) divides by r_T.

        Two errors meet in the default. Of an image :math:`x_0` a total variation of
        :math:`\delta |x_0| / \sqrt{2 \pi}` is left between x_T and N(0, I), 1.2 % for MNIST; and (17) amplifies the
        roundings of float32 by :math:`1 / \delta`, to 1e-4. A network needs training with the new schedule, whose last
        noise levels it has never seen; `diffmath.ddpm.matched_start` is a remedy that needs none.

        Parameters
        ----------
        sqrt_alpha_bar_T : float
            :math:`\delta`, the amplitude of the image at t = T; in (0, :math:`\sqrt{\bar\alpha_1}`).

        Examples
        --------
        >>> round(VarianceSchedule.linear(500).zero_terminal(0.01).alpha_bar[500] ** 0.5, 6)
        np.float64(0.01)
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

    def arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """The betas from t = 1 on, from which the schedule can be built again.

        Examples
        --------
        >>> VarianceSchedule([0.5, 0.25]).arrays()["beta"]
        array([0.5 , 0.25])
        """
        return {"beta": self.beta[1:]}

    def __repr__(self) -> str:
        return f"VarianceSchedule(n_steps={self.n_steps}, beta_1={self.beta[1]:g}, beta_T={self.beta[-1]:g})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VarianceSchedule):
            return NotImplemented
        return np.array_equal(self.beta, other.beta)

    def __hash__(self) -> int:
        return hash(self.beta.tobytes())

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
