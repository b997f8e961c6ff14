r"""Figure 7: the flow (22) on [0, 1] from a rough initial condition to the first eigenmode.

The paper shows the evolution of u. Ours adds why: the share p_k(t) of each mode in the preserved energy (21), and the
multiplier lambda(t), their mean of mu_k, falling to mu_1 = pi^2. The initial condition has 64 modes with random
amplitudes of equal expected energy; the initial condition of the paper's figure is not stated there.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure

from diffmath.pde import Box, RenormalizedFlow
from paper_figures.run import Run

N_MODES = 64
SNAPSHOTS = (0.0, 1e-4, 1e-3, 1e-2, 5e-2, 0.2, 0.5)


def compute(run: Run) -> xr.Dataset:
    """The flow at many times, evenly spaced in the logarithm, the snapshots' among them."""
    domain = Box(shape=(512,), lengths=(1.0,))
    rng = np.random.default_rng([run.figure, run.seed])
    modes = np.zeros(domain.shape)
    modes[1 : N_MODES + 1] = rng.standard_normal(N_MODES) / np.arange(1, N_MODES + 1)
    times = np.union1d(np.geomspace(1e-6, 1.0, 241), SNAPSHOTS)
    run.note = "exact spectral solution | 512 cells | cpu"
    return RenormalizedFlow(domain).solve(domain.to_grid(modes), times)


def draw(flow: xr.Dataset) -> Figure:
    """Left the solution in time, with a closer look at its start; right the energy fractions above the multiplier."""
    figure = Figure(figsize=(9.6, 5.2), layout="constrained")
    axes = figure.subplot_mosaic([["u", "p"], ["u", "lambda"]], width_ratios=[1.15, 1])
    grey_safe = colormaps["viridis"]

    ax = axes["u"]
    for i, t in enumerate(SNAPSHOTS):
        u = flow.u.sel(time=t)
        ax.plot(
            u.x, u, color=grey_safe(0.92 * i / (len(SNAPSHOTS) - 1)), lw=0.8 + 0.3 * i, label=f"$t = {t:g}$", zorder=-i
        )
    energy, first = float(flow.energy[0]), float(flow.u.isel(time=-1, x=0))
    w_1 = math.copysign(math.sqrt(2 * energy) / math.pi, first) * np.cos(math.pi * flow.x)
    ax.plot(flow.x, w_1, "k:", lw=1.2, label=r"$A_1 w_1(x)$")
    ax.set(
        xlabel="$x$ (units of $L$)",
        ylabel="$u(x, t)$",
        xlim=(0, 1),
        title=r"the flow (22) from a rough $u_0$ to $A_1 w_1$",
    )
    ax.legend(fontsize=8)
    closer = ax.inset_axes((0.56, 0.75, 0.42, 0.23))  # the roughness, which the first eigenmode dwarfs
    closer.plot(flow.x, flow.u.sel(time=0), color=grey_safe(0.0), lw=0.8)
    closer.set(xlim=(0, 1), xticks=[])
    closer.annotate("$u_0$", (0.03, 0.87), xycoords="axes fraction", fontsize=9, va="center")
    closer.tick_params(labelsize=7)

    after = flow.isel(time=slice(1, None))
    ax = axes["p"]
    shown = [1, 2, 3, 5, 10, 20]
    for i, k in enumerate(shown):
        p = after.energy_fraction.sel(k_x=k)
        ax.semilogx(after.time, p, color=grey_safe(0.92 * i / (len(shown) - 1)), label=f"$k = {k}$")
    ax.set(ylabel="energy fraction $p_k(t)$", ylim=(0, 1.03), title="share of mode $k$ in (21)")
    ax.tick_params(labelbottom=False)  # its times are those below
    ax.legend(fontsize=8, ncols=2)

    ax = axes["lambda"]
    ax.loglog(after.time, after.multiplier, color=grey_safe(0.0))
    ax.axhline(math.pi**2, color="k", ls=":", lw=1)
    ax.annotate(r"$\mu_1 = \pi^2$", (1.2e-6, math.pi**2 * 1.15), fontsize=9)
    ax.set(xlabel="time $t$ (units of $L^2$)", ylabel=r"multiplier $\lambda(t)$ (units of $L^{-2}$)")

    first_state, last = flow.isel(time=0), flow.isel(time=-1)
    drift = float(abs(flow.energy / energy - 1).max())
    figure.suptitle(
        rf"$C = {energy:.4g}$ constant to a relative {drift:.0e};  "
        rf"$\lambda(0) = {float(first_state.multiplier):.0f}$,  "
        rf"$\lambda({float(last.time):g}) = {float(last.multiplier):.6f}$,  $\pi^2 = {math.pi**2:.6f}$;  "
        rf"$|A_1| = \sqrt{{C}}/\pi = {math.sqrt(energy) / math.pi:.4g}$",
        fontsize=10,
    )
    return figure
