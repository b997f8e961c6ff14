"""Domains of triangles and tetrahedra, against exact eigenvalues."""

import functools
import re
import subprocess
import sys

import meshio
import numpy as np
import pytest
import skfem
from scipy.special import jnp_zeros, jv, spherical_jn

from diffmath.domains import Mesh
from diffmath.pde import RenormalizedFlow
from tests import laws

SQUARE = [(0, 0), (1, 0), (1, 1), (0, 1)]
HOLE = [(0.3, 0.3), (0.6, 0.3), (0.6, 0.6), (0.3, 0.6)]
BESSEL = float(jnp_zeros(1, 1)[0])  # J_1'(x) = 0: the slowest mode of the unit disc
SPHERICAL = 2.0815759778181  # j_1'(x) = 0: that of the unit ball


@functools.cache
def domain(name, *arguments, n_modes=6, **options):
    return getattr(Mesh, name)(*arguments, n_modes=n_modes, **options)


DOMAINS = {
    "P1": lambda: domain("disc", 3, 1),
    "P2": lambda: domain("disc", 2),
    "P3": lambda: domain("annulus", 0.4, 1, 3),
    "P4": lambda: domain("l_shape", 1, 4, grading=2),
    "ellipse": lambda: domain("ellipse", 2.0, 0.7, 2),
    "polygon": lambda: Mesh.polygon(SQUARE, [HOLE], 1, n_modes=6),
    "ball": lambda: domain("ball", 1),
    "sphere": lambda: domain("sphere", 1, n_modes=10),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_a_mesh_is_an_eigenbasis(name):
    mesh = DOMAINS[name]()
    laws.eigenbasis(mesh)
    laws.green(mesh, np.random.default_rng(0).standard_normal(mesh.mode_shape), ulps=2048)


def test_spherical_root():
    assert abs(spherical_jn(1, SPHERICAL, derivative=True)) < 1e-12


@pytest.mark.parametrize(
    ("name", "order", "refinements", "exact", "mode", "expected", "window"),
    [
        ("disc", 1, (3, 4, 5), BESSEL**2, 1, 2, 0.1),
        ("disc", 2, (2, 3, 4), BESSEL**2, 1, 4, 0.1),
        ("sphere", 1, (2, 3), 2.0, 1, 2, 0.1),
        ("sphere", 2, (1, 2), 6.0, 4, 4, 0.1),
        ("ball", 2, (2, 3), SPHERICAL**2, 1, 4, 0.15),  # 4.11 between two meshes of few cells across
        ("l_shape", 2, (2, 3, 4), 1.475621824, 1, 4 / 3, 0.05),
        ("l_shape", 3, (1, 2, 3), 1.475621824, 1, 4 / 3, 0.05),
    ],
)
def test_orders(name, order, refinements, exact, mode, expected, window):
    """Of the eigenvalues, in the length of the cells; at the corner of the L the eigenfunction has no gradient."""
    values = np.array([domain(name, r, order).eigenvalues[mode] for r in refinements])
    errors = values - exact
    assert (errors > 0).all() or order == 2
    assert np.log2(errors[:-1] / errors[1:]) == pytest.approx(expected, abs=window)


def test_accuracy_and_cost():
    """What a few thousand unknowns reach."""
    disc = domain("disc", 4)
    assert disc.shape == (3169,)
    laws.within(disc.eigenvalues[1:3], BESSEL**2, 7e-7)  # 1e-7 with 8,300 unknowns, by the order 4
    corner = domain("l_shape", 1, 4, grading=16)
    assert corner.shape[0] < 15_000
    laws.within(corner.eigenvalues[1], 1.475621824, 1e-8)
    ball = domain("ball", 3)
    assert ball.shape == (6017,)
    laws.within(ball.eigenvalues[1:4], SPHERICAL**2, 1e-4)
    sphere = domain("sphere", 2, n_modes=10)
    laws.within(sphere.eigenvalues, [0] + [2] * 3 + [6] * 5 + [12], [1e-20] + [3e-4] * 3 + [2e-3] * 5 + [8e-3])


@pytest.mark.parametrize(
    ("name", "arguments", "volume", "tolerance"),
    [
        ("disc", (4,), np.pi, 1e-5),
        ("ellipse", (2.0, 0.7, 4), 1.4 * np.pi, 1e-5),
        ("annulus", (0.4, 3), np.pi * 0.84, 1e-5),
        ("l_shape", (1,), 3.0, 1e-14),
        ("ball", (2,), 4 * np.pi / 3, 1e-13),
        ("sphere", (2,), 4 * np.pi, 2e-3),
    ],
)
def test_volumes(name, arguments, volume, tolerance):
    assert domain(name, *arguments).weights.sum() == pytest.approx(volume, abs=tolerance)


def bessel(m, points):
    """J_1(m r) cos(angle): an eigenfunction of the disc, for roots m of J_1'."""
    r = np.hypot(*points)
    return jv(1, m * r) * np.divide(points[0], r, out=np.zeros_like(r), where=r > 0)


def test_the_flow_converges():
    """Values at nodes, in L2, have the order 4 of eigenvalues: one more than the functions between nodes have.

    At the boundary, where the cells lie on one side alone, the largest error is of order 3, as it is everywhere at
    times that are too short for the coarse mesh.
    """
    m, second, t = BESSEL, float(jnp_zeros(1, 2)[1]), 0.1
    decay = np.exp(-(second**2 - m**2) * t)
    # In L2 of J_1(m r) cos(angle) on the disc, but for a factor: (1 - 1 / m^2) J_1(m)^2, for roots m of its derivative.
    of_one, of_two = ((1 - 1 / k**2) * jv(1, k) ** 2 for k in (m, second))
    scale = np.sqrt((of_one + 4 * of_two) / (of_one + 4 * decay**2 * of_two))
    errors, largest = [], []
    for refinement in (2, 3, 4):
        mesh = domain("disc", refinement)
        u_0 = bessel(m, mesh.points) + 2 * bessel(second, mesh.points)
        u = RenormalizedFlow(mesh, "value").evolve(u_0, t)[0]
        error = u - scale * (bessel(m, mesh.points) + 2 * decay * bessel(second, mesh.points))
        errors.append(np.sqrt(error @ (mesh.mass @ error)))
        largest.append(np.abs(error).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert orders[0] > 3.7
    assert orders[1] == pytest.approx(4, abs=0.1)
    assert errors[-1] < 2e-5
    assert largest[-1] < 2e-5


def test_the_flow_is_that_of_all_modes():
    """On elements, whose mass matrix is not diagonal."""
    mesh = DOMAINS["polygon"]()
    u_0 = np.random.default_rng(0).standard_normal(mesh.shape)
    times = [0.0, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, np.inf]
    ours, whole = (RenormalizedFlow(d).solve(u_0, times) for d in (mesh, mesh.discrete))
    laws.within(ours.u, whole.u, 1e-10 * np.abs(whole.u.values).max(axis=1, keepdims=True))
    laws.within(ours.multiplier, whole.multiplier, 1e-9 * whole.multiplier.values)
    variation = RenormalizedFlow(mesh, "total_variation").solve(u_0, times[:-1])
    laws.conserved(variation.preserved, ulps=1024)


def test_a_symmetric_eigenvalue_that_the_mesh_splits():
    """Merged, the limit state keeps its direction in the plane of the two modes."""
    outline = [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
    split = Mesh.polygon(outline, refinement=1, n_modes=4)
    merged = Mesh.polygon(outline, refinement=1, n_modes=4, merge=1e-3)
    assert split.eigenvalues[1] < split.eigenvalues[2]
    assert merged.eigenvalues[1] == merged.eigenvalues[2]
    with pytest.warns(RuntimeWarning, match="modes 1 and 2 differ by .* merge = "):
        RenormalizedFlow(split).solve_modes({1: 1.0, 2: 0.5}, [0.0, 1e4])
    RenormalizedFlow(split).solve_modes({1: 1.0, 2: 0.5}, [0.0, 1.0])  # as long as it does not matter
    RenormalizedFlow(split).solve_modes({1: 1.0}, np.inf)
    u = RenormalizedFlow(merged).solve_modes({1: 1.0, 2: 0.5}, [0.0, 1e6]).amplitude.values
    laws.within(np.arctan2(u[:, 2], u[:, 1]), np.arctan2(0.5, 1.0), 1e-3)


@pytest.mark.parametrize("kind", ["plane", "curved", "surface", "solid"])
def test_reading(kind, tmp_path):
    """A file gives the matrices of the mesh that was written."""
    mesh = {
        "plane": skfem.MeshTri().refined(2),
        "curved": skfem.MeshTri2.init_circle(2),
        "surface": None,
        "solid": skfem.MeshTet().refined(1),
    }[kind]
    if kind == "surface":
        x = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
        points, cells = x, [("triangle", np.array([[0, 1, 2], [1, 2, 3]]))]
        mesh = skfem.MeshTri1(x.T, cells[0][1].T)
    else:
        p = np.vstack([mesh.doflocs, np.ones((3 - len(mesh.doflocs), mesh.doflocs.shape[1]))])
        name = {"plane": "triangle", "curved": "triangle6", "solid": "tetra"}[kind]
        points, cells = p.T, [(name, mesh.dofs.element_dofs.T)]
    meshio.Mesh(points, cells).write(tmp_path / "mesh.vtk")
    read, known = Mesh.read(tmp_path / "mesh.vtk", n_modes=5), Mesh(mesh, n_modes=5)
    assert read.points.shape == known.points.shape
    laws.within(read.eigenvalues, known.eigenvalues, 1e-11 * known.eigenvalues[-1])


def hanging():
    p = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]]).T
    return skfem.MeshTri1(p, np.array([[0, 1, 2], [1, 3, 4], [2, 3, 4]]).T)


def folded():
    p = np.array([[0.0, 0], [1, 0], [0, 1], [0.5, 0.9], [0, 0.5], [0.5, 0.5]]).T
    return skfem.MeshTri2(p, np.array([[0], [1], [2]]))


def triangle(p, t=((0, 1, 2),)):
    return skfem.MeshTri1(np.array(p, dtype=float).T, np.array(t).T)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Mesh(hanging()), ValueError, "conforming: node 4 lies on the edge [1, 2]"),
        (lambda: Mesh(triangle([(0, 0), (1, 0), (0, 1), (5, 5)])), ValueError, "1 belong to no cell"),
        (lambda: Mesh(folded()), ValueError, "cell 0 is not so"),
        (lambda: Mesh(triangle([(0, 0), (1, 0), (0, 1), (0, 1)], [(0, 1, 2), (0, 1, 3)])), ValueError, "at one place"),
        (lambda: Mesh(skfem.MeshQuad()), ValueError, "triangles or tetrahedra; it is a MeshQuad1"),
        (lambda: Mesh("mesh"), TypeError, "mesh must be a mesh of scikit-fem; it is str"),
        (lambda: Mesh.disc(1, 5), ValueError, "order must lie in 1..4 on triangles; it is 5"),
        (lambda: Mesh.ball(1, 3), ValueError, "order must lie in 1..2 on tetrahedra; it is 3"),
        (lambda: Mesh.disc(0, 1, 50), ValueError, "n_modes must be at most the number of unknowns, 7; it is 50"),
        (lambda: Mesh.annulus(1.5), ValueError, "inner must lie in (0, 1); it is 1.5"),
        (lambda: Mesh.polygon([(0, 0), (1, 1), (1, 0), (0, 2)]), ValueError, "outlines must not cross or touch"),
        (lambda: Mesh.polygon(SQUARE, [[(0.5, 0.5), (2, 0.5), (0.5, 0.7)]]), ValueError, "points and holes[0] do at"),
        (lambda: Mesh.polygon(SQUARE, [HOLE, np.array(HOLE) + 0.1]), ValueError, "holes[0] and holes[1] do at"),
        (lambda: Mesh.polygon(SQUARE, [np.array(HOLE) + 5]), ValueError, "holes must lie inside the polygon"),
        (lambda: Mesh.polygon(SQUARE[:2]), ValueError, "points must be at least 3 finite corners"),
        (lambda: Mesh.read("none.msh"), ValueError, "path must be a file with a mesh; there is no file none.msh"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("shape", ["star", "comb", "thin"])
def test_polygons_of_sharp_corners(shape):
    """Meshes cover the polygon, and no angle is worse than its corners demand."""
    angle = np.arange(10) * np.pi / 5
    outline = {
        "star": np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(np.arange(10) % 2, 0.4, 1.0)[:, None],
        "comb": [(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)],
        "thin": [(0, 0), (10, 0), (10, 0.2), (0, 0.2)],
    }[shape]
    x, y = np.array(outline, dtype=float).T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    mesh = Mesh.polygon(outline, refinement=0, n_modes=2)
    assert mesh.weights.sum() == pytest.approx(area, rel=1e-12)
    assert mesh.null_modes.sum() == 1


def test_without_scikit_fem():
    """One clear error, and the other domains work."""
    code = """
import sys
sys.modules["skfem"] = None
from diffmath.domains import Box, Mesh
Box(4)
try:
    Mesh.disc(1)
except ImportError as error:
    assert 'pip install "diffmath[fem]"' in str(error), error
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
