"""diffmath: the mathematics of diffusion models, and a renormalised heat flow, as software.

A companion to C. F. Higham, D. J. Higham and P. Grindrod, *Diffusion Models for Generative Artificial
Intelligence: An Introduction for Applied Mathematicians*, SIAM Review 67(3), 2025. Equation numbers in the
documentation are the paper's.

``import diffmath`` is light: it imports each subpackage below on its first use, so neither torch nor
matplotlib is loaded before it is needed.

``diffmath.schedule``  the forward process and its Gaussian algebra, eqs. (2)-(9), (15)-(19)
``diffmath.gaussian``  Gaussians by general rules, eqs. (1), (10)-(14)
``diffmath.data``      MNIST, and images of one's own
``diffmath.ddpm``      the denoising diffusion model, Algorithms 1 and 2 (loads torch)
``diffmath.heat``      the generative model whose forward process is the renormalised heat flow
``diffmath.domains``   boxes, and the eigenfunctions of the Laplacian on them
``diffmath.pde``       the gradient-norm-preserving heat flow, eqs. (20)-(23)
``diffmath.toy``       points in the plane to train on: moons, rings, mixtures
``diffmath.verification``  every equation checked by other means

What most programs begin with is here too, and loaded as late: ``diffmath.VarianceSchedule``, ``diffmath.sample``,
``diffmath.UNet``, ``diffmath.train``, ``diffmath.load_checkpoint``, ``diffmath.Box``, ``diffmath.RenormalizedFlow`` and
some more, see ``dir(diffmath)``.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffmath.data import load_images, load_mnist, to_tensor
    from diffmath.ddpm import UNet, load_checkpoint, sample, save_checkpoint, train
    from diffmath.domains import Box
    from diffmath.gaussian import Gaussian
    from diffmath.pde import RenormalizedFlow
    from diffmath.schedule import VarianceSchedule

__version__ = "0.1.0"
__all__ = [
    "Box",
    "Gaussian",
    "RenormalizedFlow",
    "UNet",
    "VarianceSchedule",
    "__version__",
    "data",
    "ddpm",
    "domains",
    "gaussian",
    "heat",
    "load_checkpoint",
    "load_images",
    "load_mnist",
    "pde",
    "sample",
    "save_checkpoint",
    "schedule",
    "to_tensor",
    "toy",
    "train",
    "verification",
]

# Threads that wait give the processor away. Spinning instead, the default of OpenMP libraries, makes small networks
# several times slower as soon as anything else runs. The libraries read it when torch is loaded, so it has no effect
# after that; whoever sets OMP_WAIT_POLICY beforehand decides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "data": ("load_images", "load_mnist", "to_tensor"),
    "ddpm": ("UNet", "load_checkpoint", "sample", "save_checkpoint", "train"),
    "domains": ("Box",),
    "gaussian": ("Gaussian",),
    "heat": (),
    "pde": ("RenormalizedFlow",),
    "schedule": ("VarianceSchedule",),
    "toy": (),
    "verification": (),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name == home or name in names:
            module = importlib.import_module(f"{__name__}.{home}")
            return module if name == home else getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
