"""Assertions that both halves share: the laws that the mathematics obeys.

In a property test each tells Hypothesis how much of the allowed error was there, under its label, and the search is
driven to the worst.
"""

from __future__ import annotations

import contextlib
import math
from itertools import pairwise

import numpy as np
from hypothesis import target
from hypothesis.errors import InvalidArgument
from scipy import stats
from scipy.integrate import quad

EPS = np.finfo(np.float64).eps


def within(actual, expected, tolerance, *, label=""):
    """|actual - expected| <= tolerance, elementwise."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.size, "nothing to compare"
    error = np.abs(actual - expected)
    with np.errstate(over="ignore"):
        share = float(np.max(error / np.maximum(tolerance, 1e-300), initial=0.0))
    with contextlib.suppress(InvalidArgument):  # no property test, not finite, or not the label's first in this example
        target(share, label=label)
    assert (error <= tolerance).all(), f"{label or 'it'} is off by {share:.3g} of the allowed error"


def close(actual, expected, *, ulps, scale=0.0, label=""):
    """|actual - expected| <= ulps eps max(|expected|, scale), elementwise: a tolerance counted in roundings."""
    size = np.maximum(np.abs(np.asarray(expected, dtype=np.float64)), scale)
    within(actual, expected, ulps * EPS * size, label=label)


def variances_add(signal, noise, total=1.0, *, ulps=8):
    """The variance of a sum of independent terms is the sum of their variances."""
    close(np.asarray(signal) + np.asarray(noise), total, ulps=ulps, label="variance")


def normalised(density, centre, width, *, atol):
    """A density on the line has mass 1 and, by the quadrature of its moments, this mean and standard deviation."""

    def moment(power):
        return quad(
            lambda u: u**power * width * float(density(centre + width * u)), -12, 12, epsabs=atol / 10, epsrel=1e-13
        )[0]

    within([moment(0), moment(1), moment(2)], [1, 0, 1], atol, label="moments")


def composes(transition, times, *, ulps):
    """The transitions of a Markov chain between increasing times are one: amplitudes multiply, variances add.

    ``transition(t, s)`` gives the squared amplitude and the variance from s to t. Each jump adds some roundings.
    """
    alpha, variance = 1.0, 0.0
    for s, t in pairwise(times):
        alpha_ts, variance_ts = transition(t, s)
        alpha, variance = alpha_ts * alpha, alpha_ts * variance + variance_ts
    whole, rest = transition(times[-1], times[0])
    n = len(times) - 1
    close(alpha, whole, ulps=ulps * n + 4 * abs(np.log(whole)), scale=1e-290, label="amplitude")
    close(variance, rest, ulps=ulps * n, label="variance")


def semigroup(evolve, u_0, t_1, t_2, *, ulps):
    """Two short flows are one long one: ``evolve(u, t)``."""
    expected = evolve(u_0, t_1 + t_2)
    close(evolve(evolve(u_0, t_1), t_2), expected, ulps=ulps, scale=np.abs(expected).max(), label="semigroup")


def conserved(values, *, ulps):
    """A quantity keeps its first value."""
    values = np.asarray(values)
    assert len(values) > 1, "a law for two values or more"
    close(values, np.broadcast_to(values[0], values.shape), ulps=ulps, label="conserved")


def never_rises(values, *, ulps=8):
    """A sequence is non-increasing but for rounding."""
    values = np.asarray(values)
    assert len(values) > 1, "a law for two values or more"
    within(np.maximum(np.diff(values), 0), 0, ulps * EPS * np.abs(values[:-1]), label="rise")


def eigenbasis(domain, *, ulps=64):
    """Any domain: orthonormal modes, transforms inverse to each other, a symmetric Laplacian with these eigenpairs,
    eigenvalues that are not negative, null modes, gaps, and implicit steps by the diagonal formula.
    """
    n, n_modes = math.prod(domain.shape), math.prod(domain.mode_shape)
    mu, M, K = domain.eigenvalues, domain.mass, domain.stiffness
    largest = mu.max()
    diagonal = M.nnz <= n
    # A truncated basis knows the lowest eigenvalues alone, but products with K round like the highest.
    top = float((abs(K) @ np.ones(n) / M.diagonal()).max()) if hasattr(K, "tocsr") else largest
    identity = np.eye(n_modes).reshape(n_modes, *domain.mode_shape)
    w = domain.to_values(identity.copy())
    rows = w.reshape(n_modes, n)
    roundings = ulps * (1 + math.log2(n))
    size = np.abs(rows).max()
    close(domain.weights.ravel(), M @ np.ones(n), ulps=roundings, label="weights")
    if diagonal:
        weighted = domain.weights.ravel()[:, None] * rows.T
        close(rows @ weighted, np.eye(n_modes), ulps=roundings, scale=1, label="product")
    close(rows @ (M @ rows.T), np.eye(n_modes), ulps=roundings, scale=1, label="mass")
    close(domain.to_modes(w), identity, ulps=roundings, scale=1, label="to_modes")
    c = np.random.default_rng(0).standard_normal((2, 3, *domain.mode_shape))
    close(domain.to_modes(domain.to_values(c.copy())), c, ulps=roundings, scale=4, label="inverse")
    complex_c = domain.to_modes(domain.to_values(c[0] + 1j * c[1]))
    close([complex_c.real, complex_c.imag], c[:, :3], ulps=roundings, scale=4, label="complex")

    assert (mu >= 0).all()
    assert (domain.null_modes == (mu == 0)).all()
    assert mu[domain.lowest_mode] == mu[~domain.null_modes].min()
    null = rows[domain.null_modes.ravel()]
    Kw = np.array([K @ one for one in rows])
    close(Kw, mu.reshape(-1, 1) * (M @ rows.T).T, ulps=roundings, scale=top * (M @ rows.T).max(), label="K w = mu M w")
    within(np.array([K @ one for one in null] or [0.0]), 0, roundings * EPS * top * size, label="null modes")
    close(rows @ Kw.T, Kw @ rows.T, ulps=roundings, scale=top, label="symmetry")
    applied = domain.apply(lambda m: m, w)
    close(applied, mu.reshape(-1, *[1] * len(domain.shape)) * w, ulps=roundings, scale=largest * size, label="apply")

    for flat in {0, n_modes // 2, n_modes - 1}:
        k = tuple(int(i) for i in np.unravel_index(flat, domain.mode_shape))
        # Sums over several axes cancel across them.
        close(domain.gaps(k), mu - mu[k], ulps=8, scale=np.maximum(mu, mu[k]), label="gaps")
        assert domain.gaps(k)[k] == 0
    u = domain.to_values(c[0].copy())
    for shift, dt in ((1.0, 0.1 / largest), (1 - 1j, 10 / largest), (2.0, 0.0)):
        expected = domain.to_values(c[0] / (shift + dt * mu))
        for got in (domain.solve(shift, dt, u), np.array([domain.solve(shift, dt, one) for one in u])):
            assert np.iscomplexobj(got) == isinstance(shift, complex)
            close([got.real, got.imag], [expected.real, expected.imag], ulps=roundings, scale=8 * size, label="solve")


def green(domain, c, *, ulps=256):
    """Green's identity: the integral of the squared gradient is sum mu c^2."""
    energy = (domain.gradient_weights * (domain.gradient(c) ** 2).sum(axis=0)).sum()
    close(energy, (domain.eigenvalues * c**2).sum(), ulps=ulps, label="Green")


def sample_mean(values, expected, sigmas=5.0):
    """A Monte Carlo mean within a stated number of its standard errors: 5 is one false alarm in 1.7 million."""
    values = np.asarray(values, dtype=np.float64)
    error = values.std() / np.sqrt(values.size)
    assert abs(values.mean() - expected) < sigmas * error, f"{values.mean()} +- {error}, expected {expected}"


def gaussian_samples(x, mean, covariance, *, false_alarm=1e-6):
    """Samples, one in each row, of this mean and covariance: an exact test, by Bartlett's decomposition.

    Whitened, n samples of N(m, C) in d dimensions have a mean of variance 1/n; and the Cholesky factor of their scatter
    about it has independent entries, standard normal below the diagonal and chi of n - 1, ..., n - d degrees of freedom
    on it. None of these numbers may be in the tails that have, all together, at most the probability `false_alarm`.
    """
    n, d = x.shape
    z = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).T)
    centre = z.mean(axis=1, keepdims=True)
    factor = np.linalg.cholesky((z - centre) @ (z - centre).T)
    normal = stats.norm.cdf([*(np.sqrt(n) * centre.ravel()), *factor[np.tril_indices(d, -1)]])
    chi = stats.chi.cdf(np.diag(factor), n - 1 - np.arange(d))
    below = np.concatenate([normal, chi])
    tail = 2 * np.minimum(below, 1 - below).min()
    assert tail * len(below) > false_alarm, f"one of {len(below)} numbers is in a tail of {tail:.3g}"
