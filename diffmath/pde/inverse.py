r"""The renormalised flow backwards: initial conditions from a noisy state, as the end of section 7 of the paper asks.

The flow is the heat flow but for one factor, so a measured state tells the initial modes times :math:`e^{-\mu_k T}`,
and noise hides all but the lowest. What the data do not tell, a prior must, see `diffmath.pde.priors`. The prior sees
the initial condition but for the factor; if the preserved quantity C is known, the factor follows from it: with the
posterior mean m and variances V of the amplitudes,

.. math:: r^2 \sum_k \mu_k\, (m_k^2 + V_k) = C . \tag{25}

It is the expected energy that is C. That of the mean alone is far too small, as the mean has no high modes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtri

from diffmath._arguments import require_instance, require_positive
from diffmath.domains.eigenbasis import Eigenbasis, Floats
from diffmath.pde.dataset import MEANS, Mean, read_initial, renamed, require_mean
from diffmath.pde.flow import RenormalizedFlow
from diffmath.pde.priors import EXPONENT, EmpiricalBayes, Observation, Prior

__all__ = ["reconstruct"]

CHUNK = 2**22  # numbers at a time, for the deviations at the grid points


def reconstruct(
    flow: RenormalizedFlow,
    u_T: npt.ArrayLike | xr.DataArray,
    T: float,
    *,
    noise: float,
    prior: Prior | None = None,
    C: float | None = None,
    mean: Mean = "project",
    level: float = 0.9,
) -> xr.Dataset:
    r"""Estimate the initial condition of a flow from a noisy state at time T, with the scale of eq. (25).

    Parameters
    ----------
    flow : RenormalizedFlow
        The flow that led to u(T), on any domain.
    u_T : array or xarray.DataArray of float, the domain's shape
        The measured state.
    T : float
        Its time, positive, in units of length squared.
    noise : float
        The standard deviation of its errors, which are Gaussian and independent from grid point to grid point. On a
        mesh, whose points differ in weight, those of the modes are only about equal and independent.
    prior : Prior, optional
        `diffmath.pde.priors.EmpiricalBayes` unless given. Its units are those of the data: it is about the initial
        condition times the factor by which the flow has grown.
    C : float, optional
        The preserved quantity, if it is known; a sum over modes. Unless given, the estimate is not rescaled: read C
        from noisy data and it is that of the noise.
    mean : {"project", "keep"}
        The same as in `diffmath.pde.RenormalizedFlow.solve`.
    level : float
        The probability of the bands, in (0, 1). That is exact for a Gaussian prior that is the law of the initial
        conditions and C left out. With estimated parameters 90 % bands covered 0.79 to 1.00, see
        `experiments/backwards.py`; and they do not hold what is uncertain in the scale from C.

    Returns
    -------
    xarray.Dataset
        ``u`` (x, ...), the posterior mean; ``deviation``, ``lower`` and ``upper`` (x, ...), its posterior deviation and
        bands at each point; ``amplitude`` and ``amplitude_deviation`` (k_x, ...). The attributes hold the prior and its
        parameters; ``log10_amplification``, of :math:`e^{\mu_{\max} T}`; and ``modes_told``, how many modes the data
        can tell: the sum of the shares :math:`d_k^2 V_k / \sigma^2` that the data have in the estimates.

    Raises
    ------
    ValueError
        If T, noise or C is not positive; if float64 cannot tell the slowest mode at T, or noise as small as that; or if
        C is given and the preserved quantity is no sum over modes.

    Examples
    --------
    >>> from diffmath.pde import Box, RenormalizedFlow
    >>> flow = RenormalizedFlow(Box(64))
    >>> u_0 = flow.domain.eigenfunction(1) + flow.domain.eigenfunction(2) / 4
    >>> u_T = flow.evolve(u_0, 0.01)[0] + 1e-3 * np.random.default_rng(0).standard_normal(64)
    >>> ds = reconstruct(flow, u_T, 0.01, noise=1e-3, C=flow.solve(u_0, 0.0).preserved.item())
    >>> bool(abs(ds.u - u_0).max() < 0.05)
    True
    """
    require_instance("flow", flow, RenormalizedFlow)
    domain, norm = flow.domain, flow.norm
    T, noise, level = require_positive("T", T), require_positive("noise", noise), require_positive("level", level)
    if level >= 1:
        raise ValueError(f"level must lie in (0, 1); it is {level}")
    prior = EmpiricalBayes() if prior is None else prior
    if not isinstance(prior, Prior):
        raise TypeError(f"prior must be a Prior, see diffmath.pde.priors; it is {prior!r}")
    if C is not None and norm.power is None:
        raise ValueError(f'C must be left out for a flow that preserves "{norm.name}": it is no sum over modes')
    require_mean(mean)
    values, layout = read_initial(domain, u_T, name="u_T")
    if layout.shape:
        raise ValueError(f"u_T must be one state, of the domain's shape {domain.shape}; it has {len(values)}")
    _require_told(domain, T, noise, layout.largest)
    used = np.ones(domain.mode_shape, dtype=bool) if mean == "keep" else ~domain.null_modes
    mu = domain.eigenvalues[used]
    deviation = noise * math.sqrt(float((domain.weights**2).sum() / domain.weights.sum()))
    decay = np.exp(-mu * T)
    seen = Observation(mu, decay, domain.to_modes(values[0])[used], deviation)
    found = prior.posterior(seen)
    scale = 1.0
    if C is not None:
        expected = float((mu ** (norm.power or 0) * (found.mean**2 + found.variance)).sum())
        if expected == 0:
            raise ValueError(
                f"noise must be smaller, or C left out: with {noise:.3g} the estimate is 0, not of any energy"
            )
        scale = math.sqrt(require_positive("C", C) / expected)
    amplitude, root = np.zeros(domain.mode_shape), found.root * scale
    amplitude[used] = found.mean * scale
    amplitude_deviation = np.zeros(domain.mode_shape)
    amplitude_deviation[used] = np.sqrt(found.variance) * scale
    u = domain.to_values(amplitude)
    pointwise = _deviation(domain, used, root)
    half = float(ndtri((1 + level) / 2)) * pointwise
    names = layout.names
    space, modes = [names[d] for d in domain.dims], [names[d] for d in domain.mode_dims]
    variables: dict[str, Any] = {
        "u": (space, u, {"long_name": "estimate of the initial condition"}),
        "deviation": (space, pointwise, {"long_name": "posterior deviation"}),
        "lower": (space, u - half, {"long_name": f"lower end of the {100 * level:g} % band"}),
        "upper": (space, u + half, {"long_name": f"upper end of the {100 * level:g} % band"}),
        "amplitude": (modes, amplitude, {"long_name": "coefficients in the eigenfunctions"}),
        "amplitude_deviation": (modes, amplitude_deviation, {"long_name": "posterior deviation of the coefficients"}),
    }
    effective = float((decay**2 * found.variance).sum()) / deviation**2
    return xr.Dataset(variables, renamed(flow.coords.variables, layout)).assign_attrs(
        equation=norm.equation,
        domain=domain.description,
        preserve=norm.name,
        T=T,
        noise=noise,
        level=level,
        mean_note=MEANS[mean],
        prior=type(prior).__name__,
        **found.parameters,
        scale=scale,
        log10_amplification=float(mu.max() * T / math.log(10)),
        modes_told=effective,
    )


def _require_told(domain: Eigenbasis, T: float, noise: float, largest: float) -> None:
    """ValueError if float64 holds nothing of the lowest mode, or the noise is below the rounding of the data."""
    slowest = float(domain.eigenvalues[~domain.null_modes].min())
    if slowest * T > EXPONENT:
        raise ValueError(
            f"T must be at most {EXPONENT / slowest:.4g}, where the slowest mode has decayed by exp(-{EXPONENT:g}) and "
            f"float64 tells nothing of it; it is {T:.4g}, with exp(-{slowest * T:.4g})"
        )
    rounding = float(np.finfo(np.float64).eps) * largest
    if noise < rounding:
        raise ValueError(f"noise must be at least {rounding:.2g}, the rounding of u_T in float64; it is {noise:.2g}")


def _deviation(domain: Eigenbasis, used: npt.NDArray[np.bool_], root: Floats) -> Floats:
    """The standard deviation at each grid point of functions whose modes have the covariance root root^T."""
    columns = root.shape[-1]
    chunk = max(1, CHUNK // used.size)
    variance = np.zeros(domain.shape)
    for start in range(0, columns, chunk):
        stop = min(start + chunk, columns)
        c = np.zeros((stop - start, len(root)))
        if root.ndim == 1:
            c[np.arange(stop - start), np.arange(start, stop)] = root[start:stop]
        else:
            c[:] = root[:, start:stop].T
        modes = np.zeros((stop - start, *domain.mode_shape))
        modes[:, used] = c
        variance += (domain.to_values(modes) ** 2).sum(axis=0)
    return np.sqrt(variance)
