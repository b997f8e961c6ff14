r"""The heat flow of a spectrum as a softmax over its modes.

Mode j of the heat flow is :math:`c_j e^{-\mu_j t}`. Only the ratios of modes matter to a renormalised flow, and they
are all lost once every mode has underflowed. So each mode is evaluated relative to the largest one at time t,

.. math:: v_j(t) = \frac{c_j}{|c_k|}\, e^{-(\mu_j - \mu_k) t}, \qquad k = \arg\max_j\, \log |c_j| - \mu_j t ,

with the gaps :math:`\mu_j - \mu_k` of the domain, which do not cancel. No mode exceeds 1, whatever the time, and those
that underflow do not matter beside the largest. The rounding error of a mode is that of the exponent, about
:math:`10^{-16} |\log (c_j / c_k)|` where modes of amplitudes :math:`c_j` and :math:`c_k` have become equally large.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath.domains import Eigenbasis
from diffmath.domains.eigenbasis import Floats

__all__ = ["heat_modes"]

HORIZON = 1e18  # in units of 1 / mu_1: by then, modes whose eigenvalues differ in float64 have parted, as at infinity
UNDERFLOW = 745.0  # exp(-745) is the last that is not zero
NEAR = 2.0**-20  # of a mode: a spectrum with that much of it may be evaluated relative to it


def heat_modes(domain: Eigenbasis, c: Floats, times: Floats, counted: npt.NDArray[np.bool_] | None = None) -> Floats:
    """The heat flow of spectra, each state up to a positive factor that brings its largest mode near 1.

    Parameters
    ----------
    domain : Eigenbasis
    c : array of float64, shape (B, ``*mode_shape``)
        Amplitudes, each spectrum with a counted mode that is not zero.
    times : array of float64, shape (n,)
        Of either sign, or infinite.
    counted : array of bool, shape ``mode_shape``, optional
        The modes among which the largest is chosen; all unless given. Others may overflow.

    Returns
    -------
    numpy.ndarray, float64, shape (B, n, ``*mode_shape``)

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> heat_modes(Box(3), np.array([[0.0, 0.25, 1.0]]), np.array([0.0, np.inf]))[0].tolist()
    [[0.0, 0.25, 1.0], [0.0, 1.0, 0.0]]
    """
    spectra = c.reshape(len(c), -1)
    uncounted = np.zeros(spectra.shape[1], dtype=bool) if counted is None else ~counted.ravel()
    sizes = np.abs(spectra)
    sizes[:, uncounted] = 0.0
    largest = sizes.max(axis=0)
    horizon = HORIZON / float(domain.eigenvalues[domain.lowest_mode])
    v = np.zeros((len(c), len(times), spectra.shape[1]))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for i, t in enumerate(np.clip(times, -horizon, horizon).tolist()):
            members: Any = slice(None)  # relative to one mode, which all of them have
            envelope = largest
            while True:
                k, exponents, present = _largest_mode(domain, envelope, uncounted, t)
                # The root, twice: of ratios of 400 decades, it neither over- nor underflows.
                root = np.exp(exponents[present] / -2) / math.sqrt(envelope[k])
                near = sizes[members, k] >= NEAR * envelope[k]
                these = members if near.all() else np.arange(len(c))[members][near]
                state = spectra[these, present] * root
                v[these, i, present] = np.multiply(state, root, out=state)
                if near.all():
                    break
                members = np.arange(len(c))[members][~near]
                envelope = sizes[members].max(axis=0)
    v[..., uncounted] = np.where(spectra[:, None, uncounted] == 0, 0.0, v[..., uncounted])
    return v.reshape(len(c), len(times), *domain.mode_shape)


def _largest_mode(
    domain: Eigenbasis, sizes: Floats, uncounted: npt.NDArray[np.bool_], t: float
) -> tuple[int, Floats, slice]:
    """The mode k that is largest at time t, the exponents (mu_j - mu_k) t, and a range beyond which modes underflow."""
    absent = sizes == 0
    logarithms = np.log(sizes, where=~absent, out=np.full(sizes.shape, -np.inf))
    k = int(sizes.argmax())
    while True:
        index = tuple(int(i) for i in np.unravel_index(k, domain.mode_shape))
        exponents = domain.gaps(index).ravel() * t
        exponents[absent & ~uncounted] = 0.0
        ahead = np.where(absent, -np.inf, logarithms - exponents)
        j = int(ahead.argmax())
        if not ahead[j] > ahead[k] + 1e-9:
            present = np.flatnonzero((ahead > ahead[k] - UNDERFLOW) | uncounted)
            return k, exponents, slice(int(present[0]), int(present[-1]) + 1)
        k = j
