"""Digits, and what the shipped classifier says of them, computed once."""

import math

import numpy as np
import pytest
import torch

from diffmath import data, ddpm
from diffmath.data import Mnist, load_mnist, to_tensor
from diffmath.ddpm import metrics
from tests.ddpm.metrics.samples import blur, noisy


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


@pytest.fixture(scope="module")
def evaluation(digits, judge):
    x = digits[0]
    return ddpm.evaluate(x[:150], x[150:400], x[400:1000], classifier=judge, rng=3)


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
