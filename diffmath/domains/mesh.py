r"""Domains of triangles and tetrahedra: plane domains of any shape, solids and surfaces.

Elements are of order 1 to 4 on triangles and 1 or 2 on tetrahedra. On smooth domains with straight sides, eigenvalues
converge with the order 2 p for elements of order p. A curved boundary needs curved cells: with straight sides of length
h the domain itself is wrong by :math:`h^2`, whatever the elements. The curved cells here are of order 2, for which
eigenvalues have order 4. At a corner of angle :math:`\alpha > \pi` eigenfunctions behave like :math:`r^{\pi / \alpha}`,
and on uniform meshes eigenvalues converge with the order :math:`2 \pi / \alpha` alone, 4/3 for an L, whatever the
elements; cells that become smaller towards the corner restore the full order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from diffmath._arguments import require_count, require_number
from diffmath.domains import _shapes as shapes
from diffmath.domains._axes import names
from diffmath.domains._elements import assemble, skfem
from diffmath.domains.eigenbasis import Floats, read_only
from diffmath.domains.operator import Operator

if TYPE_CHECKING:
    import skfem as scikit_fem

__all__ = ["Mesh"]


class Mesh(Operator):
    """A domain of triangles or tetrahedra, with no flux through its boundary; needs the extra ``diffmath[fem]``.

    Grid functions are values at the nodes of the elements; `points` has their coordinates.

    Parameters
    ----------
    mesh : skfem.Mesh
        Triangles in the plane or on a surface in space, or tetrahedra; ``MeshTri2`` and ``MeshTet2`` have curved cells.
    order : int
        The order of the elements: 1 to 4 on triangles, 1 or 2 on tetrahedra.
    n_modes, merge
        The same as for `Operator`.

    Raises
    ------
    ImportError
        If scikit-fem is missing.
    ValueError
        If the mesh is not conforming or has folded cells, or an argument is out of range.

    Examples
    --------
    >>> disc = Mesh.disc(3, n_modes=5)
    >>> bool(abs(disc.eigenvalues[1] - 1.8411837813**2) < 1e-3)  # of the Bessel function J_1
    True
    """

    _kind = "mesh"

    def __init__(
        self, mesh: scikit_fem.Mesh, order: int = 2, n_modes: int | None = None, *, merge: float = 1e-12
    ) -> None:
        fem = skfem()
        if not isinstance(mesh, fem.Mesh):
            raise TypeError(f"mesh must be a mesh of scikit-fem; it is {type(mesh).__name__}")
        if mesh.refdom not in (fem.refdom.RefTri, fem.refdom.RefTet):
            raise ValueError(f"mesh must consist of triangles or tetrahedra; it is a {type(mesh).__name__}")
        self.order = require_count("order", order)
        shapes.require_conforming(mesh)
        mesh = type(mesh)(mesh.doflocs, np.sort(mesh.t, axis=0))  # for edges have one direction in all their cells
        parts = assemble(mesh, self.order)
        self.mass, self._stiffness = parts.mass, parts.stiffness
        self._points = read_only(parts.points)
        self.cells = read_only(parts.cells)
        self._gradients, self._gradient_weights = parts.gradients, read_only(parts.weights)
        self.n_vertices = mesh.t.shape[0]
        self._dimension = self.n_vertices - 1
        sides = mesh.doflocs[:, mesh.t] - mesh.doflocs[:, np.roll(mesh.t, 1, axis=0)]
        self._length = float(np.median(np.linalg.norm(sides, axis=0)))
        self._finish(n_modes, merge, self.mass.shape[0])

    # Domains by name

    @classmethod
    def disc(cls, refinement: int = 4, order: int = 2, n_modes: int | None = None, *, merge: float = 1e-12) -> Self:
        """The disc of radius 1, with curved cells unless the order is 1.

        Parameters
        ----------
        refinement : int
            How many times 6 triangles are each divided in 4.
        order, n_modes, merge
            The same as for `Mesh`.

        Examples
        --------
        >>> Mesh.disc(2).shape
        (217,)
        """
        return cls(shapes.disc(_refinement(refinement), order), order, n_modes, merge=merge)

    @classmethod
    def ellipse(
        cls,
        a: float = 1.0,
        b: float = 0.5,
        refinement: int = 4,
        order: int = 2,
        n_modes: int | None = None,
        *,
        merge: float = 1e-12,
    ) -> Self:
        """The ellipse of semi-axes a and b; the rest as for `disc`."""
        a, b = _positive("a", a), _positive("b", b)
        return cls(shapes.disc(_refinement(refinement), order, (a, b)), order, n_modes, merge=merge)

    @classmethod
    def annulus(
        cls,
        inner: float = 0.5,
        refinement: int = 3,
        order: int = 2,
        n_modes: int | None = None,
        *,
        merge: float = 1e-12,
    ) -> Self:
        """The ring between the radii ``inner`` and 1; the rest as for `disc`."""
        if not 0 < (inner := _positive("inner", inner)) < 1:
            raise ValueError(f"inner must lie in (0, 1); it is {inner}")
        return cls(shapes.annulus(inner, _refinement(refinement), order), order, n_modes, merge=merge)

    @classmethod
    def l_shape(
        cls,
        refinement: int = 4,
        order: int = 2,
        n_modes: int | None = None,
        *,
        grading: int = 0,
        merge: float = 1e-12,
    ) -> Self:
        """The L of three unit squares around the origin.

        Parameters
        ----------
        refinement, order, n_modes, merge
            The same as for `disc`; the coarsest mesh has 6 triangles.
        grading : int
            How many times more the triangles at the inner corner are divided.
        """
        mesh = shapes.l_shape(_refinement(refinement), require_count("grading", grading, 0, 60))
        return cls(mesh, order, n_modes, merge=merge)

    @classmethod
    def polygon(
        cls,
        points: npt.ArrayLike,
        holes: Sequence[npt.ArrayLike] = (),
        refinement: int = 2,
        order: int = 2,
        n_modes: int | None = None,
        *,
        merge: float = 1e-12,
    ) -> Self:
        """A polygon, perhaps with holes.

        Parameters
        ----------
        points : array of float, shape (n, 2)
            The corners in order; the last is joined to the first.
        holes : sequence of arrays of float, shape (m, 2)
            The corners of each hole, inside the polygon and apart from each other.
        refinement : int
            How many times the triangles of a coarse mesh are each divided in 4.
        order, n_modes, merge
            The same as for `Mesh`.

        Raises
        ------
        ValueError
            If an outline crosses itself or another one.

        Examples
        --------
        >>> frame = Mesh.polygon([(0, 0), (3, 0), (3, 3), (0, 3)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])
        >>> bool(np.isclose(frame.weights.sum(), 8))
        True
        """
        return cls(shapes.polygon(points, holes, _refinement(refinement)), order, n_modes, merge=merge)

    @classmethod
    def ball(cls, refinement: int = 3, order: int = 2, n_modes: int | None = None, *, merge: float = 1e-12) -> Self:
        """The ball of radius 1, of 8 tetrahedra that are each divided in 8; the rest as for `disc`."""
        return cls(shapes.ball(_refinement(refinement), order), order, n_modes, merge=merge)

    @classmethod
    def sphere(cls, refinement: int = 3, order: int = 2, n_modes: int | None = None, *, merge: float = 1e-12) -> Self:
        """The surface of the ball, of 20 triangles that are each divided in 4; the rest as for `disc`."""
        return cls(shapes.sphere(_refinement(refinement), order), order, n_modes, merge=merge)

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], order: int = 2, n_modes: int | None = None, *, merge: float = 1e-12
    ) -> Self:
        """A mesh from a file that meshio reads, such as Gmsh's .msh or a .vtk.

        Parameters
        ----------
        path : path
            A file. Its tetrahedra are taken, or if there are none its triangles, straight or curved. Triangles whose
            third coordinate is the same everywhere lie in the plane.
        order, n_modes, merge
            The same as for `Mesh`.
        """
        return cls(shapes.read(path), order, n_modes, merge=merge)

    # What a mesh knows beside matrices

    @property
    def points(self) -> Floats:
        """The coordinates of the nodes, shape (dimension of space, n)."""
        return self._points

    def gradient(self, c: npt.NDArray[Any]) -> Floats:
        """The gradients at the quadrature points of the cells, shape (dimension of space, ..., points)."""
        u = self.to_values(c)
        columns = u.reshape(-1, *self.shape).T
        return np.stack([(D @ columns).T.reshape(*u.shape[:-1], -1) for D in self._gradients])

    @property
    def gradient_weights(self) -> Floats:
        """The weights of the quadrature points."""
        return self._gradient_weights

    @cached_property
    def triangles(self) -> npt.NDArray[np.int64]:
        """Straight triangles between neighbouring nodes, for pictures; of solids those of the boundary."""
        return read_only(shapes.triangles(self.cells, self.n_vertices))

    @property
    def eigenvalue_errors(self) -> Floats:
        r"""What eigenvalues may be wrong by, :math:`100\, (h^2 \mu_k / 100)^p \mu_k` for cells of length h.

        Here p is the order, at most 2. On the disc the errors are a tenth of this; at corners they are larger.
        """
        errors: Floats = 100 * (self._length**2 * self.eigenvalues / 100) ** min(self.order, 2)
        return errors * self.eigenvalues

    @property
    def coords(self) -> dict[str, Any]:
        """The nodes' coordinates and the mode numbers."""
        axes = zip(names(len(self.points)), self.points, strict=True)
        return super().coords | {a: ("node", x, {"units": "length"}) for a, x in axes}

    @property
    def topology(self) -> dict[str, Any]:
        """The triangles between neighbouring nodes, and the tetrahedra of solids, by the UGRID convention."""
        about: dict[str, Any] = {
            "cf_role": "mesh_topology",
            "topology_dimension": self.n_vertices - 1,
            "node_coordinates": " ".join(names(len(self.points))),
            "face_node_connectivity": "mesh_faces",
        }
        faces = {"cf_role": "face_node_connectivity", "start_index": 0}
        mesh: dict[str, Any] = {"mesh_faces": (("face", "corner"), self.triangles, faces)}
        if self.n_vertices == 4:
            about |= {"volume_node_connectivity": "mesh_volumes", "volume_shape_type": "mesh_volume_shapes"}
            volumes, about_volumes = shapes.tetrahedra(self.cells), {"cf_role": "volume_node_connectivity"}
            mesh["mesh_volumes"] = (("volume", "vertex"), volumes, about_volumes | {"start_index": 0})
            kinds = {"flag_values": np.zeros(1, dtype=np.int8), "flag_meanings": "tetrahedron"}
            mesh["mesh_volume_shapes"] = (("volume",), np.zeros(len(volumes), dtype=np.int8), kinds)
        return {"mesh": ((), np.int32(0), about), **mesh}


def _refinement(value: int) -> int:
    return require_count("refinement", value, 0, 10)


def _positive(name: str, value: float) -> float:
    if not 0 < (number := require_number(name, value)) < np.inf:
        raise ValueError(f"{name} must be positive and finite; it is {number}")
    return number
