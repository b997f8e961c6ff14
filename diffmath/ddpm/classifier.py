"""A small convolutional classifier of digits, trained on real MNIST, apart from the generator: the judge of Figure 4.

Generated digits have slightly grey, noisy backgrounds where MNIST has exactly -1, and a classifier that has only seen
clean ones is confidently wrong about them. So it is trained with small noise, offset and contrast changes.
"""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from diffmath._arguments import require_count, require_instance, require_number, require_pixels
from diffmath._files import as_path, replacing
from diffmath.ddpm._arguments import as_floating, as_tensor
from diffmath.ddpm._environment import choose_device, provenance
from diffmath.ddpm.checkpoints import CheckpointError, require_fit, to_json

__all__ = ["Classifier", "Prediction", "classify", "load_classifier", "save_classifier", "train_classifier"]

FORMAT = "diffmath.classifier"


class Classifier(nn.Module):
    """Six 3 x 3 convolutions at 32, 16, 8 and 4 pixels, an average over the pixels, and a linear layer.

    Takes images of shape (B, 1, 32, 32) with pixels in [-1, 1] and returns logits of shape (B, 10).

    Examples
    --------
    >>> Classifier()(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for widths in ((16,), (32, 32), (64, 64), (128,)):
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*layers[:-1])  # no pooling before the average
        self.head = nn.Linear(channels, 10)

    def features(self, x: Tensor) -> Tensor:
        """The activations before the last layer, shape (B, 128).

        Examples
        --------
        >>> Classifier().features(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 128])
        """
        require_instance("x", x, Tensor)
        h: Tensor = self.body(x)
        return h.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The logits, shape (B, 10), of images (B, 1, 32, 32); ValueError for another shape."""
        require_instance("x", x, Tensor)
        if x.shape[1:] != (1, 32, 32):
            raise ValueError(f"x must have shape (B, 1, 32, 32); its shape is {tuple(x.shape)}")
        logits: Tensor = self.head(self.features(x))
        return logits


def require_classifier(classifier: Classifier) -> Classifier:
    """The classifier, if it is one; else TypeError."""
    if not isinstance(classifier, Classifier):
        raise TypeError(f"classifier must be a Classifier; it is a {type(classifier).__name__}")
    return classifier


class Prediction(NamedTuple):
    """Digits, int64 of shape (N,), and the probabilities given to them, float32 of shape (N,)."""

    digit: Tensor
    confidence: Tensor


@torch.no_grad()
def classify(classifier: Classifier, images: Tensor, batch_size: int = 500) -> Prediction:
    """The most probable digit of each image, and its probability, on the images' device.

    Parameters
    ----------
    classifier : Classifier
    images : Tensor, shape (N, 1, 32, 32), floating
        Pixels in [-1, 1]; values outside are clipped, as a picture of them would be.
    batch_size : int
        Images that the classifier sees at once.

    Examples
    --------
    >>> from diffmath.data import load_mnist, to_tensor
    >>> classify(load_classifier(), to_tensor(load_mnist("sample").images[::500])).digit
    tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    images, batch_size = as_floating(images, "images"), require_count("batch_size", batch_size)
    weight = require_classifier(classifier).head.weight
    parts = [classifier(part.to(weight).clamp(-1, 1)).softmax(dim=1) for part in images.split(batch_size)]
    confidence, digit = torch.cat(parts).max(dim=1)
    return Prediction(digit.to(images.device), confidence.to(images.device))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Small changes that leave a digit what it is: contrast, offset, noise, and a shift by up to two pixels.

    Contrast by a factor in [0.8, 1.1], offset in [-0.1, 0.2], Gaussian noise of a standard deviation in [0, 0.25], each
    drawn for each image; clipped to [-1, 1]. Half of the images get these, so clean ones stay known too. The shift is
    one for the whole batch.
    """
    n, device = len(images), images.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((n, 1, 1, 1), generator=generator, device=device)

    contrast, offset, spread = uniform(0.8, 1.1), uniform(-0.1, 0.2), uniform(0, 0.25)
    touched = (uniform(0, 1) < 0.5).to(images.dtype)
    noise = torch.randn(images.shape, generator=generator, device=device)
    images = images + touched * ((contrast - 1) * images + offset + spread * noise)
    down, right = torch.randint(-2, 3, (2,), generator=generator, device=device).tolist()
    shifted = F.pad(images, (2, 2, 2, 2), mode="replicate")[:, :, 2 + down : 34 + down, 2 + right : 34 + right]
    return shifted.clamp(-1, 1)


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    n_epochs: int = 6,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> tuple[Classifier, dict[str, Any]]:
    """Train a classifier by Adam with a one-cycle learning rate on augmented images.

    Parameters
    ----------
    images : Tensor, shape (N, 1, 32, 32), floating
        Pixels in [-1, 1].
    labels : Tensor, shape (N,), integer
        Digits, from 0 to 9.
    n_epochs, batch_size, learning_rate : int, int, float
        Passes over the data, images in a step, and the highest learning rate.
    seed : int
        Seeds the initial weights, the order of the images and the augmentation.
    device : str or torch.device, optional
        Defaults to the best device of this machine.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Classifier, dict
        The classifier in evaluation mode, and the record of its training.

    Examples
    --------
    >>> from diffmath.data import load_mnist, to_tensor
    >>> images, labels = load_mnist("sample")
    >>> options = {"n_epochs": 1, "device": "cpu", "progress": False}
    >>> train_classifier(to_tensor(images[::50]), torch.tensor(labels[::50]), **options)[1]["steps"]
    1
    """
    images, labels = as_floating(images, "images"), as_tensor(labels, "labels")
    n_epochs, batch_size = require_count("n_epochs", n_epochs), require_count("batch_size", batch_size)
    learning_rate, seed = require_number("learning_rate", learning_rate), require_count("seed", seed, 0)
    require_pixels(images)
    if images.shape[1:] != (1, 32, 32):
        raise ValueError(f"images must have shape (N, 1, 32, 32); their shape is {tuple(images.shape)}")
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(f"labels must be integers of shape (N,); they are {labels.dtype}, {tuple(labels.shape)}")
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive; it is {learning_rate}")
    if len(images) != len(labels):
        raise ValueError(f"there must be one label for each image; there are {len(images)} and {len(labels)}")
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"labels must lie in 0..9; they range from {labels.min()} to {labels.max()}")
    device = choose_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        classifier = Classifier().to(device).train()
    generator, on_cpu = torch.Generator(device).manual_seed(seed), torch.Generator().manual_seed(seed)
    images, labels = images.to(device), labels.to(device).long()
    optimizer = torch.optim.Adam(classifier.parameters())
    per_epoch = -(-len(images) // batch_size)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=n_epochs * per_epoch)
    with tqdm(total=n_epochs * len(images), unit=" images", unit_scale=True, disable=not progress) as bar:
        for _ in range(n_epochs):
            for index in torch.randperm(len(images), generator=on_cpu).split(batch_size):
                batch = index.to(device)
                loss = F.cross_entropy(classifier(augment(images[batch], generator)), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()
                bar.update(len(index))
    record = provenance(device) | {
        "n_images": len(images),
        "epochs": n_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "steps": n_epochs * per_epoch,
    }
    return classifier.eval(), record


def save_classifier(path: str | os.PathLike[str], classifier: Classifier, metadata: dict[str, Any]) -> None:
    """Save a classifier's weights as float32 safetensors with the record of its training, atomically.

    The record is anything that JSON can hold, such as what `train_classifier` returns. A file of that name is replaced
    only when the new one is complete.

    Examples
    --------
    >>> save_classifier("classifier.safetensors", Classifier(), {"epochs": 0})  # doctest: +SKIP
    """
    require_instance("classifier", classifier, Classifier)
    require_instance("metadata", metadata, dict)
    record = to_json(metadata)
    weights = {name: t.detach().cpu().contiguous() for name, t in classifier.state_dict().items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(weights, metadata={FORMAT: record}))


def load_classifier(
    path: str | os.PathLike[str] | None = None, *, device: str | torch.device | None = None
) -> Classifier:
    """Load a classifier, float32 and in evaluation mode; CheckpointError if the file holds none.

    Parameters
    ----------
    path : path, optional
        A file of `save_classifier`. Defaults to the classifier shipped with the package.
    device : str or torch.device, optional
        Defaults to the CPU.

    Examples
    --------
    >>> load_classifier()(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """
    if path is None:
        with as_file(files("diffmath.ddpm") / "weights" / "classifier.safetensors") as shipped:
            return load_classifier(shipped, device=device)
    path = as_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            if FORMAT not in (file.metadata() or {}):
                raise SafetensorError(f"it has no {FORMAT!r} entry")
            weights = {name: file.get_tensor(name) for name in file.keys()}
        classifier = Classifier()
        require_fit(weights, classifier)
        classifier.load_state_dict(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} does not hold a classifier: {error}") from error
    return classifier.to(choose_device("cpu" if device is None else device)).eval()
