"""`evolve`, the bare solution: equal to that of `solve`, and exact where care is needed."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diffmath.pde import Box, RenormalizedFlow
from tests import laws
from tests.pde.flows import BOX, FLOW, grid
from tests.strategies import boxes


@settings(max_examples=min(100, settings.default.max_examples))  # of up to 9 x 9 x 9 cells at eight times
@given(boxes(), st.integers(1, 3), st.integers(0, 2**32 - 1), st.sampled_from(["gradient", "value", "laplacian"]))
@example(Box((300,)), 1, 0, "gradient")
@example(Box((70, 40), (3.0, 1.0)), 2, 0, "gradient")
@example(Box((5, 5)), 1, 0, "gradient")
def test_evolve_is_the_bare_solution(box, n_batch, seed, preserve):
    """What `solve` gives as u, in fewer passes: to a few roundings of each state's size, at all times in any order."""
    rng = np.random.default_rng(seed)
    u_0 = rng.standard_normal((n_batch, *box.shape))
    times = np.append(0, max(box.lengths) ** 2 * 10.0 ** rng.uniform(-6, 3, 7))
    rng.shuffle(times)
    flow = RenormalizedFlow(box, preserve)
    expected = flow.solve(u_0, times).u.values
    size = np.abs(expected).max(axis=tuple(range(2, expected.ndim)), keepdims=True)
    laws.close(flow.evolve(u_0, times), expected, ulps=12, scale=size, label="u")
    laws.within(flow.evolve(u_0, times, C=2.0), flow.solve(u_0, times, C=2.0).u, 1e-12, label="C")


def test_evolve_where_it_must_take_care():
    """A lowest mode that is small or absent, a kept mean, time backwards and at infinity, extreme sizes, float32."""
    u_0 = np.stack([grid([1.0, 0.5]), grid([0.2, -0.4, 0.3])])
    absent = np.zeros(64)
    absent[[3, 9]] = 1.0
    for u, times, options in (
        (u_0, [0.1, -1e-4, 0.0], {"mean": "keep", "C": 2.0}),
        (u_0, [0.1, -1e-4], {}),
        (u_0, [math.inf, 0.1], {}),
        (BOX.to_grid(absent), [0.001, 0.0], {}),
        (1e50 * BOX.to_grid(absent), [0.001, 0.0], {}),
        (np.stack([u_0[0], BOX.to_grid(absent)]), [0.001, 0.0], {}),
        (1e-140 * u_0, [0.1], {}),
        (1e140 * u_0, [0.1], {}),
    ):
        expected = FLOW.solve(u, times, **options).u.values
        np.testing.assert_array_equal(FLOW.evolve(u, times, **options), expected)
    assert FLOW.evolve(u_0[0].astype(np.float32), 0.1).dtype == np.float32
    assert FLOW.evolve(u_0[0], 0.1).shape == (1, 64)
    kept = u_0.copy()
    forth, back = FLOW.evolve(u_0, [0.0, 0.1]), FLOW.evolve(u_0, [0.1, 0.0])
    np.testing.assert_array_equal(u_0, kept)
    np.testing.assert_array_equal(forth, back[:, ::-1])


@pytest.mark.parametrize("cell", [0, 1, 5])
def test_one_cell_that_differs(cell):
    """Is enough not to be constant."""
    u_0 = (np.arange(6) == cell).astype(float)
    ds = RenormalizedFlow(Box((6,))).solve(u_0, 0.0)
    np.testing.assert_allclose(ds.u[0], u_0 - 1 / 6, atol=1e-15)


@pytest.mark.parametrize("n_cells", [5_000, 1 << 15, 1 << 18])
def test_evolve_on_fine_grids(n_cells):
    """Where k^2 leaves few bits for the time, and every mode counts: as exact as `solve`, to some roundings."""
    flow = RenormalizedFlow(Box((n_cells,)))
    u_0 = np.random.default_rng(0).standard_normal(n_cells)
    for octaves in (1.0, 30.0, 120.0):
        t = octaves * math.log(2) / (math.pi * n_cells) ** 2
        expected = flow.solve(u_0, t).u.values
        # Transforms of so many values, and sums over as many, twice.
        laws.close(flow.evolve(u_0, t), expected, ulps=50, scale=np.abs(expected).max())


@pytest.mark.parametrize("short", [1e-3, 1e-6, 1e-8])
def test_flat_boxes(short):
    """A short, fine axis has long decayed when the long one has hardly begun; infinity is that of the slowest mode."""
    flow = RenormalizedFlow(Box((8, 64), (1.0, short)))
    line = RenormalizedFlow(Box((8,)))
    u = line.solve_modes({1: 1.0, 2: 1.0}, [0.1, 1.0, math.inf])
    plane = flow.solve_modes({(1, 0): 1.0, (2, 0): 1.0, (1, 5): 3.0}, [0.1, 1.0, math.inf], C=float(u.energy[0]))
    np.testing.assert_allclose(plane.amplitude.values[..., 0], u.amplitude.values, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(plane.multiplier, u.multiplier, rtol=1e-13)
    batch = np.zeros((2, 8, 64))
    batch[0, 1, 0] = batch[0, 2, 0] = batch[1, 0, 1] = batch[1, 0, 2] = 1.0  # one slow, one fast
    for times in ([math.inf], [-math.inf], [0.1, 0.2]):
        together = flow.solve_modes(batch, times).energy_fraction.values
        for member, share in zip(batch, together, strict=True):
            alone = flow.solve_modes(member, times).energy_fraction.values
            np.testing.assert_allclose(share, alone, rtol=0, atol=1e-14)
        if times == [math.inf]:
            np.testing.assert_allclose([together[0, 0, 1, 0], together[1, 0, 0, 1]], 1, rtol=1e-14)


@pytest.mark.parametrize("k", [20, 250])
def test_evolve_of_a_weak_lowest_mode(k):
    """Where modes 1 and k become level, at mu_k t = 30: few larger exponents matter."""
    box = Box(shape=(300,))
    c = np.zeros(300)
    c[1], c[k] = 1e-13, 1.0
    u_0, level = box.to_grid(c), math.log(1e13) / (box.eigenvalue(k) - box.eigenvalue(1))
    times = level * np.linspace(0.9, 1.1, 9)
    flow = RenormalizedFlow(box)
    for got, want in zip(flow.evolve(u_0, times), flow.solve(u_0, times).u.values, strict=True):
        laws.close(got, want, ulps=12, scale=abs(want).max())
