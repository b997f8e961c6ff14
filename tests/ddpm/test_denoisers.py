"""Exact denoisers: against quadrature, against each other, and under Algorithm 2 against the law it must have."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from diffmath.ddpm import sample
from diffmath.ddpm.denoisers import gaussian_denoiser, mixture_denoiser, points_denoiser
from diffmath.gaussian import Gaussian
from diffmath.schedule import VarianceSchedule

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

        numerator += w * quad(integrand, -10, 10, args=(1,), epsabs=1e-14, epsrel=1e-12)[0]
        denominator += w * quad(integrand, -10, 10, args=(0,), epsabs=1e-300, epsrel=1e-12)[0]
    if denominator < 1e-12:  # so far out that the quadrature's absolute error shows
        return
    denoiser = mixture_denoiser(SHORT, torch.tensor(means), torch.tensor(variances), torch.tensor(weights))
    assert at(denoiser, x, t) == pytest.approx(numerator / denominator, rel=1e-8, abs=1e-9)


@given(st.integers(1, 500), st.floats(-3, 3), st.floats(-1, 1), st.floats(0, 2))
def test_one_component_is_a_gaussian(t, x, mean, variance):
    one = mixture_denoiser(PAPER, torch.tensor([mean], dtype=torch.float64), variance)
    assert at(one, x, t) == pytest.approx(at(gaussian_denoiser(PAPER, mean, variance), x, t), rel=1e-13, abs=1e-15)


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
    torch.testing.assert_close(by_product(x, times), by_differences(x, times), rtol=1e-8, atol=1e-8)


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
