r"""Mass and stiffness matrices of Lagrange elements on triangles and tetrahedra, plane, solid or on surfaces.

The geometry is isoparametric of the mesh's own order. With the Jacobian J of an element's map from the reference
element and :math:`G = J^T J`, the gradient of a function is :math:`J G^{-1} \hat\nabla \hat\varphi` and the measure is
:math:`\sqrt{\det G}`, on surfaces in space as in the plane.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from diffmath.domains.eigenbasis import Floats

__all__ = ["Assembly", "assemble", "skfem"]

HIGHEST = {2: 4, 3: 2}
"""The highest order of elements for the dimension of a mesh's cells."""


def skfem() -> Any:
    """The module scikit-fem."""
    try:
        import skfem as module
    except ImportError as error:
        raise ImportError(f'a Mesh needs scikit-fem: pip install "diffmath[fem]" ({error})') from None
    return module


class Assembly(NamedTuple):
    """What a mesh and an order give."""

    mass: sp.csr_array
    stiffness: sp.csr_array
    points: Floats
    """The coordinates of the nodes, shape (dimension of space, n)."""
    cells: npt.NDArray[np.int64]
    """The nodes of each cell, shape (cells, nodes of a cell), the vertices first."""
    gradients: list[sp.csr_array]
    """The derivative at the quadrature points along each dimension of space."""
    weights: Floats
    """The weights of these points."""


def assemble(mesh: Any, order: int) -> Assembly:
    """The matrices of elements of an order on a mesh of scikit-fem."""
    fem = skfem()
    element = _element(mesh.refdom.dim(), order)
    cells = fem.assembly.Dofs(mesh, element).element_dofs
    exact = min(2 * order + 2 * (mesh.elem.maxdeg - 1), 8)
    at, w = fem.quadrature.get_quadrature(element, exact)
    values, slopes = _reference(element, at)

    geometry = mesh.elem()
    corners = mesh.doflocs[:, mesh.dofs.element_dofs]  # (space, corner, cell)

    def jacobians(at: Floats) -> tuple[Floats, Floats, Floats]:
        """J, G and the volume, over cells, then points."""
        J = np.einsum("sac,aqd->cqsd", corners, _reference(geometry, at)[1])
        G = np.swapaxes(J, -1, -2) @ J
        return J, G, np.sqrt(np.maximum(np.linalg.det(G), 0))

    _require_unfolded(*jacobians(geometry.doflocs.T))
    J, G, volume = jacobians(at)
    measure = volume * w
    push = J @ np.linalg.inv(G)  # (cell, point, space, reference)
    grad = np.einsum("cqsd,aqd->cqsa", push, slopes)
    mass = np.einsum("cq,aq,bq->cab", measure, values, values, optimize=True)
    weighted = grad * measure[..., None, None]
    stiffness = np.einsum("cqsa,cqsb->cab", weighted, grad, optimize=True)

    n = int(cells.max()) + 1
    rows, columns = np.repeat(cells.T, len(cells), axis=1).ravel(), np.tile(cells.T, (1, len(cells))).ravel()
    M, K = (sp.csr_array(sp.coo_array((A.ravel(), (rows, columns)), (n, n))) for A in (mass, stiffness))
    # Of one sum in two orders, so that the matrices are symmetric to the last bit, and rows of K have no sum.
    M, K = (M + M.T) / 2, (K + K.T) / 2
    points = np.empty((len(mesh.doflocs), n))
    points[:, cells] = np.einsum("sac,an->snc", corners, _reference(geometry, element.doflocs.T)[0])
    n_points = measure.size
    at_point, nodes = np.repeat(np.arange(n_points), len(cells)), np.repeat(cells.T, len(w), axis=0).ravel()
    gradients = [
        sp.csr_array(sp.coo_array((grad[:, :, s].ravel(), (at_point, nodes)), (n_points, n)))
        for s in range(len(mesh.doflocs))
    ]
    return Assembly(sp.csr_array(M), sp.csr_array(K), points, cells.T, gradients, measure.ravel())


def _element(dimension: int, order: int) -> Any:
    """The Lagrange element of scikit-fem for triangles or tetrahedra."""
    if not 1 <= order <= HIGHEST[dimension]:
        what = {2: "triangles", 3: "tetrahedra"}[dimension]
        raise ValueError(f"order must lie in 1..{HIGHEST[dimension]} on {what}; it is {order}")
    return getattr(skfem(), f"Element{ {2: 'Tri', 3: 'Tet'}[dimension] }P{order}")()


def _reference(element: Any, at: Floats) -> tuple[Floats, Floats]:
    """The basis functions at points of the reference element, and their slopes (function, point, axis)."""
    each = [element.lbasis(at, i) for i in range(len(element.doflocs))]
    values = np.stack([np.broadcast_to(phi, at.shape[1:]) for phi, _ in each])
    slopes = np.stack([np.stack([np.broadcast_to(s, at.shape[1:]) for s in dphi], axis=-1) for _, dphi in each])
    return values, slopes


def _require_unfolded(J: Floats, G: Floats, volume: Floats) -> None:
    """ValueError if a cell has no volume, or its curved map turns over."""
    folded = ~(volume > 1e-12 * volume.mean(axis=1, keepdims=True)).all(axis=1)
    if J.shape[-1] == J.shape[-2]:
        signs = np.sign(np.linalg.det(J))
        folded |= (signs != signs[:, :1]).any(axis=1)
    if folded.any():
        raise ValueError(
            f"each cell of the mesh must have a volume and not be folded; cell {int(folded.argmax())} is not so"
        )
