"""Assertions that both halves share: the laws that the mathematics obeys."""

from __future__ import annotations

import numpy as np
from scipy.integrate import quad

EPS = np.finfo(np.float64).eps


def close(actual, expected, *, ulps, scale=0.0):
    """|actual - expected| <= ulps eps max(|expected|, scale), elementwise: a tolerance counted in roundings."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    error = np.abs(actual - expected)
    allowed = ulps * EPS * np.maximum(np.abs(expected), scale)
    assert (error <= allowed).all(), f"off by {np.max(error / np.maximum(allowed, 1e-300)):.3g} of the allowed error"


def variances_add(signal, noise, total=1.0, *, ulps=8):
    """The variance of a sum of independent terms is the sum of their variances."""
    close(np.asarray(signal) + np.asarray(noise), total, ulps=ulps)


def normalised(density, centre, width, *, atol):
    """A density on the line has mass 1 and, by the quadrature of its moments, this mean and standard deviation."""

    def moment(power):
        return quad(
            lambda u: u**power * width * float(density(centre + width * u)), -12, 12, epsabs=atol / 10, epsrel=1e-13
        )[0]

    np.testing.assert_allclose([moment(0), moment(1), moment(2)], [1, 0, 1], rtol=0, atol=atol)


def composes(transition, r, s, t, *, ulps):
    """Two transitions of a Markov chain are one: amplitudes multiply, variances add.

    ``transition(t, s)`` gives the squared amplitude and the variance from s to t.
    """
    (alpha_ts, variance_ts), (alpha_sr, variance_sr) = transition(t, s), transition(s, r)
    alpha_tr, variance_tr = transition(t, r)
    close(alpha_ts * alpha_sr, alpha_tr, ulps=ulps + 4 * abs(np.log(alpha_tr)), scale=1e-290)
    variances_add(alpha_ts * variance_sr, variance_ts, variance_tr, ulps=ulps)


def semigroup(evolve, u_0, t_1, t_2, *, ulps):
    """Two short flows are one long one: ``evolve(u, t)``."""
    expected = evolve(u_0, t_1 + t_2)
    close(evolve(evolve(u_0, t_1), t_2), expected, ulps=ulps, scale=np.abs(expected).max())


def conserved(values, *, ulps):
    """A quantity keeps its first value."""
    values = np.asarray(values)
    close(values, np.broadcast_to(values[0], values.shape), ulps=ulps)


def never_rises(values, *, ulps=8):
    """A sequence is non-increasing but for rounding."""
    values = np.asarray(values)
    assert (np.diff(values) <= ulps * EPS * np.abs(values[:-1])).all()


def sample_mean(values, expected, sigmas=5.0):
    """A Monte Carlo mean within a stated number of its standard errors: 5 is one false alarm in 1.7 million."""
    values = np.asarray(values, dtype=np.float64)
    error = values.std() / np.sqrt(values.size)
    assert abs(values.mean() - expected) < sigmas * error, f"{values.mean()} +- {error}, expected {expected}"
