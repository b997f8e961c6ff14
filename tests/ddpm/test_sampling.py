"""Algorithm 2, with exact denoisers in place of a network: against the law that its own recursion predicts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath.ddpm import UNet, denoisers, sample, save_checkpoint
from diffmath.ddpm.samplers import SAMPLERS
from diffmath.schedule import VarianceSchedule
from tests import laws

PAPER = VarianceSchedule.linear()


def gaussian_denoiser(schedule, mean, spread):
    """E[eps | x_t] for data N(mean, spread^2): the regression of the noise on x_t, as both are Gaussian."""

    def predict(x, t):
        alpha_bar = float(schedule.alpha_bar[int(t[0])])
        return np.sqrt(1 - alpha_bar) * (x - np.sqrt(alpha_bar) * mean) / (alpha_bar * spread**2 + 1 - alpha_bar)

    return predict


def predicted_laws(schedule, mean, spread, n_steps=None):
    """Mean and variance after every step of Algorithm 2 for Gaussian data, from the printed formulas: a recursion."""
    m, v, laws_at = 0.0, 1.0, {schedule.n_steps: (0.0, 1.0)}
    times = schedule.subsequence(n_steps)
    for t, s in zip(times[:0:-1], times[-2::-1], strict=True):
        alpha_bar_t, alpha_bar_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
        alpha = alpha_bar_t / alpha_bar_s
        gain = np.sqrt(1 - alpha_bar_t) / (alpha_bar_t * spread**2 + 1 - alpha_bar_t)
        slope = (1 - (1 - alpha) / np.sqrt(1 - alpha_bar_t) * gain) / np.sqrt(alpha)
        shift = (1 - alpha) / np.sqrt(1 - alpha_bar_t) * gain * np.sqrt(alpha_bar_t) * mean / np.sqrt(alpha)
        m = slope * m + shift
        v = slope**2 * v + (1 - alpha) * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        laws_at[int(s)] = m, v
    return laws_at


def predicted_law(schedule, mean, spread, n_steps=None):
    """Mean and variance of Algorithm 2's output."""
    return predicted_laws(schedule, mean, spread, n_steps)[0]


@pytest.mark.parametrize(
    ("spread", "n_steps", "ratio"),
    [
        (0.05, None, 0.832),
        (0.1, None, 0.909),
        (0.2, None, 0.952),
        (0.5, None, 0.979),
        (1, None, 0.988),
        (0.2, 50, 0.704),
    ],
)
def test_the_law_is_not_the_datas(spread, n_steps, ratio):
    """The recursion itself: the discretisation takes some of the variance."""
    assert predicted_law(PAPER, 0.3, spread, n_steps)[1] / spread**2 == pytest.approx(ratio, abs=6e-4)


@pytest.mark.parametrize("n_steps", [None, 50, 1])
def test_samples_have_the_predicted_law(n_steps):
    """Monte Carlo, 100,000 samples: mean and variance within 5 standard errors, and not those of the data."""
    mean, spread = 0.3, 0.2
    x_T = torch.randn((100_000, 1), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    images = sample(
        gaussian_denoiser(PAPER, mean, spread),
        PAPER,
        x_T,
        n_steps=n_steps,
        generator=torch.Generator().manual_seed(2),
        batch_size=100_000,
    ).numpy()
    m, v = predicted_law(PAPER, mean, spread, n_steps)
    laws.sample_mean(images, m)
    laws.sample_mean((images - m) ** 2, v)
    if n_steps is None:
        with pytest.raises(AssertionError):
            laws.sample_mean((images - m) ** 2, spread**2)


def moments(denoiser, d, n_steps):
    """Mean and covariance after every step: the state is affine in x_T and in each step's noise, from unit impulses."""
    n = n_steps or PAPER.n_steps
    x_T = torch.zeros((n * d + 1, d), dtype=torch.float64)
    x_T[-d:] = torch.eye(d)  # the response to x_T; row 0 has no impulse at all, the others one in some step's noise

    class Impulses(torch.overrides.TorchFunctionMode):
        """Noise that is zero but for one entry of each of d samples."""

        calls = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is not torch.randn:
                return result
            result.zero_()[1 + self.calls * d :][:d] = torch.eye(d)
            self.calls += 1
            return result

    times = PAPER.subsequence(n_steps)[::-1].tolist()
    with Impulses() as mode:
        _, states = sample(denoiser, PAPER, x_T, n_steps=n_steps, batch_size=len(x_T), trajectory=times)
    assert mode.calls == n - 1  # none in the last step
    mean, response = states[:, 0], states[:, 1:] - states[:, :1]
    return times, mean.numpy(), (response.mT @ response).numpy()


@pytest.mark.parametrize("n_steps", [None, 50, 7])
def test_moments_pushed_through_the_update(n_steps):
    """The exact law of the states, after every step, is that of the recursion."""
    mean, spread = 0.3, 0.2
    times, means, variances = moments(gaussian_denoiser(PAPER, mean, spread), 1, n_steps)
    predicted = predicted_laws(PAPER, mean, spread, n_steps)
    for t, m, v in zip(times, means[:, 0], variances[:, 0, 0], strict=True):
        assert (m, v) == pytest.approx(predicted[t], rel=1e-12)


# Correlated data: standard deviations along, and mean in, orthonormal axes, which are the columns.
SPREADS, CENTRE = np.array([0.1, 0.5, 1.5]), np.array([0.3, -1.0, 0.5])
AXES = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
CORRELATED = denoisers.gaussian_denoiser(
    PAPER, torch.tensor(AXES @ CENTRE), covariance=torch.tensor((AXES * SPREADS**2) @ AXES.T)
)


def predicted_along_the_axes(n_steps):
    """For each time, means and variances in the eigenbasis: a recursion of their own for each eigenvalue."""
    each = [predicted_laws(PAPER, m, spread, n_steps) for m, spread in zip(CENTRE, SPREADS, strict=True)]
    return {t: np.array([one[t] for one in each]).T for t in each[0]}


@pytest.mark.parametrize("n_steps", [None, 50, 7])
def test_moments_of_correlated_data(n_steps):
    """With a full covariance, after every step: the covariance is diagonal in the data's eigenbasis, to 1e-12."""
    predicted = predicted_along_the_axes(n_steps)
    for t, mean, covariance in zip(*moments(CORRELATED, 3, n_steps), strict=True):
        m, v = predicted[t]
        laws.within(AXES.T @ mean, m, 1e-12 * np.abs(CENTRE).max(), label="mean")
        laws.within(AXES.T @ covariance @ AXES, np.diag(v), 1e-12 * np.sqrt(np.outer(v, v)), label="covariance")


@pytest.mark.parametrize("n_steps", [None, 50, 1])
def test_samples_of_correlated_data(n_steps):
    """Monte Carlo, 20,000 samples: the predicted law, not the data's; by an exact test, with 1e-6 for a false alarm."""
    x_T = torch.randn((20_000, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x = sample(
        CORRELATED, PAPER, x_T, n_steps=n_steps, generator=torch.Generator().manual_seed(4), batch_size=20_000
    ).numpy()
    m, v = predicted_along_the_axes(n_steps)[0]
    laws.gaussian_samples(x, AXES @ m, (AXES * v) @ AXES.T, false_alarm=1e-6)
    with pytest.raises(AssertionError):
        laws.gaussian_samples(x, AXES @ CENTRE, (AXES * SPREADS**2) @ AXES.T, false_alarm=1e-6)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_is_equation_19(n_steps, seed):
    """The printed (19), with the printed (15), step by step with the same noise; sigma is 0 in the last step."""
    schedule = VarianceSchedule.linear(40, 1e-3, 0.2)
    denoiser = gaussian_denoiser(schedule, 0.1, 0.5)
    times = schedule.subsequence(n_steps).tolist()
    x_T = torch.randn((4, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x, generator = x_T, torch.Generator().manual_seed(seed)
    for t, s in zip(times[:0:-1], times[-2::-1], strict=True):
        alpha = schedule.alpha_bar[t] / schedule.alpha_bar[s]
        noise = np.sqrt(1 - schedule.alpha_bar[t])
        x = (x - (1 - alpha) / noise * denoiser(x, [t])) / np.sqrt(alpha)
        if s > 0:
            z = torch.randn(x.shape, dtype=x.dtype, generator=generator)
            x = x + np.sqrt((1 - alpha) * (1 - schedule.alpha_bar[s]) / noise**2) * z
    result = sample(denoiser, schedule, x_T, n_steps=n_steps, generator=torch.Generator().manual_seed(seed))
    laws.within(result, x, 1e-11, label="images")  # the printed forms cancel


def test_points_are_memorised():
    """Data of two points: every sample ends within 1e-6 of one of them."""

    def predict(x, t):
        alpha_bar = PAPER.alpha_bar[int(t[0])]
        x_0 = torch.tanh(np.sqrt(alpha_bar) * x / (1 - alpha_bar))
        return (x - np.sqrt(alpha_bar) * x_0) / np.sqrt(1 - alpha_bar)

    x_T = torch.randn((2000, 1), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = sample(predict, PAPER, x_T, generator=torch.Generator().manual_seed(0), batch_size=2000)
    assert (images.abs() - 1).abs().max() < 1e-6
    assert 0.4 < (images > 0).double().mean() < 0.6


def test_score_by_automatic_differentiation():
    """A model may differentiate: eps = -sqrt(1 - alpha_bar) times the gradient of log p(x_t), here of N(0, 1) data."""

    def predict(x, t):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(-(x**2).sum() / 2, x)
        return -np.sqrt(1 - PAPER.alpha_bar[int(t[0])]) * gradient

    x_T = torch.randn((3, 1), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_hand, by_gradient = (
        sample(model, PAPER, x_T, n_steps=9, generator=torch.Generator().manual_seed(1))
        for model in (gaussian_denoiser(PAPER, 0.0, 1.0), predict)
    )
    torch.testing.assert_close(by_gradient, by_hand, rtol=0, atol=1e-12)
    (by_gradient.requires_grad_() ** 2).sum().backward()  # the images are ordinary tensors


def test_what_the_model_does_to_its_input_stays_there():
    x_T = torch.randn((3, 1), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before, denoiser = x_T.clone(), gaussian_denoiser(PAPER, 0.0, 1.0)

    def vandal(x, t):
        noise = denoiser(x, t)
        x.zero_()
        return noise

    kept, spoilt = (
        sample(model, PAPER, x_T, n_steps=9, generator=torch.Generator().manual_seed(1)) for model in (denoiser, vandal)
    )
    assert torch.equal(kept, spoilt)
    assert torch.equal(x_T, before)


def test_trajectory():
    """States at the times asked for, in that order; T is the start and 0 the images."""
    x_T = torch.randn((2, 1), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoiser = gaussian_denoiser(PAPER, 0.0, 1.0)

    def run(times):
        return sample(denoiser, PAPER, x_T, n_steps=5, generator=torch.Generator().manual_seed(3), trajectory=times)

    images, states = run([0, 500, 300])
    assert states.shape == (3, 2, 1)
    torch.testing.assert_close(states[0], images, rtol=0, atol=0)
    torch.testing.assert_close(states[1], x_T, rtol=0, atol=0)
    torch.testing.assert_close(run([300])[1][0], states[2], rtol=0, atol=0)
    assert run([])[1].shape == (0, 2, 1)
    with pytest.raises(ValueError, match=r"\[250\] do not, \[300\] are the nearest"):
        run([250])


def test_what_the_model_sees():
    """Times T..1 as int64, one for each sample, in batches; float32 noise of the model's shape; in one place."""
    seen, given = [], []

    def model(x, t):
        seen.append((tuple(x.shape), t.tolist()))
        given.append((x, t))  # kept, so that what is allocated lies elsewhere
        assert t.dtype == torch.int64
        return torch.zeros_like(x)

    schedule = VarianceSchedule.linear(3)
    images = sample(model, schedule, n_samples=5, batch_size=3)
    assert (images.shape, images.dtype) == ((5, 1, 32, 32), torch.float32)
    assert [times[0] for _, times in seen] == [3, 3, 2, 2, 1, 1]
    assert {shape for shape, _ in seen} == {(3, 1, 32, 32), (2, 1, 32, 32)}
    assert len({(x.data_ptr(), t.data_ptr()) for x, t in given}) == 1
    assert sample(UNet(width=32, image_size=8), schedule, n_samples=2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_x_T_unchanged(dtype):  # noqa: N802
    x_T = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(dtype)
    before = x_T.clone()
    schedule = VarianceSchedule.linear(3)
    for model in (UNet(width=32, image_size=8), lambda x, t: 0 * x):
        images = sample(model, schedule, x_T)
        assert (images.dtype, images.shape) == (dtype, x_T.shape)
    torch.testing.assert_close(x_T, before, rtol=0, atol=0)


def test_seeds():
    denoiser = gaussian_denoiser(PAPER, 0.0, 1.0)

    def run(seed, **arguments):
        return sample(
            denoiser, PAPER, n_steps=4, n_samples=3, generator=torch.Generator().manual_seed(seed), **arguments
        )

    torch.testing.assert_close(run(1), run(1), rtol=0, atol=0)
    torch.testing.assert_close(run(1), run(1, batch_size=1), rtol=0, atol=0)
    assert (run(1) != run(2)).any()
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first, second = (sample(denoiser, PAPER, n_steps=2) for _ in range(2))
    assert (first != second).any()
    assert torch.equal(torch.random.get_rng_state(), state)  # the global state is not touched


def test_bad_arguments():
    denoiser = gaussian_denoiser(PAPER, 0.0, 1.0)
    with pytest.raises(ValueError, match="method must be one of 'ancestral', 'ddim'"):
        sample(denoiser, PAPER, method="euler")
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        sample(denoiser, PAPER, n_samples=0)
    with pytest.raises(ValueError, match="n_steps must be at least 1"):
        sample(denoiser, PAPER, n_steps=0)
    with pytest.raises(ValueError, match="at most T = 500"):
        sample(denoiser, PAPER, n_steps=501)
    with pytest.raises(ValueError, match="batch_size"):
        sample(denoiser, PAPER, batch_size=0)
    with pytest.raises(ValueError, match="x_T must be finite"):
        sample(denoiser, PAPER, torch.tensor([[float("nan")]]))
    with pytest.raises(TypeError, match=r"torch.int64"):
        sample(denoiser, PAPER, torch.tensor([[1]]))
    with pytest.raises(TypeError, match="x_T must be a floating tensor; it is torch.int64"):
        sample(denoiser, PAPER, np.zeros((1, 1), np.int64))
    with pytest.raises(ValueError, match=r"N >= 1"):
        sample(denoiser, PAPER, torch.zeros((0, 1)))
    for bad, error, said in (([2.5], TypeError, "an integer; it is 2.5"), ([-1], ValueError, "at least 0")):
        with pytest.raises(error, match=f"each of trajectory must be {said}"):
            sample(denoiser, PAPER, n_steps=1, trajectory=bad)
    with pytest.raises(TypeError, match="each of times must be an integer; it is 2.5"):
        sample(denoiser, PAPER, times=[2.5])
    with pytest.raises(ValueError, match=r"the model must return the shape \(1, 2\); it gave \(1, 1\)"):
        sample(lambda x, t: x[:, :1], PAPER, torch.zeros((1, 2)))


@pytest.mark.parametrize("method", SAMPLERS)
def test_schedules_that_leave_nothing(method):
    """Steps that no precision could take: too much of a jump, or all the way from an image that is not there."""
    steep, none = VarianceSchedule.linear(500, 1e-4, 0.9), VarianceSchedule.linear(2000, 1e-4, 0.9)
    for schedule, n_steps, dtype in ((none, 20, torch.float32), (none, 20, torch.float64), (steep, 20, torch.float32)):
        with pytest.raises(ValueError, match=r"sqrt\(alpha_t\|s\) must be at least .* take more steps, or a schedule"):
            sample(gaussian_denoiser(schedule, 0.0, 1.0), schedule, torch.zeros(2, 1, dtype=dtype), 2, n_steps, method)
    x = torch.ones(2, 1, dtype=torch.float64)
    if method == "dpmsolver++2m":
        with pytest.raises(ValueError, match="from t = 500 to 0 it is"):
            sample(gaussian_denoiser(steep, 0.0, 1.0), steep, x, method=method)
    else:  # small steps from an image of 1e-81 are fine
        seed = torch.Generator().manual_seed(0)
        images = sample(gaussian_denoiser(steep, 0.0, 1.0), steep, x, method=method, generator=seed)
        assert 0.1 < images.abs().max() < 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_follows_the_cpu():
    """The same generator gives the same noise on either device, so the images agree to float32 rounding."""
    model = UNet(width=32, image_size=8)
    torch.nn.init.normal_(model.conv_out.weight, std=0.02)
    schedule = VarianceSchedule.linear(10)
    on_cpu = sample(model, schedule, generator=torch.Generator().manual_seed(0))
    on_gpu = sample(model.cuda(), schedule, generator=torch.Generator().manual_seed(0))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)


def test_defaults():
    """Nine images of 1 x 32 x 32 unless told otherwise."""
    images = sample(gaussian_denoiser(PAPER, 0.0, 1.0), PAPER, n_steps=1)
    assert images.shape == (9, 1, 32, 32)


def test_bad_models_and_counts():
    with pytest.raises(TypeError, match="n_samples must be an integer; it is 2.0"):
        sample(gaussian_denoiser(PAPER, 0.0, 1.0), PAPER, n_samples=2.0)
    with pytest.raises(TypeError, match="the model must return a tensor; it gave ndarray"):
        sample(lambda x, t: x.numpy(), PAPER, n_steps=1)
    with pytest.raises(ValueError, match="the model's predictions led to NaN or infinity"):
        sample(lambda x, t: x / 0, PAPER, n_steps=1)


def test_weights_are_cast_once(monkeypatch):
    """In bfloat16, not again at every step."""
    monkeypatch.setattr("diffmath.ddpm.sampling.autocast_dtype", lambda device: torch.bfloat16)
    model, casts = torch.nn.Linear(7, 7, bias=False), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default and args[0].shape == model.weight.shape:
                casts.append(args[0])
            return function(*args, **(kwargs or {}))

    model.forward = lambda x, t: torch.nn.functional.linear(x, model.weight)
    with Watch():
        sample(model, PAPER, torch.ones((3, 7)), n_steps=5, autocast=True)
    assert len(casts) == 1


def test_compiled(monkeypatch):
    """The network that torch.compile returns is the one that is asked."""
    asked = []

    def compiled(model, mode):
        asked.append(mode)
        return lambda x, t: 2 * model(x, t)

    monkeypatch.setattr(torch, "compile", compiled)
    denoiser, x_T = gaussian_denoiser(PAPER, 0.0, 1.0), torch.ones((2, 1))
    images = sample(denoiser, PAPER, x_T, times=[3], compile=True)
    assert asked == [None]
    assert torch.equal(images, sample(lambda x, t: 2 * denoiser(x, t), PAPER, x_T, times=[3]))


def test_batches_suit_the_samples():
    """Points in the plane go through the model at once, where images go by hundreds."""

    def seen(shape, **options):
        sizes = []
        sample(lambda x, t: sizes.append(len(x)) or x, PAPER, torch.zeros(shape), n_steps=1, **options)
        return sizes

    assert seen((200_000, 2)) == [200_000]
    assert seen((230, 1, 32, 32)) == [100, 100, 30]
    assert seen((5, 2), batch_size=np.int64(3)) == [3, 2]
    assert seen((5, 1, 4, 4)) == [5]


@pytest.mark.parametrize("channels", [1, 3])
def test_few_samples_and_colours_in_the_shell(tmp_path, channels):
    """Fewer samples than a batch, grey or RGB, come out as a picture."""
    from matplotlib import image

    save_checkpoint(tmp_path / "net.safetensors", UNet(width=32, image_size=8, channels=channels), PAPER)
    arguments = ["sample", "--checkpoint", tmp_path / "net.safetensors", "-n", 2, "--n-steps", 1]
    for ending in ("png", "npy"):
        done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / f"x.{ending}")])
        assert done.exit_code == 0, done.output
    assert image.imread(tmp_path / "x.png").shape[:2] == (3 * 8, 3 * (2 * 10 - 2))
    assert np.load(tmp_path / "x.npy").shape == (2, channels, 8, 8)
