"""Points in the plane: where they lie, and that they have about unit size."""

import numpy as np
import pytest

from diffmath import toy

DRAWS = [toy.moons, toy.rings, toy.mixture]


@pytest.mark.parametrize("draw", DRAWS)
def test_size(draw):
    points = draw(20_000, rng=0)
    assert points.shape == (20_000, 2)
    assert points.dtype == np.float64
    # Centred: five standard errors of a mean whose variance is below 1.2. Unit size: between a half and one.
    assert np.abs(points.mean(axis=0)).max() < 5 * np.sqrt(1.2 / 20_000)
    assert (points.std(axis=0) > 0.45).all()
    assert (points.std(axis=0) < 1.1).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_seeds(draw):
    assert np.array_equal(draw(5, rng=3), draw(5, rng=np.random.default_rng(3)))
    assert not np.array_equal(draw(5, rng=3), draw(5, rng=4))
    assert not np.array_equal(draw(5), draw(5))
    for bad, error in ((0, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="n must be"):
            draw(bad)
    with pytest.raises(TypeError, match="rng must be"):
        draw(5, rng="seed")


def test_without_noise():
    """On two half circles, on circles in proportion to their lengths, and at the vertices of a polygon."""
    x, y = toy.moons(1000, noise=0, rng=0).T
    upper, lower = np.hypot(x + 0.5, y + 0.25), np.hypot(x - 0.5, y - 0.25)
    on_upper, on_lower = (np.isclose(upper, 1) & (y >= -0.25)), (np.isclose(lower, 1) & (y <= 0.25))
    assert (on_upper | on_lower).all()
    assert abs(on_upper.mean() - 0.5) < 5 * 0.5 / np.sqrt(1000)
    radii = np.hypot(*toy.rings(4000, (1, 3), noise=0, rng=0).T)
    assert np.allclose(np.where(radii < 2, 1, 3), radii)
    assert abs((radii < 2).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)
    points = toy.mixture(1000, 3, std=0, rng=0)
    assert len(np.unique(points.round(9), axis=0)) == 3
    assert np.allclose(np.hypot(*points.T), np.sqrt(2))


def test_noise():
    """A ring of radius 0 is its noise alone."""
    points = toy.rings(20_000, (0, 1e-9), noise=0.3, rng=0)
    np.testing.assert_allclose(points.std(axis=0), 0.3, rtol=5 / np.sqrt(2 * 20_000))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: toy.moons(5, -1),
        lambda: toy.rings(5, (-1, 1)),
        lambda: toy.rings(5, (0,)),
        lambda: toy.mixture(5, std=np.inf),
    ],
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="must"):
        bad()
