"""The exact solution from grid values, on bases of all modes and on truncated ones.

A truncated basis holds the slowest modes of many. Each initial condition then has an extended basis of its own, whose
additional modes carry what lies beyond, so that the same softmax gives its flow. The shares and amplitudes of a
solution are those of the modes that the domain has numbers for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diffmath.domains.eigenbasis import Floats
from diffmath.pde.dataset import Mean, Solution

if TYPE_CHECKING:
    from diffmath.pde.flow import RenormalizedFlow

__all__ = ["exact"]


def exact(flow: RenormalizedFlow, u: Floats, largest: float, t: Floats, mean: Mean, C: float | None) -> Solution:
    """The solution from grid values.

    Parameters
    ----------
    flow : RenormalizedFlow
    u : array of float64, shape (B, ``*shape``)
    largest : float
        The largest absolute value.
    t : array of float64, shape (n,)
    mean, C
        The same as for `RenormalizedFlow.solve`.

    Examples
    --------
    >>> from diffmath.domains import Mask
    >>> from diffmath.pde import RenormalizedFlow
    >>> flow = RenormalizedFlow(Mask(np.ones((30, 20), dtype=bool), n_modes=10))
    >>> noise = np.random.default_rng(0).standard_normal((1, 600))
    >>> solution = exact(flow, noise, 4.0, np.array([0.0]), "project", None)
    >>> bool(np.allclose(solution.u[:, 0], noise - noise.mean())), solution.fraction.shape
    (True, (1, 1, 10))
    """
    if flow.domain.is_complete:
        return flow._exact(u, largest, t, mean, C)
    n, parts = flow.domain.n_modes, []
    for one in u:
        extended = type(flow)(flow.domain._resolving(one[None] / np.abs(one).max(), t), flow.norm)
        part = extended._exact(one[None], largest, t, mean, C)
        parts.append(part._replace(fraction=part.fraction[..., :n]))
    return Solution(*(np.concatenate(arrays) for arrays in zip(*(part[:-1] for part in parts), strict=True)))
