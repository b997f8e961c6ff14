r"""Eigenmode stability of the steady states, eq. (23), three ways.

Theory: a small perturbation of the steady state :math:`A_k w_k` by mode j grows at the rate :math:`\mu_k - \mu_j`.
Linear algebra: these are the eigenvalues of the linearisation of the right-hand side of (22) there,

.. math:: J v = \Delta v + \lambda v + \frac{2}{C}\, u \int_\Omega \Delta u\, \Delta v\, dx ,

found here from the right-hand side itself, without this formula. Its non-local term of rank one changes one of them:
along :math:`w_k` itself the eigenvalue is :math:`2 \mu_k` rather than 0, since the constraint (21), with the number C
put in, repels. Measurement: integrate the perturbed state with each solver, and fit the perturbation's growth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import xarray as xr

from diffmath._arguments import require_count, require_number
from diffmath.domains.eigenbasis import Floats, Mode
from diffmath.pde.norms import Norm, Preserve
from diffmath.pde.schemes import SCHEMES, laplacian
from diffmath.pde.stepping import INTEGRATORS, has_sparse_jacobian, integrate

__all__ = ["SOLVERS", "check_stability", "jacobian"]

SOLVERS = ("spectral", *INTEGRATORS)
MOST_CELLS = 2048
STEP = {1: 1e-3, 2: 0.04, 4: 0.3}  # dt (m_j + m_k) at which a scheme of that order is wrong by about 5e-4
N_TIMES = 9
NEUTRAL = 1e-6  # of mu_k
AGREES = 1e-3  # of a rate


class Flow(Protocol):
    """What is needed of a flow."""

    domain: Any

    def __init__(self, domain: Any, preserve: Preserve) -> None: ...

    preserve: Preserve
    norm: Norm

    def growth_rate(self, k: Mode, j: Mode) -> float:
        """Eq. (23)."""

    def steady_state(self, k: Mode, C: float = 1.0) -> Floats:
        """The steady state along a mode."""

    def solve_modes(self, c: Any, times: Any, *, mean: Any = "project") -> xr.Dataset:
        """The solution from amplitudes."""


def jacobian(flow: Flow, u: Floats, mu: Floats) -> Floats:
    r"""The linearisation of the right-hand side of (22) at a state; its eigenvalues are the rates of (23).

    Column by column as the derivative of :math:`F(u) = \Delta u + u\, N'(\Delta u) / C`, by a step into the complex
    plane: exact to rounding, as F is a polynomial and nothing is subtracted. On a truncated basis, the columns are of
    its modes, and the Laplacian is that of the matrices.

    Parameters
    ----------
    flow : RenormalizedFlow
        Preserving a sum over modes.
    u : array of float, the domain's shape
    mu : array of float, the domain's shape
        The eigenvalues of the operator in the place of the Laplacian: `Box.eigenvalues` or `Box.discrete_eigenvalues`.

    Returns
    -------
    numpy.ndarray, shape (n, n), float64
        For the n grid values, or for the n modes of a truncated basis.

    Raises
    ------
    ValueError
        If the flow preserves no sum over modes, or the domain has more than 2048 modes.
    """
    domain, s = flow.domain, flow.norm.power
    n = math.prod(domain.mode_shape)
    if s is None:
        raise ValueError(
            "stability is checked for a flow that preserves a sum over modes, such as "
            f'preserve = "gradient", "value" or "laplacian"; it preserves "{flow.norm.name}"'
        )
    if n > MOST_CELLS:
        raise ValueError(f"stability is checked by dense matrices, on at most {MOST_CELLS} modes; the domain has {n}")
    h = 1e-30 * np.abs(u).max()
    directions = np.eye(n).reshape(n, *domain.mode_shape)
    bumped = u + 1j * h * (directions if domain.is_complete else domain.to_values(directions))
    c = domain.to_modes(bumped)
    C = float((mu**s * domain.to_modes(u) ** 2).sum())
    multiplier = (mu ** (s + 1) * c**2).sum(axis=tuple(range(-len(domain.mode_shape), 0)), keepdims=True) / C
    if domain.is_complete:
        right_side = domain.to_values(-mu * c) + multiplier * bumped
        return np.asarray(right_side.imag / h).reshape(n, n).T
    change = laplacian(domain, bumped.imag / h) + (multiplier * bumped).imag / h
    return np.asarray(domain.to_modes(change)).T


def check_stability(
    flow: Flow,
    k: Mode,
    n_modes: int | None = None,
    *,
    solvers: Sequence[str] | None = None,
    perturbation: float = 1e-6,
) -> xr.Dataset:
    r"""Eq. (23) checked: theory, eigenvalues of the linearisation, and measured growth.

    Parameters
    ----------
    flow : RenormalizedFlow
        Preserving the gradient, the value or the Laplacian, on a domain of at most 2048 modes: of a domain of matrices
        with more unknowns, the modes that it has.
    k : int, or tuple of int in several dimensions
        The mode number of the steady state.
    n_modes : int, optional
        The number of perturbing modes j, those of the lowest eigenvalues, the mean first; those up to twice k (in one
        dimension; in several, the 16 lowest) unless given.
    solvers : sequence of str, optional
        Among "spectral" and the integrators of `diffmath.pde.stepping`. All unless given, but for "solve_ivp" where
        the stiffness is not sparse, and for schemes with a bound on dt on a truncated basis: they take as many steps as
        the highest mode asks for.
    perturbation : float
        The amplitude of the perturbation relative to the steady state's, in [1e-10, 1e-3]: below, it is lost in the
        rounding of the state. The rates are those of the difference of two runs, with this amplitude and with its
        negative.

    Returns
    -------
    xarray.Dataset
        Over the perturbing modes (``mode``) and the solvers (``solver``): ``theory`` and ``theory_discrete`` (mode),
        :math:`\mu_k - \mu_j` for the Laplacian and the difference Laplacian; ``jacobian`` and ``jacobian_discrete``
        (mode), eigenvalues of the linearised equation; ``measured`` (solver, mode), the fitted rates, and ``expected``
        (solver, mode), the theory of each solver's own Laplacian; ``verdict`` (mode): "unstable", "stable" or
        "neutral" if theory, eigenvalues and measurements have one sign and the measured rates are within 1e-3 of those
        expected, else "disagreement". At j = k it is "fixed by the constraint", and there is no rate to measure (NaN):
        such a perturbation leaves the constraint, which the solvers hold.

    Raises
    ------
    ValueError
        If k is the constant mode, an argument is out of range, or the flow preserves no sum over modes.
    TypeError
        If k is no mode number.
    """
    if not flow.domain.is_complete and flow.domain.discrete.is_complete:
        flow = type(flow)(flow.domain.discrete, flow.preserve)
    domain = flow.domain
    numbers = domain.mode(k)
    flow.growth_rate(k, k)  # refuses the constant mode
    if not 1e-10 <= (perturbation := require_number("perturbation", perturbation)) <= 1e-3:
        raise ValueError(f"perturbation must lie in [1e-10, 1e-3]; it is {perturbation}")
    if solvers is None:
        solvers = SOLVERS if has_sparse_jacobian(domain.discrete) else SOLVERS[:-1]
        if not domain.is_complete:
            solvers = [s for s in solvers if s not in SCHEMES or math.isinf(SCHEMES[s].bound(1.0, 2.0))]
    if isinstance(solvers, str):
        raise TypeError(f"solvers must be a sequence of names; it is {solvers!r}")
    if unknown := [s for s in solvers if s not in SOLVERS]:
        raise ValueError(f"solvers must be among {', '.join(SOLVERS)}; {unknown[0]!r} is not")
    if not solvers:
        raise ValueError("solvers must name at least one")
    if n_modes is None:
        n_modes = 2 * numbers[0] + 1 if len(domain.mode_shape) == 1 else 16
    n_modes = min(require_count("n_modes", n_modes), math.prod(domain.mode_shape))

    order = np.argsort(domain.eigenvalues, axis=None, kind="stable")[:n_modes]
    modes = [tuple(int(i) for i in np.unravel_index(flat, domain.mode_shape)) for flat in order]
    rates = {name: _theory_and_jacobian(flow, numbers, mu) for name, mu in _operators(flow).items()}
    theory = {name: pair[0].ravel()[order] for name, pair in rates.items()}
    expected = np.stack([theory["spectral" if solver == "spectral" else "discrete"] for solver in solvers])
    measured = np.array([[_measure(flow, numbers, j, solver, perturbation) for j in modes] for solver in solvers])
    seen = np.array([theory["spectral"], *(pair[1].ravel()[order] for pair in rates.values()), *measured])
    signs = np.sign(np.where(np.abs(seen) < NEUTRAL * domain.eigenvalue(numbers), 0, seen))
    agrees: Any = (np.abs(measured - expected) <= AGREES * np.abs(expected) + NEUTRAL * domain.eigenvalue(numbers)).all(
        axis=0
    )
    verdict = [
        "fixed by the constraint"
        if j == numbers
        else "disagreement"
        if (column != column[0]).any() or not same
        else "unstable"
        if column[0] > 0
        else "neutral"
        if column[0] == 0
        else "stable"
        for j, column, same in zip(modes, signs.T, agrees, strict=True)
    ]
    per_time = {"units": "1 / length^2"}
    return xr.Dataset(
        {
            "theory": ("mode", theory["spectral"], {"long_name": "mu_k - mu_j", **per_time}),
            "jacobian": ("mode", rates["spectral"][1].ravel()[order], per_time),
            "theory_discrete": ("mode", theory["discrete"], per_time),
            "jacobian_discrete": ("mode", rates["discrete"][1].ravel()[order], per_time),
            "expected": (("solver", "mode"), expected, per_time),
            "measured": (("solver", "mode"), measured, per_time),
            "verdict": ("mode", verdict),
        },
        {
            "solver": list(solvers),
            **{f"j{a[1:]}": ("mode", [j[d] for j in modes]) for d, a in enumerate(domain.mode_dims)},
        },
        {"equation": "Higham, Higham and Grindrod, eq. (23)", "k": str(k), "perturbation": perturbation},
    )


def _operators(flow: Flow) -> dict[str, Floats]:
    return {"spectral": flow.domain.eigenvalues, "discrete": flow.domain.discrete.eigenvalues}


def _theory_and_jacobian(flow: Flow, k: tuple[int, ...], mu: Floats) -> tuple[Floats, Floats]:
    """The rates of all modes, by eq. (23) and as eigenvalues of the Jacobian, in the shape of the modes.

    The eigenvalues are sorted as the theory's are, so that multiple ones need no eigenvectors; that of w_k is 2 mu_k.
    """
    theory = mu[k] - mu
    sorted_as = theory.copy()
    sorted_as[k] = 2 * mu[k]
    values = np.sort(np.linalg.eigvals(jacobian(flow, flow.steady_state(k), mu)).real)
    result = np.empty(theory.size)
    result[np.argsort(sorted_as, axis=None, kind="stable")] = values
    return theory, result.reshape(theory.shape)


def _measure(flow: Flow, k: tuple[int, ...], j: tuple[int, ...], solver: str, size: float) -> float:
    """The rate at which a perturbation by mode j grows, from the slope of its logarithm."""
    if j == k:
        return math.nan
    domain = flow.domain
    mu = _operators(flow)["spectral" if solver == "spectral" else "discrete"]
    # As long as the perturbation takes to change e-fold, but not so long that rounding in lower modes grows.
    times = np.linspace(0, min(1 / max(abs(mu[k] - mu[j]), 1e-3 * mu[k]), 10 / mu[k]), N_TIMES)
    c = np.zeros((2, *domain.mode_shape))
    for sign, of_one in zip((1, -1), c, strict=True):
        of_one[k], of_one[j] = 1.0, sign * size
    if solver == "spectral":
        b = flow.solve_modes(c, times, mean="keep").amplitude.values
    else:
        u = domain.to_values(c)
        frequency = float(mu[j] + mu[k])
        options: dict[str, Any] = {}
        if solver == "solve_ivp":
            options = {"rtol": min(max(1e-4 * size, 1e-13), 1e-10), "atol": 1e-6 * size, "dt": STEP[2] / frequency}
        elif solver in SCHEMES:
            scheme = SCHEMES[solver]
            options["dt"] = min(STEP[scheme.order] / frequency, 0.5 * scheme.bound_on(domain.discrete, u))
        run = integrate(domain, u, times, preserve=flow.norm, integrator=solver, mean="keep", **options)
        b = domain.to_modes(run.states)
    # Half the difference of two runs, with perturbations of either sign: what does not come of them cancels. It is
    # relative to mode k, whose amplitude the constraint changes by the square of the perturbation.
    of_j, of_k = (np.moveaxis(b, (0, 1), (-2, -1))[index] for index in (j, k))
    growth = (of_j[0] - of_j[1]) / (of_k[0] + of_k[1])
    slope = np.polynomial.Polynomial.fit(times, np.log(np.abs(growth)), 1).convert().coef[1]
    return float(slope)
