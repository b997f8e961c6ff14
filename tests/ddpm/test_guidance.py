"""Guidance: exact where the network and the reference agree, the network itself where it is not wanted."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from diffmath.__main__ import app
from diffmath.cli._options import guidance_of
from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import (
    Checkpoint,
    UNet,
    gaussian_denoiser,
    guided,
    moments,
    points_denoiser,
    sample,
    save_checkpoint,
)
from diffmath.ddpm.samplers import SAMPLERS
from diffmath.schedule import VarianceSchedule
from tests import laws
from tests.strategies import covariances

PAPER, SHORT = VarianceSchedule.linear(), VarianceSchedule.linear(12, 0.01, 0.3)
DIGITS = points_denoiser(PAPER, torch.tensor([[-1.0, 0.5], [1.0, 0.2], [0.4, -2.0]]))
GAUSSIAN = gaussian_denoiser(PAPER, 0.1, 0.8)


@given(covariances(4), st.floats(0, 100), st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_nothing_changes_for_gaussian_data(case, weight, t, seed):
    """A network that knows a Gaussian law exactly agrees with the reference, so that no weight moves it."""
    variances, axes = case
    x = torch.randn((3, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    reference = gaussian_denoiser(PAPER, 0.3, covariance=torch.tensor((axes * variances) @ axes.T))
    alpha_bar, rest = PAPER.transition(t, 0)

    def network(x, t):  # the regression of the noise on x_t, by a linear solve
        of_x_t = alpha_bar * (axes * variances) @ axes.T + rest * np.eye(4)
        return torch.tensor(np.sqrt(rest) * np.linalg.solve(of_x_t, (x.numpy() - np.sqrt(alpha_bar) * 0.3).T).T)

    times = torch.full((3,), t)
    exact = network(x, times)
    # Two ways to solve with this matrix differ by its condition number; the weight multiplies the difference.
    condition = (alpha_bar * variances.max() + rest) / (alpha_bar * variances.min() + rest)
    tolerance = 64 * laws.EPS * condition * (1 + weight) * exact.abs().max().item()
    laws.within(guided(network, reference, weight, (1, 500))(x, times), exact, tolerance, label="noise")


@given(st.integers(0, 2**32 - 1), st.floats(0, 5))
def test_each_sample_by_its_own_time(seed, weight):
    """Inside the interval the formula; outside, and without weight, the network's prediction bit for bit."""
    generator = torch.Generator().manual_seed(seed)
    x, t = torch.randn((50, 2), generator=generator), torch.randint(1, 501, (50,), generator=generator)
    t[:4] = torch.tensor([99, 100, 400, 401])
    eps, weak = DIGITS(x, t), GAUSSIAN(x, t)
    found = guided(DIGITS, GAUSSIAN, weight, (100, 400))(x, t)
    inside = (t >= 100) & (t <= 400)
    assert inside[:4].tolist() == [False, True, True, False]
    assert torch.equal(found[~inside], eps[~inside])
    torch.testing.assert_close(found[inside], ((1 + weight) * eps - weight * weak)[inside], rtol=1e-5, atol=1e-4)

    def never(x, t):
        pytest.fail("the reference was asked for nothing")

    assert torch.equal(guided(DIGITS, never, 0)(x, t), eps)
    assert torch.equal(guided(DIGITS, never, 1, (1, 99))(x, t.clamp(min=100)), DIGITS(x, t.clamp(min=100)))
    assert torch.equal(guided(DIGITS, GAUSSIAN)(x, t), guided(DIGITS, GAUSSIAN, 0.4, (100, 400))(x, t))


@pytest.mark.parametrize("method", SAMPLERS)
def test_every_sampler_takes_it(method):
    """Bit for bit the network's samples where no step lies in the interval; others where one does."""
    x_T = torch.randn((40, 2), generator=torch.Generator().manual_seed(1))
    plain, outside, inside = (
        sample(model, PAPER, x_T, n_steps=5, method=method, generator=2)
        for model in (DIGITS, guided(DIGITS, GAUSSIAN, 1.0, (101, 199)), guided(DIGITS, GAUSSIAN, 1.0, (100, 200)))
    )
    assert torch.equal(plain, outside)
    assert not torch.equal(plain, inside)


def test_the_network_behind_it(monkeypatch):
    """Its shape and precision are known to `sample`; it alone is compiled; it may change its input."""
    network, reference = UNet(width=32, image_size=8), gaussian_denoiser(SHORT, 0.0, 1.0)
    model = guided(network, reference, 0.5, (1, 12))
    assert (model.image_shape, len(list(model.parameters()))) == ((1, 8, 8), len(list(network.parameters())))
    assert not hasattr(guided(DIGITS, GAUSSIAN), "image_shape")
    with pytest.raises(ValueError, match=r"x_T must have shape \(N, 1, 8, 8\)"):
        sample(model, SHORT, torch.zeros(2, 1, 16, 16))
    assert "weight=0.5, interval=(1, 12)" in repr(model)
    expected = sample(model, SHORT, n_samples=2, n_steps=2, generator=0)

    def careless(x, t):
        eps = network(x, t)
        x.zero_()
        return eps

    x_T = torch.randn((2, 1, 8, 8), generator=(generator := torch.Generator().manual_seed(0)))
    torch.testing.assert_close(
        sample(guided(careless, reference, 0.5, (1, 12)), SHORT, x_T, n_steps=2, generator=generator), expected
    )
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, mode: compiled.append(model) or model)
    assert torch.equal(sample(model, SHORT, n_samples=2, n_steps=2, generator=0, compile=True), expected)
    assert compiled == [network]


def test_bad_arguments():
    for weight in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weight must be finite and at least 0; it is"):
            guided(DIGITS, GAUSSIAN, weight)
    with pytest.raises(TypeError, match="weight must be a number"):
        guided(DIGITS, GAUSSIAN, "0.4")
    for interval in ((400, 100), (100,), (1, 2, 3)):
        with pytest.raises(ValueError, match="interval must be two times in increasing order"):
            guided(DIGITS, GAUSSIAN, 0.4, interval)
    with pytest.raises(ValueError, match="each of interval must be at least 1; it is 0"):
        guided(DIGITS, GAUSSIAN, 0.4, (0, 100))
    with pytest.raises(TypeError, match="each of interval must be an integer"):
        guided(DIGITS, GAUSSIAN, 0.4, (100.5, 200))
    for pair in ((None, GAUSSIAN), (DIGITS, PAPER)):
        with pytest.raises(TypeError, match="(network|reference) must be callable"):
            guided(*pair)
    wrong = guided(DIGITS, lambda x, t: x[:1], 0.4)
    with pytest.raises(ValueError, match=r"the model must return the shape \(3, 2\); it gave \(1, 2\)"):
        wrong(torch.zeros(3, 2), torch.full((3,), 200))


def shell(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_in_the_shell(tmp_path):
    """--guidance samples as the library does, with MNIST's mean and covariance; without it nothing changes."""
    network, out = UNet(width=32), tmp_path / "x.npy"
    save_checkpoint(tmp_path / "net.safetensors", network, SHORT)
    command = ["sample", "--checkpoint", tmp_path / "net.safetensors", "-n", 2, "--n-steps", 2, "--out", out]
    mean, covariance = moments(to_tensor(load_mnist("sample").images))
    reference = gaussian_denoiser(SHORT, mean, covariance=covariance)
    for options, model in (
        ((), network),
        (("--guidance", 0.7), guided(network, reference, 0.7, (2, 10))),
        (("--guidance", 0.7, "--guidance-interval", 12, 12), guided(network, reference, 0.7, (12, 12))),
    ):
        done = shell(*command, *options)
        assert done.exit_code == 0, done.output
        assert ("guidance 0.7" in done.output) == (0.7 in options)
        assert np.array_equal(np.load(out), sample(model.eval(), SHORT, n_samples=2, n_steps=2, generator=0))
    for options, said in (
        (("--guidance", -1), "--guidance"),
        (("--guidance-interval", 1, 2), "which is missing"),
        (("--guidance", 1, "--guidance-interval", 3, 13), "two times in 1..12"),
        (("--guidance", 1, "--guidance-interval", 4, 3), "it is 4 3"),
    ):
        done = shell(*command, *options)
        assert done.exit_code == 2
        assert said in " ".join(done.output.replace("│", " ").split())
    save_checkpoint(tmp_path / "net.safetensors", UNet(width=32, image_size=8), SHORT)
    done = shell(*command, "--guidance", 1)
    assert done.exit_code == 2
    assert "1 x 8 x 8" in " ".join(done.output.replace("│", " ").split())


def test_the_record():
    """What `evaluate` notes beside its numbers: the weight, and the times from T/5 to 4T/5 unless given."""
    trained = Checkpoint(UNet(width=32), PAPER, {})
    assert guidance_of(trained, None, None) == (trained.model, {})
    model, record = guidance_of(trained, 0.4, None)
    assert (model.weight, model.interval) == (0.4, (100, 400))
    assert record == {"guidance": 0.4, "guidance interval": [100, 400]}
    assert guidance_of(Checkpoint(UNet(width=32), VarianceSchedule([0.5, 0.5]), {}), 1, None).record == {
        "guidance": 1,
        "guidance interval": [1, 2],
    }
