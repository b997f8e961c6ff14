r"""The renormalised heat flow (20)-(22).

The flow keeps :math:`C = \int |\nabla u|^2` by a multiplier that depends on time alone, so it is the heat flow *v*
of the same initial condition, rescaled: :math:`u(t) = \sqrt{C}\, v(t) / |\nabla v(t)|`. In the eigenfunctions, with
coefficients :math:`c_k` and shares :math:`p_k = \mu_k c_k^2 / C`,

.. math:: p_k(t) \propto p_k(0)\, e^{-2 \mu_k t}, \qquad \lambda(t) = \sum_k \mu_k\, p_k(t) ,

a softmax. The same holds on any domain and for any other norm that is preserved, see `diffmath.domains` and
`diffmath.pde.norms`: the solution is exact, at any time, by one scaling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from diffmath._arguments import require_instance, require_number
from diffmath.domains import Box, Eigenbasis  # noqa: F401  # Box is for the examples
from diffmath.domains.eigenbasis import Floats, Mode
from diffmath.pde.dataset import Mean, Solution, as_dtype, read_initial, read_times, require_mean, to_dataset
from diffmath.pde.norms import NORMS, Preserve, as_norm
from diffmath.pde.restart import box_of, continuation
from diffmath.pde.spectral import heat_modes
from diffmath.pde.stability import check_stability
from diffmath.pde.stepping import OPTIONS, Interrupted, Run, integrate
from diffmath.pde.truncated import exact

__all__ = ["RenormalizedFlow"]

Method = Literal["spectral", "finite-difference"]
TINY = float(np.finfo(np.float64).tiny)
LARGE = 1e50  # grid values beyond are scaled before they are transformed, amplitudes before they are squared


class RenormalizedFlow:
    r"""The heat flow that preserves a norm; by default equation (22).

    .. math:: u_t = \Delta u + \lambda(t)\, u, \qquad
              \lambda = \frac{1}{C} \int_\Omega (\Delta u)^2\, dx \;\text{ for }\; C = \int_\Omega |\nabla u|^2\, dx ,

    with the domain's boundary conditions.

    All methods raise a ValueError for values out of range, a TypeError for arguments of another kind, and an
    OverflowError if a result would not be a float64 number.

    Parameters
    ----------
    domain : Box or another Eigenbasis
    preserve : {"gradient", "value", "laplacian", "total_variation"}, Norm or callable
        What the flow preserves: :math:`\int |\nabla u|^2` ("gradient", the paper's eq. (21)), :math:`\int u^2`
        ("value"), :math:`\int (\Delta u)^2` ("laplacian"), :math:`\int |\nabla u|` ("total_variation"), or a
        function of a grid function, of the domain's shape, with :math:`N(a u) = |a| N(u)`; see
        `diffmath.pde.norms.UserNorm`.

    Examples
    --------
    >>> flow = RenormalizedFlow(Box(256))
    >>> flow.growth_rate(2, 1) == 3 * np.pi**2
    True
    """

    def __init__(self, domain: Eigenbasis, preserve: Preserve = "gradient") -> None:
        require_instance("domain", domain, Eigenbasis)
        self.domain: Any = domain  # an Eigenbasis; a Box has more, and whoever gave it may use that
        self.preserve = preserve
        self.norm = as_norm(preserve)

    @cached_property
    def coords(self) -> xr.Coordinates:
        """The coordinates of the domain, which solutions have."""
        return xr.Dataset(coords=self.domain.coords).coords

    def growth_rate(self, k: Mode, j: Mode) -> float:
        r"""Eq. (23): the rate :math:`\mu_k - \mu_j` of a perturbation by mode j of the steady state of mode k.

        It is negative for the higher modes j, positive for the lower ones, and the same whatever is preserved.

        Parameters
        ----------
        k, j : int, or tuple of int in several dimensions
            Mode numbers; :math:`\mu_k > 0`, as the constant is no steady state.

        Returns
        -------
        float
            Per unit of time.

        Examples
        --------
        >>> RenormalizedFlow(Box(64)).growth_rate(1, 2) == -3 * np.pi**2
        True
        """
        rate = -self.domain.gaps(self._steady_mode(k))[self.domain.mode(j)]
        return float(rate)

    def check_stability(self, k: Mode, n_modes: int | None = None, **options: Any) -> xr.Dataset:
        """Eq. (23) in theory, by eigenvalues, and as each solver measures it: `diffmath.pde.stability.check_stability`.

        Parameters
        ----------
        k, n_modes, **options
            The arguments of that function.

        Returns
        -------
        xarray.Dataset
            ``theory``, ``jacobian``, ``measured`` and ``verdict`` for each perturbing mode.

        Examples
        --------
        >>> RenormalizedFlow(Box(16)).check_stability(2, 4, solvers=["spectral"]).verdict.values.tolist()
        ['unstable', 'unstable', 'fixed by the constraint', 'stable']
        """
        return check_stability(self, k, n_modes, **options)

    def steady_state(self, k: Mode, C: float = 1.0) -> Floats:
        r"""The steady state along :math:`w_k` on the grid, whose multiplier is :math:`\mu_k`.

        It is :math:`\sqrt{C / \mu_k^s}\, w_k` for a norm of power s (s = 1: the paper's :math:`A_k w_k`, eq. (22)),
        else :math:`C / N(w_k)\, w_k`. Its negative is one too.

        Parameters
        ----------
        k : int, or tuple of int in several dimensions
            The mode number, not that of the constant.
        C : float
            The preserved quantity (see ``preserved`` in `solve`), positive.

        Returns
        -------
        numpy.ndarray, float64, the domain's shape

        Examples
        --------
        >>> u = RenormalizedFlow(Box(64)).steady_state(3)
        >>> bool(np.isclose(u[0], np.sqrt(2) * np.cos(1.5 * np.pi / 64) / (3 * np.pi)))
        True
        """
        c = np.zeros(self.domain.mode_shape)
        c[self._steady_mode(k)] = 1.0
        c *= self._size_of(C) / self.norm.size(self.domain, c)
        u: Floats = self.domain.to_values(c)
        return u

    def solve(
        self,
        u_0: npt.ArrayLike | xr.DataArray,
        times: npt.ArrayLike | Sequence[float],
        method: Method = "spectral",
        *,
        mean: Mean = "project",
        C: float | None = None,
        **options: Any,
    ) -> xr.Dataset:
        r"""Solve the flow, eqs. (20)-(22), from a grid function.

        Parameters
        ----------
        u_0 : array or xarray.DataArray of float, shape (..., N_1, ..., N_n), or callable
            Initial conditions at the grid points, or a function of their coordinates; any axes before the domain's are
            a batch. On a box they are read as trigonometric polynomials. For a function with jumps give its cell
            averages; its energy grows with the resolution.
        times : float or array of float, shape (n,)
            Times, in units of length squared, in any order. Spectral: infinity is the limit, and negative ones go
            backward at this finite resolution, which moves the energy to the highest mode present.
        method : {"spectral", "finite-difference"}
            "spectral" is exact but for the rounding of the grid values: a mode that is absent from u_0 is present in
            them at about 1e-16, and grows by :math:`e^{(\mu_k - \mu_j) t}` relative to mode k. So a steady state k > 1
            is lost once :math:`(\mu_k - \mu_1) t` passes 32; with `solve_modes` it never is. "finite-difference" is of
            second order in space, see `diffmath.pde.stepping`.
        mean : {"project", "keep"}
            (21) does not constrain the mean, which grows like :math:`\exp \int \lambda`. "project" removes the mean
            of u_0, so that the solution decays to the first eigenmode. "keep" keeps it, with its exact growth.
        C : float, optional
            The preserved quantity, if it is not to be that of u_0: the solution is scaled. Compare methods with one C:
            the spectral energy of a step between two cells is 2 ln 2 = 1.386 times that of finite differences.
        **options
            For finite differences, those of `diffmath.pde.stepping.integrate`. On Ctrl-C the run raises
            `diffmath.pde.stepping.Interrupted`, which holds the finished states as its ``dataset``.

        Returns
        -------
        xarray.Dataset
            ``u`` (..., time, x, ...), the solution, float32 if u_0 is; and in float64 ``multiplier`` (..., time),
            :math:`\lambda(t)`; ``energy`` (..., time), the integral (21), from the solution's modes; ``preserved``
            (..., time), the preserved quantity of it; ``energy_fraction`` (..., time, k_x, ...), the share
            :math:`p_k(t)` of each mode in the preserved quantity, if that is a sum over modes, else in the energy.
            For finite differences, all of these are those of the difference Laplacian.

        Examples
        --------
        >>> domain = Box(64)
        >>> ds = RenormalizedFlow(domain).solve(np.sign(domain.coordinates[0] - 0.3), [0.0, 0.01, 1.0])
        >>> bool(np.isclose(ds.multiplier[-1], np.pi**2, rtol=1e-14, atol=0))
        True
        """
        if method not in ("spectral", "finite-difference"):
            raise ValueError(f'method must be "spectral" or "finite-difference"; it is {method!r}')
        u, layout = read_initial(self.domain, u_0)
        t = read_times(times)
        attributes = {"method": method, "mean": require_mean(mean)}
        known = OPTIONS if method == "finite-difference" else ()
        if unknown := [name for name in options if name not in known]:
            raise TypeError(
                f'solve with the method "{method}" has no option {", ".join(unknown)}; '
                f"it has {', '.join(known) or 'none'}"
            )
        if method == "finite-difference":
            u = self._scaled_to(u, mean, C).reshape(*layout.shape, *self.domain.shape)

            def dataset(run: Run) -> xr.Dataset:
                return to_dataset(self, run.times, self._stepped(run), layout, attributes | run.info)

            try:
                return dataset(integrate(self.domain, u, t, preserve=self.norm, mean=mean, **options))
            except Interrupted as interrupted:
                interrupted.dataset = dataset(interrupted.run)
                raise
        return to_dataset(self, t, exact(self, u, layout.largest, t, mean, C), layout, attributes)

    def solve_modes(
        self,
        c: npt.ArrayLike | Mapping[int, float] | Mapping[tuple[int, ...], float],
        times: npt.ArrayLike | Sequence[float],
        *,
        mean: Mean = "project",
        C: float | None = None,
    ) -> xr.Dataset:
        """Solve the flow, eqs. (20)-(22), exactly from the amplitudes of modes: absent ones stay absent for all times.

        Parameters
        ----------
        c : array, shape (..., ``*mode_shape``), or mapping of mode number to amplitude
            The coefficients c_k in u_0 = sum_k c_k w_k, such as the domain's ``to_modes`` gives; of any dynamic range.
        times, mean, C
            The same as for `solve`.

        Returns
        -------
        xarray.Dataset
            The result of `solve`, with ``amplitude`` (..., time, k_x, ...), the coefficients of the solution.

        Examples
        --------
        >>> ds = RenormalizedFlow(Box(64)).solve_modes({5: 1.0}, np.inf)  # a steady state, unstable
        >>> float(ds.amplitude.sel(k_x=5)[0])
        1.0
        """
        if isinstance(c, Mapping):
            amplitudes = np.zeros(self.domain.mode_shape)
            for k, amplitude in c.items():
                amplitudes[self.domain.mode(k)] = require_number(f"c[{k}]", amplitude)
            c = amplitudes
        modes, layout = read_initial(self.domain, c, "modes")
        t = read_times(times)
        attributes = {"method": "spectral, from amplitudes", "mean": require_mean(mean)}
        modes = modes.copy()
        solution = self._diagnosed(modes, t, self._prepared(modes, 1.0, mean, C), amplitudes=True)
        return to_dataset(self, t, solution, layout, attributes)

    def evolve(
        self,
        u_0: npt.ArrayLike,
        times: npt.ArrayLike | Sequence[float],
        *,
        mean: Mean = "project",
        C: float | None = None,
    ) -> npt.NDArray[np.floating[Any]]:
        """The exact solution of (20)-(22) alone, as an array: what `solve` gives as ``u``, without the diagnostics.

        Parameters
        ----------
        u_0, times, mean, C
            The same as for `solve`.

        Returns
        -------
        numpy.ndarray, shape (..., n, N_1, ..., N_n), float32 if u_0 is, else float64

        Examples
        --------
        >>> domain = Box(64)
        >>> u = RenormalizedFlow(domain).evolve(np.sign(domain.coordinates[0] - 0.3), [0.0, np.inf], C=1.0)
        >>> bool(np.allclose(u[1], -RenormalizedFlow(domain).steady_state(1), atol=1e-14))
        True
        """
        if not self.domain.is_complete:
            return np.asarray(self.solve(u_0, times, mean=mean, C=C).u)
        u, layout = read_initial(self.domain, u_0)
        t = read_times(times)
        c, unit = self._transformed(u, layout.largest)
        size = self._prepared(c, unit, require_mean(mean), C)
        solution = as_dtype(self._values(heat_modes(self.domain, c, t, self.norm, size)), layout.dtype)
        return solution.reshape(*layout.shape, len(t), *self.domain.shape)

    @classmethod
    def from_dataset(cls, ds: xr.Dataset, preserve: Preserve | None = None) -> RenormalizedFlow:
        """The flow of a solution, with its domain, to go on with.

        Parameters
        ----------
        ds : xarray.Dataset
            A solution of `solve`, perhaps read from a file.
        preserve : optional
            The function that is preserved, where that is no name.

        Examples
        --------
        >>> flow = RenormalizedFlow.from_dataset(RenormalizedFlow(Box(64, 2.0), "value").solve_modes({3: 1.0}, 0.5))
        >>> flow.domain.lengths, flow.preserve
        ((2.0,), 'value')
        """
        box = box_of(ds)
        if preserve is None:
            try:
                return cls(box, ds.attrs["preserve"])
            except ValueError as error:
                raise ValueError(f"the function that the flow preserves must be given: {error}") from None
        flow = cls(box, preserve)
        continuation(ds, flow)
        return flow

    def continue_from(
        self,
        ds: xr.Dataset,
        times: npt.ArrayLike | Sequence[float],
        method: Method | None = None,
        **options: Any,
    ) -> xr.Dataset:
        """Go on from the last state of a solution, exactly if it has amplitudes.

        Parameters
        ----------
        ds : xarray.Dataset
            A solution of `solve`, `solve_modes` or this method.
        times : float or array of float, shape (n,)
            Counted from that state; the result's attribute ``start_time`` is the time of the state itself.
        method, **options
            The same as for `solve`; they default to those of the solution, which also decides whether the mean is kept.

        Returns
        -------
        xarray.Dataset
            The result of `solve`.

        Examples
        --------
        >>> flow = RenormalizedFlow(Box((64,)))
        >>> half = flow.solve_modes({3: 1.0}, 0.5)
        >>> whole = flow.continue_from(half, 0.5)
        >>> whole.start_time, float(whole.multiplier[0]) == 9 * np.pi**2
        (0.5, True)
        """
        return continuation(ds, self).solve(times, method, **options)

    def _steady_mode(self, k: Mode) -> tuple[int, ...]:
        """The index of a mode that is a steady state."""
        index: tuple[int, ...] = self.domain.mode(k)
        if self.domain.null_modes[index]:
            raise ValueError("k must not be the constant mode: it has no gradient, so it is no steady state")
        return index

    def _size_of(self, C: float) -> float:
        """The norm of functions whose preserved quantity is C."""
        if not 0 < require_number("C", C) < math.inf:
            raise ValueError(f"C must be positive and finite; it is {C}")
        return float(C ** (1 / self.norm.degree))

    def _transformed(self, u: Floats, largest: float) -> tuple[Floats, float]:
        """The coefficients of initial conditions, and the power of two they are to be multiplied by."""
        unit = 1.0 if 1 / LARGE < largest < LARGE else math.ldexp(1.0, math.frexp(largest)[1])
        return self.domain.to_modes(u if unit == 1.0 else u / unit), unit

    def _prepared(self, c: Floats, unit: float, mean: Mean, C: float | None) -> Floats:
        """The norms of solutions from amplitudes c in a unit, shape (B,); removes the mean from c if that is asked."""
        domain, norm, null = self.domain, self.norm, self.domain.null_positions
        counted = c.reshape(len(c), -1)
        if mean == "project":
            counted[:, null] = 0.0
        elif not norm.sees_mean:
            counted = np.delete(counted, null, axis=1)
        largest = np.maximum(counted.max(axis=1), -counted.min(axis=1))
        if not largest.all():
            raise ValueError(f"initial condition {int(largest.argmin())} has no mode that the flow could preserve")
        scale: Floats | float = 1.0
        if not 1 / LARGE < largest.min() <= largest.max() < LARGE:
            scale, c = largest, c / _expand(largest, c.ndim - 1)
        norm.require_homogeneous(domain, c)
        return np.full(len(c), self._size_of(C)) if C is not None else norm.size(domain, c) * scale * unit

    def _values(self, b: Floats) -> Floats:
        """The grid values of a solution's modes, which may be overwritten, checked to be float64 numbers."""
        with np.errstate(over="ignore", invalid="ignore"):
            u: Floats = self.domain._into_values(b)
            if not (np.isfinite(u.sum()) or np.isfinite(u).all()):  # the sum is quick, and may overflow
                raise OverflowError('the solution exceeds float64: use mean="project", or scale u_0')
        return u

    def _exact(self, u: Floats, largest: float, t: Floats, mean: Mean, C: float | None) -> Solution:
        """The solution from grid values, on a domain whose modes span them."""
        c, unit = self._transformed(u, largest)
        return self._diagnosed(c, t, self._prepared(c, unit, mean, C))

    def _diagnosed(self, c: Floats, t: Floats, size: Floats, amplitudes: bool = False) -> Solution:
        """The solution from amplitudes c, of a given norm, with all that is known of it."""
        b = heat_modes(self.domain, c, t, self.norm, size)
        diagnostics = self._diagnostics(self.domain, b / _expand(size, c.ndim), size[:, None])
        return Solution(self._values(b.copy() if amplitudes else b), *diagnostics, b if amplitudes else None)

    def _diagnostics(
        self, domain: Eigenbasis, v: Floats, scale: Floats | float = 1.0
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """What is known of a solution beside its values, checked to be float64 numbers, from its modes v * scale."""
        norm, gradient = self.norm, NORMS["gradient"]
        size, shares, multiplier = norm.measure(domain, v)
        with np.errstate(over="ignore", under="ignore"):
            preserved = (size * scale) ** norm.degree
            energy = preserved if norm is gradient else (gradient.size(domain, v) * scale) ** 2
        if not ((preserved >= TINY) & (preserved < np.inf) & (energy < np.inf)).all():
            raise OverflowError(f"the preserved quantity of u_0 must be a float64 number above {TINY:.3g}: scale u_0")
        return shares, multiplier, energy, preserved

    def _scaled_to(self, u_0: Floats, mean: Mean, C: float | None) -> Floats:
        """Initial conditions with the preserved quantity C on the domain's discretisation, if it is given."""
        if C is None:
            return u_0
        domain = self.domain.discrete._resolving(u_0, np.zeros(1))
        start = domain.apply(lambda mu: mu > 0, u_0) if mean == "project" else u_0
        return u_0 * _expand(self._size_of(C) / self.norm.value(domain, start), len(domain.shape))

    def _stepped(self, run: Run) -> Solution:
        """The solution of a run of finite differences, with all that is known of it."""
        domain, batch = run.domain, math.prod(run.null.shape[:-2])
        u, parts, null = (a.reshape(batch, *a.shape[run.null.ndim - 2 :]) for a in (run.states, run.parts, run.null))
        b = domain.to_modes(parts)
        b[..., domain.null_modes] = null  # apart: added to the rest, a mean that has grown would drown it
        return Solution(u, *self._diagnostics(domain, b))


def _expand(values: Floats, ndim: int) -> Floats:
    """The values with further axes of length 1."""
    return values.reshape(*values.shape, *[1] * ndim)
