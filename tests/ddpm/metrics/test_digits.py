"""What moves each number, and what does not, on real digits."""

import math

import numpy as np
import pytest
import torch

from diffmath import ddpm
from diffmath.ddpm import metrics
from tests.ddpm.metrics.samples import noisy


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
