r"""Figure 9, beyond the paper: the flow (22) backwards, from a noisy state to the initial condition.

Section 7 of the paper asks "how such processes might be run backwards in seeking to recover or approximate the initial
conditions". Above, a step at time T with noise. Padé's polynomial in place of the exponential stays bounded and
gives all energy to the noise of the highest modes; the classical estimates are smooth; empirical Bayes adds what it
does not know, as a band. Below, a digit that the heat flow has blurred by four pixels, and the posterior deviation of
each pixel: the more a prior knows of digits, the more it recovers, and the more surely. The trained network of section
4 is among the best: `diffmath.ddpm.conditioned`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from matplotlib.figure import Figure

from diffmath.ddpm import conditioned, sample
from diffmath.pde import Box, RenormalizedFlow
from diffmath.pde.inverse import reconstruct
from diffmath.pde.priors import Backward, EmpiricalBayes, GaussianPrior, MixturePrior, SpectralCutoff, Tikhonov
from paper_figures.run import Run

Floats = npt.NDArray[np.float64]

CELLS, TIME, NOISE = 256, 2e-3, 1e-3  # the noise is relative to the root mean square of the state
BLUR, PIXEL_NOISE, DIGIT = 4, 0.01, 3
N_COMPONENTS, N_DRAWS, N_STEPS = 30, 9, 50
WIDEST = 0.8  # deviation of a pixel, shown white


class Backwards(NamedTuple):
    """A step, its noisy state and estimates of it; a digit, its blurred picture and estimates of it."""

    step: Floats
    state: Floats
    estimates: dict[str, xr.Dataset]
    digit: Floats
    blurred: Floats
    digits: dict[str, tuple[Floats, Floats]]  # the posterior's mean and its deviation
    x: Floats


def compute(run: Run) -> Backwards:
    """Both reconstructions; the network's is the mean of draws from its posterior."""
    rng = np.random.default_rng([run.figure, run.seed])
    step, state, estimates, x = _step(rng)
    digit, blurred, digits = _digit(run, rng)
    run.note = f"network: mean of {N_DRAWS} draws by {N_STEPS} steps of Algorithm 2 | {run.device}"
    return Backwards(step, state, estimates, digit, blurred, digits, x)


def _step(rng: np.random.Generator) -> tuple[Floats, Floats, dict[str, xr.Dataset], Floats]:
    box = Box(CELLS)
    flow = RenormalizedFlow(box)
    step = np.sign(0.4 - box.coordinates[0])
    step -= step.mean()
    u_T = flow.evolve(step, TIME)[0]
    noise = NOISE * float(np.sqrt((u_T**2).mean()))
    u_T = u_T + noise * rng.standard_normal(CELLS)
    C = float(flow.solve(step, 0.0).preserved[0])
    priors = {
        "1 step of Padé (0, 2)": Backward(1),
        "cut-off": SpectralCutoff(),
        "Tikhonov": Tikhonov(),
        "empirical Bayes": EmpiricalBayes(),
    }
    found = {name: reconstruct(flow, u_T, TIME, noise=noise, prior=prior, C=C) for name, prior in priors.items()}
    return step, u_T, found, box.coordinates[0]


def _digit(run: Run, rng: np.random.Generator) -> tuple[Floats, Floats, dict[str, tuple[Floats, Floats]]]:
    images, labels = run.mnist()
    data = images[:, 0].double().numpy()
    box = Box(data.shape[1:])
    chosen = int(rng.choice(np.flatnonzero(labels == DIGIT)))
    rest = np.delete(data, chosen, axis=0)  # so that no prior has seen the digit; the network has, once in twelve
    T = (BLUR / data.shape[1]) ** 2 / 2
    decay = np.exp(-box.eigenvalues * T)
    digit = data[chosen]
    blurred = box.apply(lambda mu: np.exp(-mu * T), digit) + PIXEL_NOISE * rng.standard_normal(digit.shape)
    modes = box.to_modes(rest).reshape(len(rest), -1)
    priors: dict[str, Any] = {
        "Tikhonov": Tikhonov(),
        "empirical Bayes": EmpiricalBayes(),
        "Gaussian": GaussianPrior.of(modes),
        "mixture": MixturePrior.of(modes, N_COMPONENTS, rng=run.seed),
    }
    flow = RenormalizedFlow(box)
    found = {
        name: reconstruct(flow, blurred, T, noise=PIXEL_NOISE, prior=prior, mean="keep")
        for name, prior in priors.items()
    }
    digits = {name: (ds.u.values, ds.deviation.values) for name, ds in found.items()}
    network, schedule, _ = run.checkpoint
    variance = (modes.var(axis=0) * box.shape[0] ** 2 + 1e-6).reshape(box.shape)
    posterior = conditioned(network, schedule, blurred, decay=decay, noise=PIXEL_NOISE, variance=variance)
    x_T = torch.randn(N_DRAWS, 1, *box.shape, generator=run.generator)
    draws = sample(
        posterior,
        schedule,
        x_T,
        n_samples=N_DRAWS,
        n_steps=min(N_STEPS, schedule.n_steps),
        generator=run.generator,
        device=run.device,
    )
    drawn = draws[:, 0].double().cpu().numpy()
    return digit, blurred, digits | {"network": (drawn.mean(axis=0), drawn.std(axis=0, ddof=1))}


def draw(found: Backwards) -> Figure:
    """The step above, in two panels; below the digits in a row, and their posterior deviations in another."""
    figure = Figure(figsize=(9.6, 6.9), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.3, 1])
    above, below = halves
    left, right = above.subplots(1, 2, sharey=True)
    bayes = found.estimates["empirical Bayes"]
    left.plot(found.x, found.step, color="black", lw=1.2, label="$u_0$")
    left.plot(
        found.x, found.state * np.abs(found.step).max() / np.abs(found.state).max(), ":", color="0.3", lw=1.5,
        label=f"state at $T = {TIME:g}$, scaled",
    )  # fmt: skip
    for (name, style), colour in zip(
        (("1 step of Padé (0, 2)", "-."), ("cut-off", "--"), ("Tikhonov", "-")), ("0.55", "tab:orange", "tab:blue"),
        strict=True,
    ):  # fmt: skip
        u = found.estimates[name].u
        factor = 1.0 if name.endswith("(0, 2)") else _scale(u.values, found.step)  # that has nothing to fit with
        left.plot(found.x, u * factor, style, color=colour, lw=1.3, label=name)
    left.set(xlabel="$x$", ylabel="$u$", title="without a prior, scaled to $u_0$", xlim=(0, 1))
    left.legend(fontsize=8)
    right.fill_between(found.x, bayes.lower, bayes.upper, color="0.85", label=f"{100 * bayes.level:g} % band")
    right.plot(found.x, found.step, color="black", lw=1.2, label="$u_0$")
    right.plot(found.x, bayes.u, color="tab:blue", lw=1.3, label="posterior mean")
    right.set(xlabel="$x$", title=f"empirical Bayes: $p = {bayes.p:.2f}$, scale by the expected $C$", xlim=(0, 1))
    right.legend(fontsize=8)
    upper, lower = below.subplots(2, 2 + len(found.digits))
    for ax in (*upper, *lower):
        ax.set_axis_off()
    means = {name: mean for name, (mean, _) in found.digits.items()}
    for ax, (name, picture) in zip(
        upper, ({"digit": found.digit, f"blurred by {BLUR} px": found.blurred} | means).items(), strict=True
    ):
        ax.imshow(picture, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        error = np.linalg.norm(picture - found.digit) / np.linalg.norm(found.digit)
        ax.set_title(name + (f"\nerror {error:.2f}" if name in found.digits else "\n"), fontsize=8.5)
    for ax, (_, deviation) in zip(lower[2:], found.digits.values(), strict=True):
        ax.imshow(deviation, cmap="gray", vmin=0, vmax=WIDEST, interpolation="nearest")
    text = f"posterior deviation\nof each pixel\n(white: {WIDEST} and more)"
    explained = lower[0].text(1.05, 0.5, text, transform=lower[0].transAxes, fontsize=8.5, ha="center", va="center")
    explained.set_in_layout(False)  # it lies over two columns
    figure.suptitle("Beyond the paper: the flow backwards, by what is known of its initial condition", fontsize=11)
    return figure


def _scale(u: Floats, target: Floats) -> float:
    """The factor by which u fits best."""
    return float(u @ target / (u @ u))
