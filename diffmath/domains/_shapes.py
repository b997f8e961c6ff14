"""Triangulations: of domains by name, of polygons and from files, and the check that a mesh is conforming.

Curved boundaries are approached by dividing coarse meshes: new nodes on the boundary are moved to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.spatial import ConvexHull, Delaunay, cKDTree

from diffmath._arguments import real_array
from diffmath._files import as_path
from diffmath.domains._eigenpairs import factorised
from diffmath.domains._elements import skfem
from diffmath.domains.eigenbasis import Floats

__all__ = [
    "annulus",
    "ball",
    "disc",
    "l_shape",
    "polygon",
    "read",
    "require_conforming",
    "sphere",
    "tetrahedra",
    "triangles",
]

Snap = Callable[[Floats], Floats]
"""Moves points near a curved boundary, shape (dimension, n), onto it."""


# Domains by name


def disc(refinement: int, order: int, axes: tuple[float, float] = (1.0, 1.0)) -> Any:
    """An ellipse, of six triangles that are divided."""
    angle, i = np.pi / 3 * np.arange(6), np.arange(6)
    p = np.hstack([np.zeros((2, 1)), [np.cos(angle), np.sin(angle)]])
    t = np.stack([np.zeros(6, dtype=np.int64), 1 + i, 1 + (i + 1) % 6])
    scale = np.array(axes)[:, None]
    return _scaled(_curved(skfem().MeshTri1(p, t), _onto_sphere, refinement, order), scale)


def ball(refinement: int, order: int) -> Any:
    """A ball, of eight tetrahedra that are divided; with curved cells from order 2, of the ball's volume.

    Corners on the boundary are moved to the sphere, and each one inside is the mean of its neighbours. Curved cells
    through the sphere have a little less volume than the ball. Scaled to the ball's, the shape is wrong by much less.
    """
    fem = skfem()
    p = np.hstack([np.zeros((3, 1)), np.eye(3), -np.eye(3)])
    t = np.array([(0, x, y, z) for x in (1, 4) for y in (2, 5) for z in (3, 6)]).T
    mesh = fem.MeshTet1(p, t).refined(refinement)
    p, n, (a, b) = mesh.p.copy(), mesh.p.shape[1], mesh.edges
    links = sp.csr_array(sp.coo_array((np.ones(2 * len(a)), (np.append(a, b), np.append(b, a))), (n, n)))
    laplacian = sp.csr_array(sp.diags_array(links.sum(axis=1)) - links)
    on, inside = mesh.boundary_nodes(), mesh.interior_nodes()
    p[:, on] = _onto_sphere(p[:, on])
    rows = laplacian[inside]
    p[:, inside] = factorised(sp.csr_array(rows[:, inside]))(-(rows[:, on] @ p[:, on].T)).T
    mesh = _curved(fem.MeshTet1(p, mesh.t), _onto_sphere, 0, order)
    if order == 1:
        return mesh
    volume = fem.CellBasis(mesh, fem.ElementTetP0(), intorder=6).dx.sum()
    return _scaled(mesh, np.cbrt(4 / 3 * np.pi / volume))


def sphere(refinement: int, order: int) -> Any:
    """A sphere, of twenty triangles that are divided."""
    return _curved(skfem().MeshTri1(*_icosahedron()), _onto_sphere, refinement, order, everywhere=True)


def annulus(inner: float, refinement: int, order: int) -> Any:
    """A ring, of cells of about equal sides that are divided."""
    n = max(3, round(2 * np.pi / (1 - inner) * (1 + inner) / 2))
    angle = 2 * np.pi * np.arange(n) / n
    circle = np.stack([np.cos(angle), np.sin(angle)])
    i, j = np.arange(n), (np.arange(n) + 1) % n
    t = np.hstack([np.stack([i, j, i + n]), np.stack([j, i + n, j + n])])

    def snap(x: Floats) -> Floats:
        r = np.hypot(*x)
        on: Floats = x / r * np.where(r > (1 + inner) / 2, 1.0, inner)
        return on

    return _curved(skfem().MeshTri1(np.hstack([circle, inner * circle]), t), snap, refinement, order)


def l_shape(refinement: int, grading: int) -> Any:
    """Three unit squares, of six triangles that are divided: first those at the inner corner alone, then all."""
    p = np.array([[-1.0, -1], [0, -1], [-1, 0], [0, 0], [1, 0], [-1, 1], [0, 1], [1, 1]]).T
    t = np.array([[0, 1, 3], [0, 3, 2], [2, 3, 6], [2, 6, 5], [3, 4, 7], [3, 7, 6]]).T
    mesh = skfem().MeshTri1(p, t)
    for _ in range(grading):
        at_corner = (np.abs(mesh.p[:, mesh.t]).max(axis=0) == 0).any(axis=0)
        mesh = mesh.refined(np.flatnonzero(at_corner))
    return mesh.refined(refinement)


def _icosahedron() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Its twelve corners, on the sphere, and its triangles."""
    golden = (1 + np.sqrt(5)) / 2
    corners = [(0.0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    p = _onto_sphere(np.array([np.roll(x, k) for k in range(3) for x in corners]).T)
    return p, np.asarray(ConvexHull(p.T).simplices.T, dtype=np.int64)


def _onto_sphere(x: Floats) -> Floats:
    on: Floats = x / np.linalg.norm(x, axis=0)
    return on


def _scaled(mesh: Any, scale: Floats | float) -> Any:
    return type(mesh)(mesh.doflocs * scale, mesh.t)


def _curved(mesh: Any, snap: Snap, refinement: int, order: int, everywhere: bool = False) -> Any:
    """The mesh, divided, with the nodes of its boundary, or all, moved to the curve; with curved cells from order 2."""
    fem = skfem()
    for _ in range(refinement):
        mesh = mesh.refined()
        p = mesh.p.copy()
        nodes = slice(None) if everywhere else mesh.boundary_nodes()
        p[:, nodes] = snap(p[:, nodes])
        mesh = type(mesh)(p, mesh.t)
    if order == 1:
        return mesh
    solid = mesh.refdom is fem.refdom.RefTet
    sides = mesh.edges if solid else mesh.facets
    on = slice(None) if everywhere else mesh.boundary_edges() if solid else mesh.boundary_facets()
    middle = mesh.p[:, sides].mean(axis=1)
    middle[:, on] = snap(middle[:, on])
    return (fem.MeshTet2 if solid else fem.MeshTri2)(np.hstack([mesh.p, middle]), mesh.t)


# Polygons


def polygon(points: npt.ArrayLike, holes: Sequence[npt.ArrayLike], refinement: int) -> Any:
    """A coarse mesh of a polygon with holes, whose triangles are divided."""
    outlines = [_outline("points", points), *(_outline(f"holes[{i}]", hole) for i, hole in enumerate(holes))]
    _require_simple(outlines)
    edges = np.vstack([np.stack([o, np.roll(o, -1, axis=0)], axis=1) for o in outlines])
    lengths = np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1)
    area = _area(outlines[0]) - sum(map(_area, outlines[1:]))
    h = min(np.sqrt(area / 12), float(np.median(lengths)))
    pieces = np.maximum(1, np.ceil(lengths / h)).astype(int)
    segments = np.vstack([_divide(edge, n) for edge, n in zip(edges, pieces, strict=True)])
    inside = _lattice(outlines, segments, h)
    for _ in range(40):
        p, t, missing = _conforming(outlines, segments, inside)
        if not missing.any():
            return skfem().MeshTri1(p.T, t.T).refined(refinement)
        segments = np.vstack([segments[~missing], *(_divide(one, 2) for one in segments[missing])])
        inside = inside[_distance(inside, segments) > 0.3 * h]
    raise ValueError("points and holes must leave corners and gaps that triangles can fill; no mesh was found")


def _divide(edge: Floats, n: int) -> Floats:
    """A segment as n segments."""
    x = edge[0] + np.linspace(0, 1, n + 1)[:, None] * (edge[1] - edge[0])
    x[-1] = edge[1]
    return np.stack([x[:-1], x[1:]], axis=1)


def _lattice(outlines: Sequence[Floats], segments: Floats, h: float) -> Floats:
    """Points of equilateral triangles inside, away from the segments."""
    (x_0, y_0), (x_1, y_1) = outlines[0].min(axis=0), outlines[0].max(axis=0)
    x, y = np.meshgrid(np.arange(x_0, x_1 + h, h), np.arange(y_0, y_1 + h, h * np.sqrt(0.75)))
    x[1::2] += h / 2
    p = np.stack([x.ravel(), y.ravel()], axis=1)
    p = p[_inside(outlines, p)]
    return p[_distance(p, segments) > 0.5 * h]


def _conforming(
    outlines: Sequence[Floats], segments: Floats, inside: Floats
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The Delaunay triangles within the outlines, and which segments are no edges of theirs."""
    ends, at = np.unique(segments.reshape(-1, 2), axis=0, return_inverse=True)
    pairs = np.sort(at.reshape(-1, 2), axis=1)
    p = np.vstack([ends, inside])
    t = np.asarray(Delaunay(p).simplices, dtype=np.int64)
    t = t[np.abs(_areas(p, t)) > 1e-12 * np.ptp(p, axis=0).prod()]
    t = t[_inside(outlines, p[t].mean(axis=1))]
    known = {(int(a), int(b)) for k in range(3) for a, b in np.sort(t[:, [k, (k + 1) % 3]], axis=1)}
    return p, t, np.array([(int(a), int(b)) not in known for a, b in pairs])


def _areas(p: Floats, t: npt.NDArray[np.int64]) -> Floats:
    a, b = p[t[:, 1]] - p[t[:, 0]], p[t[:, 2]] - p[t[:, 0]]
    areas: Floats = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    return areas


def _inside(outlines: Sequence[Floats], x: Floats) -> npt.NDArray[np.bool_]:
    """Whether points lie inside, by the parity of the edges to their right."""
    parity = np.zeros(len(x), dtype=bool)
    for outline in outlines:
        for (x_a, y_a), (x_b, y_b) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            between = (y_a > x[:, 1]) != (y_b > x[:, 1])
            with np.errstate(divide="ignore", invalid="ignore"):
                parity ^= between & (x[:, 0] < x_a + (x[:, 1] - y_a) * (x_b - x_a) / (y_b - y_a))
    return parity


def _distance(x: Floats, segments: Floats) -> Floats:
    """The distance of points from the nearest of segments."""
    a, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    offset = x[:, None] - a
    share = np.clip((offset * along).sum(axis=-1) / (along**2).sum(axis=-1), 0, 1)
    distance: Floats = np.linalg.norm(offset - share[..., None] * along, axis=-1).min(axis=1)
    return distance


def _outline(name: str, points: npt.ArrayLike) -> Floats:
    p = real_array(points, name).astype(np.float64)
    if p.ndim != 2 or p.shape[1:] != (2,) or len(p) < 3 or not np.isfinite(p).all():
        raise ValueError(f"{name} must be at least 3 finite corners, shape (n, 2); the shape is {p.shape}")
    if _area(p) == 0:
        raise ValueError(f"{name} must enclose an area; it is {p.tolist()}")
    return p


def _area(p: Floats) -> float:
    x, y = p.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)


def _require_simple(outlines: Sequence[Floats]) -> None:
    """ValueError if edges cross or touch, or a hole is not inside the polygon alone."""
    a = np.vstack(outlines)
    b = np.vstack([np.roll(o, -1, axis=0) for o in outlines])
    names = [f"holes[{i - 1}]" if i else "points" for i, o in enumerate(outlines) for _ in o]

    def side(p: Floats, q: Floats, x: Floats) -> Floats:
        turn: Floats = (q[..., 0] - p[..., 0]) * (x[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (
            x[..., 0] - p[..., 0]
        )
        return np.sign(turn)

    i, j = np.triu_indices(len(a), 1)
    joined = (a[i] == b[j]).all(axis=1) | (b[i] == a[j]).all(axis=1)
    apart = (np.maximum(a[i], b[i]) < np.minimum(a[j], b[j])).any(axis=1)
    apart |= (np.maximum(a[j], b[j]) < np.minimum(a[i], b[i])).any(axis=1)
    crossing = (side(a[i], b[i], a[j]) * side(a[i], b[i], b[j]) <= 0) & (
        side(a[j], b[j], a[i]) * side(a[j], b[j], b[i]) <= 0
    )
    if (wrong := crossing & ~joined & ~apart).any():
        k = int(wrong.argmax())
        raise ValueError(f"outlines must not cross or touch; {names[i[k]]} and {names[j[k]]} do at {a[j[k]].tolist()}")
    for n, hole in enumerate(outlines[1:]):
        others = [o for m, o in enumerate(outlines[1:]) if m != n]
        if not _inside(outlines[:1], hole[:1])[0] or any(_inside([o], hole[:1])[0] for o in others):
            raise ValueError(f"holes must lie inside the polygon, and not in each other; holes[{n}] does not")


# Files


def read(path: str | os.PathLike[str]) -> Any:
    """The tetrahedra, or else the triangles, of a file."""
    fem, path = skfem(), as_path(path)
    try:
        import meshio
    except ImportError as error:
        raise ImportError(f'meshes are read by meshio: pip install "diffmath[fem]" ({error})') from None
    if not path.is_file():
        raise ValueError(f"path must be a file with a mesh; there is no file {path}")
    try:
        content = meshio.read(path)
    except (meshio.ReadError, SystemExit, ValueError, KeyError) as error:
        raise ValueError(f"path must be a file with a mesh that meshio reads; {path}: {error}") from None
    x = np.asarray(content.points, dtype=np.float64)
    for kind, n in (("tetra", 4), ("triangle", 3)):
        for name in (kind, kind + ("10" if n == 4 else "6")):
            if blocks := [block.data for block in content.cells if block.type == name]:
                return _from_cells(fem, x, np.vstack(blocks).astype(np.int64), n)
    kinds = ", ".join(sorted({block.type for block in content.cells})) or "no cells"
    raise ValueError(f"path must be a mesh of triangles or tetrahedra; {path} has {kinds}")


def _from_cells(fem: Any, x: Floats, cells: npt.NDArray[np.int64], n: int) -> Any:
    """A mesh of cells whose first n nodes are vertices, and whose others are the middles of edges."""
    flat = n == 3 and x.shape[1] == 3 and np.ptp(x[np.unique(cells), 2]) == 0
    x = x[:, :2] if flat else x
    vertices, t = np.unique(cells[:, :n], return_inverse=True)
    t = np.sort(t.reshape(-1, n), axis=1)
    mesh = (fem.MeshTet1 if n == 4 else fem.MeshTri1)(x[vertices].T.copy(), t.T.copy())
    if cells.shape[1] == n:
        return mesh
    sides = mesh.edges if n == 4 else mesh.facets
    ends = np.array([(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)])[: cells.shape[1] - n]
    number = np.full(len(x), -1)
    number[vertices] = np.arange(len(vertices))
    pairs = np.sort(number[cells[:, ends]], axis=-1).reshape(-1, 2)
    keys = np.sort(sides, axis=0).T @ [len(vertices), 1]
    order = np.argsort(keys)
    at = order[np.searchsorted(keys[order], pairs @ [len(vertices), 1])]
    middle = np.empty((x.shape[1], sides.shape[1]))
    middle[:, at] = x[cells[:, n:].ravel()].T
    return (fem.MeshTet2 if n == 4 else fem.MeshTri2)(np.hstack([mesh.p, middle]), mesh.t)


# Meshes of any origin


def require_conforming(mesh: Any) -> None:
    """ValueError unless neighbouring cells share whole sides, and all nodes belong to cells."""
    n_nodes, n_vertices = mesh.doflocs.shape[1], int(mesh.t.max()) + 1
    used = len(np.unique(mesh.dofs.element_dofs))
    if used != n_nodes:
        raise ValueError(f"the mesh must be conforming: of its {n_nodes} nodes {n_nodes - used} belong to no cell")
    p = mesh.doflocs[:, :n_vertices]
    if not np.isfinite(p).all():
        raise ValueError("the mesh must be conforming: its nodes must be finite")
    n = mesh.t.shape[0]
    sides = np.sort(np.hstack([np.delete(mesh.t, k, axis=0) for k in range(n)]), axis=0)
    unique, counts = np.unique(sides, axis=1, return_counts=True)
    if counts.max() > 2:
        raise ValueError(
            f"the mesh must be conforming: {counts.max()} cells share the side {unique[:, counts.argmax()].tolist()}"
        )
    tree = cKDTree(p.T)
    size = np.ptp(p, axis=1).max()
    if len(twins := tree.query_pairs(1e-12 * size)):
        raise ValueError(f"the mesh must be conforming: nodes {next(iter(twins))} are at one place")
    ends = unique[:, counts == 1]
    edges = (
        ends
        if n == 3
        else np.unique(np.sort(np.hstack([np.delete(ends, k, axis=0) for k in range(3)]), axis=0), axis=1)
    )
    a, b = p[:, edges[0]].T, p[:, edges[1]].T
    half = np.linalg.norm(b - a, axis=1) / 2
    for k, near in enumerate(tree.query_ball_point((a + b) / 2, half * (1 - 1e-9))):
        for node in near:
            across = p[:, node] - a[k]
            along = (b[k] - a[k]) / (2 * half[k])
            if np.linalg.norm(across - (across @ along) * along) <= 1e-9 * half[k]:
                raise ValueError(f"the mesh must be conforming: node {node} lies on the edge {edges[:, k].tolist()}")


def triangles(cells: npt.NDArray[np.int64], n_vertices: int) -> npt.NDArray[np.int64]:
    """Straight triangles between the neighbouring nodes of cells; of tetrahedra those of the boundary."""
    if n_vertices == 4:
        small = tetrahedra(cells)
        sides = np.vstack([np.delete(small, k, axis=1) for k in range(4)])
        _, first, counts = np.unique(np.sort(sides, axis=1), axis=0, return_index=True, return_counts=True)
        boundary: npt.NDArray[np.int64] = sides[first[counts == 1]]
        return boundary
    if cells.shape[1] == 3:
        return cells
    order = round((np.sqrt(8 * cells.shape[1] + 1) - 3) / 2)
    corners = skfem().__dict__[f"ElementTriP{order}"].doflocs * order
    index = {tuple(np.rint(x).astype(int).tolist()): k for k, x in enumerate(corners)}
    parts = []
    for i in range(order):
        for j in range(order - i):
            parts.append([index[i, j], index[i + 1, j], index[i, j + 1]])
            if i + j < order - 1:
                parts.append([index[i + 1, j], index[i + 1, j + 1], index[i, j + 1]])
    return cells[:, parts].reshape(-1, 3)


def tetrahedra(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Straight tetrahedra between the neighbouring nodes of cells: each cell of order 2 is divided in 8."""
    if cells.shape[1] == 4:
        return cells
    ends = [tuple(np.flatnonzero(x)) for x in _barycentric(skfem().ElementTetP2().doflocs)]
    at = {"".join(map(str, pair)): k for k, pair in enumerate(ends)}
    corners = ["0 01 02 03", "1 01 12 13", "2 02 12 23", "3 03 13 23"]
    around = ["01 23 02 12", "01 23 12 13", "01 23 13 03", "01 23 03 02"]  # a diagonal of the octahedron inside
    return cells[:, [[at[node] for node in small.split()] for small in corners + around]].reshape(-1, 4)


def _barycentric(x: Floats) -> Floats:
    return np.hstack([1 - x.sum(axis=1, keepdims=True), x])
