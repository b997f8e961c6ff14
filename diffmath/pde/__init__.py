"""The paper's gradient-norm-preserving heat flow (section 7): exact, by finite differences, and its stability."""

from diffmath.domains import Box
from diffmath.pde.flow import RenormalizedFlow

__all__ = ["Box", "RenormalizedFlow"]
