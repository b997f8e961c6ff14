r"""Gaussians: density, sums, affine images, products and Bayes' rule, eqs. (1) and (10)-(14).

These are the general rules from which the paper derives its backward process. `diffmath.process` has the closed forms
that come out, (2)-(9) and (15)-(19); the two are written independently, and the tests hold one to the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import ReadOnly, as_rng, real_array, require_count, require_instance

__all__ = ["Gaussian"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian(ReadOnly):
    r"""The distribution :math:`N(\mu, \operatorname{diag}(s^2))` on :math:`R^d`, eq. (1).

    Everything is float64. Leading axes are a batch; batches broadcast, the dimension d does not. ValueError is raised
    where a shape does not fit or a result is no Gaussian, and TypeError for what is no real number.

    Parameters
    ----------
    mean : array of float, shape (..., d)
        :math:`\mu`, finite.
    variance : float or array of float, broadcastable to the mean's shape
        :math:`s^2`, positive and finite; one number is the isotropic case (1).

    Examples
    --------
    >>> prior = Gaussian([0.0, 0.0], 1.0)
    >>> posterior = prior.given([2.0, 4.0], scale=1.0, variance=1.0)  # y = x + noise, both of variance 1
    >>> posterior.mean, float(posterior.variance)
    (array([1., 2.]), 0.5)
    """

    mean: Floats
    variance: Floats

    def __init__(self, mean: npt.ArrayLike, variance: npt.ArrayLike) -> None:
        m, v = _real(mean, "mean"), _real(variance, "variance")
        if m.ndim == 0 or m.shape[-1] == 0:
            raise ValueError(f"mean must have shape (..., d) with d >= 1; its shape is {m.shape}")
        if not np.isfinite(m).all():
            raise ValueError("mean must be finite; it holds NaN or infinity")
        if not ((v > 0) & (v < np.inf)).all():
            raise ValueError(f"variance must be positive and finite; it is {v if v.ndim == 0 else v.min()}")
        try:
            fits = np.broadcast_shapes(m.shape, v.shape) == m.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"variance must be broadcastable to the mean's shape {m.shape}; its shape is {v.shape}")
        for name, array in (("mean", m), ("variance", v)):
            object.__setattr__(self, name, array)
        self._freeze()

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.mean.shape[-1])

    def log_density(self, x: npt.ArrayLike) -> Floats:
        r"""Eq. (1): :math:`-\frac{1}{2} \sum_i \bigl( (x_i - \mu_i)^2 / s_i^2 + \log 2 \pi s_i^2 \bigr)`.

        The right side of (10), with (11) and (9) put in as in (12), is the sum of two of these less a third.

        Examples
        --------
        >>> Gaussian([0.0], 1 / (2 * np.pi)).log_density([1.0])
        np.float64(-3.141592653589793)
        """
        x = self._component(x, "x")
        terms = (x - self.mean) ** 2 / self.variance + np.log(2 * math.pi * self.variance)
        result: Floats = -0.5 * terms.sum(axis=-1)
        return result

    def density(self, x: npt.ArrayLike) -> Floats:
        r"""Eq. (1): :math:`(2 \pi s^2)^{-d/2} \exp(-|x - \mu|^2 / 2 s^2)`, of shape (...).

        Examples
        --------
        >>> Gaussian([0.0], 1 / (2 * np.pi)).density([0.0])
        np.float64(1.0)
        """
        return np.exp(self.log_density(x))

    def sample(self, rng: np.random.Generator | int, n: int) -> Floats:
        """Independent samples, n of them, float64 of shape (n, ..., d), from a generator or the seed of a new one.

        Examples
        --------
        >>> Gaussian([0.0, 1.0], 4.0).sample(rng=0, n=3).shape
        (3, 2)
        """
        shape = (require_count("n", n, 0), *self.mean.shape)
        return self.mean + np.sqrt(self.variance) * as_rng(rng).standard_normal(shape)

    def __add__(self, other: Gaussian) -> Gaussian:
        """The law of the sum of two independent variables of one dimension d: means add, variances add."""
        if not isinstance(other, Gaussian):
            return NotImplemented
        self._component(other.mean, "the other mean")
        return Gaussian(self.mean + other.mean, self.variance + other.variance)

    def affine(self, scale: npt.ArrayLike, shift: npt.ArrayLike = 0.0) -> Gaussian:
        """The law of a x + b, for a scale that is not zero; arrays of shape (..., d) act on each component.

        Examples
        --------
        >>> Gaussian([1.0], 4.0).affine(scale=3.0, shift=1.0)
        Gaussian(mean=array([4.]), variance=array(36.))
        """
        a, b = self._factor(scale, "scale"), self._factor(shift, "shift")
        for name, factor in (("scale", a), ("shift", b)):
            if not np.isfinite(factor).all():
                raise ValueError(f"{name} must be finite; it holds NaN or infinity")
        if not (a != 0).all():
            raise ValueError("scale must not be zero: the image would be a point")
        return Gaussian(a * self.mean + b, a * a * self.variance)

    def product(self, other: Gaussian) -> tuple[Gaussian, Floats]:
        r"""The product of two densities: a Gaussian, and the logarithm of the factor in front of it, of shape (...).

        Precisions add, as the square in (13) is completed. The factor is :math:`N(\mu_1; \mu_2, s_1^2 + s_2^2)`.

        Examples
        --------
        >>> Gaussian([0.0], 1.0).product(Gaussian([2.0], 1.0))[0]
        Gaussian(mean=array([1.]), variance=array(0.5))
        """
        require_instance("other", other, Gaussian)
        self._component(other.mean, "the other mean")
        total = self.variance + other.variance
        # The precision-weighted mean, in the form that stays within the two means.
        mean = self.mean + (self.variance / total) * (other.mean - self.mean)
        factor = Gaussian(np.broadcast_to(other.mean, mean.shape), total).log_density(self.mean)
        return Gaussian(mean, self.variance * (other.variance / total)), factor

    def quotient(self, other: Gaussian) -> Gaussian:
        """The Gaussian whose product with another, of larger variance, is this one up to a factor: precisions subtract.

        Examples
        --------
        >>> Gaussian([1.0], 0.5).quotient(Gaussian([2.0], 1.0))
        Gaussian(mean=array([0.]), variance=array(1.))
        """
        require_instance("other", other, Gaussian)
        self._component(other.mean, "the other mean")
        gap = other.variance - self.variance
        if not (gap > 0).all():
            raise ValueError("the other variance must be larger, else the quotient cannot be normalised")
        mean = self.mean + (self.variance / gap) * (self.mean - other.mean)
        return Gaussian(mean, self.variance * (other.variance / gap))

    def push(self, scale: npt.ArrayLike, variance: npt.ArrayLike) -> Gaussian:
        r"""The law of :math:`y = a x + \text{noise}` of variance v, where x has this law.

        Step by step it gives eq. (6); by the transition (11) it leads from the law (9) at one time to a later one.

        Examples
        --------
        >>> Gaussian([1.0], 4.0).push(scale=0.5, variance=1.0)
        Gaussian(mean=array([0.5]), variance=array(2.))
        """
        v = self._factor(variance, "variance")
        return self.affine(scale) + Gaussian(np.zeros(np.broadcast_shapes(self.mean.shape, v.shape)), v)

    def given(self, y: npt.ArrayLike, scale: npt.ArrayLike, variance: npt.ArrayLike) -> Gaussian:
        r"""Bayes' rule (10): the law of x given y, where x has this law and :math:`p(y | x) = N(y; a x, v)`.

        In x the likelihood is a multiple of :math:`N(x; y / a, v / a^2)`; with the forward process it is (14).

        Examples
        --------
        >>> Gaussian([0.0], 1.0).given([4.0], scale=2.0, variance=4.0)
        Gaussian(mean=array([1.]), variance=array(0.5))
        """
        a, v = self._factor(scale, "scale"), self._factor(variance, "variance")
        if not (a != 0).all():
            raise ValueError("scale must not be zero: y would say nothing of x")
        y = self._component(y, "y")
        if not np.isfinite(y).all():
            raise ValueError("y must be finite; it holds NaN or infinity")
        with np.errstate(over="ignore"):
            y, spread = y / a, v / a / a
        if (v < np.inf).all() and not ((spread < np.inf).all() and np.isfinite(y).all()):
            raise ValueError(f"scale must be larger for float64, in which y / a and v / a^2 overflow; it is {a}")
        likelihood = Gaussian(np.broadcast_to(y, np.broadcast_shapes(y.shape, spread.shape)), spread)
        return self.product(likelihood)[0]

    def _component(self, x: npt.ArrayLike, name: str) -> Floats:
        x = _real(x, name)
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(f"{name} must have d = {self.dim} entries in its last axis; its shape is {x.shape}")
        return x

    def _factor(self, x: npt.ArrayLike, name: str) -> Floats:
        """A number for all components, or one for each."""
        factor = _real(x, name)
        return self._component(factor, name) if factor.ndim else factor


def _real(values: Any, name: str) -> Floats:
    return real_array(values, name).astype(np.float64)
