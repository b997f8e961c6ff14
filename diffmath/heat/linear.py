r"""The linear sibling of the heat model: a Gaussian process that blurs as it adds noise.

Mode by mode :math:`x_k = a_k x_0 + \sigma_k \epsilon`, with :math:`a_k = r_k e^{-\mu \tau_k}` and one renormalisation
:math:`r_k` for all images, in place of each image's own. It is Markov if :math:`\sigma_k / a_k` increases in every
mode; then eqs. (2)-(19) hold per mode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import real_array, require_instance, require_number
from diffmath.domains.eigenbasis import Eigenbasis
from diffmath.heat.grid import require_times
from diffmath.process import ForwardProcess

__all__ = ["LinearHeatProcess"]


class LinearHeatProcess(ForwardProcess):
    r"""Eq. (35): a forward process on the amplitudes of eigenfunctions, which decay like the heat flow.

    Parameters
    ----------
    domain : Eigenbasis
        Its modes are the last axes of the samples.
    times : array of float, shape (T + 1,)
        The times :math:`\tau_k` of the heat flow, increasing from 0.
    sigma : array of float, shape (T + 1,)
        The deviation of the noise, 0 and then positive.
    r : array of float, shape (T + 1,), optional
        The renormalisation, positive, 1 at first; all 1 by default.
    floor : float
        In [0, 1): the decay is :math:`f + (1 - f) e^{-\mu \tau}`, so that no mode is lost in float64.

    Raises
    ------
    ValueError
        If the process is not Markov; it names the mode and the time.

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> process = LinearHeatProcess(Box(4), times=[0, 0.01, 0.02], sigma=[0, 0.5, 1.0])
    >>> process.add_noise(np.ones((1, 4)), np.zeros((1, 4)), 2).round(3).tolist()
    [[1.0, 0.821, 0.454, 0.169]]
    """

    def __init__(
        self,
        domain: Eigenbasis,
        times: npt.ArrayLike,
        sigma: npt.ArrayLike,
        r: npt.ArrayLike | None = None,
        floor: float = 0.0,
    ) -> None:
        require_instance("domain", domain, Eigenbasis)
        t, noise = require_times(times), real_array(sigma, "sigma").astype(np.float64)
        scale = np.ones(len(t)) if r is None else real_array(r, "r").astype(np.float64)
        if noise.shape != t.shape or noise[0] != 0 or not (noise[1:] > 0).all():
            raise ValueError(f"sigma must be one for each time, 0 and then positive; it is {noise}")
        if scale.shape != t.shape or scale[0] != 1 or not (scale > 0).all():
            raise ValueError(f"r must be one for each time, 1 and then positive; it is {scale}")
        floor = require_number("floor", floor)
        if not 0 <= floor < 1:
            raise ValueError(f"floor must lie in [0, 1); it is {floor}")
        self.n_steps, self.modes = len(t) - 1, domain.mode_shape
        by_mode = (-1, *[1] * len(self.modes))
        exponents = np.multiply.outer(t, domain.eigenvalues)
        self._log_amplitude = np.log(scale).reshape(by_mode) + (
            np.log(floor + (1 - floor) * np.exp(-exponents)) if floor else -exponents
        )
        self._variance = np.broadcast_to(noise.reshape(by_mode) ** 2, exponents.shape)
        with np.errstate(divide="ignore"):
            self._log_ratio = np.log(noise).reshape(by_mode) - self._log_amplitude
        steps = np.diff(self._log_ratio[1:], axis=0)
        if not (steps > 0).all():
            k, *mode = (int(i) for i in np.argwhere(~(steps > 0))[0])
            raise ValueError(
                f"the process must be Markov, sigma / a increasing in every mode; in mode {tuple(mode)} it falls by a "
                f"factor {np.exp(steps[(k, *mode)]):.6g} from t = {k + 1} to {k + 2}"
            )
        self._freeze()

    def _transition(self, t: npt.NDArray[np.int64], s: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """The squared ratio of amplitudes, and sigma_t^2 less that times sigma_s^2, as a product."""
        alpha = np.exp(2 * (self._log_amplitude[t] - self._log_amplitude[s]))
        with np.errstate(invalid="ignore"):  # both logarithms of 0 at t = s = 0
            growth = np.nan_to_num(self._log_ratio[t] - self._log_ratio[s], posinf=np.inf)
        return alpha, -self._variance[t] * np.expm1(-2 * growth)
