"""What several commands share: kinds of options, and checks of them before any work."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

__all__ = ["Start", "is_first", "require_unset", "require_writable", "start_of"]


class Start(StrEnum):
    """The laws of x_T."""

    noise = "noise"
    matched = "matched"


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


def require_writable(path: Path | None, option: str) -> None:
    """That a file can be written is known now rather than after the work."""
    from tempfile import TemporaryFile

    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint=option) from None
