"""All numbers together: `evaluate`, its table, its refusals, and the command."""

import json
import math
import re

import numpy as np
import pytest
import torch

from diffmath import data, ddpm
from diffmath.data import to_tensor
from diffmath.ddpm import metrics
from diffmath.ddpm._environment import autocast_dtype
from diffmath.ddpm.metrics import Estimate
from tests.ddpm.metrics.samples import NAN, P, X, run


def test_evaluate(digits, judge, evaluation):
    x = digits[0]
    assert evaluation[:3] == (150, 250, 600)
    assert evaluation.frechet.sizes[0] == 150
    assert abs(evaluation.frechet.value) < 3 * evaluation.frechet.error
    seen, real = (metrics.features(part, judge) for part in (x[:150], x[150:400]))
    unit = math.sqrt((real.values**2).mean())
    assert evaluation.kernel == metrics.kernel_distance(seen.values / unit, real.values / unit)
    assert evaluation.confidence == metrics.confidence(seen.confidences)
    assert evaluation.balance == metrics.class_balance(seen.digits, real.digits)
    assert evaluation.background == metrics.background(x[:150])
    assert evaluation.energy == pytest.approx(metrics.energy_distance(x[:150], x[150:400]), rel=1e-9)
    assert (evaluation.memorisation.indices == metrics.memorisation(x[:150], x[400:1000]).indices).all()
    again = ddpm.evaluate(x[:150], x[150:400], x[400:1000], classifier=judge, rng=3)
    assert metrics.summary(again) == metrics.summary(evaluation)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_evaluate_samples_that_lie_on_a_gpu(digits, judge, evaluation):
    x = digits[0]
    found = ddpm.evaluate(x[:150].cuda(), x[150:400], x[400:1000], classifier=judge, rng=3)
    assert metrics.summary(found) == metrics.summary(evaluation)


def test_evaluate_in_any_order(digits, judge, monkeypatch):
    """Real images of which the first are zeros and ones: what is taken of them is taken at random."""
    monkeypatch.setattr(metrics.evaluation, "ENERGY_IMAGES", 150)
    x, digit = digits
    real = x[200:1200][digit[200:1200].argsort()]
    found = ddpm.evaluate(x[:150][digit[:150].argsort()], real, x[1200:1500], classifier=judge)
    assert found.neighbours.precision.value > 0.85
    assert found.neighbours.recall.value > 0.85
    assert abs(found.energy.value) < 4 * found.energy.error


def test_few_digits_are_too_few(digits, judge):
    """A fifth of 100 is no sample in 128 dimensions, and takes the extrapolation below 0; a fifth of 500 is."""
    values = metrics.features(digits[0][:4500], judge).values
    values /= math.sqrt((values**2).mean())
    for n, low, high in ((100, -1.6, -0.6), (500, -0.3, 0.3)):
        parts = [values[i : i + n] for i in range(0, 2500, n)]
        found = [metrics.frechet_extrapolated(part, values[2500:], n_repeats=1, rng=0).value for part in parts]
        assert low < np.mean(found) < high


@pytest.mark.parametrize("image", [-torch.ones(1, 32, 32), None], ids=["black", "a digit"])
def test_a_collapsed_generator(digits, judge, image):
    """One image again and again is a point: its distances from real images have closed forms, all finite."""
    real = digits[0][:300]
    image = real[0] if image is None else image
    unit = math.sqrt((metrics.features(real, judge).values ** 2).mean())
    point, y = metrics.features(image[None], judge).values / unit, metrics.features(real, judge).values / unit
    found = ddpm.evaluate(image.repeat(200, 1, 1, 1), real, real, classifier=judge, rng=0)
    frechet = ((point[0] - y.mean(0)) ** 2).sum() + np.trace(np.cov(y.T))
    assert found.frechet.distances[0] == pytest.approx(frechet, rel=1e-6)  # roundings under a root
    assert found.frechet.value > 0.8 * frechet

    def among(points, kernel):  # of all pairs of different points
        values = kernel(points, points)
        return (values.sum() - np.trace(values)) / (len(points) * (len(points) - 1))

    def cubic(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def distance(a, b):
        return np.linalg.norm(a[:, None] - b, axis=2)

    kernel = cubic(point, point).mean() + among(y, cubic) - 2 * cubic(point, y).mean()
    assert found.kernel.value == pytest.approx(kernel, rel=1e-5)  # features are float32, and depend on the batch
    x = real.flatten(1).double().numpy()
    energy = 2 * distance(image.reshape(1, -1).double().numpy(), x).mean() - among(x, distance)
    assert found.energy.value == pytest.approx(energy, rel=1e-5)  # differences of squares, under a root
    assert found.confidence.mean.error < 1e-12
    assert found.memorisation.copies.value == float(torch.equal(image, real[0]))
    assert all(math.isfinite(float(n)) for n in re.findall(r"-?\d+\.\d+", metrics.table({"one": found})))


def test_neighbours_of_equally_many(digits, judge):
    """With more real images than samples coverage would fall to about 0.6, for no fault of the samples."""
    x = digits[0]
    few = ddpm.evaluate(x[:100], x[100:900], x[900:1000], classifier=judge)
    assert few.neighbours.coverage.value > 0.85


def test_table_and_summary(evaluation):
    text = metrics.table({"samples": evaluation, "real": evaluation})
    assert text.count("\nsamples") == text.count("\nreal") == 5
    assert max(map(len, text.splitlines())) <= 120
    value, error = evaluation.confidence.sure
    assert f"{value:.3f} ± {error:.3f}" in text
    plain = metrics.summary(evaluation)
    assert plain["frechet"]["sizes"][0] == 150
    assert plain["frechet"]["too small"] is True
    assert plain["neighbours"]["recall"] == evaluation.neighbours.recall._asdict()
    assert len(plain["balance"]["shares"]) == 10
    assert set(plain["memorisation"]) == {"median", "copies"}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Estimate(1.23456, 0.0123), "1.235 ± 0.012"),
        (Estimate(123.456, 23.0), "123 ± 23"),
        (Estimate(0.5, 0.0), "0.500 ± 0.000"),
        (metrics.Interval(0.95, 0.9432, 0.9561), "0.9500 [0.9432, 0.9561]"),
    ],
)
def test_numbers_stand_with_their_errors(number, text):
    assert metrics.report._text(number) == text


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: metrics.features(X[:, 0]), ValueError, r"\(N, 1, 32, 32\) with N at least 1.*\(120, 32, 32\)"),
        (lambda: metrics.features(X[:0]), ValueError, "N >= 1.*shape is .0, 1, 32, 32"),
        (lambda: metrics.features(NAN), ValueError, "images must be finite"),
        (lambda: metrics.features(X.int()), TypeError, "floating tensor; it is torch.int32"),
        (lambda: metrics.features(X.numpy().astype(int)), TypeError, "floating tensor; it is torch.int64"),
        (lambda: metrics.background(X[:1]), ValueError, "at least 2"),
        (lambda: metrics.energy_distance(X, X[:1]), ValueError, "reference must have shape"),
        (lambda: metrics.memorisation(X, X[:1]), ValueError, "training must have shape"),
        (lambda: metrics.evaluate(X, X[:99], X), ValueError, "reference must .* at least 100"),
        (lambda: metrics.frechet_extrapolated(P, P[:99]), ValueError, r"at least 100; .*\(120, 4\) and \(99, 4\)"),
        (lambda: metrics.frechet_extrapolated(P, P[:, :3]), ValueError, "shapes"),
        (lambda: metrics.frechet_extrapolated(P, P + np.nan), ValueError, "finite"),
        (
            lambda: metrics.evaluate(X + 1, X, X),
            ValueError,
            r"images must have pixels in \[-1, 1\].* from 0 to 0,",
        ),
        (lambda: metrics.evaluate(X, X, 255 * (X + 2)), ValueError, "training must have pixels"),
        (lambda: metrics.evaluate((X + 1) / 2 - 1e-3, X, X), ValueError, "images .* -0.001 to .* 0% of them are below"),
        (lambda: metrics.evaluate(X, 20 * X, X), ValueError, "reference must have pixels .* outside by more than 0.5"),
        (lambda: metrics.features(X, batch_size=0), ValueError, "batch_size must be at least 1; it is 0"),
        (lambda: metrics.frechet_extrapolated(P, P, n_repeats=2.5), TypeError, "n_repeats must be an integer"),
        (lambda: metrics.frechet_extrapolated(P, P, n_repeats=0), ValueError, "n_repeats must be at least 1"),
        (lambda: metrics.frechet_distance([0], [[1]], [0, 1], [[1]]), ValueError, r"\(1,\), \(1, 1\), \(2,\)"),
        (lambda: metrics.frechet_distance([0], [[math.inf]], [0], [[1]]), ValueError, "finite"),
        (lambda: metrics.frechet_distance([0], [[-1]], [0], [[1]]), ValueError, "its least eigenvalue is -1"),
        (lambda: metrics.frechet_distance([0, 0], [[2, 0], [1, 2]], [0, 0], np.eye(2)), ValueError, "asymmetric by 1"),
        (lambda: metrics.kernel_distance(P, P[:1]), ValueError, "at least 2"),
        (lambda: metrics.precision_recall_density_coverage(P, P, k=60), ValueError, r"k must lie in 1\.\.59; it is 60"),
        (lambda: metrics.precision_recall_density_coverage(P, P, k=0), ValueError, "it is 0"),
        (lambda: metrics.class_balance([10], [1]), ValueError, r"digits must lie in 0\.\.9; they range from 10"),
        (lambda: metrics.class_balance([1], []), ValueError, "reference must be integers"),
        (lambda: metrics.class_balance([1.5], [1]), ValueError, "digits must be integers .* float64"),
        (lambda: metrics.confidence([0.5, 1.5]), ValueError, r"in \[0, 1\]"),
        (lambda: metrics.confidence([0.5, math.nan]), ValueError, r"in \[0, 1\]"),
    ],
)
def test_refusals(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_command_with_a_file(small_mnist, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", small_mnist.numpy())
    done = run(tmp_path / "x.npy", "--json", tmp_path / "e.json", "--seed", 2)
    assert done.exit_code == 0, done.output
    assert re.search(r"120 samples \(file .*x\.npy, seed 2\), and 120 real\s+images", done.output)
    assert done.output.count("\nreal images") == 5
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["origin"] == {"file": str(tmp_path / "x.npy"), "seed": 2}
    assert {"device", "torch", "diffmath", "commit", "date"} < set(found)
    assert found["samples"]["n_training"] == 500
    assert found["real images"]["n_training"] == 380  # none of them is sought among itself
    assert found["real images"]["memorisation"]["copies"]["value"] == 0
    assert found["samples"]["memorisation"]["median"]["value"] > 0.9
    assert found["real images"]["balance"]["distance"]["value"] < 0.25  # of any digit: 120 of 500, which are in order

    (tmp_path / "text.npy").write_text("no array")
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "evaluate_beside_real", lambda *args, **kwargs: pytest.fail("the work was begun"))
        assert run(tmp_path / "x.npy", "--json", tmp_path).exit_code == 2
        done = run(tmp_path / "x.npy", "--json", tmp_path / "text.npy" / "e.json")
        assert done.exit_code == 2
        assert "cannot be written" in done.output
    assert run(tmp_path / "text.npy").exit_code == 2
    for option in (("--checkpoint", "compact"), ("-n", 200), ("--start", "matched"), ("--guidance", 1)):
        done = run(tmp_path / "x.npy", *option)
        assert done.exit_code == 2
        assert "of no use with samples from a file" in done.output


def test_files_are_judged_first(tmp_path, monkeypatch):
    """Before the real images are read."""

    def read(*args):
        raise RuntimeError("the real images were read")

    monkeypatch.setattr(data, "load_mnist", read)
    images = X.numpy()
    for wrong, said in (
        ((127.5 * (images + 1)).astype(np.uint8), "floating tensor; it is torch.uint8"),
        (images[:50], "at least 100"),
        (images[:, 0], "must have shape (N, 1, 32, 32)"),
        ((images + 1) / 2, "must have pixels in [-1, 1]"),
        (NAN.numpy(), "must be finite"),
        (images + 0j, "must be real numbers"),
        (np.array(["a"]), "must be real numbers"),
    ):
        np.save(tmp_path / "wrong.npy", wrong)
        done = run(tmp_path / "wrong.npy")
        assert done.exit_code == 2
        assert said in re.sub(r"[\s│]+", " ", done.output)
    np.savez(tmp_path / "x.npz", images)
    done = run(tmp_path / "x.npz")
    assert done.exit_code == 2
    assert "an archive" in done.output
    np.save(tmp_path / "other.npy", images.astype(">f4"))
    assert "the real images were read" in str(run(tmp_path / "other.npy").exception)  # in another order of bytes
    before = (tmp_path / "other.npy").read_bytes()
    done = run(tmp_path / "other.npy", "--json", tmp_path / "other.npy")
    assert done.exit_code == 2
    assert "--json: it is the file of samples too" in re.sub(r"[\s│]+", " ", done.output)
    assert (tmp_path / "other.npy").read_bytes() == before


def test_command_with_a_network(small_mnist, monkeypatch):
    asked, used = {}, []

    def sample(model, schedule, x_T, n_samples, n_steps, method, generator, **options):
        asked.update(n_samples=n_samples, n_steps=n_steps, method=method, seed=generator.initial_seed(), x_T=x_T)
        asked.update(options)
        used.append(model)
        return small_mnist[:n_samples]

    monkeypatch.setattr(ddpm, "sample", sample)
    done = run("-n", 110, "--n-steps", 7, "--method", "ddim", "--eta", 0.5, "--autocast", "--seed", 5)
    assert done.exit_code == 0, done.output
    x_T = asked.pop("x_T")
    expected = {"n_samples": 110, "n_steps": 7, "method": "ddim", "seed": 5}
    assert asked == expected | {"eta": 0.5, "autocast": True, "progress": True}
    # The mean that x_T has for MNIST, to five standard errors of 110 x 1024 nearly independent pixels; not 0.
    mean = 0.0797 * to_tensor(data.load_mnist("sample").images).mean().item()
    assert x_T.mean().item() == pytest.approx(mean, abs=5 / (110 * 1024) ** 0.5)
    assert abs(mean) > 10 / (110 * 1024) ** 0.5
    precision = "bfloat16" if autocast_dtype(torch.device("cpu")) else "float32"
    origin = f"network compact, method ddim, eta 0.5, steps 7, start matched, precision {precision}, seed 5"
    assert f"110 samples ({origin})" in done.output
    assert done.output.count("(too small)") == 3  # both Frechet distances, and why
    done = run("-n", 110, "--start", "noise", "--guidance", 0.3)
    assert done.exit_code == 0
    assert asked["x_T"] is None
    assert "start noise, precision float32, guidance 0.3, guidance interval [100, 400], seed 0" in done.output
    assert [getattr(model, "weight", None) for model in used] == [None, 0.3]
