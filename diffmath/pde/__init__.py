"""The paper's gradient-norm-preserving heat flow (section 7): domains, and the exact solution of eq. (22)."""

from diffmath.pde.domain import Box
from diffmath.pde.flow import RenormalizedFlow

__all__ = ["Box", "RenormalizedFlow"]
