"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["held", "replacing", "sweep"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well, removed when it does not.

    The data are on the disk before the name is: a power cut leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        temporary = Path(directory) / path.name
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove what writers of `path` left that were killed. Nobody may be writing it."""
    path = Path(path)
    for left in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def held(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Keep a directory for one process at a time, until it ends, however it does.

    Raises
    ------
    FileExistsError
        If another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover (Windows has no such lock)
        yield
        return
    Path(directory).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"another process works in {directory}: use another directory") from None
        except OSError:  # pragma: no cover (a file system without locks)
            pass
        yield
    finally:
        os.close(descriptor)
