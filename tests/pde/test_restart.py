"""Going on from a solution: two short runs are one long one, whatever is preserved and however it is solved."""

import numpy as np
import pytest
import xarray as xr

from diffmath.domains import Box
from diffmath.pde import RenormalizedFlow
from diffmath.pde.restart import box_of

BOXES = (Box((12,), (2.0,)), Box((6, 4), (1.0, 0.5), origin=(-1.0, 3.0)))
FINITE_DIFFERENCES = ({}, {"integrator": "pade02", "theta": 0.1}, {"integrator": "backward-euler", "dt": 0.003})


def through_file(ds, path):
    ds.to_netcdf(path)
    with xr.open_dataset(path) as back:
        return back.load()


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("mean", ["project", "keep"])
@pytest.mark.parametrize("preserve", ["gradient", "value", "laplacian", "total_variation"])
def test_two_short_runs_are_one_long_one(preserve, mean, box, tmp_path):
    flow = RenormalizedFlow(box, preserve)
    u_0 = 0.1 + np.random.default_rng(0).standard_normal((2, *box.shape))
    for method, options in (("spectral", {}), *(("finite-difference", o) for o in FINITE_DIFFERENCES)):
        # Steps end at the times of output, so that the long run is asked for the middle too.
        long = flow.solve(u_0, [0.01, 0.025], method, mean=mean, **options)
        first = through_file(flow.solve(u_0, [0.01, 0.0], method, mean=mean, **options), tmp_path / "first.nc")
        second = RenormalizedFlow.from_dataset(first).continue_from(first, [0.015])
        assert {k: second.attrs.get(k) for k in options} == options
        for name in ("method", "mean", "preserve", "domain"):
            assert second.attrs[name] == long.attrs[name]
        assert second.attrs["start_time"] == 0.01
        # Rounding of the state, 1e-16 of its size, is amplified by less than e^(mu t) < 1e3 within these times.
        np.testing.assert_allclose(second.u[:, 0], long.u[:, 1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(second.multiplier[:, 0], long.multiplier[:, 1], rtol=1e-11)
        np.testing.assert_allclose(second.preserved[:, 0], long.preserved[:, 1], rtol=1e-11)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("mean", ["project", "keep"])
@pytest.mark.parametrize("preserve", ["gradient", "value", "laplacian", "total_variation"])
def test_amplitudes_go_on_exactly(preserve, mean, box, tmp_path):
    """An unstable steady state stays one for longer than its rounding errors on the grid would allow."""
    k = (3,) if box.ndim == 1 else (2, 1)
    flow = RenormalizedFlow(box, preserve)
    ds = flow.solve_modes({k: 1.0}, [0.5], mean=mean)
    for _ in range(3):
        ds = through_file(ds, tmp_path / "state.nc")
        ds = RenormalizedFlow.from_dataset(ds).continue_from(ds, [0.0, 0.5])
    assert ds.attrs["start_time"] == 1.5
    assert ds.multiplier.values[-1] == pytest.approx(box.eigenvalue(k), rel=1e-9)
    assert np.count_nonzero(np.abs(ds.amplitude[-1]) > 0) == 1
    stepped = flow.continue_from(ds, [0.0], "finite-difference")
    np.testing.assert_allclose(stepped.u[0], ds.u[-1], rtol=0, atol=1e-12)


def test_names_attributes_and_times_go_on():
    coords = {"lat": ("lat", [1.0, 2.0, 3.0], {"units": "m"}), "lon": ("lon", [1.5, 2.5], {"units": "m"}), "run": 7}
    box = Box.from_coordinates([1.0, 2.0, 3.0], [1.5, 2.5])
    u_0 = xr.DataArray(np.arange(6.0).reshape(3, 2) ** 2, dims=("lat", "lon"), coords=coords, attrs={"units": "K"})
    flow = RenormalizedFlow(box)
    for first in (flow.solve(u_0, [0.1, 0.2]), flow.solve(u_0, [0.2]).transpose("lon", "lat", "time", ...)):
        second = flow.continue_from(first, [0.3])
        third = flow.continue_from(second.isel(time=0), [0.4])
        assert third.u.dims == ("time", "lat", "lon")
        assert third.u.attrs == first.u.attrs
        assert third.lat.attrs == {"units": "m"}
        assert third.time.attrs == {"long_name": "time since the state at start_time", "units": "m^2"}
        assert third.run == 7
        assert third.attrs["start_time"] == 0.5
        np.testing.assert_allclose(third.u[0], flow.solve(u_0, [0.9]).u[0], rtol=1e-12)
    modes = xr.DataArray(np.eye(3, 2), dims=("k_lat", "k_lon"))
    exact = flow.solve_modes(modes, [0.1]).assign_coords(coords)
    again = flow.continue_from(exact, [0.1])
    assert (again.amplitude.dims, again.lon.attrs) == (("time", "k_lat", "k_lon"), {"units": "m"})


def test_options_that_are_given_replace_those_of_the_solution():
    flow = RenormalizedFlow(Box(8))
    first = flow.solve(np.arange(8.0), 0.1, "finite-difference", integrator="pade02", dt=0.01)
    for options, expected in (
        ({}, {"integrator": "pade02", "dt": 0.01}),
        ({"theta": 0.1}, {"integrator": "pade02", "theta": 0.1}),
        ({"integrator": "backward-euler"}, {"integrator": "backward-euler", "theta": 1 / 16}),
    ):
        attributes = flow.continue_from(first, 0.1, **options).attrs
        assert {k: attributes[k] for k in ("integrator", "dt", "theta") if k in attributes} == expected
    assert flow.continue_from(first, 0.1, "spectral").attrs["method"] == "spectral"


@pytest.mark.parametrize("domain", [Box(8).discrete, Box((8, 6), boundary=("periodic", "fixed"))])
def test_other_domains_go_on(domain, tmp_path):
    """Other boundary conditions, and the difference Laplacian."""
    flow = RenormalizedFlow(domain)
    u_0 = np.random.default_rng(0).standard_normal(domain.shape)
    first = through_file(flow.solve(u_0, 0.01), tmp_path / "first.nc")
    again = RenormalizedFlow.from_dataset(first)
    assert (type(again.domain), again.domain) == (type(domain), domain)
    # Rounding of the state is amplified by less than e^((mu_k - mu_1) t) < 10 for the modes that matter.
    np.testing.assert_allclose(again.continue_from(first, 0.02).u, flow.solve(u_0, 0.03).u, rtol=0, atol=1e-13)


def half_size(u):
    return 0.5 * float(np.abs(u).max())


def test_what_contradicts_a_solution_is_refused():
    box = Box((8,), (2.0,))
    ds = RenormalizedFlow(box).solve(np.arange(8.0), [0.1])
    assert box_of(ds) == box
    for flow, message in (
        (RenormalizedFlow(box, "value"), "what the flow preserves must be that of the Dataset, gradient; it is value"),
        (RenormalizedFlow(Box(8)), "the flow's domain must be that of the Dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            flow.continue_from(ds, [0.1])
    for broken, message in (
        (ds.isel(x=slice(4)), r"must fill its domain, \[0, 2\] in 8 cells; its shape is \(4,\)"),
        (ds.rename(x="s"), "must have the axes"),
        (xr.Dataset({"u": ds.u}), "has no attribute 'preserve'"),
        (ds.drop_vars("u"), "has no variable 'u'"),
        (ds.assign_coords(x=ds.x + 1), "the coordinate x"),
    ):
        with pytest.raises(ValueError, match=message):
            RenormalizedFlow.from_dataset(broken).continue_from(broken, [0.1])
    with pytest.raises(ValueError, match="the flow's domain|must be that of"):
        RenormalizedFlow.from_dataset(ds, "value")
    mine = RenormalizedFlow(box, half_size).solve(np.arange(8.0), [0.1])
    with pytest.raises(ValueError, match="function that the flow preserves must be given"):
        RenormalizedFlow.from_dataset(mine)
    assert RenormalizedFlow.from_dataset(mine, half_size).continue_from(mine, [0.1]).attrs["preserve"] == "half_size"
