r"""The renormalised heat flow (20)-(22), solved exactly.

The flow keeps :math:`C = \int |\nabla u|^2` by a multiplier that depends on time alone, so it is the heat flow *v*
of the same initial condition, rescaled: :math:`u(t) = \sqrt{C}\, v(t) / |\nabla v(t)|`. In the eigenfunctions, with
coefficients :math:`c_k` and energy fractions :math:`p_k = \mu_k c_k^2 / C`,

.. math:: p_k(t) \propto p_k(0)\, e^{-2 \mu_k t}, \qquad \lambda(t) = \sum_k \mu_k\, p_k(t) ,

a softmax. It is evaluated relative to the mode that dominates at time t, so that nothing over- or underflows for any t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy
import xarray as xr

from diffmath import __version__
from diffmath.pde.domain import Box, Floats, Mode

__all__ = ["RenormalizedFlow"]

AXIS_NAMES = ("x", "y", "z")
MAX_LOG = math.log(np.finfo(np.float64).max)


class RenormalizedFlow:
    r"""Equation (22): :math:`u_t = \Delta u + \frac{u}{C} \int_\Omega (\Delta u)^2 dx`, no flux through the boundary.

    Parameters
    ----------
    domain : Box
    preserve : {"gradient"}
        What the flow preserves: "gradient" is the paper's choice, eq. (21), :math:`\int |\nabla u|^2 dx`.
    """

    def __init__(self, domain: Box, preserve: Literal["gradient"] = "gradient") -> None:
        if preserve != "gradient":
            raise ValueError(f'preserve must be "gradient"; it is {preserve!r}')
        self.domain = domain
        self.preserve = preserve

    def growth_rate(self, k: Mode, j: Mode) -> float:
        r"""Eq. (23): the rate :math:`\mu_k - \mu_j` of a perturbation by mode j of the steady state of mode k.

        Negative for the higher modes j, to which the state is stable, positive for the lower ones.

        Parameters
        ----------
        k, j : int, or tuple of int in several dimensions
            Mode numbers; :math:`\mu_k > 0`, as the constant is no steady state.

        Returns
        -------
        float
            Per unit of time.
        """
        if (mu_k := self.domain.eigenvalue(k)) == 0:
            raise ValueError("k must not be the constant mode: it has no gradient, so it is no steady state")
        return mu_k - self.domain.eigenvalue(j)

    def steady_state(self, k: Mode, C: float = 1.0) -> Floats:
        r"""The steady state :math:`\sqrt{C / \mu_k}\, w_k` on the grid, whose multiplier is :math:`\mu_k`."""
        if (mu_k := self.domain.eigenvalue(k)) == 0:
            raise ValueError("k must not be the constant mode: it has no gradient, so it is no steady state")
        if not 0 < C < math.inf:
            raise ValueError(f"C must be positive and finite; it is {C}")
        return math.sqrt(C / mu_k) * self.domain.eigenfunction(k)

    def solve(
        self,
        u_0: npt.ArrayLike,
        times: npt.ArrayLike | Sequence[float],
        method: Literal["spectral"] = "spectral",
        *,
        mean: Literal["project", "keep"] = "project",
    ) -> xr.Dataset:
        r"""Solve (22) from a grid function.

        Parameters
        ----------
        u_0 : array of float, the domain's shape
            The initial condition at the cell centres, read as the trigonometric polynomial through these values.
        times : float or array of float, shape (n,)
            Times, in units of length squared, in any order. Negative ones are backward evolution at this finite
            resolution, which moves the energy to the highest mode present.
        method : {"spectral"}
            "spectral" is exact but for rounding, of the grid values too: a mode that is absent from u_0 is present in
            its values at about 1e-16 of the largest, and grows by :math:`e^{(\mu_k - \mu_j) t}` relative to mode k.
        mean : {"project", "keep"}
            (21) does not constrain the mean, which would grow like :math:`\exp \int \lambda`, rounding errors of the
            mean included. "project" solves on the zero-mean subspace, to which "decay to the first eigenmode"
            applies: the mean of u_0 is removed. "keep" keeps it, with its exact growth.

        Returns
        -------
        xarray.Dataset
            ``u`` (time, x, ...), the solution; ``multiplier`` (time), :math:`\lambda(t)`; ``energy`` (time), the
            integral (21) of the solution returned; ``energy_fraction`` (time, k_x, ...), :math:`p_k(t)`. All float64.

        Raises
        ------
        ValueError
            If u_0 is constant, not finite or of the wrong shape, or a time is not finite.
        TypeError
            If u_0 or the times are not real numbers.
        OverflowError
            If a mean that is kept exceeds float64.
        """
        if method != "spectral":
            raise ValueError(f'method must be "spectral"; it is {method!r}')
        if mean not in ("project", "keep"):
            raise ValueError(f'mean must be "project" or "keep"; it is {mean!r}')
        t = np.atleast_1d(_real(times, "times"))
        if t.ndim != 1 or not np.isfinite(t).all():
            raise ValueError(f"times must be finite and one-dimensional; they are {times!r}")
        c = self._initial_modes(u_0)
        b, fraction, multiplier = self._evolve(c, t, mean)
        return self._dataset(t, b, fraction, multiplier, {"method": method, "mean": mean})

    def _initial_modes(self, u_0: npt.ArrayLike) -> Floats:
        u = _real(u_0, "u_0")
        if u.shape != self.domain.shape:
            raise ValueError(f"u_0 must have the domain's shape {self.domain.shape}; its shape is {u.shape}")
        if not np.isfinite(u).all():
            i = tuple(int(j) for j in np.argwhere(~np.isfinite(u))[0])
            raise ValueError(f"u_0 must be finite; u_0{list(i)} = {u[i]}")
        if np.ptp(u) == 0:
            raise ValueError(f"u_0 must not be constant: it is {u.flat[0]} everywhere, so C = 0 and there is no flow")
        return self.domain.to_modes(u)

    def _evolve(self, c: Floats, t: Floats, mean: str) -> tuple[Floats, Floats, Floats]:
        """Coefficients and energy fractions, each (time, k, ...), and the multiplier (time)."""
        c_0, c = c.flat[0], c.ravel()[1:]  # the constant mode has no energy
        mu = self.domain.eigenvalues.ravel()[1:]
        scale = np.abs(c).max()
        root_C = scale * np.sqrt((mu * (c / scale) ** 2).sum())
        with np.errstate(divide="ignore"):  # log 0 = -inf: an absent mode stays absent
            log_size = np.log(np.abs(c) / scale) + 0.5 * np.log(mu)  # of the square root of a mode's energy
        # Relative to the mode m that dominates at time t: differences first, so that large mu t cancel exactly.
        m = (log_size - np.multiply.outer(t, mu)).argmax(axis=1)
        relative = np.exp((log_size - log_size[m, None]) - (mu - mu[m, None]) * t[:, None])
        total = (relative**2).sum(axis=1, keepdims=True)
        fraction = relative**2 / total
        multiplier = (mu * fraction).sum(axis=1)
        b = np.copysign(root_C * relative / np.sqrt(mu * total), c)

        b_0 = np.zeros_like(t)
        if mean == "keep" and c_0 != 0:
            # b_0' = lambda b_0, where exp of the integral of lambda is the norm of grad v(0) over that of grad v(t).
            log_growth = np.log(root_C / scale) - (log_size[m] - mu[m] * t) - 0.5 * np.log(total[:, 0])
            if (log_growth + np.log(abs(c_0)) > MAX_LOG).any():
                raise OverflowError(f'the mean of u exceeds float64 by time {t.max():g}; use mean="project"')
            b_0 = c_0 * np.exp(log_growth)

        shape = (len(t), *self.domain.shape)
        b = np.column_stack([b_0, b]).reshape(shape)
        return b, np.column_stack([np.zeros_like(t), fraction]).reshape(shape), multiplier

    def _dataset(
        self, t: Floats, b: Floats, fraction: Floats, multiplier: Floats, attributes: dict[str, Any]
    ) -> xr.Dataset:
        domain = self.domain
        axes = AXIS_NAMES[: domain.ndim] if domain.ndim <= 3 else tuple(f"x{d + 1}" for d in range(domain.ndim))
        modes = tuple(f"k_{axis}" for axis in axes)
        energy = (domain.eigenvalues * b**2).sum(axis=tuple(range(1, domain.ndim + 1)))
        dataset = xr.Dataset(
            {
                "u": (("time", *axes), domain.to_grid(b), {"long_name": "solution"}),
                "multiplier": ("time", multiplier, {"long_name": "multiplier lambda(t)", "units": "1 / time"}),
                "energy": ("time", energy, {"long_name": "integral of |grad u|^2"}),
                "energy_fraction": (("time", *modes), fraction, {"long_name": "share of each mode in the energy"}),
            },
            coords={
                "time": ("time", t, {"units": "length^2"}),
                **{a: (a, x, {"units": "length"}) for a, x in zip(axes, domain.coordinates, strict=True)},
                **{
                    m: (m, np.arange(n), {"long_name": "mode number"}) for m, n in zip(modes, domain.shape, strict=True)
                },
            },
        )
        return dataset.assign_attrs(
            equation="u_t = Lap u + (u / C) integral (Lap u)^2 dx, no flux; Higham, Higham and Grindrod, eq. (22)",
            domain=" x ".join(
                f"[0, {length:g}] in {n} cells" for n, length in zip(domain.shape, domain.lengths, strict=True)
            ),
            preserve=self.preserve,
            **attributes,
            versions=f"diffmath {__version__}, numpy {np.__version__}, scipy {scipy.__version__}",
        )


def _real(values: npt.ArrayLike | Sequence[float], name: str) -> Floats:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers; the dtype is {array.dtype}")
    return array.astype(np.float64)
