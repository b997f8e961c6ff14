"""What several commands share: kinds of options, and checks of them before any work."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

__all__ = ["SAMPLER", "Start", "is_first", "require_output", "require_unset", "start_of"]

PICTURES = (".png", ".pdf")
FILMS = {".gif": "pillow", ".mp4": "ffmpeg"}


class Start(StrEnum):
    """The laws of x_T."""

    noise = "noise"
    matched = "matched"


def known_sampler(name: str) -> str:
    """The name, if there is such a sampler in the registry, which is read, with torch, only when a command runs."""
    from diffmath.ddpm.samplers import SAMPLERS

    if name not in SAMPLERS:
        raise typer.BadParameter(f"there is no sampler {name!r}; there are {', '.join(SAMPLERS)}")
    return name


SAMPLER = typer.Option(
    callback=known_sampler, help="The sampler: ancestral is Algorithm 2; a wrong name lists them all."
)


def is_first() -> bool:
    """Whether this is the process that writes files and messages."""
    from diffmath.ddpm._processes import launched

    return launched()[0] == 0


def start_of(start: Start, trained: Any, n_samples: int, generator: Any) -> Any:
    """x_T, or None for that of Algorithm 2. MNIST's law is that of the 5,000 images that need no network."""
    from diffmath.data import load_mnist, to_tensor
    from diffmath.ddpm import matched_start, moments

    if start is Start.noise:
        return None
    shape = getattr(trained.model, "image_shape", (1, 32, 32))
    if tuple(shape) != (1, 32, 32):
        raise typer.BadParameter(
            f"it has the mean and covariance of MNIST's 1 x 32 x 32 pixels; the network's images are "
            f"{' x '.join(map(str, shape))}: take --start noise",
            param_hint="--start",
        )
    mean, covariance = moments(to_tensor(load_mnist("sample").images))
    return matched_start(trained.schedule, n_samples, mean, covariance=covariance, generator=generator)


def require_unset(context: typer.Context, why: str, *names: str) -> None:
    """That options which would have no effect were not given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(why, param_hint=f"--{name.replace('_', '-')}")


def require_output(
    path: Path | None,
    option: str,
    kinds: tuple[str, ...] = (),
    *,
    channels: int | None = None,
    dimension: int | None = None,
) -> str:
    """Check an output before the work: that its file can be written, and is of a kind that can hold it.

    Parameters
    ----------
    path : pathlib.Path or None
        The file; nothing is checked without one.
    option : str
        The option that names it, for the error.
    kinds : tuple of str
        The endings it may have, in small letters; any unless given. A device without an ending is of the first kind.
    channels : int, optional
        Of the images: pictures show one or three.
    dimension : int, optional
        Of a flow's domain: pictures and films show one or two.

    Returns
    -------
    str
        The ending in small letters.
    """
    from diffmath._files import require_writable

    if path is None:
        return ""
    try:
        path = require_writable(path)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    kind = path.suffix.lower()
    if kinds and not kind and path.exists() and not path.is_file():
        kind = kinds[0]
    if kinds and kind not in kinds:
        endings = " or ".join((", ".join(kinds[:-1]), kinds[-1]) if len(kinds) > 1 else kinds)
        raise typer.BadParameter(f"the ending must be {endings}; it is {path.suffix!r}", param_hint=option)
    if kind in PICTURES and channels not in (None, 1, 3):
        raise typer.BadParameter(f"pictures show 1 or 3 channels; the images have {channels}", param_hint=option)
    if kind in (*PICTURES, *FILMS) and dimension not in (None, 1, 2):
        raise typer.BadParameter(f"pictures show 1 or 2 dimensions; the domain has {dimension}", param_hint=option)
    if kind in FILMS:
        from matplotlib import animation

        if not animation.writers.is_available(FILMS[kind]):
            need = f"a {kind} film needs {FILMS[kind]}, which is not installed; try a .gif"
            raise typer.BadParameter(need, param_hint=option)
    return kind
