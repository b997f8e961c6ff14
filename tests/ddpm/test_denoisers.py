"""Exact denoisers: against quadrature, against each other, and under Algorithm 2 against the law it must have."""

import re

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import quad

from diffmath.ddpm import sample
from diffmath.ddpm.denoisers import gaussian_denoiser, mixture_denoiser, points_denoiser
from diffmath.gaussian import Gaussian
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import covariances

PAPER = VarianceSchedule.linear()
SHORT = VarianceSchedule.linear(20, 1e-3, 0.3)


def at(denoiser, x, t):
    return denoiser(torch.tensor([[x]], dtype=torch.float64), torch.tensor([t])).item()


@given(
    st.lists(st.tuples(st.floats(-2, 2), st.floats(0.05, 1), st.floats(0.1, 1)), min_size=1, max_size=3),
    st.integers(1, 20),
    st.floats(-2, 2),
)
def test_conditional_mean_by_quadrature(components, t, x):
    """E[eps | x_t] = integral of eps p(eps) p(x_0) over all that give x_t, over the same without eps."""
    means, variances, weights = map(np.array, zip(*components, strict=True))
    alpha_bar, rest = SHORT.transition(t, 0)
    numerator = denominator = 0.0
    for m, v, w in zip(means, variances, weights, strict=True):
        posterior = Gaussian([m], v).given([x], np.sqrt(alpha_bar), rest)  # only to know where to look
        centre, width = posterior.mean[0], float(np.sqrt(posterior.variance))

        def integrand(u, power, m=m, v=v, centre=centre, width=width):
            x_0 = centre + width * u
            eps = (x - np.sqrt(alpha_bar) * x_0) / np.sqrt(rest)
            return width * eps**power * np.exp(-(eps**2) / 2 - (x_0 - m) ** 2 / (2 * v)) / np.sqrt(v)

        mass = quad(integrand, -10, 10, args=(0,), epsabs=1e-300, epsrel=1e-12)[0]
        # The noise may have a mean of 0: to a share of the mass, as more may be below the rounding of its two halves.
        numerator += w * quad(integrand, -10, 10, args=(1,), epsabs=1e-10 * mass, epsrel=1e-12)[0]
        denominator += w * mass
    if denominator < 1e-12:  # so far out that the quadrature's absolute error shows
        return
    denoiser = mixture_denoiser(SHORT, torch.tensor(means), torch.tensor(variances), torch.tensor(weights))
    expected = numerator / denominator
    laws.within(at(denoiser, x, t), expected, max(1e-8 * abs(expected), 1e-9), label="noise")


@given(st.integers(1, 500), st.floats(-3, 3), st.floats(-1, 1), st.floats(0, 2))
def test_one_component_is_a_gaussian(t, x, mean, variance):
    one = mixture_denoiser(PAPER, torch.tensor([mean], dtype=torch.float64), variance)
    expected = at(gaussian_denoiser(PAPER, mean, variance), x, t)
    laws.within(at(one, x, t), expected, max(1e-13 * abs(expected), 1e-15), label="noise")


@given(st.data(), st.integers(2, 4), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_mixture_in_several_dimensions(data, d, t, seed):
    """The components' own conditional means, weighted by their densities at x_t, by the general rules for Gaussians."""
    rng = np.random.default_rng(seed)
    variances = data.draw(hnp.arrays(np.float64, 3, elements=st.floats(0.01, 2)))
    means, weights, x = rng.standard_normal((3, d)), rng.uniform(0.1, 1, 3), rng.standard_normal((1, d))
    alpha_bar, rest = SHORT.transition(t, 0)
    laws_of_x_t = [Gaussian(m, v).push(np.sqrt(alpha_bar), rest) for m, v in zip(means, variances, strict=True)]
    logs = np.log(weights) + [float(law.log_density(x[0])) for law in laws_of_x_t]
    share = np.exp(logs - logs.max())
    noise = [np.sqrt(rest) * (x[0] - law.mean) / law.variance for law in laws_of_x_t]
    expected = share @ noise / share.sum()
    denoiser = mixture_denoiser(SHORT, torch.tensor(means), torch.tensor(variances), torch.tensor(weights))
    actual = denoiser(torch.tensor(x), torch.tensor([t]))[0]
    # The logarithms, of size |x|^2 / rest, are rounded, and so are the shares.
    size = (1 + np.abs(logs).max()) * max(np.abs(n).max() for n in noise)
    laws.within(actual, expected, 16 * laws.EPS * size, label="noise")


@given(covariances(4), st.integers(1, 500), st.integers(0, 2**32 - 1))
@example((np.zeros(4), np.eye(4)), 1, 0)
def test_correlated_gaussian(case, t, seed):
    """E[eps | x_t] is the regression Cov(eps, x_t) Cov(x_t)^-1 (x_t - a m), solved in 50 digits."""
    s, axes = case
    rng = np.random.default_rng(seed)
    covariance, mean, x = (axes * s) @ axes.T, rng.standard_normal((2, 2)), rng.standard_normal((1, 2, 2))
    alpha_bar, rest = PAPER.transition(t, 0)
    with mp.workdps(50):
        of_x_t = mp.mpf(alpha_bar) * mp.matrix(covariance) + mp.mpf(rest) * mp.eye(4)
        gap = mp.matrix(x.ravel()) - mp.sqrt(alpha_bar) * mp.matrix(mean.ravel())
        expected = np.array((mp.sqrt(rest) * mp.lu_solve(of_x_t, gap)).tolist(), dtype=float).reshape(x.shape)
    denoiser = gaussian_denoiser(PAPER, torch.tensor(mean), covariance=torch.tensor(covariance))
    actual = denoiser(torch.tensor(x), torch.tensor([t]))
    # Some roundings of the largest eigenvalue and of the gap, as the inverse amplifies them.
    least, most = alpha_bar * s.min() + rest, alpha_bar * s.max() + rest
    size = np.sqrt(rest) * (np.abs(x).max() + np.abs(mean).max()) / least
    laws.within(actual, expected, 32 * laws.EPS * size * most / least, label="noise")
    if not np.any(axes - np.diag(np.diag(axes))):
        diagonal = gaussian_denoiser(PAPER, torch.tensor(mean), torch.tensor(s.reshape(2, 2)))
        laws.close(diagonal(torch.tensor(x), torch.tensor([t])), actual, ulps=16, label="diagonal")


@given(st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_points_are_components_without_variance(t, seed):
    """The two formulas, one by differences and one by a matrix product, in nine dimensions."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn((5, 1, 3, 3), generator=generator, dtype=torch.float64)
    weights = torch.rand(5, generator=generator, dtype=torch.float64) + 0.1
    x = torch.randn((4, 1, 3, 3), generator=generator, dtype=torch.float64)
    times = torch.full((4,), t)
    by_product, by_differences = points_denoiser(PAPER, points, weights), mixture_denoiser(PAPER, points, 0.0, weights)
    # Exponents of up to 1e5 at t = 1, with a rounding error of 1e-11, where two points may be level.
    expected = by_differences(x, times)
    laws.within(by_product(x, times), expected, 1e-8 * (1 + expected.abs().numpy()), label="noise")


@given(st.floats(4, 6), st.integers(1, 500), st.integers(0, 2**32 - 1))
@example(6.0, 1, 0)
def test_points_far_from_0(decades, t, seed):
    """Seen from their mean: as exact as the inputs' own rounding allows, against the differences in 50 digits."""
    rng = np.random.default_rng(seed)
    points = 10**decades * rng.choice([-1, 1], 3) + rng.standard_normal((5, 3))
    alpha_bar, rest = PAPER.transition(t, 0)
    x = np.sqrt(alpha_bar) * points[:1] + np.sqrt(rest) * rng.standard_normal((1, 3))
    with mp.workdps(50):
        gaps = [
            [mp.mpf(a) - mp.sqrt(alpha_bar) * mp.mpf(b) for a, b in zip(x[0], point, strict=True)] for point in points
        ]
        w = [mp.exp(-mp.fsum(g**2 for g in gap) / (2 * mp.mpf(rest))) for gap in gaps]
        expected = [float(mp.fdot(w, column) / mp.fsum(w) / mp.sqrt(rest)) for column in zip(*gaps, strict=True)]
    actual = points_denoiser(PAPER, torch.tensor(points))(torch.tensor(x), torch.tensor([t]))
    # x_t less the mean of the points is off by a rounding of 10^decades; E[x_0 | x_t] has the slope a Cov / (1 - a^2).
    slope = 1 + alpha_bar * np.square(points - points.mean(axis=0)).sum(axis=1).max() / rest
    laws.within(actual[0], expected, 4 * laws.EPS * 10**decades * slope / np.sqrt(rest), label="noise")


def test_diagonal_gaussian_and_each_samples_own_time():
    mean, variance = torch.tensor([0.1, -0.2]), torch.tensor([0.5, 0.0])
    denoiser = gaussian_denoiser(PAPER, mean, variance)
    x, t = torch.randn((3, 2), generator=torch.Generator().manual_seed(0)), torch.tensor([1, 250, 500])
    together = denoiser(x, t)
    assert together.dtype == torch.float32
    for i in range(3):
        for j in range(2):
            one = gaussian_denoiser(PAPER, float(mean[j]), float(variance[j]))
            assert together[i, j] == one(x[i : i + 1, j : j + 1], t[i : i + 1])
    mixture = mixture_denoiser(PAPER, torch.stack([mean, -mean]), torch.tensor([0.3, 0.1]))
    alone = torch.cat([mixture(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(mixture(x, t), alone, rtol=1e-6, atol=1e-7)


def test_memorisation():
    """Algorithm 2 with the exact denoiser of a finite set ends on the set: every sample within 1e-6 of a point."""
    points = torch.randn((7, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_T = torch.randn((200, 1, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images = sample(
        points_denoiser(PAPER, points), PAPER, x_T, generator=torch.Generator().manual_seed(2), batch_size=200
    )
    distance = torch.cdist(images.flatten(1), points.flatten(1))
    assert distance.min(dim=1).values.max() < 1e-6
    assert len(distance.argmin(dim=1).unique()) == 7  # and all of them are found


def test_bad_arguments():
    with pytest.raises(ValueError, match="mean must be finite"):
        gaussian_denoiser(PAPER, float("nan"), 1.0)
    with pytest.raises(ValueError, match="variance must be finite and at least 0"):
        gaussian_denoiser(PAPER, 0.0, -1.0)
    with pytest.raises(ValueError, match="give a variance or a covariance; neither came"):
        gaussian_denoiser(PAPER, 0.0)
    with pytest.raises(ValueError, match="give a variance or a covariance; both came"):
        gaussian_denoiser(PAPER, 0.0, 1.0, covariance=torch.eye(2))
    with pytest.raises(ValueError, match=r"covariance must have shape \(d, d\); its shape is \(2, 3\)"):
        gaussian_denoiser(PAPER, 0.0, covariance=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"covariance must have shape \(d, d\); its shape is \(4,\)"):
        gaussian_denoiser(PAPER, 0.0, covariance=torch.ones(4))
    with pytest.raises(ValueError, match=r"covariance must have shape \(d, d\); its shape is \(0, 0\)"):
        gaussian_denoiser(PAPER, 0.0, covariance=torch.zeros(0, 0))
    with pytest.raises(TypeError, match="mean must be real; its dtype is torch.complex64"):
        gaussian_denoiser(PAPER, torch.tensor(1 + 2j), 1.0)
    x, t = torch.ones((3, 2)), torch.tensor([1, 2, 3])
    for denoiser in (gaussian_denoiser(PAPER, 0.0, 1.0), points_denoiser(PAPER, x), mixture_denoiser(PAPER, x, 1.0)):
        with pytest.raises(TypeError, match="x_t must be a floating tensor; its dtype is torch.int64"):
            denoiser(x.long(), t)
        with pytest.raises(ValueError, match=r"t must have one entry for each of the 3 samples; its shape is \(2,\)"):
            denoiser(x, t[:2])
    with pytest.raises(ValueError, match="covariance must be finite"):
        gaussian_denoiser(PAPER, 0.0, covariance=torch.full((2, 2), float("inf")))
    with pytest.raises(ValueError, match="covariance must be symmetric; it differs from its transpose by 0.5"):
        gaussian_denoiser(PAPER, 0.0, covariance=torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="covariance must be positive semidefinite; its least eigenvalue is -1"):
        gaussian_denoiser(PAPER, 0.0, covariance=torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match=r"means must have shape \(K, \.\.\.\)"):
        mixture_denoiser(PAPER, torch.tensor(1.0), 1.0)
    with pytest.raises(ValueError, match="one variance, and one positive weight, for each of the 2 means"):
        mixture_denoiser(PAPER, torch.zeros(2, 3), torch.ones(3))
    with pytest.raises(ValueError, match="one variance, and one positive weight"):
        mixture_denoiser(PAPER, torch.zeros(2, 3), 1.0, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"points must have shape \(K, \.\.\.\)"):
        points_denoiser(PAPER, torch.zeros(0, 3))
    with pytest.raises(ValueError, match="one positive weight for each of the 2 points"):
        points_denoiser(PAPER, torch.zeros(2, 3), torch.ones(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian_denoiser(PAPER, torch.zeros(2), 1.0), "mean must have the shape () or (1, 2) for"),
        (lambda: gaussian_denoiser(PAPER, torch.zeros(1, 1), 1.0), "mean must have the shape () or (1, 2) for"),
        (lambda: gaussian_denoiser(PAPER, 0.0, torch.ones(2, 2)), "variance must have the shape () or (1, 2) for"),
        (
            lambda: gaussian_denoiser(PAPER, torch.zeros(2), covariance=torch.eye(2)),
            "mean must have the shape () or (1, 2)",
        ),
        (lambda: gaussian_denoiser(PAPER, 0.0, covariance=torch.eye(3)), "covariance must have the shape (2, 2) for"),
        (lambda: mixture_denoiser(PAPER, torch.zeros(3, 1), 1.0), "each mean must have the shape (1, 2) for"),
        (lambda: points_denoiser(PAPER, torch.zeros(3, 2)), "each point must have the shape (1, 2) for"),
    ],
)
def test_samples_of_another_shape(make, message):
    """A law in the wrong shape would broadcast to another one."""
    with pytest.raises(ValueError, match=re.escape(message) + r".*samples of shape \(1, 2\); its shape is"):
        make()(torch.zeros(4, 1, 2), torch.ones(4, dtype=torch.int64))


def test_rounded_covariances():
    """In float32 they are symmetric, and not negative, to its rounding; what is below zero is zero."""
    axes = torch.linalg.qr(torch.randn((5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    exact = axes[:, :2] @ axes[:, :2].T
    rounded = exact.float()
    rounded[0, 1] += 3e-8
    x, t = torch.randn((3, 5), generator=torch.Generator().manual_seed(1), dtype=torch.float64), torch.full((3,), 200)
    one, other = (gaussian_denoiser(PAPER, 0.0, covariance=c)(x, t) for c in (exact, rounded))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert one.dtype == other.dtype == torch.float64
    assert gaussian_denoiser(PAPER, 0.0, covariance=exact)(x.float(), t).dtype == torch.float32


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 1, 3, 3)])
def test_points_of_any_shape(shape):
    """E[eps | x_t] is the mean over the points with the weights exp(-|x_t - a x_i|^2 / 2 (1 - a^2)), by hand."""
    rng = np.random.default_rng(0)
    points, x = rng.standard_normal(shape), rng.standard_normal((1, *(shape[1:] or (1,))))
    alpha_bar, rest = PAPER.transition(200, 0)
    gaps = x.reshape(1, -1) - np.sqrt(alpha_bar) * points.reshape(5, -1)
    w = np.exp(-(gaps**2).sum(axis=1) / (2 * rest))
    expected = ((w / w.sum()) @ gaps).reshape(x.shape) / np.sqrt(rest)
    for denoiser in (points_denoiser(PAPER, torch.tensor(points)), mixture_denoiser(PAPER, torch.tensor(points), 0.0)):
        actual = denoiser(torch.tensor(x), torch.tensor([200]))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13)
