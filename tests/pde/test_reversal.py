"""The flow under noise as a generative model: harmonics, the Fokker-Planck equation, and the way back."""

import math

import numpy as np
import pytest
from scipy import special

from diffmath.pde.harmonics import Harmonics
from diffmath.pde.invariant import Bingham, circle_density
from diffmath.pde.reversal import SphereModel, graded_times
from diffmath.pde.stochastic import step


def on_the_circle(rates=(1.0, 4.0), D=(2.0, 1.0)):
    """Two bumps, of which harmonics of degree 48 leave 1e-9."""

    def density(z):
        a, b = (np.cos(at) * z[0] + np.sin(at) * z[1] for at in (1, 4))
        return np.exp(8 * a) + 0.6 * np.exp(20 * b - 12)

    return SphereModel(density, rates, D, degree=48)


def on_the_sphere(rates=(1.0, 2.0, 4.0), D=(2.0, 2.0, 2.0), degree=10):
    """Two bumps, of which harmonics of degree 10 leave 1e-6."""

    def density(z):
        return np.exp(3 * (0.6 * z[0] + 0.8 * z[2])) + 0.5 * np.exp(3 * (0.6 * z[1] - 0.8 * z[0]))

    return SphereModel(density, rates, D, degree=degree)


SPACES = ["circle", "sphere"]
MODELS = [on_the_circle(), on_the_sphere(D=(3.0, 1.0, 2.0), degree=16)]
UNEQUAL = pytest.mark.parametrize("model", MODELS, ids=SPACES)


@pytest.mark.parametrize(("n", "size"), [(2, 11), (3, 36)])
def test_harmonics(n, size):
    """They are orthonormal, up to degree 5; derivatives are those of polynomials; their squares are the Laplacian."""
    h = Harmonics(n, 5)
    Y = h.basis(h.points)
    assert Y.shape[0] == size
    np.testing.assert_allclose((Y * h.weights) @ Y.T, np.eye(size), atol=1e-13)
    rng = np.random.default_rng(0)
    a, z = rng.standard_normal(n), rng.standard_normal((n, 7))
    z /= np.linalg.norm(z, axis=0)
    c = h.coefficients((a @ h.points) ** 2)
    np.testing.assert_allclose(h.values(c, z), (a @ z) ** 2, atol=1e-12)
    for j in range(n):
        np.testing.assert_allclose(h.values(h.multiplication[j] @ c, z), z[j] * (a @ z) ** 2, atol=1e-12)
        slope = 2 * (a @ z) * (a[j] - z[j] * (a @ z))
        np.testing.assert_allclose(h.values(h.derivative[j] @ c, z), slope, atol=1e-12)
    low = h.degrees <= 3
    laplacian = sum(G @ G for G in h.derivative)
    np.testing.assert_allclose(laplacian[np.ix_(low, low)], np.diag(h.laplacian[low]), atol=1e-12)


@UNEQUAL
def test_the_density_is_that_of_the_steps(model):
    """Steps of weak order 2 take the initial law to the density's moments, without sampling: 20 steps to t = 0.1."""
    dt, h, rates = 0.005, model.harmonics, model.rates - model.rates.min()
    noise = np.sqrt(model.spread * dt)[:, None]
    moved = h.advance(np.eye(len(h.degrees)), lambda z, xi, order: step(z, rates, dt, noise * xi, order), 3)
    c = model.coefficients(0.0)
    for _ in range(20):
        c = moved @ c
    low = h.degrees <= 4
    np.testing.assert_allclose(c[low], model.coefficients(0.1)[low], atol=2e-4)
    assert np.abs(c - model.coefficients(0.0))[low].max() > 0.05


@UNEQUAL
def test_densities(model):
    """They are positive, of mass 1 and a semigroup."""
    h = model.harmonics
    for t in (0.05, 1.0, math.inf):
        p = model.density(h.points, t)
        assert h.weights @ p == pytest.approx(1, rel=1e-10)
        assert p.min() > 0
    later = SphereModel(lambda z: model.density(z, 0.3), model.rates, model.spread, degree=h.degree)
    np.testing.assert_allclose(later.coefficients(0.2), model.coefficients(0.5), atol=1e-8)


def test_invariant_laws():
    """That of two modes is eq. (27); that of three with equal D is Bingham's, for which eq. (28) has the moments."""
    theta = np.linspace(0, 2 * np.pi, 50)
    z = np.array([np.cos(theta), np.sin(theta)])
    expected = circle_density(theta, [1.0, 4.0], [2.0, 1.0])
    np.testing.assert_allclose(on_the_circle().density(z), expected, atol=1e-8)
    model = on_the_sphere()
    h = model.harmonics
    p = model.density(h.points)
    logarithm = np.log(p) + model.rates / 2 @ h.points**2
    np.testing.assert_allclose(logarithm, logarithm[0], atol=1e-4)  # of degree 10
    moments = Bingham(model.rates / 2).moments()
    np.testing.assert_allclose((h.weights * p * h.points**2).sum(axis=1), moments, atol=1e-7)
    np.testing.assert_allclose(model.coefficients(40.0), model.coefficients(math.inf), atol=1e-10)


@pytest.mark.parametrize(
    ("model", "equal"), [(on_the_circle(), 0.1), (on_the_sphere(), 0.01)], ids=["circle", "sphere"]
)
def test_backwards_from_the_invariant_law(model, equal):
    """Both ways back return the initial law; steps of equal length do not, and neither does too short a time."""
    times = graded_times(16.0, 200)
    assert model.total_variation(times, "ode") < 0.01
    assert model.total_variation(graded_times(16.0, 400), "sde", n_nodes=2) < 0.03
    assert model.total_variation(graded_times(16.0, 100, power=1.0), "sde", n_nodes=2) > equal
    assert model.total_variation(graded_times(0.5, 200), "ode") > 0.05


@pytest.mark.parametrize("method", ["sde", "ode"])
@pytest.mark.parametrize("model", [on_the_circle(), on_the_sphere()], ids=SPACES)
def test_samples_have_the_initial_law(model, method):
    """2,000 samples, by their first and second moments: harmonics up to degree 2 are at most 0.9, of deviation 0.02."""
    z = model.sample(model.draw(2000, 0), graded_times(8.0, 60), method, rng=1)
    np.testing.assert_allclose((z**2).sum(axis=0), 1, rtol=1e-12)
    low = model.harmonics.degrees <= 2
    mean = model.harmonics.basis(z).mean(axis=1)
    np.testing.assert_allclose(mean[low], model.coefficients(0.0)[low], atol=0.06)
    np.testing.assert_array_equal(z, model.sample(model.draw(2000, 0), graded_times(8.0, 60), method, rng=1))


def test_draws():
    """Of a density proportional to exp(4 z_1): the mean of z_1 is a ratio of Bessel functions, coth(4) - 1/4 in 3-D."""
    for n, expected in ((2, special.iv(1, 4) / special.iv(0, 4)), (3, 1 / math.tanh(4) - 1 / 4)):
        model = SphereModel(lambda z: np.exp(4 * z[0]), np.arange(1.0, n + 1), np.ones(n), degree=20)
        z = model.draw(4000, rng=0, t=0.0)
        assert z.shape == (n, 4000)
        assert z[0].mean() == pytest.approx(expected, abs=0.015)  # three deviations
    assert model.draw(0).shape == (3, 0)


def test_what_is_refused():
    model = on_the_sphere()
    rates, D = [1.0, 4.0], [2.0, 1.0]
    for make, message in (
        (lambda: SphereModel(lambda z: -np.exp(z[0]), rates, D), "density must be finite and not negative"),
        (lambda: SphereModel(lambda z: 1.0, rates, D), "density must give"),
        (lambda: SphereModel(lambda z: np.exp(80 * z[0]), rates, D), "degree must be larger than 24: .* initial"),
        (
            lambda: SphereModel(lambda z: np.exp(z[0]), rates, [200.0, 1.0]),
            "degree must be larger than 24: .* invariant",
        ),
        (lambda: SphereModel(lambda z: np.exp(z[0]), [1.0] * 4, [1.0] * 4), "rates and D must be those of 2 or 3"),
        (lambda: SphereModel(lambda z: np.exp(z[0]), rates, [0.0, 1.0]), "D positive"),
        (lambda: model.sample(np.eye(3), [0.0, 1.0]), "times must be finite, descending"),
        (lambda: model.sample(np.eye(3), [1.0, -1.0]), "times must be finite, descending and not negative"),
        (lambda: model.sample(2 * np.eye(3), [1.0, 0.0]), "start must be points on the unit sphere"),
        (lambda: model.density(2 * np.eye(3)), "z must be points on the unit sphere"),
        (lambda: model.sample(np.eye(3), [1.0, 0.0], "euler"), 'method must be "sde" or "ode"'),
        (lambda: model.total_variation([1.0]), "times must be finite, descending"),
        (lambda: model.coefficients(-1.0), "t must be positive"),
        (lambda: Harmonics(4, 2), r"n must lie in 2\.\.3; it is 4"),
        (lambda: model.harmonics.basis(np.eye(2)), r"z must be finite, of the shape \(3, B\)"),
        (lambda: model.harmonics.coefficients(np.ones(3)), "values must have the shape"),
        (lambda: model.harmonics.values(np.ones(3), np.eye(3)), "coefficients must have the shape"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="density must be callable"):
        SphereModel(1.0, rates, D)
