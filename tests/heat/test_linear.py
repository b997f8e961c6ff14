"""The linear sibling is a `ForwardProcess`: the scalar process's laws hold in each mode, if it is Markov."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmath.ddpm import gaussian_denoiser, sample
from diffmath.domains import Box
from diffmath.heat import LinearHeatProcess
from tests import laws


@st.composite
def processes(draw):
    """Linear heat processes on small boxes, with noise that keeps them Markov, and increasing times from 0."""
    n = draw(st.integers(3, 12))
    times = np.cumsum([0.0, *draw(st.lists(st.floats(1e-4, 0.01), min_size=n, max_size=n))])
    r = np.exp(np.cumsum([0.0, *draw(st.lists(st.floats(-0.1, 0.5), min_size=n, max_size=n))]))
    growth = draw(st.lists(st.floats(0.01, 0.5), min_size=n, max_size=n))
    sigma = np.concatenate([[0.0], r[1:] * 0.1 * np.exp(np.cumsum(growth))])  # the constant mode does not decay
    process = LinearHeatProcess(Box((3, 2)), times, sigma, r, floor=draw(st.sampled_from([0.0, 0.01])))
    jumps = draw(st.lists(st.integers(1, n), min_size=2, max_size=4, unique=True))
    return process, [0, *sorted(jumps)]


@given(processes())
def test_jumps_compose_in_each_mode(case):
    process, times = case
    for mode in np.ndindex(*process.modes):

        def of_mode(t, s, mode=mode):
            return tuple(part[mode] for part in process.transition(t, s))

        laws.composes(of_mode, times, ulps=64)


@given(processes())
def test_the_state_is_the_signal_plus_the_noise(case):
    """a and sigma are those that were given, by the closed form."""
    process, (*_, t) = case
    alpha_bar, variance = process.transition(t, 0)
    rest = process.posterior_variance(t, 0)
    assert (variance > 0).all()
    assert (rest == 0).all()
    assert (np.diff(alpha_bar.ravel()[[0, -1]]) < 0).all()  # the highest mode decays most


def test_it_must_be_markov():
    with pytest.raises(ValueError, match=r"in mode \(0,\) it falls by a factor 0.5 from t = 1 to 2"):
        LinearHeatProcess(Box(4), [0, 0.001, 0.002], [0, 1.0, 1.0], r=[1.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="floor must lie in"):
        LinearHeatProcess(Box(4), [0, 0.1], [0, 1.0], floor=1.0)


def test_samples_have_the_law_of_gaussian_data():
    """Algorithm 2 on it, with the exact denoiser: data of their mean and variance in each mode."""
    n, modes = 20_000, 3
    times = 0.02 * (np.arange(201) / 200) ** 2
    sigma = 0.05 + 150 * times
    sigma[0] = 0.0
    process = LinearHeatProcess(Box(modes), times, sigma)
    mean, variance = torch.tensor([0.3, -0.5, 0.1]).double(), torch.tensor([0.4, 1.5, 0.2]).double()
    alpha_bar, noise = (torch.from_numpy(part) for part in process.transition(200, 0))
    z = torch.randn((n, modes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_T = alpha_bar.sqrt() * mean + (alpha_bar * variance + noise).sqrt() * z
    x = sample(gaussian_denoiser(process, mean, variance), process, x_T, generator=1)
    for k in range(modes):
        laws.sample_mean(x[:, k], mean[k])
        # five errors of the estimate, and a step's share of the discretisation
        laws.within(x[:, k].var(), variance[k], float(variance[k]) * (5 * np.sqrt(2 / n) + 0.02), label="variance")
