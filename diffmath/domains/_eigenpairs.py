r"""The lowest eigenpairs of sparse matrices, :math:`K w = \mu M w`.

The kernel is not computed: for a matrix of conductances it is spanned by the constants on the connected components of
its graph. The other modes are found beside it, by shift-and-invert Lanczos or, for small matrices, by dense algebra.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, cg, eigsh, splu

from diffmath.domains._cost import progress
from diffmath.domains.eigenbasis import Floats

__all__ = ["Inverse", "factorised", "inverse_mass", "kernel", "lowest"]

DENSE = 500  # unknowns: as many are faster with dense matrices
FLAT = 1e-12  # of the sum of the sizes of a row: a row's sum below is rounding
EXTRA = 8  # eigenpairs beyond those wanted, as the last ones to converge are the least accurate

Inverse = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def factorised(A: sp.csr_array) -> Inverse:
    """The product with the inverse of a symmetric matrix whose real part is positive, by its sparse factors."""
    factors = splu(A.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solve: Inverse = factors.solve
    return solve


def inverse_mass(M: sp.csr_array) -> Inverse:
    """The product with M^-1: a division, or conjugate gradients, as M is well conditioned."""
    diagonal = M.diagonal()
    if M.nnz <= len(diagonal):
        return lambda x: x / diagonal
    jacobi = LinearOperator(M.shape, matvec=lambda x: x.ravel() / diagonal, dtype=np.float64)
    return lambda x: np.asarray(cg(M, x, rtol=1e-15, maxiter=1000, M=jacobi)[0])


def kernel(M: sp.csr_array, K: sp.csr_array) -> tuple[Floats, npt.NDArray[np.intp]]:
    """The M-orthonormal null vectors of K that are constant on components of its graph, as rows, and all components.

    A component whose rows have a sum, such as one with an edge that is held at zero, has none.
    """
    n, labels = connected_components(K, directed=False)
    ones = np.ones(K.shape[0])
    rounding = FLAT * (abs(K) @ ones)
    flat = np.ones(n, dtype=bool)
    flat[labels[np.abs(K @ ones) > rounding]] = False
    null = (labels == np.flatnonzero(flat)[:, None]).astype(np.float64)
    return _orthonormal(M, null) if len(null) else null, labels


def lowest(M: sp.csr_array, K: sp.csr_array, null: Floats, n_modes: int, dimension: int) -> tuple[Floats, Floats]:
    """The lowest eigenvalues, in increasing order, and the M-orthonormal eigenvectors as rows, the null ones first.

    The eigenvalues are Rayleigh quotients from differences between neighbours, so that small ones are as accurate
    relative to their own size as large ones are. The dimension is for the estimate of the cost.
    """
    n, wanted = K.shape[0], n_modes - len(null)
    if wanted == 0:
        return np.zeros(n_modes), null
    dense = n <= DENSE or n_modes > n // 3
    w = _dense(M, K, null, wanted) if dense else _lanczos(M, K, null, wanted, dimension)
    w = _orthonormal(M, np.vstack([null, w]))
    mu = np.concatenate([np.zeros(len(null)), _rayleigh_quotients(K, w[len(null) :])])
    if not (mu[len(null) :] > 0).all():
        raise ValueError(
            "K must have no negative eigenvalue, and no null vector but constants on connected components; "
            f"its lowest other eigenvalue is {mu[len(null) :].min():.3g}"
        )
    order = np.argsort(mu, kind="stable")
    mu, w = mu[order], w[order]
    largest = w[np.arange(n_modes), np.abs(w).argmax(axis=1)]
    w *= np.sign(largest)[:, None]
    return mu, w


def _dense(M: sp.csr_array, K: sp.csr_array, null: Floats, wanted: int) -> Floats:
    """All eigenvectors, of which the null ones are moved beyond the others."""
    beyond = 2 * float((abs(K) @ np.ones(K.shape[0])).max()) / float(M.diagonal().min())
    moved = (M @ null.T) * math.sqrt(beyond)
    mass: Any = M.toarray()
    w = scipy.linalg.eigh(K.toarray() + moved @ moved.T, mass)[1].T
    return np.ascontiguousarray(w[:wanted])


def _lanczos(M: sp.csr_array, K: sp.csr_array, null: Floats, wanted: int, dimension: int) -> Floats:
    """The lowest eigenvectors beside the null ones, which each solve leaves out."""
    n, sought = K.shape[0], wanted + EXTRA
    n_kept = 2 * sought + 20
    with progress(
        f"{wanted} modes", n, dimension, n_factors=1, n_solves=2 * n_kept, n_vectors=n_kept + sought
    ) as solved:
        return _iterated(M, K, null, wanted, n_kept, solved)


def _iterated(
    M: sp.csr_array, K: sp.csr_array, null: Floats, wanted: int, n_kept: int, solved: Callable[[], object]
) -> Floats:
    """What `_lanczos` computes, with a basis of n_kept vectors."""
    n = K.shape[0]
    shift = K.diagonal().sum() / M.diagonal().sum() / n**2  # below mu_1, whatever the dimension
    solve = factorised(K + shift * M)

    def apart(x: Floats) -> Floats:
        rest: Floats = x - null.T @ (null @ (M @ x))
        return rest

    def inverse(x: Floats) -> Floats:
        solved()
        return apart(solve(x.ravel()))

    operator = LinearOperator((n, n), matvec=inverse, dtype=np.float64)
    start = apart(np.random.default_rng(0).standard_normal(n))
    try:
        options: dict[str, Any] = {"OPinv": operator, "v0": start, "tol": 0, "ncv": n_kept, "maxiter": 100}
        _, w = eigsh(K, wanted + EXTRA, M, sigma=-shift, **options)
    except ArpackNoConvergence as error:
        raise ValueError(f"{len(error.eigenvalues)} of {wanted} eigenpairs converged: ask for fewer modes") from None
    # Solves from all of them, and their best combinations: errors in higher modes fade.
    w = w.T
    for _ in range(2):
        w = _orthonormal(M, np.vstack([null, apart(solve(M @ w.T)).T]))[len(null) :]
        H = w @ (K @ w.T)
        w = np.linalg.eigh((H + H.T) / 2)[1].T @ w
    best: Floats = w[:wanted]
    return best


def _orthonormal(M: sp.csr_array, w: Floats) -> Floats:
    """Nearly orthogonal rows, made M-orthonormal each beside those before it."""
    w = w / np.sqrt(np.einsum("ij,ji->i", w, M @ w.T))[:, None]
    result: Floats = scipy.linalg.solve_triangular(np.linalg.cholesky(w @ (M @ w.T)), w, lower=True)
    return result


def _rayleigh_quotients(K: sp.csr_array, w: Floats) -> Floats:
    """The numbers w K w of rows w, as sums over neighbours of squared differences."""
    upper = sp.triu(K, 1).tocoo()
    i, j = upper.coords
    sums = K @ np.ones(K.shape[0])
    sums[np.abs(sums) <= FLAT * (abs(K) @ np.ones(K.shape[0]))] = 0.0
    return np.array([-(upper.data @ (one[i] - one[j]) ** 2) + sums @ one**2 for one in w])
