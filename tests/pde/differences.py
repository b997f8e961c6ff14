"""Boxes, norms and steps that the tests of finite differences share."""

import math

import numpy as np

from diffmath.domains import Box
from diffmath.pde import stepping
from diffmath.pde.norms import as_norm
from diffmath.pde.schemes import SCHEMES

BOX = Box(shape=(16,))


LONG = Box(shape=(6, 5), lengths=(1.0, 1.7))


LINEAR = list(SCHEMES)


MONOTONE = ["backward-euler", "pade02"]


BOUNDED = ["euler", "rk4", "crank-nicolson"]


QUADRATIC = {"value": 0, "gradient": 1, "laplacian": 2}


def discrete_norm(box, u, preserve="gradient"):
    return as_norm(preserve).value(box.discrete, u)


def discrete_multiplier(box, u, preserve="gradient"):
    if np.ptp(u) == 0:
        return 0.0
    scaled = np.ldexp(u, -np.frexp(np.abs(u).max())[1])
    return as_norm(preserve).multiplier(box.discrete, box.discrete.to_modes(scaled))


def integrate(domain, u_0, times, **options):
    """The states and the info of a run; by steps of pade02 unless stated otherwise."""
    run = stepping.integrate(domain, u_0, times, **{"integrator": "pade02"} | options)
    return run.states, run.info


def largest_slope(u):
    """A functional of one's own: homogeneous, and neither quadratic nor smooth."""
    return float(abs(np.diff(u, axis=0)).max())


def noise(box, seed=0):
    return np.random.default_rng(seed).standard_normal(box.shape)


def grid(c, box=BOX):
    """The grid function with amplitudes c_1, c_2, ... in 1-D."""
    modes = np.zeros(box.shape)
    modes[1 : len(c) + 1] = c
    return box.to_grid(modes)


SMOOTH = grid([0.4, 0.7, -0.2])


def renormalized(box, c, eigenvalues, t, s=1):
    """The heat flow of the modes c for a time t, rescaled to its first sum of m^s c^2, on the grid."""
    c = c.copy()
    c.flat[0] = 0
    with np.errstate(divide="ignore"):
        log_size = np.log(abs(c)) - eigenvalues * t  # log 0 = -inf: an absent mode stays absent
    b = np.copysign(np.exp(log_size - log_size.max()), c)
    b.flat[0] = 0
    weight = np.where(eigenvalues > 0, eigenvalues, 1) ** s
    return box.to_grid(b * math.sqrt((weight * c**2).sum() / (weight * b**2).sum()))


def semidiscrete(box, u_0, times, s=1):
    """The exact solution of u' = L u + lambda u at some times."""
    return np.array([renormalized(box, box.to_modes(u_0), box.discrete_eigenvalues, t, s) for t in times])


def distance(u, v):
    """The relative L2 distance, the largest of all times."""
    axes = tuple(range(1, u.ndim))
    return np.sqrt(((u - v) ** 2).sum(axis=axes) / (v**2).sum(axis=axes)).max()


def shape_of(u, box=BOX):
    """The share of each mode in the squares."""
    b = box.to_modes(u) ** 2
    return b / b.sum()


SMALL = Box(shape=(8,))


def symmetric_start(box):
    """Modes 2 and N - 2 of a box, and none else: the lowest mode is absent."""
    c = np.zeros(box.shape)
    c[2], c[box.shape[0] - 2] = 1.0, 0.1
    return box.to_grid(c)
