"""One HTML page from the sources of the lab, the shipped weights, and ten digits."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import numpy as np

from diffmath._files import replacing

__all__ = ["page", "write_page"]

HERE = Path(__file__).parent
IMPORT = re.compile(r'^import (\{[^}]*\}) from "(\.[^"]+)";\n', flags=re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:const|class|function\*?) (\w+))", flags=re.MULTILINE)


def write_page(path: str | os.PathLike[str]) -> None:
    """Write the `page` to a file.

    Parameters
    ----------
    path : path

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_page(f"{directory}/lab.html")
    """
    with replacing(path) as temporary:
        temporary.write_text(page(), encoding="utf-8")


def page() -> str:
    """The lab as one HTML page, of about 11 MB: it needs no other file, and no network.

    It has five parts: the program, the style, the network as WebAssembly, its checkpoint, and images: a digit of each
    class and the moments of MNIST. The files are embedded in base64.

    Examples
    --------
    >>> page().startswith("<!doctype html>")
    True
    """
    weights = HERE.parent / "ddpm" / "weights" / "compact.safetensors"
    data = {"kernel": (HERE / "unet.wasm").read_bytes(), "checkpoint": weights.read_bytes(), "images": _images()}
    blocks = [
        f'<script type="text/plain" id="{name}">{base64.b64encode(content).decode()}</script>'
        for name, content in data.items()
    ]
    parts = {"style": (HERE / "lab.css").read_text(), "data": "\n".join(blocks), "program": bundle(HERE / "lab.mjs")}
    html = (HERE / "lab.html").read_text(encoding="utf-8")
    for name, content in parts.items():
        before, after = html.split(f"<!-- {name} -->")
        html = before + content + after
    return html


def bundle(entry: Path) -> str:
    """A JavaScript module and all that it imports as one script, each module after those it needs.

    Each becomes a function that is called once and returns what the module exports, so every module keeps its names to
    itself. Imports have the form ``import { a, b } from "./c.mjs";``, and no two modules import each other.
    """
    folder, scripts = entry.resolve().parent, dict[Path, str]()

    def key(path: Path) -> str:
        return f'modules["{path.relative_to(folder).as_posix()}"]'

    def add(path: Path) -> None:
        if path in scripts:
            return
        text = path.read_text(encoding="utf-8")
        for _, needed in IMPORT.findall(text):
            add((path.parent / needed).resolve())
        body = IMPORT.sub(lambda found: f"const {found[1]} = {key((path.parent / found[2]).resolve())};\n", text)
        names = ", ".join(EXPORT.findall(body))
        scripts[path] = f"{key(path)} = (() => {{\n{EXPORT.sub(r'', body)}return {{ {names} }};\n}})();"

    add(entry.resolve())
    return "\n".join(['"use strict";', "const modules = {};", *scripts.values()])


def _images() -> bytes:
    """A digit of each class, and the moments of MNIST for the matched start and for guidance, as safetensors.

    The eigenvectors of the covariance are integers of 16 bits with a scale for each: rounded so, they change a guided
    sample by about 1e-5. Those whose variance is below 1e-6 of a pixel's range are left out.
    """
    from safetensors.numpy import save

    from diffmath.data import load_mnist, to_tensor
    from diffmath.ddpm import moments

    mnist = load_mnist("sample")
    images = to_tensor(mnist.images)
    first = [int(np.flatnonzero(mnist.labels == digit)[0]) for digit in range(10)]
    mean, covariance = moments(images)
    variances, axes = np.linalg.eigh(covariance.numpy())
    kept = variances > 1e-6
    axes = np.ascontiguousarray(axes[:, kept].T)
    scales = np.abs(axes).max(axis=1) / 32767
    return save(
        {
            "digits": images[first].numpy().reshape(10, -1),
            "mean": mean.numpy().ravel(),
            "variances": variances[kept],
            "axes": np.round(axes / scales[:, None]).astype(np.int16),
            "scales": scales,
        }
    )
