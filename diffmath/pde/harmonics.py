r"""Harmonics on the circle and the sphere, in which differential operators are products of two simple matrices.

With the Laplacian :math:`\Delta`, which is diagonal, and the multiplication by a coordinate :math:`z_j`, the derivative
along the projected axis j is

.. math:: \nabla z_j \cdot \nabla f = \tfrac12 \bigl(\Delta (z_j f) - z_j \Delta f + (n - 1)\, z_j f\bigr) ,

as :math:`\Delta z_j = -(n - 1)\, z_j` on the unit sphere of :math:`\mathbb R^n`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from diffmath._arguments import real_array, require_callable, require_count
from diffmath.domains.eigenbasis import Floats

__all__ = ["Harmonics"]


class Harmonics:
    """Real orthonormal harmonics up to a degree, ordered by degree, and a quadrature for them.

    Parameters
    ----------
    n : int
        2 for the unit circle, 3 for the unit sphere.
    degree : int
        L: there are 2 L + 1 harmonics on the circle, (L + 1)^2 on the sphere.
    oversampling : int
        The quadrature is exact for polynomials of degree 2 L + 2 if this is 1, and has that many times as many points
        along each angle.

    Attributes
    ----------
    degrees : array of int, shape (K,)
    laplacian : array of float64, shape (K,)
        Its eigenvalues, -l (l + n - 2).
    points : array of float64, shape (n, G)
        Of the quadrature.
    weights : array of float64, shape (G,)

    Examples
    --------
    >>> sphere = Harmonics(3, degree=4)
    >>> c = sphere.coefficients(sphere.points[2] ** 2)
    >>> sphere.values(c, np.array([[0.0], [0.6], [0.8]])).round(12).tolist()
    [0.64]
    """

    def __init__(self, n: int, degree: int, oversampling: int = 1) -> None:
        self.n, self.degree = require_count("n", n, 2, 3), require_count("degree", degree)
        size = require_count("oversampling", oversampling) * (degree + 2)
        phi = 2 * np.pi * np.arange(2 * size) / (2 * size)
        circle = np.array([np.cos(phi), np.sin(phi)])
        if self.n == 2:
            self.degrees = np.array([0, *np.repeat(np.arange(1, degree + 1), 2)])
            self.points: Floats = circle
            self.weights: Floats = np.full(2 * size, math.pi / size)
        else:
            self.degrees = np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)
            height, weight = np.polynomial.legendre.leggauss(size)
            ring = np.sqrt(1 - height**2)
            self.points = np.array([*(np.multiply.outer(ring, x).ravel() for x in circle), np.repeat(height, 2 * size)])
            self.weights = np.repeat(weight, 2 * size) * math.pi / size
        self.laplacian: Floats = -1.0 * self.degrees * (self.degrees + self.n - 2)

    def basis(self, z: npt.ArrayLike) -> Floats:
        """All harmonics at given points.

        Parameters
        ----------
        z : array of float, shape (n, B)
            On the unit sphere.

        Returns
        -------
        numpy.ndarray, float64, shape (K, B)

        Examples
        --------
        >>> (Harmonics(2, degree=1).basis([[1.0], [0.0]]) ** 2 * np.pi).round(9).ravel().tolist()
        [0.5, 1.0, 0.0]
        """
        points = real_array(z, "z").astype(np.float64)
        if points.ndim != 2 or len(points) != self.n or not np.isfinite(points).all():
            raise ValueError(f"z must be finite, of the shape ({self.n}, B); its shape is {points.shape}")
        L, turn = self.degree, points[0] + 1j * points[1]
        power, Y = np.ones_like(turn), np.empty((len(self.degrees), points.shape[1]))
        if self.n == 2:
            Y[0] = 1 / math.sqrt(2 * math.pi)
            for k in range(1, L + 1):
                power = power * turn
                Y[2 * k - 1], Y[2 * k] = power.real / math.sqrt(math.pi), power.imag / math.sqrt(math.pi)
            return Y
        x, first = points[2], np.full(points.shape[1], 1 / math.sqrt(4 * math.pi))
        for m in range(L + 1):
            before, now = np.zeros_like(x), first  # Legendre's functions over sin^m, of degrees m - 1 and m
            real, imaginary = (part * (math.sqrt(2) if m else 1.0) for part in (power.real, power.imag))
            for l in range(m, L + 1):  # noqa: E741 (the degree, as everybody calls it)
                Y[l * l + l - m], Y[l * l + l + m] = now * imaginary, now * real
                a = math.sqrt((4 * (l + 1) ** 2 - 1) / ((l + 1) ** 2 - m * m))
                b = math.sqrt((l * l - m * m) / (4 * l * l - 1)) if l else 0.0
                before, now = now, a * (x * now - b * before)
            first, power = first * math.sqrt((2 * m + 3) / (2 * m + 2)), power * turn
        return Y

    @cached_property
    def at_points(self) -> Floats:
        """All harmonics at the points of the quadrature, of shape (K, G)."""
        return self.basis(self.points)

    def coefficients(self, values: npt.ArrayLike) -> Floats:
        """The projection of a function onto the harmonics.

        Parameters
        ----------
        values : array of float, shape (G,)
            At `points`.

        Returns
        -------
        numpy.ndarray, float64, shape (K,)
        """
        given = real_array(values, "values")
        if given.shape != self.weights.shape:
            raise ValueError(f"values must have the shape {self.weights.shape}; their shape is {given.shape}")
        c: Floats = self.at_points @ (self.weights * given)
        return c

    def values(self, coefficients: npt.ArrayLike, z: npt.ArrayLike) -> Floats:
        """A function at given points.

        Parameters
        ----------
        coefficients : array of float, shape (K,)
        z : array of float, shape (n, B)

        Returns
        -------
        numpy.ndarray, float64, shape (B,)
        """
        c = real_array(coefficients, "coefficients")
        if c.shape != self.degrees.shape:
            raise ValueError(f"coefficients must have the shape {self.degrees.shape}; their shape is {c.shape}")
        u: Floats = c @ self.basis(z)
        return u

    def advance(
        self, coefficients: npt.ArrayLike, move: Callable[[Floats, Floats, npt.NDArray[np.bool_]], Floats], nodes: int
    ) -> Floats:
        """Take a density through a random step, without sampling: by Gauss's quadrature over the noise.

        Parameters
        ----------
        coefficients : array of float, shape (K,) or (K, M)
            Of one density, or of M; the identity gives the matrix of the step.
        move : callable
            The step ``(z, xi, descending) -> z``: points (n, B), independent normal numbers (n, B), and as many tosses
            of a coin (B,), which are those of `diffmath.pde.stochastic.step`.
        nodes : int
            Of the quadrature, for each of the n numbers.

        Returns
        -------
        numpy.ndarray, float64, the shape of the coefficients

        Examples
        --------
        >>> circle = Harmonics(2, degree=1)
        >>> turned = circle.advance([0.0, 1.0, 0.0], lambda z, xi, descending: z[::-1], nodes=1)
        >>> bool(np.allclose(turned, [0, 0, 1]))
        True
        """
        require_callable("move", move, "move(z, xi, descending)")
        x, share = np.polynomial.hermite_e.hermegauss(require_count("nodes", nodes))
        xi = np.stack(np.meshgrid(*[x] * self.n)).reshape(self.n, -1)
        probability = np.stack(np.meshgrid(*[share / share.sum()] * self.n)).reshape(self.n, -1).prod(axis=0)
        size = len(probability)
        z, noise = np.repeat(self.points, size, axis=1), np.tile(xi, len(self.weights))
        masses = np.repeat(self.weights * (real_array(coefficients, "coefficients").T @ self.at_points), size, axis=-1)
        masses = (masses * np.tile(probability, len(self.weights))).T
        ends = (move(z, noise, np.full(z.shape[1], order)) for order in (False, True))
        result: Floats = sum((self.basis(end) @ masses for end in ends), np.zeros(())) / 2
        return result

    @cached_property
    def multiplication(self) -> Floats:
        """The matrices, of shape (n, K, K), that multiply by each coordinate and project onto the harmonics."""
        Y = self.at_points
        return np.array([(Y * (self.weights * x)) @ Y.T for x in self.points])

    @cached_property
    def derivative(self) -> Floats:
        r"""The matrices, of shape (n, K, K), of :math:`\nabla z_j \cdot \nabla`; exact below the highest degree."""
        Z, laplacian = self.multiplication, self.laplacian
        result: Floats = (laplacian[:, None] * Z - Z * laplacian + (self.n - 1) * Z) / 2
        return result
