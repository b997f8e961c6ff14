"""Training's objective, callback and learning rate; networks and data other than images of digits."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from diffmath import toy
from diffmath.ddpm import MLP, UNet, load_checkpoint, sample, squared_error, train
from diffmath.process import ForwardProcess
from diffmath.schedule import VarianceSchedule

SCHEDULE = VarianceSchedule.cosine(40)
QUICK = {"batch_size": 16, "learning_rate": 1e-3, "log_every": 2, "progress": False, "device": "cpu", "autocast": False}


def mlp():
    torch.manual_seed(0)
    return MLP(width=16, depth=2)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_loss_is_handed_in():
    """The default written out by the paper's letters gives the default's weights; another gives others."""
    seen = []

    def by_hand(model, process, x_0, eps, t):
        seen.append(t)
        x_t = torch.stack([process.add_noise(x, e, int(k)) for x, e, k in zip(x_0, eps, t, strict=True)])
        return ((model(x_t, t) - eps) ** 2).mean(dim=1)

    def absolute(model, process, x_0, eps, t):
        assert process.n_steps == SCHEDULE.n_steps
        return (model(process.add_noise(x_0, eps, t), t) - eps).abs().mean(dim=1)

    points = toy.moons(50, rng=0)
    models = [mlp() for _ in range(4)]
    train(models[0], SCHEDULE, points, 5, **QUICK)
    train(models[1], SCHEDULE, points, 5, loss=squared_error, **QUICK)
    for model, loss in zip(models[2:], (by_hand, absolute), strict=True):
        train(model, VarianceSchedule(SCHEDULE.beta[1:]), points, 5, loss=loss, **QUICK)
    assert same(models[0], models[1])
    assert len(seen) == 5
    torch.testing.assert_close(models[2].state_dict(), models[0].state_dict())
    assert not same(models[3], models[0])


class Decay(ForwardProcess):
    """Two components of which each has rates of its own."""

    n_steps, modes, rates = 30, (2,), np.array([0.05, 0.3])

    def _transition(self, t, s):
        log_alpha = -self.rates * (t - s)[..., None]
        return np.exp(log_alpha), -np.expm1(log_alpha)


def test_a_process_with_modes(tmp_path):
    """Training adds the noise that the process adds, and its minimiser samples; it is not saved in a file."""
    points, seen = toy.mixture(50, rng=0), []

    def watched(model, process, x_0, eps, t):
        x_t = process.add_noise(x_0, eps, t)
        torch.testing.assert_close(x_t, Decay().add_noise(x_0, eps, t))
        seen.append(x_t)
        return squared_error(model, process, x_0, eps, t)

    result = train(mlp(), Decay(), points, 3, loss=watched, **QUICK)
    assert len(seen) == 3
    assert sample(result.model, Decay(), n_samples=4).shape == (4, 2)
    with pytest.raises(TypeError, match="schedule must be a VarianceSchedule or a HeatProcess; it is a Decay"):
        train(mlp(), Decay(), points, 3, directory=tmp_path, **QUICK)
    with pytest.raises(TypeError, match="schedule must be a Process"):
        train(mlp(), 500, points, 3, **QUICK)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda model, process, x_0, eps, t: model(x_0, t).square().mean(), ValueError, "each of the 16 images"),
        (lambda model, process, x_0, eps, t: 1.0, TypeError, "must return a tensor; it returned a float"),
    ],
)
def test_losses_of_another_kind(loss, error, message):
    with pytest.raises(error, match=message):
        train(mlp(), SCHEDULE, toy.moons(50, rng=0), 1, loss=loss, **QUICK)


def test_arguments_of_another_kind():
    points = toy.moons(9, rng=0)
    for name in ("loss", "callback"):
        with pytest.raises(TypeError, match=f"{name} must be callable, as .*; it is a str"):
            train(mlp(), SCHEDULE, points, 1, **QUICK | {name: "squared_error"})
    with pytest.raises(TypeError, match="model must be a torch.nn.Module; it is a function"):
        train(lambda x, t: x, SCHEDULE, points, 1, **QUICK)
    for name in ("learning_rate", "decay", "average_decay", "checkpoint_minutes"):
        with pytest.raises(TypeError, match=f"{name} must be a number; it is '1'"):
            train(mlp(), SCHEDULE, points, 1, **QUICK | {name: "1"})


def test_the_loss_is_a_setting(tmp_path):
    points = toy.moons(50, rng=0)

    def other(*arguments):
        return 2 * squared_error(*arguments)

    train(mlp(), SCHEDULE, points, 1, directory=tmp_path, **QUICK)
    with pytest.raises(ValueError, match="other settings: loss = 'squared_error', now .*other'"):
        train(mlp(), SCHEDULE, points, 2, directory=tmp_path, resume=True, loss=other, **QUICK)


def test_callback(tmp_path):
    """It sees each step and its mean loss, and ends the training by True, where it can be resumed."""
    points, seen = toy.moons(50, rng=0), []
    whole = mlp()
    expected = train(whole, SCHEDULE, points, 7, callback=lambda step, loss: seen.append((step, loss)), **QUICK)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6, 7]
    means = [(seen[i][1] + seen[i + 1][1]) / 2 for i in (0, 2, 4)]
    np.testing.assert_allclose([loss for _, loss in expected.losses[:-1]], means, rtol=1e-6)
    options = QUICK | {"directory": tmp_path}
    stopped = train(mlp(), SCHEDULE, points, 7, callback=lambda step, loss: step == 3, **options)
    assert stopped.metadata["steps"] == 3
    model = mlp()
    assert train(model, SCHEDULE, points, 7, resume=True, **options).losses == expected.losses
    assert same(model, whole)


def test_decay_of_the_learning_rate(tmp_path):
    """It rises, stays, and falls linearly towards 0 in the last share of the steps; a resumed run has it too."""
    points, options = toy.moons(50, rng=0), {"warm_up": 2, "decay": 0.4} | QUICK | {"log_every": 1}
    whole = mlp()
    train(whole, SCHEDULE, points, 10, directory=tmp_path / "a", **options)
    with open(tmp_path / "a" / "log.csv", newline="") as file:
        rates = [float(entry["learning_rate"]) for entry in csv.DictReader(file)]
    expected = [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]  # of 10 steps the last 4
    assert rates == pytest.approx([1e-3 * rate for rate in expected])
    stop = {"callback": lambda step, loss: step == 8}
    train(mlp(), SCHEDULE, points, 10, directory=tmp_path / "b", **options | stop)
    model = mlp()
    train(model, SCHEDULE, points, 10, directory=tmp_path / "b", resume=True, **options)
    assert same(model, whole)
    with pytest.raises(ValueError, match=r"other settings: n_steps = 10, now 12 \(change_settings"):
        train(mlp(), SCHEDULE, points, 12, directory=tmp_path / "b", resume=True, **options)
    for decay in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="decay, a share of the steps, must lie in"):
            train(mlp(), SCHEDULE, points, 1, **options | {"decay": decay})


def test_metadata_of_the_record_itself():
    """It would be lost, as the record has its own."""
    with pytest.raises(ValueError, match=r"metadata must not have .* the record itself; it has \['device', 'steps'\]"):
        train(mlp(), SCHEDULE, toy.moons(9, rng=0), 1, metadata={"steps": 3, "device": "mine", "a": 1}, **QUICK)


def test_weights_that_half_precision_loses(tmp_path):
    """They are shared in their own, rather than lost after all the work."""
    model = mlp()
    nn.init.constant_(model.linear_in.bias, 1e-9)
    model.linear_in.bias.requires_grad_(False)
    train(model, SCHEDULE, toy.moons(50, rng=0), 2, directory=tmp_path, **QUICK)
    found = load_checkpoint(tmp_path / "model.safetensors").model
    assert (found.linear_in.bias == 1e-9).all()


def energy_distance(x, y):
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, without the pairs of a point with itself."""

    def mean_distance(a, b, pairs):
        return np.linalg.norm(a[:, None] - b[None], axis=-1).sum() / pairs

    n, m = len(x), len(y)
    return 2 * mean_distance(x, y, n * m) - mean_distance(x, x, n * (n - 1)) - mean_distance(y, y, m * (m - 1))


def test_a_class_in_a_minute(tmp_path):
    """Points in the plane: samples from a file that was written after seconds of training resemble new data.

    The energy distance between two sets of moons of this size is 0 +- 0.002, that between moons and the normal
    distribution of their mean and covariance 0.017; what 700 steps leave is 0.005.
    """
    schedule = VarianceSchedule.cosine(50)
    options = {"batch_size": 128, "learning_rate": 2e-3, "decay": 0.5, "average_decay": 0.99, "log_every": 100}
    torch.manual_seed(0)
    points = toy.moons(4000, rng=0)
    result = train(MLP(width=64), schedule, points, 700, directory=tmp_path, **QUICK | options)
    assert result.losses[-1][1] < 0.9 * result.losses[0][1] < 0.5
    trained = load_checkpoint(tmp_path / "model.safetensors")
    drawn = sample(trained.model, trained.schedule, n_samples=1000, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (1000, 2)
    new = toy.moons(1000, rng=1)
    gaussian = np.random.default_rng(2).multivariate_normal(new.mean(0), np.cov(new.T), 1000)
    assert energy_distance(gaussian, new) > 0.014
    assert energy_distance(drawn.numpy().astype(float), new) < 0.009


@pytest.mark.parametrize(("width", "channels", "size"), [(8, 3, 8), (6, 1, (8, 12)), (24, 3, 4)])
def test_small_and_coloured_networks(tmp_path, width, channels, size):
    """They train, save, load and sample like the paper's."""
    torch.manual_seed(0)
    model = UNet(width, channels, size)
    images = torch.rand((9, *model.image_shape)) * 2 - 1
    train(model, SCHEDULE, images, 2, directory=tmp_path, **QUICK)
    found = load_checkpoint(tmp_path / "checkpoint.safetensors").model
    assert found.config == model.config
    assert sample(found, SCHEDULE, n_samples=2, n_steps=2).shape == (2, *model.image_shape)
    whole = UNet(width, channels, size)
    assert train(whole, SCHEDULE, images, 3, directory=tmp_path, resume=True, **QUICK).metadata["steps"] == 3
