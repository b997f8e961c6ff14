"""The samplers: their printed formulas, their orders on a mixture, and single steps of diffusers'."""

import math
from fractions import Fraction
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath.ddpm import gaussian_denoiser, mixture_denoiser, sample
from diffmath.ddpm.samplers import SAMPLERS, Sampler, _ddim
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import jumps

PAPER, EPS = VarianceSchedule.linear(), np.finfo(np.float64).eps
DIFFUSERS = {"ancestral": "DDPM", "ddim": "DDIM", "heun": "HeunDiscrete", "dpmsolver++2m": "DPMSolverMultistep"}
DETERMINISTIC = ["ddim", "heun", "dpmsolver++2m"]
MEANS, SPREADS, WEIGHTS = np.array([-0.9, 0.1, 0.7]), np.array([0.3, 0.2, 0.25]), np.array([0.5, 0.2, 0.3])
LINEAR_SIGMA = VarianceSchedule(-np.expm1(-np.diff(np.log1p(np.linspace(0, 12, 3841) ** 2))))


def mixture(schedule):
    means, variances, weights = (torch.tensor(v) for v in (MEANS[:, None], SPREADS**2, WEIGHTS))
    return mixture_denoiser(schedule, means, variances, weights)


def exact(schedule, x_t, t, s):
    """The probability-flow ODE from t to s, in x / sqrt(alpha_bar) and sigma, by scipy."""

    def slope(sigma, x):
        spread = SPREADS**2 + sigma**2
        gap = x[:, None] - MEANS
        logit = np.log(WEIGHTS) - gap**2 / (2 * spread) - np.log(spread) / 2
        share = np.exp(logit - logit.max(1, keepdims=True))
        return sigma * (share / share.sum(1, keepdims=True) * gap / spread).sum(1)

    alpha_bar = schedule.alpha_bar[[t, s]]
    sigma = np.sqrt((1 - alpha_bar) / alpha_bar)
    x = solve_ivp(slope, sigma, x_t / np.sqrt(alpha_bar[0]), "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    return np.sqrt(alpha_bar[1]) * x


@pytest.mark.parametrize(("method", "order"), [("ddim", 1), ("heun", 2), ("dpmsolver++2m", 2)])
@pytest.mark.parametrize(
    ("schedule", "least"),
    [(VarianceSchedule.linear(3840, 1e-4 / 8, 0.02 / 8), 480), (LINEAR_SIGMA, 48), (LINEAR_SIGMA, 0)],
    ids=["linear beta", "linear sigma", "linear sigma, to 0"],
)
def test_order(method, order, schedule, least):
    """Doubling the steps divides the error by 2 or by 4, down to some noise level.

    And to 0, where the last step is Euler's in sigma, if sigma is of first order in t; with linear betas its square is,
    which leaves an error of first order. The steps of dpmsolver in log sigma do not even get smaller there.
    """
    T = schedule.n_steps
    x_T = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    expected = exact(schedule, x_T[:, 0].numpy(), T, least)
    errors = []
    for n in (160, 320, 640):
        times = np.linspace(least, T, n + 1).round().astype(int)
        _, (state,) = sample(mixture(schedule), schedule, x_T, method=method, times=times, trajectory=[least])
        errors.append(np.abs(state[:, 0].numpy() - expected).mean())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    if least == 0 and method == "dpmsolver++2m":
        order = 1.4  # as found, of no theory
    assert orders == pytest.approx([order] * 2, abs=0.1)


@given(jumps(n_times=2), st.just(0.0) | st.floats(1e-3, 1))
def test_ddim_is_printed(case, eta):
    """Song, Meng & Ermon (2021), eq. (12), in 400 digits, as alpha_bar may be 1e-300 from 1."""
    schedule, (s, t) = case
    with mp.workdps(400):
        beta = [mp.mpf(float(b)) for b in schedule.beta]
        bar_s = mp.fprod(1 - b for b in beta[: s + 1])
        bar_t = bar_s * mp.fprod(1 - b for b in beta[s + 1 : t + 1])
        sigma = mp.mpf(eta) * mp.sqrt((1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s))
        a = mp.sqrt(bar_s / bar_t)
        b = mp.sqrt(1 - bar_s - sigma**2) - a * mp.sqrt(1 - bar_t)
        found = _ddim(schedule, t, s, eta)
        tolerance = 64 + 4 * abs(float(mp.log(bar_t)))
        for label, value, printed in zip("abc", found, (a, b, sigma), strict=True):
            laws.within(value, float(printed), tolerance * EPS * abs(float(printed)), label=label)


@given(jumps(n_times=2))
def test_ddim_with_all_the_noise_is_ancestral(case):
    """eta = 1 is eq. (19) with the variance (15), for any jump."""
    schedule, (s, t) = case
    expected = schedule.backward_coefficients(t, s)
    for label, ours, theirs in zip("abc", _ddim(schedule, t, s, 1.0), expected, strict=True):
        laws.close(ours, theirs, ulps=60, label=label)


@pytest.mark.parametrize("method", SAMPLERS)
def test_the_record_counts_evaluations(method):
    """As often as the record says the model is called, for any number of steps."""
    for n in (1, 2, 7):
        calls = []

        def model(x, t, calls=calls):
            calls.append(t)
            return x

        sample(model, PAPER, torch.zeros(1, 1), n_steps=n, method=method, generator=0)
        assert len(calls) == SAMPLERS[method].evaluations(n)


def test_a_new_sampler_is_a_record(monkeypatch):
    """A function and its record are all that `sample` and the command line need."""

    def straight(x, walk):
        for _, s in pairwise(walk.times):
            walk.predict(x, walk.times[0], x)
            yield s, x.mul_(1 - walk.eta)

    monkeypatch.setitem(SAMPLERS, "straight", Sampler("straight", straight, most_eta=1.0))
    x = sample(lambda x, t: x + 1, PAPER, torch.zeros(2, 3), n_steps=2, method="straight", eta=0.5)
    assert torch.equal(x, torch.full((2, 3), 0.75))
    with pytest.raises(ValueError, match="be 0 but for 'ddim', .*'straight'; it is 0.5 for 'heun'"):
        sample(lambda x, t: x, PAPER, method="heun", eta=0.5)
    assert ", ".join(SAMPLERS) in " ".join(
        CliRunner().invoke(app, ["sample", "--method", "euler"]).output.replace("│", " ").split()
    )


@pytest.mark.parametrize("n_steps", [500, 37])
def test_walks_agree(n_steps):
    """The same noise: "ddim" with eta = 1 is "ancestral", path by path; without noise it is dpmsolver's first step."""
    x_T = torch.randn((5, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoiser = gaussian_denoiser(PAPER, 0.3, 0.04)

    def run(**options):
        return sample(denoiser, PAPER, x_T, generator=torch.Generator().manual_seed(1), **options)

    first, second = run(n_steps=n_steps), run(n_steps=n_steps, method="ddim", eta=1.0)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    times = [500, 300]
    one = [run(times=times, method=method, trajectory=[300])[1] for method in ("ddim", "dpmsolver++2m")]
    torch.testing.assert_close(*one, rtol=1e-13, atol=1e-13)


def printed_dpmsolver(x, times, predict):
    """Lu et al. (2022), algorithm 2, in lambda."""
    before = h_before = None
    for t, s in pairwise(times):
        alpha, sigma = (np.sqrt(v) for v in (PAPER.alpha_bar, 1 - PAPER.alpha_bar))
        image = (x - sigma[t] * predict(x, t)) / alpha[t]
        if s == 0:
            return image
        h = np.log(alpha[s] / sigma[s]) - np.log(alpha[t] / sigma[t])
        D = image if before is None else (1 + h / (2 * h_before)) * image - h / (2 * h_before) * before
        x = sigma[s] / sigma[t] * x - alpha[s] * np.expm1(-h) * D
        before, h_before = image, h


def printed_heun(x, times, predict):
    """In x / sqrt(alpha_bar) and sigma."""
    sigma = np.sqrt((1 - PAPER.alpha_bar) / PAPER.alpha_bar)
    for t, s in pairwise(times):
        x_bar, step = x / np.sqrt(PAPER.alpha_bar[t]), sigma[s] - sigma[t]
        d = predict(x, t)
        if s > 0:
            d = (d + predict((x_bar + step * d) * np.sqrt(PAPER.alpha_bar[s]), s)) / 2
        x = (x_bar + step * d) * np.sqrt(PAPER.alpha_bar[s])
    return x


@pytest.mark.parametrize(("method", "printed"), [("dpmsolver++2m", printed_dpmsolver), ("heun", printed_heun)])
def test_walks_are_printed(method, printed):
    """Step by step in the published form, on uneven times; the model sees each time as often as it should."""
    denoiser, times = mixture(PAPER), [500, 411, 180, 179, 60, 7, 1, 0]
    x_T = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    seen = []

    def watched(x, t):
        seen.append(int(t[0]))
        return denoiser(x, t)

    images = sample(watched, PAPER, x_T, method=method, times=times[:-1])
    expected = printed(x_T.numpy(), times, lambda x, t: denoiser(torch.tensor(x), torch.full((len(x),), t)).numpy())
    np.testing.assert_allclose(images.numpy(), expected, rtol=1e-11)
    twice = [500, *(t for t in times[1:-1] for _ in range(2))]
    assert seen == (twice if method == "heun" else times[:-1])


@pytest.mark.parametrize("method", DETERMINISTIC)
def test_deterministic(method):
    """No noise is drawn; batches change nothing; with all steps near the data's law for Gaussian data."""
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn((7, 1), dtype=torch.float64, generator=generator)
    state = generator.get_state()
    denoiser = gaussian_denoiser(PAPER, 0.3, 0.04)
    images = sample(denoiser, PAPER, x_T, method=method, generator=generator)
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(images, sample(denoiser, PAPER, x_T, method=method, batch_size=3))
    # The ODE takes quantiles to quantiles: of N(0, 1), where it started, to those of nearly the data's law.
    slope = ((images[0] - images[1]) / (x_T[0] - x_T[1])).item()
    alpha_bar = PAPER.alpha_bar[500]
    assert slope == pytest.approx(0.2 / math.sqrt(alpha_bar * 0.04 + 1 - alpha_bar), rel=0.02)


def test_times():
    """Any times in any order; x_T is at the largest."""
    denoiser, x = gaussian_denoiser(PAPER, 0.3, 0.04), torch.ones((1, 1), dtype=torch.float64)
    first = sample(denoiser, PAPER, x, times=[3, 250, 40, 0], method="ddim")
    assert torch.equal(first, sample(denoiser, PAPER, x, times=np.array([250, 40, 3]), method="ddim"))
    _, (state,) = sample(denoiser, PAPER, x, times=[250, 3], trajectory=[250])
    assert torch.equal(state, x)
    with pytest.raises(
        ValueError, match=r"the law of x_T at T = 500, and the times start at 250: give x_T, as matched_"
    ):
        sample(denoiser, PAPER, times=[250, 3])
    assert sample(denoiser, PAPER, n_samples=2, times=[500, 3]).shape == (2, 1, 32, 32)
    for times in ([], [0], [501], [-1, 3]):
        with pytest.raises(ValueError, match=r"times must (be one at least in 1|lie in 0)\.\.500"):
            sample(denoiser, PAPER, x, times=times)
    with pytest.raises(ValueError, match="n_steps or times, not both"):
        sample(denoiser, PAPER, x, times=[3], n_steps=1)
    with pytest.raises(TypeError):
        sample(denoiser, PAPER, x, times=[2.5])
    for eta, method in ((1.5, "ddim"), (float("nan"), "ddim"), (0.5, "heun")):
        with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\]"):
            sample(denoiser, PAPER, x, method=method, eta=eta)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("method", "eta"), [*((method, 0.0) for method in DIFFUSERS), ("ddim", 0.5), ("ddim", 1.0)])
def test_steps_of_diffusers(method, eta):
    """Its schedulers, with our float64 tables in theirs, from each of our states on uneven times: the next to 1e-10."""
    diffusers = pytest.importorskip("diffusers")
    times, clip = [500, 411, 180, 179, 60, 7], {"clip_sample": False} if method in ("ancestral", "ddim") else {}
    scheduler = getattr(diffusers, f"{DIFFUSERS[method]}Scheduler")(500, beta_start=1e-4, beta_end=0.02, **clip)
    scheduler.set_timesteps(**{"timesteps": [t - 1 for t in times]} if method != "ddim" else {"num_inference_steps": 6})
    scheduler.alphas_cumprod = torch.tensor(PAPER.alpha_bar[1:])
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    sigma = torch.tensor(np.sqrt((1 - PAPER.alpha_bar) / PAPER.alpha_bar)[[*times, 0]])
    scheduler.sigmas = sigma
    denoiser, x_T = mixture(PAPER), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    path = [*times, 0]
    _, states = sample(
        denoiser, PAPER, x_T, method=method, times=times, trajectory=path, generator=torch.manual_seed(0), eta=eta
    )
    generator = torch.manual_seed(0)
    for k, (t, s) in enumerate(pairwise(path)):
        x, eps = states[k], denoiser(states[k], torch.full((9,), t))
        match method:
            case "ancestral":
                x = scheduler.step(eps, t - 1, x, generator=generator).prev_sample
            case "ddim":
                scheduler.num_inference_steps = Fraction(500, t - s)  # its jump is 500 // that
                x = scheduler.step(eps, t - 1, x, eta=eta, generator=generator).prev_sample
            case "heun":  # works in x / sqrt(alpha_bar), and is called for each evaluation
                scheduler.sigmas = torch.cat([sigma[:1], sigma[1:-1].repeat_interleave(2), sigma[-1:]])
                x = scheduler.step(eps, torch.tensor(t - 1.0), x * (1 + sigma[k] ** 2).sqrt()).prev_sample
                if s > 0:
                    eps = denoiser(x / (1 + sigma[k + 1] ** 2).sqrt(), torch.full((9,), s))
                    x = scheduler.step(eps, torch.tensor(s - 1.0), x).prev_sample
                x = x / (1 + sigma[k + 1] ** 2).sqrt()
            case "dpmsolver++2m":  # its `step` rounds to float32 between these two
                scheduler._step_index = k
                scheduler.model_outputs = [*scheduler.model_outputs[1:], scheduler.convert_model_output(eps, sample=x)]
                if k == 0 or s == 0:
                    x = scheduler.dpm_solver_first_order_update(scheduler.model_outputs[-1], sample=x)
                else:
                    x = scheduler.multistep_dpm_solver_second_order_update(scheduler.model_outputs, sample=x)
        last = method == "ancestral" and s == 0  # where its variance is 1e-20
        torch.testing.assert_close(x, states[k + 1], rtol=1e-10, atol=1e-9 if last else 1e-10)
