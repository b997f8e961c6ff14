r"""The renormalised flow under noise that is white in time: what section 7 of the paper asks first.

In the coordinates :math:`y_k = \mu_k^{s/2} c_k`, with s = 1 for the paper's norm, the flow moves on the sphere
:math:`|y|^2 = C`. Noise of variance :math:`q_k` in mode k is noise of variance :math:`D_k = \mu_k^s q_k` in
:math:`y_k`, and only its part along the sphere is left by what keeps C. With :math:`P = I - y y^T / C` and
Stratonovich's product,

.. math:: \mathrm{d}y_k = -(m_k - \bar m)\, y_k\, \mathrm{d}t + \sum_j P_{kj} \sqrt{D_j} \circ \mathrm{d}W_j , \qquad
          \bar m = \tfrac1C \textstyle\sum_k m_k y_k^2 . \tag{26}

Three readings of "noise on a flow that keeps C" differ in the rates :math:`m_k` alone:

- "stratonovich": :math:`m_k = \mu_k`, the limit of noise that is smooth in time.
- "rescale": :math:`m_k = \mu_k + D_k / (2C)`. Each step of the heat equation with noise is scaled back to C.
- "force": :math:`m_k = \mu_k - D_k / (2C)`. A multiplier keeps C, :math:`\mathrm{d}u = (\Delta u)\, \mathrm{d}t + u\,
  \mathrm{d}\Lambda + \mathrm{d}W`, with Itô's product.

Where all :math:`D_k` are equal the readings are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from diffmath._arguments import as_rng, real_array, require_count, require_instance, require_positive
from diffmath.domains.eigenbasis import Floats
from diffmath.pde.dataset import Layout, Solution, read_initial, read_times, to_dataset
from diffmath.pde.flow import RenormalizedFlow

__all__ = ["READINGS", "ForcedFlow", "Reading", "step"]

PUSH = 2.0  # the largest deviation of a push: from a rapidity of 18 on a boost back is all rounding

Reading = Literal["rescale", "stratonovich", "force"]
READINGS: dict[Reading, int] = {"rescale": 1, "stratonovich": 0, "force": -1}
"""Each reading, and the sign of :math:`D_k / (2C)` in its rates."""


def step(y: Floats, rates: Floats, dt: float, pushes: Floats, descending: npt.NDArray[np.bool_]) -> Floats:
    r"""One step of eq. (26) on unit spheres, of weak order 2.

    It is Ninomiya and Victoir's: half a step of the flow, exact; the noise along one axis after another, each of which
    is an exact flow too, in ascending or descending order by the toss of a coin; half a step of the flow. The rates
    are replaced by :math:`\operatorname{asinh}(m\, \mathrm{d}t) / \mathrm{d}t`, which changes nothing to second order
    and gives fast modes, :math:`m\, \mathrm{d}t \gg 1`, the variance :math:`D / (2m)` that they should have.

    The noise's flow along axis j, :math:`y' = a\, (e_j - y\, y_j)`, is a Lorentz boost of :math:`(r, r y_j)` with the
    rapidity a, whatever r > 0 is; the other :math:`r y_i` stay.

    Parameters
    ----------
    y : array of float64, shape (n, B)
        B points on the unit sphere.
    rates : array of float64, shape (n,)
        The rates m_k, less the least of them.
    dt : float
    pushes : array of float64, shape (n, B)
        The rapidities, Gaussian numbers of variance D_k dt / C.
    descending : array of bool, shape (B,)
        The tosses.

    Returns
    -------
    numpy.ndarray, float64, shape (n, B)

    Examples
    --------
    >>> y = step(np.array([[1.0], [0.0]]), np.zeros(2), 0.1, np.array([[0.0], [0.5]]), np.array([False]))
    >>> y.ravel().round(3).tolist(), [round(1 / math.cosh(0.5), 3), round(math.tanh(0.5), 3)]
    ([0.887, 0.462], [0.887, 0.462])
    """
    half = np.exp(-np.arcsinh(rates * dt) / 2)[:, None]
    y = _normalised(y * half)
    growth, pull = np.cosh(pushes), np.sinh(pushes)
    for part, order in ((~descending, 1), (descending, -1)):
        z, size = y[:, part], np.ones(int(part.sum()))
        for j in range(len(y))[::order]:
            c, s = growth[j, part], pull[j, part]
            z[j], size = z[j] * c + size * s, size * c + z[j] * s
            if j % 64 == 63:  # so that the size of many boosts does not overflow
                z, size = z / size, np.ones_like(size)
        y[:, part] = z
    return _normalised(y * half)


def _normalised(y: Floats) -> Floats:
    y /= np.sqrt(np.einsum("kb,kb->b", y, y))
    return y


class ForcedFlow:
    r"""The renormalised flow under noise: see the module for the equation and its three readings.

    Parameters
    ----------
    flow : RenormalizedFlow
        A flow on any domain, whose preserved quantity is a sum over modes, such as the paper's.
    q : float, array of ``mode_shape``, or callable
        The variance per unit of time of the noise in each mode; or a function of the eigenvalues. That of modes of
        eigenvalue 0 does not count: the mean is projected out.
    reading : {"rescale", "stratonovich", "force"}

    Notes
    -----
    That :math:`\sum_k \mu_k q_k` is finite is sufficient for a limit as the number of modes grows, not necessary: with
    q ~ 1 / mu in one dimension mode 1 keeps a share of the energy, while in two dimensions its share tends to 0, as
    ``python experiments/forced.py`` prints.

    Examples
    --------
    >>> from diffmath.pde import Box, RenormalizedFlow
    >>> forced = ForcedFlow(RenormalizedFlow(Box(16)), lambda mu: 0.1 / mu)
    >>> ds = forced.solve(forced.flow.domain.eigenfunction(3), [0.0, 0.1], dt=1e-3, n_paths=4, rng=0)
    >>> ds.u.shape, bool(np.allclose(ds.energy, 9 * np.pi**2, rtol=1e-14, atol=0))
    ((4, 2, 16), True)
    """

    def __init__(
        self,
        flow: RenormalizedFlow,
        q: float | npt.ArrayLike | Callable[[Floats], npt.ArrayLike],
        reading: Reading = "rescale",
    ) -> None:
        require_instance("flow", flow, RenormalizedFlow)
        if reading not in list(READINGS):
            raise ValueError(f"reading must be one of {', '.join(READINGS)}; it is {reading!r}")
        if flow.norm.power is None:
            raise ValueError(f'flow must preserve a sum over modes; it preserves "{flow.norm.name}"')
        domain = flow.domain
        self.flow, self.reading = flow, reading
        self._used = ~domain.null_modes
        self.eigenvalues: Floats = domain.eigenvalues[self._used]
        given = real_array(q(domain.eigenvalues[self._used]) if callable(q) else q, "q")
        shape = self.eigenvalues.shape if callable(q) else domain.mode_shape
        if given.ndim and given.shape != shape:
            raise ValueError(f"q must be of the shape {shape} of modes; its shape is {given.shape}")
        if given.ndim and not callable(q):
            given = given[self._used]
        if not ((given >= 0) & np.isfinite(given)).all():
            raise ValueError("q must be finite and not negative")
        self.q: Floats = np.broadcast_to(given, self.eigenvalues.shape).astype(np.float64)
        self._weight: Floats = self.eigenvalues**flow.norm.power
        self.D: Floats = self._weight * self.q

    def rates(self, C: float) -> Floats:
        """The rates m_k of the reading, for the preserved quantity C.

        Parameters
        ----------
        C : float

        Returns
        -------
        numpy.ndarray, float64, shape (n,)
            One for each mode whose eigenvalue is not 0, in the order of ``eigenvalues``.

        Examples
        --------
        >>> from diffmath.pde import Box, RenormalizedFlow
        >>> ForcedFlow(RenormalizedFlow(Box(4)), lambda mu: 0.1 / mu).rates(1.0).shape
        (3,)
        """
        return self.eigenvalues + READINGS[self.reading] * self.D / (2 * require_positive("C", C))

    def solve(
        self,
        u_0: npt.ArrayLike | xr.DataArray,
        times: npt.ArrayLike,
        *,
        dt: float,
        n_paths: int = 1,
        rng: np.random.Generator | int | None = None,
        C: float | None = None,
        progress: bool | None = None,
    ) -> xr.Dataset:
        r"""Simulate paths, by steps of weak order 2 that keep C to rounding.

        The cost is about 0.1 microseconds for a step of one mode of one path, once there are hundreds of paths. The
        result holds every mode of every path at every time; for long paths see `chunks`.

        Parameters
        ----------
        u_0 : array or DataArray of float, the domain's shape
            The initial condition of all paths.
        times : float or array of float, shape (n,)
            Times that are not negative, in ascending order.
        dt : float
            The largest step, at most 4 C / max D_k; between two times the steps are equal.
        n_paths : int
        rng : numpy.random.Generator or int, optional
        C : float, optional
            The preserved quantity, if it is not to be that of u_0.
        progress : bool, optional
            Whether to show a progress bar; on terminals unless given.

        Returns
        -------
        xarray.Dataset
            The variables of `diffmath.pde.RenormalizedFlow.solve_modes`, with ``path`` as the first axis. The
            ``multiplier`` is the mean of the eigenvalues under the shares, without what the noise adds to it.
        """
        t = read_times(times)
        options: Any = {"dt": dt, "n_paths": n_paths, "rng": rng, "C": C, "progress": progress}
        return next(self.chunks(u_0, t, len(t), **options))

    def chunks(
        self,
        u_0: npt.ArrayLike | xr.DataArray,
        times: npt.ArrayLike,
        size: int,
        *,
        dt: float,
        n_paths: int = 1,
        rng: np.random.Generator | int | None = None,
        C: float | None = None,
        progress: bool | None = None,
    ) -> Iterator[xr.Dataset]:
        """Simulate long paths in parts, of which only one is in memory.

        The parts together are what `solve` returns: joined by `xarray.concat` along ``time`` they are identical.

        Parameters
        ----------
        u_0, times, dt, n_paths, rng, C, progress
            Those of `solve`.
        size : int
            The number of times in each part; the last may have fewer.

        Yields
        ------
        xarray.Dataset

        Examples
        --------
        >>> from diffmath.pde import Box, RenormalizedFlow
        >>> forced = ForcedFlow(RenormalizedFlow(Box(16)), lambda mu: 0.1 / mu)
        >>> parts = forced.chunks(forced.flow.domain.eigenfunction(3), np.linspace(0, 1, 101), 25, dt=0.01, rng=0)
        >>> share = [float(part.energy_fraction.sel(k_x=1).mean()) for part in parts]
        >>> len(share), share[0] < share[-1]
        (5, True)
        """
        domain = self.flow.domain
        values, layout = read_initial(domain, u_0)
        if layout.shape:
            raise ValueError(f"u_0 must be one state, of the domain's shape {domain.shape}; it has {len(values)}")
        t, dt = read_times(times), require_positive("dt", dt)
        if not (np.isfinite(t).all() and t[0] >= 0 and (np.diff(t) >= 0).all()):
            raise ValueError(f"times must be finite, not negative and in ascending order; they are {t.tolist()}")
        n_paths, size, generator = require_count("n_paths", n_paths), require_count("size", size), as_rng(rng)
        start = domain.to_modes(values[0])[self._used] * np.sqrt(self._weight)
        length = float(np.linalg.norm(start))
        C = length**2 if C is None else require_positive("C", C)
        strongest = float(self.D.max(initial=0.0)) / C
        if strongest * min(dt, float(np.diff(t, prepend=0.0).max())) > PUSH**2:
            largest = PUSH**2 / strongest
            raise ValueError(
                f"dt must be at most {largest:.4g} for noise with max D / C = {strongest:.4g}; it is {dt:.4g}"
            )
        y = np.repeat(start[:, None] / length, n_paths, axis=1)
        layout = layout._replace(dims=("path",), shape=(n_paths,))
        return self._parts(y, t, size, C, dt, generator, layout, progress)

    def _parts(
        self,
        y: Floats,
        t: Floats,
        size: int,
        C: float,
        dt: float,
        generator: np.random.Generator,
        layout: Layout,
        progress: bool | None,
    ) -> Iterator[xr.Dataset]:
        """The paths from y, by parts of so many times."""
        rates = self.rates(C)
        rates -= rates.min()
        spans = np.diff(t, prepend=0.0)
        counts = np.ceil(spans / dt * (1 - 1e-12)).astype(int)
        with tqdm(total=int(counts.sum()), unit="step", disable=None if progress is None else not progress) as bar:
            for first in range(0, len(t), size):
                part = slice(first, first + size)
                states = np.empty((y.shape[1], len(t[part]), len(y)))
                for i, (n, span) in enumerate(zip(counts[part].tolist(), spans[part].tolist(), strict=True)):
                    deviation = np.sqrt(self.D * span / (max(n, 1) * C))[:, None]
                    for _ in range(n):
                        pushes = generator.standard_normal(y.shape) * deviation
                        descending = generator.random(y.shape[1:]) < 0.5
                        y = step(y, rates, span / n, pushes, descending)
                        bar.update()
                    states[:, i] = y.T
                yield self._dataset(t[part], states, C, dt, layout)

    def _dataset(self, t: Floats, states: Floats, C: float, dt: float, layout: Layout) -> xr.Dataset:
        """Points on the unit sphere, of shape (paths, times, modes), as a solution."""
        domain, y = self.flow.domain, states * math.sqrt(C)
        modes, shares = (np.zeros((*states.shape[:2], *domain.mode_shape)) for _ in range(2))
        modes[..., self._used] = y / np.sqrt(self._weight)
        shares[..., self._used] = states**2
        multiplier = states**2 @ self.eigenvalues
        energy = (y**2 / self._weight * self.eigenvalues).sum(axis=-1)
        preserved = (y**2).sum(axis=-1)
        solution = Solution(domain.to_values(modes), shares, multiplier, energy, preserved, modes)
        attributes = {"method": "Ninomiya-Victoir", "mean": "project", "reading": self.reading, "C": C, "dt": dt}
        return to_dataset(self.flow, t, solution, layout, attributes)
