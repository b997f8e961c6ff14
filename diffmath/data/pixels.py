"""Between files, tensors and pictures: scaling pixels to [-1, 1], resizing images, and sheets of them.

All raise a ValueError for arrays of another shape or dtype, and for numbers out of range.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import as_array, real_array, require_count
from diffmath._files import replacing

if TYPE_CHECKING:
    import torch

__all__ = ["resize", "save_sheet", "tile", "to_tensor"]


def to_tensor(images: npt.ArrayLike, size: int = 32) -> torch.Tensor:
    """Resize images and scale their pixels from [0, 255] to [-1, 1], as the network sees them.

    The resizing is bilinear with pixel areas aligned, and antialiased where images shrink. It keeps all of the digit,
    where padding to 32 x 32 would shrink it relative to the frame. Nothing is flipped.

    Parameters
    ----------
    images : array, shape (N, H, W), or (N, H, W, 3) for colours, uint8
    size : int
        Height and width of the result.

    Returns
    -------
    torch.Tensor, shape (N, 1, size, size) or (N, 3, size, size), float32, in [-1, 1]

    Examples
    --------
    >>> from diffmath.data import load_mnist, to_tensor
    >>> to_tensor(load_mnist("sample").images[:4]).shape
    torch.Size([4, 1, 32, 32])
    """
    import torch

    pixels = as_array(images, "images")
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise ValueError(
            f"images must be uint8 of shape (N, H, W) or (N, H, W, 3); they are {pixels.dtype} of shape {pixels.shape}"
        )
    if 0 in pixels.shape:
        raise ValueError(f"images must have pixels; their shape is {pixels.shape}")
    size = require_count("size", size)
    whole = torch.tensor(pixels)
    whole = whole[:, None] if pixels.ndim == 3 else whole.movedim(3, 1)
    return resize(whole.float(), (size, size)).div_(127.5).sub_(1)


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images (N, C, H, W) in another size, bilinearly, antialiased if a side shrinks; always a new tensor."""
    import torch

    if tuple(images.shape[2:]) == size:
        return images.clone()
    shrinks = any(new < old for new, old in zip(size, images.shape[2:], strict=True))
    return torch.nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def tile(images: npt.ArrayLike, columns: int, rows: int | None = None) -> npt.NDArray[np.float32]:
    """Put images in rows on a white sheet.

    Parameters
    ----------
    images : array, shape (N, 1, H, W) or (N, 3, H, W), in [-1, 1]
    columns, rows : int
        Images in a row, and rows; as many rows as are needed unless given.

    Returns
    -------
    numpy.ndarray, shape (rows (H + 2) - 2, columns (W + 2) - 2) or (..., 3), float32

    Examples
    --------
    >>> tile(np.zeros((5, 1, 8, 8)), columns=3).shape
    (18, 28)
    """
    pixels = real_array(images, "images").astype(np.float32)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape[2:] or (rows is None and not len(pixels)):
        raise ValueError(f"images must have shape (N, 1, H, W) or (N, 3, H, W); their shape is {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError("images must be finite; they hold NaN or infinity")
    columns = require_count("columns", columns)
    n, channels, height, width = pixels.shape
    rows = -(-n // columns) if rows is None else require_count("rows", rows)
    if n > rows * columns:
        raise ValueError(f"{n} images do not fit in {rows} rows of {columns}")
    sheet = np.ones((rows * (height + 2) - 2, columns * (width + 2) - 2, channels), dtype=np.float32)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + 2), (i % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = np.moveaxis(image, 0, -1)
    return sheet[..., 0] if channels == 1 else sheet


def save_sheet(path: str | os.PathLike[str], images: Any, columns: int | None = None, *, scale: int = 1) -> None:
    """Write images on one sheet, see `tile`, as a PNG file.

    Parameters
    ----------
    path : path
    images : array or tensor
        The same as for `tile`; pixels beyond [-1, 1] are black or white.
    columns : int, optional
        Images in a row; about as many as rows unless given.
    scale : int
        The sides of the square that each pixel becomes.

    Examples
    --------
    >>> import tempfile
    >>> from diffmath.data import load_mnist, save_sheet, to_tensor
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save_sheet(f"{directory}/digits.png", to_tensor(load_mnist("sample").images[::500]))
    """
    from PIL import Image

    images = real_array(images, "images")
    sheet = tile(images, round(len(images) ** 0.5) if columns is None else columns)
    scale = require_count("scale", scale)
    shades = np.clip(np.round((sheet + 1) * 127.5), 0, 255).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    with replacing(path) as temporary:
        Image.fromarray(shades).save(temporary, format="PNG")
