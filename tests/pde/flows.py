"""The flow on the paper's interval, grid functions of given modes, and exact values."""

import mpmath as mp
import numpy as np

from diffmath.pde import Box, RenormalizedFlow

BOX = Box(shape=(64,))


FLOW = RenormalizedFlow(BOX)


TIMES = [0.0, 1e-5, 1e-3, 0.02, 0.3, 2.0, 50.0]


def grid(c, box=BOX):
    """The grid function with amplitudes c_1, c_2, ... in 1-D."""
    modes = np.zeros(box.shape)
    modes[1 : len(c) + 1] = c
    return box.to_grid(modes)


def exact(c, t, x):
    """u(x, t), lambda(t) and p_k(t) on [0, 1] to 60 digits: the heat flow, then one scaling."""
    with mp.workdps(60):
        c = [mp.mpf(float(a)) for a in c]
        mu = [(k * mp.pi) ** 2 for k in range(1, len(c) + 1)]
        v = [a * mp.exp(-m * mp.mpf(t)) for a, m in zip(c, mu, strict=True)]
        energy = [m * b**2 for m, b in zip(mu, v, strict=True)]
        scale = mp.sqrt(mp.fsum(m * a**2 for a, m in zip(c, mu, strict=True)) / mp.fsum(energy))
        u = [
            scale * mp.sqrt(2) * mp.fsum(b * mp.cos(k * mp.pi * mp.mpf(float(y))) for k, b in enumerate(v, start=1))
            for y in x
        ]
        p = [e / mp.fsum(energy) for e in energy]
        return [float(a) for a in u], float(mp.fsum(m * q for m, q in zip(mu, p, strict=True))), [float(q) for q in p]


FUNCTIONALS = ["gradient", "value", "laplacian", "total_variation", lambda u: float(np.abs(u).max())]
