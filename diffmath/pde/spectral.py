r"""The heat flow of a spectrum as a softmax over its modes.

Mode j of the heat flow is :math:`c_j e^{-\mu_j t}`. Only the ratios of modes matter to a renormalised flow, and they
are all lost once every mode has underflowed. So each mode is evaluated relative to the largest one at time t,

.. math:: v_j(t) = \frac{c_j}{|c_k|}\, e^{-(\mu_j - \mu_k) t}, \qquad k = \arg\max_j\, \log |c_j| - \mu_j t ,

with the gaps :math:`\mu_j - \mu_k` of the domain, which do not cancel; then the result is rescaled to the norm that
is preserved. Modes that underflow do not matter beside the largest. A mode that is nearly as large serves as k equally
well. The slowest one often does, so it is tried first, and logarithms are taken only where it fails. The rounding error
of a mode is that of the exponent, about :math:`10^{-16} |\log (c_j / c_k)|` where modes of amplitudes :math:`c_j` and
:math:`c_k` have become equally large.
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
NEAR = 2.0**-10  # of the largest mode: a mode of at least this size may stand in for it


def heat_modes(domain: Eigenbasis, c: Floats, times: Floats, norm: Norm, size: Floats | float = 1.0) -> Floats:
    """The heat flow of spectra, renormalised.

    Parameters
    ----------
    domain : Eigenbasis
    c : array of float64, shape (B, ``*mode_shape``)
        The amplitudes. Each spectrum has a nonzero amplitude of a mode that the norm sees: one of a nonzero eigenvalue,
        unless the norm sees the mean.
    times : array of float64, shape (n,)
        They have either sign, and may be infinite.
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
    spectra, size = c.reshape(len(c), -1), np.full(len(c), size)
    unseen = domain.null_positions[: 0 if norm.sees_mean else None]
    horizon = HORIZON / domain.lowest_eigenvalue
    b = np.zeros((len(c), len(times), spectra.shape[1]))
    k, gaps = domain.slowest
    with np.errstate(all="ignore"):
        for i, t in enumerate(times.clip(-horizon, horizon)):
            rest: Any = slice(None)
            while True:
                v, near = _relative_to(k, spectra[rest], gaps, t, unseen)
                these = rest if (all_near := near.all()) else np.arange(len(c))[rest][near]
                if near.any():
                    v = v if all_near else v[near]
                    v *= (size[these] / norm.size_within(domain, v))[:, None]
                    b[these, i, : v.shape[1]] = v
                if all_near:
                    break
                rest = np.arange(len(c))[rest][~near]
                logarithms = np.log(np.abs(spectra[rest]).max(axis=0)) - gaps * t
                logarithms[unseen] = -np.inf
                k = int(logarithms.argmax())
                gaps = domain.gaps(tuple(map(int, np.unravel_index(k, domain.mode_shape)))).ravel()
    return b.reshape(len(c), len(times), *domain.mode_shape)


def _relative_to(
    k: int, spectra: Floats, gaps: Floats, t: float, unseen: npt.NDArray[np.intp]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The modes relative to mode k, up to the last that may not underflow; and whether k is nearly the largest."""
    c_k = np.abs(spectra[:, k])
    most = c_k.max()
    # The root, twice: of ratios of 400 decades, it neither over- nor underflows. Absent modes stay zero.
    root = gaps * (-t / 2)
    present = root > (np.log(most) - math.log(LARGEST) - UNDERFLOW) / 2
    n = len(present) - int(present[::-1].argmax())
    root = np.exp(root[:n], out=root[:n])
    root /= np.sqrt(most)
    np.minimum(root, LARGEST, out=root)
    v = spectra[:, :n] * root
    v *= root
    hidden = unseen[unseen < n]
    kept, v[:, hidden] = v[:, hidden], 0.0
    near = c_k >= NEAR * most * np.maximum(1.0, np.maximum(v.max(axis=1), -v.min(axis=1)))
    v[:, hidden] = kept
    return v, near
