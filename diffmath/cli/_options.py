"""What several commands share: kinds of options, and checks of them before any work."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import typer

__all__ = [
    "GUIDANCE",
    "GUIDANCE_INTERVAL",
    "SAMPLER",
    "Guidance",
    "Start",
    "blamed_on",
    "by_option",
    "guidance_of",
    "is_first",
    "option_in",
    "require_distinct",
    "require_output",
    "require_unset",
    "start_of",
]

PICTURES = (".png", ".pdf")
FILMS = {".gif": "pillow", ".mp4": "ffmpeg"}


OPTION_OF = {"times": "time", "lengths": "length", "mean": "keep_mean"}
"""The options that have another name than the argument of the API."""


def by_option(command: Callable[..., None]) -> Callable[..., None]:
    """The command, in which the API's refusal of an argument becomes an error of the option of its name."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        try:
            command(**options)
        except (ValueError, TypeError) as error:
            if (option := option_in(error, options)) is None:
                raise
            raise typer.BadParameter(str(error), param_hint=option) from None

    return run


def option_in(error: Exception, options: Any) -> str | None:
    """The option whose name, or that of its argument in the API, begins a message."""
    first = re.match(r"(?:the )?(\w+)", str(error))
    name = first and OPTION_OF.get(first[1], first[1])
    return f"--{name.replace('_', '-')}" if name and name in options else None


@contextmanager
def blamed_on(option: str | None) -> Iterator[None]:
    """A block in which a file that cannot be read is the fault of an option, if one was given."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if option is None:
            raise
        raise typer.BadParameter(str(error), param_hint=option) from None


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
GUIDANCE = typer.Option(
    min=0,
    help="Weight that pushes the predictions away from those of a Gaussian with MNIST's mean and covariance, "
    "0.4 say. It changes the law of the samples; none unless given.",
)
GUIDANCE_INTERVAL = typer.Option(min=1, help="With --guidance: its first and last time, T/5 and 4T/5 unless given.")


def is_first() -> bool:
    """Whether this is the process that writes files and messages."""
    from diffmath.ddpm._processes import launched

    return launched()[0] == 0


def start_of(start: Start, trained: Any, n_samples: int, generator: Any) -> Any:
    """x_T, or None for that of Algorithm 2."""
    from diffmath.ddpm import matched_start

    if start is Start.noise:
        return None
    mean, covariance = _moments_for(trained, "--start", "take --start noise")
    return matched_start(trained.schedule, n_samples, mean, covariance=covariance, generator=generator)


class Guidance(NamedTuple):
    """A network to sample, guided or not, and how it is guided."""

    model: Any
    record: dict[str, Any]


def guidance_of(trained: Any, weight: float | None, interval: tuple[int, int] | None) -> Guidance:
    """The network of a checkpoint with the guidance that was asked for."""
    from diffmath.ddpm import gaussian_denoiser, guided

    if weight is None:
        if interval is not None:
            raise typer.BadParameter(
                "it is the interval of --guidance, which is missing", param_hint="--guidance-interval"
            )
        return Guidance(trained.model, {})
    n = trained.schedule.n_steps
    first, last = interval or (max(1, round(n / 5)), max(1, round(4 * n / 5)))
    if not first <= last <= n:
        raise typer.BadParameter(
            f"it must be two times in 1..{n} in increasing order; it is {first} {last}",
            param_hint="--guidance-interval",
        )
    mean, covariance = _moments_for(trained, "--guidance", "sample without it")
    reference = gaussian_denoiser(trained.schedule, mean, covariance=covariance)
    record = {"guidance": weight, "guidance interval": [first, last]}
    return Guidance(guided(trained.model, reference, weight, (first, last)), record)


def _moments_for(trained: Any, option: str, remedy: str) -> tuple[Any, Any]:
    """MNIST's mean and covariance, if the network's images are MNIST's.

    They are those of the 5,000 training images that need no download, whether or not all 60,000 are at hand, so that a
    command gives the same images everywhere.
    """
    from diffmath.data import load_mnist, to_tensor
    from diffmath.ddpm import moments

    shape = getattr(trained.model, "image_shape", (1, 32, 32))
    if tuple(shape) != (1, 32, 32):
        raise typer.BadParameter(
            f"it has the mean and covariance of MNIST's 1 x 32 x 32 pixels; the network's images are "
            f"{' x '.join(map(str, shape))}: {remedy}",
            param_hint=option,
        )
    return moments(to_tensor(load_mnist("sample").images))


def require_unset(context: typer.Context, why: str, *names: str) -> None:
    """That options which would have no effect were not given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(why, param_hint=f"--{name.replace('_', '-')}")


def require_distinct(outputs: dict[str, Path | None], inputs: Mapping[str, str | Path | None]) -> None:
    """That no output, by the names of their options, is the file of another or of an input, which it would replace.

    Inputs without an ending are names of something else, such as "noise".
    """
    from diffmath._files import as_path

    files = {name: as_path(path) for name, path in inputs.items() if path is not None}
    options = {path.resolve(): name for name, path in files.items() if path.suffix}
    for option, path in outputs.items():
        if path is None or ((real := as_path(path).resolve()).exists() and not real.is_file()):
            continue
        if real in options:
            raise typer.BadParameter(f"it is the file of {options[real]} too: {path}", param_hint=option)
        options[real] = option


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
        The number of channels of the images: pictures show one or three.
    dimension : int, optional
        The number of dimensions of a flow's domain: pictures and films show one or two.

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
