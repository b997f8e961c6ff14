"""``python -m paper_figures``: regenerate the paper's figures as PNG and PDF."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import time
from itertools import product
from pathlib import Path
from typing import Annotated, Optional

import typer

# Threads that wait give the processor away; see diffmath.__main__. Before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import paper_figures
from diffmath._files import require_writable, save_figure
from paper_figures.run import Profile, Run
from paper_figures.slides import FILMS, page, save_film

FIGURES = sorted(
    int(module.name.removeprefix("figure"))
    for module in pkgutil.iter_modules(paper_figures.__path__)
    if module.name.startswith("figure")
)
"""The numbers of the figures: 1 to 7 are the paper's, and later ones are beyond it."""


def main(
    figures: Annotated[
        Optional[list[int]],
        typer.Argument(
            min=1,
            max=FIGURES[-1],
            metavar=f"[1-{FIGURES[-1]}]...",
            help="Which ones; the paper's unless given.",
        ),
    ] = None,
    profile: Annotated[
        Profile,
        typer.Option(
            help='"paper": all T steps from N(0, I); "auto": for Figure 4 on a CPU 20, from the matched start.'
        ),
    ] = Profile.auto,
    device: Annotated[Optional[str], typer.Option(help="cuda, mps or cpu; the best there is unless given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pictures.")] = 0,
    out: Annotated[Path, typer.Option(help="Directory of the pictures.")] = Path("paper_figures/output"),
    checkpoint: Annotated[
        Optional[str],
        typer.Option(
            help='A trained network: a file, or the name of a shipped one; "compact" on a CPU and "paper" on a GPU '
            "unless given."
        ),
    ] = None,
    slides: Annotated[
        bool,
        typer.Option(
            "--slides",
            help="Write 16:9 pages with large type, slide1.png and so on, and films: of a digit with Figure 2, of the "
            "flow with Figure 7. GIF, and MP4 where ffmpeg is.",
        ),
    ] = False,
) -> None:
    """Regenerate figures of Higham, Higham and Grindrod (SIAM Review, 2025) from real MNIST, and some beyond them."""
    numbers = sorted(set(figures or range(1, 8)))
    if missing := set(numbers) - set(FIGURES):
        raise typer.BadParameter(f"there is no figure {min(missing)}; there are {FIGURES}", param_hint="figures")
    name = "slide" if slides else "figure"
    for number, ending in product(numbers, ("png", "pdf")):
        require_writable(out / f"{name}{number}.{ending}")
    for number in numbers:
        start = time.perf_counter()
        run = Run(number, profile, device, seed, checkpoint)
        module = importlib.import_module(f"paper_figures.figure{number}")
        data = module.compute(run)
        picture = page(number, data) if slides else module.draw(data)
        path = save_figure(picture, out / f"{name}{number}", dpi=144 if slides else 150)
        typer.echo(f"{name} {number}: {time.perf_counter() - start:6.1f} s | {run.note} | {path}")
        if slides and number in FILMS:
            start = time.perf_counter()
            subject, film_of = FILMS[number]
            run = Run(number, profile, device, seed, checkpoint)
            paths = save_film(film_of(run), out / f"film_{subject}")
            remark = "" if len(paths) == 2 else " | no MP4: ffmpeg is not installed"
            seconds, files = time.perf_counter() - start, ", ".join(map(str, paths))
            typer.echo(f"film of the {subject}: {seconds:6.1f} s | {files}{remark}")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    try:
        app(prog_name="python -m paper_figures")
    except (ValueError, TypeError, OSError, RuntimeError) as error:  # a wrong checkpoint, a full disk
        sys.exit(f"error: {error}")
