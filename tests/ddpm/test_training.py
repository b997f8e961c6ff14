"""Algorithm 1: its minimiser, its minibatches, its settings."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import (
    MLP,
    TrainingDivergedError,
    UNet,
    load_checkpoint,
    sample,
    train,
)
from diffmath.ddpm._processes import Processes
from diffmath.ddpm.training.algorithm import squared_error
from diffmath.ddpm.training.batches import Batches, OnDevice
from diffmath.ddpm.training.compiled import differing, gradients
from diffmath.schedule import VarianceSchedule
from tests.ddpm.runs import QUICK, SCHEDULE, Scalar, left, network, same


def test_minimiser_is_the_conditional_mean():
    """On data N(m, s^2) the least-squares noise predictor is E[eps | x_t], here at the one level of T = 1."""
    m, s, beta = 0.3, 0.5, 0.4
    data = m + s * torch.randn((20_000, 1), generator=torch.Generator().manual_seed(0))
    m, s = data.mean().item(), data.std().item()
    result = train(
        Scalar(),
        VarianceSchedule([beta]),
        data,
        4000,
        batch_size=512,
        learning_rate=2e-3,
        betas=(0.9, 0.999),
        progress=False,
        device="cpu",
        autocast=False,
    )
    variance = (1 - beta) * s**2 + beta
    slope = np.sqrt(beta) / variance
    # A regression over the average's memory, 1 / (1 - 0.999) batches: five standard errors, 4e-3 to 6e-3.
    rest, n = (1 - beta) * s**2 / variance, 1000 * 512  # Var(eps | x_t)
    error = 5 * np.sqrt(rest / n / variance)
    assert result.model.slope.item() == pytest.approx(slope, abs=error)
    mean = np.sqrt(1 - beta) * m
    assert result.model.shift.item() == pytest.approx(-slope * mean, abs=error * np.sqrt(variance + mean**2))
    # The last entry of the log is over 50 batches; the variance of a square is 2 rest^2.
    assert result.losses[-1][1] == pytest.approx(rest, abs=5 * np.sqrt(2 / (50 * 512)) * rest)


def test_learns(images):
    """The loss starts at E|eps|^2 = 1, where the network predicts zero, and falls."""
    result = train(network(), SCHEDULE, images, 60, **QUICK | {"batch_size": 16, "log_every": 1})
    losses = np.array([loss for _, loss in result.losses])
    assert losses[0] == pytest.approx(1, abs=0.2)
    assert losses[-20:].mean() < 0.6 * losses[0]


def test_seed_decides(images):
    first, second, other = (
        train(network(), SCHEDULE, images, 2, seed=seed, **QUICK).model.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_batches_cover_each_epoch():
    """An epoch has every image once, across batches that straddle its end; the order changes between epochs."""
    schedule = VarianceSchedule.linear(7)
    images = torch.arange(10.0).reshape(10, 1)
    batches = Batches(images, VarianceSchedule.linear(7), 4, 0, Processes())
    stream = torch.cat([batches(step)[0].flatten() for step in range(10)]).tolist()
    epochs = [stream[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    x_0, eps, t = batches(3)
    assert torch.equal(OnDevice(schedule, images).add_noise(x_0, eps, t), schedule.add_noise(x_0, eps, t))
    again = Batches(images, VarianceSchedule.linear(7), 4, 0, Processes())(3)
    assert all(torch.equal(a, b) for a, b in zip((x_0, eps, t), again, strict=True))
    many = torch.cat([batches(step)[2] for step in range(2000)])
    counts = torch.bincount(many, minlength=8)
    assert counts[0] == 0
    # Uniform on 1..7: chi-squared with 6 degrees of freedom is above 38.3 once in a million.
    assert ((counts[1:] - 8000 / 7) ** 2 / (8000 / 7)).sum() < 38.3
    noise = torch.cat([batches(step)[1] for step in range(2000)])
    assert abs(noise.mean()) < 5 / 8000**0.5
    assert abs(noise.var() - 1) < 5 * (2 / 8000) ** 0.5


def test_compiled(images, monkeypatch):
    """What torch.compile returns is what is trained; the network's own weights are saved."""
    calls = []

    def compiled(model):
        return lambda x, t: (calls.append(None), model(x, t))[1]

    expected = train(network(), SCHEDULE, images, 3, **QUICK)
    monkeypatch.setattr(torch, "compile", compiled)
    result = train(network(), SCHEDULE, images, 3, compile=True, **QUICK)
    assert len(calls) == 4  # once to compare its gradients
    assert same(result.model, expected.model)
    assert (result.metadata["compiled"], expected.metadata["compiled"]) == (True, False)


def test_compiled_wrongly(images, tmp_path, monkeypatch):
    """Gradients that compiling changes are noticed before the first step, and the weights are named."""

    class Spoiled(torch.autograd.Function):
        """The identity, with a wrong gradient."""

        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return ctx.factor * gradient, None

    def compiled(model):
        weights = dict(model.named_parameters())
        return lambda x, t: torch.func.functional_call(
            model, {name: Spoiled.apply(w, factors.get(name, 1.0)) for name, w in weights.items()}, (x, t)
        )

    monkeypatch.setattr(torch, "compile", compiled)
    model, factors = network(), {}
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    names, wrong = list(before), float("nan")
    for chosen, said in (
        ({"conv_out.bias": wrong, "conv_in.weight": 1.5}, "2 of .* weights: conv_in.weight, conv_out.bias. Train with"),
        (dict.fromkeys(names, wrong), f"{len(names)} of {len(names)} weights: {names[0]}, .* and .* more. Train with"),
    ):
        factors.clear()
        factors.update(chosen)
        with pytest.raises(RuntimeError, match=f"torch.compile changes the gradients of {said}"):
            train(model, SCHEDULE, images, 3, compile=True, directory=tmp_path, **QUICK)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
        assert model.training
    assert left(tmp_path) == ["log.csv"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_really_compiled():
    """By torch.compile itself: what is trained and sampled is the same to rounding."""
    data = torch.randn((64, 1), generator=torch.Generator().manual_seed(0))
    plain, compiled = (
        train(Scalar(), SCHEDULE, data, 20, compile=c, **QUICK | {"autocast": False}).model for c in (False, True)
    )
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())
    x_T = torch.ones((3, 1))
    images = [
        sample(plain, SCHEDULE, x_T, compile=c, generator=torch.Generator().manual_seed(0)) for c in (False, True)
    ]
    torch.testing.assert_close(images[1], images[0])


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own
def test_compiled_gradients():
    """Those of a whole network agree with the network's own to the rounding of sums of a hundred terms."""
    model, schedule = MLP(width=16, depth=1), VarianceSchedule.cosine(50)
    batch = Batches(
        torch.randn((64, 2), generator=torch.Generator().manual_seed(0)),
        schedule,
        64,
        0,
        Processes(),
    )(0)
    expected, found = (gradients(squared_error, each, model, schedule, batch) for each in (model, torch.compile(model)))
    assert differing(expected, found, 1e-5) == []
    assert len(expected) == len(list(model.parameters()))


def test_warm_up(images, tmp_path):
    """The learning rate rises linearly, and Adam takes it: its first step moves each weight by it, up or down."""
    rate = QUICK["learning_rate"]
    for warm_up, first in ((0, rate), (4, rate / 4)):
        model, before = network(), network().conv_out.bias.detach()
        train(model, SCHEDULE, images, 1, warm_up=warm_up, **QUICK)
        assert (model.conv_out.bias.detach() - before).abs().item() == pytest.approx(first, rel=1e-4)
    model = network()
    train(model, SCHEDULE, images, 6, directory=tmp_path / "a", warm_up=4, **QUICK | {"log_every": 1})
    with open(tmp_path / "a" / "log.csv", newline="") as file:
        rates = [float(entry["learning_rate"]) for entry in csv.DictReader(file)]
    assert rates == pytest.approx([rate / 4, rate / 2, 3 * rate / 4, rate, rate, rate])
    for n_steps in (3, 6):
        parts = network()
        options = {"directory": tmp_path / "b", "resume": True, "log_every": 1}
        train(parts, SCHEDULE, images, n_steps, warm_up=4, **QUICK | options)
    assert same(parts, model)
    for warm_up in (0, 3):
        with pytest.raises(ValueError, match=f"other settings: warm_up = 4, now {warm_up}"):
            train(network(), SCHEDULE, images, 7, warm_up=warm_up, **QUICK | options)
    diverging = network()
    diverging.register_forward_hook(lambda module, args, output: output * float("nan"))
    with pytest.raises(TrainingDivergedError, match="at step 1, with learning rate 0.000111111; there is no"):
        train(diverging, SCHEDULE, images, 2, warm_up=9, **QUICK)
    with pytest.raises(ValueError, match="warm_up must be at least 0"):
        train(network(), SCHEDULE, images, 1, warm_up=-1, **QUICK)


def test_average(images):
    """The moving average of the weights after each step, with its warm-up, by hand."""
    history = []

    class Watched(UNet):
        def forward(self, x, t):
            history.append(self.conv_out.bias.detach().clone())
            return super().forward(x, t)

    torch.manual_seed(0)
    model = Watched(width=32, image_size=8)
    result = train(model, SCHEDULE, images, 5, average_decay=0.3, **QUICK)
    weights = [*history[1:], model.conv_out.bias.detach()]
    average = weights[0]
    for k, weight in enumerate(weights[1:], start=1):
        decay = min(0.3, (1 + k) / (10 + k))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(result.model.conv_out.bias.detach(), average, rtol=1e-5, atol=0)


def test_record(images, tmp_path):
    """A checkpoint carries how it was trained."""
    train(network(), SCHEDULE, images, 3, directory=tmp_path, metadata={"data": "fifteen digits"}, **QUICK)
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    record = checkpoint.metadata
    assert (record["data"], record["steps"], record["images_seen"]) == ("fifteen digits", 3, 12)
    assert (record["settings"]["batch_size"], record["settings"]["seed"]) == (4, 0)
    assert {"device", "precision", "torch", "commit", "date", "losses", "seconds"} <= set(record)
    assert checkpoint.schedule == SCHEDULE


def test_numbers_of_numpy(images, tmp_path):
    """They are integers and floats too, and can be saved and resumed."""
    numpy = {"batch_size": np.int64(4), "learning_rate": np.float32(0.5**10), "seed": np.int64(3)}
    plain = {"batch_size": 4, "learning_rate": 0.5**10, "seed": 3}
    train(network(), SCHEDULE, images, np.int64(1), directory=tmp_path, betas=np.array([0.9, 0.99]), **QUICK | numpy)
    resumed = train(network(), SCHEDULE, images, 2, directory=tmp_path, resume=True, betas=(0.9, 0.99), **QUICK | plain)
    assert same(resumed.model, train(network(), SCHEDULE, images, 2, betas=(0.9, 0.99), **QUICK | plain).model)


def test_half_precision(images):
    """A network whose weights are bfloat16 is trained in it."""
    model = train(network().bfloat16(), SCHEDULE, images, 2, **QUICK).model
    assert next(model.parameters()).dtype == torch.bfloat16


def test_dtype_of_the_images(images):
    """They become what the network computes in, rather than an error in the first layer."""
    results = [train(network(), SCHEDULE, x, 1, **QUICK).model for x in (images, images.double())]
    assert same(*results)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda eps: eps.squeeze(1), ValueError, r"must return the shape \(4, 1, 8, 8\); .*\(4, 8, 8\)"),
        (lambda eps: eps[:, :, :1], ValueError, "must return the shape"),
        (lambda eps: (eps,), TypeError, "must return a tensor; it .* tuple"),
        (lambda eps: eps + 0j, TypeError, "floating.* torch.complex64"),
        (lambda eps: eps.long(), TypeError, "floating.* torch.int64"),
    ],
)
def test_predictions_of_another_kind(images, spoil, error, message):
    """They are refused, as in sampling: broadcast, they would train to another minimum."""

    class Spoiled(UNet):
        def forward(self, x, t):
            return spoil(super().forward(x, t))

    model = Spoiled(32, image_size=8)
    with pytest.raises(error, match=message):
        train(model, SCHEDULE, images, 1, **QUICK)


def test_images_that_the_network_is_not_for(images):
    """Another size or scale than that from which samples are made, with what to do about it."""
    with pytest.raises(ValueError, match=r"model is for, \(1, 8, 8\); their shape is \(1, 28, 28\): .*image_size="):
        train(network(), SCHEDULE, to_tensor(load_mnist("sample").images[::340], 28), 1, **QUICK)
    for scaled, call in (((images + 1) / 2, r"2 \* images - 1"), ((images + 1) * 127.5, r"images / 127.5 - 1")):
        with pytest.raises(ValueError, match=f"pixels in .*-1, 1.*{call}"):
            train(network(), SCHEDULE, scaled, 1, **QUICK)


def test_arrays_and_lists(images):
    """What is no tensor becomes one; a mask is refused."""
    expected = train(network(), SCHEDULE, images, 1, **QUICK).model
    assert same(train(network(), SCHEDULE, images.numpy(), 1, **QUICK).model, expected)
    with pytest.raises(ValueError, match="masked"):
        train(network(), SCHEDULE, np.ma.masked_less(images.numpy(), 0), 1, **QUICK)


def test_bad_arguments(images):
    with pytest.raises(ValueError, match="n_steps must be at least 1; it is 0"):
        train(network(), SCHEDULE, images, 0, **QUICK)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        train(network(), SCHEDULE, images, 1, **QUICK | {"batch_size": 0})
    with pytest.raises(ValueError, match="learning_rate must be positive; it is nan"):
        train(network(), SCHEDULE, images, 1, **QUICK | {"learning_rate": float("nan")})
    for wrong in (0.9, None, ("a", "b")):
        with pytest.raises(TypeError, match="betas must be"):
            train(network(), SCHEDULE, images, 1, **QUICK | {"betas": wrong})
    with pytest.raises(ValueError, match="average_decay must lie in"):
        train(network(), SCHEDULE, images, 1, average_decay=1.0, **QUICK)
    with pytest.raises(ValueError, match=r"images\[2\] is not"):
        bad = images.clone()
        bad[2, 0, 0, 0] = float("inf")
        train(network(), SCHEDULE, bad, 1, **QUICK)
    with pytest.raises(TypeError, match=r"floating tensor; it is torch.uint8: .* become images / 127.5 - 1"):
        train(network(), SCHEDULE, torch.zeros((3, 1), dtype=torch.uint8), 1, **QUICK)
    with pytest.raises(ValueError, match="the model must have a weight to train"):
        train(network().requires_grad_(False), SCHEDULE, images, 1, **QUICK)
    for name, value in (("n_steps", 1.5), ("batch_size", 4.0), ("seed", "0"), ("log_every", True)):
        with pytest.raises(TypeError, match=f"{name} must be an integer"):
            train(network(), SCHEDULE, images, **{"n_steps": 1} | QUICK | {name: value})
    with pytest.raises(ValueError, match="seed must be at least 0"):
        train(network(), SCHEDULE, images, 1, seed=-1, **QUICK)
    with pytest.raises(ValueError, match="betas must be two numbers"):
        train(network(), SCHEDULE, images, 1, betas=(0.9, 1.0), **QUICK)
    with pytest.raises(ValueError, match="checkpoint_minutes must not be negative; it is nan"):
        train(network(), SCHEDULE, images, 1, checkpoint_minutes=float("nan"), **QUICK)
    with pytest.raises(TypeError, match="the metadata must be what JSON can hold"):
        train(network(), SCHEDULE, images, 1, metadata={"x": np.float32(1)}, **QUICK)
    with pytest.raises(ValueError, match="the device 'nowhere' cannot be used here"):
        train(network(), SCHEDULE, images, 1, **QUICK | {"device": "nowhere"})
    for option in ({"resume": True}, {"tensorboard": True}, {"sample_minutes": 1}):
        with pytest.raises(ValueError, match="need a directory; none was given"):
            train(network(), SCHEDULE, images, 1, **QUICK | option)
    with pytest.raises(ValueError, match="change_settings is for resuming a run"):
        train(network(), SCHEDULE, images, 1, change_settings=True, **QUICK)
    with pytest.raises(ValueError, match=r"sheets of samples need images \(N, 1 or 3, H, W\); .*\(15, 2, 8, 8\)"):
        two = UNet(32, channels=2, image_size=8)
        train(two, SCHEDULE, images.expand(-1, 2, -1, -1), 1, directory="nowhere", sample_minutes=1, **QUICK)
    assert not Path("nowhere").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_trains_and_resumes(images, tmp_path):
    on_gpu = QUICK | {"device": "cuda"}
    train(network(), SCHEDULE, images, 3, directory=tmp_path, **on_gpu)
    result = train(network(), SCHEDULE, images, 6, directory=tmp_path, resume=True, **on_gpu)
    assert next(result.model.parameters()).is_cuda
    assert all(np.isfinite(loss) for _, loss in result.losses)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_gpu(images):
    """From the third step to the sixth; the first are warm-up and begin an epoch, and the last looks at the loss."""
    model, calls = network(), 0
    forward = model.forward

    def watched(x, t):
        nonlocal calls
        calls += 1
        if calls in (3, 6):
            torch.cuda.set_sync_debug_mode("error" if calls == 3 else "default")
        return forward(x, t)

    model.forward = watched
    try:
        train(model, SCHEDULE, images.repeat(4, 1, 1, 1), 6, **QUICK | {"device": "cuda", "log_every": 10})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert calls == 6
