"""Boxes and their eigenpairs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmath.pde import Box
from tests import laws
from tests.strategies import boxes


def modes(box):
    return st.tuples(*[st.integers(0, n - 1) for n in box.shape])


@given(st.data())
def test_eigenfunctions_are_orthonormal(data):
    """In the discrete inner product with the cells' volumes, exactly: the points are Gaussian for these cosines."""
    box = data.draw(boxes())
    j, k = data.draw(modes(box)), data.draw(modes(box))
    product = (box.eigenfunction(j) * box.eigenfunction(k)).sum() * box.cell_volume
    assert product == pytest.approx(float(j == k), abs=1e-12)


@given(st.data())
def test_transform_finds_the_modes(data):
    """to_modes of an eigenfunction is a unit vector at its mode number; to_grid is the inverse; Parseval holds."""
    box = data.draw(boxes())
    k = data.draw(modes(box))
    expected = np.zeros(box.shape)
    expected[k] = 1
    np.testing.assert_allclose(box.to_modes(box.eigenfunction(k)), expected, atol=1e-13)
    u = np.random.default_rng(0).standard_normal((2, *box.shape))
    c = box.to_modes(u)
    np.testing.assert_allclose(box.to_grid(c), u, atol=1e-13)
    np.testing.assert_allclose((c**2).sum(), (u**2).sum() * box.cell_volume, rtol=1e-13)


@given(st.data())
def test_eigenvalues(data):
    """-Lap w = mu w, with the Laplacian by central differences of the cosine itself, to its order."""
    box = data.draw(boxes())
    k = data.draw(modes(box))
    mu = sum((i * math.pi / length) ** 2 for i, length in zip(k, box.lengths, strict=True))
    laws.close(box.eigenvalue(k), mu, ulps=8)
    assert box.eigenvalues[k] == box.eigenvalue(k)


def test_figure_7s_domain():
    """w_k = sqrt(2) cos(k pi x), mu_k = k^2 pi^2 on [0, 1]."""
    box = Box(shape=(256,), lengths=(1.0,))
    (x,) = box.coordinates
    np.testing.assert_allclose(x, (np.arange(256) + 0.5) / 256)
    np.testing.assert_allclose(box.eigenfunction(3), math.sqrt(2) * np.cos(3 * math.pi * x), atol=1e-14)
    assert box.eigenvalue(3) == pytest.approx(9 * math.pi**2, rel=1e-15)
    assert Box(shape=(4, 5)).lengths == (1.0, 1.0)


@given(st.data())
def test_gradient(data):
    """Of the trigonometric polynomial: against the derivative of the cosines, factor by factor."""
    box = data.draw(boxes())
    k = data.draw(modes(box))
    c = np.zeros((2, *box.shape))
    c[(0, *k)], c[(1, *k)] = 1.0, -2.0
    for axis, (i, x, length) in enumerate(zip(k, box.coordinates, box.lengths, strict=True)):
        kept = tuple(
            0 if a == axis else j for a, j in enumerate(k)
        )  # the other factors, and a constant along this axis
        factor = math.sqrt(2 if i else 1) * (-i * math.pi / length) * np.sin(i * math.pi / length * x)
        expected = box.eigenfunction(kept) * factor.reshape([-1 if a == axis else 1 for a in range(box.ndim)])
        size = math.sqrt(box.eigenvalue(k) + 1) / math.sqrt(math.prod(box.lengths)) * 2**box.ndim
        np.testing.assert_allclose(box.gradient(c)[axis], [expected, -2 * expected], rtol=0, atol=1e-13 * size)


@given(st.data())
def test_difference_laplacian(data):
    """Its eigenvectors are the sampled cosines, its eigenvalues the known ones, below those of the Laplacian."""
    box = data.draw(boxes())
    k = data.draw(modes(box))
    w = box.eigenfunction(k).ravel()
    m = box.discrete_eigenvalues
    np.testing.assert_allclose(box.laplacian @ w, -m[k] * w, rtol=0, atol=1e-12 * m.max() * abs(w).max())
    assert (m <= box.eigenvalues * (1 + 1e-15)).all()
    assert abs(box.laplacian - box.laplacian.T).max() == 0
    np.testing.assert_allclose(box.laplacian @ np.ones(w.size), 0, atol=1e-12 * m.max())


def test_nothing_shared_can_be_changed():
    box = Box(shape=(4,))
    for array in (box.coordinates[0], box.eigenvalues, box.discrete_eigenvalues):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


@pytest.mark.parametrize(("n", "length"), [(4, 1e70), (100, 1e-67)])
def test_extreme_lengths(n, length):
    """Wave numbers lie within 1e-70..1e70: a box ten times as long, or as short, is refused."""
    assert Box(shape=(n,), lengths=(length,)).eigenvalue(1) == pytest.approx((math.pi / length) ** 2, rel=1e-14)
    with pytest.raises(ValueError, match="wave numbers must lie within"):
        Box(shape=(n,), lengths=(length * 10 if length > 1 else length / 10,))


def test_bad_arguments():
    with pytest.raises(TypeError, match="shape and lengths must be tuples"):
        Box(shape=256)
    with pytest.raises(TypeError, match="shape and lengths must be tuples"):
        Box(shape=(256,), lengths=1.0)
    with pytest.raises(ValueError, match="wave numbers must lie within"):
        Box(shape=(256,), lengths=(1e-200,))
    with pytest.raises(ValueError, match=r"must have the box's shape \(4,\); the shape is \(2, 3\)"):
        Box(shape=(4,)).to_modes(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="each at least 2"):
        Box(shape=(1,))
    with pytest.raises(ValueError, match="shape must be"):
        Box(shape=())
    with pytest.raises(ValueError, match="one length for each axis; got 2 for 1"):
        Box(shape=(4,), lengths=(1, 2))
    for length in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"lengths\[0\]"):
            Box(shape=(4,), lengths=(length,))
    box = Box(shape=(4, 4))
    with pytest.raises(TypeError, match="2 integer"):
        box.eigenvalue(1)
    with pytest.raises(TypeError, match="2 integer"):
        box.eigenvalue((1.0, 2))
    with pytest.raises(ValueError, match=r"lie in 0..\[3, 3\]; got \(1, 4\)"):
        box.eigenvalue((1, 4))
