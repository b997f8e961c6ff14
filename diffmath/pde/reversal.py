r"""The renormalised flow as a generative model: two or three modes under noise, to their invariant law and back.

It is section 4 of the paper on a circle or a sphere. The point :math:`z = y / \sqrt C` of eq. (26) has a density p that
obeys the Fokker-Planck equation, with the fields :math:`V_j = \sqrt{D_j / C}\, \nabla z_j` of the noise and :math:`V_0
= -\nabla \tfrac12 \sum_k m_k z_k^2` of the flow on the sphere,

.. math:: \partial_t p = -\operatorname{div}(V_0\, p) + \tfrac12 \sum_j \operatorname{div} (V_j \operatorname{div}
          (V_j\, p)) .

Galerkin's method in harmonics solves it, see `diffmath.pde.harmonics`, so the score :math:`\nabla \log p` is exact. It
reverses the equation, as the network does in eq. (19) (Anderson 1982; Song et al. 2021). As :math:`\operatorname{div}
\nabla z_j = -(n - 1)\, z_j`, in :math:`\tau = T - t` and with Stratonovich's product

.. math:: \mathrm{d}z = \bigl((M - \bar m)\, z + P\, \tfrac{D}{C}\, (\nabla \log p - (n - 1)\, z)\bigr)\, \mathrm{d}\tau
          + \textstyle\sum_j P e_j \sqrt{D_j / C} \circ \mathrm{d}W_j , \tag{29}

with the diagonal matrices M and D of rates and noise, the projection :math:`P = I - z z^T` and :math:`\bar m = z^T M
z`. The ordinary differential equation without the last term and with half of the one before has the same laws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from diffmath._arguments import as_rng, real_array, require_callable, require_count, require_number, require_positive
from diffmath.domains.eigenbasis import Floats
from diffmath.pde.harmonics import Harmonics
from diffmath.pde.stochastic import step

__all__ = ["SphereModel", "graded_times"]

RESOLVED = 1e-4  # the share of a density's norm that may lie in the highest degree
FLOOR = 1e-12  # of the highest density: below it the score is that of rounding
Method = Literal["sde", "ode"]


def graded_times(T: float, n_steps: int, power: float = 3.0) -> Floats:
    """Times from T down to 0, dense near 0, where the score is large: T (1 - i / n)^power.

    Parameters
    ----------
    T : float
    n_steps : int
    power : float
        1 makes equal steps.

    Returns
    -------
    numpy.ndarray, float64, shape (n_steps + 1,)

    Examples
    --------
    >>> graded_times(1.0, 2).tolist()
    [1.0, 0.125, 0.0]
    """
    n, power = require_count("n_steps", n_steps), require_positive("power", power)
    times: Floats = require_positive("T", T) * (1 - np.arange(n + 1) / n) ** power
    return times


class SphereModel:
    """Eq. (29): two or three modes of the forced flow with a law to start from, and the way back by the exact score.

    Parameters
    ----------
    density : callable
        The initial density: of points (n, B) on the unit sphere, to B numbers. It is normalised. It must be positive
        but for rounding, and so smooth that harmonics up to the degree resolve it, as they must the invariant density.
    rates, D : array of float, shape (n,)
        m_k, as `diffmath.pde.stochastic.ForcedFlow.rates` has them for each reading, and D_k, positive; n is 2 or 3.
    C : float
    degree : int
        Of the harmonics.

    Examples
    --------
    >>> from diffmath.pde.invariant import Bingham
    >>> model = SphereModel(lambda z: np.exp(2 * z[0] + z[2]), rates=[1.0, 2.0, 4.0], D=[2.0, 2.0, 2.0], degree=12)
    >>> z = model.draw(4, rng=0)  # from the invariant law, here Bingham's
    >>> back = model.sample(z, graded_times(4.0, 20), rng=0)
    >>> back.shape, bool(np.allclose((back**2).sum(axis=0), 1))
    ((3, 4), True)
    """

    def __init__(
        self,
        density: Callable[[Floats], npt.ArrayLike],
        rates: npt.ArrayLike,
        D: npt.ArrayLike,
        C: float = 1.0,
        degree: int = 24,
    ) -> None:
        m, d = (real_array(x, name).astype(np.float64) for x, name in ((rates, "rates"), (D, "D")))
        if m.shape not in ((2,), (3,)) or d.shape != m.shape:
            raise ValueError(f"rates and D must be those of 2 or 3 modes; their shapes are {m.shape} and {d.shape}")
        if not (np.isfinite(m).all() and (d > 0).all() and np.isfinite(d).all()):
            raise ValueError(f"rates must be finite and D positive; they are {m.tolist()} and {d.tolist()}")
        require_callable("density", density, "points z")
        self.n, self.rates, self.spread = len(m), m, d / require_positive("C", C)  # D / C
        self.harmonics = Harmonics(self.n, require_count("degree", degree))
        wide = Harmonics(self.n, degree + 1)
        G, Z = wide.derivative, wide.multiplication
        generator = sum(0.5 * s * g @ g - r * z @ g for s, r, g, z in zip(self.spread, m, G, Z, strict=True))
        K = len(self.harmonics.degrees)
        self._gradient = G[:, :, :K]
        self._wide = wide
        self._eigenvalues, self._vectors = np.linalg.eig(generator[:K, :K].T)
        self._law = self._coefficients(density)
        self._start = np.linalg.solve(self._vectors, self._law.astype(np.complex128))
        for name, t in (("initial", 0.0), ("invariant", math.inf)):
            c = self.coefficients(t)
            left = float(np.linalg.norm(c[self.harmonics.degrees == degree]) / np.linalg.norm(c))
            if left > RESOLVED:
                raise ValueError(
                    f"degree must be larger than {degree}: harmonics of the highest have a share of {left:.2g} in the "
                    f"norm of the {name} density, of which {RESOLVED:g} is allowed"
                )

    def _coefficients(self, density: Callable[[Floats], npt.ArrayLike]) -> Floats:
        """The normalised initial density in harmonics."""
        p = real_array(density(self.harmonics.points.copy()), "density")
        if p.shape != self.harmonics.weights.shape:
            raise ValueError(f"density must give {self.harmonics.weights.shape} numbers; it gives {p.shape}")
        if not (np.isfinite(p).all() and p.max() > 0 and p.min() > -1e-9 * p.max()):
            raise ValueError("density must be finite and not negative")
        c = self.harmonics.coefficients(p / (self.harmonics.weights @ p))
        return c

    def coefficients(self, t: float) -> Floats:
        """The density at time t in harmonics, by the eigenvalues of the Fokker-Planck operator.

        Parameters
        ----------
        t : float
            A time that is not negative; infinity stands for the invariant law.

        Returns
        -------
        numpy.ndarray, float64, shape (K,)

        Examples
        --------
        Equal rates and noises leave the uniform law:

        >>> model = SphereModel(lambda z: np.exp(z[0]), rates=[1.0, 1.0], D=[2.0, 2.0])
        >>> c = model.coefficients(math.inf)
        >>> bool(np.allclose(c[1:], 0)), round(float(c[0]) ** 2 * 2 * math.pi, 9)
        (True, 1.0)
        """
        t = require_number("t", t)
        if t == 0:
            return self._law
        if t == math.inf:
            decay = np.abs(self._eigenvalues) <= np.abs(self._eigenvalues).min()
        else:
            decay = np.exp(require_positive("t", t) * self._eigenvalues)
        c: Floats = (self._vectors @ (decay * self._start)).real
        return c

    def density(self, z: npt.ArrayLike, t: float = math.inf) -> Floats:
        """The density at time t; the invariant one unless given.

        Parameters
        ----------
        z : array of float, shape (n, B)
            On the unit sphere.
        t : float
            A time that is not negative.

        Returns
        -------
        numpy.ndarray, float64, shape (B,)
            With respect to the length of the circle, or the area of the sphere.

        Examples
        --------
        >>> model = SphereModel(lambda z: np.exp(z[0]), rates=[1.0, 1.0], D=[2.0, 2.0])
        >>> (2 * math.pi * model.density([[1.0, 0.6], [0.0, 0.8]])).round(9).tolist()
        [1.0, 1.0]
        """
        return self.harmonics.values(self.coefficients(t), self._on_the_sphere(z, "z"))

    def draw(self, n_samples: int, rng: np.random.Generator | int | None = None, t: float = math.inf) -> Floats:
        """Independent samples of the law at time t, by rejection; of the invariant law unless given.

        Parameters
        ----------
        n_samples : int
        rng : numpy.random.Generator or int, optional
        t : float

        Returns
        -------
        numpy.ndarray, float64, shape (n, n_samples)
        """
        count, generator, c = require_count("n_samples", n_samples, 0), as_rng(rng), self.coefficients(t)
        largest = 1.05 * float((c @ self.harmonics.at_points).max())  # between the points it is hardly higher
        kept = np.empty((self.n, 0))
        while kept.shape[1] < count:
            z = generator.standard_normal((self.n, max(1000, count)))
            z /= np.linalg.norm(z, axis=0)
            kept = np.hstack((kept, z[:, largest * generator.random(z.shape[1]) < self.harmonics.values(c, z)]))
        return kept[:, :count]

    def sample(
        self,
        start: npt.ArrayLike,
        times: npt.ArrayLike,
        method: Method = "sde",
        rng: np.random.Generator | int | None = None,
    ) -> Floats:
        """Run the model backwards, from points at the first of the times to points at the last.

        Parameters
        ----------
        start : array of float, shape (n, B)
            On the unit sphere, such as `draw` gives them.
        times : array of float, shape (m,)
            Descending, such as `graded_times`.
        method : {"sde", "ode"}
            The reversed equation, by a step of Euler's along the drift and the exact flows of the noise, see
            `diffmath.pde.stochastic.step`; or the ordinary differential equation by Heun's method.
        rng : numpy.random.Generator or int, optional
            The source of the noise of "sde".

        Returns
        -------
        numpy.ndarray, float64, shape (n, B)
        """
        z, t = self._on_the_sphere(start, "start"), _checked(times, method)
        generator = as_rng(rng)
        for now, then in zip(t[:-1].tolist(), t[1:].tolist(), strict=True):
            if method == "ode":
                z = self._heun(z, now, then)
            else:
                xi = generator.standard_normal(z.shape)
                descending = generator.random(z.shape[1:]) < 0.5
                z = self._push(self._euler(z, now, then), now - then, xi, descending)
        return z

    def total_variation(self, times: npt.ArrayLike, method: Method = "sde", n_nodes: int = 3) -> float:
        """How far the law that `sample` ends in is from the model's, in total variation, without sampling error.

        It starts from the invariant law at the first of the times. Each step takes the density, in harmonics, to the
        next, by a quadrature over the points and Gauss's over the noise.

        Parameters
        ----------
        times, method
            Those of `sample`.
        n_nodes : int
            Of Gauss's quadrature, for each of the noises.

        Returns
        -------
        float

        Examples
        --------
        >>> model = SphereModel(lambda z: np.exp(z[0]), rates=[1.0, 1.0], D=[2.0, 2.0])
        >>> times = graded_times(4.0, 10)
        >>> model.total_variation(times, "ode") < model.total_variation(times[::9], "ode") < 1
        True
        """
        t, harmonics, n_nodes = _checked(times, method), self.harmonics, require_count("n_nodes", n_nodes)
        c = self.coefficients(math.inf)
        for now, then in zip(t[:-1].tolist(), t[1:].tolist(), strict=True):
            if method == "ode":
                c = harmonics.basis(self._heun(harmonics.points, now, then)) @ (
                    harmonics.weights * (c @ harmonics.at_points)
                )
            else:
                size, dt = n_nodes**self.n, now - then
                moved = np.repeat(self._euler(harmonics.points, now, then), size, axis=1)
                c = harmonics.advance(c, lambda _, *noise, z=moved, dt=dt: self._push(z, dt, *noise), n_nodes)
        difference = (c - self.coefficients(float(t[-1]))) @ harmonics.at_points
        return float(harmonics.weights @ np.abs(difference)) / 2

    def _on_the_sphere(self, points: npt.ArrayLike, name: str) -> Floats:
        """Points on the unit sphere, else ValueError."""
        z = real_array(points, name).astype(np.float64)
        if z.ndim != 2 or len(z) != self.n or not np.allclose((z**2).sum(axis=0), 1, atol=1e-6):
            raise ValueError(
                f"{name} must be points on the unit sphere, of shape ({self.n}, B); its shape is {z.shape}"
            )
        return z

    def _euler(self, z: Floats, t: float, s: float) -> Floats:
        """A step of the drift of the reversed equation from t to s."""
        return _onto(z + (t - s) * self._velocity(z, t, 1.0))

    def _heun(self, z: Floats, t: float, s: float) -> Floats:
        """A step of the ordinary differential equation from t to s."""
        first = self._velocity(z, t, 0.5)
        second = self._velocity(_onto(z + (t - s) * first), s, 0.5)
        return _onto(z + (t - s) / 2 * (first + second))

    def _push(self, z: Floats, dt: float, xi: Floats, descending: npt.NDArray[np.bool_]) -> Floats:
        """The noise of a time dt, by the exact flow along one axis after another."""
        return step(z, np.zeros(self.n), dt, xi * np.sqrt(self.spread * dt)[:, None], descending)

    def _velocity(self, z: Floats, t: float, share: float) -> Floats:
        """The drift of eq. (29) at time t with a share of the noise's term: 1 as it stands, 1/2 without the noise."""
        c = self.coefficients(t)
        basis = self._wide.basis(z)
        p = c @ basis[: len(c)]
        score = (self._gradient @ c) @ basis / np.maximum(p, FLOOR * (c @ self.harmonics.at_points).max())
        v = self.rates[:, None] * z + share * self.spread[:, None] * (score - (self.n - 1) * z)
        projected: Floats = v - z * np.einsum("kb,kb->b", z, v)
        return projected


def _onto(z: Floats) -> Floats:
    """The nearest points on the unit sphere."""
    projected: Floats = z / np.sqrt(np.einsum("kb,kb->b", z, z))
    return projected


def _checked(times: npt.ArrayLike, method: str) -> Floats:
    """The times of a way back, which must descend, of a method that exists."""
    t = real_array(times, "times").astype(np.float64)
    if t.ndim != 1 or len(t) < 2 or not (np.diff(t) < 0).all() or t[-1] < 0 or not np.isfinite(t).all():
        raise ValueError("times must be finite, descending and not negative, at least two")
    if method not in ("sde", "ode"):
        raise ValueError(f'method must be "sde" or "ode"; it is {method!r}')
    return t
