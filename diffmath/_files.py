"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["held", "replacing", "save_figure", "sweep", "write_json"]


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


def write_json(path: str | os.PathLike[str], report: dict[str, Any]) -> None:
    """Write a report for people to read too: indented, accents as they are."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int, colours: int | None = None) -> Path:
    """Write PNG and PDF, without dates, so that the same picture is the same file; returns the PNG's path.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The picture.
    path : path-like
        Where, up to the suffix.
    dpi : int
        Dots per inch of the PNG.
    colours : int, optional
        Keep so many colours in the PNG, at most 256: a third of the bytes. All by default.
    """
    path = Path(path)
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        with replacing(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, dpi=dpi, metadata=metadata)
            if colours and suffix == ".png":
                from PIL import Image

                whole = Image.open(temporary).convert("RGB")
                whole.quantize(colours, dither=Image.Dither.NONE).save(temporary, optimize=True)
    return path.with_suffix(".png")


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
    NotADirectoryError
        If it is a file.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover (Windows has no such lock)
        yield
        return
    if Path(directory).is_file():
        raise NotADirectoryError(f"{directory} must be a directory; it is a file")
    Path(directory).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(Path(directory) / ".lock", os.O_RDWR | os.O_CREAT)  # NFS locks only what is written
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"another process works in {directory}: use another directory") from None
        except OSError:  # pragma: no cover (a file system without locks)
            pass
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also if a child that was forked has the descriptor too
        os.close(descriptor)
