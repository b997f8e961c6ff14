"""What the flow preserves: the paper's energy, other norms, and functions of the user's own."""

import math

import numpy as np
import pytest
from hypothesis import given

from diffmath.pde import Box, RenormalizedFlow
from tests import laws
from tests.pde.flows import BOX, FLOW, FUNCTIONALS, TIMES, grid
from tests.strategies import spectra


@given(spectra())
def test_energy_is_kept_and_the_multiplier_never_rises(c):
    """Eq. (21); d lambda / dt = -2 Var_p(mu) <= 0; lambda ends at the lowest mode's mu."""
    ds = FLOW.solve(grid(c), TIMES)
    laws.conserved(ds.energy.values, ulps=64)
    laws.never_rises(ds.multiplier.values, ulps=64)
    laws.within(ds.energy_fraction.sum("k_x"), 1, 1e-14, label="shares")
    laws.within(ds.multiplier.values[-1], math.pi**2, 1e-14 * math.pi**2, label="multiplier")


def test_energy_is_the_papers():
    """The integral (21) of the solution itself, by a fine quadrature of its derivative, and C from the formula."""
    c = [0.5, -0.3, 0.2]
    ds = FLOW.solve(grid(c), [0.0, 0.05])
    x = (np.arange(20_000) + 0.5) / 20_000
    for i in range(2):
        modes = BOX.to_modes(ds.u.values[i])[:6]
        slope = -sum(b * math.sqrt(2) * k * math.pi * np.sin(k * math.pi * x) for k, b in enumerate(modes))
        assert (slope**2).mean() == pytest.approx(ds.energy.values[i], rel=1e-10)
        assert ds.energy.values[i] == pytest.approx(sum((k * math.pi * a) ** 2 for k, a in enumerate(c, start=1)))


def test_energy_of_a_step_is_2_log_2_of_the_differences():
    """It grows with the resolution, for both; with one C the solutions agree in scale too."""
    energies = []
    for n in (512, 1024):
        box = Box(shape=(n,))
        flow, u_0 = RenormalizedFlow(box), np.where(box.coordinates[0] < 0.5, -1.0, 1.0)
        spectral = flow.solve(u_0, 0.01)
        energies.append([spectral.energy.item(), flow.solve(u_0, 0.0, "finite-difference").energy.item()])
    noise = np.random.default_rng(0).standard_normal(1 << 16)
    of_noise = RenormalizedFlow(Box(noise.shape))
    spectral_noise, difference_noise = (
        of_noise.solve(noise, 0.0, m).energy.item() for m in ("spectral", "finite-difference")
    )
    assert spectral_noise / difference_noise == pytest.approx(math.pi**2 / 6, rel=0.02)  # 5 sigma is 0.015
    energies = np.array(energies)
    np.testing.assert_allclose(energies[1] / energies[0], 2, rtol=1e-2)
    np.testing.assert_allclose(energies[:, 0] / energies[:, 1], 2 * math.log(2), rtol=1e-4)
    middle = np.where(box.coordinates[0] < 0.5, -1.0, 1.0)
    middle[n // 2] = 0  # the cell's average of a jump in its middle
    halves = [flow.solve(middle, 0.0, m).energy.item() for m in ("spectral", "finite-difference")]
    assert halves[0] / halves[1] == pytest.approx(4 * math.log(2) - math.pi**2 / 6, rel=1e-4)
    u, scaled = spectral.u, flow.solve(u_0, 0.01, C=3.0)
    np.testing.assert_allclose(scaled.energy, 3, rtol=1e-14)
    np.testing.assert_allclose(scaled.u, u * math.sqrt(3 / spectral.energy.item()), rtol=1e-12, atol=1e-14)
    differences = flow.solve(u_0, 0.01, "finite-difference", C=3.0)
    np.testing.assert_allclose(differences.energy, 3, rtol=1e-12)
    np.testing.assert_allclose(differences.u, scaled.u, atol=2e-3)


@pytest.mark.parametrize("preserve", FUNCTIONALS, ids=lambda p: p if isinstance(p, str) else "callable")
@pytest.mark.parametrize("method", ["spectral", "finite-difference"])
def test_any_functional_is_preserved(preserve, method):
    """And the multiplier is -d/dt log N of the heat flow, here seen in the mean, which grows by it alone."""
    flow = RenormalizedFlow(BOX, preserve)
    u_0 = 0.1 + grid([0.4, 0.7, -0.2, 0.1])
    dt, t = 1e-5, 0.01
    ds = flow.solve(u_0, [0.0, t - dt, t, t + dt, 0.2], method, mean="keep")
    np.testing.assert_allclose(ds.preserved, ds.preserved[0], rtol=1e-12)
    growth = np.log(ds.u.mean("x").values)
    rate = (growth[3] - growth[1]) / (2 * dt)
    # Central differences in time; for finite differences steps of the second order that are not the same ones.
    assert rate == pytest.approx(ds.multiplier.values[2], rel=1e-5 if method == "spectral" else 2e-2)
    for mean in ("keep", "project"):
        scaled = flow.solve(u_0, t, method, mean=mean, C=2.0)
        np.testing.assert_allclose(scaled.preserved, 2.0, rtol=1e-12)


def test_the_total_variation_is_the_true_one():
    """Of a monotone function it is the difference of its ends, from which the flow starts and at which it stays."""
    box = Box(shape=(400,))
    flow = RenormalizedFlow(box, "total_variation")
    c = np.zeros(400)
    c[1] = 1.0
    c[3] = 0.05  # monotone: 9 * 0.05 < 1
    ends = 2 * math.sqrt(2) * (c[1] + c[3])
    ds = flow.solve_modes(c, [0.0, 0.05, 1.0])
    np.testing.assert_allclose(ds.preserved, ds.preserved[0], rtol=1e-13)
    np.testing.assert_allclose(ds.preserved, ends, rtol=1e-5)  # the midpoint rule of 400 cells: (3 pi h)^2 / 24
    # mu_1 at last; before, the rate at which the ends of the heat flow approach each other.
    v = math.sqrt(2) * c[[1, 3]] * np.exp(-np.array([1, 9]) * math.pi**2 * 0.05)
    mu = np.array([1, 9]) * math.pi**2
    np.testing.assert_allclose(ds.multiplier[1:], [(mu * v).sum() / v.sum(), mu[0]], rtol=1e-5)
    plane = Box(shape=(40, 40))  # |grad u| of a function of x + y is sqrt 2 of its slope along x
    ds = RenormalizedFlow(plane, "total_variation").solve_modes({(1, 0): 1.0, (0, 1): 1.0}, 0.0)
    x, y = np.meshgrid(*[np.linspace(0, 1, 1000, endpoint=False) + 5e-4] * 2, indexing="ij")
    expected = np.hypot(np.sin(math.pi * x), np.sin(math.pi * y)).mean() * math.sqrt(2) * math.pi
    assert ds.preserved.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", ["spectral", "finite-difference"])
def test_preserved_value_with_its_mean(method):
    """The integral of u^2, on a box that is not of unit length."""
    box = Box((16,), (2.5,))
    ds = RenormalizedFlow(box, "value").solve(0.3 + grid([1.0, 0.5], box), [0.0, 0.1], method, mean="keep")
    np.testing.assert_allclose((ds.u.values**2).sum(axis=-1) * box.cell_volume, ds.preserved, rtol=1e-13)


def test_functionals_that_cannot_be_preserved():
    u_0 = grid([1.0, 0.5])
    with pytest.raises(ValueError, match=r"must obey N\(a u\) = \|a\| N\(u\)"):
        RenormalizedFlow(BOX, lambda u: float((u**2).sum())).solve(u_0, 0.1)
    with pytest.raises(ValueError, match="must be positive and finite; it is 0.0"):
        RenormalizedFlow(BOX, lambda u: 0.0).solve(u_0, 0.1)


@pytest.mark.parametrize("preserve", FUNCTIONALS, ids=lambda p: p if isinstance(p, str) else "callable")
def test_steady_states_of_any_functional(preserve):
    """A positive multiple of w_k of the preserved quantity C: with that it has N^2 = C, or N = C, and stays."""
    flow = RenormalizedFlow(BOX, preserve)
    u, w = flow.steady_state(3, C=2.5), BOX.eigenfunction(3)
    laws.close(u, w * (u[0] / w[0]), ulps=8, scale=abs(u).max())
    assert u[0] * w[0] > 0
    ds = flow.solve(u, [0.0, 0.001])
    np.testing.assert_allclose(ds.preserved, 2.5, rtol=1e-12)
    np.testing.assert_allclose(ds.multiplier, BOX.eigenvalue(3), rtol=1e-9)


@pytest.mark.parametrize(("preserve", "s"), [("gradient", 1), ("value", 0), ("laplacian", 2), ("total_variation", 1)])
def test_shares_of_the_differences(preserve, s):
    """Of the modes in sum m^s c^2, with m of the difference Laplacian; in the energy where there is no such sum."""
    ds = RenormalizedFlow(BOX, preserve).solve(grid([1.0, 0.5, -0.3]), 0.01, "finite-difference")
    share = BOX.discrete_eigenvalues**s * BOX.to_modes(ds.u.values[0]) ** 2
    np.testing.assert_allclose(ds.energy_fraction[0], share / share.sum(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("preserve", ["value", "laplacian"])
def test_energy_is_the_integral_whatever_is_preserved(preserve):
    """The variable ``energy`` is (21), the sum of mu c^2, of solutions of any size."""
    ds = RenormalizedFlow(BOX, preserve).solve_modes({1: 30.0, 4: 10.0}, [0.0, 0.01])
    np.testing.assert_allclose(ds.energy, ds.amplitude.values**2 @ BOX.eigenvalues, rtol=1e-13)
