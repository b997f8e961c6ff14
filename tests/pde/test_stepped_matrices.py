"""Schemes on mass and stiffness matrices: on all modes, on few of many, and on masks beside boxes."""

import numpy as np
import pytest

from diffmath.domains import Box, Mask, Mesh, operator
from diffmath.pde import RenormalizedFlow
from diffmath.pde.schemes import SCHEMES
from tests import laws

SCHEMES_OF_ANY_STEP = ("backward-euler", "pade02")
MANY = (46, 47)  # more cells than have all their modes


@pytest.fixture
def few(monkeypatch):
    """Domains that step on few of their modes, however small they are."""
    monkeypatch.setattr(operator, "MOST_COMPLETE", 1)


def noise(domain, n=2):
    return np.random.default_rng(0).standard_normal((n, *domain.shape))


@pytest.mark.parametrize("preserve", ["gradient", "value"])
@pytest.mark.parametrize(
    "options",
    [
        {"integrator": "backward-euler"},
        {"integrator": "pade02", "dt": 2e-3, "mean": "keep", "C": 2.0},
        {"integrator": "solve_ivp"},
        {"integrator": "exact"},
    ],
    ids=lambda x: x["integrator"],
)
def test_few_modes_step_as_all(options, preserve, few, monkeypatch):
    """The states of schemes lie in the space that resolves the flow, and two solutions share it."""
    mesh, times = Mesh.disc(2, n_modes=12), [1e-4, 0.01, 0.1]
    u_0 = noise(mesh) + 1
    ours = RenormalizedFlow(mesh, preserve).solve(u_0, times, "finite-difference", **options)
    monkeypatch.undo()
    whole = RenormalizedFlow(Mesh.disc(2, n_modes=12), preserve).solve(u_0, times, "finite-difference", **options)
    assert ours.attrs.get("n_steps") == whole.attrs.get("n_steps")
    for name in ("u", "multiplier", "preserved", "energy_fraction"):
        laws.within(ours[name], whole[name], 1e-10 * np.abs(whole[name].values).max(), label=name)


def test_solve_ivp_on_elements():
    """With a mass matrix that is not diagonal: the exact flow, to the tolerance."""
    mesh = Mesh.disc(1, n_modes=10)
    u_0, times = mesh.points.prod(axis=0) + mesh.points[0], [0.01, 0.1]
    flow = RenormalizedFlow(mesh)
    exact, stepped = flow.solve(u_0, times), flow.solve(u_0, times, "finite-difference", integrator="solve_ivp")
    laws.within(stepped.u, exact.u, 1e-6)
    assert stepped.attrs["n_evaluations"] < 400  # Newton's method has the right matrix


@pytest.mark.parametrize("integrator", [*SCHEMES_OF_ANY_STEP, "crank-nicolson"])
def test_a_full_mask_of_many_cells_steps_as_the_box(integrator):
    """Also where the first steps are much shorter than the only time that is asked for."""
    mask, box = Mask(np.ones(MANY, dtype=bool), n_modes=20), Box(MANY, [n / max(MANY) for n in MANY])
    assert not mask.discrete.is_complete
    u_0 = noise(box, 1)[0]
    ours, theirs = (
        RenormalizedFlow(d).solve(u, 0.5, "finite-difference", integrator=integrator)
        for d, u in ((mask, u_0.ravel()), (box, u_0))
    )
    tolerance = 1e-10
    if SCHEMES[integrator].bound(1.0, 2.0) < np.inf:  # by an upper bound of the highest eigenvalue, other steps
        assert 0 < ours.attrs["n_steps"] - theirs.attrs["n_steps"] < 0.2 * theirs.attrs["n_steps"]
        tolerance = 0.01
    else:
        assert ours.attrs["n_steps"] == theirs.attrs["n_steps"]
    largest = np.abs(theirs.u.values).max()
    laws.within(mask.image(ours.u.values), theirs.u.values, tolerance * largest)


def test_highest_eigenvalue():
    mask, box = Mask(np.ones(MANY, dtype=bool), n_modes=5), Box(MANY, [n / max(MANY) for n in MANY]).discrete
    assert 1 < mask.highest_eigenvalue / box.eigenvalues.max() < 1.06
    mesh = Mesh.disc(1, n_modes=5)
    assert 1 < mesh.highest_eigenvalue / mesh.discrete.highest_eigenvalue < 1.06


def test_stability_of_many_unknowns():
    """Eq. (23) by the mode number in order of the eigenvalue, on more cells than have all their modes."""
    flow = RenormalizedFlow(Mask(np.ones(MANY, dtype=bool), n_modes=12))
    checked = flow.check_stability(2, 4, solvers=["spectral", "pade02"])
    expected = np.sort(Box(MANY, [n / max(MANY) for n in MANY]).discrete.eigenvalues.ravel())[:4]
    laws.within(checked.theory, expected[2] - expected, 1e-9)
    laws.within(checked.jacobian.values[[0, 1, 3]], checked.theory.values[[0, 1, 3]], 1e-9)
    assert checked.jacobian.values[2] == pytest.approx(2 * expected[2], rel=1e-10)
    assert checked.verdict.values.tolist() == ["unstable"] * 2 + ["fixed by the constraint", "stable"]


def test_stability_of_elements(few):
    """By all solvers that take steps of any length, on few modes of many."""
    flow = RenormalizedFlow(Mesh.disc(1, n_modes=8))
    checked = flow.check_stability(1, 4)
    assert checked.solver.values.tolist() == ["spectral", "exact", *SCHEMES_OF_ANY_STEP, "solve_ivp"]
    assert checked.verdict.values.tolist() == ["unstable", "fixed by the constraint", "neutral", "stable"]
    u = flow.steady_state(3)
    ds = flow.solve(u, [0.0, 0.05])
    laws.within(ds.multiplier, flow.domain.eigenvalue(3), 1e-9)
    assert flow.growth_rate(3, 1) == flow.domain.eigenvalue(3) - flow.domain.eigenvalue(1)
