"""The flow on domains with few modes of many: files, steppers, stability."""

import numpy as np
import pytest
import xarray as xr

from diffmath.domains import Box, Mask, Mesh
from diffmath.pde import RenormalizedFlow
from diffmath.pde.schemes import SCHEMES
from diffmath.pde.stability import check_stability
from tests import laws

ELL = np.ones((14, 12), dtype=bool)
ELL[8:, 7:] = False
DOMAIN = Mask(ELL, spacing=0.1, n_modes=12)
U_0 = np.random.default_rng(1).standard_normal(DOMAIN.shape)


@pytest.mark.parametrize("integrator", ["exact", "rk4", "backward-euler", "pade02", "solve_ivp"])
def test_schemes_step_all_modes(integrator):
    """As the discretisation is the domain, they differ from the exact flow by their errors in time alone."""
    flow, times = RenormalizedFlow(DOMAIN), [0.0, 0.01, 0.02]
    expected = flow.solve(U_0, times)

    def error(**options):
        ds = flow.solve(U_0, times, "finite-difference", integrator=integrator, **options)
        laws.conserved(ds.energy, ulps=1e-6 / laws.EPS if integrator == "solve_ivp" else 1e4)
        return np.abs(ds.u - expected.u).max().item() / np.abs(expected.u).max().item()

    if integrator in SCHEMES:
        coarse, fine = (error(dt=0.01 * 2.0**-i) for i in (8, 9))
        assert np.log2(coarse / fine) == pytest.approx(SCHEMES[integrator].order, abs=0.1)
    else:
        assert error() < {"exact": 1e-12, "solve_ivp": 1e-6}[integrator]


def test_stability_by_mode_number():
    """The verdicts of a domain of matrices, as those of a box."""
    domain = Mask(ELL[5:12, 4:10], spacing=0.1, n_modes=6)
    ds = check_stability(RenormalizedFlow(domain), 2, 5, solvers=["spectral", "exact", "pade02"])
    assert ds.verdict.values.tolist() == ["unstable"] * 2 + ["fixed by the constraint"] + ["stable"] * 2
    laws.within(ds.theory, domain.eigenvalues[2] - domain.eigenvalues[:5], 1e-11)
    assert ds.j.values.tolist() == [0, 1, 2, 3, 4]


def test_steady_states():
    flow = RenormalizedFlow(DOMAIN)
    u = flow.steady_state(3, C=2.0)
    ds = flow.solve_modes({3: 1.0}, [0.0, np.inf], C=2.0)
    laws.within(np.abs(ds.u.values), np.abs(u), 1e-14 * np.abs(u).max())
    laws.close(ds.multiplier, DOMAIN.eigenvalues[3], ulps=16)
    assert flow.growth_rate(2, 1) == DOMAIN.eigenvalues[2] - DOMAIN.eigenvalues[1]


def test_functions_of_the_coordinates():
    flow, box = RenormalizedFlow(DOMAIN), Box((6, 5))
    x, y = DOMAIN.points
    assert (flow.evolve(lambda x, y: x * y, 0.1) == flow.evolve(x * y, 0.1)).all()
    expected = RenormalizedFlow(box).evolve(np.multiply.outer(*box.coordinates), 0.1)
    assert (RenormalizedFlow(box).evolve(lambda x, y: x * y, 0.1) == expected).all()


def test_going_on_from_a_file(tmp_path):
    flow = RenormalizedFlow(DOMAIN)
    whole, half = flow.solve(U_0, 0.02), flow.solve(U_0, 0.01)
    half.to_netcdf(tmp_path / "half.nc")
    with xr.open_dataset(tmp_path / "half.nc") as ds:
        again = flow.continue_from(ds, 0.01)
        laws.within(again.u, whole.u, 1e-11 * np.abs(whole.u.values).max())
        assert again.start_time == 0.01
        for name in ("x", "y", "index_x", "index_y"):
            assert (ds[name].values == half[name].values).all()
        with pytest.raises(ValueError, match="must be that of the Dataset"):
            RenormalizedFlow(Mask(ELL, spacing=0.2, n_modes=12)).continue_from(ds, 0.01)
        with pytest.raises(ValueError, match="must be a box; it is mask of 138 unknowns"):
            RenormalizedFlow.from_dataset(ds)
    modes = flow.solve_modes({4: 1.0}, 0.3)
    assert (flow.continue_from(modes, 0.3).multiplier == DOMAIN.eigenvalues[4]).all()


def test_initial_conditions_without_flow_are_refused():
    with pytest.raises(ValueError, match="must not be constant"):
        RenormalizedFlow(DOMAIN).solve(np.ones(DOMAIN.shape), 0.1)
    with pytest.raises(ValueError, match="must have a mode that is not null; it has 2 null"):
        apart = Mask(np.eye(2, dtype=bool))
        RenormalizedFlow(apart).solve([1.0, 2.0], 0.1)


def test_large_and_small_values():
    """The flow is homogeneous, at any scale of float64."""
    flow = RenormalizedFlow(DOMAIN)
    expected = flow.evolve(U_0, 0.01)
    for scale in (2.0**-400, 2.0**400):
        assert (flow.evolve(U_0 * scale, 0.01) == expected * scale).all()


def test_times_far_below_the_known_modes():
    """A fine mesh, few modes and a short first time: sixty solves carry the rest, and nothing warns of it."""
    mesh = Mesh.annulus(refinement=4, n_modes=20)
    u_0 = np.random.default_rng(0).standard_normal(mesh.shape)
    first, *_ = RenormalizedFlow(mesh).evolve(u_0, [1e-5, 1e-3, 0.1, 1.0])
    # With more modes known, as exact as the space is.
    more = RenormalizedFlow(Mesh.annulus(refinement=4, n_modes=60)).evolve(u_0, 1e-5)[0]
    laws.within(first, more, 1e-9 * np.abs(more).max())
