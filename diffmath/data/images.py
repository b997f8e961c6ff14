"""A reader's own images, as the tensors that training takes: arrays, IDX files, and folders of PNG and JPEG files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from diffmath._arguments import require_count
from diffmath._files import as_path
from diffmath.data.idx import DataError, parse_idx, read_content
from diffmath.data.pixels import resize

if TYPE_CHECKING:
    import torch

__all__ = ["Images", "load_images"]

PICTURES = (".png", ".jpg", ".jpeg")
MULTIPLE = 4  # the networks halve each side twice


class Images(NamedTuple):
    """Images and what was done to them.

    Attributes
    ----------
    images : torch.Tensor, shape (N, C, H, W), float32
        Pixels in [-1, 1]; one channel or three; H and W are multiples of 4.
    description : dict
        The source's name, the number of images and their shape, how pixels were scaled, and where it applies the size
        before resizing, the rows and columns that were added, and that the axes were transposed. JSON can hold it.
    """

    images: torch.Tensor
    description: dict[str, Any]


def load_images(path: str | os.PathLike[str], *, size: int | tuple[int, int] | None = None) -> Images:
    """Read images, and scale their pixels to [-1, 1].

    The images keep their size unless another one is given. Sides that are no multiples of 4 are padded to the next one
    by repeating the pixels at the edges, as evenly on both sides as possible.

    Parameters
    ----------
    path : path
        One of

        - a .npy file, or an .npz file with one array or one that is called ``images``, of shape (N, H, W), (N, H, W, C)
          or (N, C, H, W) with C = 1 or 3: uint8, or floating numbers in [0, 1] or in [-1, 1];
        - an IDX file, gzipped or not, such as those of Fashion-MNIST and EMNIST. The latter stores its images
          transposed; files whose names begin with ``emnist`` are turned upright;
        - a folder of PNG and JPEG files, subfolders included, all of one size. Grey and coloured ones together are in
          colour.
    size : int or (int, int), optional
        Height and width to resize the images to, bilinearly, with antialiasing where they shrink.

    Returns
    -------
    Images

    Raises
    ------
    DataError
        If there is no such file, or it holds something else.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from diffmath.data import load_images
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     np.save(f"{directory}/squares.npy", np.zeros((5, 30, 32), dtype=np.uint8))
    ...     images, description = load_images(f"{directory}/squares.npy")
    >>> images.shape, description["padding"]
    (torch.Size([5, 1, 32, 32]), {'top': 1, 'bottom': 1, 'left': 0, 'right': 0})
    """
    import torch

    path = as_path(path)
    new_size = _size(size)
    description: dict[str, Any] = {"source": path.name}
    if path.is_dir():
        array = _from_folder(path)
    else:
        array = _from_file(path)
        if array.ndim == 3 and path.name.lower().startswith("emnist"):
            array = array.transpose(0, 2, 1)
            description["transposed"] = True
    pixels, description["scaling"] = _scaled(_channels_first(array, path), path)
    images = torch.from_numpy(pixels)
    if new_size is not None and tuple(images.shape[2:]) != new_size:
        description["resized_from"] = list(images.shape[2:])
        images = resize(images, new_size)
    (top, bottom), (left, right) = (((-n % MULTIPLE) // 2, (-n % MULTIPLE + 1) // 2) for n in images.shape[2:])
    if top + bottom + left + right:
        description["padding"] = {"top": top, "bottom": bottom, "left": left, "right": right}
        images = torch.nn.functional.pad(images, (left, right, top, bottom), mode="replicate")
    description["images"], description["shape"] = len(images), list(images.shape[1:])
    return Images(images, description)


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(size, (tuple, list)):
        side = require_count("size", size)
        return side, side
    if len(size) != 2:
        raise ValueError(f"size must be one number or (height, width); it is {size!r}")
    return require_count("the height in size", size[0]), require_count("the width in size", size[1])


def _from_file(path: Path) -> npt.NDArray[Any]:
    """The array in a file, whose kind its first bytes tell."""
    try:
        with open(path, "rb") as file:
            start = file.read(6)
            file.seek(0)
            if start[:2] == b"PK":
                return _from_archive(file, path)
            if start == b"\x93NUMPY":
                array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
                return array
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as numpy's arrays: {error}.") from error
    if start[:2] != b"\x1f\x8b" and start[:2] != b"\0\0":
        what = ": a single picture is no data set, give its folder" if path.suffix.lower() in PICTURES else ""
        raise DataError(f"{path} is no folder of PNG and JPEG files, and no .npy, .npz or IDX file{what}.")
    return parse_idx(read_content(path), path)


def _from_archive(file: BinaryIO, path: Path) -> npt.NDArray[Any]:
    """The images in an .npz file."""
    import zipfile

    try:
        with np.load(file, allow_pickle=False) as archive:
            names = list(archive)
            name = "images" if "images" in names else names[0] if len(names) == 1 else None
            if name is None:
                held = f"the arrays {', '.join(names)}" if names else "no array"
                raise DataError(f"{path} must hold one array, or one that is called images; it holds {held}.")
            array: npt.NDArray[Any] = archive[name]
            return array
    except (zipfile.BadZipFile, AttributeError, KeyError) as error:
        raise DataError(f"{path} cannot be read as an .npz file: {error}.") from error


def _from_folder(folder: Path) -> npt.NDArray[np.uint8]:
    """The pictures in a folder and its subfolders by name, as an array (N, H, W) or (N, H, W, 3)."""
    hidden = (p for p in sorted(folder.rglob("*")) if not p.name.startswith("."))
    paths = [path for path in hidden if path.suffix.lower() in PICTURES and path.is_file()]
    if not paths:
        others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))[:4]
        held = f"it holds {', '.join(others)}: give one of the files" if others else "it is empty"
        raise DataError(f"{folder} has no PNG or JPEG files; {held}.")
    first, coloured = _picture(paths[0]), False
    pictures = []
    for path in paths:
        picture = _picture(path)
        if picture.shape[:2] != first.shape[:2]:
            here, there = (" x ".join(map(str, p.shape[:2])) for p in (picture, first))
            raise DataError(f"the pictures must be of one size: {path} has {here} pixels, {paths[0]} has {there}.")
        coloured = coloured or picture.ndim == 3
        pictures.append(picture)
    if coloured:
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    return np.stack(pictures)


def _picture(path: Path) -> npt.NDArray[np.uint8]:
    """A picture upright, uint8 of shape (H, W) or (H, W, 3)."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
                raise DataError(f"{path} has pixels of the kind {picture.mode}; 8 bits for each channel are required.")
            alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
            if alpha and alpha.getextrema() != (255, 255):
                raise DataError(f"{path} is transparent in part: put it on a background.")
            grey = picture.mode in ("1", "L", "LA")
            return np.asarray(picture.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}.") from error


def _channels_first(array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Images of shape (N, C, H, W)."""
    shape = array.shape
    if array.ndim == 1:
        raise DataError(f"{path} holds {shape[0]} numbers, perhaps labels; images (N, H, W) are required.")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and (last := shape[3] in (1, 3)) != (shape[1] in (1, 3)):
        array = np.moveaxis(array, 3, 1) if last else array
    else:
        raise DataError(
            f"{path} holds an array of shape {shape}; (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3 is "
            "required."
        )
    if array.size == 0:
        raise DataError(f"{path} holds no images: the shape is {shape}.")
    return array


def _scaled(array: npt.NDArray[Any], path: Path) -> tuple[npt.NDArray[np.float32], str]:
    """Pixels in [-1, 1], and the formula that led there."""
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(127.5) - np.float32(1), "pixels / 127.5 - 1"
    if array.dtype.kind != "f":
        hint = "; if they lie in 0..255, save them by .astype(numpy.uint8)" if array.dtype.kind in "iu" else ""
        raise DataError(f"{path} holds pixels of the dtype {array.dtype}; uint8 or floating is required{hint}.")
    low, high = float(array.min()), float(array.max())  # a NaN is in both
    if low >= 0 and high <= 1:
        return (2 * array - 1).astype(np.float32), "2 * pixels - 1"
    if low >= -1 and high <= 1:
        return array.astype(np.float32), "none"
    raise DataError(
        f"{path} holds pixels from {low:.4g} to {high:.4g}; floating ones must lie in [0, 1] or [-1, 1]. Rescale them, "
        "as by pixels / 127.5 - 1 from 0..255, or clip them to [-1, 1] if few lie outside."
    )
