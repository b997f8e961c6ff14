r"""What one may know of an initial condition before it is reconstructed: priors, and two classical estimates.

A renormalised flow is the heat flow, rescaled. So the modes of its state at time T are :math:`d_k a_k`, with the decay
:math:`d_k = e^{-\mu_k T}` and the initial amplitudes :math:`a_k` but for one factor, and of a measured state they are

.. math:: y_k = d_k a_k + \sigma \xi_k, \qquad \xi_k \sim N(0, 1) .

A `Prior` turns such an `Observation` into a `Posterior`. Where it is Gaussian, :math:`N(m, S)`, everything is linear
and exact: with :math:`D = \operatorname{diag}(d_k)` the posterior is Gaussian, of the covariance and the mean

.. math:: V = (S^{-1} + D^2 / \sigma^2)^{-1}, \qquad m + V D\, (y - D m) / \sigma^2 . \tag{24}

Equations from (24) on are beyond the paper. To add a prior, derive from `Prior`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import brentq, minimize
from scipy.special import logsumexp

from diffmath._arguments import as_rng, real_array, require_count, require_each, require_finite, require_positive
from diffmath.domains.eigenbasis import Floats

__all__ = [
    "Backward",
    "EmpiricalBayes",
    "GaussianPrior",
    "MixturePrior",
    "Observation",
    "Posterior",
    "PowerLaw",
    "Prior",
    "SpectralCutoff",
    "Tikhonov",
]

EXPONENT = 30.0  # exp(30) times the rounding of float64 is 2e-3: beyond, rounding alone drowns the amplified modes
DISCREPANCY = 1.1  # by Morozov's principle the misfit is to be that much larger than the noise's norm


class Observation(NamedTuple):
    """The modes of a measured state, one-dimensional arrays in one order.

    Attributes
    ----------
    eigenvalues, decay, data : array of float64, shape (n,)
        mu_k, d_k and y_k.
    deviation : float
        sigma, of the noise of each y_k.
    """

    eigenvalues: Floats
    decay: Floats
    data: Floats
    deviation: float


class Posterior(NamedTuple):
    """The law of the amplitudes given the data: its mean, and its covariance ``root @ root.T``.

    A one-dimensional root is the diagonal. A root, unlike a difference of covariances, has no negative variance.
    """

    mean: Floats
    root: Floats
    parameters: dict[str, float]

    @property
    def variance(self) -> Floats:
        """The variance of each amplitude."""
        squares = self.root**2
        return squares if squares.ndim == 1 else squares.sum(axis=1)


class Prior(ABC):
    """What is known of the amplitudes before the data are seen."""

    @abstractmethod
    def posterior(self, observation: Observation) -> Posterior:
        """The law of the amplitudes given the data."""


def _exponents(observation: Observation) -> Floats:
    """mu_k T of every mode, from the decay of the lowest: that of high modes may have underflowed."""
    mu, decay = observation.eigenvalues, observation.decay
    lowest = int(np.where(mu > 0, mu, np.inf).argmin())
    exponents: Floats = mu * (-math.log(decay[lowest]) / mu[lowest])
    return exponents


def _require_told(exponents: Floats, remedy: str) -> None:
    """ValueError if modes that no prior holds back are amplified beyond what float64 can tell."""
    if exponents.max(initial=0.0) > EXPONENT:
        raise ValueError(
            f"mu T must be at most {EXPONENT:g} without a prior, as float64 tells no more; "
            f"the highest mode has {exponents.max():.4g}: {remedy}"
        )


def _diagonal(observation: Observation, variance: Floats, **parameters: float) -> Posterior:
    """The posterior of independent amplitudes with mean 0 and these variances, which may be infinite."""
    _, d, y, sigma = observation
    with np.errstate(divide="ignore", over="ignore"):
        precision = d**2 + sigma**2 / variance
    return Posterior(d * y / precision, sigma / np.sqrt(precision), parameters)


class PowerLaw(Prior):
    r"""Eq. (24) for independent amplitudes of mean 0 and variance :math:`a^2 \mu_k^{-p}`.

    Modes of eigenvalue 0 have no prior.

    Parameters
    ----------
    a, p : float
        a positive. p is 1 for functions with jumps, 2 with kinks, and larger the smoother they are, in one dimension.

    Examples
    --------
    >>> seen = Observation(np.array([1.0, 4.0]), np.array([0.5, 0.1]), np.array([0.4, 0.1]), deviation=0.1)
    >>> PowerLaw(1.0, 2.0).posterior(seen).mean.round(3).tolist()
    [0.769, 0.059]
    """

    def __init__(self, a: float, p: float) -> None:
        self.a, self.p = require_positive("a", a), require_finite("p", p)

    def posterior(self, observation: Observation) -> Posterior:
        """The law of the amplitudes given the data, exactly; its parameters are a and p."""
        mu = observation.eigenvalues
        variance = np.full(mu.shape, np.inf)
        variance[mu > 0] = self.a**2 * mu[mu > 0] ** -self.p
        return _diagonal(observation, variance, a=self.a, p=self.p)


class EmpiricalBayes(Prior):
    r"""The `PowerLaw` under which the data are most likely.

    The marginal law of the data is :math:`y_k \sim N(0, d_k^2 a^2 \mu_k^{-p} + \sigma^2)`, with p between 0 and 20.

    Examples
    --------
    >>> mu = np.arange(1.0, 9.0) ** 2
    >>> decay = np.exp(-0.02 * mu)
    >>> EmpiricalBayes().posterior(Observation(mu, decay, decay / mu, 1e-3)).mean[:2].round(2).tolist()
    [1.0, 0.25]
    """

    POWERS = (0.0, 20.0)

    def posterior(self, observation: Observation) -> Posterior:
        """The law of the amplitudes given the data; its parameters are a and p."""
        known = observation.eigenvalues > 0
        mu, d, y = observation.eigenvalues[known], observation.decay[known], observation.data[known]
        sigma = observation.deviation
        octaves = np.log(mu / mu.min())

        def cost(first: npt.ArrayLike, p: npt.ArrayLike) -> Floats:
            """-2 times the log-likelihood, for powers p and the logarithm `first` of the lowest mode's variance."""
            variance = np.exp(np.expand_dims(first, -1) - np.expand_dims(p, -1) * octaves)
            total = d**2 * variance + sigma**2
            result: Floats = (np.log(total) + y**2 / total).sum(axis=-1)
            return result

        lowest = octaves < 2
        scale = math.log(float(np.square(y[lowest]).max() + sigma**2) / float(d.max()) ** 2)
        first, p = (a.ravel() for a in np.meshgrid(scale + np.arange(-20.0, 10.0), np.linspace(*self.POWERS, 41)))
        start = int(cost(first, p).argmin())  # there may be several minima: the search begins at the best of a grid
        found = minimize(
            lambda x: float(cost(*x)),
            [first[start], p[start]],
            method="Nelder-Mead",
            bounds=[(None, None), self.POWERS],
        )
        return PowerLaw(math.exp((found.x[0] + found.x[1] * math.log(mu.min())) / 2), found.x[1]).posterior(observation)


class SpectralCutoff(Prior):
    r"""The classical estimate :math:`y_k / d_k` of the lowest modes, and nothing of the others.

    It is no prior in the sense of Bayes. Its deviation is that of the noise, and knows nothing of what is cut off.

    Parameters
    ----------
    n_modes : int, optional
        How many modes to keep. Unless given, it is the least number for which the misfit is at most 1.1 times the
        noise's expected norm (the discrepancy principle).

    Examples
    --------
    >>> seen = Observation(np.array([1.0, 4.0]), np.array([0.5, 0.1]), np.array([0.4, 0.1]), deviation=0.1)
    >>> SpectralCutoff().posterior(seen).mean.tolist()
    [0.8, 0.0]
    """

    def __init__(self, n_modes: int | None = None) -> None:
        self.n_modes = None if n_modes is None else require_count("n_modes", n_modes)

    def posterior(self, observation: Observation) -> Posterior:
        """The estimate; its parameter is n_modes."""
        mu, d, y, sigma = observation
        order = np.argsort(mu, kind="stable")
        n_modes = self.n_modes
        if n_modes is None:
            misfit = np.sqrt(np.append(np.cumsum((y[order] ** 2)[::-1])[::-1], 0.0))  # of the first 0, 1, ..., n modes
            n_modes = int((misfit <= DISCREPANCY * sigma * math.sqrt(len(y))).argmax())
        kept = order[: require_count("n_modes", n_modes, 0, len(y))]
        _require_told(_exponents(observation)[kept], f"n_modes must be less than {n_modes}")
        mean, root = np.zeros(len(y)), np.zeros(len(y))
        mean[kept], root[kept] = y[kept] / d[kept], sigma / d[kept]
        return Posterior(mean, root, {"n_modes": float(n_modes)})


class Tikhonov(Prior):
    r"""The classical estimate that minimises :math:`|d\, a - y|^2 + \alpha |a|^2`.

    It is the posterior mean of independent amplitudes of the variance :math:`\sigma^2 / \alpha`, and has its deviation.

    Parameters
    ----------
    alpha : float, optional
        Defaults to the one for which the misfit is 1.1 times the noise's expected norm (the discrepancy principle).

    Examples
    --------
    >>> seen = Observation(np.array([1.0, 4.0]), np.array([0.5, 0.1]), np.array([0.4, 0.1]), deviation=0.1)
    >>> Tikhonov(0.25).posterior(seen).mean.round(3).tolist()
    [0.4, 0.038]
    """

    def __init__(self, alpha: float | None = None) -> None:
        self.alpha = None if alpha is None else require_positive("alpha", alpha)

    def posterior(self, observation: Observation) -> Posterior:
        """The estimate; its parameter is alpha."""
        _, d, y, sigma = observation
        alpha = self.alpha
        if alpha is None:
            allowed = DISCREPANCY * sigma * math.sqrt(len(y))

            def excess(logarithm: float) -> float:
                """How much the misfit, which grows with alpha, is above what the noise explains."""
                a = math.exp(logarithm)
                return float(np.linalg.norm(a / (d**2 + a) * y)) - allowed

            low, high = -600.0, 100.0
            if excess(high) < 0:
                raise ValueError(f"noise must be smaller than the data: {sigma:.3g} for each mode explains all of them")
            if excess(low) > 0:
                raise ValueError(f"noise must be larger: no estimate has a misfit of {sigma:.3g} for each mode")
            alpha = math.exp(brentq(excess, low, high))
        return _diagonal(observation, np.full(len(y), sigma**2 / alpha), alpha=alpha)


class Backward(Prior):
    r"""No prior: the flow run backwards at the resolution of the data, exactly or mollified.

    Section 7 of the paper suggests both. The exact factor :math:`e^{\mu_k T}` gives all to the highest mode, and once
    :math:`\mu_k T` exceeds 30, rounding alone does so: that is refused. With ``n_steps`` the factor is the inverse of
    as many steps of the Padé (0, 2) scheme, :math:`(1 + z + z^2 / 2)^n` with :math:`z = \mu_k T / n`, a polynomial.

    Parameters
    ----------
    n_steps : int, optional
        The fewer, the smoother the result. Exact unless given.

    Examples
    --------
    >>> seen = Observation(np.array([1.0]), np.array([0.5]), np.array([1.0]), deviation=0.1)
    >>> Backward().posterior(seen).mean.tolist(), Backward(1).posterior(seen).mean.round(2).tolist()
    ([2.0], [1.93])
    """

    def __init__(self, n_steps: int | None = None) -> None:
        self.n_steps = None if n_steps is None else require_count("n_steps", n_steps)

    def posterior(self, observation: Observation) -> Posterior:
        """The amplified data; the deviation is that of the amplified noise."""
        exponents = _exponents(observation)
        if self.n_steps is None:
            _require_told(exponents, "choose a prior, n_steps or fewer modes")
            factor = np.exp(exponents)
        else:
            z = exponents / self.n_steps
            logarithm = self.n_steps * np.log1p(z + z**2 / 2)
            if (most := logarithm.max(initial=0.0)) > 10 * EXPONENT:  # so that energies do not overflow
                raise ValueError(f"n_steps must be smaller: {self.n_steps} amplify the highest mode by exp({most:.4g})")
            factor = np.exp(logarithm)
        return Posterior(factor * observation.data, factor * observation.deviation, {})


class GaussianPrior(Prior):
    r"""Eq. (24) for amplitudes of a Gaussian law with a full covariance, :math:`N(m, R R^T)`.

    Parameters
    ----------
    mean : array of float, shape (n,)
    root : array of float, shape (n, r)
        R; r may be smaller than n.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> prior = GaussianPrior.of(rng.standard_normal((1000, 2)) @ [[1.0, 0.9], [0.0, 0.1]])
    >>> seen = Observation(np.array([1.0, 4.0]), np.array([1.0, 0.0]), np.array([1.0, 0.0]), deviation=1e-6)
    >>> prior.posterior(seen).mean.round(2).tolist()  # the second amplitude follows the first, which alone is seen
    [1.0, 0.9]
    """

    def __init__(self, mean: npt.ArrayLike, root: npt.ArrayLike) -> None:
        self.mean, self.root = real_array(mean, "mean"), real_array(root, "root")
        if self.mean.ndim != 1 or self.root.ndim != 2 or len(self.root) != len(self.mean):
            raise ValueError(f"mean and root must have shapes (n,) and (n, r); {self.mean.shape} and {self.root.shape}")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.root).all()):
            raise ValueError("mean and root must be finite")
        self._seen: tuple[Any, ...] = ()

    @classmethod
    def of(cls, amplitudes: npt.ArrayLike, floor: float = 0.0) -> GaussianPrior:
        """The law with the mean and the covariance of data.

        Parameters
        ----------
        amplitudes : array of float, shape (N, ...)
            The modes of N functions, N at least 2; as `Eigenbasis.to_modes` gives them, flattened.
        floor : float
            A variance that is added to each amplitude.
        """
        flat = _rows(amplitudes)
        center, floor = flat.mean(axis=0), require_finite("floor", floor)
        if len(flat) <= flat.shape[1] and floor == 0:
            return cls(center, (flat - center).T / math.sqrt(len(flat) - 1))
        values, vectors = np.linalg.eigh(np.cov(flat.T).reshape(flat.shape[1], -1))
        return cls(center, vectors * np.sqrt(np.maximum(values, 0.0) + floor))

    def posterior(self, observation: Observation) -> Posterior:
        """The law of the amplitudes given the data, exactly."""
        _, d, y, sigma = observation
        _require_modes(self.mean, y)
        L = self._factor(d, sigma)
        root = solve_triangular(L, self.root.T, lower=True).T
        whitened = solve_triangular(L, self.root.T @ (d * (y - d * self.mean)), lower=True) / sigma**2
        return Posterior(self.mean + root @ whitened, root, {})

    def log_evidence(self, observation: Observation) -> float:
        """The logarithm of the density of the data, but for a constant that is the same for all priors."""
        _, d, y, sigma = observation
        L = self._factor(d, sigma)
        misfit = (y - d * self.mean) / sigma
        whitened = solve_triangular(L, self.root.T @ (d * misfit) / sigma, lower=True)
        return float((whitened @ whitened - misfit @ misfit) / 2 - np.log(np.diag(L)).sum())

    def _factor(self, d: Floats, sigma: float) -> Floats:
        """The Cholesky factor L of I + H^T H, H = d R / sigma: R L^-T is a root of the posterior covariance.

        It is kept for the next data, as the decay and the noise are most often the same.
        """
        if not (self._seen and self._seen[1] == sigma and np.array_equal(self._seen[0], d)):
            H = (d / sigma)[:, None] * self.root
            self._seen = d, sigma, cholesky(np.eye(H.shape[1]) + H.T @ H, lower=True)
        L: Floats = self._seen[2]
        return L


class MixturePrior(Prior):
    """Amplitudes whose law is a mixture of Gaussians.

    The posterior is again a mixture. The mean and the covariance are exact, but bands made of them are not quantiles.

    Parameters
    ----------
    weights : array of float, shape (K,)
        Positive, with sum 1.
    components : sequence of GaussianPrior

    Examples
    --------
    >>> left, right = (GaussianPrior([m], [[0.1]]) for m in (-1.0, 1.0))
    >>> seen = Observation(np.array([1.0]), np.array([0.5]), np.array([0.3]), deviation=0.2)
    >>> MixturePrior([0.5, 0.5], [left, right]).posterior(seen).mean.round(2).tolist()
    [0.97]
    """

    NEGLIGIBLE = 1e-6  # the probability below which a component of the posterior is left out

    def __init__(self, weights: npt.ArrayLike, components: Sequence[GaussianPrior]) -> None:
        self.weights = real_array(weights, "weights")
        self.components = require_each("components", components, GaussianPrior)
        if self.weights.shape != (len(self.components),) or not self.components:
            raise ValueError(f"weights must be one for each of the {len(self.components)} components")
        if not (self.weights > 0).all() or abs(self.weights.sum() - 1) > 1e-9:
            raise ValueError(f"weights must be positive with sum 1; their sum is {self.weights.sum()}")

    @classmethod
    def of(
        cls, amplitudes: npt.ArrayLike, n_components: int, *, floor: float = 0.0, rng: np.random.Generator | int = 0
    ) -> MixturePrior:
        """The mixture with the means and the covariances of clusters of data, which k-means finds.

        Parameters
        ----------
        amplitudes, floor
            The same as for `GaussianPrior.of`.
        n_components : int
            Clusters of fewer than two functions are left out.
        rng : numpy.random.Generator or int
        """
        from sklearn.cluster import MiniBatchKMeans  # slow to import

        a = _rows(amplitudes)
        n = require_count("n_components", n_components, 1, len(a))
        seed = int(as_rng(rng).integers(2**31))
        labels = MiniBatchKMeans(n, random_state=seed, n_init=3, batch_size=4096).fit_predict(a)
        clusters = [a[labels == i] for i in range(n) if (labels == i).sum() > 1]
        counts = np.array([len(cluster) for cluster in clusters], dtype=np.float64)
        return cls(counts / counts.sum(), [GaussianPrior.of(cluster, floor) for cluster in clusters])

    def posterior(self, observation: Observation) -> Posterior:
        """The mean and the covariance of the amplitudes given the data; n_components are left of the mixture."""
        for component in self.components:
            _require_modes(component.mean, observation.data)
        evidence = np.log(self.weights) + [component.log_evidence(observation) for component in self.components]
        probability = np.exp(evidence - logsumexp(evidence))
        left = np.flatnonzero(probability > self.NEGLIGIBLE)
        p = probability[left] / probability[left].sum()
        parts = [self.components[i].posterior(observation) for i in left]
        mean = sum(w * part.mean for w, part in zip(p, parts, strict=True))
        roots = [math.sqrt(w) * np.column_stack((x.root, x.mean - mean)) for w, x in zip(p, parts, strict=True)]
        return Posterior(mean, np.concatenate(roots, axis=1), {"n_components": float(len(left))})


def _require_modes(mean: Floats, data: Floats) -> None:
    if mean.shape != data.shape:
        raise ValueError(f"prior must be of the domain's {len(data)} modes; it is of {len(mean)}")


def _rows(amplitudes: npt.ArrayLike) -> Floats:
    """The modes of each function in a row."""
    a = real_array(amplitudes, "amplitudes")
    if a.ndim < 2 or len(a) < 2 or not np.isfinite(a).all():
        raise ValueError(f"amplitudes must be finite, those of at least 2 functions; their shape is {a.shape}")
    return a.reshape(len(a), -1)
