"""The paper's gradient-norm-preserving heat flow (section 7): exact, by finite differences, and its stability."""

from diffmath.domains import Box
from diffmath.pde.flow import RenormalizedFlow
from diffmath.pde.stepping import Interrupted

__all__ = ["Box", "Interrupted", "RenormalizedFlow"]
