"""Initial conditions by name and by expression."""

import numpy as np
import pytest

from diffmath.pde import Box
from diffmath.pde.initial import bump, modes_from, noise, random_modes, step


@pytest.mark.parametrize("position", [0.5, 0.3, 0.123456, 0.999])
def test_step_is_cell_averages(position):
    """So that its mean is that of the step itself, wherever that lies within a cell."""
    u = step(Box(shape=(7, 3)), position)
    assert u.shape == (7, 3)
    assert u.mean() == pytest.approx(1 - 2 * position, abs=1e-15)
    assert ((u == -1) | (u == 1)).sum() >= 6 * 3
    assert (np.diff(u, axis=0) >= 0).all()


def test_bump_and_noise():
    box = Box(shape=(200, 100), lengths=(1.0, 3.0))
    u = bump(box, 0.5, 0.05)
    x, y = box.coordinates
    i, j = 120, 60
    assert u[i, j] == pytest.approx(np.exp(-((x[i] - 0.5) ** 2 + (y[j] / 3 - 0.5) ** 2) / (2 * 0.05**2)), rel=1e-12)
    np.testing.assert_array_equal(noise(box, np.random.default_rng(3)), noise(box, np.random.default_rng(3)))
    box = Box(shape=(2000,))
    share = box.eigenvalues * box.to_modes(random_modes(box, np.random.default_rng(0))) ** 2
    # 1000 squares of Gaussians in each half: the halves agree within 5 standard errors.
    assert share[1:1001].sum() == pytest.approx(share[1000:].sum(), rel=5 * np.sqrt(4 / 1000))
    assert share.sum() == pytest.approx(1, abs=5 * np.sqrt(2 / 2000))


def test_modes_from():
    assert modes_from("w5 + 1e-4 w2 - 3*w1") == {(5,): 1.0, (2,): 1e-4, (1,): -3.0}
    assert modes_from(" -.5w_1,0+ 2.w0,12 ") == {(1, 0): -0.5, (0, 12): 2.0}
    assert modes_from("w1 + w1") == {(1,): 2.0}
    for wrong in ("", "w", "5", "w1 w2", "w1 +", "w1 + v2", "w1,2 + w3", "w1.5", "1e999x", "w1 * 2"):
        with pytest.raises(ValueError, match="the expression must"):
            modes_from(wrong)
