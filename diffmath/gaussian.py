r"""Gaussians: density, sums, affine images, products and Bayes' rule, eqs. (1) and (10)-(14).

These are the general rules from which the paper derives its backward process. `diffmath.schedule` has the closed forms
that come out, (5)-(9) and (15)-(18); the two are written independently, and the tests hold one to the other.

A Gaussian here has independent components: :math:`N(x; \mu, \operatorname{diag}(s^2))` with one variance for each
component, or one for all, the isotropic case (1) of the paper. Everything is float64, and any leading axes of the mean
and the variance are a batch. Batches broadcast; the dimension d does not. The module needs numpy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import ReadOnly, as_rng, real_array, require_count

__all__ = ["Gaussian"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian(ReadOnly):
    r"""The distribution :math:`N(\mu, \operatorname{diag}(s^2))` on :math:`R^d`, eq. (1).

    Parameters
    ----------
    mean : array of float, shape (..., d)
        :math:`\mu`, finite.
    variance : float or array of float, broadcastable to the mean's shape
        :math:`s^2`, positive and finite; a single number is the isotropic case.

    Raises
    ------
    ValueError
        If the mean is not finite or has no component, or a variance is not positive and finite, or its shape does not
        fit.
    TypeError
        If they are not real numbers.

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

        The right side of (10), with (11) and (9) put in as (12) does, is the sum of two of these less a third.

        Parameters
        ----------
        x : array of float, shape (..., d)

        Returns
        -------
        numpy.ndarray, shape (...)

        Raises
        ------
        ValueError
            If the last axis has not d entries.
        """
        x = self._component(x, "x")
        terms = (x - self.mean) ** 2 / self.variance + np.log(2 * math.pi * self.variance)
        result: Floats = -0.5 * terms.sum(axis=-1)
        return result

    def density(self, x: npt.ArrayLike) -> Floats:
        r"""Eq. (1): :math:`(2 \pi s^2)^{-d/2} \exp(-|x - \mu|^2 / 2 s^2)`; shapes and errors as for `log_density`."""
        return np.exp(self.log_density(x))

    def sample(self, rng: np.random.Generator | int, n: int) -> Floats:
        """Independent samples, n of them, from a generator or the one a seed makes: float64 of shape (n, ..., d)."""
        shape = (require_count("n", n, 0), *self.mean.shape)
        return self.mean + np.sqrt(self.variance) * as_rng(rng).standard_normal(shape)

    def __add__(self, other: Gaussian) -> Gaussian:
        """The law of the sum of two independent variables of one dimension d: means add, variances add."""
        if not isinstance(other, Gaussian):
            return NotImplemented
        self._component(other.mean, "the other mean")
        return Gaussian(self.mean + other.mean, self.variance + other.variance)

    def affine(self, scale: npt.ArrayLike, shift: npt.ArrayLike = 0.0) -> Gaussian:
        """The law of a x + b.

        Parameters
        ----------
        scale : float or array, shape (..., d)
            a, not zero; an array acts on each component.
        shift : float or array, shape (..., d)
            b.

        Returns
        -------
        Gaussian

        Raises
        ------
        ValueError
            If the scale is zero, an array's last axis has not d entries, or the result is not finite.
        """
        a, b = self._factor(scale, "scale"), self._factor(shift, "shift")
        if not (a != 0).all():
            raise ValueError("scale must not be zero: the image would be a point")
        return Gaussian(a * self.mean + b, a * a * self.variance)

    def product(self, other: Gaussian) -> tuple[Gaussian, Floats]:
        r"""The product of two densities: a Gaussian, and the logarithm of the factor in front of it.

        Precisions add, and means are weighted by them, as the square in (13) is completed. The factor is the density of
        one mean under the other with the variances added, :math:`N(\mu_1; \mu_2, s_1^2 + s_2^2)`.

        Parameters
        ----------
        other : Gaussian

        Returns
        -------
        gaussian : Gaussian
        log_factor : numpy.ndarray, shape (...)

        Raises
        ------
        ValueError
            If the other has another dimension d.
        """
        self._component(other.mean, "the other mean")
        total = self.variance + other.variance
        # The precision-weighted mean, in the form that stays within the two means.
        mean = self.mean + (self.variance / total) * (other.mean - self.mean)
        factor = Gaussian(np.broadcast_to(other.mean, mean.shape), total).log_density(self.mean)
        return Gaussian(mean, self.variance * (other.variance / total)), factor

    def quotient(self, other: Gaussian) -> Gaussian:
        """The Gaussian whose product with another is this one, up to a factor: precisions subtract.

        Parameters
        ----------
        other : Gaussian
            Of larger variance in every component.

        Returns
        -------
        Gaussian

        Raises
        ------
        ValueError
            If a variance of the other is not larger: the quotient is no density; or it has another dimension d.
        """
        self._component(other.mean, "the other mean")
        gap = other.variance - self.variance
        if not (gap > 0).all():
            raise ValueError("the other variance must be larger, else the quotient cannot be normalised")
        mean = self.mean + (self.variance / gap) * (self.mean - other.mean)
        return Gaussian(mean, self.variance * (other.variance / gap))

    def push(self, scale: npt.ArrayLike, variance: npt.ArrayLike) -> Gaussian:
        r"""The law of :math:`y = a x + \text{noise}`: the integral of :math:`N(y; a x, v)` over this law of x.

        Step by step it gives eq. (6); by the transition (11) it leads from the law (9) at one time to a later one.

        Parameters
        ----------
        scale : float or array, shape (..., d)
            a, not zero.
        variance : float or array, shape (..., d)
            v, that of the noise.

        Returns
        -------
        Gaussian

        Raises
        ------
        ValueError
            If the scale is zero, a variance is not positive, an array's last axis has not d entries, or the result is
            not finite.
        """
        v = self._factor(variance, "variance")
        return self.affine(scale) + Gaussian(np.zeros(np.broadcast_shapes(self.mean.shape, v.shape)), v)

    def given(self, y: npt.ArrayLike, scale: npt.ArrayLike, variance: npt.ArrayLike) -> Gaussian:
        r"""Bayes' rule (10): the law of x given y, where x has this law and :math:`p(y | x) = N(y; a x, v)`.

        As a function of x the likelihood is a multiple of :math:`N(x; y / a, v / a^2)`, so (10) is a product; with
        the laws of the forward process put in, it is (14).

        Parameters
        ----------
        y : array, shape (..., d)
            What was observed.
        scale : float or array, shape (..., d)
            a, not zero.
        variance : float or array, shape (..., d)
            v, that of the noise in y.

        Returns
        -------
        Gaussian

        Raises
        ------
        ValueError
            If the scale is zero, the variance is not positive, or an array's last axis has not d entries.
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
        return _real(x, name) if np.ndim(x) == 0 else self._component(x, name)


def _real(values: Any, name: str) -> Floats:
    return real_array(values, name).astype(np.float64)
