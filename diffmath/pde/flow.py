r"""The renormalised heat flow (20)-(22).

The flow keeps :math:`C = \int |\nabla u|^2` by a multiplier that depends on time alone, so it is the heat flow *v*
of the same initial condition, rescaled: :math:`u(t) = \sqrt{C}\, v(t) / |\nabla v(t)|`. In the eigenfunctions, with
coefficients :math:`c_k` and energy fractions :math:`p_k = \mu_k c_k^2 / C`,

.. math:: p_k(t) \propto p_k(0)\, e^{-2 \mu_k t}, \qquad \lambda(t) = \sum_k \mu_k\, p_k(t) ,

a softmax. The same holds for any other functional that is preserved, see `diffmath.pde.functionals`: the solution is
exact, at any time, by one scaling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import fft

from diffmath._arguments import require_number
from diffmath.domains.box import Box, Floats, Mode
from diffmath.pde.dataset import MEANS, Solution, as_dtype, read_initial, read_times, to_dataset
from diffmath.pde.finite_difference import discrete_multiplier, discrete_norm, integrate_apart
from diffmath.pde.functionals import (
    Functional,
    Preserve,
    TotalVariation,
    logarithmic_derivative,
    norm,
    power_of_mu,
    require_homogeneous,
    require_preserve,
)
from diffmath.pde.restart import box_of, continuation
from diffmath.pde.spectral import HeatModes, QuickDecay

__all__ = ["RenormalizedFlow"]

Mean = Literal["project", "keep"]
Method = Literal["spectral", "finite-difference"]
TINY = float(np.finfo(np.float64).tiny)


class _Parts(NamedTuple):
    """Arrays over (B, time, ...): grid values, modes, their shares, and the multiplier over (B, time)."""

    u: Floats
    modes: Floats
    fraction: Floats
    multiplier: Floats


class RenormalizedFlow:
    r"""The heat flow that preserves a functional; by default equation (22).

    .. math:: u_t = \Delta u + \lambda(t)\, u, \qquad
              \lambda = \frac{1}{C} \int_\Omega (\Delta u)^2\, dx \;\text{ for }\; C = \int_\Omega |\nabla u|^2\, dx ,

    with no flux through the boundary.

    Parameters
    ----------
    domain : Box
    preserve : {"gradient", "value", "laplacian", "total_variation"} or callable
        What the flow preserves: :math:`\int |\nabla u|^2` ("gradient", the paper's eq. (21)), :math:`\int u^2`
        ("value"), :math:`\int (\Delta u)^2` ("laplacian"), :math:`\int |\nabla u|` ("total_variation"), or a
        function of a grid function, of the domain's shape, with :math:`N(a u) = |a| N(u)`. If it has a method
        ``derivative(u, direction)``, the multiplier is exact; else it is found by differences, to about 1e-11.

    Raises
    ------
    ValueError
        If there is no such functional.

    Examples
    --------
    >>> flow = RenormalizedFlow(Box(shape=(256,)))
    >>> flow.growth_rate(2, 1) == 3 * np.pi**2
    True
    """

    def __init__(self, domain: Box, preserve: Preserve = "gradient") -> None:
        require_preserve(preserve)
        if set(domain.boundary) != {"no-flux"}:
            raise ValueError(f"the flow is solved on boxes with no flux; the boundary is {domain.boundary}")
        self.domain = domain
        self.preserve = preserve

    # Eigenmodes

    def growth_rate(self, k: Mode, j: Mode) -> float:
        r"""Eq. (23): the rate :math:`\mu_k - \mu_j` of a perturbation by mode j of the steady state of mode k.

        Negative for the higher modes j, to which the state is stable, positive for the lower ones; the same whatever
        is preserved.

        Parameters
        ----------
        k, j : int, or tuple of int in several dimensions
            Mode numbers; :math:`\mu_k > 0`, as the constant is no steady state.

        Returns
        -------
        float
            Per unit of time.

        Raises
        ------
        ValueError
            If k is the constant mode, or a mode is not on the grid.
        TypeError
            If a mode number is no integer, or no tuple of the right length.
        """
        numbers = zip(self._not_constant(k), self.domain.mode(j), self.domain.lengths, strict=True)
        # (k^2 - j^2) pi^2 / L^2 along each axis: the difference of the eigenvalues themselves would cancel.
        return math.fsum((a - b) * (a + b) * (math.pi / length) ** 2 for a, b, length in numbers)

    def check_stability(self, k: Mode, n_modes: int | None = None, **options: Any) -> xr.Dataset:
        """Eq. (23) in theory, by eigenvalues, and as each solver measures it: `diffmath.pde.stability.check_stability`.

        Parameters
        ----------
        k : int, or tuple of int in several dimensions
            The mode number of the steady state.
        n_modes : int, optional
            The number of perturbing modes, those of the lowest eigenvalues, the mean first.
        **options
            ``solvers``, ``perturbation``.

        Returns
        -------
        xarray.Dataset
            ``theory``, ``jacobian``, ``measured`` and ``verdict`` for each mode.

        Raises
        ------
        ValueError, TypeError
            As that function.
        """
        from diffmath.pde.stability import check_stability  # which needs this class

        return check_stability(self, k, n_modes, **options)

    def steady_state(self, k: Mode, C: float = 1.0) -> Floats:
        r"""The steady state along :math:`w_k` on the grid, whose multiplier is :math:`\mu_k`.

        It is :math:`\sqrt{C / \mu_k^s}\, w_k` where the value (s = 0), the gradient (s = 1, the paper's :math:`A_k w_k`
        after eq. (22)) or the Laplacian (s = 2) is preserved, else :math:`C / N(w_k)\, w_k`. Its negative is one too.

        Parameters
        ----------
        k : int, or tuple of int in several dimensions
            The mode number, not that of the constant.
        C : float
            The preserved quantity (see ``preserved`` in `solve`), positive.

        Returns
        -------
        numpy.ndarray, float64, the domain's shape

        Raises
        ------
        ValueError
            If k is the constant mode or not on the grid, or C is not positive and finite.
        TypeError
            If k is no integer, or no tuple of the right length.
        """
        self._not_constant(k)
        w, s = self.domain.eigenfunction(k), power_of_mu(self.preserve)
        if s is None:
            return _positive(C) / norm(self._functional(), w) * w
        return math.sqrt(_positive(C) / self.domain.eigenvalue(k) ** s) * w

    # _Partss

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
        u_0 : array or xarray.DataArray of float, shape (..., N_1, ..., N_n)
            Initial conditions at the cell centres; the last axes are the domain's, any before them are a batch. The
            spectral method reads them as the trigonometric polynomials through these values. For a function with jumps
            give its cell averages, and mind that its energy grows with the resolution.
        times : float or array of float, shape (n,)
            Times, in units of length squared, in any order. Spectral: infinity is the limit, and negative ones are
            backward evolution at this finite resolution, which moves the energy to the highest mode present.
        method : {"spectral", "finite-difference"}
            "spectral" is exact but for rounding, of the grid values too: a mode that is absent from u_0 is present in
            its values at about 1e-16 of the largest, and grows by :math:`e^{(\mu_k - \mu_j) t}` relative to mode k:
            a steady state k > 1 is lost once :math:`(\mu_k - \mu_1) t` passes 32. From amplitudes, with `solve_modes`,
            it never is. "finite-difference" is of second order in space, see `diffmath.pde.finite_difference`.
        mean : {"project", "keep"}
            (21) does not constrain the mean, which grows like :math:`\exp \int \lambda`, rounding errors of the
            mean included. "project" solves on the zero-mean subspace, to which "decay to the first eigenmode"
            applies: the mean of u_0 is removed. "keep" keeps it, with its exact growth.
        C : float, optional
            The preserved quantity, if it is not to be that of u_0: the solution is scaled. The energy of a step is 2 ln
            2 = 1.386 times as large for the spectral method as for finite differences if the jump is between two cells,
            and 4 ln 2 - pi^2 / 6 = 1.13 times if it is in the middle of one; that of white noise is pi^2 / 6 = 1.645
            times as large. So solutions that each keep their own differ in scale, by 18 %, 6 % and 28 %; compare them
            with one C.
        **options
            For finite differences: ``integrator``, ``dt``, ``theta``, ``rtol``, ``atol``; see
            `diffmath.pde.finite_difference.integrate`.

        Returns
        -------
        xarray.Dataset
            ``u`` (..., time, x, ...), the solution, float32 if u_0 is; and in float64 ``multiplier`` (..., time),
            :math:`\lambda(t)`; ``energy`` (..., time), the integral (21), from the solution's modes; ``preserved``
            (..., time), the preserved quantity of it; ``energy_fraction`` (..., time, k_x, ...), the share
            :math:`p_k(t)` of each mode in the preserved quantity, if that is a sum over modes, else in the energy.
            For finite differences, all of these are those of the difference Laplacian.

        Raises
        ------
        ValueError
            If u_0 is constant, not finite or of the wrong shape, a time is NaN, C is not positive, or an option is out
            of range.
        TypeError
            If u_0 or the times are not real numbers, or the method has no such option.
        OverflowError
            If the energy, or a mean that is kept, is no float64 number.

        Examples
        --------
        >>> domain = Box(shape=(64,))
        >>> ds = RenormalizedFlow(domain).solve(np.sign(domain.coordinates[0] - 0.3), [0.0, 0.01, 1.0])
        >>> bool(np.isclose(ds.multiplier[-1], np.pi**2, rtol=1e-14, atol=0))
        True
        """
        if method not in ("spectral", "finite-difference"):
            raise ValueError(f'method must be "spectral" or "finite-difference"; it is {method!r}')
        u, layout = read_initial(self.domain, u_0)
        t = read_times(times)
        _check_options(mean, C)
        attributes = {"method": method, "mean": mean}
        if method == "finite-difference":
            parts, info = self._differences(u, t, mean, C, **options)
            solution = self._measured(parts, self.domain.discrete_eigenvalues)
            return to_dataset(self, t, solution, layout, attributes | info)
        if options:
            raise TypeError(f'the method "spectral" has no option {", ".join(options)}')
        u, exponent = _normalised(u)
        parts = self._exact(self.domain.to_modes(u), exponent, t, mean, C)
        return to_dataset(self, t, self._measured(parts, self.domain.eigenvalues), layout, attributes)

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
        c : array, shape (..., N_1, ..., N_n), or mapping of mode number to amplitude
            The coefficients c_k in u_0 = sum_k c_k w_k, such as `Box.to_modes` gives; of any dynamic range.
        times, mean, C
            As for `solve`.

        Returns
        -------
        xarray.Dataset
            That of `solve`, and ``amplitude`` (..., time, k_x, ...), the coefficients of the solution.

        Raises
        ------
        ValueError, TypeError, OverflowError
            As for `solve`.

        Examples
        --------
        >>> ds = RenormalizedFlow(Box(shape=(64,))).solve_modes({5: 1.0}, np.inf)  # a steady state, unstable
        >>> float(ds.amplitude.sel(k_x=5)[0])
        1.0
        """
        if isinstance(c, Mapping):
            amplitudes = np.zeros(self.domain.shape)
            for k, amplitude in c.items():
                amplitudes[self.domain.mode(k)] = require_number(f"c[{k}]", amplitude)
            c = amplitudes
        modes, layout = read_initial(self.domain, c, "modes")
        t = read_times(times)
        _check_options(mean, C)
        parts = self._exact(modes.copy(), np.zeros(len(modes), dtype=np.int64), t, mean, C)
        attributes = {"method": "spectral, from amplitudes", "mean": mean}
        solution = self._measured(parts, self.domain.eigenvalues)
        return to_dataset(self, t, solution, layout, attributes, amplitudes=True)

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
            As for `solve`.

        Returns
        -------
        numpy.ndarray, shape (..., n, N_1, ..., N_n), float32 if u_0 is, else float64

        Raises
        ------
        ValueError, TypeError, OverflowError
            As for `solve`.
        """
        u, layout = read_initial(self.domain, u_0)
        t = read_times(times)
        _check_options(mean, C)
        solution = self._quick(u, layout.largest, t, C) if mean == "project" else None
        if solution is None:
            u, exponent = _normalised(u)
            solution = self._exact(self.domain.to_modes(u), exponent, t, mean, C, diagnostics=False).u
        return as_dtype(solution.reshape(*layout.shape, len(t), *self.domain.shape), layout.dtype)

    # Going on

    @classmethod
    def from_dataset(cls, ds: xr.Dataset, preserve: Preserve | None = None) -> RenormalizedFlow:
        """The flow of a solution, with its domain, to go on with.

        Parameters
        ----------
        ds : xarray.Dataset
            A solution of `solve` on a box, perhaps read from a file.
        preserve : optional
            The function that is preserved, where that is no name.

        Examples
        --------
        >>> ds = RenormalizedFlow(Box((64,), (2.0,)), "value").solve_modes({3: 1.0}, 0.5)
        >>> flow = RenormalizedFlow.from_dataset(ds)
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
            Times counted from that state; the result's attribute ``start_time`` is the time of the state itself.
        method, **options
            As for `solve`; those of the solution unless given. Whether the mean is kept is up to the solution.

        Returns
        -------
        xarray.Dataset
            As that of `solve`.

        Raises
        ------
        ValueError
            If the flow preserves something else, or has another domain than the solution.

        Examples
        --------
        >>> flow = RenormalizedFlow(Box((64,)))
        >>> half = flow.solve_modes({3: 1.0}, 0.5)
        >>> whole = flow.continue_from(half, 0.5)
        >>> whole.start_time, float(whole.multiplier[0]) == 9 * np.pi**2
        (0.5, True)
        """
        return continuation(ds, self).solve(times, method, **options)

    # Private

    def _not_constant(self, k: Mode) -> tuple[int, ...]:
        numbers = self.domain.mode(k)
        if not any(numbers):
            raise ValueError("k must not be the constant mode: it has no gradient, so it is no steady state")
        return numbers

    def _functional(self) -> Functional:
        """The functional of a grid function that is no sum over modes."""
        if callable(self.preserve):
            return self.preserve
        domain = self.domain
        return TotalVariation(lambda u: domain.gradient(domain.to_modes(u)), domain.cell_volume)

    def _quick(self, u: Floats, largest: float, t: Floats, C: float | None) -> Any:
        """The solution in few passes over the data, in ordinary cases; None in the others, which `_exact` solves."""
        domain = self.domain
        ordinary = 1e-100 < largest < 1e100 and (C is None or 1e-100 < C < 1e100) and t.min() >= 0 and t.max() < 1e100
        if (
            power_of_mu(self.preserve) is None
            or not ordinary
            or not all(1e-10 < length < 1e10 for length in domain.lengths)
        ):
            return None
        order = np.argsort(t, kind="stable")
        decay = QuickDecay(domain, t[order])
        c = _dct(domain, u)
        c.reshape(len(c), -1)[:, 0] = 0
        # No mode is larger than this root times the largest value, so that the lowest mode is not small beside any.
        lowest_mode: Any = (slice(None), *domain.lowest_mode)
        lowest = np.abs(c[lowest_mode])
        if not decay.possible or lowest.min() <= 2.0**-56 * largest * math.sqrt(u[0].size):
            return None
        squares = c * c
        squares *= self._weight
        target = math.sqrt(C / domain.cell_volume) if C is not None else np.sqrt(_sum(squares))[:, None]
        b = np.zeros((len(c), len(t), *domain.shape))
        for part, factors, window in decay.groups():
            factor = factors[-1]
            total = squares[:, *window] @ (factor * factor).T
            for one in reversed(factors[:-1]):  # contract one axis after the other
                total = np.einsum("...im,mi->...m", total, one * one)
                factor = one.reshape(*one.shape, *[1] * (factor.ndim - 1)) * factor[:, None]
            scale = target / np.sqrt(total)
            states = b[:, part, *window]
            if len(c) == 1:
                factor *= _expand(scale[0], domain.ndim)
            np.multiply(c[:, None, *window], factor, out=states)
            if len(c) > 1:
                states *= _expand(scale, domain.ndim)
        u = _dct(domain, b, inverse=True)
        return u if len(t) == 1 or (order[1:] > order[:-1]).all() else u[:, np.argsort(order, kind="stable")]

    @cached_property
    def _weight(self) -> Floats:
        """The weights mu^s of the squares of modes, that of the mean zero."""
        weight = self.domain.eigenvalues ** (power_of_mu(self.preserve) or 0)
        weight.flat[0] = 0
        return weight

    def _exact(
        self,
        c: Floats,
        exponent: npt.NDArray[np.int64],
        t: Floats,
        mean: Mean,
        C: float | None,
        diagnostics: bool = True,
    ) -> _Parts:
        """The solution from the amplitudes c 2^exponent, shape (B, k, ...)."""
        domain, n_batch = self.domain, len(c)
        first: Any = (slice(None), *(0,) * domain.ndim)
        everything: Any = (slice(None),) * domain.ndim
        s = power_of_mu(self.preserve)
        constrained = s == 0 and mean == "keep"  # the mean is a mode like any other
        kept, c_0 = c[first].copy(), np.zeros(n_batch)
        if not constrained:
            c_0 = kept if mean == "keep" else c_0
            c[first] = 0
        heat = HeatModes(domain, c)
        for direction in (-1.0, 1.0):
            far = np.abs(t[t * direction > 0]).max(initial=0.0)
            if n_batch > 1 and far > heat.horizon(direction) != heat.horizon(direction, all_of_them=False):
                # What is infinity to one spectrum is not to another.
                c[first] = kept
                each = [self._exact(c[i : i + 1], exponent[i : i + 1], t, mean, C, diagnostics) for i in range(n_batch)]
                return _Parts(*(np.concatenate(parts) for parts in zip(*each, strict=True)))
        exponent = exponent + heat.exponent
        c_0 = np.ldexp(c_0, -heat.exponent)

        unit = max(domain.lengths)  # in which eigenvalues and their powers are of moderate size
        mu = domain.eigenvalues * unit**2
        weight = mu ** (1 if s is None else s)

        def shares(v: Floats, window: Any) -> tuple[Floats, Floats]:
            """The weighted squares of modes, as shares, and the root of their sum."""
            share = weight[window] * v
            share *= v
            total = _sum(share)
            if diagnostics:
                share /= _expand(total, domain.ndim)
            return share, np.sqrt(total)

        def functional(v: Floats, window: Any, constant: Floats) -> tuple[Floats, Floats]:
            """The value and the multiplier of a functional that is no sum over modes."""
            whole = np.zeros((n_batch, *domain.shape))
            whole[(slice(None), *window)] = v
            whole[first] = constant
            N, u, du = self._functional(), domain.to_grid(whole), domain.to_grid(-mu * whole)
            rate = [-logarithmic_derivative(N, x, dx) for x, dx in zip(u, du, strict=True)]
            return np.array([norm(N, x) for x in u]), np.array(rate)

        if s is None:
            for u in domain.to_grid(heat.c):
                require_homogeneous(self._functional(), u)
            start = functional(heat.c, everything, c_0)[0]
        else:
            start = shares(heat.c, everything)[1]
        if C is not None:
            start, exponent = np.full(n_batch, C if s is None else math.sqrt(C) * unit**s), np.zeros_like(exponent)
        b = np.zeros((n_batch, len(t), *domain.shape))
        fraction = np.zeros_like(b if diagnostics else b[:0])
        multiplier = np.empty((n_batch, len(t)))
        for i, now in enumerate(t.tolist()):
            v, octaves, window = heat.at(now)
            here: Any = (slice(None), i, *window)
            with np.errstate(over="ignore"):  # seen below
                constant = np.ldexp(c_0, np.clip(-octaves, -5000, 5000).astype(np.int64))
            share, size = shares(v, window)
            if diagnostics:
                fraction[here] = share
            if s is None:
                size, multiplier[:, i] = functional(v, window, constant)
            elif diagnostics:
                multiplier[:, i] = _sum(mu[window] * share)
            scale = start / size
            b[here] = v * _expand(scale, domain.ndim)
            if c_0.any():
                b[(slice(None), i, *first[1:])] = constant * scale
        with np.errstate(over="ignore", invalid="ignore"):
            if exponent.any():
                b = np.ldexp(b, exponent.reshape(-1, *[1] * (b.ndim - 1)))
            u = domain.to_grid(b)
        if not np.isfinite(u).all():
            advice = 'use mean="project"' if mean == "keep" else "scale u_0"
            raise OverflowError(f"the solution exceeds float64: {advice}")
        return _Parts(u, b, fraction, multiplier / unit**2)

    def _differences(
        self, u_0: Floats, t: Floats, mean: Mean, C: float | None, **options: Any
    ) -> tuple[_Parts, dict[str, Any]]:
        """The solution by finite differences of each initial condition."""
        domain, s = self.domain, power_of_mu(self.preserve)
        solutions, infos = [], []
        for one in u_0:
            states, means, info = integrate_apart(domain, one, t, preserve=self.preserve, mean=mean, **options)
            if C is not None:
                start = one if mean == "keep" else one - one.mean()
                scale = (C if s is None else math.sqrt(C)) / discrete_norm(domain, start, self.preserve)
                states, means = states * scale, means * scale
            solutions.append((states, means))
            infos.append(info)
        # What differs within a batch, such as the number of steps, is a list.
        info = {k: v if all(i[k] == v for i in infos) else [i[k] for i in infos] for k, v in infos[0].items()}
        # The mean apart: added to the rest, it would drown it in the multiplier and in the energy.
        v, means = (np.stack(parts) for parts in zip(*solutions, strict=True))
        u = v + _expand(means, domain.ndim)
        if not np.isfinite(u).all():
            raise OverflowError('the solution exceeds float64: use mean="project"')
        seen = u if s in (0, None) else v
        b = domain.to_modes(v)
        b.reshape(*b.shape[:2], -1)[..., 0] = means * math.sqrt(math.prod(domain.lengths))
        fraction = domain.discrete_eigenvalues ** (1 if s is None else s) * domain.to_modes(seen) ** 2
        fraction /= _expand(_sum(fraction, domain.ndim), domain.ndim)
        multiplier = [[discrete_multiplier(domain, state, self.preserve) for state in states] for states in seen]
        return _Parts(u, b, fraction, np.array(multiplier)), info

    def _measured(self, parts: _Parts, mu: Floats) -> Solution:
        """The solution with its energy and what it preserves, checked to be float64 numbers."""
        domain, s = self.domain, power_of_mu(self.preserve)
        with np.errstate(over="ignore", under="ignore"):
            squares = parts.modes**2
            squares.reshape(-1, math.prod(domain.shape))[:, 0] *= float(s == 0)  # the mean counts in the value alone
            energy = _sum(mu * squares, domain.ndim)
            if s is not None:
                preserved = energy if s == 1 else _sum(mu**s * squares, domain.ndim)
            elif mu is domain.discrete_eigenvalues:
                preserved = np.array([[discrete_norm(domain, u, self.preserve) for u in x] for x in parts.u])
            else:
                preserved = np.array([[self._functional()(u) for u in states] for states in parts.u])
        if not ((preserved >= TINY) & (preserved < np.inf) & (energy < np.inf)).all():
            raise OverflowError(f"the preserved quantity of u_0 must be a float64 number above {TINY:.3g}: scale u_0")
        return Solution(*parts, energy, preserved)


def _dct(domain: Box, values: Floats, inverse: bool = False) -> Floats:
    """The orthonormal cosine transform, which differs from the coefficients by the root of the cells' volume."""
    transformed: Floats
    if domain.ndim == 1:  # with less ado, which counts for a single solve
        transform = fft.idct if inverse else fft.dct
        transformed = transform(values, norm="ortho", overwrite_x=inverse)
    else:
        transform = fft.idctn if inverse else fft.dctn
        transformed = transform(values, norm="ortho", axes=domain.axes, overwrite_x=inverse)
    return transformed


def _sum(values: Floats, ndim: int = 0) -> Floats:
    """The sum over the last ndim axes; over all but the first unless given."""
    kept = values.shape[: values.ndim - ndim] if ndim else values.shape[:1]
    total: Floats = values.reshape(*kept, -1).sum(axis=-1)
    return total


def _expand(values: Floats, ndim: int) -> Floats:
    """With further axes of length 1."""
    return values.reshape(*values.shape, *[1] * ndim)


def _normalised(u: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The arrays u 2^-e, and e, with the largest entry of each in [1/2, 1): their transforms do not overflow."""
    exponent = np.frexp(np.abs(u).reshape(len(u), -1).max(axis=1))[1].astype(np.int64)
    return np.ldexp(u, -exponent.reshape(-1, *[1] * (u.ndim - 1))), exponent


def _check_options(mean: Mean, C: float | None) -> None:
    if mean not in MEANS:
        raise ValueError(f'mean must be "project" or "keep"; it is {mean!r}')
    if C is not None:
        _positive(C)


def _positive(C: float) -> float:
    if not 0 < C < math.inf:
        raise ValueError(f"C must be positive and finite; it is {C}")
    return C
