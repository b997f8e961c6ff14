"""The norm that the flow preserves on a grid, and its multiplier, with the Laplacian of finite differences.

They are those of `diffmath.pde.norms` on ``domain.discrete``; the flow there is solved by `diffmath.pde.stepping`.
"""

from __future__ import annotations

import numpy as np

from diffmath.domains.eigenbasis import Eigenbasis, Floats
from diffmath.pde.norms import Preserve, as_norm

__all__ = ["discrete_multiplier", "discrete_norm"]


def discrete_norm(domain: Eigenbasis, u: Floats, preserve: Preserve = "gradient") -> float:
    r"""N(u), the norm on the grid that the flow preserves.

    Parameters
    ----------
    domain : Eigenbasis
    u : array of float64, the domain's shape
    preserve : {"gradient", "value", "laplacian", "total_variation"}, Norm or callable
        With M the mass and K the stiffness matrix, the first three are :math:`N(u)^2 = \langle u, M (M^{-1} K)^s u
        \rangle` with s = 1, 0, 2. The total variation of a box is the sum over the cells of :math:`|\nabla u|`, in each
        cell the mean over its corners of the length of the vector of the difference quotients at the faces that meet
        there: in 1-D without flux, :math:`\sum_i |u_{i+1} - u_i|`.

    Returns
    -------
    float

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> round(discrete_norm(Box(2), np.array([0.0, 3.0]), "total_variation"), 12)
    3.0
    """
    return float(as_norm(preserve).value(domain.discrete, u))


def discrete_multiplier(domain: Eigenbasis, u: Floats, preserve: Preserve = "gradient") -> float:
    r""":math:`\lambda(u) = -\frac{\mathrm{d}}{\mathrm{d}h} \log N(u - h\, M^{-1} K u)`: with it N(u) does not change.

    Parameters
    ----------
    domain : Eigenbasis
    u : array of float64, the domain's shape
    preserve : {"gradient", "value", "laplacian", "total_variation"}, Norm or callable
        As in `discrete_norm`.

    Returns
    -------
    float
        Per unit of time; 0 for a constant u.

    Examples
    --------
    >>> from diffmath.domains import Box
    >>> round(discrete_multiplier(Box(2), np.array([0.0, 3.0])), 12)  # the only mode, of eigenvalue 8
    8.0
    """
    if np.ptp(u) == 0:
        return 0.0
    scaled = np.ldexp(u, -np.frexp(np.abs(u).max())[1])
    return float(as_norm(preserve).multiplier(domain.discrete, domain.discrete.to_modes(scaled)))
