"""A network conditioned on a measured image: exact for Gaussian data, and refusals."""

import numpy as np
import pytest
import torch

from diffmath.ddpm import conditioned, cosine_modes, gaussian_denoiser, sample
from diffmath.domains import Box
from diffmath.schedule import VarianceSchedule

SCHEDULE = VarianceSchedule.linear(500)
BOX = Box((4, 6))


def law(rng):
    """Gaussian images with independent cosine modes: their variances, decay, noise, and a measured image."""
    variance = rng.uniform(0.1, 2.0, (4, 6))
    decay = np.exp(-BOX.eigenvalues * 0.01)
    x_0 = BOX.to_values(np.sqrt(variance * 24) * rng.standard_normal((4, 6))) / 24**0.5 * 24**0.5
    image = BOX.apply(lambda mu: np.exp(-0.01 * mu), x_0) + 0.1 * rng.standard_normal((4, 6))
    return variance, decay, 0.1, image


def covariance(variance):
    """Of the pixels, from the variances of the modes."""
    modes = torch.eye(24, dtype=torch.float64).reshape(24, 4, 6)
    W = cosine_modes(modes).reshape(24, 24)
    return W @ torch.diag(torch.from_numpy(variance).flatten()) @ W.T


def test_cosine_modes():
    """The package's eigenfunctions, of unit length in the sum of squares."""
    u = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 2, 4, 6)))
    modes = cosine_modes(u)
    np.testing.assert_allclose(modes, BOX.to_modes(u.numpy()) * 24**0.5, atol=1e-13)
    np.testing.assert_allclose(modes.square().sum((-2, -1)), u.square().sum((-2, -1)), rtol=1e-13)


def test_it_is_exact_for_gaussian_data():
    """E[eps | x_t, y], from the precisions of the prior, of x_t and of y, at early, middle and late times."""
    rng = np.random.default_rng(0)
    variance, decay, noise, image = law(rng)
    prior = gaussian_denoiser(SCHEDULE, torch.zeros(1, 4, 6, dtype=torch.float64), covariance=covariance(variance))
    network = conditioned(prior, SCHEDULE, image, decay=decay, noise=noise, variance=variance)
    t = torch.tensor([1, 60, 250, 500])
    x_t = torch.from_numpy(rng.standard_normal((4, 1, 4, 6)))
    alpha_bar = SCHEDULE.alpha_bar[t.numpy()][:, None, None, None]
    y, x = cosine_modes(torch.from_numpy(image)).numpy(), cosine_modes(x_t).numpy()
    precision = 1 / variance + alpha_bar / (1 - alpha_bar) + decay**2 / noise**2
    x_0 = (np.sqrt(alpha_bar) * x / (1 - alpha_bar) + decay * y / noise**2) / precision
    eps = (x - np.sqrt(alpha_bar) * x_0) / np.sqrt(1 - alpha_bar)
    np.testing.assert_allclose(cosine_modes(network(x_t, t)), eps, atol=1e-10)


def test_samples_have_the_law_of_the_posterior():
    """Mean and variance of each mode, 500 samples by all steps: five standard errors and what these steps cost."""
    variance, decay, noise, image = law(np.random.default_rng(1))
    prior = gaussian_denoiser(SCHEDULE, torch.zeros(1, 4, 6, dtype=torch.float64), covariance=covariance(variance))
    network = conditioned(prior, SCHEDULE, image, decay=decay, noise=noise, variance=variance)
    x_T = torch.randn(500, 1, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    modes = cosine_modes(sample(network, SCHEDULE, x_T, n_samples=500, generator=0))[:, 0].numpy()
    expected = 1 / (1 / variance + decay**2 / noise**2)
    mean = expected * decay * cosine_modes(torch.from_numpy(image)).numpy() / noise**2
    assert (np.abs(modes.mean(0) - mean) < 5 * np.sqrt(expected / 500) + 0.02 * np.abs(mean)).all()
    np.testing.assert_allclose(modes.var(0), expected, rtol=0.35)  # of which 0.06 is lost by Algorithm 2


def test_what_is_refused():
    network, ones = gaussian_denoiser(SCHEDULE, 0.0, 1.0), np.ones((4, 4))
    good = {"image": ones, "decay": ones, "noise": 0.1, "variance": ones}
    for bad, message in (
        ({"image": ones[0]}, "image must be finite"),
        ({"image": ones * np.nan}, "image must be finite"),
        ({"decay": 2 * ones}, "decay must be between 0 and 1"),
        ({"variance": 0 * ones}, "variance must be positive"),
        ({"variance": ones[:3]}, "variance must be positive and finite, of the image's shape"),
        ({"noise": 0.0}, "noise must be positive"),
    ):
        arguments = good | bad
        with pytest.raises(ValueError, match=message):
            conditioned(network, SCHEDULE, arguments.pop("image"), **arguments)
    with pytest.raises(TypeError, match="network"):
        conditioned(3, SCHEDULE, ones, decay=ones, noise=0.1, variance=ones)
