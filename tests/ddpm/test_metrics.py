"""Samples' quality: each number right where the truth is known, its error honest, and moved by what it is to see."""

import json
import math
import re

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch.nn import functional as F
from typer.testing import CliRunner

from diffmath import data, ddpm
from diffmath.__main__ import app
from diffmath.data import Mnist, load_mnist, to_tensor
from diffmath.ddpm import metrics
from diffmath.ddpm._environment import autocast_dtype
from diffmath.ddpm.metrics import Estimate


def repeated(estimates):
    """Mean of the values, its standard error, the values' standard deviation and the root mean square of the errors."""
    values, errors = np.transpose([e[:2] for e in estimates])
    spread = values.std(ddof=1)
    return values.mean(), spread / math.sqrt(len(values)), spread, math.sqrt(np.mean(errors**2))


# ---------------------------------------------------------------------------------------------------------------------
# Numbers whose truth is known


def covariance(rng, d, rank=None):
    a = rng.standard_normal((d, rank or 2 * d))
    return a @ a.T


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    m_1, m_2 = rng.standard_normal((2, 6))
    for rank in (12, 6, 3):  # the last is singular
        c_1, c_2 = covariance(rng, 6, rank), covariance(rng, 6)
        found = metrics.frechet_distance(m_1, c_1, m_2, c_2)
        usual = ((m_1 - m_2) ** 2).sum() + np.trace(c_1 + c_2 - 2 * sqrtm(c_1 @ c_2).real)
        assert found == pytest.approx(usual, rel=1e-6)  # sqrtm of a singular matrix is not more exact
        # Roots of eigenvalues that should be 0 and are rounding errors.
        assert metrics.frechet_distance(m_2, c_2, m_1, c_1) == pytest.approx(found, rel=1e-12 if rank >= 6 else 1e-7)
        assert metrics.frechet_distance(m_1, c_1, m_1, c_1) == pytest.approx(0, abs=1e-6 * np.trace(c_1))
    # Commuting: (difference of the means)^2 + (difference of the standard deviations)^2 along each axis.
    assert metrics.frechet_distance([0, 0], np.diag([1, 4]), [1, 2], np.diag([9, 0])) == pytest.approx(5 + 4 + 4)


@pytest.mark.parametrize(
    ("shift", "scale", "n", "m"), [(0.0, 1.0, 200, 200), (0.5, 1.5, 120, 400), (0.0, 2.0, 100, 100)]
)
def test_extrapolated_frechet_distance_is_honest(shift, scale, n, m):
    """Of Gaussians, whose distance is known: no bias, where there is one without extrapolation, and a true error."""
    rng, spread = np.random.default_rng(1), np.array([2, 1, 1, 0.5, 0.3, 0.2, 0.1, 0.1])
    truth = len(spread) * shift**2 + ((scale - 1) ** 2 * spread**2).sum()
    found = [
        metrics.frechet_extrapolated(
            scale * spread * rng.standard_normal((n, len(spread))) + shift,
            spread * rng.standard_normal((m, len(spread))),
            n_repeats=1,
            rng=rng,
        )
        for _ in range(60)
    ]
    mean, uncertainty, spread_of_values, error = repeated(found)
    assert abs(mean - truth) < 3.5 * uncertainty
    removed, uncertainty, *_ = repeated([(f.distances[0] - f.value, 0.0) for f in found])
    assert removed > 10 * uncertainty
    # 60 values give their standard deviation within 9 %. For equal laws the jackknife is up to twice too large.
    assert 0.75 < error / spread_of_values < (2.2 if truth == 0 else 1.4)
    assert np.mean([abs(f.value - truth) < 2 * f.error for f in found]) >= 0.85
    assert found[0].sizes == pytest.approx([n / k for k in range(1, 6)], rel=0.02)
    assert (np.diff(np.mean([f.distances for f in found], axis=0)) > 0).all()


def test_extrapolation_wants_no_order_and_no_centre():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((300, 4)), rng.standard_normal((300, 4))
    value, error, *_ = metrics.frechet_extrapolated(x, y, rng=0)
    assert metrics.frechet_extrapolated(x, y, rng=0)[:2] == (value, error)  # the seed decides
    ordered = metrics.frechet_extrapolated(x[x[:, 0].argsort()], y[y[:, 1].argsort()], rng=0)
    assert abs(ordered.value - value) < 2 * error
    assert ordered.error == pytest.approx(error, rel=0.5)
    far = metrics.frechet_extrapolated(x + 1e6, y + 1e6, rng=0)
    assert far.value == pytest.approx(value, abs=1e-6)  # squares of 1e6 would leave 1e-4


def expected_kernel(a, b):
    """E (x.y / d + 1)^3 for x ~ N(a, I), y ~ N(b, I), by the cumulants of x.y."""
    d, dot = len(a), a @ b
    mean, variance, third = dot / d + 1, (a @ a + b @ b + d) / d**2, 6 * dot / d**3
    return mean**3 + 3 * mean * variance + third


@pytest.mark.parametrize(("shift", "n", "m"), [(0.0, 100, 100), (0.0, 60, 200), (0.3, 100, 100), (0.3, 60, 200)])
def test_kernel_distance_is_honest(shift, n, m):
    rng, zero, mean = np.random.default_rng(3), np.zeros(6), np.full(6, shift)
    truth = expected_kernel(mean, mean) + expected_kernel(zero, zero) - 2 * expected_kernel(mean, zero)
    found = [
        metrics.kernel_distance(rng.standard_normal((n, 6)) + mean, rng.standard_normal((m, 6))) for _ in range(500)
    ]
    average, uncertainty, spread, error = repeated(found)
    assert abs(average - truth) < 3.5 * uncertainty
    # 500 values give it within 3 %; for equal laws the first term is kept from below 0, which adds a quarter at most.
    assert 0.85 < error / spread < (1.35 if truth == 0 else 1.15)


def test_pairwise_distances_are_their_definitions(monkeypatch):
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) + 1

    def mean(a, b):
        pairs = [(p @ q / 3 + 1) ** 3 for i, p in enumerate(a) for j, q in enumerate(b) if a is not b or i != j]
        return np.mean(pairs)

    exact = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    assert metrics.kernel_distance(x, y).value == pytest.approx(exact, rel=1e-12)

    def parts(a, b):
        """Means over either's points of (p.q / 3 + 1)^3 without p = q, and the variance they leave (Hoeffding)."""
        k = (a @ b.T / 3 + 1) ** 3
        keep = ~np.eye(len(a), dtype=bool) if a is b else np.ones(k.shape, dtype=bool)
        rows, columns = (k * keep).sum(1) / keep.sum(1), (k * keep).sum(0) / keep.sum(0)
        left = (k**2)[keep].mean() - (rows**2).mean() - (columns**2).mean() + k[keep].mean() ** 2
        return rows, columns, max(left, 0)

    (r_x, _, n_x), (r_y, _, n_y), (r_xy, r_yx, n_xy) = parts(x, x), parts(y, y), parts(x, y)
    first = 4 * np.var(r_x - r_xy, ddof=1) / 7 + 4 * np.var(r_y - r_yx, ddof=1) / 5
    second = 2 * n_x / (7 * 6) + 2 * n_y / (5 * 4) + 4 * n_xy / (7 * 5)
    variance = max(first - 2 * second, 0) + second
    assert metrics.kernel_distance(x, y).error == pytest.approx(variance**0.5, rel=1e-9)
    images = torch.from_numpy(rng.uniform(-1, 1, (6, 1, 32, 32)))
    others = torch.from_numpy(rng.uniform(-1, 1, (4, 1, 32, 32)))
    distance = torch.cdist(torch.cat([images, others]).flatten(1), torch.cat([images, others]).flatten(1)).numpy()
    exact = 2 * distance[:6, 6:].mean() - distance[:6, :6].sum() / 30 - distance[6:, 6:].sum() / 12
    found = metrics.energy_distance(images, others)
    assert found.value == pytest.approx(exact, rel=1e-9)
    grey, white = torch.zeros(3, 1, 32, 32), torch.ones(4, 1, 32, 32)
    assert metrics.energy_distance(grey, white) == pytest.approx((64, 0), abs=1e-6)  # 2 * 32 * 1, without doubt
    monkeypatch.setattr(metrics.kernel, "ENTRIES", 10)  # a few rows at once
    assert metrics.energy_distance(images, others) == pytest.approx(found, rel=1e-9)


def test_neighbours_are_their_definitions(monkeypatch):
    rng = np.random.default_rng(5)
    x, y, k = rng.standard_normal((110, 2)) * [1, 2], rng.standard_normal((130, 2)) + 0.5, 3

    def radii(z):
        return [np.sort(np.linalg.norm(z - p, axis=1))[k] for p in z]  # the 0-th is itself

    inside = np.array([[np.linalg.norm(p - q) <= r for p in x] for q, r in zip(y, radii(y), strict=True)])
    around = np.array([[np.linalg.norm(p - q) <= r for p, r in zip(x, radii(x), strict=True)] for q in y])
    exact = [inside.any(0).mean(), around.any(1).mean(), inside.sum() / (k * 110), inside.any(1).mean()]
    found = metrics.precision_recall_density_coverage(x, y, k=k)
    assert [e.value for e in found] == pytest.approx(exact, rel=1e-12)
    monkeypatch.setattr(metrics.neighbours, "ENTRIES", 1000)
    assert metrics.precision_recall_density_coverage(x, y, k=k) == found


@pytest.mark.parametrize(("shift", "half"), [(0.0, 1000), (0.5, 1000), (0.5, 40)])
def test_neighbours_errors_are_honest(shift, half, monkeypatch):
    monkeypatch.setattr(metrics.neighbours, "HALF", half)
    rng = np.random.default_rng(6)
    found = [
        metrics.precision_recall_density_coverage(
            rng.standard_normal((150, 6)) * (1 - shift / 2) + shift, rng.standard_normal((150, 6)), rng=rng
        )
        for _ in range(60)
    ]
    for name in metrics.Neighbours._fields:
        _, _, spread, error = repeated([getattr(f, name) for f in found])
        assert 0.75 < error / spread < 1.3, name  # 60 values give the standard deviation within 9 %


def test_neighbours_see_what_is_missing_and_what_is_too_much():
    """Two clusters as the data; samples of one; samples of three; all the same; far away."""
    rng = np.random.default_rng(7)

    def clusters(*centres, n=200):
        return np.concatenate([rng.standard_normal((n // len(centres), 2)) + 20 * c for c in centres])

    real = clusters(0, 1)
    one = metrics.precision_recall_density_coverage(clusters(0), real)
    assert one.precision.value > 0.85
    assert one.recall.value == pytest.approx(0.5, abs=0.06)
    assert one.coverage.value == pytest.approx(0.5, abs=0.06)
    three = metrics.precision_recall_density_coverage(clusters(0, 1, 2, n=300), real)
    assert three.precision.value == pytest.approx(2 / 3, abs=0.06)
    assert three.recall.value > 0.85
    same = metrics.precision_recall_density_coverage(real[:1].repeat(200, 0), real)
    assert same.recall.value <= 1 / 200
    assert same.coverage.value < 0.1
    far = metrics.precision_recall_density_coverage(real + 1000, real)
    assert [e.value for e in far] == [0] * 4
    assert all(e.error > 0 for e in far[:2])  # none of 200 is not known to be none of all


def test_classes_and_confidence():
    rng = np.random.default_rng(8)
    balance = metrics.class_balance([0, 0, 1, 9], [0, 1, 2, 3])
    assert [share.value for share in balance.shares] == [0.5, 0.25, *[0] * 7, 0.25]
    assert balance.distance.value == pytest.approx(0.5)
    p, q = np.full(10, 0.1), np.array([0.28, *[0.08] * 9])
    drawn = [metrics.class_balance(rng.choice(10, 500, p=p), rng.choice(10, 800, p=q)) for _ in range(300)]
    _, _, spread, error = repeated([d.distance for d in drawn])
    assert 0.9 < error / spread < 1.2
    _, _, spread, error = repeated([d.shares[3] for d in drawn])
    assert 0.9 < error / spread < 1.1

    sure = metrics.confidence([0.9, 0.95, 1.0, 0.55])
    assert sure.mean.value == pytest.approx(0.85)
    assert sure.mean.error == pytest.approx(np.std([0.9, 0.95, 1.0, 0.55], ddof=1) / 2)
    assert sure.sure.value == 0.5
    assert metrics.confidence([1.0] * 100).sure.error == pytest.approx(0.005, rel=0.02)  # all of 100 is not all


def test_background():
    x = torch.full((5, 1, 32, 32), 0.5)
    x[:, :, 4:-4, 4:-4] = -1.0
    assert metrics.background(x) == (Estimate(0.5, 0.0), Estimate(0.0, 0.0))
    x[:, :, :4] = 2.0  # clipped: 128 of the frame's 448 pixels
    share = 128 / 448
    assert metrics.background(x).mean.value == pytest.approx(share + (1 - share) / 2)
    assert metrics.background(x).spread.value == pytest.approx(math.sqrt(share * (1 - share)) / 2)
    # Images that differ as a whole: the pixels of one are no independent witnesses.
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(300):
        level, spread = torch.rand((2, 40, 1, 1, 1), generator=generator)
        noise = 0.1 * torch.randn((40, 1, 32, 32), generator=generator)
        found.append(metrics.background(0.4 * level - 0.5 + spread * noise))
    for name in metrics.Background._fields:
        _, _, spread, error = repeated([getattr(f, name) for f in found])
        assert 0.85 < error / spread < 1.15, name


# ---------------------------------------------------------------------------------------------------------------------
# Digits


@pytest.fixture(scope="module")
def digits():
    """5,000 MNIST images in random order, and their digits."""
    images, labels = load_mnist("sample")
    order = np.random.default_rng(0).permutation(len(images))
    return to_tensor(images[order]), torch.tensor(labels[order])


@pytest.fixture(scope="module")
def judge():
    return ddpm.load_classifier()


@pytest.fixture(scope="module")
def reference(digits, judge):
    return metrics.features(digits[0][1000:2500], judge)


def blur(x):
    return F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 3, 1)


def noisy(x, spread, seed=0):
    return x + spread * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def judged(digits, judge, reference):
    """All distances of changed images from real ones."""
    images, labels = digits
    x, spare, digit = images[:1000], images[2500:], labels[2500:]
    unit = math.sqrt((reference.values**2).mean())
    changed = {
        "real": x,
        "blur": blur(x),
        "contrast": (x + 1) * 0.6 - 1,
        "no sevens": spare[digit != 7][:1000],
        "copies": x[:70].repeat(15, 1, 1, 1)[:1000],
        "noise": noisy(x, 0.1),
        "turned": torch.cat([x[:500], x[500:].rot90(dims=(2, 3))]),
    }
    found = {}
    for name, y in changed.items():
        seen = metrics.features(y, judge)
        a, b = seen.values / unit, reference.values / unit
        found[name] = {
            "frechet": metrics.frechet_extrapolated(a, b, n_repeats=1),
            "kernel": metrics.kernel_distance(a, b),
            **metrics.precision_recall_density_coverage(a[:700], b[:700])._asdict(),
            "classes": metrics.class_balance(seen.digits, reference.digits).distance,
            "sevens": metrics.class_balance(seen.digits, reference.digits).shares[7],
            "confidence": metrics.confidence(seen.confidences).mean,
            **metrics.background(y)._asdict(),
            "energy": metrics.energy_distance(y[:500], images[1000:1500]),
        }
    return found


def test_real_against_real(judged):
    real = judged["real"]
    for name in ("frechet", "kernel", "energy"):
        assert abs(real[name].value) < 3 * real[name].error, name
    assert real["frechet"].distances[0] > 0.3  # its bias
    expected = {"precision": 0.965, "recall": 0.965, "density": 1.0, "coverage": 0.97}  # of another classifier
    for name, value in expected.items():
        assert real[name].value == pytest.approx(value, abs=0.05), name
    assert real["confidence"].value > 0.99


@pytest.mark.parametrize(
    ("change", "statistic", "direction"),
    [
        ("blur", "frechet", 1),
        ("blur", "kernel", 1),
        ("blur", "recall", -1),
        ("blur", "coverage", -1),
        ("blur", "confidence", -1),
        ("blur", "spread", -1),
        ("blur", "energy", 1),
        ("contrast", "frechet", 1),
        ("contrast", "kernel", 1),
        ("contrast", "recall", -1),
        ("contrast", "density", -1),
        ("contrast", "coverage", -1),
        ("contrast", "confidence", -1),
        ("contrast", "mean", -1),
        ("contrast", "spread", -1),
        ("contrast", "energy", 1),
        ("no sevens", "frechet", 1),
        ("no sevens", "recall", -1),
        ("no sevens", "coverage", -1),
        ("no sevens", "classes", 1),
        ("no sevens", "sevens", -1),
        ("copies", "frechet", 1),
        ("copies", "recall", -1),
        ("copies", "coverage", -1),
        ("no sevens", "kernel", 1),
        ("turned", "precision", -1),
        ("turned", "density", -1),
        ("turned", "kernel", 1),
        ("noise", "mean", 1),
        ("noise", "spread", 1),
        ("noise", "energy", 1),
    ],
)
def test_what_moves(judged, change, statistic, direction):
    """By more than two errors of both, and of these the same images' mostly cancel."""
    (now, error, *_), (before, floor, *_) = judged[change][statistic], judged["real"][statistic]
    assert direction * (now - before) > 2 * math.hypot(error, floor)


def test_what_does_not_move(judged):
    """The classifier overlooks the noise, which is why pixels are looked at; blurred digits are still precise."""
    for name in ("frechet", "kernel", "precision", "recall", "density", "coverage", "classes", "confidence"):
        (now, error, *_), (before, *_) = judged["noise"][name], judged["real"][name]
        assert abs(now - before) < 2 * error, name
    assert judged["blur"]["precision"].value > 0.9
    assert judged["no sevens"]["precision"].value > 0.9


def test_features(digits, judge):
    x, labels = digits[0][:60], digits[1][:60]
    seen = metrics.features(x, judge, batch_size=25)
    assert seen.values.shape == (60, 128)
    assert seen.values.dtype == seen.confidences.dtype == np.float64
    predicted = ddpm.classify(judge, x)
    assert (seen.digits == predicted.digit.numpy()).all()
    assert (seen.digits == labels.numpy()).mean() > 0.95
    np.testing.assert_allclose(seen.confidences, predicted.confidence, atol=1e-5)
    beyond = metrics.features(torch.where(x == -1, -3.0, x), None)  # clipped
    np.testing.assert_allclose(beyond.values, seen.values, atol=1e-5)


def test_memorisation(digits):
    images = digits[0]
    training, fresh = images[1000:], images[:300]
    found = metrics.memorisation(fresh, training)
    assert found.median.value == pytest.approx(0.95, abs=0.02)
    assert found.median.low < found.median.value < found.median.high < found.median.low + 0.03
    # Of 1,000 bootstrapped medians the percentiles are about the order statistics that bound the median.
    ranks = [np.searchsorted(np.sort(found.ratios), end) for end in found.median[1:]]
    np.testing.assert_allclose(np.subtract(ranks, 150) / (1.96 * 300**0.5 / 2), [-1, 1], atol=0.25)
    assert found.copies[:2] == (0, 0)
    assert found.copies.high == pytest.approx(1 - 0.025 ** (1 / 300))  # Clopper and Pearson's, by hand
    fresh = fresh[:30]
    distance = (fresh[:, None, 0].double().flatten(2) - training[None, :500, 0].double().flatten(2)).square()
    some = metrics.memorisation(fresh, training[:500])
    two, which = distance.sum(2).sqrt().topk(2, largest=False)
    assert (some.indices == which[:, 0].numpy()).all()
    np.testing.assert_allclose(some.distances, two[:, 0], rtol=1e-12)
    np.testing.assert_allclose(some.ratios, two[:, 0] / two[:, 1], rtol=1e-12)
    many = metrics.memorisation(fresh.repeat(20, 1, 1, 1), training[:500])  # more than are looked up at once
    assert (many.indices == np.tile(some.indices, 20)).all()
    np.testing.assert_allclose(many.ratios, np.tile(some.ratios, 20), rtol=1e-12)


def test_memorisation_among_near_copies(digits):
    """Candidates come from single precision, which cannot tell these copies apart; the answer is exact."""
    images = digits[0][:20].double()
    rng = np.random.default_rng(0)
    distances = rng.permuted(np.tile(1e-3 * np.array([1.0, 1.5, 2.0]), (20, 1)), axis=1)
    steps = torch.from_numpy(rng.standard_normal((20, 3, 1, 32, 32)))
    steps *= torch.from_numpy(distances)[:, :, None, None, None] / steps.square().sum((2, 3, 4), keepdim=True).sqrt()
    inside = 0.9 * images  # so that nothing is clipped
    found = metrics.memorisation(inside, torch.cat([(inside[:, None] + steps).flatten(0, 1), digits[0][20:500]]))
    np.testing.assert_array_equal(found.indices, 3 * np.arange(20) + distances.argmin(1))
    np.testing.assert_allclose(found.distances, 1e-3, rtol=1e-9)
    np.testing.assert_allclose(found.ratios, 2 / 3, rtol=1e-9)


def test_memorisation_finds_copies(digits):
    training = digits[0][1000:3000]
    noise = metrics.memorisation(noisy(training[:200], 0.02), training)
    assert (noise.indices == np.arange(200)).all()
    assert noise.copies.value == noise.copies.high == 1
    assert 0.9 < noise.copies.low < 1
    hidden = metrics.memorisation(noisy(training[:200], 0.1), training)
    assert hidden.copies.value < 0.95  # noise hides copies
    assert hidden.copies.value == np.mean(hidden.ratios < 1 / 3)
    exact = metrics.memorisation(training[:3], torch.cat([training, training[:2]]))
    assert (exact.ratios == 0).all()  # also of those that are in it twice
    half = metrics.memorisation(torch.cat([noisy(training[:50], 0.02), digits[0][:50]]), training)
    assert half.copies.value == 0.5
    assert half.copies.low == pytest.approx(0.4, abs=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# All together


@pytest.fixture(scope="module")
def evaluation(digits, judge):
    x = digits[0]
    return ddpm.evaluate(x[:150], x[150:400], x[400:1000], classifier=judge, rng=3)


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


def test_neighbours_that_coincide():
    """A point's own place is in its ball, of radius 0 too: ties are neighbours."""
    rng = np.random.default_rng(0)
    real = 1e3 + rng.standard_normal((150, 40))
    samples = np.repeat(real[:1], 120, axis=0)
    found = metrics.precision_recall_density_coverage(samples, real)
    assert found.precision.value == 1
    assert found.recall.value == 1 / 150
    same = metrics.precision_recall_density_coverage(samples, samples)
    assert [estimate.value for estimate in same] == [1, 1, 120 / 5, 1]


def test_the_frechet_distance_is_never_negative():
    """Of points, too, and of covariances that differ in roundings."""
    rng = np.random.default_rng(0)
    for scale in (1e-9, 1.0, 1e6):
        x = 5 + scale * rng.standard_normal((50, 8))
        mean, c = x.mean(0), np.cov(x.T)
        for other in (c, c * (1 + 1e-15), 0 * c):
            assert metrics.frechet_distance(mean, other, mean, other) >= 0
    point = np.cov(np.full((200, 128), 0.3).T) + 1e-17 * rng.standard_normal((128, 128))
    assert metrics.frechet_distance(np.full(128, 0.3), point, np.full(128, 0.3), point) == pytest.approx(0, abs=1e-14)
    assert metrics.frechet_distance(np.full(128, 0.3), point, np.zeros(128), np.eye(128)) == pytest.approx(139.52)


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


X, P = -torch.ones(120, 1, 32, 32), np.zeros((120, 4))
NAN = torch.full_like(X, math.nan)


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


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture
def small_mnist(monkeypatch):
    """The sample in place of the complete files."""
    images, labels = load_mnist("sample")
    order = np.random.default_rng(0).permutation(len(images))
    parts = {"test": order[:300], "train": np.sort(order[300:800]), "sample": order[:800]}  # by digit, as the sample is
    monkeypatch.setattr(
        data, "load_mnist", lambda split, directory=None: Mnist(images[parts[split]], labels[parts[split]])
    )
    return to_tensor(images[order[800:920]])


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
    for option in (("--checkpoint", "compact"), ("-n", 200), ("--start", "matched")):
        done = run(tmp_path / "x.npy", *option)
        assert done.exit_code == 2
        assert "of no use with samples from a file" in done.output
    np.save(tmp_path / "grey.npy", (127.5 * (small_mnist.numpy() + 1)).astype(np.uint8))
    assert "images must be a floating tensor; it is torch.uint8" in str(run(tmp_path / "grey.npy").exception)
    np.save(tmp_path / "few.npy", small_mnist.numpy()[:50])
    done = run(tmp_path / "few.npy")
    assert isinstance(done.exception, ValueError)
    assert "at least 100" in str(done.exception)


def test_command_with_a_network(small_mnist, monkeypatch):
    asked = {}

    def sample(model, schedule, x_T, n_samples, n_steps, method, generator, **options):
        asked.update(n_samples=n_samples, n_steps=n_steps, method=method, seed=generator.initial_seed(), x_T=x_T)
        asked.update(options)
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
    assert run("-n", 110, "--start", "noise").exit_code == 0
    assert asked["x_T"] is None
