r"""What a renormalised flow preserves: functionals N with :math:`N(a u) = |a| N(u)`.

The flow is :math:`u_t = \Delta u + \lambda(t) u` with :math:`\lambda(t)` such that N(u) is constant. As
:math:`\lambda` does not depend on x, u is the heat flow v of the same initial condition, rescaled,
:math:`u(t) = v(t)\, N(u_0) / N(v(t))`, and

.. math:: \lambda(t) = -\frac{\mathrm{d}}{\mathrm{d}t} \log N(v(t)) .

For the quadratic functionals :math:`N(u)^2 = \sum_k \mu_k^s c_k^2` this is the mean of :math:`\mu_k` under the
fractions :math:`p_k \propto \mu_k^s c_k^2`; s = 1 is the paper's eq. (21).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from diffmath.domains.box import Floats
from diffmath.pde.norms import Norm, Preserve

__all__ = [
    "Functional",
    "Preserve",
    "TotalVariation",
    "logarithmic_derivative",
    "norm",
    "power_of_mu",
    "require_homogeneous",
    "require_preserve",
]

Functional = Callable[[npt.NDArray[np.float64]], float]
"""A user's functional: a grid function of the domain's shape -> a number, N(a u) = |a| N(u)."""


POWERS = {"value": 0, "gradient": 1, "laplacian": 2}


def require_preserve(preserve: Preserve) -> None:
    """Raise a ValueError unless it names a functional or is callable."""
    if not callable(preserve) and preserve not in (*POWERS, "total_variation"):
        raise ValueError(
            f'preserve must be "gradient", "value", "laplacian", "total_variation" or a callable; it is {preserve!r}'
        )


def power_of_mu(preserve: Preserve) -> int | None:
    r"""The power s if :math:`N(u)^2 = \sum_k \mu_k^s c_k^2`, else None."""
    return preserve.power if isinstance(preserve, Norm) else None if callable(preserve) else POWERS.get(preserve)


class TotalVariation:
    r"""The true total variation :math:`\int |\nabla u|\, dx`, by the midpoint rule.

    Parameters
    ----------
    gradient : callable
        A grid function -> its gradient at the cell centres, shape (n, N_1, ..., N_n).
    cell_volume : float
    """

    def __init__(self, gradient: Callable[[Floats], Floats], cell_volume: float) -> None:
        self.gradient, self.cell_volume = gradient, cell_volume

    def __call__(self, u: Floats) -> float:
        """The total variation of a grid function."""
        return float(np.sqrt((self.gradient(u) ** 2).sum(axis=0)).sum() * self.cell_volume)

    def derivative(self, u: Floats, direction: Floats) -> float:
        """Its derivative at u along a direction, exact where no gradient vanishes."""
        along, by = self.gradient(u), self.gradient(direction)
        size = np.sqrt((along**2).sum(axis=0))
        product = (along * by).sum(axis=0)
        return float(np.divide(product, size, out=np.zeros_like(size), where=size > 0).sum() * self.cell_volume)


def logarithmic_derivative(functional: Functional, u: Floats, direction: Floats) -> float:
    r"""The derivative of :math:`\log N(u + h\,d)` at h = 0.

    By the functional's own ``derivative(u, direction)`` if it has one, else by central differences of fourth order,
    accurate to about 1e-11 of the derivative's natural size :math:`|d| / |u|` where N is smooth.
    """
    own = getattr(functional, "derivative", None)
    if own is not None:
        return float(own(u, direction)) / norm(functional, u)
    size = float(np.abs(direction).max() / np.abs(u).max())
    if size == 0:
        return 0.0
    h = 1e-3 / size
    values = [float(functional(u + i * h * direction)) for i in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h) / norm(functional, u)


def norm(functional: Functional, u: Floats) -> float:
    """N(u), checked to be a positive number."""
    value = float(functional(u))
    if not 0 < value < math.inf:
        raise ValueError(f"the functional to preserve must be positive and finite; it is {value}")
    return value


def require_homogeneous(functional: Functional, u: Floats) -> None:
    """Raise a ValueError unless N(-2 u) = 2 N(u): else rescaling the heat flow does not solve the equation."""
    once, twice = norm(functional, u), norm(functional, -2 * u)
    if not math.isclose(twice, 2 * once, rel_tol=1e-9):
        raise ValueError(
            f"the functional to preserve must obey N(a u) = |a| N(u); N(u_0) = {once:.6g} and N(-2 u_0) = {twice:.6g}"
        )
