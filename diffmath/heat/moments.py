r"""The best affine predictions of the flow from a noisy state, mode by mode, from a training set.

With the mean m and variance S of a mode of :math:`u_k`, and the increment :math:`d = u_{k-1} - u_k`, the state
:math:`x = u_k + \sigma \epsilon` predicts

.. math:: m + \frac{S}{S + \sigma^2} (x - m), \qquad
          \bar d + \frac{\operatorname{Cov}(d, u)}{S + \sigma^2} (x - m),

and leaves the variances :math:`S \sigma^2 / (S + \sigma^2)` and
:math:`R = \operatorname{Var} d - \operatorname{Cov}(d, u)^2 / (S + \sigma^2)`. The network adds what is not affine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Moments"]

Floats = npt.NDArray[np.float64]
TABLE = npt.NDArray[np.float32]
ROUNDING = 1e-9  # of Var d: a smaller residual is zero


class Moments(NamedTuple):
    """Tables over the times 0..K, float32 of shape (K + 1, H, W); of the increments row 0 is unused.

    Attributes
    ----------
    mean, variance : numpy.ndarray
        m and S of the modes of the flow.
    covariance, residual : numpy.ndarray
        Cov(d, u), and the variance R of d that is left when x is known.
    """

    mean: TABLE
    variance: TABLE
    covariance: TABLE
    residual: TABLE

    def tables(self, times: Floats, sigma: Floats, mu: Floats) -> dict[str, Floats]:
        """What prediction and loss need of a state: whitening, means, gains, residual deviations and weights.

        The weights of the squared errors, in units of the residual variance, are w / (w + 0.1) with the share w of the
        signal in x, and q / (q + 0.1) with q = R over the noise that a step adds anew (at the heat equation's rate).
        """
        m, S, G, R = (table.astype(np.float64) for table in self)
        noise = np.broadcast_to(sigma.reshape(-1, 1, 1) ** 2, S.shape)
        total = np.where(S + noise > 0, S + noise, 1.0)
        left = S * noise / total
        fresh = before(noise) * -np.expm1(-2 * mu * np.diff(times, prepend=0.0).reshape(-1, 1, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            weight_u = np.where(left > 0, 1 / (left + 0.1 * noise), 0.0)  # w / (w + 0.1) / left, as left = w noise
            weight_d = np.where(R > 0, 1 / (R + 0.1 * fresh), 0.0)
        return {
            "mean": m,
            "whitening": total**-0.5,
            "gain": S / total,
            "deviation": left**0.5,
            "mean_increment": before(m) - m,
            "gain_increment": G / total,
            "deviation_increment": R**0.5,
            "weight": weight_u,
            "weight_increment": weight_d,
        }


def before(table: Floats) -> Floats:
    """A table over times moved by one: row k has what belongs to k - 1, row 0 its own."""
    return np.concatenate([table[:1], table[:-1]])
