"""Domains by name, or from the file of a picture or a mesh: what the shell takes."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from diffmath._arguments import number_array
from diffmath._files import as_path
from diffmath.domains.mask import Mask
from diffmath.domains.mesh import Mesh
from diffmath.domains.operator import Operator

__all__ = ["DOMAINS", "find_domain", "upright"]

DOMAINS: dict[str, Callable[..., Mesh]] = {
    "disc": Mesh.disc,
    "ellipse": Mesh.ellipse,
    "annulus": Mesh.annulus,
    "l-shape": Mesh.l_shape,
    "ball": Mesh.ball,
    "sphere": Mesh.sphere,
}
"""The meshes by name."""


def find_domain(
    domain: str | os.PathLike[str], *, refinement: int | None = None, n_modes: int | None = None
) -> Operator:
    """The domain of a name, the bright pixels of a picture, or a mesh from a file.

    Parameters
    ----------
    domain : str or path
        A name in `DOMAINS`; a .png, whose pixels brighter than half are a `Mask`, y upwards; or any file of meshio's.
    refinement : int, optional
        How often the mesh of a named domain is divided, see `Mesh.disc`.
    n_modes : int, optional
        The same as for `Operator`.

    Examples
    --------
    >>> find_domain("disc", refinement=1, n_modes=5).shape
    (61,)
    """
    path = as_path(domain, "domain")
    if str(domain) in DOMAINS:
        return DOMAINS[str(domain)](n_modes=n_modes, **({} if refinement is None else {"refinement": refinement}))
    if refinement is not None:
        raise ValueError(
            f"refinement must be that of a domain by name, {', '.join(DOMAINS)}; the domain is {str(domain)!r}"
        )
    if not path.is_file():
        known = ", ".join(DOMAINS)
        raise ValueError(
            f"domain must be {known}, or the file of a picture or a mesh; there is no file {str(domain)!r}"
        )
    if path.suffix.lower() == ".png":
        from matplotlib.image import imread

        pixels = np.asarray(imread(path), dtype=np.float64)
        return Mask(upright(pixels[..., :3].mean(axis=-1) if pixels.ndim == 3 else pixels) > 0.5, n_modes=n_modes)
    return Mesh.read(path, n_modes=n_modes)


def upright(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The rows of a picture, from its top down, as an array over x and y, y upwards.

    Examples
    --------
    >>> upright(np.array([[1, 2], [3, 4]])).tolist()
    [[3, 1], [4, 2]]
    """
    array = number_array(rows, "rows", "fiub")
    if array.ndim != 2:
        raise ValueError(f"rows must be a picture of two dimensions; their shape is {array.shape}")
    return array[::-1].T
