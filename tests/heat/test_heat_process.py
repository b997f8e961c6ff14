"""The forward process of the renormalised heat flow, and the posterior of any flow."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffmath.heat import HeatProcess, TerminalLaw, flow_posterior, heat_sigma, heat_times
from diffmath.pde import Box, RenormalizedFlow
from tests import laws
from tests.strategies import jumps

PROCESS = HeatProcess((8, 6))
IMAGES = np.random.default_rng(0).uniform(-1, 1, (40, 1, 8, 6))
FITTED = HeatProcess.fit(IMAGES)


def pictures(n=2):
    """Images of any range that are not constant."""
    pixels = hnp.arrays(np.float64, (n, 1, 8, 6), elements=st.floats(-1, 1, width=16))
    return pixels.filter(lambda x: (np.ptp(x, axis=(1, 2, 3)) > 1e-3).all())


@given(pictures(), st.integers(0, PROCESS.n_steps))
def test_the_flow_is_that_of_the_equation(x_0, t):
    """`RenormalizedFlow` moves an image less its mean in the same way; rounding grows as low modes do, in both."""
    u = PROCESS.flow(x_0, t)
    mean = x_0.mean(axis=(2, 3), keepdims=True)
    expected = RenormalizedFlow(Box((8, 6))).evolve(x_0, PROCESS.times[t])[:, :, 0] + mean
    growth = np.abs(u - mean).max() / np.abs(x_0 - mean).max()
    laws.within(u, expected, 1e-12 * max(growth, 1) * (1 + growth), label="flow")


@given(pictures(1))
def test_energy_is_kept_and_the_rayleigh_quotient_falls(x_0):
    """C and the mean to 1e-12 at all times; the multiplier, sum mu^2 u^2 / sum mu u^2, never rises."""
    u = np.concatenate([PROCESS.flow(x_0, t) for t in range(PROCESS.n_steps + 1)])
    laws.within(PROCESS.energy(u) / PROCESS.energy(x_0), 1, 1e-12, label="C")
    laws.within(u.mean(axis=(1, 2, 3)), x_0.mean(), 1e-13 * np.abs(u).max(), label="mean")
    shares = PROCESS.domain.eigenvalues * PROCESS.to_modes(u)[:, 0] ** 2
    laws.never_rises((PROCESS.domain.eigenvalues * shares).sum((1, 2)) / shares.sum((1, 2)), ulps=512)


numbers = st.floats(-100, 100)


@given(numbers, numbers, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_the_posterior_has_the_right_marginal(u, u_s, sigma, sigma_s, kappa):
    """A linear map of N(u, sigma^2), plus its noise, has the law N(u_s, sigma_s^2): for any flow and any kappa."""
    mean, deviation = flow_posterior(np.array([u, u + sigma]), u, u_s, sigma, sigma_s, kappa)
    slope = kappa * sigma_s / sigma
    laws.close(mean[0], u_s, ulps=2, label="mean")
    scale = abs(u_s) + slope * (abs(u) + sigma)
    laws.close(mean[1] - mean[0], slope * sigma, ulps=8, scale=scale, label="slope")
    laws.close((slope * sigma) ** 2 + deviation**2, sigma_s**2, ulps=8, label="variance")


@given(jumps(n_times=3), st.floats(-3, 3), st.floats(-3, 3))
def test_the_paper_s_posterior_is_one_of_them(case, x_0, x_t):
    """(14)-(16) are that of the flow sqrt(alpha_bar) x_0 with the kappa of a Markov chain."""
    schedule, (_, s, t) = case
    alpha = schedule.transition(t, s)[0]
    (bar_t, v_t), (bar_s, v_s) = schedule.transition(t, 0), schedule.transition(s, 0) if s else (1.0, 0.0)
    kappa = min(1.0, np.sqrt(alpha * v_s / v_t))
    x = np.array([x_t])
    mean, deviation = flow_posterior(x, np.sqrt(bar_t) * x_0, np.sqrt(bar_s) * x_0, np.sqrt(v_t), np.sqrt(v_s), kappa)
    expected = schedule.posterior_mean(x, np.array([x_0]), t, s)
    gain = np.sqrt(alpha) * v_s / v_t  # of which the flow's own term is a difference here, and none there
    laws.close(mean, expected, ulps=64, scale=3 + gain * (3 + np.sqrt(bar_t) * 3), label="mean")
    within = 64 * laws.EPS * v_s  # 1 - kappa^2 cancels
    laws.within(deviation**2, schedule.posterior_variance(t, s), within, label="variance")


@pytest.mark.parametrize("eta", [0.0, 1.0, 4.0, np.inf])
def test_a_step_back_of_a_known_flow(eta):
    """The noise that a step keeps is what was there: all of it for eta = 0, only in the mean if eta is infinite."""
    rng = np.random.default_rng(1)
    x_0, eps, z = IMAGES[:3], *rng.standard_normal((2, 3, 1, 8, 6))
    for t, s in ((PROCESS.n_steps, PROCESS.n_steps - 1), (60, 59), (60, 40), (1, 0)):
        x, u, earlier = PROCESS.image(PROCESS.add_noise(x_0, eps, t)), PROCESS.flow(x_0, t), PROCESS.flow(x_0, s)
        stretch = (PROCESS.times[t] - PROCESS.times[s]) / (PROCESS.times[t] - PROCESS.times[t - 1])
        stepped = PROCESS.backward_step(x, u, (earlier - u) / stretch, z, t, s, eta)
        kappa = PROCESS.kept(t, s, eta)
        noise = kappa * PROCESS.to_modes(eps) + np.sqrt(1 - kappa**2) * z
        expected = earlier + PROCESS.sigma[s] * PROCESS.to_pixels(noise)
        laws.within(stepped, expected, 1e-12 * np.abs(expected).max(), label="step")
    assert kappa[0, 0] == 1
    assert (kappa.ravel()[1:] == 0).all() == (eta == np.inf)


def test_torch_agrees_with_numpy():
    x_0, eps = torch.from_numpy(IMAGES[:4]), torch.randn((4, 1, 8, 6), dtype=torch.float64)
    t = torch.tensor([1, 20, 80, PROCESS.n_steps])
    state = PROCESS.add_noise(x_0, eps, t)
    expected = PROCESS.add_noise(x_0.numpy(), eps.numpy(), t.numpy())
    laws.within(state, expected, 1e-12 * np.abs(expected).max(), label="float64")
    single = PROCESS.add_noise(x_0.float(), eps.float(), t)
    assert single.dtype == torch.float32
    laws.within(single, expected, 1e-4 * np.abs(expected).max(), label="float32")  # r amplifies roundings of low modes


def test_the_end_is_a_gradient():
    """Mean, C and angle are all that is left at T, and give the state back."""
    x_0 = np.cumsum(np.cumsum(IMAGES, axis=2), axis=3) / 10  # smooth, so that the first modes are not small
    end = PROCESS.flow(x_0, PROCESS.n_steps)
    laws.within(PROCESS.gradients(PROCESS.triples(x_0)), end, 1e-3 * np.abs(end).max(), label="gradient")
    laws.within(PROCESS.energy(end) / PROCESS.energy(x_0), 1, 1e-12, label="C")


def test_a_state_has_the_mean_and_the_energy_beside_it():
    state = PROCESS.add_noise(IMAGES[:2], np.zeros_like(IMAGES[:2]), 30)
    for channel, value in ((1, IMAGES[:2].mean((1, 2, 3))), (2, np.log(PROCESS.energy(IMAGES[:2])[:, 0]))):
        laws.within(state[:, channel], value[:, None, None] * np.ones((8, 6)), 1e-12, label="invariant")


def test_the_affine_predictions_are_least_squares():
    """Those of the tables, against a regression on as many noisy states as make the noise an integral."""
    t, rng = 40, np.random.default_rng(2)
    c = FITTED.to_modes(IMAGES)
    u, earlier = FITTED.flow_modes(c, t), FITTED.flow_modes(c, t - 1)
    n = 4000
    x = u + FITTED.sigma[t] * rng.standard_normal((n, *u.shape))
    for k in ((0, 1), (2, 3), (7, 5)):
        for name, target in (("", u), ("_increment", earlier - u)):
            y = np.broadcast_to(target, x.shape)[..., 0, k[0], k[1]].ravel()
            slope, offset = np.polyfit(x[..., 0, k[0], k[1]].ravel(), y, 1)
            left = np.std(y - slope * x[..., 0, k[0], k[1]].ravel())
            found = [FITTED.tables[part + name][(t, *k)] for part in ("gain", "deviation", "mean")]
            predicted = found[2] - found[0] * FITTED.tables["mean"][(t, *k)]
            # 160,000 numbers: four deviations of their estimates
            laws.within(found[0], slope, 0.01 * abs(slope) + 0.01 * left / FITTED.sigma[t], label="gain")
            laws.within(found[1], left, 0.01 * left, label="deviation")
            laws.within(predicted, offset, 0.01 * (abs(found[2]) + left), label="offset")


@pytest.mark.parametrize("eta", [0.0, 1.0, 4.0])
def test_gaussian_data_in_the_linear_flow(eta):
    """With exact predictions the walk back has the law that one recursion predicts, and in many steps that of the data.

    One mode, u = e^(-mu t) a with a ~ N(0, S). The error of the variance is of first order in the steps.
    """
    S, mu, T, errors = 2.0, 5.0, 0.4, []
    for n in (200, 400):
        times = T * (np.arange(n + 1) / n) ** 2
        sigma = 0.02 + times
        sigma[0] = 0.0
        decay = np.exp(-mu * times)
        signal = S * decay**2
        variance = predicted = signal[-1] + sigma[-1] ** 2
        x = np.sqrt(variance) * np.random.default_rng(3).standard_normal(20_000)
        for k in range(n, 0, -1):
            gain = signal[k] / (signal[k] + sigma[k] ** 2)
            ahead = decay[k - 1] / decay[k] * gain
            kappa = np.exp(-eta * mu * (times[k] - times[k - 1]))
            mean, deviation = flow_posterior(x, gain * x, ahead * x, sigma[k], sigma[k - 1], kappa)
            x = mean + deviation * np.random.default_rng(k).standard_normal(len(x))
            slope = ahead + sigma[k - 1] * kappa / sigma[k] * (1 - gain)
            predicted = slope**2 * predicted + sigma[k - 1] ** 2 * (1 - kappa**2)
        laws.within(x.var() / predicted, 1, 5 * np.sqrt(2 / len(x)), label="law")
        errors.append(abs(predicted / S - 1))
    assert errors[1] < 0.03
    assert 1.6 < errors[0] / errors[1] < 2.4


def test_the_law_of_the_end():
    triples = FITTED.law.triples
    drawn = FITTED.law.sample(2000, rng=0)
    apart = np.abs(drawn[:, None] - triples[None]) / [*FITTED.law.scale, 1.0]
    assert (apart / [0.05, 0.05, 0.025]).max(axis=2).min(axis=1).max() < 5.5  # of 6,000 normal numbers
    exact = FITTED.law.sample(50, rng=0, width=0.0)
    assert all((triples == row.astype(np.float32)).all(axis=1).any() for row in exact)
    with pytest.raises(ValueError, match="width must be finite and not negative; it is -1"):
        FITTED.law.sample(2, width=-1.0)


def test_it_is_stored_whole():
    """Arrays, pickles and copies make the same process again."""
    again = HeatProcess.from_arrays(FITTED.arrays())
    for name, table in FITTED.tables.items():
        assert np.array_equal(table, again.tables[name]), name
    assert copy.deepcopy(FITTED) is FITTED
    loaded = pickle.loads(pickle.dumps(FITTED))
    assert np.array_equal(loaded.start(2, np.random.default_rng(0)), FITTED.start(2, np.random.default_rng(0)))
    assert not loaded.times.flags.writeable


def test_grid():
    """The steps grow by 7 % until they are the longest, whatever the size; the noise follows the size."""
    t = heat_times()
    assert len(t) == 181
    assert t[-1] == 0.81
    laws.within(np.diff(t)[1:-1], np.minimum(0.07 * t[1:-2], 0.0175), 1e-15, label="steps")
    assert heat_times(16)[1] == pytest.approx(4 * t[1])
    laws.close(heat_sigma(t, 16) * 2, heat_sigma(t), ulps=2)


def test_refusals():
    with pytest.raises(ValueError, match="x_0 must not be constant"):
        PROCESS.flow(np.ones((1, 1, 8, 6)), 3)
    with pytest.raises(ValueError, match=r"x_0 must have shape \('N', 1, 8, 6\)"):
        PROCESS.flow(np.ones((1, 8, 6)), 3)
    with pytest.raises(ValueError, match="no terminal law"):
        PROCESS.start(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="no moments"):
        PROCESS.at("gain", 3, IMAGES)
    with pytest.raises(ValueError, match=r"kappa must lie in \[0, 1\]"):
        flow_posterior(np.ones(1), 0.0, 0.0, 1.0, 1.0, 1.5)
    with pytest.raises(ValueError, match="sigma must be one for each time, 0 and then positive"):
        HeatProcess((8, 6), [0, 1.0], [0.1, 1.0])
    with pytest.raises(ValueError, match="times must increase from 0"):
        HeatProcess((8, 6), [0.0, 1.0, 0.5])
    with pytest.raises(ValueError, match="triples must differ"):
        TerminalLaw(np.ones((3, 3)))
