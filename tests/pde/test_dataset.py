"""Arrays in, Dataset out: names, coordinates and masks of what is given, and what results keep of them."""

import numpy as np
import pytest
import xarray as xr

from diffmath.domains import Box
from diffmath.pde import RenormalizedFlow
from diffmath.pde.dataset import read_initial
from diffmath.pde.initial import step
from diffmath.pde.norms import NORMS

LAT, LON = 10.0 + np.arange(4) / 2, np.arange(6) / 3  # cell centres of a box that begins at (9.75, -1/6)


def field(*dims, shape=(4, 6), **options):
    return xr.DataArray(np.random.default_rng(0).standard_normal(shape), dims=dims, **options)


def test_axes_count_by_name():
    """Whatever the order of a DataArray's axes, w_(1, 0) varies along x."""
    box = Box((4, 6), (1.0, 2.0))
    flow = RenormalizedFlow(box)
    u_0 = xr.DataArray(box.eigenfunction((1, 0)), dims=("x", "y"))
    for order in (("x", "y"), ("y", "x")):
        ds = flow.solve(u_0.transpose(*order), [0.0])
        assert ds.u.dims == ("time", "x", "y")
        assert ds.energy_fraction.sel(k_x=1, k_y=0).item() == pytest.approx(1)
        c = xr.DataArray(box.to_modes(u_0.values), dims=("k_x", "k_y")).transpose(*(f"k_{d}" for d in order))
        assert flow.solve_modes(c, [0.0]).energy_fraction.sel(k_x=1, k_y=0).item() == pytest.approx(1)
    batch = u_0.expand_dims(member=[3, 5]).transpose("y", "member", "x")
    ds = flow.solve(batch, [0.0, 0.1])
    assert ds.u.dims == ("member", "time", "x", "y")
    np.testing.assert_array_equal(ds.member, [3, 5])


def test_other_names_count_by_order_and_are_kept():
    """With the coordinates, their attributes and the attributes of the field."""
    coords = {"lat": ("lat", LAT, {"units": "km"}), "lon": ("lon", LON, {"units": "km"}), "run": 7}
    u_0 = field("lat", "lon", coords=coords, attrs={"units": "K", "long_name": "anomaly"})
    flow = RenormalizedFlow(Box.from_coordinates(LAT, LON))
    ds = flow.solve(u_0, [0.0, 0.1])
    assert ds.u.dims == ("time", "lat", "lon")
    assert ds.energy_fraction.dims == ("time", "k_lat", "k_lon")
    assert set(ds.coords) == {"time", "lat", "lon", "k_lat", "k_lon", "run"}
    assert ds.u.attrs == u_0.attrs
    assert ds.lat.attrs == {"units": "km"}
    assert (ds.time.attrs["units"], ds.multiplier.attrs["units"]) == ("km^2", "1 / km^2")
    np.testing.assert_array_equal(ds.lat, LAT)
    np.testing.assert_array_equal(ds.u, flow.solve(u_0.values, [0.0, 0.1]).u)
    again = flow.solve_modes(flow.solve_modes(field("k_lat", "k_lon"), [0.0]).amplitude[0], [0.1])
    assert (again.u.dims, again.amplitude.dims) == (("time", "lat", "lon"), ("time", "k_lat", "k_lon"))
    without_names = flow.solve(xr.DataArray(u_0.values), [0.0])  # xarray calls its axes dim_0 and dim_1
    assert without_names.u.dims == ("time", "x", "y")


def test_axes_that_are_refused():
    """A mixture of names, modes for space and space for modes, names of the results, and other coordinates."""
    flow = RenormalizedFlow(Box((4, 6)))
    modes = flow.solve_modes(field("k_x", "k_y"), [0.0])
    for u_0, message in (
        (field("x", "lon"), r"all of the domain's axes \('x', 'y'\).* it has \('x', 'lon'\)"),
        (field("y", "z"), "all of the domain's axes"),
        (modes.amplitude[0], "the axis 'k_x' of modes: use solve_modes"),
        (field("k_lat", "k_lon"), "the axis 'k_lat' of modes"),
        (field("time", "y"), "all of the domain's axes"),
        (field("time", "lat", "lon", shape=(1, 4, 6)), "has a dimension 'time' that the solution has too"),
        (field("energy", "lon"), "has a dimension 'energy'"),
        (field("x", "y", coords={"x": np.linspace(0, 1, 4)}), "the coordinate x of u_0 must be the domain's"),
        (field("lat", "lon", coords={"lat": LAT}), "from 0.125 to 0.875; it goes from 10 to 11.5"),
        (field("x", "y", coords={"x": flow.domain.coordinates[0][::-1]}), "the coordinate x of u_0"),
    ):
        with pytest.raises(ValueError, match=message):
            flow.solve(u_0, [0.1])
        with pytest.raises(ValueError, match=message):
            flow.evolve(u_0, [0.1])
    for c, message in (
        (modes.u[0], r"axes of modes such as \('k_x', 'k_y'\); it has the axis 'x'"),
        (field("lat", "lon"), "it has the axis 'lat'"),
        (field("k_x", "y"), "all of the domain's axes"),
        (field("k_x", "k_y", coords={"k_x": 1 + np.arange(4)}), "the coordinate k_x of c"),
    ):
        with pytest.raises(ValueError, match=message):
            flow.solve_modes(c, [0.1])
    with pytest.raises(TypeError, match="it is a Dataset"):
        flow.solve(modes, [0.1])
    with pytest.raises(TypeError, match="the coordinate x of u_0 must be real numbers"):
        flow.solve(field("x", "y", coords={"x": list("abcd")}), [0.1])


def test_rounded_coordinates_are_the_domains():
    """Those of a file in single precision, far from 0 too."""
    box = Box((4, 6), origin=(1000.0, 0.0))
    u_0 = field("x", "y", coords={"x": box.coordinates[0].astype(np.float32)})
    assert RenormalizedFlow(box).solve(u_0, [0.1]).x.dtype == np.float32
    with pytest.raises(ValueError, match="the coordinate x"):
        RenormalizedFlow(Box((4, 6), origin=(1000.1, 0.0))).solve(u_0, [0.1])


def test_what_has_no_flow():
    """Null modes alone; with fixed ends the constants are no null modes."""
    for boundary in ("no-flux", "periodic"):
        for kind, u_0 in (("values", np.ones((2, 4))), ("modes", np.eye(4)[:2] * [[0], [1]])):
            with pytest.raises(ValueError, match=r"\[0\] must not be constant"):
                read_initial(Box(4, boundary=boundary), u_0, kind)
    values, layout = read_initial(Box(4, boundary="fixed"), np.ones((2, 4)))
    assert (values.shape, layout.dims) == ((2, 4), ("batch",))
    with pytest.raises(ValueError, match="must not be constant"):
        read_initial(Box(4, boundary="fixed"), np.zeros(4))


def masked(values):
    return np.ma.masked_array(values, mask=np.arange(len(values)) == 1)


def test_masks_are_refused():
    """At every door of the flow: what lies under a mask is no number to go on with."""
    flow, u = RenormalizedFlow(Box((8,))), masked([1.0, 9.97e36, 3.0, -1.0, 3.0, 2.0, 2.0, 0.0])
    for method in ("spectral", "finite-difference"):
        with pytest.raises(ValueError, match="u_0 must not have masked entries"):
            flow.solve(u, [0.01], method)
    with pytest.raises(ValueError, match="u_0 must not have masked entries"):
        flow.evolve([u], [0.01])
    with pytest.raises(ValueError, match="u_0"):  # which xarray turns into NaN
        flow.solve(xr.DataArray(u, dims="x"), [0.01])
    with pytest.raises(ValueError, match="c must not have masked entries"):
        flow.solve_modes(u, [0.01])
    with pytest.raises(ValueError, match="masked"):
        flow.solve_modes({1: u[1]}, [0.01])
    for solve in (flow.solve, flow.evolve):
        with pytest.raises(ValueError, match="times must not have masked entries"):
            solve(u.data, masked([0.1, 0.2]))
    box = flow.domain
    with pytest.raises(ValueError, match="u_0 must not have masked entries"):
        flow.solve(lambda x: np.ma.masked_greater(x, 0.5), [0.01])
    doors = [box.to_modes, box.to_values, box.gradient, lambda u: box.solve(1.0, 0.1, u)]
    doors += [lambda u: box.discrete.solve(1.0, 0.1, u), lambda u: step(box, u[1])]
    for norm in NORMS.values():
        doors += [lambda u, norm=norm: norm.value(box, u), lambda u, norm=norm: norm.size(box, u)]
    for door in doors:
        with pytest.raises(ValueError, match="masked"):
            door(u)
    assert flow.solve(np.ma.masked_array(u.data, mask=False), [0.01]).sizes["time"] == 1
