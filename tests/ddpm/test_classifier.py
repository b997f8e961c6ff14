"""The judge of Figure 4: right on real digits, clean or slightly grey and noisy."""

import pytest
import torch

from diffmath.data import load_mnist, to_tensor
from diffmath.ddpm import CheckpointError, classify, load_classifier, save_classifier, train_classifier
from diffmath.ddpm.classifier import Classifier, augment


@pytest.fixture(scope="module")
def digits():
    images, labels = load_mnist("sample")
    return to_tensor(images[::5]), torch.tensor(labels[::5]).long()


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 0.0), (0.1, 0.1), (0.0, 0.2)])
def test_shipped_classifier(digits, offset, spread):
    """These are training images; the accuracy on the 10,000 test images is measured in experiments/."""
    images, labels = digits
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    prediction = classify(load_classifier(), images + offset + spread * noise)
    assert (prediction.digit == labels).float().mean() > 0.99
    assert (prediction.confidence > 0.9).float().mean() > 0.97


def test_learns_in_one_epoch(digits):
    images, labels = digits
    held_out = torch.arange(len(images)) % 4 == 0
    trained, record = train_classifier(
        images[~held_out], labels[~held_out], n_epochs=3, batch_size=32, device="cpu", progress=False
    )
    assert (classify(trained, images[held_out]).digit == labels[held_out]).float().mean() > 0.8
    assert record["n_images"] == 750
    with pytest.raises(ValueError, match="one label for each image"):
        train_classifier(images, labels[:-1])


def test_augmentation_is_small(digits):
    """Digits stay what they are, for a classifier that is sure of them; half stay clean; pixels stay in [-1, 1]."""
    images, labels = digits
    changed = augment(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.min() >= -1
    assert changed.max() <= 1
    assert (classify(load_classifier(), changed).digit == labels).float().mean() > 0.98
    clean = (changed == -1).flatten(1).float().mean(1) > 0.4
    assert 0.4 < clean.float().mean() < 0.75


def test_files(tmp_path):
    torch.manual_seed(0)
    classifier = Classifier().eval()
    for metadata in ({"loss": float("nan")}, {1: "a", "1": "b"}):
        with pytest.raises(TypeError, match="metadata must be what JSON can hold"):
            save_classifier(tmp_path / "c", classifier, metadata)
    save_classifier(tmp_path / "c", classifier, {"seed": 0})
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(load_classifier(tmp_path / "c")(x), classifier(x))
    (tmp_path / "half").write_bytes((tmp_path / "c").read_bytes()[:-1])
    for name in ("half", "nothing"):
        with pytest.raises(CheckpointError, match="does not hold a classifier"):
            load_classifier(tmp_path / name)
    with pytest.raises(ValueError, match=r"shape \(B, 1, 32, 32\)"):
        classifier(torch.zeros(1, 1, 28, 28))
    with pytest.raises(ValueError, match="finite"):
        classify(classifier, torch.full((1, 1, 32, 32), float("nan")))
