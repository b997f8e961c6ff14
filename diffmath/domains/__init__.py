"""Domains of the heat flow: each is an eigenbasis of its Laplacian."""

from diffmath.domains.box import Box

__all__ = ["Box"]
