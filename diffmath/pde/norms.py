r"""What a renormalised flow preserves: norms N with :math:`N(a u) = |a| N(u)`.

The flow is :math:`u_t = \Delta u + \lambda(t) u` with :math:`\lambda(t)` such that N(u) is constant. As
:math:`\lambda` does not depend on x, u is the heat flow v of the same initial condition, rescaled,
:math:`u(t) = v(t)\, N(u_0) / N(v(t))`, and

.. math:: \lambda(t) = -\frac{\mathrm{d}}{\mathrm{d}t} \log N(v(t)) .

For the quadratic norms :math:`N(u)^2 = \sum_k \mu_k^s c_k^2` this is the mean of :math:`\mu_k` under the shares
:math:`p_k \propto \mu_k^s c_k^2`; s = 1 is the paper's eq. (21).

To add a norm, derive from `Norm`, define ``_size`` and ``_multiplier``, and put an object into `NORMS`. Nothing else
needs to know of it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import real_array, require_callable, require_instance, require_number, require_unmasked
from diffmath.domains import Eigenbasis
from diffmath.domains.eigenbasis import Floats, read_only

__all__ = ["NORMS", "Functional", "Norm", "Preserve", "QuadraticNorm", "TotalVariation", "UserNorm", "as_norm"]

Functional = Callable[[npt.NDArray[np.float64]], float]
r"""A user's norm: a grid function of the domain's shape -> a number, with :math:`N(a u) = |a| N(u)`."""

FLAT = 1e-13  # of the largest gradient: a smaller one is rounding, and has no direction


class Norm(ABC):
    """A norm, on any domain: `box` itself, or `box.discrete` for finite differences.

    Coefficients c are arrays of shape (..., ``*domain.mode_shape``); a number is returned for each function.

    Attributes
    ----------
    name : str
    quantity : str
        What the flow is said to preserve, N(u) ** degree, in words.
    degree : int
        2 where the preserved quantity is the square of the norm, else 1.
    power : int or None
        The power s of mu if the norm is the root of a sum over modes.
    sees_mean : bool
        Whether the mean (in general, modes of eigenvalue 0) counts.
    equation : str
    """

    name: str
    quantity: str
    degree = 1
    power: int | None = None
    sees_mean = False
    equation = "u_t = Lap u + lambda(t) u; Higham, Higham and Grindrod, eq. (20)"

    @abstractmethod
    def _size(self, domain: Eigenbasis, c: Floats) -> Floats:
        """N(u) for functions with coefficients c."""

    @abstractmethod
    def _multiplier(self, domain: Eigenbasis, c: Floats) -> Floats:
        r"""The rate :math:`\lambda` at which the heat flow lowers log N."""

    def _measure(self, domain: Eigenbasis, c: Floats) -> tuple[Floats, Floats, Floats]:
        """Compute the size, the shares and the multiplier, which may have work in common."""
        return self._size(domain, c), _shares(domain, c, 1)[0], self._multiplier(domain, c)

    def size(self, domain: Eigenbasis, c: Floats) -> Floats:
        """N(u) for functions with coefficients c."""
        require_unmasked(c, "c")
        return self._size(domain, c)

    def size_within(self, domain: Eigenbasis, c: Floats) -> Floats:
        """N(u) for functions with the first n of the flattened modes alone, c of shape (B, n)."""
        whole = np.zeros((len(c), domain.eigenvalues.size))
        whole[:, : c.shape[1]] = c
        return self.size(domain, whole.reshape(len(c), *domain.mode_shape))

    def multiplier(self, domain: Eigenbasis, c: Floats) -> Floats:
        r"""The rate :math:`\lambda` at which the heat flow lowers log N."""
        require_unmasked(c, "c")
        return self._multiplier(domain, c)

    def measure(self, domain: Eigenbasis, c: Floats) -> tuple[Floats, Floats, Floats]:
        """The `size`, the `shares` and the `multiplier`, that of eq. (22) if the gradient is preserved."""
        require_unmasked(c, "c")
        return self._measure(domain, c)

    def shares(self, domain: Eigenbasis, c: Floats) -> Floats:
        """The share of each mode in the energy (21), or in the preserved quantity if that is a sum over modes too."""
        return self.measure(domain, c)[1]

    def require_homogeneous(self, domain: Eigenbasis, c: Floats) -> None:  # noqa: B027
        """Raise a ValueError unless N(-2 u) = 2 N(u), which holds by construction unless the norm is a user's."""

    def value(self, domain: Eigenbasis, u: Floats) -> Floats:
        """N(u) for grid functions of any magnitude.

        Parameters
        ----------
        domain : Eigenbasis
        u : array of float64, shape (..., ``*domain.shape``)

        Returns
        -------
        numpy.ndarray, float64, shape (...)

        Raises
        ------
        ValueError
            If N(u) is not positive and finite.

        Examples
        --------
        >>> from diffmath.domains import Box
        >>> box = Box(64)
        >>> bool(np.isclose(NORMS["gradient"].value(box, box.eigenfunction(3)), 3 * np.pi))
        True
        """
        require_instance("domain", domain, Eigenbasis)
        u = real_array(u, "u")
        axes = tuple(range(-len(domain.shape), 0))
        largest, exponent = np.frexp(np.abs(u).max(axis=axes))
        if not np.isfinite(largest).all():
            raise ValueError("u must be finite; it holds NaN or infinity")
        scaled = np.ldexp(u, -exponent.reshape(*exponent.shape, *[1] * len(axes)))
        size: Floats = np.ldexp(_positive(self.size(domain, domain.to_modes(scaled))), exponent)
        return size


class QuadraticNorm(Norm):
    r"""The norms :math:`N(u)^2 = \sum_k \mu_k^s c_k^2`, sums over modes."""

    degree = 2
    power: int  # of mu

    def __init__(self, name: str, power: int, quantity: str, equation: str = Norm.equation) -> None:
        self.name, self.power, self.quantity, self.equation = name, power, quantity, equation
        self.sees_mean = power == 0

    def _size(self, domain: Eigenbasis, c: Floats) -> Floats:
        return self.size_within(domain, _flat(domain, c))

    def size_within(self, domain: Eigenbasis, c: Floats) -> Floats:
        """N(u) for functions with the first n of the flattened modes alone, c of shape (..., n)."""
        squares, weight, unit = _squares(domain, c, self.power)
        size: Floats = np.sqrt(squares @ weight) * unit
        return size

    def _multiplier(self, domain: Eigenbasis, c: Floats) -> Floats:
        return self._measure(domain, c)[2]

    def _measure(self, domain: Eigenbasis, c: Floats) -> tuple[Floats, Floats, Floats]:
        """Compute the multiplier as the mean of the eigenvalues under the shares; for s = 1 that of eq. (22)."""
        shares, size = _shares(domain, c, self.power)
        return size, shares, _flat(domain, shares) @ domain.eigenvalues.ravel()


class TotalVariation(Norm):
    r"""The total variation :math:`\int |\nabla u|\, dx`, by quadrature at the points of the domain's gradients."""

    name = "total_variation"
    quantity = "integral of |grad u|"

    def _size(self, domain: Eigenbasis, c: Floats) -> Floats:
        return _integral(domain, np.sqrt((_gradient(domain, c) ** 2).sum(axis=0)))

    def _multiplier(self, domain: Eigenbasis, c: Floats) -> Floats:
        r"""The integral of :math:`\nabla u \cdot \nabla(-\Delta u) / |\nabla u|` over N(u), if no gradient is 0."""
        along, by = _gradient(domain, c), _gradient(domain, domain.eigenvalues * c)
        size = np.sqrt((along**2).sum(axis=0))
        product = (along * by).sum(axis=0)
        slope = np.divide(product, size, out=np.zeros_like(size), where=size > FLAT * size.max())
        return _integral(domain, slope) / _integral(domain, size)


class UserNorm(Norm):
    """A function of a grid function.

    It receives a copy, which it may change. If it has a method ``derivative(u, direction)``, that gives the multiplier,
    from read-only arrays; else differences of fourth order do, which are accurate to about 1e-11 where N is smooth.

    Parameters
    ----------
    function : callable
        A grid function, an array of the domain's shape -> N(u).

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> largest = UserNorm(lambda u: float(np.abs(u).max()))
    >>> bool(np.isclose(largest.value(Box(4), np.array([1.0, -3.0, 2.0, 0.0])), 3))
    True
    """

    sees_mean = True

    def __init__(self, function: Functional) -> None:
        require_callable("function", function, "function(u)")
        self.function = function
        self.name = self.quantity = getattr(function, "__name__", "a functional")

    def _size(self, domain: Eigenbasis, c: Floats) -> Floats:
        return self._each(domain, c, self._value)

    def _multiplier(self, domain: Eigenbasis, c: Floats) -> Floats:
        """The derivative of log N(u) along -Lap u."""
        return self._each(domain, c, self._logarithmic_derivative, domain.to_values(domain.eigenvalues * c))

    def require_homogeneous(self, domain: Eigenbasis, c: Floats) -> None:
        """Raise a ValueError unless N(-2 u) = 2 N(u): else rescaling the heat flow does not solve the equation."""
        for once, twice in zip(self.size(domain, c).ravel(), self.size(domain, -2 * c).ravel(), strict=True):
            if not math.isclose(twice, 2 * once, rel_tol=1e-9):
                raise ValueError(
                    "the functional to preserve must obey N(a u) = |a| N(u); "
                    f"N(u_0) = {once:.6g} and N(-2 u_0) = {twice:.6g}"
                )

    def _each(self, domain: Eigenbasis, c: Floats, f: Callable[..., float], *directions: Floats) -> Floats:
        """One number for each of the functions with coefficients c."""
        u = domain.to_values(c)
        batch = u.shape[: u.ndim - len(domain.shape)]
        members = (x.reshape(-1, *domain.shape) for x in (u, *directions))
        return np.array([f(*each) for each in zip(*members, strict=True)]).reshape(batch)

    @staticmethod
    def _number(value: Any) -> float:
        return require_number("what the functional to preserve and its derivative return", value)

    def _value(self, u: Floats) -> float:
        return float(_positive(self._number(self.function(u.copy()))))

    def _logarithmic_derivative(self, u: Floats, direction: Floats) -> float:
        """The derivative of log N(u + h direction) at h = 0."""
        own = getattr(self.function, "derivative", None)
        if own is not None:
            return self._number(own(read_only(u.copy()), read_only(direction.copy()))) / self._value(u)
        size = float(np.abs(direction).max() / np.abs(u).max())
        if size == 0:
            return 0.0
        h = 1e-3 / size
        values = [self._number(self.function(u + i * h * direction)) for i in (-2, -1, 1, 2)]
        return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h) / self._value(u)


Preserve = str | Norm | Functional

NORMS: dict[str, Norm] = {
    norm.name: norm
    for norm in (
        QuadraticNorm(
            "gradient",
            1,
            "integral of |grad u|^2",
            "u_t = Lap u + (u / C) integral (Lap u)^2 dx; Higham, Higham and Grindrod, eq. (22)",
        ),
        QuadraticNorm("value", 0, "integral of u^2"),
        QuadraticNorm("laplacian", 2, "integral of (Lap u)^2"),
        TotalVariation(),
    )
}
"""The norms by name."""


def as_norm(preserve: Preserve) -> Norm:
    """The norm of a name or of a user's function, or the norm itself.

    Examples
    --------
    >>> as_norm("gradient").quantity
    'integral of |grad u|^2'
    """
    if isinstance(preserve, Norm):
        return preserve
    if callable(preserve):
        return UserNorm(preserve)
    if preserve not in list(NORMS):
        names = ", ".join(f'"{name}"' for name in NORMS)
        raise ValueError(f"preserve must be {names} or a callable; it is {preserve!r}")
    return NORMS[preserve]


def _flat(domain: Eigenbasis, c: Floats) -> Floats:
    """The coefficients with all modes along one axis."""
    return c.reshape(*c.shape[: c.ndim - len(domain.mode_shape)], -1)


def _squares(domain: Eigenbasis, c: Floats, power: int) -> tuple[Floats, Floats, float]:
    """The squares c^2 of the first n modes, (mu / mu_1)^s, and mu_1^(s / 2): in this unit nothing overflows."""
    n = c.shape[-1]
    weight, null = domain.relative_eigenvalues[:n], domain.null_positions
    with np.errstate(over="ignore", under="ignore"):
        squares = c * c
    if power:
        squares[..., null[null < n]] = 0.0  # also where a mean has grown beyond float64
    return squares, weight if power == 1 else weight**power, domain.lowest_eigenvalue ** (power / 2)


def _shares(domain: Eigenbasis, c: Floats, power: int) -> tuple[Floats, Floats]:
    """The share of each mode in the sum over modes of mu^s c^2, and the root of that sum."""
    shares, weight, unit = _squares(domain, _flat(domain, c), power)
    shares *= weight
    total = shares.sum(axis=-1)
    shares /= total[..., None]
    return shares.reshape(c.shape), np.sqrt(total) * unit


def _gradient(domain: Eigenbasis, c: Floats) -> Floats:
    """The gradients, (n, ..., points) with one axis of points; the mean, which may be large, is left out."""
    c = np.where(domain.null_modes, 0.0, c)
    gradient = domain.gradient(c)
    return gradient.reshape(len(gradient), *c.shape[: c.ndim - len(domain.mode_shape)], -1)


def _integral(domain: Eigenbasis, values: Floats) -> Floats:
    """The integral of values at the points of gradients."""
    return values @ domain.gradient_weights.ravel()


def _positive(size: Any) -> Any:
    """N(u), checked to be positive and finite."""
    if not (np.all(size > 0) and np.all(size < math.inf)):
        raise ValueError(f"the functional to preserve must be positive and finite; it is {np.min(size)}")
    return size
