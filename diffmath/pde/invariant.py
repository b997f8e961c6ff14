r"""The laws that the renormalised flow tends to under noise, on the unit sphere :math:`z = y / \sqrt{C}`.

Of two modes the law is known in closed form. With n modes it is, if all :math:`D_k` are equal, Bingham's law: Brownian
motion on a sphere in the potential :math:`\tfrac12 y^T M y` has the density :math:`\exp(-y^T M y / D)`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from diffmath._arguments import as_rng, real_array, require_count, require_positive
from diffmath.domains import Box
from diffmath.domains.eigenbasis import Floats

__all__ = ["Bingham", "circle_density", "shares_on_a_cube"]


def circle_density(theta: npt.ArrayLike, rates: npt.ArrayLike, D: npt.ArrayLike, C: float = 1.0) -> Floats:
    r"""Eq. (27): the invariant density of two modes, :math:`z = (\cos\theta, \sin\theta)`.

    .. math:: p(\theta) \propto (D_1 \sin^2\theta + D_2 \cos^2\theta)^{-1/2 - (m_2 - m_1)\, C / (D_1 - D_2)} ,
              \tag{27}

    and for equal D the limit of that, :math:`\exp(-(m_2 - m_1)\, C \sin^2\theta / D)`.

    Parameters
    ----------
    theta : array of float
        Angles.
    rates, D : array of float, shape (2,)
        m_k, as `ForcedFlow.rates` has them for each reading, and D_k, positive.
    C : float

    Returns
    -------
    numpy.ndarray, float64, the shape of theta
        The density with respect to theta over (-pi, pi].

    Examples
    --------
    >>> theta = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    >>> p = circle_density(theta, [1.0, 4.0], [2.0, 1.0])
    >>> bool(np.isclose(p.mean() * 2 * np.pi, 1, rtol=1e-12))
    True
    """
    m, d = real_array(rates, "rates"), real_array(D, "D")
    if m.shape != (2,) or d.shape != (2,):
        raise ValueError(f"rates and D must be those of two modes; their shapes are {m.shape} and {d.shape}")
    if not (np.isfinite(m).all() and (d > 0).all() and np.isfinite(d).all()):
        raise ValueError(f"rates must be finite and D positive; they are {m.tolist()} and {d.tolist()}")
    C = require_positive("C", C)

    def logarithm(x: Floats) -> Floats:
        spread = d[1] + (d[0] - d[1]) * np.sin(x) ** 2  # C g^2
        # log(spread / d_2) / (d_1 - d_2), which tends to sin^2 / d_2 as the D become equal
        slope = np.sin(x) ** 2 / d[1]
        u = (d[0] - d[1]) * slope
        ratio = np.where(np.abs(u) > 1e-9, np.log1p(u) / np.where(u == 0, 1, u), 1 - u / 2)
        result: Floats = -np.log(spread) / 2 - (m[1] - m[0]) * C * slope * ratio
        return result

    grid = logarithm(np.linspace(0, 2 * np.pi, 2**14, endpoint=False))  # periodic and smooth: exact to rounding
    largest = float(grid.max())
    total = float(np.exp(grid - largest).mean()) * 2 * math.pi
    density: Floats = np.exp(logarithm(real_array(theta, "theta")) - largest) / total
    return density


class Bingham:
    r"""Eq. (28): Bingham's law on the unit sphere, of density proportional to :math:`\exp(-\sum_k a_k z_k^2)`.

    It is the invariant law of the forced flow with :math:`a_k = C m_k / D` where all :math:`D_k` are D.

    Parameters
    ----------
    a : array of float, shape (n,)
        n at least 2. Adding one number to all of them changes nothing.

    Examples
    --------
    >>> law = Bingham([0.0, 1.0, 5.0])
    >>> moments = law.moments()
    >>> moments.round(4).tolist(), bool(np.isclose(moments.sum(), 1, rtol=1e-13)), law.sample(4, rng=0).shape
    ([0.5466, 0.3471, 0.1063], True, (4, 3))
    """

    def __init__(self, a: npt.ArrayLike) -> None:
        given = real_array(a, "a")
        if given.ndim != 1 or len(given) < 2 or not np.isfinite(given).all():
            raise ValueError(f"a must be a vector of at least 2 finite numbers; its shape is {given.shape}")
        self.a: Floats = given - given.min()

    def moments(self) -> Floats:
        r"""The second moments :math:`E z_k^2`, which sum to 1, to about 1e-13.

        Returns
        -------
        numpy.ndarray, float64, shape (n,)
        """
        # The normalising constant is a contour integral of e^s prod_k (s + a_k)^(-1/2) ds, and the moments are the
        # means of 1 / (2 (s + a_k)) under its integrand. The contour is a parabola through the saddle point around the
        # cut along the negative axis, where the trapezoidal rule converges exponentially.
        n = len(self.a)
        saddle = float(brentq(lambda s: (0.5 / (s + self.a)).sum() - 1, 0.4, n / 2 + 1, xtol=1e-12))
        width = 1 / math.sqrt(saddle)
        x = np.arange(-9 * width, 9 * width, min(0.1, 0.1 * width))  # singular only at imaginary part 1
        root = 1 + 1j * x
        s = saddle * root**2
        logarithm = s - 0.5 * np.log(np.add.outer(s, self.a)).sum(axis=1)
        weight = np.exp(logarithm - logarithm.real.max()) * root
        moments: Floats = ((weight @ (0.5 / np.add.outer(s, self.a))) / weight.sum()).real
        return moments

    def sample(self, n_samples: int, rng: np.random.Generator | int | None = None) -> Floats:
        """Independent samples, float64 of shape (n_samples, n); ``rng`` is a generator or a seed.

        By rejection from an angular central Gaussian law (Kent, Ganeiban & Mardia 2018).
        """
        count, generator = require_count("n_samples", n_samples, 0), as_rng(rng)
        n = len(self.a)
        b = float(brentq(lambda b: (1 / (b + 2 * self.a)).sum() - 1, 0.5, n + 1.0))
        omega = 1 + 2 * self.a / b
        kept: list[Floats] = []
        n_kept = 0
        while n_kept < count:
            z = generator.standard_normal((max(1000, 2 * (count - n_kept)), n)) / np.sqrt(omega)
            z /= np.linalg.norm(z, axis=1, keepdims=True)
            excess = -(z**2 @ self.a) + n / 2 * np.log(z**2 @ omega) + (n - b) / 2 - n / 2 * math.log(n / b)
            z = z[np.log(generator.random(len(z))) < excess]
            kept.append(z)
            n_kept += len(z)
        return np.concatenate(kept)[:count] if kept else np.empty((0, n))


def shares_on_a_cube(n_modes: int, dimensions: int = 1, D: float = 5.0, C: float = 1.0) -> Floats:
    r"""Eq. (28) for noise of variance q = D / mu on a unit interval, square or cube: the mean share of each mode in C.

    Parameters
    ----------
    n_modes : int
        The number of the lowest modes that are there, without the constant.
    dimensions : int
        1, 2 or 3.
    D, C : float

    Returns
    -------
    numpy.ndarray, float64, shape (n_modes,)
        In ascending order of the eigenvalues; in several dimensions the lowest are equal.

    Examples
    --------
    >>> [float(shares_on_a_cube(8, d)[0].round(3)) for d in (1, 2)]
    [0.824, 0.27]
    """
    n, d = require_count("n_modes", n_modes, 2), require_count("dimensions", dimensions, 1, 3)
    D, C = require_positive("D", D), require_positive("C", C)
    side = math.ceil(2 * (n + 1) ** (1 / d)) + 1  # the ball of radius r that holds n modes has r < 2 n^(1/d)
    mu = np.sort(Box((side,) * d).eigenvalues, axis=None)[1 : n + 1]
    return Bingham(C * mu / D).moments()
