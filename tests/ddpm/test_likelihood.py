"""The variational bound: term by term against closed forms for Gaussian data, its gap, its weights, its decoders."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffmath.ddpm import bound_weight, gaussian_decoder, gaussian_denoiser, pixel_decoder, variational_bound
from diffmath.ddpm.likelihood import _strata
from diffmath.ddpm.unet import UNet
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import covariances, jumps, schedules

PAPER = VarianceSchedule.linear()
SHORT = VarianceSchedule.linear(12, 1e-3, 0.3)
LOG_2 = math.log(2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scaled(T):
    return VarianceSchedule.linear(T, 1e-4 * 500 / T, 0.02 * 500 / T)


class Given(torch.overrides.TorchFunctionMode):
    """Noise of our choice: all that torch.randn gives."""

    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result.copy_(self.noise) if function is torch.randn else result


def exact_bound(schedule, mean, variances, axes, **options):
    """The bound without Monte Carlo for N(m, C): 4 d points and noises with the moments of the normal law.

    Every term is a quadratic in (x_0, eps), of which the mean over sqrt(2 d) times the unit vectors of R^2d and their
    opposites is that over N(0, I).
    """
    d = len(mean)
    nodes = math.sqrt(2 * d) * np.concatenate([np.eye(2 * d), -np.eye(2 * d)])
    images = torch.tensor(mean + (nodes[:, :d] * np.sqrt(variances)) @ axes.T)
    denoiser = gaussian_denoiser(schedule, torch.tensor(mean), covariance=torch.tensor((axes * variances) @ axes.T))
    with Given(torch.tensor(nodes[:, d:])):
        return variational_bound(denoiser, schedule, images, **options)


def closed_form(schedule, mean, variances):
    """Prior, steps t = 2..T and reconstruction for N(m, C) with C's eigenvalues, by Gaussian algebra in 360 digits.

    The exact denoiser leaves Var(eps | x_t) = alpha_bar v / (alpha_bar v + 1 - alpha_bar) of each component; the step's
    KL has twice the variance (15) below it and the square of (18)'s coefficient above. In bits per dimension.
    """
    with mp.workdps(360):
        beta = [mp.mpf(float(b)) for b in schedule.beta]
        v = [mp.mpf(float(c)) for c in variances]
        bar = [mp.mpf(1)]
        for b in beta[1:]:
            bar.append(bar[-1] * (1 - b))
        left = [0, *(mp.fsum(a * c / (a * c + 1 - a) for c in v) for a in bar[1:])]
        steps = []
        for t in range(2, schedule.n_steps + 1):
            coefficient = beta[t] / mp.sqrt(1 - bar[t]) / mp.sqrt(1 - beta[t])
            variance = beta[t] * (1 - bar[t - 1]) / (1 - bar[t])
            steps.append(coefficient**2 * left[t] / (2 * variance))
        squares = mp.fsum(c + mp.mpf(float(m)) ** 2 for c, m in zip(v, mean, strict=True))
        prior = (bar[-1] * squares - len(v) * (bar[-1] + mp.log(1 - bar[-1]))) / 2
        reconstruction = len(v) * mp.log(2 * mp.pi * beta[1]) / 2 + left[1] / (2 * (1 - beta[1]))
        unit = len(v) * mp.log(2)
        return float(prior / unit), np.array([float(s / unit) for s in steps]), float(reconstruction / unit)


@given(jumps(n_times=2))
def test_weight(jump):
    """w_t is (18)'s coefficient of the noise, squared, over twice (15), in 360 digits as betas may be 1e-300."""
    schedule, (_, t) = jump
    if schedule.n_steps == 1:
        return
    t = max(t, 2)
    with mp.workdps(360):
        beta = [mp.mpf(float(b)) for b in schedule.beta]
        before = mp.fprod(1 - b for b in beta[:t])
        now = before * (1 - beta[t])
        coefficient = beta[t] / (mp.sqrt(1 - now) * mp.sqrt(1 - beta[t]))
        exact = float(coefficient**2 / (2 * beta[t] * (1 - before) / (1 - now)))
    ulps = 20 + abs(math.log(1 - schedule.beta[t]))
    laws.close(bound_weight(schedule, t), exact, ulps=ulps)
    laws.close(bound_weight(schedule, np.array([t]))[0], exact, ulps=ulps)
    laws.close(bound_weight(schedule, torch.tensor([t]))[0], exact, ulps=ulps)


def test_weight_is_as_documented():
    weights = bound_weight(PAPER, np.arange(2, 501))
    assert weights[[0, 3]].round(2).tolist() == [0.70, 0.20]
    assert weights[48:].min() == pytest.approx(0.0071, abs=5e-5)
    assert weights[48:].max() == pytest.approx(0.0204, abs=5e-5)
    for t in (0, 1, 501, np.array([2, 1]), torch.tensor([1])):
        with pytest.raises(ValueError, match="t must lie in"):
            bound_weight(PAPER, t)
    with pytest.raises(TypeError, match="t must be an integer"):
        bound_weight(PAPER, 2.0)


@given(schedules(max_steps=20), covariances(3), st.integers(0, 2**32 - 1))
def test_every_term_exactly(schedule, case, seed):
    """Gaussian data of any covariance and any schedule: each term is its closed form, without Monte Carlo."""
    variances, axes = case
    mean = np.random.default_rng(seed).standard_normal(3)
    if schedule.n_steps > 100 or (1 - schedule.alpha_bar[1:]).min() < 1e-9:
        schedule = SHORT  # such noise is lost in x_t: x_t + eps is x_t, and no denoiser can find it
    bound = exact_bound(schedule, mean, variances, axes)
    prior, steps, reconstruction = closed_form(schedule, mean, variances)
    laws.close(bound.prior.mean, prior, ulps=100, label="prior")
    # x_t, of size 10, has its rounding divided by the noise's size in the prediction; a weight is at most huge.
    noise = np.sqrt(-np.expm1(np.log1p(-schedule.beta).cumsum()))[1:]
    off = 1e3 * laws.EPS / noise
    weights = np.concatenate([[0.5 / schedule.alpha[1]], bound_weight(schedule, np.arange(2, schedule.n_steps + 1))])
    tolerance = weights * (off * (1 + off)) / LOG_2
    assert bound.steps.mean.shape == steps.shape
    if schedule.n_steps > 1:
        laws.within(bound.steps.mean, steps, tolerance[1:] + 100 * laws.EPS * steps, label="steps")
    size = 100 * laws.EPS * (1 + abs(reconstruction))
    laws.within(bound.reconstruction.mean, reconstruction, tolerance[0] + size, label="reconstruction")
    total = prior + steps.sum() + reconstruction
    laws.within(
        bound.total.mean, total, tolerance.sum() + 200 * laws.EPS * (prior + steps.sum() + 1 + size), label="all"
    )


def test_every_term_of_the_papers_schedule():
    """T = 500, to 1e-9 of each term: t = 1 has the noise 0.01, and (15) the weight 0.7."""
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    mean, variances = np.array([0.3, -1.0, 0.5]), np.array([0.01, 0.25, 2.25])
    bound = exact_bound(PAPER, mean, variances, axes)
    prior, steps, reconstruction = closed_form(PAPER, mean, variances)
    np.testing.assert_allclose(bound.prior.mean, prior, rtol=1e-13)
    np.testing.assert_allclose(bound.steps.mean, steps, rtol=1e-9)
    np.testing.assert_allclose(bound.reconstruction.mean, reconstruction, rtol=1e-12)
    np.testing.assert_allclose(bound.total.mean, prior + steps.sum() + reconstruction, rtol=1e-10)
    np.testing.assert_array_equal(bound.first, np.arange(2, 501))
    np.testing.assert_array_equal(bound.last, bound.first)


@pytest.mark.parametrize(("n_times", "n_repeats"), [(None, 1), (4, 1), (3, 3), (1, 1)])
def test_monte_carlo(n_times, n_repeats):
    """Each term, and the total, within 5 of its standard errors: at most 13 numbers, 1e-5 for a false alarm.

    With strata the mean over their times, and the same total. The errors themselves are right to some percent: that of
    the total is the spread of the totals of 40 parts of the images.
    """
    mean, variances = np.array([0.3, -1.0]), np.array([0.04, 1.0])
    images = torch.tensor(mean) + torch.tensor(variances).sqrt() * torch.randn(
        (20_000, 2), generator=seeded(1), dtype=torch.float64
    )
    denoiser = gaussian_denoiser(SHORT, torch.tensor(mean), torch.tensor(variances))

    def run(images, seed):
        options = {"n_times": n_times, "n_repeats": n_repeats, "generator": seeded(seed), "batch_size": 20_000}
        return variational_bound(denoiser, SHORT, images, **options)

    bound = run(images, 2)
    prior, steps, reconstruction = closed_form(SHORT, mean, variances)
    expected = [steps[low - 2 : high - 1].mean() for low, high in zip(bound.first, bound.last, strict=True)]
    assert (len(expected), bound.first[0], bound.last[-1]) == (n_times or 11, 2, 12)
    np.testing.assert_array_equal(bound.first[1:], bound.last[:-1] + 1)
    total = prior + steps.sum() + reconstruction
    estimates = (bound.prior, bound.steps, bound.reconstruction, bound.total)
    for estimate, value in zip(estimates, (prior, expected, reconstruction, total), strict=True):
        assert (np.abs(estimate.mean - value) < 5 * estimate.error).all()
        assert estimate.mean.shape == estimate.error.shape == np.shape(value)
    parts = [run(part, seed).total for seed, part in enumerate(images.chunk(40))]
    spread = np.std([part.mean for part in parts], ddof=1)
    # A standard deviation of 40 normal numbers has a relative error of 11 %, so this is 4.4 of them.
    assert spread == pytest.approx(np.mean([part.error for part in parts]), rel=0.5)
    assert bound.total.error * math.sqrt(40) == pytest.approx(np.mean([part.error for part in parts]), rel=0.1)


@given(st.integers(2, 300), st.data())
def test_strata(T, data):
    """They are the times 2..T, each once, and single ones before longer ones."""
    n = data.draw(st.integers(1, T - 1))
    first, last = _strata(T, n)
    assert [t for low, high in zip(first, last, strict=True) for t in range(low, high + 1)] == list(range(2, T + 1))
    assert len(first) == len(last) == n
    assert (last >= first).all()
    assert (np.diff(last - first) >= -1).all()  # longer and longer, but for rounding


def gap(schedule, mean, variances):
    """The bound less the entropy, and KL(p(x_T) || N(0, I)), in nats per dimension."""
    d = len(mean)
    bound = exact_bound(schedule, mean, variances, np.eye(d))
    entropy = 0.5 * np.log(2 * math.pi * math.e * variances).mean()
    alpha_bar, rest = schedule.transition(schedule.n_steps, 0)
    v = alpha_bar * variances + rest
    start = 0.5 * (v - 1 - np.log(v) + alpha_bar * mean**2).mean()
    return LOG_2 * bound.total.mean - entropy, start


def test_above_the_entropy():
    """By what each step's Gaussian differs from the true one, (r - 1 - log r) / 2 with r = Var(x_s | x_t) / (15)."""
    mean, variances = np.array([0.3, -1.0, 0.1]), np.array([0.04, 1.0, 1e-4])
    for schedule in (PAPER, SHORT, VarianceSchedule.cosine(60), PAPER.zero_terminal(), VarianceSchedule([0.3])):
        excess, start = gap(schedule, mean, variances)
        assert excess > start > 0
        times = np.arange(1, schedule.n_steps + 1)
        alpha, variance = (c[:, None] for c in schedule.transition(times))
        alpha_bar, rest = (c[:, None] for c in schedule.transition(times, 0 * times))
        before = np.concatenate([variances[None], (alpha_bar * variances + rest)[:-1]])
        true = 1 / (1 / before + alpha / variance)
        model = np.concatenate([[schedule.beta[1]], schedule.posterior_variance(times)[1:]])[:, None]
        steps = 0.5 * (true / model - 1 - np.log(true / model)).mean(1)
        assert excess == pytest.approx(start + steps.sum(), rel=1e-9, abs=1e-12)


def test_gap_of_scaled_betas():
    """It falls with T, but to Euler's constant / 2 and the start's KL: (15) is t / (t - 1) off at small t."""
    mean, variances = np.array([0.3]), np.array([0.04])
    left = []
    for T in (125, 250, 500, 1000):
        excess, start = gap(scaled(T), mean, variances)
        left.append(excess - start - np.euler_gamma / 2)
    assert (np.diff(left) < 0).all()
    assert min(left) > 0
    orders = np.log2(np.divide(left[:-1], left[1:]))  # of 1 / T but for a logarithm, so below 1 and rising
    assert orders == pytest.approx([0.717, 0.717, 0.731], abs=0.002)
    assert round(np.euler_gamma / 2 / LOG_2, 3) == 0.416  # as the docstring says


def test_gap_tends_to_zero():
    """With noise levels evenly spaced in their logarithm, of first order in 1/T: (log of a ratio)^2 / (4 T) in all."""
    mean, variances = np.array([0.3]), np.array([1.0])
    left = []
    for T in (200, 400, 800):
        odds = np.geomspace(1e-5, 1e4, T)  # (1 - alpha_bar) / alpha_bar
        beta = np.diff(np.concatenate([[0], odds])) / (1 + odds)
        excess, start = gap(VarianceSchedule(beta), mean, variances)
        left.append(excess - start)
    assert np.log2(np.divide(left[:-1], left[1:])) == pytest.approx([1, 1], abs=0.03)
    assert left[-1] < 0.1


@given(
    hnp.arrays(np.int64, (3, 2), elements=st.integers(0, 255)),
    hnp.arrays(np.float64, (3, 2), elements=st.floats(-3, 3)),
    st.floats(1e-6, 1),
)
def test_pixel_decoder(levels, mean, variance):
    """The normal mass of each bin, in digits enough for the far tails; the float32 of an image is good enough."""
    x = levels / 127.5 - 1
    found = pixel_decoder(torch.tensor(x), torch.tensor(mean), variance)
    for row, value in enumerate(found.tolist()):
        with mp.workdps(30):
            root, total = mp.sqrt(mp.mpf(variance)), mp.mpf(0)
            for level, m in zip(levels[row].tolist(), mean[row].tolist(), strict=True):
                centre = mp.mpf(2 * level) / 255 - 1
                low, high = (centre - mp.mpf(1) / 255 - m) / root, (centre + mp.mpf(1) / 255 - m) / root
                is_open = level in (0, 255)
                total += mp.log(mp.ncdf(high if level == 0 else -low)) if is_open else log_mass(low, high)
        # The bin's ends are rounded, which the slope of the logarithm, (gap / variance), amplifies.
        slope = 5 / variance * laws.EPS + 1e-12
        laws.within(value, float(total), 20 * slope + 1e-12 * abs(float(total)), label="log mass")
    rounded = pixel_decoder(torch.tensor(x).float(), torch.tensor(mean), variance)
    torch.testing.assert_close(rounded, found, rtol=1e-4, atol=1e-4 / variance)


def log_mass(low, high):
    """log(Phi(high) - Phi(low)) by quadrature in mpmath, scaled by the largest density on the way."""
    peak = min(max(low, 0), high)
    mass = mp.quad(lambda z: mp.exp((peak**2 - z**2) / 2), mp.linspace(low, high, 5))
    return mp.log(mass) - peak**2 / 2 - mp.log(2 * mp.pi) / 2


@pytest.mark.parametrize(("mean", "variance"), [(0.1, 1e-4), (-1.3, 0.02), (5.0, 0.5), (0.0, 100.0)])
def test_pixels_have_a_law(mean, variance):
    """The probabilities of the 256 values add up to 1."""
    x = (torch.arange(256, dtype=torch.float64) / 127.5 - 1)[:, None]
    laws.close(pixel_decoder(x, torch.full_like(x, mean), variance).exp().sum(), 1, ulps=400)


def test_gaussian_decoder_is_a_density():
    x = torch.linspace(-2, 3, 5001, dtype=torch.float64)[:, None]
    mass = gaussian_decoder(x, torch.full_like(x, 0.3), 0.04).exp()
    assert mass.sum() * 1e-3 == pytest.approx(1, abs=1e-12)  # the trapezoidal rule, 200 points a standard deviation
    pair = gaussian_decoder(torch.tensor([[[0.1, 0.2]]]), torch.tensor([[[0.3, 0.5]]]), 0.04)
    assert pair.item() == pytest.approx(-(0.04 + 0.09) / 0.08 - math.log(2 * math.pi * 0.04), rel=2e-6)  # float32


def test_pixels_in_the_bound():
    """Only the reconstruction differs; with small bins it is that of the density, times the bins' width."""
    x = torch.randint(1, 255, (50, 4), generator=seeded(3)).double() / 127.5 - 1
    denoiser, schedule = gaussian_denoiser(SHORT, 0.0, 0.3), VarianceSchedule.linear(12, 0.01, 0.3)
    density, pixels = (
        variational_bound(denoiser, schedule, x, decoder=decoder, generator=seeded())
        for decoder in (gaussian_decoder, pixel_decoder)
    )
    np.testing.assert_array_equal(density.steps.mean, pixels.steps.mean)
    width = math.log2(2 / 255)
    # The midpoint rule for a bin of 0.08 standard deviations: 0.08^2 / 24 times the second derivative, of order 1.
    assert pixels.reconstruction.mean == pytest.approx(density.reconstruction.mean - width, abs=1e-3)


def test_decoder_of_the_bound_is_given_mean_and_variance():
    """mu_theta(x_1, 1) by (18), and 1 - alpha_bar_1, where (15) is 0."""
    seen = []

    def decoder(x_0, mean, variance):
        seen.append((x_0, mean, variance))
        return torch.zeros(len(x_0))

    x = torch.tensor([[0.3], [0.5]], dtype=torch.float64)
    with Given(torch.tensor([[1.0], [-2.0]], dtype=torch.float64)):
        bound = variational_bound(lambda x_t, t: 0.1 * x_t, SHORT, x, decoder=decoder)
    ((x_0, mean, variance),) = seen
    x_1 = SHORT.add_noise(x.numpy(), np.array([[1.0], [-2.0]]), 1)
    assert torch.equal(x_0, x)
    assert variance == pytest.approx(SHORT.beta[1], rel=1e-14)
    np.testing.assert_allclose(mean, SHORT.posterior_mean_from_noise(x_1, 0.1 * x_1, 1), rtol=1e-14)
    assert bound.reconstruction.mean == 0


def test_batches_and_repeats():
    """The batch changes nothing but roundings, the generator decides, the images stay as they are; float32."""
    x = torch.randn((7, 1, 2, 2), generator=seeded(1))
    kept, denoiser = x.clone(), gaussian_denoiser(SHORT, 0.0, 1.0)

    def run(**options):
        return variational_bound(denoiser, SHORT, x, generator=seeded(), n_times=3, n_repeats=2, **options)

    first, second = run(), run(batch_size=3)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12)
    assert torch.equal(x, kept)
    other = variational_bound(denoiser, SHORT, x)  # a fresh generator
    assert other.total.mean != variational_bound(denoiser, SHORT, x).total.mean
    assert first.total.mean.dtype == first.steps.error.dtype == np.float64


def test_a_network():
    """In the dtype of its parameters, at a time for each image; a step of one time alone, and T = 1."""
    network = UNet(width=32, image_size=8)
    seen = []
    network.register_forward_pre_hook(lambda _, args: seen.append(args))
    x = 2 * torch.rand((3, 1, 8, 8), generator=seeded(), dtype=torch.float64) - 1
    bound = variational_bound(network, SHORT, x, n_times=2, batch_size=2, generator=seeded())
    assert {args[0].dtype for args in seen} == {torch.float32}
    assert [len(args[1]) for args in seen] == [2, 1] * 3
    assert np.isfinite(bound.total.mean)
    one = variational_bound(network, VarianceSchedule([0.1]), x)
    assert one.steps.mean.shape == one.first.shape == (0,)
    assert one.total.mean == pytest.approx(one.prior.mean + one.reconstruction.mean)


def test_small_alpha_bar():
    """The prior of images at 0 is alpha_bar^2 / 4 a dimension, though 1 - alpha_bar rounds it away."""
    schedule = VarianceSchedule([0.5, 1 - 2e-9])
    bound = variational_bound(lambda x, t: x, schedule, torch.zeros((2, 3), dtype=torch.float64))
    assert bound.prior.mean == pytest.approx(schedule.alpha_bar[2] ** 2 / 4 / LOG_2, rel=1e-8, abs=0)
    nearly_one = variational_bound(lambda x, t: x, VarianceSchedule([1e-12]), torch.zeros((2, 3), dtype=torch.float64))
    assert nearly_one.prior.mean == pytest.approx((12 * math.log(10) - 1) / 2 / LOG_2, rel=1e-9)


def test_bad_arguments():
    x, model = torch.zeros((3, 2)), gaussian_denoiser(SHORT, 0.0, 1.0)
    for bad in (np.zeros((3, 2), np.int64), x.long()):
        with pytest.raises(TypeError, match="images must be a floating tensor"):
            variational_bound(model, SHORT, bad)
    for bad in (x[:1], x[0], x[:, :0]):
        with pytest.raises(ValueError, match=r"images must have shape \(N, ...\) with N >= 2"):
            variational_bound(model, SHORT, bad)
    with pytest.raises(ValueError, match="images must be finite"):
        variational_bound(model, SHORT, x + torch.nan)
    for name in ("n_times", "n_repeats", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            variational_bound(model, SHORT, x, **{name: 0})
        for bad in (2.5, True):
            with pytest.raises(TypeError, match=f"{name} must be an integer"):
                variational_bound(model, SHORT, x, **{name: bad})
    with pytest.raises(ValueError, match="n_times must be at most T - 1 = 11; it is 12"):
        variational_bound(model, SHORT, x, n_times=12)
    with pytest.raises(TypeError, match="the model must return a tensor; it gave float"):
        variational_bound(lambda x, t: 0.0, SHORT, x)
    with pytest.raises(ValueError, match=r"the model must return the shape \(3, 2\); it gave \(3, 1\)"):
        variational_bound(lambda x, t: x[:, :1], SHORT, x)
    with pytest.raises(ValueError, match="predictions led to NaN or infinity"):
        variational_bound(lambda x, t: x / 0, SHORT, x)
    for bad in (x + 0.3, x + 257 / 255):
        with pytest.raises(ValueError, match="pixel_decoder needs pixels of 256 values"):
            variational_bound(model, SHORT, bad, decoder=pixel_decoder)
    for decoder in (gaussian_decoder, pixel_decoder):
        for variance in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match=f"variance must be positive and finite; it is {variance}"):
                decoder(x, x, variance)
        with pytest.raises(ValueError, match=r"one shape; they have \(3, 2\) and \(3, 1\)"):
            decoder(x, x[:, :1], 1.0)
