"""Writing files so that no reader ever sees half of one, and knowing beforehand whether they can be written."""

from __future__ import annotations

import glob
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "as_path",
    "held",
    "replacing",
    "require_writable",
    "save_figure",
    "sweep",
    "write_json",
]


def as_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """A path with ``~`` expanded."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path; it is {path!r}")
    return Path(path).expanduser()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well, removed when it does not.

    The data are on the disk before the name is: a power cut leaves the old file or the new one. A symbolic link stays,
    and the file that it leads to is replaced. The permissions of a replaced file are kept. Devices, named pipes and the
    like are opened and written to. A file without write permission is refused, to root as well.
    """
    path = as_path(path)
    target = _target(path)
    if target is None:
        with tempfile.TemporaryDirectory() as directory:
            temporary = Path(directory) / path.name
            yield temporary
            with open(temporary, "rb") as source, os.fdopen(os.open(path, os.O_WRONLY), "wb") as sink:
                shutil.copyfileobj(source, sink)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_prefix(target), dir=target.parent) as directory:
        temporary = Path(directory) / path.name
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _keep_mode(target, temporary)
        os.replace(temporary, target)


def _target(path: Path) -> Path | None:
    """The regular file that a path leads to, whether it exists or not; None for a device, a pipe or the like."""
    try:
        mode = path.stat().st_mode  # of what a link leads to
    except FileNotFoundError:
        return Path(os.path.realpath(path))  # a new file, or the missing target of a link
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} cannot be written: it is a directory")
    if stat.S_ISSOCK(mode):
        raise OSError(f"{path} cannot be written: it is a socket")
    if not mode & 0o222:
        raise PermissionError(f"{path} cannot be written: it is read-only")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path} cannot be written: Permission denied")
    return Path(os.path.realpath(path)) if stat.S_ISREG(mode) else None


def _keep_mode(old: Path, new: Path) -> None:
    """Give a new file the owner and the permissions of the old one, or without one those that the umask leaves."""
    try:
        state = old.stat()
    except FileNotFoundError:
        fresh = new.parent / ".fresh"
        fresh.touch()  # the writer may have chosen stricter permissions, as for temporary files
        os.chmod(new, stat.S_IMODE(fresh.stat().st_mode))
        return
    with suppress(OSError):  # only root may give files away
        os.chown(new, state.st_uid, state.st_gid)
    os.chmod(new, stat.S_IMODE(state.st_mode))


def _prefix(path: Path) -> str:
    """How the temporary directories of a file's writers begin; names have at most 255 bytes."""
    return f".{path.name[:60]}."


def require_writable(path: str | os.PathLike[str]) -> Path:
    """The path, expanded, once it is known that a file can be written there. Nothing is created.

    Raises
    ------
    OSError
        If the path is a directory, a read-only file or a loop of links, or its directory cannot be made or written.
    """
    path = as_path(path)
    if not path.name:
        raise IsADirectoryError(f"{path} cannot be written: it is a directory")
    target = _target(path)
    if target is not None:
        _require_room(target.parent, path)
    return path


def _require_room(directory: Path, path: Path) -> None:
    """OSError unless files can be written in a directory, which may have to be made."""
    while not os.path.lexists(directory):
        directory = directory.parent
    if not directory.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {directory} is not a directory")
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror}") from None


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
    path = as_path(path)
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
    path = Path(os.path.realpath(as_path(path)))
    for left in path.parent.glob(f"{glob.escape(_prefix(path))}*"):
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
    directory = as_path(directory, "directory")
    if directory.is_file():
        raise NotADirectoryError(f"{directory} must be a directory; it is a file")
    Path(os.path.realpath(directory)).mkdir(parents=True, exist_ok=True)  # also where a link leads to nothing yet
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT)  # NFS locks only what is written
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
