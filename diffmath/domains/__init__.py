"""Domains of the heat flow: each is an eigenbasis of its Laplacian."""

from diffmath.domains.box import Box
from diffmath.domains.eigenbasis import Eigenbasis

__all__ = ["Box", "Eigenbasis"]
