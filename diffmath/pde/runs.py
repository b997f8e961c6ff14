"""A run of the flow in time: its problem, its states, its record, and what is left of it when it is interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from diffmath.domains.eigenbasis import Eigenbasis, Floats
from diffmath.pde.norms import Norm
from diffmath.pde.schemes import SCHEMES

__all__ = ["Callback", "Interrupted", "Problem", "Record", "Run", "State", "column"]

THETA = 1 / 16
STEADY = 1e-12  # of m_1: the relative change per unit of time below which the lowest mode counts as reached

Callback = Callable[[float, Floats], Any]
"""Called with the time and the state, read-only, after each step; the run stops if it returns True."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted, as by Ctrl-C, and its finished states are kept.

    Attributes
    ----------
    run : Run
        The states at the output times that were reached, and the last state.
    dataset : xarray.Dataset or None
        The same as a Dataset, if the run was one of `RenormalizedFlow.solve`.

    Examples
    --------
    >>> def save(flow, u_0, times, path):
    ...     try:
    ...         ds = flow.solve(u_0, times, "finite-difference", integrator="pade02")
    ...     except Interrupted as interrupted:
    ...         ds = interrupted.dataset
    ...     ds.to_netcdf(path)
    """

    def __init__(self, run: Run) -> None:
        super().__init__(f"interrupted at t = {run.times.max(initial=0.0):g}")
        self.run = run
        self.dataset: Any = None


class Run(NamedTuple):
    """The result of `integrate`."""

    times: Floats
    """The times of the states, shape (n,)."""
    parts: Floats
    """The states without their components along the null modes, shape (..., n, ``*shape``)."""
    null: Floats
    """These components as amplitudes of the null modes, shape (..., n, number of null modes)."""
    states: Floats
    """The whole states, shape (..., n, ``*shape``); they are infinite where a component exceeds float64."""
    info: dict[str, Any]
    """How the run went, see `integrate`."""
    domain: Eigenbasis
    """The domain of the steps, with the modes that resolve the solution."""


class State(NamedTuple):
    """Solutions of one time, of size about 1, with a batch axis."""

    u: Floats
    """The grid functions, without their components along null modes."""
    c: Floats
    """The amplitudes of all modes, those of the null modes included."""


@dataclass
class Problem:
    """What the integrators share."""

    domain: Eigenbasis
    norm: Norm
    start: State
    moments: Floats
    """The output times, increasing."""
    info: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def size(self) -> Floats:
        """The norms that are preserved."""
        return self.norm.size(self.domain, self.start.c)

    @cached_property
    def null_functions(self) -> Floats:
        """The null modes as flattened grid functions, shape (number of null modes, number of points)."""
        amplitudes = np.zeros((len(self.domain.null_positions), self.domain.eigenvalues.size))
        amplitudes[range(len(amplitudes)), self.domain.null_positions] = 1.0
        functions = self.domain.to_values(amplitudes.reshape(-1, *self.domain.mode_shape))
        return functions.reshape(len(amplitudes), math.prod(self.domain.shape))

    def state(self, u: Floats, null: Floats) -> State:
        """The state of grid functions u, without the rounding along null modes, and amplitudes of the null modes."""
        c = self.domain.to_modes(u)
        flat = c.reshape(len(c), -1)
        u = u - (flat[:, self.domain.null_positions] @ self.null_functions).reshape(u.shape)
        flat[:, self.domain.null_positions] = null
        return State(u, c)

    def null(self, state: State) -> Floats:
        """The amplitudes of the null modes, shape (B, number of null modes)."""
        amplitudes: Floats = state.c.reshape(len(state.c), -1)[:, self.domain.null_positions]
        return amplitudes

    def values(self, parts: Floats, null: Floats) -> Floats:
        """Grid functions from their parts without null modes, and the amplitudes of these."""
        with np.errstate(over="ignore", invalid="ignore"):
            return parts + (null @ self.null_functions).reshape(parts.shape)

    def rescaled(self, state: State) -> State:
        """The state with the norms that are preserved."""
        factor = self.size / self.norm.size(self.domain, state.c)
        with np.errstate(over="ignore"):  # a mean that is kept; seen at the end
            return State(column(factor, state.u) * state.u, column(factor, state.c) * state.c)


class Record:
    """The states at the output times, and what happens after each step: progress, callback, steady states."""

    def __init__(
        self,
        problem: Problem,
        unscaled: Callable[[Floats], Floats],
        callback: Callback | None,
        progress: bool,
    ) -> None:
        self.problem, self.unscaled, self.callback, self.progress = problem, unscaled, callback, progress
        self.now, self.state = 0.0, problem.start
        self.earlier = self.now, self.state
        self.states: list[State] = []
        self.interrupted = False

    def follow(self, steps: Iterator[tuple[float, State]], steady_tolerance: float | None) -> None:
        """Take steps until the last output time, a steady state, the callback's word or Ctrl-C."""
        moments, info = self.problem.moments.tolist(), self.problem.info
        total = max([t for t in moments if math.isfinite(t)], default=0.0)
        layout = "{l_bar}{bar}| t = {n:.4g} of {total:.4g} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
        try:
            with tqdm(total=total, desc="flow", unit=" time", bar_format=layout, disable=not self.progress) as bar:
                for t, state in steps:
                    steady = self._is_steady(t, state, steady_tolerance)
                    if math.isfinite(t - self.now):
                        bar.update(t - self.now)
                    self.now, self.state = t, state
                    if len(self.states) < len(moments) and t == moments[len(self.states)]:
                        self.states.append(state)
                    if self.callback is not None and self._call(self.callback) and len(self.states) < len(moments):
                        info["stopped_at"] = t
                        break
                    if steady:
                        info["steady_from"] = t
                        self.states += [state] * (len(moments) - len(self.states))
                        break
        except KeyboardInterrupt:
            self.interrupted = True

    def run(self, times: Floats, places: npt.NDArray[np.intp]) -> Run:
        """What was reached: at the times as they were given, or if the run was stopped, in increasing order."""
        problem, states = self.problem, list(self.states)
        if len(states) < len(problem.moments):
            times = problem.moments[: len(states)]
            if not len(times) or self.now > times[-1]:
                times, states = np.append(times, self.now), [*states, self.state]
            places = np.arange(len(times))
        n, n_null = len(problem.start.u), len(problem.domain.null_positions)
        u = np.array([s.u for s in states]).reshape(len(states), n, *problem.domain.shape)
        amplitudes = np.array([problem.null(s) for s in states]).reshape(len(states), n, n_null)
        parts, null = (self.unscaled(array[places].swapaxes(0, 1)) for array in (u, amplitudes))
        return Run(times, parts, null, problem.values(parts, null), problem.info, problem.domain)

    def _is_steady(self, t: float, state: State, tolerance: float | None) -> bool:
        """Whether the change since an earlier state is below the tolerance; unless given, see `integrate`."""
        problem, c, m = self.problem, state.c, self.problem.domain.eigenvalues
        passed = t - self.earlier[0]
        if passed * problem.domain.lowest_eigenvalue < THETA or tolerance == 0 or problem.info["integrator"] == "exact":
            return False
        before, self.earlier = self.earlier[1].c, (t, state)
        if tolerance is None:
            if problem.info["integrator"] not in SCHEMES or problem.null(state).any():
                return False
            tolerance = STEADY * problem.domain.lowest_eigenvalue
            # An unstable steady state is not one where the flow ends: all but the lowest modes must be gone.
            others = np.abs(c[:, m > (1 + 1e-9) * problem.domain.lowest_eigenvalue])
            if others.max(initial=0.0) > math.sqrt(STEADY) * np.abs(c).max():
                return False
        with np.errstate(invalid="ignore"):
            change, size = (np.abs(x).reshape(len(c), -1).max(axis=1) for x in (c - before, c))
        return bool((change <= tolerance * passed * size).all())

    def _call(self, callback: Callback) -> bool:
        """Hand out the state, read-only, and return whether the callback wants to stop."""
        state = self.state
        u = self.unscaled(self.problem.values(state.u, self.problem.null(state)))
        u.setflags(write=False)
        answer = callback(self.now, u)
        return isinstance(answer, (bool, np.bool_)) and bool(answer)


def column(factors: npt.NDArray[Any], array: Floats) -> npt.NDArray[Any]:
    """One factor for each member of a batch, with further axes of length 1."""
    return factors.reshape(-1, *[1] * (array.ndim - 1))
