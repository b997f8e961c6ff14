r"""The heat flow of a spectrum as a softmax over its modes.

Mode j of the heat flow is :math:`c_j e^{-\mu_j t}`. Only the ratios of modes matter to a renormalised flow, and they
are all lost once every mode has underflowed. So each mode is evaluated relative to the largest one at time t,

.. math:: v_j(t) = \frac{c_j}{|c_k|}\, e^{-(\mu_j - \mu_k) t}, \qquad k = \arg\max_j\, \log |c_j| - \mu_j t ,

with the gaps :math:`\mu_j - \mu_k` of the domain, which do not cancel; then the result is rescaled to the norm that
is preserved. No mode exceeds 1, whatever the time, and those that underflow do not matter beside the largest. The
rounding error of a mode is that of the exponent, about :math:`10^{-16} |\log (c_j / c_k)|` where modes of amplitudes
:math:`c_j` and :math:`c_k` have become equally large.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath.domains import Eigenbasis
from diffmath.domains.eigenbasis import Floats
from diffmath.pde.norms import Norm

__all__ = ["heat_modes"]

HORIZON = 1e18  # in units of 1 / mu_1: by then, modes whose eigenvalues differ in float64 have parted, as at infinity
UNDERFLOW = 745.0  # exp(-745) is the last that is not zero
LARGEST = float(np.finfo(np.float64).max)
NEAR = 2.0**-20  # of a mode: a spectrum with that much of it may be evaluated relative to it


def heat_modes(domain: Eigenbasis, c: Floats, times: Floats, norm: Norm, size: Floats | float = 1.0) -> Floats:
    """The heat flow of spectra, renormalised.

    Parameters
    ----------
    domain : Eigenbasis
    c : array of float64, shape (B, ``*mode_shape``)
        The amplitudes. Each spectrum has a nonzero amplitude of a mode that the norm sees: one of a nonzero eigenvalue,
        unless the norm sees the mean.
    times : array of float64, shape (n,)
        Of either sign, or infinite.
    norm : Norm
    size : array of float64, shape (B,), or float
        The norm of the result.

    Returns
    -------
    numpy.ndarray, float64, shape (B, n, ``*mode_shape``)
        Null modes that the norm does not see may overflow.

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> from diffmath.pde.norms import NORMS
    >>> b = heat_modes(Box(3), np.array([[0.0, 3.0, 4.0]]), np.array([0.0, np.inf]), NORMS["value"])
    >>> b[0].round(15).tolist()
    [[0.0, 0.6, 0.8], [0.0, 1.0, 0.0]]
    """
    spectra, size = c.reshape(len(c), -1), size * np.ones(len(c))
    sizes = np.abs(spectra)
    unseen = domain.null_positions[: 0 if norm.sees_mean else None]
    sizes[:, unseen] = 0.0
    horizon = HORIZON / domain.lowest_eigenvalue
    b = np.zeros((len(c), len(times), spectra.shape[1]))
    with np.errstate(all="ignore"):
        of_all = np.log(sizes.max(axis=0))
        for i, t in enumerate(times.tolist()):
            members: Any = slice(None)  # relative to one mode, which all of them have
            logarithms = of_all
            while True:
                k, exponents, present = _largest_mode(domain, logarithms, unseen, min(max(t, -horizon), horizon))
                c_k = sizes[members, k]
                most = float(c_k.max())
                near = c_k >= NEAR * most
                these = members if near.all() else np.arange(len(c))[members][near]
                # The root, twice: of ratios of 400 decades, it neither over- nor underflows. Absent modes stay zero.
                root = np.minimum(np.exp(exponents[present] / -2) / math.sqrt(most), LARGEST)
                v = spectra[these, present] * root
                v *= root
                b[these, i, present] = v * (size[these] / norm.size_within(domain, present, v))[:, None]
                if these is members:
                    break
                members = np.arange(len(c))[members][~near]
                logarithms = np.log(sizes[members].max(axis=0))
    return b.reshape(len(c), len(times), *domain.mode_shape)


def _largest_mode(
    domain: Eigenbasis, logarithms: Floats, unseen: npt.NDArray[np.intp], t: float
) -> tuple[int, Floats, slice]:
    """The mode k that is largest at time t, the exponents (mu_j - mu_k) t, and a range beyond which modes underflow."""
    j = int((logarithms - domain.eigenvalues.ravel() * t).argmax())  # but for rounding
    while True:
        k = j
        exponents = domain.gaps(tuple(int(i) for i in np.unravel_index(k, domain.mode_shape))).ravel() * t
        ahead = logarithms - exponents
        j = int(ahead.argmax())
        if not ahead[j] > ahead[k] + 1e-9:
            break
    remains = ahead > ahead[k] - UNDERFLOW
    remains[unseen] = True
    present = remains.nonzero()[0]
    return k, exponents, slice(int(present[0]), int(present[-1]) + 1)
