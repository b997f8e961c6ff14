"""Processes with modes: eqs. (2)-(9) and (15)-(19) hold in each mode, and samplers run on them unchanged."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffmath.ddpm import gaussian_denoiser, sample
from diffmath.ddpm.samplers import SAMPLERS
from diffmath.gaussian import Gaussian
from diffmath.process import ForwardProcess, spread
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import Modes, mode_processes

ARRAYS = hnp.arrays(np.float64, (4, 2, 3), elements=st.floats(-4, 4, allow_subnormal=False))
PROCESS = Modes([VarianceSchedule.linear(12, 0.01, 0.3), VarianceSchedule.cosine(12)], [1.0, 0.5])


@given(mode_processes(), ARRAYS, ARRAYS, ARRAYS)
def test_each_mode_is_a_scalar_process(case, x, y, z):
    """With noise of size c, x / c follows the mode's own schedule: in numpy and torch, for a time and for several."""
    process, (s, *_, t) = case
    times = np.array([t, s + 1, t, t])
    for at, since in ((t, s), (t, None), (times, s), (times, None)):
        found = {
            "step": process.forward_step(x, y, at, since),
            "noise": process.add_noise(x, y, at),
            "image": process.predict_x_0(x, y, at),
            "mean": process.posterior_mean(x, y, at, since),
            "from noise": process.posterior_mean_from_noise(x, y, at, since),
            "back": process.backward_step(x, y, z, at, since),
        }
        in_torch = process.backward_step(*map(torch.tensor, (x, y, z)), torch.tensor(at), since)
        assert np.array_equal(in_torch.numpy(), found["back"])
        for k, (schedule, size) in enumerate(zip(process.schedules, process.sizes, strict=True)):
            u, v, w = (a[..., k] for a in (x, y, z))
            expected = {
                "step": schedule.forward_step(u / size, v, at, since),
                "noise": schedule.add_noise(u / size, v, at),
                "image": schedule.predict_x_0(u / size, v, at),
                "mean": schedule.posterior_mean(u / size, v / size, at, since),
                "from noise": schedule.posterior_mean_from_noise(u / size, v, at, since),
                "back": schedule.backward_step(u / size, v, w, at, since),
            }
            for name, value in found.items():
                # A few roundings of the terms, whose sum may cancel; predict_x_0 divides them by sqrt(alpha_bar).
                terms = 8 / np.sqrt(schedule.transition(t, 0)[0]) / min(size, 1)
                laws.close(value[..., k] / size, expected[name], ulps=16, scale=terms, label=name)
            variance = size**2 * schedule.posterior_variance(at, since)
            laws.close(process.posterior_variance(at, since)[..., k], variance, ulps=4, label="variance")
    a, b, c = process.backward_coefficients(t, s)
    laws.close(
        a * x + b * y + c * z, process.backward_step(x, y, z, t, s), ulps=8, scale=4 * (abs(a) + abs(b) + abs(c))
    )


@given(mode_processes())
def test_it_is_a_markov_chain(case):
    """The law that schedules obey: transitions compose, mode by mode."""
    process, times = case
    for k, size in enumerate(process.sizes):
        laws.composes(lambda t, s, k=k: tuple(c[k] for c in process.transition(t, s)), times, ulps=16 * max(1, size))


@given(mode_processes(), hnp.arrays(np.float64, (2, 3), elements=st.floats(-4, 4)))
def test_the_posterior_is_bayes(case, x):
    """(10)-(16) by the general rules for Gaussians with one variance for each component."""
    process, (_, *between, t) = case
    x_0, x_t = x
    for s in between:
        (alpha, variance), (alpha_bar, variance_s) = process.transition(t, s), process.transition(s, 0)
        posterior = Gaussian(np.sqrt(alpha_bar) * x_0, variance_s).given(x_t, np.sqrt(alpha), variance)
        laws.close(process.posterior_variance(t, s), posterior.variance, ulps=16, label="variance")
        mean = process.posterior_mean(x_t[None], x_0[None], t, s)[0]
        scale = 8 / np.sqrt(alpha)  # the general rule divides x_t by it
        laws.close(mean, posterior.mean, ulps=32, scale=scale, label="mean")


@pytest.mark.parametrize("method", SAMPLERS)
def test_sampling_mode_by_mode(method):
    """The same noise: each mode walks as it would alone, by its own schedule, with any sampler."""
    mean, variance = torch.tensor([0.3, -0.5], dtype=torch.float64), torch.tensor([0.04, 0.5], dtype=torch.float64)
    x_T = torch.randn((5, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eta = 0.5 if SAMPLERS[method].most_eta else 0.0
    images = sample(gaussian_denoiser(PROCESS, mean, variance), PROCESS, x_T, method=method, eta=eta, generator=1)
    for k, (schedule, size) in enumerate(zip(PROCESS.schedules, PROCESS.sizes, strict=True)):
        alone = gaussian_denoiser(schedule, mean[k] / size, variance[k] / size**2)

        def model(x, t, k=k, alone=alone):  # the other mode is there for the noise's sake
            eps = torch.zeros_like(x)
            eps[:, k] = alone(x[:, k], t)
            return eps

        expected = size * sample(model, schedule, x_T / size, method=method, eta=eta, generator=1)
        torch.testing.assert_close(images[:, k], expected[:, k], rtol=1e-11, atol=1e-12)  # 12 steps' roundings


def test_the_law_of_samples():
    """Algorithm 2 with the exact denoiser, from the law of x_T: data of their mean and variance in each mode.

    The last step adds no noise, which leaves the variance a little small: that of x_1 given x_0, at most.
    """
    mean, variance = np.array([0.3, -0.5]), np.array([0.4, 1.5])
    process = Modes([VarianceSchedule.linear(300, 1e-4, 0.05), VarianceSchedule.linear(300, 1e-4, 0.03)], [1.0, 0.7])
    alpha_bar, noise = process.transition(300, 0)
    n = 20_000
    z = torch.randn((n, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_T = torch.tensor(np.sqrt(alpha_bar) * mean) + torch.tensor(np.sqrt(alpha_bar * variance + noise)) * z
    images = sample(gaussian_denoiser(process, torch.tensor(mean), torch.tensor(variance)), process, x_T, generator=1)
    for k in range(2):
        laws.sample_mean(images[:, k].numpy(), mean[k])
        spread_ = images[:, k].var().item() / variance[k] - 1
        assert abs(spread_) < 5 * np.sqrt(2 / n) + 0.01  # the exact chain's own excess is below 1 %


def test_shapes():
    """Modes are the last axes; what lies between them and the samples is free."""
    assert PROCESS.transition(3)[0].shape == (2,)
    assert PROCESS.transition([3, 4, 5])[0].shape == PROCESS.posterior_variance([3, 4, 5]).shape == (3, 2)
    assert isinstance(PROCESS.transition(torch.tensor([3]))[0], torch.Tensor)
    for shape in ((2,), (5, 2), (5, 7, 2)):
        assert PROCESS.add_noise(np.ones(shape), np.ones(shape), 3).shape == shape
    assert PROCESS.add_noise(np.ones((3, 7, 2)), np.ones((3, 7, 2)), [1, 2, 3]).shape == (3, 7, 2)
    for shape in ((), (3,), (3, 1), (2, 3)):
        with pytest.raises(ValueError, match=r"samples of this process must have shape \(N, \.\.\., 2\)"):
            PROCESS.add_noise(np.ones(shape), np.ones(shape), 3)
    with pytest.raises(ValueError, match=r"samples of this process must have shape .*; their shape is \(2,\)"):
        PROCESS.add_noise(np.ones(2), np.ones(2), [3, 4])
    with pytest.raises(ValueError, match="t must have one entry for each sample; 2 times came"):
        PROCESS.add_noise(np.ones((3, 2)), np.ones((3, 2)), [3, 4])
    with pytest.raises(ValueError, match="samples of this process must have shape"):
        sample(gaussian_denoiser(PROCESS, 0.0, 1.0), PROCESS, torch.zeros(4, 3))
    assert sample(gaussian_denoiser(PROCESS, 0.0, 1.0), PROCESS, n_samples=4).shape == (4, 2)
    assert spread(np.ones((3, 2)), 1, (3, 5, 2)).shape == (3, 1, 2)
    with pytest.raises(TypeError, match="abstract"):
        ForwardProcess()
