r"""Figure 11, beyond the paper: digits from the first eigenmode, by the renormalised heat flow run backwards.

Section 7 of the paper hopes "to run the processes in reverse in order to generate plausible content from randomness".
Forwards, the flow (22) carries each digit to a gradient of its own energy C, exactly. Backwards, gradients drawn from
the law of three numbers (mean, C, angle) become digits; then many walks from one gradient, the same gradient with C
from small to large, and how often a digit that has flowed until t comes back as the same digit. `diffmath.heat` has the
process, `diffmath.ddpm.HeatDenoiser` the network.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from diffmath.ddpm import HeatDenoiser, classify, load_classifier, sample
from diffmath.heat import HeatProcess
from paper_figures.run import Run, show

Floats = npt.NDArray[np.float64]

N_STEPS, ETA, SURE = 60, 4.0, 0.9
N_SAMPLES, N_ROWS, N_KEPT = 100, 8, 20
DIGITS = (0, 1, 3, 4, 7, 8)
FLOW_TIMES = (0.0, 0.0005, 0.003, 0.01, 0.03, 0.08, 0.81)
KEPT_TIMES = (7e-4, 0.0027, 0.0105, 0.029, 0.08, 0.22, 0.81)


class Digits(NamedTuple):
    """Digits on their way forwards and backwards, samples, two studies of the start, and how many digits are kept."""

    forward: Tensor
    multipliers: Floats
    C: Floats
    backward: Tensor
    samples: Tensor
    one_start: Tensor
    energies: Tensor
    kept: Floats
    sure: float


def compute(run: Run) -> Digits:
    """Walk back from drawn and from chosen starts, and from digits that have flowed for a while."""
    network, process, metadata = run.heat
    rng = np.random.default_rng([run.figure, run.seed])
    ks = [int(np.abs(process.times - t).argmin()) for t in FLOW_TIMES]
    digits = torch.cat([run.one_digit(digit) for digit in DIGITS])
    forward = np.stack([process.flow(digits.double().numpy(), k) for k in ks])
    mu = process.domain.eigenvalues
    shares = mu * process.to_modes(forward)[:, :, 0] ** 2
    multipliers = (mu * shares).sum((-2, -1)) / shares.sum((-2, -1))
    steps = process.subsequence(min(N_STEPS, process.n_steps))
    seen = [int(steps[np.abs(process.times[steps] - t).argmin()]) for t in reversed(FLOW_TIMES)]

    def walk(states: Tensor, seen: list[int] | None = None) -> tuple[Tensor, Tensor]:
        return sample(
            network,
            process,
            states.float(),
            n_steps=len(steps) - 1,
            eta=ETA,
            trajectory=seen or [0],
            generator=run.generator,
            device=run.device,
            progress=True,
        )

    images, states = walk(torch.from_numpy(process.start(N_SAMPLES, rng)), seen)
    triple = process.law.sample(1, rng, width=0.0)
    one = walk(torch.from_numpy(process.start(N_ROWS, rng, np.repeat(triple, N_ROWS, axis=0))))[0]
    ladder = np.repeat(triple, N_ROWS, axis=0)
    ladder[:, 1] = process.law.centre[1] + process.law.scale[1] * np.linspace(-2, 2, N_ROWS)
    energies = walk(torch.from_numpy(process.start(N_ROWS, rng, ladder)))[0]
    kept = _kept(run, network, process, steps)
    confidence = classify(load_classifier(device=run.device), images).confidence
    run.note = f"{metadata['images_seen']:,} images seen | {len(steps) - 1} steps, eta = {ETA:g} | {run.device}"
    return Digits(
        torch.from_numpy(forward),
        multipliers,
        process.energy(forward[0])[:, 0],
        states[:, :N_ROWS, :1].cpu(),
        images.cpu(),
        one.cpu(),
        energies.cpu(),
        kept,
        float((confidence > SURE).double().mean()),
    )


def _kept(run: Run, network: HeatDenoiser, process: HeatProcess, steps: npt.NDArray[np.int64]) -> Floats:
    """For each time the share of digits that are the same digit after a walk back from their own flow until then."""
    images, labels = run.mnist()
    chosen = torch.randint(len(images), (N_KEPT,), generator=run.generator)
    classifier, shares = load_classifier(device=run.device), []
    for t in KEPT_TIMES:
        k = int(steps[np.abs(process.times[steps] - t).argmin()])
        eps = torch.randn((N_KEPT, *images.shape[1:]), generator=run.generator)
        back = sample(
            network,
            process,
            process.add_noise(images[chosen], eps, k),
            times=steps[steps <= k].tolist(),
            eta=ETA,
            generator=run.generator,
            device=run.device,
        )
        digits = classify(classifier, back).digit.cpu().numpy()
        shares.append(float((digits == labels[chosen.numpy()]).mean()))
    return np.array(shares)


def draw(found: Digits) -> Figure:
    """Forwards and backwards above; samples, one start, a ladder of energies and the digits that are kept below."""
    figure = Figure(figsize=(9.6, 10.4), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=[7, 5.4, 3.2])
    forwards, backwards = (figure.add_subplot(grid[0, i]) for i in (0, 1))
    samples, right = figure.add_subplot(grid[1:, 0]), grid[1, 1].subgridspec(2, 1)
    one, ladder = (figure.add_subplot(right[i]) for i in (0, 1))
    kept = figure.add_subplot(grid[2, 1])
    n = found.forward.shape[1]
    shown = found.forward - found.forward.mean((-2, -1), keepdim=True)
    show(forwards, (shown / shown.abs().amax((-2, -1), keepdim=True)).flatten(0, 1), n, "forwards: (22), downwards")
    _rows(forwards, [f"$t = {t:g}$" for t in FLOW_TIMES], len(FLOW_TIMES))
    for i, (C, rates) in enumerate(zip(found.C, found.multipliers.T, strict=True)):
        text = f"$C = {C:.0f}$\n$\\lambda = {rates[0]:.0f}$,\nthen {rates[-1]:.1f}"
        forwards.text((i + 0.5) / n, -0.01, text, transform=forwards.transAxes, fontsize=6.5, ha="center", va="top")
    scale = found.backward.abs().amax((-3, -2, -1), keepdim=True).clamp(min=1)
    show(
        backwards,
        (found.backward / scale).flatten(0, 1),
        found.backward.shape[1],
        "backwards: from three numbers, downwards",
    )
    _rows(backwards, [f"$t = {t:g}$" for t in reversed(FLOW_TIMES)], len(FLOW_TIMES))
    title = f"{len(found.samples)} samples: {100 * found.sure:.0f} % are surely one digit"
    show(samples, found.samples, round(len(found.samples) ** 0.5), title)
    show(one, found.one_start, len(found.one_start), "many walks from one gradient")
    show(ladder, found.energies, len(found.energies), "one angle, $C$ from small to large")
    kept.semilogx(KEPT_TIMES, 100 * found.kept, "o-", color="black", lw=1.2)
    kept.axhline(10, color="0.6", ls=":", lw=1)
    kept.set(xlabel="$t$", ylabel="%", ylim=(0, 104), title="the digit is the same after a walk back from $u(t)$")
    kept.title.set_fontsize(10)
    figure.suptitle("Beyond the paper: digits from the first eigenmode", fontsize=11)
    return figure


def _rows(ax: Axes, labels: list[str], n: int) -> None:
    """Write a label before each row of tiles."""
    for i, label in enumerate(labels):
        ax.text(-0.01, 1 - (i + 0.5) / n, label, transform=ax.transAxes, fontsize=7, ha="right", va="center")
