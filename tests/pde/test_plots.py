"""What pictures and films of a flow show, read back from figures and files."""

import numpy as np
import pytest
import skfem
import xarray as xr
from PIL import Image

from diffmath.domains import Mask, Mesh
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.initial import noise
from diffmath.pde.plots import animate, plot
from tests import laws

TIMES = [0.1, 0.0, 1e-4, 1e-2]


def solution(shape, times=TIMES):
    return RenormalizedFlow(Box(shape)).solve(noise(Box(shape), np.random.default_rng(0)), times)


def labels(ax):
    return [text.get_text() for text in ax.get_xticklabels()]


def test_curves():
    ds = solution((32,))
    figure = plot(ds)
    _, image, curves, multiplier = figure.axes[:4]
    texts = [text.get_text() for text in curves.get_legend().get_texts()]
    assert texts == ["$t = 0$", "$t = 0.0001$", "$t = 0.01$", "$t = 0.1$"]
    np.testing.assert_array_equal(curves.lines[0].get_ydata(), ds.u.sel(time=0.0))
    np.testing.assert_array_equal(multiplier.lines[0].get_ydata(), ds.multiplier.sortby("time")[1:])
    assert all(ax.get_xlabel() for ax in (curves, image, multiplier))
    assert len(plot(ds.isel(time=[0])).axes) == 1


def test_the_first_state_can_be_read():
    """Noise is small beside the smooth states with its energy: it gets a panel that it fills. A mode needs none."""
    ds = solution((32,))
    first = plot(ds).axes[0]
    low, high = first.get_ylim()
    u_0 = ds.u.sel(time=0.0).values
    assert np.ptp(u_0) > 0.8 * (high - low)
    mode = RenormalizedFlow(Box(32)).solve_modes({1: 1.0}, [0.0, 1.0])
    assert len(plot(mode).axes) == 4


@pytest.mark.parametrize("lengths", [(2.0,), (1.0, 3.0)])
def test_the_lowest_eigenvalue_is_marked(lengths):
    domain = Box((16,) * len(lengths), lengths)
    ds = RenormalizedFlow(domain).solve(noise(domain, np.random.default_rng(0)), [1e-3, 1e-2, 1.0])
    multiplier = plot(ds).axes[-1 if len(lengths) == 2 else 3]
    assert multiplier.lines[1].get_ydata()[0] == pytest.approx((np.pi / max(lengths)) ** 2)


@pytest.mark.parametrize("shape", [(32,), (8, 6)])
@pytest.mark.parametrize("times", [[0, 1e-4, 1e-2, 1, np.inf], [0, 0.1, 0.2, np.inf], [0, np.inf], [np.inf]])
def test_infinity(shape, times):
    """It has a tick of its own, beyond the finite times, where the multiplier has its limit."""
    figure = plot(solution(shape, times))
    figure.draw_without_rendering()
    if len(times) == 1:
        return
    multiplier = figure.axes[-1] if len(shape) == 2 else next(a for a in figure.axes if "lambda" in a.get_ylabel())
    assert labels(multiplier)[-1] == "$\\infty$"
    (point,) = multiplier.lines[-1].get_xdata()
    assert point > max(multiplier.lines[0].get_xdata(), default=-1)


def test_frames():
    """Each frame fills its own scale, and no title is cut off."""
    ds = solution((8, 6), [0, 1e-4, 1e-2, 0.1])
    figure = plot(ds)
    frame = figure.axes[0]
    u_0 = ds.u.values[0]
    np.testing.assert_allclose(frame.images[0].get_array(), u_0.T / np.abs(u_0).max())
    figure.draw_without_rendering()
    top = figure.bbox.y1
    assert all(ax.title.get_window_extent().y1 <= top for ax in figure.axes)


def test_refusals():
    with pytest.raises(ValueError, match="of one and two dimensions; the solution has 3"):
        plot(solution((4, 4, 4)))
    batch = RenormalizedFlow(Box((8,))).solve(np.eye(8)[:2], TIMES)
    with pytest.raises(ValueError, match="choose one solution of the batch"):
        plot(batch)
    with pytest.raises(ValueError, match="must have its dimension time"):
        plot(solution((32,)).isel(time=0))


def test_a_notebook_shows_pictures_and_films():
    assert plot(solution((16,)))._repr_png_().startswith(b"\x89PNG")
    film = animate(solution((16,)))._repr_html_()
    assert film.count("data:image/png") == len(TIMES)


@pytest.mark.parametrize("shape", [(16,), (8, 6)])
def test_film(shape, tmp_path):
    """A frame for each time, and the frames differ."""
    ds = solution(shape, [0.0, 1e-3, 1e-1])
    animate(ds, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3
        frames = []
        for i in range(3):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")))
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()
    with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4; it is 'film\.mov'"):
        animate(ds, tmp_path / "film.mov")


def test_units_are_those_of_the_solution():
    """Powers are set as such; what has no units shows none."""
    x = Box((8,)).coordinates[0]
    u_0 = xr.DataArray(np.cos(np.pi * x), dims="s", coords={"s": ("s", x, {"units": "km"})}, attrs={"units": "K"})
    curves, _, multiplier = plot(RenormalizedFlow(Box((8,))).solve(u_0, [0.0, 0.1])).axes[:3]
    assert (curves.get_xlabel(), curves.get_ylabel()) == ("$s$ (km)", "$u$ (K)")
    assert (multiplier.get_xlabel(), multiplier.get_ylabel()) == ("$t$ (km$^{2}$)", r"$\lambda(t)$ (1 / km$^{2}$)")


SHAPES = {
    "triangles": lambda: Mesh.disc(1, n_modes=5),
    "surface": lambda: Mesh.sphere(1, n_modes=5),
    "solid": lambda: Mesh.ball(1, n_modes=5),
    "pixels": lambda: Mask([[True, True, False], [True, True, True]]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_domains_of_any_shape(name, tmp_path):
    """Their states as pictures and films, from a file too; a picture shows the numbers of the state."""
    domain = SHAPES[name]()
    ds = RenormalizedFlow(domain).solve_modes({1: 1.0, 2: 0.5}, [0.0, 0.1])
    ds.to_netcdf(tmp_path / "flow.nc")
    with xr.open_dataset(tmp_path / "flow.nc") as read:
        figure = plot(read)
        animate(read, tmp_path / "film.gif")
    u = ds.u.values[0] / np.abs(ds.u.values[0]).max()
    (shown,) = figure.axes[0].collections or figure.axes[0].images
    values = np.ma.compressed(shown.get_array())
    if name == "triangles":
        expected = u
    elif name == "pixels":
        expected = domain.image(u).T[~np.isnan(domain.image(u).T)]
    else:
        expected = u[domain.triangles].mean(axis=1)
    assert np.sort(values) == pytest.approx(np.sort(expected), abs=1e-6)
    assert figure.axes[0].get_title().startswith("$t = 0$")


def test_files_of_meshes_follow_ugrid():
    mesh = Mesh.disc(1, n_modes=5)
    ds = RenormalizedFlow(mesh).solve_modes({1: 1.0}, 0.0)
    about = ds[ds.u.attrs["mesh"]].attrs
    assert about["cf_role"] == "mesh_topology"
    assert [ds[name].dims for name in about["node_coordinates"].split()] == [("node",), ("node",)]
    faces = ds[about["face_node_connectivity"]]
    x, y = mesh.points
    corners = np.stack([x[faces], y[faces]], axis=-1)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2 == pytest.approx(
        12 * np.sin(np.pi / 12)
    )  # 24 corners


@pytest.mark.parametrize("order", [1, 2])
def test_files_of_solids_follow_ugrid(order, tmp_path):
    """All nodes and the tetrahedra between them come back from a file, with the boundary as their outer faces."""
    ball = Mesh.ball(1, order, n_modes=5)
    RenormalizedFlow(ball).solve_modes({1: 1.0}, 0.0).to_netcdf(tmp_path / "flow.nc")
    with xr.open_dataset(tmp_path / "flow.nc") as ds:
        about = ds[ds.u.attrs["mesh"]].attrs
        assert (about["cf_role"], about["topology_dimension"]) == ("mesh_topology", 3)
        p = np.stack([ds[name] for name in about["node_coordinates"].split()])
        volumes, faces = (ds[about[f"{kind}_node_connectivity"]] for kind in ("volume", "face"))
        assert volumes.attrs == {"cf_role": "volume_node_connectivity", "start_index": 0}
        kinds = ds[about["volume_shape_type"]]
        assert kinds.dims == volumes.dims[:1]
        assert kinds.attrs["flag_meanings"] == "tetrahedron"
        read = Mesh(skfem.MeshTet1(p, volumes.values.T), order=1, n_modes=5)  # which checks that it is conforming
        assert np.abs(np.linalg.norm(p[:, np.unique(faces)], axis=0) - 1).max() < 0.01
    laws.within(read.points, ball.points, 0)
    corners = p[:, faces.values]
    normals = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0], axis=0)
    # The cones from the centre over the faces are the whole solid, as are the tetrahedra.
    cones = np.abs((normals * corners.mean(axis=2)).sum(axis=0)).sum() / 6
    assert read.weights.sum() == pytest.approx(cones, rel=1e-12)


@pytest.mark.parametrize("draw", [plot, animate])
def test_a_solution_without_a_state_is_refused(draw):
    with pytest.raises(ValueError, match="must have a state at one time at least; it has none"):
        draw(solution((8,)).isel(time=[]))
