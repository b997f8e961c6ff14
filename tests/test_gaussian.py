"""Gaussians by general rules; and with them, the closed forms (5)-(9), (14)-(16) of the schedule."""

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.integrate import quad

from diffmath.gaussian import Gaussian
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import jumps

PAPER = VarianceSchedule.linear()
numbers = st.floats(-5, 5)
positive = st.floats(1e-3, 10)
# A place of size 5, rounded, moves a log density L by |x - m| / s^2 of that: for s >= 0.03, sqrt(2 L) 5 / 0.03 eps at
# most, which is below so many eps of L + 1.
PLACE = 160


@st.composite
def gaussians(draw, dim=None):
    """Isotropic and diagonal ones of one to three dimensions."""
    dim = dim or draw(st.integers(1, 3))
    mean = draw(hnp.arrays(np.float64, dim, elements=numbers))
    isotropic = draw(st.booleans())
    return Gaussian(mean, draw(positive) if isotropic else draw(hnp.arrays(np.float64, dim, elements=positive)))


def points(dim):
    return hnp.arrays(np.float64, dim, elements=numbers)


@given(st.data())
def test_density(data):
    """Eq. (1), against scipy's."""
    g = data.draw(gaussians())
    x = data.draw(points(g.dim))
    spread = np.broadcast_to(np.sqrt(g.variance), g.dim)
    expected = stats.norm.logpdf(x, g.mean, spread).sum()
    # Its terms are squares of up to (10 / 0.03)^2.
    laws.close(g.log_density(x), expected, ulps=16, scale=((x - g.mean) ** 2 / g.variance).sum() + 10)
    assert g.density(x) == np.exp(g.log_density(x))


@given(gaussians(dim=1))
def test_moments(g):
    """Of order 0, 1, 2 by quadrature: 1, the mean, the variance."""
    laws.normalised(lambda x: g.density([x]), g.mean[0], float(np.sqrt(g.variance).max()), atol=1e-11)


@given(st.data())
def test_sum_and_affine_image(data):
    """The density of a sum is the convolution; that of an affine image is by change of variables."""
    f = data.draw(gaussians(dim=1))
    a, b = data.draw(numbers.filter(lambda a: abs(a) > 0.1)), data.draw(numbers)
    x = data.draw(points(1))
    image = f.affine(a, b)
    expected = f.log_density(x) - np.log(abs(a))
    # Of an image squeezed by |a| >= 0.1 the places may be off by roundings of b, ten times as large as f's own.
    laws.close(image.log_density(a * x + b), expected, ulps=2 * 10 * PLACE, scale=abs(expected) + 10, label="image")
    g = data.draw(gaussians(dim=1))
    total = f + g
    y = total.mean + x * np.sqrt(total.variance) / 5
    integrand = f.given(y - g.mean, 1.0, g.variance)  # what z is, given that z + z' = y: where the integrand lies
    centre, width = integrand.mean[0], float(np.sqrt(integrand.variance).max())

    def convolved(u):
        z = np.array([centre + width * u])
        return width * f.density(z) * g.density(y - z)

    expected = total.density(y)
    laws.within(quad(convolved, -12, 12, epsabs=0, epsrel=1e-11)[0], expected, 1e-9 * expected, label="sum")


@given(st.data())
def test_product_and_quotient(data):
    """Precisions add; the product of the densities is the Gaussian times the factor, at any point."""
    f = data.draw(gaussians())
    g, x = data.draw(gaussians(dim=f.dim)), data.draw(points(f.dim))
    product, log_factor = f.product(g)
    left, right = f.log_density(x) + g.log_density(x), product.log_density(x) + log_factor
    size = abs(f.log_density(x)) + abs(g.log_density(x)) + 10
    laws.close(left, right, ulps=4 * 3 * PLACE, scale=size, label="density")  # three roundings in each of four
    laws.close(1 / product.variance, 1 / f.variance + 1 / g.variance, ulps=16, label="precision")
    if (g.variance > 2 * product.variance).all():
        back = product.quotient(g)
        laws.close(back.variance, np.broadcast_to(f.variance, np.shape(back.variance)), ulps=64, label="variance")
        laws.close(back.mean, f.mean, ulps=400, scale=10, label="mean")
    else:
        with pytest.raises(ValueError, match="the other variance must be larger"):
            f.quotient(f)


@given(st.data())
def test_bayes(data):
    """Eq. (10), p(x | y) p(y) = p(y | x) p(x), for any x and y."""
    prior = data.draw(gaussians())
    a, v = data.draw(numbers.filter(lambda a: abs(a) > 0.1)), data.draw(positive)
    x, y = data.draw(points(prior.dim)), data.draw(points(prior.dim))
    left = prior.given(y, a, v).log_density(x) + prior.push(a, v).log_density(y)
    right = Gaussian(a * x, v).log_density(y) + prior.log_density(x)
    # Four densities, of places up to 5 / |a| = 50.
    laws.close(left, right, ulps=4 * 10 * PLACE, scale=abs(right) + 10)


@given(jumps(n_times=2), st.floats(-3, 3), st.floats(-3, 3))
@example((PAPER, [1, 2]), 1.0, -1.0)
@example((PAPER, [499, 500]), 1.0, -1.0)
def test_posterior_of_the_schedule_is_bayes(case, x_t, x_0):
    """Eqs. (10)-(16): the general rule from (3) and (9) gives the closed forms (15) and (16)."""
    schedule, (s, t) = case
    if s == 0:
        return
    alpha_bar, variance_s = schedule.transition(s, 0)
    alpha, variance = schedule.transition(t, s)
    posterior = Gaussian([np.sqrt(alpha_bar) * x_0], variance_s).given([x_t], np.sqrt(alpha), variance)
    laws.close(posterior.variance, schedule.posterior_variance(t, s), ulps=64, label="variance")
    mean = schedule.posterior_mean(np.array([x_t]), np.array([x_0]), t, s)
    # The gain of the general rule multiplies y / a - mu, which may be as large as 1 / sqrt(alpha).
    laws.close(posterior.mean, mean, ulps=100, scale=6 / np.sqrt(alpha), label="mean")


@given(jumps(n_times=2), st.floats(-3, 3), st.floats(-3, 3))
@example((PAPER, [1, 2]), 1.0, -1.0)
@example((PAPER, [499, 500]), 1.0, -1.0)
def test_leap_and_noise_of_the_schedule(case, x_t, eps):
    """Eqs. (8), (17), (18): the leap has the law of the chain; the noise stands for the image that it leaves."""
    schedule, (s, t) = case
    alpha_bar_s, variance_s = (1.0, 0.0) if s == 0 else schedule.transition(s, 0)
    alpha, variance = schedule.transition(t, s)
    at_s = Gaussian([np.sqrt(alpha_bar_s)], alpha_bar_s + variance_s)  # of data N(1, 1)
    law = at_s.push(np.sqrt(alpha), variance)
    one, zero = np.ones(1), np.zeros(1)
    signal, noise = schedule.add_noise(one, zero, t), schedule.add_noise(zero, one, t)
    ulps = 40 + 4 * abs(np.log(schedule.alpha_bar[t]))
    laws.close(signal, law.mean, ulps=ulps, scale=1e-290, label="signal")
    laws.close(signal**2 + noise**2, law.variance, ulps=60, label="variance")
    if s == 0 or schedule.alpha_bar[t] < 1e-200:
        return
    x_0 = schedule.predict_x_0(np.array([x_t]), np.array([eps]), t)
    posterior = Gaussian(np.sqrt(alpha_bar_s) * x_0, variance_s).given([x_t], np.sqrt(alpha), variance)
    mean = schedule.posterior_mean_from_noise(np.array([x_t]), np.array([eps]), t, s)
    # The prior's mean and the place of the likelihood may be as large as 6 / sqrt(alpha).
    laws.close(posterior.mean, mean, ulps=60 + ulps, scale=12 / np.sqrt(alpha), label="mean")


@given(jumps(n_times=3), st.floats(-3, 3))
def test_chain_of_the_schedule(case, x):
    """Eqs. (2)-(9): pushing a law through two transitions is pushing it through one."""
    schedule, (r, s, t) = case
    start = Gaussian([x], 0.3)

    def push(law, to, since):
        alpha, variance = schedule.transition(to, since)
        return law.push(np.sqrt(alpha), variance)

    two, one = push(push(start, s, r), t, s), push(start, t, r)
    ulps = 40 + 4 * abs(np.log(schedule.alpha_bar[t]))
    laws.close(two.mean, one.mean, ulps=ulps, scale=1e-290, label="mean")
    laws.close(two.variance, one.variance, ulps=60, label="variance")


def test_batches_and_samples():
    """Leading axes are a batch; samples have the law, to 5 standard errors."""
    g = Gaussian([[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [0.5, 0.1]])
    assert g.log_density(np.zeros(2)).shape == (2,)
    for i in range(2):
        alone = Gaussian(g.mean[i], g.variance[i])
        assert g.log_density(np.ones(2))[i] == alone.log_density(np.ones(2))
    x = g.sample(np.random.default_rng(0), 100_000)
    assert x.shape == (100_000, 2, 2)
    for i, j in np.ndindex(2, 2):
        laws.sample_mean(x[:, i, j], g.mean[i, j])
        laws.sample_mean((x[:, i, j] - g.mean[i, j]) ** 2, g.variance[i, j])
        within = np.abs(x[:, i, j] - g.mean[i, j]) < np.sqrt(g.variance[i, j])
        laws.sample_mean(within, math.erf(math.sqrt(0.5)))  # not any other law of this mean and variance


def test_batches_broadcast():
    """Each member as if alone, whichever of the arguments has the batch."""
    one, many = Gaussian([1.0, 2.0], 0.5), Gaussian([[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [0.7, 0.9]])
    a, v, y = (
        np.array([[2.0, 3.0], [-1.0, 4.0]]),
        np.array([[0.3, 0.1], [0.2, 5.0]]),
        np.array([[1.0, -1.0], [0.5, 0.0]]),
    )
    results = {
        "sum": (one + many, lambda i: one + Gaussian(many.mean[i], many.variance[i])),
        "affine": (one.affine(a, y), lambda i: one.affine(a[i], y[i])),
        "product": (one.product(many)[0], lambda i: one.product(Gaussian(many.mean[i], many.variance[i]))[0]),
        "quotient": (one.quotient(many), lambda i: one.quotient(Gaussian(many.mean[i], many.variance[i]))),
        "push": (one.push(2.0, v), lambda i: one.push(2.0, v[i])),
        "push by": (one.push(a, 1.0), lambda i: one.push(a[i], 1.0)),
        "given": (one.given(y, 2.0, 1.0), lambda i: one.given(y[i], 2.0, 1.0)),
        "given by": (one.given(y[0], a, 1.0), lambda i: one.given(y[0], a[i], 1.0)),
        "given with": (one.given(y[0], 2.0, v), lambda i: one.given(y[0], 2.0, v[i])),
    }
    for name, (together, alone) in results.items():
        assert together.mean.shape == (2, 2), name
        variance = np.broadcast_to(together.variance, (2, 2))
        for i in range(2):
            laws.close(together.mean[i], alone(i).mean, ulps=4, label=name)
            laws.close(variance[i], np.broadcast_to(alone(i).variance, 2), ulps=4, label=name)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda g, other: g + Gaussian(other, 9.0), "the other mean"),
        (lambda g, other: g.product(Gaussian(other, 9.0)), "the other mean"),
        (lambda g, other: g.quotient(Gaussian(other, 9.0)), "the other mean"),
        (lambda g, other: g.affine(other), "scale"),
        (lambda g, other: g.affine(1.0, other), "shift"),
        (lambda g, other: g.push(other, 1.0), "scale"),
        (lambda g, other: g.push(1.0, other), "variance"),
        (lambda g, other: g.given(other, 1.0, 1.0), "y"),
        (lambda g, other: g.given(g.mean, other, 1.0), "scale"),
        (lambda g, other: g.given(g.mean, 1.0, other), "variance"),
    ],
)
def test_the_dimension_does_not_broadcast(call, name):
    """What has another d is refused, were it 1, on either side; a single number is for every component."""
    for d, shape in ((3, (1,)), (1, (3,)), (3, (2, 1)), (1, (2, 3)), (2, (3,))):
        with pytest.raises(
            ValueError, match=re.escape(f"{name} must have d = {d} entries in its last axis; its shape is {shape}")
        ):
            call(Gaussian(np.ones(d), 1.0), np.ones(shape))
    call(Gaussian(np.ones(3), 1.0), np.ones((2, 3)))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"mean must have shape \(\.\.\., d\)"):
        Gaussian(1.0, 1.0)
    with pytest.raises(ValueError, match="mean must be finite"):
        Gaussian([np.nan], 1.0)
    for variance in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="variance must be positive and finite"):
            Gaussian([0.0], variance)
    with pytest.raises(ValueError, match=r"broadcastable to the mean's shape \(2,\); its shape is \(3,\)"):
        Gaussian([0.0, 1.0], [1.0, 1.0, 1.0])
    with pytest.raises(TypeError, match="mean must be real numbers"):
        Gaussian([1j], 1.0)
    g = Gaussian([0.0, 1.0], 1.0)
    with pytest.raises(ValueError, match="x must have d = 2 entries"):
        g.density([1.0])
    with pytest.raises(ValueError, match="scale must not be zero"):
        g.given([0.0, 0.0], 0.0, 1.0)
    with pytest.raises(ValueError, match="y must be finite"):
        g.given([0.0, np.nan], 1.0, 1.0)
    with pytest.raises(ValueError, match="scale must be larger for float64"):
        g.given([0.0, 0.0], 1e-200, 1.0)
    with pytest.raises(ValueError, match="scale must not be zero"):
        g.affine(0.0)
    with pytest.raises(ValueError, match="read-only"):
        g.mean[0] = 1
    with pytest.raises(TypeError):
        g + 1
