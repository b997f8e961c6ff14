"""A domain of one's own that supplies what is abstract and nothing else."""

import numpy as np
import pytest

from diffmath.domains import Eigenbasis
from diffmath.pde import RenormalizedFlow
from tests import laws


class Circle(Eigenbasis):
    """A circle of length 1: a constant, and pairs of cosines and sines."""

    eigenvalues = weights = coords = None  # set below
    dims, mode_dims, description = ("s",), ("k_s",), "a circle of length 1"

    def __init__(self, n):
        k = np.arange(n)
        frequency, s = 2 * np.pi * ((k + 1) // 2), k / n
        phase = np.outer(frequency, s) - np.where((k > 0) & (k % 2 == 0), np.pi / 2, 0.0)[:, None]
        root = np.where(k, np.sqrt(2), 1.0)[:, None]
        self.shape, self.weights, self.eigenvalues = (n,), np.full(n, 1 / n), frequency**2.0
        self.w, self.slope = root * np.cos(phase), -root * frequency[:, None] * np.sin(phase)
        self.coords = {"s": ("s", s), "k_s": ("k_s", k)}

    def to_modes(self, u):
        return (u * self.weights) @ self.w.T

    def to_values(self, c):
        return c @ self.w

    def gradient(self, c):
        return (c @ self.slope)[None]


CIRCLE = Circle(33)


def test_laws():
    laws.eigenbasis(CIRCLE)
    laws.green(CIRCLE, np.random.default_rng(0).standard_normal(CIRCLE.mode_shape))


def test_flow():
    """The exact flow, the steppers and eq. (23) need no more; BDF alone needs sparse matrices."""
    flow = RenormalizedFlow(CIRCLE)
    u_0 = CIRCLE.eigenfunction(1) + 0.5 * CIRCLE.eigenfunction(6)
    exact, stepped = (flow.solve(u_0, [0.0, 0.01, 1.0], method) for method in ("spectral", "finite-difference"))
    assert exact.multiplier.values[-1] == pytest.approx(4 * np.pi**2, rel=1e-12)
    np.testing.assert_allclose(stepped.u, exact.u, rtol=0, atol=1e-9)  # "exact" steps; a solution is of size 2
    checked = flow.check_stability(3, 6)
    assert "solve_ivp" not in checked.solver
    assert checked.verdict.values.tolist() == ["unstable"] * 3 + ["fixed by the constraint", "neutral", "stable"]
    with pytest.raises(ValueError, match='"solve_ivp" needs .* whose stiffness is sparse'):
        flow.solve(u_0, [0.01], "finite-difference", integrator="solve_ivp")
