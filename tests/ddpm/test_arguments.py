"""The doors of the denoising half: whatever a public function takes passes through the shared checks.

Which functions there are, and what each of them takes, is read from the package; a valid value is given for each name.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from importlib import import_module

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from diffmath import ddpm
from diffmath.__main__ import app
from diffmath._arguments import require_pixels
from diffmath.ddpm import Classifier, gaussian_denoiser, matched_start, metrics, moments, sample, variational_bound
from diffmath.ddpm import classifier as classifiers
from diffmath.ddpm._arguments import as_generator, as_tensor, check_prediction
from diffmath.gaussian import Gaussian
from diffmath.schedule import VarianceSchedule

SHORT = VarianceSchedule.linear(12, 0.01, 0.3)
MODEL = gaussian_denoiser(SHORT, 0.0, 1.0)
POINTS = np.random.default_rng(0).standard_normal((120, 3))
DIGITS = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (120, 1, 32, 32)).astype(np.float32))
CALLS = {
    "VarianceSchedule.linear": {"n_steps": 3},
    "VarianceSchedule.cosine": {"n_steps": 3},
    "VarianceSchedule.subsequence": {"self": SHORT, "n_steps": 3},
    "Gaussian.sample": {"self": Gaussian([0.0], 1.0), "rng": 0, "n": 2},
    "sample": {"model": MODEL, "schedule": SHORT, "x_T": torch.zeros(5, 2), "n_samples": 2, "n_steps": 2}
    | {"batch_size": 2, "generator": 0},
    "matched_start": {"schedule": SHORT, "n_samples": 2, "mean": 0.0, "variance": 1.0, "t": 3, "generator": 0},
    "variational_bound": {"model": MODEL, "schedule": SHORT, "images": torch.ones(2, 2), "n_times": 2, "n_repeats": 1}
    | {"batch_size": 2, "generator": 0},
    "classify": {"classifier": Classifier().eval(), "images": DIGITS[:2], "batch_size": 2},
    "train_classifier": {"images": DIGITS[:4], "labels": torch.arange(4), "n_epochs": 1, "batch_size": 2, "seed": 0}
    | {"device": "cpu", "progress": False},
    "features": {"images": DIGITS[:2], "classifier": Classifier().eval(), "batch_size": 2},
    "frechet_extrapolated": {"samples": POINTS, "reference": POINTS, "n_repeats": 1, "rng": 0},
    "precision_recall_density_coverage": {"samples": POINTS, "reference": POINTS, "k": 3, "rng": 0},
    "memorisation": {"images": DIGITS[:4], "training": DIGITS[4:9], "rng": 0},
    "evaluate": {"images": DIGITS, "reference": DIGITS, "training": DIGITS, "rng": 0}
    | {"classifier": Classifier().eval()},
}
CALLS["evaluate_beside_real"] = CALLS["evaluate"] | {"images": DIGITS[:100], "training": torch.cat([DIGITS, DIGITS])}
MODULES = (
    "schedule",
    "gaussian",
    *(f"ddpm.{m}" for m in ("sampling", "starts", "likelihood", "classifier", "metrics")),
)


def public_functions():
    """The functions, and the methods of classes, of these modules, under their names."""
    for module in map(import_module, (f"diffmath.{name}" for name in MODULES)):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                yield name, thing
            elif inspect.isclass(thing) and not issubclass(thing, (tuple, torch.nn.Module)):
                for attribute, method in inspect.getmembers(thing, callable):
                    if not attribute.startswith("_"):
                        yield f"{name}.{attribute}", method


def parameters(*annotations):
    """(function, its name, a parameter) of all parameters annotated with a word of these, times of a schedule not."""
    found = [
        pytest.param(function, name, parameter.name, id=f"{name}-{parameter.name}")
        for name, function in public_functions()
        for parameter in inspect.signature(function).parameters.values()
        if set(str(parameter.annotation).replace("|", " ").split()) & set(annotations)
        and name != "VarianceSchedule.backward_coefficients"  # its times are checked as arrays of them are
    ]
    assert found
    return found


@pytest.mark.parametrize(("function", "name", "parameter"), parameters("int"))
def test_counts(function, name, parameter):
    """An integer of numpy's or torch's is a count; a number with a point, a truth value or a text is none, by name."""
    arguments = CALLS[name]
    for bad in (2.5, True, np.bool_(True), "2", [2]):
        with pytest.raises(TypeError, match=rf"^{parameter} must be an? .*integer"):
            function(**arguments | {parameter: bad})
    for good in (np.int64(arguments[parameter]), np.array(arguments[parameter]), torch.tensor(arguments[parameter])):
        function(**arguments | {parameter: good})


@pytest.mark.parametrize(("function", "name", "parameter"), parameters("Seed", "np.random.Generator"))
def test_seeds(function, name, parameter, monkeypatch):
    """Two calls with one seed agree to the last bit, 0 included; two seeds do not; nothing else is a seed."""

    if name == "evaluate_beside_real":  # which only hands it on
        monkeypatch.setattr(metrics.evaluation, "evaluate", lambda *args, rng, **options: rng.permutation(50).tolist())

    def numbers(value):
        result = function(**CALLS[name] | {parameter: value})
        return pickle.dumps(result if not isinstance(result, torch.Tensor) else result.numpy())

    assert numbers(0) == numbers(0) == numbers(np.int64(0))
    if name not in ("memorisation", "precision_recall_density_coverage"):  # their shares may be equal
        assert numbers(0) != numbers(1)
    for bad in (True, 0.0, "0", [0], torch.Generator() if parameter == "rng" else np.random.default_rng(0)):
        with pytest.raises(TypeError, match=f"{parameter} must be a .*Generator or an integer seed; it is"):
            numbers(bad)
    with pytest.raises(ValueError, match=f"{parameter} must .*; it is -1"):
        numbers(-1)


@pytest.mark.parametrize(("name", "function"), [pytest.param(n, f, id=n) for n, f in public_functions()])
def test_unknown_options(name, function):
    """The message names the function that was called."""
    with pytest.raises(TypeError, match=rf"{name.split('.')[-1]}\(\) got an unexpected keyword argument 'nonsense'"):
        function(nonsense=1)


def test_tensors():
    """An array, a list and a DataArray are what the tensor of their numbers is; a masked array is none."""
    x, masked = torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=torch.float64), np.ma.array([[1.0, 9e36]], mask=[[0, 1]])
    calls = {
        "x_T": lambda x: sample(MODEL, SHORT, x, n_steps=2, method="ddim"),
        "data": lambda x: moments(x)[1],
        "images": lambda x: torch.tensor(variational_bound(MODEL, SHORT, x, generator=0).total.mean),
        "mean": lambda x: matched_start(SHORT, 2, x, 1.0, generator=0),
        "covariance": lambda x: matched_start(SHORT, 2, 0.0, covariance=as_tensor(x, "covariance") ** 2, generator=0),
        "means": lambda x: ddpm.mixture_denoiser(SHORT, x, 1.0)(torch.zeros(1, 2), torch.tensor([3])),
        "points": lambda x: ddpm.points_denoiser(SHORT, x)(torch.zeros(1, 2), torch.tensor([3])),
        "x_0": lambda x: ddpm.gaussian_decoder(x, torch.zeros(2, 2), 1.0),
    }
    for name, call in calls.items():
        if name == "covariance":
            x = x @ x.T
        for same in (x.numpy(), x.tolist(), xr.DataArray(x.numpy()), x.numpy().astype(">f8"), x.numpy()[::1]):
            assert torch.equal(call(same), call(x)), name
        with pytest.raises(ValueError, match=f"{name} must not have masked entries"):
            call(masked)
        for bad in ("text", np.array([[1j]]), [[1.0], [1.0, 2.0]]):
            with pytest.raises(TypeError, match=f"{name} must be"):
                call(bad)


def test_arrays():
    """Lists and DataArrays are arrays; masked ones are refused."""
    x = np.array([[0.5, -1.0]])
    masked = np.ma.array(x, mask=[[0, 1]])
    for same in (x.tolist(), xr.DataArray(x)):
        assert np.array_equal(SHORT.add_noise(same, x, 3), SHORT.add_noise(x, x, 3))
        assert np.array_equal(SHORT.add_noise(x, same, 3), SHORT.add_noise(x, x, 3))
        assert np.array_equal(metrics.kernel_distance(POINTS.tolist(), POINTS), metrics.kernel_distance(POINTS, POINTS))
    assert SHORT.transition([2, 3])[0].tolist() == SHORT.transition(xr.DataArray([2, 3]))[0].tolist()
    assert ddpm.bound_weight(SHORT, [2, 3]).tolist() == ddpm.bound_weight(SHORT, np.array([2, 3])).tolist()
    for call in (
        lambda: SHORT.add_noise(masked, x, 3),
        lambda: SHORT.add_noise(x, masked, 3),
        lambda: SHORT.add_noise(x, x, np.ma.array([3], mask=[1])),
        lambda: VarianceSchedule(np.ma.array([0.5, 0.9], mask=[0, 1])),
        lambda: VarianceSchedule([np.ma.array(0.5, mask=True)]),
        lambda: Gaussian(masked, 1.0),
        lambda: Gaussian(x, 1.0).log_density(masked),
        lambda: metrics.kernel_distance(np.ma.array(POINTS, mask=POINTS > 1), POINTS),
        lambda: metrics.class_balance(np.ma.array([1, 2], mask=[0, 1]), [1]),
        lambda: metrics.confidence(np.ma.array([0.1, 2], mask=[0, 1])),
        lambda: metrics.frechet_distance(masked[0], np.eye(2), x[0], np.eye(2)),
    ):
        with pytest.raises(ValueError, match="must not have masked entries"):
            call()


def test_numbers():
    """A number is a number, by name."""
    for bad in ("0.1", [0.1], 1j):
        for name in ("beta_1", "beta_T"):
            with pytest.raises(TypeError, match=f"{name} must be"):
                VarianceSchedule.linear(3, **{name: bad})
        for name in ("offset", "beta_max"):
            with pytest.raises(TypeError, match=f"{name} must be"):
                VarianceSchedule.cosine(3, **{name: bad})
        with pytest.raises(TypeError, match="sqrt_alpha_bar_T must be"):
            SHORT.zero_terminal(bad)
        with pytest.raises(TypeError, match="eta must be"):
            sample(MODEL, SHORT, n_steps=1, method="ddim", eta=bad)
    assert SHORT.zero_terminal(np.float32(0.01)).n_steps == SHORT.n_steps


def test_predictions():
    """What a model returns is checked by all who call one: its type, shape and dtype, and that it is finite."""
    x = torch.zeros(3, 2)
    users = (
        lambda model: sample(model, SHORT, x, n_steps=3),
        lambda model: variational_bound(model, SHORT, x),
        lambda model: check_prediction(model(x, None), x, finite=True),
    )
    for use in users:
        for wrong, error, said in (
            (lambda x, t: (x,), TypeError, "the model must return a tensor; it gave tuple"),
            (lambda x, t: x[..., 0], ValueError, r"the model must return the shape \(3, 2\); it gave \(3,\)"),
            (lambda x, t: x[:1], ValueError, r"the model must return the shape \(3, 2\); it gave \(1, 2\)"),
            (lambda x, t: x.long(), TypeError, "the model must return floating numbers; it gave torch.int64"),
            (lambda x, t: x / 0, ValueError, "the model's predictions led to NaN or infinity"),
        ):
            with pytest.raises(error, match=said):
                use(wrong)
    calls = []
    with pytest.raises(ValueError, match="the first of them already"):
        sample(lambda x, t: calls.append(t) or x / 0, SHORT, x)
    assert len(calls) == 1  # not after all the steps
    for function in (sample, variational_bound):
        with pytest.raises(TypeError, match="model must be callable.*; it is a NoneType"):
            function(None, SHORT, x)
        with pytest.raises(TypeError, match="schedule must be a (VarianceSchedule|Process); it is a function"):
            function(MODEL, MODEL, x)


def test_the_networks_own_shape(tmp_path):
    """A walk starts from images of the size that the network was trained for, in the shell too."""
    network = ddpm.UNet(width=32, image_size=8)
    with pytest.raises(ValueError, match=r"x_T must have shape \(N, 1, 8, 8\).*its shape is \(2, 1, 16, 16\)"):
        sample(network, SHORT, torch.zeros(2, 1, 16, 16), n_steps=1)
    wrapped = sample(lambda x, t: network(x, t), SHORT, torch.zeros(2, 1, 16, 16), n_steps=1)
    assert wrapped.shape == (2, 1, 16, 16)
    file = tmp_path / "small.safetensors"
    ddpm.save_checkpoint(file, network, SHORT)
    for command, said in (("sample", "1 x 8 x 8"), ("evaluate", "(1, 8, 8)")):
        done = CliRunner().invoke(app, [command, "--checkpoint", str(file), "--start", "matched"])
        assert done.exit_code == 2
        assert said in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.numpy()])
def test_pixels_on_another_scale(make):
    """Images in [0, 1] or of 0..255 are refused with the call that mends it; its result is accepted."""
    one = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    for images, call in ((one, "2 * images - 1"), (255 * one, "images / 127.5 - 1"), (400 * one - 200, "min")):
        with pytest.raises(ValueError, match=r"images must have pixels in \[-1, 1\]") as refused:
            require_pixels(make(images))
        assert call in str(refused.value)
        require_pixels(eval(str(refused.value).rsplit(" as by ", 1)[1], {"images": make(images)}))
    require_pixels(make(torch.randn(one.shape)))
    require_pixels(make(one.flatten(1)))  # no images
    levels = (255 * one).to(torch.uint8)
    with pytest.raises(TypeError, match="127.5 - 1"):
        SHORT.add_noise(make(levels), make(one), 3)
    for user in (
        lambda x: variational_bound(MODEL, SHORT, x),
        moments,
        lambda x: ddpm.train_classifier(x, torch.arange(4)),
    ):
        with pytest.raises(ValueError, match=r"must have pixels in \[-1, 1\]"):
            user(make(one))


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_read_only_in_copies(remake):
    """What is read-only stays so, and a schedule's hash with it."""
    for original in (SHORT, VarianceSchedule.cosine(5), Gaussian([1.0, 2.0], 3.0)):
        again = remake(original)
        arrays = {name: value for name, value in vars(again).items() if isinstance(value, np.ndarray)}
        assert len(arrays) >= 2
        for name, array in arrays.items():
            assert np.array_equal(array, getattr(original, name))
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0.5
    assert remake(SHORT) == SHORT
    assert hash(remake(SHORT)) == hash(SHORT)


def test_generators():
    """A generator is used, not copied; a seed makes a new one on the device."""
    mine = torch.Generator().manual_seed(3)
    assert as_generator(mine) is mine
    assert torch.equal(torch.rand(2, generator=as_generator(3)), torch.rand(2, generator=mine))
    assert as_generator(None).initial_seed() != as_generator(None).initial_seed()
    first = sample(MODEL, SHORT, n_steps=2, generator=0)
    assert torch.equal(first, sample(MODEL, SHORT, n_steps=2, generator=torch.Generator().manual_seed(0)))


def test_public_calls_are_all_here():
    """No call in the table is of a function that is gone."""
    assert CALLS.keys() <= dict(public_functions()).keys()
    assert classifiers.classify is ddpm.classify


def test_what_the_functions_of_users_return():
    """A prediction that broadcasts, a decoder without one number for each image, images of another size."""
    x, eps, t = torch.zeros(3, 1, 2), torch.ones(3, 1, 2), torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match=r"the model must return the shape \(3, 1, 2\); it gave \(3, 2\)"):
        ddpm.squared_error(lambda x, t: x[:, 0], SHORT, x, eps, t)
    for decoded in (torch.tensor(1.0), torch.ones(3, 1)):
        with pytest.raises(ValueError, match="decoder must return one number for each of the 3 images; its shape is"):
            variational_bound(lambda x, t: x, SHORT, x + eps, decoder=lambda *_, value=decoded: value)
    pixels = torch.linspace(-1, 1, 2 * 16 * 16).reshape(2, 1, 16, 16)
    with pytest.raises(ValueError, match=r"images must have shape \(N, 1, 8, 8\).* its shape is \(2, 1, 16, 16\)"):
        variational_bound(ddpm.UNet(8, 1, 8), SHORT, pixels)
