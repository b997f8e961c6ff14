"""Large ensembles: the exact solver under xarray.apply_ufunc, spread over processes by dask."""

import numpy as np
import pytest
import xarray as xr

from diffmath.pde import Box, RenormalizedFlow

distributed = pytest.importorskip("distributed", reason="needs the extra dask")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_processes_give_what_one_call_gives(client):
    box = Box(shape=(32,))
    flow = RenormalizedFlow(box)
    times = [0.0, 1e-3, 0.1]
    members = np.random.default_rng(0).standard_normal((8, 32))
    u_0 = xr.DataArray(members, dims=("member", "x"), coords={"x": box.coordinates[0]}).chunk(member=2)
    u = xr.apply_ufunc(
        flow.evolve,
        u_0,
        kwargs={"times": times},
        input_core_dims=[["x"]],
        output_core_dims=[["time", "x"]],
        dask="parallelized",
        output_dtypes=[float],
        dask_gufunc_kwargs={"output_sizes": {"time": len(times)}},
    )
    assert u.chunks[0] == (2, 2, 2, 2)  # lazy so far
    workers = set(client.scheduler_info()["workers"])
    assert len(workers) == 2
    u = u.compute()
    assert u.dims == ("member", "time", "x")
    np.testing.assert_allclose(u, flow.solve(members, times).u, rtol=0, atol=1e-12)
