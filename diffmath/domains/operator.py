r"""Domains given by two matrices: :math:`M u' = -K u`, with the lowest eigenpairs of :math:`K w = \mu M w`.

The basis is truncated: the n modes that decay slowest are eigenvectors, found once. The rest of an initial condition is
not thrown away. `Operator._resolving` adds the few Ritz pairs that carry the heat flow of the rest, and the flow is as
exact on the extended basis as on a complete one.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, eigsh, splu

from diffmath._arguments import real_array, require_count, require_number
from diffmath.domains._eigenpairs import Inverse, factorised, inverse_mass, kernel, lowest
from diffmath.domains._krylov import ritz_pairs
from diffmath.domains.eigenbasis import Eigenbasis, Floats, read_only, require_step

__all__ = ["Operator"]

N_MODES = 50
SYMMETRIC = 1e-12  # of the largest entry
MOST_COMPLETE = 2048  # unknowns: schemes step on as many with all modes
HIGHER = 1.05  # times what Lanczos finds of the highest eigenvalue is more than it
OF_MODES = {n for n, x in vars(Eigenbasis).items() if isinstance(x, cached_property) and n != "mass"}
OF_MODES |= {"_pairs", "discrete"}
"""What is derived from the modes, and cached."""


class Operator(Eigenbasis):
    r"""A domain given by a mass matrix M and a stiffness matrix K of the user's own.

    Grid functions are vectors over the unknowns. K may be the Laplacian of a graph, or come from a program for finite
    elements. Constants on the connected components of K's graph are null vectors where K's rows have no sum.

    Parameters
    ----------
    M : sparse array, array of shape (n, n), or array of shape (n,)
        The mass matrix, symmetric and positive definite, or its diagonal.
    K : sparse array or array of shape (n, n)
        The stiffness matrix, symmetric, with no negative eigenvalue.
    n_modes : int, optional
        How many eigenpairs to find, those of connected components included; 50, or all if there are fewer, unless
        given.
    merge : float, optional
        Eigenvalues whose relative difference from the next is no more than this are taken to be one multiple
        eigenvalue, their mean. The default is rounding. A mesh without a domain's symmetries splits double eigenvalues
        by about the error of its eigenvalues, and the limit state then turns slowly in the plane of the two modes:
        1e-3 or so keeps it.

    Raises
    ------
    ValueError
        If K or M is not symmetric, M is not positive, or there are not as many eigenpairs.

    Examples
    --------
    >>> path = sp.diags_array([np.full(3, -1.0), [1.0, 2, 2, 1], np.full(3, -1.0)], offsets=[-1, 0, 1])
    >>> Operator(np.ones(4), path).eigenvalues.round(3)
    array([0.   , 0.586, 2.   , 3.414])
    """

    def __init__(self, M: Any, K: Any, n_modes: int | None = None, *, merge: float = 1e-12) -> None:
        self.mass, self._stiffness = _matrix("M", M), _matrix("K", K)
        n = self._stiffness.shape[0]
        if self.mass.shape != self._stiffness.shape:
            raise ValueError(f"M and K must have one shape; they have {self.mass.shape} and {self._stiffness.shape}")
        _require_positive(self.mass)
        self._finish(n_modes, merge, n)

    def _finish(self, n_modes: int | None, merge: float, n: int) -> None:
        """What every domain of matrices has."""
        self.shape = (n,)
        self.n_modes = min(N_MODES, n) if n_modes is None else require_count("n_modes", n_modes)
        self.merge = require_number("merge", merge)
        if self.n_modes > n:
            raise ValueError(f"n_modes must be at most the number of unknowns, {n}; it is {self.n_modes}")
        if not 0 <= self.merge < 1:
            raise ValueError(f"merge must lie in [0, 1); it is {self.merge}")

    # What an eigenbasis has

    @property
    def mode_shape(self) -> tuple[int, ...]:
        """The number of modes."""
        return (self.n_modes,)

    @property
    def eigenvalues(self) -> Floats:
        r"""The eigenvalues :math:`\mu_k`, in increasing order, read-only."""
        return self._pairs[0]

    @property
    def stiffness(self) -> sp.csr_array:
        """The stiffness matrix K, sparse."""
        return self._stiffness

    @cached_property
    def weights(self) -> Floats:
        """The weights of an integral, the row sums of M."""
        return read_only(self.mass @ np.ones(self.shape))

    @cached_property
    def components(self) -> npt.NDArray[np.intp]:
        """The number of the connected component of each unknown."""
        return read_only(kernel(self.mass, self.stiffness)[1])

    @cached_property
    def _pairs(self) -> tuple[Floats, Floats]:
        """The eigenvalues, and the eigenvectors as rows."""
        null, _ = kernel(self.mass, self.stiffness)
        if len(null) > self.n_modes:
            raise ValueError(
                f"n_modes must be at least the number of connected components, {len(null)}; it is {self.n_modes}"
            )
        mu, w = lowest(self.mass, self.stiffness, null, self.n_modes, self._dimension)
        return read_only(_merged(mu, self.merge)), read_only(w)

    def to_modes(self, u: npt.NDArray[Any]) -> Floats:
        """The coefficients c_k of the lowest modes in grid functions.

        Parameters
        ----------
        u : array, shape (..., n)

        Returns
        -------
        numpy.ndarray, shape (..., ``n_modes``), float64 (complex if u is)
        """
        u = self._values(u, self.shape, "u")
        columns = u.reshape(-1, *self.shape).T
        c: Floats = (self._pairs[1] @ (self.mass @ columns)).T.reshape(*u.shape[:-1], -1)
        return c

    def to_values(self, c: npt.NDArray[Any]) -> Floats:
        """The grid functions with given coefficients.

        Parameters
        ----------
        c : array, shape (..., ``n_modes``)

        Returns
        -------
        numpy.ndarray, shape (..., n), float64 (complex if the coefficients are)
        """
        u: Floats = self._values(c, self.mode_shape, "c") @ self._pairs[1]
        return u

    def gradient(self, c: npt.NDArray[Any]) -> Floats:
        """Refused with a ValueError: matrices alone have no gradients, which the total variation would need."""
        raise ValueError("a domain of two matrices has no gradients, so the flow on it cannot preserve total_variation")

    def solve(self, shift: complex, dt: float, u: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The solution of one implicit step, (shift M + dt K)^-1 M u: by all modes, or else by sparse factors.

        Parameters
        ----------
        shift : float or complex
        dt : float
        u : array, shape (..., n)

        Returns
        -------
        numpy.ndarray, the shape of u; complex if the shift or u is
        """
        if self.is_complete:
            return super().solve(shift, dt, u)
        shift, dt = require_step(shift, dt)
        u = self._values(u, self.shape, "u")
        columns = np.asarray(self.mass @ u.reshape(-1, *self.shape).T, dtype=np.result_type(u, shift))
        inverse = _inverse(self, shift, dt, columns.dtype)
        return inverse(columns).T.reshape(u.shape)

    # The rest of a function beyond the modes

    @property
    def is_complete(self) -> bool:
        """Whether there are as many modes as unknowns."""
        return self.n_modes == self.shape[0]

    def _resolving(self, u: Floats, times: Floats) -> Self:
        """The domain with the Ritz pairs, appended to its modes, that the heat flow of grid functions needs.

        Parameters
        ----------
        u : array of float64, shape (B, n)
        times : array of float64, shape (t,)
            Times that are not negative.

        Raises
        ------
        ValueError
            If a time is negative, as backward in time the rest has no bound.
        """
        if self.is_complete:
            return self
        if (times < 0).any():
            raise ValueError(
                f"times must not be negative on a domain with {self.n_modes} modes of {self.shape[0]}; "
                f"the earliest is {times.min():g}"
            )
        mu, w = self._pairs
        values, vectors = ritz_pairs(self.mass, self.stiffness, mu, w, u, times, self._dimension)
        extended = self._copy(self.n_modes + len(values))
        vars(extended)["_pairs"] = read_only(np.concatenate([mu, values])), read_only(np.vstack([w, vectors]))
        return extended

    def _copy(self, n_modes: int) -> Self:
        """The same matrices with another number of modes, without what was derived from the modes."""
        copy = object.__new__(type(self))
        vars(copy).update({name: x for name, x in vars(self).items() if name not in OF_MODES})
        copy.n_modes = n_modes
        return copy

    @cached_property
    def discrete(self) -> Self:
        """The domain on which schemes step: with all modes if it has at most 2,048 unknowns, else itself."""
        n = self.shape[0]
        return self if self.is_complete or n > MOST_COMPLETE else self._copy(n)

    @cached_property
    def highest_eigenvalue(self) -> float:
        """An upper bound of the eigenvalues of the matrices, by few percent; the highest one if all are known."""
        if self.is_complete:
            return super().highest_eigenvalue
        n, inverse = self.shape[0], inverse_mass(self.mass)
        by_mass = LinearOperator((n, n), matvec=lambda x: inverse(x.ravel()), dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(n)
        found = eigsh(self.stiffness, 1, self.mass, Minv=by_mass, v0=start, tol=1e-3, return_eigenvectors=False)
        return HIGHER * float(found[0])

    # Names

    @property
    def dims(self) -> tuple[str, ...]:
        """The name of the axis of unknowns."""
        return ("node",)

    @property
    def mode_dims(self) -> tuple[str, ...]:
        """The name of the axis of modes."""
        return ("k",)

    @property
    def coords(self) -> dict[str, Any]:
        """The mode numbers."""
        return {"k": ("k", np.arange(self.n_modes), {"long_name": "mode number, in order of the eigenvalue"})}

    @property
    def description(self) -> str:
        """The number of unknowns, and a digest of the matrices."""
        return f"{self._kind} of {self.shape[0]} unknowns, digest {self._digest}"

    _kind = "operator"
    _dimension = 2  # of the cells, by which the cost of factors grows; that of matrices is not known

    @cached_property
    def _digest(self) -> str:
        """A digest of the matrices, by which a solution is recognised as one on this domain."""
        digest = hashlib.sha256()
        for matrix in (self.mass, self.stiffness):
            for array in (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:8]


@lru_cache(maxsize=2)  # for a scheme takes many steps of one length
def _inverse(domain: Operator, shift: complex, dt: float, dtype: np.dtype[Any]) -> Inverse:
    """The product with (shift M + dt K)^-1."""
    return factorised(sp.csr_array((shift * domain.mass + dt * domain.stiffness).astype(dtype)))


def _matrix(name: str, given: Any) -> sp.csr_array:
    """A symmetric sparse matrix of finite real numbers."""
    if not sp.issparse(given):
        array = real_array(given, name)
        given = sp.diags_array(array) if array.ndim == 1 and name == "M" else array
    if given.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be a matrix of real numbers; the dtype is {given.dtype}")
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.shape[0]:
        raise ValueError(f"{name} must be a square matrix; its shape is {given.shape}")
    matrix = sp.csr_array(given, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if not np.isfinite(matrix.data).all():
        raise ValueError(f"{name} must be finite; an entry is {matrix.data[~np.isfinite(matrix.data)][0]}")
    skew = abs(matrix - matrix.T)
    if skew.nnz and skew.max() > SYMMETRIC * abs(matrix).max():
        i, j = (int(x) for x in np.unravel_index(skew.argmax(), skew.shape))
        raise ValueError(
            f"{name} must be symmetric; {name}[{i}, {j}] = {matrix[i, j]:g} and {name}[{j}, {i}] = {matrix[j, i]:g}"
        )
    return matrix


def _require_positive(M: sp.csr_array) -> None:
    """ValueError unless M is positive definite: by its diagonal, or the pivots of its factors."""
    pivots = M.diagonal()
    if (pivots > 0).all() and M.nnz > len(pivots):
        try:
            options = {"SymmetricMode": True}
            factors = splu(M.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
            pivots = factors.U.diagonal() if (factors.perm_r == factors.perm_c).all() else np.array([-math.inf])
        except RuntimeError:  # singular
            pivots = np.zeros(1)
    if not (pivots > 0).all():
        raise ValueError(f"M must be positive definite; its lowest pivot is {pivots.min():g}")


def _merged(mu: Floats, merge: float) -> Floats:
    """Eigenvalues in increasing order, with each cluster replaced by its mean."""
    apart = np.diff(mu) > merge * mu[1:]
    clusters = np.concatenate([[0], np.cumsum(apart)])
    merged: Floats = (np.bincount(clusters, mu) / np.bincount(clusters))[clusters]
    return merged
