r"""What the heat flow of one function needs beyond the eigenpairs that are known.

Its part r beyond them spans a rational Krylov space, with :math:`M^{-1} K r` and the products of r with
:math:`(M + \gamma K)^{-1} M` again and again. The Ritz pairs of K there, beside the known pairs, give the flow of the
function to rounding, from the shortest of the times on, with about forty solves. Two values of :math:`\gamma` take
turns: one suits the shortest time, the other the slowest of the modes that are not known. With a single one in between,
errors are hundreds of times as large where these two are far apart. Where they are very far apart, a third one between
them makes errors a hundredth after sixty solves.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from diffmath.domains._cost import progress
from diffmath.domains._eigenpairs import Inverse, factorised, inverse_mass
from diffmath.domains.eigenbasis import Floats

__all__ = ["ritz_pairs"]

CONVERGED = 1e-13  # of a state: the change by the last solves at which the space is large enough
LARGEST_CHANGE = 1e-10  # of a state: a larger one at the end causes a warning
MOST_SOLVES = 60
TYPICAL_SOLVES = 40
FAR = 100.0  # ratio of the two values of gamma, beyond which there is one between
CHECK_EVERY = 5  # solves between two checks of that change
ROUNDING = 1e-14  # of a vector: what is left of it beside the space is rounding


class Space:
    """A space beside known modes, with an orthonormal basis, and K in it."""

    def __init__(self, M: sp.csr_array, K: sp.csr_array, modes: Floats, largest: int) -> None:
        self.M, self.K, self.n_known, self.n = M, K, len(modes), len(modes)
        self.all = np.empty((len(modes) + largest, modes.shape[1]))
        self.all[: self.n] = modes
        self.images = np.empty((largest, modes.shape[1]))  # K times the basis

    @property
    def basis(self) -> Floats:
        """The basis, as rows."""
        return self.all[self.n_known : self.n]

    def add(self, x: Floats) -> bool:
        """Append the part of x beside the space and the modes, if it is more than rounding."""
        least = ROUNDING * math.sqrt(x @ (self.M @ x))
        for _ in range(3):
            x = x - (self.all[: self.n] @ (self.M @ x)) @ self.all[: self.n]
            size = math.sqrt(x @ (self.M @ x))
            if size <= least:
                return False
            x, least = x / size, ROUNDING
        self.all[self.n], self.images[self.n - self.n_known] = x, self.K @ x
        self.n += 1
        return True

    def ritz(self) -> tuple[Floats, Floats]:
        """The Ritz values, and the coefficients of the Ritz vectors in the basis, as columns."""
        H = self.basis @ self.images[: len(self.basis)].T
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        return values, vectors

    def states(self, r: Floats, times: Floats, mu: float) -> Floats:
        """The heat flow of r in the basis, relative to that of a mode of eigenvalue mu; padded to one width."""
        values, vectors = self.ritz()
        c = vectors.T @ (self.basis @ (self.M @ r))
        flow = (np.exp(-np.multiply.outer(times, values - mu)) * c) @ vectors.T
        return np.pad(flow, ((0, 0), (0, len(self.images) - len(c))))


def ritz_pairs(
    M: sp.csr_array, K: sp.csr_array, mu: Floats, modes: Floats, u: Floats, times: Floats, dimension: int = 2
) -> tuple[Floats, Floats]:
    r"""Ritz pairs beside known eigenpairs, which together give the heat flow of u.

    The first two vectors make the flow and its multiplier exact at t = 0. The space grows until the states at the times
    no longer change. Several functions have one space, which holds that of each.

    Parameters
    ----------
    M, K : sparse arrays, shape (n, n)
    mu : array of float64, shape (m,)
        The known eigenvalues, in increasing order.
    modes : array of float64, shape (m, n)
        The eigenvectors, M-orthonormal.
    u : array of float64, shape (B, n)
    times : array of float64, shape (t,)
        Times that are not negative.
    dimension : int
        That of the domain, for the estimate of the cost.

    Returns
    -------
    values : array of float64, shape (q,)
        The Ritz values, at most 62 for each function.
    vectors : array of float64, shape (q, n)
        M-orthonormal, with each other and with the modes.
    """
    times = np.unique(times[np.isfinite(times) & (times > 0)])
    inverses: list[Inverse] = []
    n_vectors, n_solves = len(modes) + 2 * MOST_SOLVES, len(u) * TYPICAL_SOLVES * bool(len(times))
    poles = _poles(M, K, mu, times) if len(times) else []
    with progress(
        "the rest", K.shape[0], dimension, n_factors=len(poles), n_solves=n_solves, n_vectors=n_vectors
    ) as solved:
        spaces = [_space(M, K, mu, modes, one, times, poles, inverses, solved) for one in u]
    whole = spaces[0]
    if len(spaces) > 1:
        whole = Space(M, K, modes, max(1, sum(len(space.basis) for space in spaces)))
        for space in spaces:
            for x in space.basis:
                whole.add(x)
    values, turn = whole.ritz()
    return values, turn.T @ whole.basis


def _space(
    M: sp.csr_array,
    K: sp.csr_array,
    mu: Floats,
    modes: Floats,
    u: Floats,
    times: Floats,
    poles: list[float],
    inverses: list[Inverse],
    solved: Callable[[], object],
) -> Space:
    """The space of one function, empty if the modes span it; fills the list of inverses if they are needed first."""
    space = Space(M, K, modes, MOST_SOLVES + 2)
    c = modes @ (M @ u)
    r = u - c @ modes
    if math.sqrt(r @ (M @ r)) <= ROUNDING * math.sqrt(u @ (M @ u)) or not space.add(r):
        return space
    space.add(inverse_mass(M)(space.images[0]))
    if len(times):
        inverses += [] if inverses else [factorised(sp.csr_array(M + gamma * K)) for gamma in poles]
        change = _grow(space, mu, c, r, times, inverses, solved)
        if change > LARGEST_CHANGE:
            warnings.warn(
                f"the part of u_0 beyond {len(modes)} modes is known to {change:.1g} of the solution at the worst of "
                "the times; more modes, or a later first time, give more digits",
                RuntimeWarning,
                stacklevel=2,
            )
    return space


def _poles(M: sp.csr_array, K: sp.csr_array, mu: Floats, times: Floats) -> list[float]:
    """The values of gamma in M + gamma K: one, or two or three that take turns."""
    highest = float(mu[-1])
    largest = float((abs(K) @ np.ones(K.shape[0]) / M.diagonal()).max())
    short = max(times[0], 9 / largest) / 3
    ratio = 0.3 / highest / short if highest else 1.0
    n_poles = 1 if ratio <= 3 else 2 if ratio <= FAR else 3
    poles: list[float] = np.geomspace(short, ratio * short, n_poles).tolist()
    return poles


def _grow(
    space: Space,
    mu: Floats,
    c: Floats,
    r: Floats,
    times: Floats,
    inverses: list[Inverse],
    solved: Callable[[], object],
) -> float:
    """Solve until the states no longer change, and return the last change relative to them."""
    lowest = float(mu[mu > 0].min(initial=mu[-1]))
    known = np.where(mu > 0, c, 0.0) * np.exp(-np.multiply.outer(times, np.maximum(mu - lowest, 0)))
    sizes = np.linalg.norm(known, axis=1)
    x, before, change = space.basis[0], space.states(r, times, lowest), math.inf
    for i in range(1, MOST_SOLVES + 1):
        if not space.add(inverses[i % len(inverses)](space.M @ x)):
            return 0.0
        solved()
        x = space.basis[-1]
        if i % CHECK_EVERY == 0:
            after = space.states(r, times, lowest)
            differences = np.linalg.norm(after - before, axis=1)
            change = float((differences / np.maximum(sizes, np.linalg.norm(after, axis=1))).max())
            before = after
            if change <= CONVERGED:
                break
    return change
