"""IDX files of unsigned bytes, the format of MNIST and of the data sets in its likeness."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diffmath._files import as_path

__all__ = ["DataError", "parse_idx", "read_content", "read_idx"]


class DataError(RuntimeError):
    """A data file that is missing, truncated, foreign or altered, or cannot be had; says which and what to do."""


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Parameters
    ----------
    path : path
        The file; gzip is recognised by its first bytes, not by its name.

    Returns
    -------
    numpy.ndarray, uint8
        An array of the shape that the header states.

    Raises
    ------
    DataError
        If the file is missing, truncated, longer than its header says, or no IDX file of unsigned bytes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]))  # the kind, one dimension, its length, the content
    ...     _ = file.seek(0)
    ...     read_idx(file.name)
    array([5, 6, 7], dtype=uint8)
    """
    return parse_idx(read_content(as_path(path)), as_path(path))


def parse_idx(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """The array in the uncompressed bytes of an IDX file."""
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


def read_content(path: Path) -> bytes:
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
