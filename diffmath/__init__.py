"""diffmath: the mathematics of diffusion models, and a renormalised heat flow, as software.

A companion to C. F. Higham, D. J. Higham and P. Grindrod, *Diffusion Models for Generative Artificial
Intelligence: An Introduction for Applied Mathematicians*, SIAM Review 67(3), 2025. Equation numbers in the
documentation are the paper's.

``import diffmath`` is light: the rooms below are opened when they are first used, so neither torch nor
matplotlib is loaded before it is needed.

``diffmath.schedule``  the forward process and its Gaussian algebra, eqs. (2)-(9), (15)-(19)
``diffmath.gaussian``  Gaussians by general rules, eqs. (1), (10)-(14)
``diffmath.data``      MNIST
``diffmath.ddpm``      the denoising diffusion model, Algorithms 1 and 2 (loads torch)
``diffmath.domains``   boxes, and the eigenfunctions of the Laplacian on them
``diffmath.pde``       the gradient-norm-preserving heat flow, eqs. (20)-(23)
``diffmath.toy``       points in the plane to train on: moons, rings, mixtures
``diffmath.verification``  every equation checked by other means
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

__version__ = "0.1.0"

# Threads that wait give the processor away. Spinning instead, the default of OpenMP libraries, makes small networks
# several times slower as soon as anything else runs. The libraries read it when torch is loaded, so it has no effect
# after that; whoever sets OMP_WAIT_POLICY beforehand decides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_ROOMS = ("data", "ddpm", "domains", "gaussian", "pde", "schedule", "toy", "verification")
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
