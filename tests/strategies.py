"""What the tests draw: schedules, jumps between their times, images, covariances, boxes, initial conditions, times."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffmath.pde import Box
from diffmath.process import ForwardProcess
from diffmath.schedule import VarianceSchedule

MAX_STEPS = 200
LONG = VarianceSchedule.linear(4000, 1e-5, 2.5e-3)  # the paper's range of times, eight times as fine


@st.composite
def schedules(draw, max_steps=MAX_STEPS):
    """Linear, cosine and adversarial schedules: tiny betas, betas near 1, equal ones, T = 1, T = 4000."""
    kind = draw(st.sampled_from(["linear", "cosine", "equal", "any", "long"]))
    n_steps = draw(st.integers(1, max_steps))
    if kind == "long" and max_steps >= MAX_STEPS:
        return LONG
    if kind in ("linear", "long"):
        low = draw(st.floats(1e-8, 0.05))
        return VarianceSchedule.linear(n_steps, low, draw(st.floats(low, 0.3)))
    if kind == "cosine":
        return VarianceSchedule.cosine(n_steps)
    one_beta = st.one_of(st.floats(1e-12, 0.9), st.floats(1e-300, 1e-12), st.floats(0.9, 1 - 1e-9))
    if kind == "equal":
        beta = draw(one_beta)
        return VarianceSchedule([beta] * (n_steps if beta < 0.9 else min(n_steps, 9)))
    n_steps = min(n_steps, 9)
    return VarianceSchedule(draw(st.lists(one_beta, min_size=n_steps, max_size=n_steps)))


@st.composite
def jumps(draw, n_times=2, max_steps=MAX_STEPS):
    """A schedule and increasing times of it, the first from 0: (schedule, [s, ..., t])."""
    schedule = draw(schedules(max_steps).filter(lambda s: s.n_steps >= n_times - 1))
    times = draw(st.lists(st.integers(0, schedule.n_steps), min_size=n_times, max_size=n_times, unique=True))
    return schedule, sorted(times)


@st.composite
def walks(draw, max_steps=MAX_STEPS):
    """A schedule and a sub-sequence of its times of any length, from 0: (schedule, [0, ..., t])."""
    schedule = draw(schedules(max_steps))
    if draw(st.booleans()):
        return schedule, [int(t) for t in schedule.subsequence(draw(st.integers(1, min(schedule.n_steps, max_steps))))]
    times = draw(st.lists(st.integers(1, schedule.n_steps), min_size=1, max_size=20, unique=True))
    return schedule, [0, *sorted(times)]


@st.composite
def images(draw, count=1, n=3):
    """A few batches of n small images, all of one shape, which may be any: float64, of size at most 4."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3))
    batch = hnp.arrays(np.float64, (n, *shape), elements=st.floats(-4, 4, allow_subnormal=False))
    return [draw(batch) for _ in range(count)]


@st.composite
def covariances(draw, d):
    """Eigenvalues, of which some may be zero, and orthonormal eigenvectors as columns, turned anyhow."""
    s = draw(hnp.arrays(np.float64, d, elements=st.one_of(st.just(0.0), st.floats(1e-3, 4))))
    return s, np.linalg.qr(draw(hnp.arrays(np.float64, (d, d), elements=st.floats(-1, 1))))[0]


def boxes(max_ndim=3, max_cells=9, boundaries=("no-flux",)):
    """Boxes of one to several dimensions, from flat to long; with no flux unless other boundaries are named."""
    return st.integers(1, max_ndim).flatmap(
        lambda n: st.builds(
            Box,
            shape=st.tuples(*[st.integers(2, max_cells)] * n),
            lengths=st.tuples(*[st.floats(0.1, 10)] * n),
            boundary=st.tuples(*[st.sampled_from(boundaries)] * n),
            origin=st.tuples(*[st.floats(-3, 3) if len(boundaries) > 1 else st.just(0.0)] * n),
        )
    )


@st.composite
def wide_spectra(draw, n, decades=200):
    """Amplitudes of the modes 0..n - 1, that of the mean zero: some absent, of a dynamic range of many decades."""
    scales = draw(hnp.arrays(np.float64, n - 1, elements=st.floats(-decades, 0)))
    signs = draw(hnp.arrays(np.float64, n - 1, elements=st.sampled_from([-1.0, 0.0, 0.0, 1.0])))
    c = np.concatenate([[0.0], signs * 10.0**scales])
    c[draw(st.integers(1, n - 1))] = 1.0
    return c


@st.composite
def times_of_interest(draw, c, mu):
    """A time of any size up to 1e4, or one at which two modes of the heat flow are equally large."""
    present = np.flatnonzero(c)
    if len(present) > 1 and draw(st.booleans()):
        i, j = draw(st.lists(st.sampled_from(list(present)), min_size=2, max_size=2, unique=True))
        if mu.flat[i] != mu.flat[j]:
            return float(np.log(abs(c.flat[i] / c.flat[j])) / (mu.flat[i] - mu.flat[j]))
    return draw(st.sampled_from([-1.0, 1.0])) * 10.0 ** draw(st.floats(-6, 4))


@st.composite
def spectra(draw, max_modes=24):
    """Mode amplitudes c_1, c_2, ... of an initial condition: smooth, rough or sparse, of a large dynamic range.

    The lowest mode that is present is not small: from grid values, a mode smaller than the rounding of the others is
    lost.
    """
    n = draw(st.integers(1, max_modes))
    exponents = draw(hnp.arrays(np.float64, n, elements=st.floats(-10, 0)))
    signs = draw(hnp.arrays(np.float64, n, elements=st.sampled_from([-1.0, 0.0, 1.0])))
    c = signs * 10.0**exponents
    c[0] = draw(st.floats(0.1, 1.0))
    return c


class Modes(ForwardProcess):
    """A process whose modes have schedules of their own, of one T, and noise of their own size."""

    def __init__(self, schedules, sizes):
        self.schedules, self.sizes = tuple(schedules), np.asarray(sizes)
        self.n_steps, self.modes = schedules[0].n_steps, (len(schedules),)
        self._freeze()

    def _transition(self, t, s):
        alpha, variance = (
            np.stack(c, axis=-1) for c in zip(*(p._transition(t, s) for p in self.schedules), strict=True)
        )
        return alpha, self.sizes**2 * variance


@st.composite
def mode_processes(draw, n_modes=3):
    """Processes with modes, which need not have unit variance: (process, increasing times [0, ..., t])."""
    T = draw(st.integers(2, 40))
    betas = st.lists(st.floats(1e-6, 0.9), min_size=T, max_size=T)
    sizes = draw(st.lists(st.floats(0.1, 10), min_size=n_modes, max_size=n_modes))
    process = Modes([VarianceSchedule(draw(betas)) for _ in range(n_modes)], sizes)
    times = draw(st.lists(st.integers(1, T), min_size=2, max_size=5, unique=True))
    return process, [0, *sorted(times)]
