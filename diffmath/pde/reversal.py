r"""The renormalised flow as a generative model: two modes under noise, forwards to their invariant law and back.

It is section 4 of the paper on a circle. The angle :math:`\theta` of two modes, :math:`z = (\cos\theta, \sin\theta)`,
follows :math:`\mathrm{d}\theta = f\, \mathrm{d}t + g \circ \mathrm{d}W`, see `diffmath.pde.invariant.circle_density`.
Its density obeys the Fokker-Planck equation, and the score :math:`\partial_\theta \log p` reverses it, as the network
does in eq. (19) (Anderson 1982; Song et al. 2021):

.. math:: \partial_t p = -\partial_\theta (f p) + \tfrac12\, \partial_\theta (g\, \partial_\theta (g p)), \qquad
          \mathrm{d}\theta = -\bigl(f - \tfrac12 (g^2)' - g^2\, \partial_\theta \log p\bigr)\, \mathrm{d}\tau
          + g\, \mathrm{d}W , \tag{29}

with Itô's product and :math:`\tau = T - t`; and the same laws has the ordinary differential equation
:math:`\theta' = f - \tfrac14 (g^2)' - \tfrac12 g^2\, \partial_\theta \log p`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from diffmath._arguments import as_rng, real_array, require_count, require_positive
from diffmath.domains.eigenbasis import Floats
from diffmath.pde.invariant import circle_density

__all__ = ["CircleModel", "graded_times"]


def graded_times(T: float, n_steps: int, power: float = 3.0) -> Floats:
    """Times from T down to 0, dense near 0, where the score is large: T (1 - i / n)^power.

    Parameters
    ----------
    T : float
    n_steps : int
    power : float
        1 makes equal steps.

    Returns
    -------
    numpy.ndarray, float64, shape (n_steps + 1,)

    Examples
    --------
    >>> graded_times(1.0, 2).tolist()
    [1.0, 0.125, 0.0]
    """
    n, power = require_count("n_steps", n_steps), require_positive("power", power)
    times: Floats = require_positive("T", T) * (1 - np.arange(n + 1) / n) ** power
    return times


class CircleModel:
    """Eq. (29): two modes of the forced flow with a law to start from, and the way back to it by the exact score.

    Parameters
    ----------
    density : array of float, shape (N,)
        The initial density at the angles 2 pi i / N, positive but for rounding and smooth, as it is taken for a
        trigonometric polynomial; N even. It is normalised.
    rates, D : array of float, shape (2,)
        The same as for `diffmath.pde.invariant.circle_density`.
    C : float

    Examples
    --------
    >>> theta = 2 * np.pi * np.arange(64) / 64
    >>> model = CircleModel(np.exp(3 * np.cos(theta - 2)), rates=[1.0, 4.0], D=[2.0, 1.0])
    >>> bool(np.allclose(model.density(50.0), circle_density(theta, [1.0, 4.0], [2.0, 1.0])))
    True
    """

    def __init__(self, density: npt.ArrayLike, rates: npt.ArrayLike, D: npt.ArrayLike, C: float = 1.0) -> None:
        p = real_array(density, "density")
        if p.ndim != 1 or len(p) < 8 or len(p) % 2:
            raise ValueError(f"density must be an even number of values, at least 8; its shape is {p.shape}")
        if not (np.isfinite(p).all() and p.sum() > 0 and p.min() > -1e-9 * p.max()):
            raise ValueError("density must be finite and not negative")
        n = len(p)
        self.angles: Floats = 2 * np.pi * np.arange(n) / n
        self.p_0: Floats = p / (p.mean() * 2 * math.pi)
        self.invariant = circle_density(self.angles, rates, D, C)  # checks the arguments
        m, d = real_array(rates, "rates"), real_array(D, "D")
        self._drift = (m[1] - m[0]) / 2  # f = -drift sin(2 theta)
        self._spread = ((d[0] + d[1]) / (2 * C), (d[0] - d[1]) / (2 * C))  # g^2 = mean - half cos(2 theta)
        derivative = np.fft.ifft(1j * _wave_numbers(n)[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real
        f, g = -self._drift * np.sin(2 * self.angles), np.sqrt(self._g_squared(self.angles))
        self._eigenvalues, self._vectors = np.linalg.eig(
            -derivative * f + 0.5 * derivative @ (g[:, None] * derivative * g)
        )
        self._coefficients = np.linalg.solve(self._vectors, self.p_0.astype(np.complex128))

    def density(self, t: float) -> Floats:
        """The density at time t, by the eigenvalues of the spectral Fokker-Planck operator.

        Parameters
        ----------
        t : float
            A time that is not negative.

        Returns
        -------
        numpy.ndarray, float64, shape (N,)
        """
        if t == 0:
            return self.p_0
        decay = np.exp(require_positive("t", t) * self._eigenvalues)
        p: Floats = (self._vectors @ (decay * self._coefficients)).real
        return p

    def sample(
        self,
        start: npt.ArrayLike,
        times: npt.ArrayLike,
        method: Literal["sde", "ode"] = "sde",
        rng: np.random.Generator | int | None = None,
    ) -> Floats:
        """Run the model backwards, from angles at the first of the times to angles at the last.

        Parameters
        ----------
        start : array of float, shape (B,)
        times : array of float, shape (n,)
            Descending, such as `graded_times`.
        method : {"sde", "ode"}
            The reversed equation by Euler and Maruyama, or the ordinary differential equation by Heun's method.
        rng : numpy.random.Generator or int, optional
            The source of the noise of "sde".

        Returns
        -------
        numpy.ndarray, float64, shape (B,)

        Examples
        --------
        >>> theta = 2 * np.pi * np.arange(64) / 64
        >>> model = CircleModel(np.exp(3 * np.cos(theta - 2)), rates=[1.0, 4.0], D=[2.0, 1.0])
        >>> model.sample([0.0, 1.0, 2.0], [1.0, 0.5, 0.1], "ode").shape
        (3,)
        """
        theta, t = real_array(start, "start").astype(np.float64), real_array(times, "times")
        if t.ndim != 1 or len(t) < 2 or not (np.diff(t) < 0).all() or t[-1] < 0:
            raise ValueError("times must be descending and not negative, at least two")
        if method not in ("sde", "ode"):
            raise ValueError(f'method must be "sde" or "ode"; it is {method!r}')
        generator = as_rng(rng)
        scores = [self._score(self.density(float(s))) for s in t]
        for i, dt in enumerate(-np.diff(t)):
            if method == "sde":
                velocity = self._velocity(theta, scores[i], 1.0)
                theta = theta - dt * velocity
                theta += np.sqrt(self._g_squared(theta + dt * velocity) * dt) * generator.standard_normal(theta.shape)
            else:
                first = self._velocity(theta, scores[i], 0.5)
                second = self._velocity(theta - dt * first, scores[i + 1], 0.5)
                theta = theta - dt * (first + second) / 2
        return theta

    def _velocity(self, theta: Floats, score: Floats, share: float) -> Floats:
        """What the forward drift becomes on the way back, f - share / 2 (g^2)' - share g^2 score, in Ito's sense."""
        slope = 2 * self._spread[1] * np.sin(2 * theta)  # (g^2)'
        ito = -self._drift * np.sin(2 * theta) + slope / 4
        at = np.interp(theta, self._fine, score, period=2 * np.pi)
        velocity: Floats = ito - share * (slope + self._g_squared(theta) * at)
        return velocity

    @property
    def _fine(self) -> Floats:
        """The angles at which scores are tabulated."""
        n = 16 * len(self.angles)
        return 2 * np.pi * np.arange(n) / n

    def _score(self, p: Floats) -> Floats:
        """The derivative of log p at the fine angles."""
        n, fine = len(p), 16 * len(p)
        spectrum = np.fft.rfft(p)
        k = np.arange(len(spectrum))
        values = np.fft.irfft(spectrum, fine) * (fine / n)
        slope = np.fft.irfft(1j * k * spectrum, fine) * (fine / n)
        score: Floats = slope / np.maximum(values, 1e-12 * values.max())
        return score

    def _g_squared(self, theta: Floats) -> Floats:
        squared: Floats = self._spread[0] - self._spread[1] * np.cos(2 * theta)
        return squared


def _wave_numbers(n: int) -> Floats:
    k = np.fft.fftfreq(n, 1 / n).astype(np.float64)
    k[n // 2] = 0  # the highest cosine has no derivative on the grid
    return k
