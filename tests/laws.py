"""Assertions that both halves share: the laws that the mathematics obeys."""

from __future__ import annotations

import numpy as np

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
