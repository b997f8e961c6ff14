"""Norms on any domain: their formulas, their multipliers, and users' functions that misbehave."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from diffmath.domains.boundaries import BOUNDARIES
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.norms import NORMS, Norm, QuadraticNorm, UserNorm, as_norm
from tests import laws
from tests.strategies import boxes

BOX = Box(64)
POWERS = {"value": 0, "gradient": 1, "laplacian": 2, "total_variation": None}
U_0 = 0.25 + BOX.to_values(np.array([0.0, 1.0, 0.5, -0.3] + [0.0] * 60))


def root_mean_square(u):
    return float(np.sqrt((u * u).sum()))


def spoiling(u):
    """The norm without the mean, by a function that removes it from its very argument."""
    u -= u.mean()
    return root_mean_square(u)


class Careful:
    """The same, in a copy, with its derivative; arrays for it are read-only."""

    def __call__(self, u):
        return root_mean_square(u - u.mean())

    def derivative(self, u, direction):
        assert not u.flags.writeable
        assert not direction.flags.writeable
        v = u - u.mean()
        return float((v * direction).sum()) / root_mean_square(v)


@pytest.mark.parametrize("mean", ["keep", "project"])
def test_a_function_that_writes_into_its_argument_changes_nothing(mean):
    """The solution is that of a function which does not, and that of the norm itself."""
    times = [0.0, 0.01, 0.1]
    spoilt, careful = (RenormalizedFlow(BOX, N).solve(U_0, times, mean=mean) for N in (spoiling, Careful()))
    np.testing.assert_allclose(spoilt.u, careful.u, rtol=0, atol=1e-13)
    np.testing.assert_allclose(spoilt.multiplier, careful.multiplier, rtol=1e-8)
    evolved = RenormalizedFlow(BOX, spoiling).evolve(U_0, times, mean=mean)
    np.testing.assert_allclose(evolved, careful.u, rtol=0, atol=1e-13)
    if mean == "project":
        known = RenormalizedFlow(BOX, "value").solve(U_0, times)
        np.testing.assert_allclose(spoilt.u, known.u, rtol=0, atol=1e-13)
    steady = RenormalizedFlow(BOX, spoiling).steady_state(2)
    np.testing.assert_allclose(steady, RenormalizedFlow(BOX, Careful()).steady_state(2), atol=1e-14)


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
def test_a_multiplier_does_not_depend_on_the_size(size):
    """With the user's derivative, and with differences."""
    c = size * BOX.to_modes(U_0 - U_0.mean())
    expected = NORMS["value"].multiplier(BOX, c)
    for norm, tolerance in ((UserNorm(Careful()), 1e-12), (UserNorm(root_mean_square), 1e-8)):
        np.testing.assert_allclose(norm.multiplier(BOX, c), expected, rtol=tolerance)
    constant = size * BOX.to_modes(np.ones(64)) * (BOX.eigenvalues == 0)
    assert UserNorm(root_mean_square).multiplier(BOX, constant) == 0


@given(
    boxes(max_cells=6, boundaries=tuple(BOUNDARIES)), st.booleans(), st.sampled_from(list(NORMS)), st.integers(0, 99)
)
def test_norms(box, discrete, name, seed):
    """Positive, homogeneous, without the mean where it does not count, with the multiplier of the heat flow."""
    # On two periodic cells the only wave is a sine, whose slope vanishes at the cell centres.
    flat = all(n == 2 and b == "periodic" for n, b in zip(box.shape, box.boundary, strict=True))
    assume(discrete or name != "total_variation" or not flat)
    domain, norm = box.discrete if discrete else box, NORMS[name]
    c = np.random.default_rng(seed).standard_normal((3, *box.shape))
    size = norm.size(domain, c)
    laws.close(norm.size(domain, -3 * c), 3 * size, ulps=64, label="homogeneous")
    laws.close(norm.value(domain, domain.to_values(c.copy())), size, ulps=512, label="value")
    laws.close(norm.shares(domain, c).reshape(3, -1).sum(axis=1), 1, ulps=64, label="shares")
    if not norm.sees_mean:
        moved = c + np.where(domain.null_modes, 5.0, 0.0)
        laws.close(norm.size(domain, moved), size, ulps=64, label="mean")
    if norm.power is not None:
        mu = domain.eigenvalues
        terms = (mu**norm.power * c**2).reshape(3, -1)
        laws.close(size**2, terms.sum(axis=1), ulps=128, label="sum")
        expected = (terms * mu.ravel()).sum(axis=1) / terms.sum(axis=1)
        laws.close(norm.multiplier(domain, c), expected, ulps=128, label="multiplier")
    elif (np.abs(domain.gradient(c)).min() if domain.ndim == 1 else 1.0) > 0.1:
        h = 1e-6 / domain.eigenvalues.max()
        before, after = (norm.size(domain, c * np.exp(-domain.eigenvalues * dt)) for dt in (-h, h))
        slope = np.log(before / after) / (2 * h)
        # Corners of |u'| move across no zero within so short a time; else it is smooth but for rounding.
        laws.within(norm.multiplier(domain, c), slope, 1e-4 * domain.eigenvalues.max(), label="slope")


def test_values_of_any_magnitude():
    for name, norm in NORMS.items():
        size = norm.value(BOX, U_0)
        for a in (1e-200, 1e200):
            assert norm.value(BOX, a * U_0) == pytest.approx(a * size, rel=1e-13), name
    with pytest.raises(ValueError, match="must be positive and finite; it is 0"):
        NORMS["gradient"].value(BOX, np.zeros(64))


def test_a_norm_of_ones_own():
    """An object in place of a name; s = 3 is a norm that the package does not have."""
    norm = QuadraticNorm("third", 3, "integral of |grad Lap u|^2")
    ds = RenormalizedFlow(BOX, norm).solve(U_0, [0.0, 0.01])
    assert ds.attrs["preserve"] == "third"
    assert ds.preserved.attrs["long_name"] == "integral of |grad Lap u|^2"
    np.testing.assert_allclose(ds.preserved, (BOX.eigenvalues**3 * BOX.to_modes(U_0) ** 2).sum(), rtol=1e-12)


def test_as_norm():
    assert as_norm("value") is NORMS["value"]
    assert as_norm(NORMS["value"]) is NORMS["value"]
    assert isinstance(as_norm(root_mean_square), UserNorm)
    assert as_norm(root_mean_square).name == "root_mean_square"
    assert all(isinstance(norm, Norm) and norm.name == name for name, norm in NORMS.items())
    assert {name: NORMS[name].power for name in POWERS} == POWERS
    for unknown in ("mass", 3, None):
        with pytest.raises(ValueError, match='preserve must be "gradient", "value"'):
            as_norm(unknown)


def test_user_norms_that_are_not_norms():
    with pytest.raises(ValueError, match=r"must obey N\(a u\) = \|a\| N\(u\)"):
        RenormalizedFlow(BOX, lambda u: math.exp(float(np.abs(u).max()))).evolve(U_0, 0.1)
    with pytest.raises(ValueError, match="must be positive and finite; it is nan"):
        RenormalizedFlow(BOX, lambda u: math.nan).evolve(U_0, 0.1)


class Slope:
    """A functional whose derivative is no number."""

    def __call__(self, u):
        return root_mean_square(u)

    def derivative(self, u, direction):
        return direction


@pytest.mark.parametrize("wrong", [lambda u: None, lambda u: u, lambda u: "x", lambda u: 1j, Slope()])
def test_functionals_return_numbers(wrong):
    with pytest.raises(TypeError, match="the functional to preserve and its derivative return must be"):
        RenormalizedFlow(BOX, wrong).solve(U_0, [0.01])
