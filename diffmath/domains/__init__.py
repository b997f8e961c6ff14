"""Domains of the heat flow: each is an eigenbasis of its Laplacian.

A `Box` has sines and cosines. A `Mask` is a domain of pixels, such as a bitmap, a `Mesh` one of finite elements, plane,
solid or a surface, and an `Operator` one of a mass and a stiffness matrix of the user's own. Of these the lowest modes
are found, and the flow of an initial condition adds what lies beyond them.
"""

from diffmath.domains.box import Box
from diffmath.domains.eigenbasis import Eigenbasis
from diffmath.domains.mask import Mask
from diffmath.domains.mesh import Mesh
from diffmath.domains.operator import Operator

__all__ = ["Box", "Eigenbasis", "Mask", "Mesh", "Operator"]
