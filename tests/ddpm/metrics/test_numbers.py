"""Numbers whose truth is known: each right, and its error honest."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from diffmath.ddpm import metrics
from diffmath.ddpm.metrics import Estimate
from tests.ddpm.metrics.samples import covariance, expected_kernel, repeated


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
