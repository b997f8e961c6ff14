"""What a run of training is after some step, and how it goes to a checkpoint and comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from diffmath._arguments import require_count
from diffmath.ddpm._processes import Processes
from diffmath.ddpm.checkpoints import (
    CheckpointError,
    read_tensors,
    require_architecture,
    require_fit,
    save_checkpoint,
)
from diffmath.ddpm.training.log import NoiseLevels
from diffmath.ddpm.training.settings import ADDED_LATER, CHANGEABLE, decays_of, learning_rate
from diffmath.process import Process

__all__ = ["State", "TrainingDivergedError"]

RECORD = (
    "average_decay",
    "held_out",
    "resumed",
    "steps",
    "images_seen",
    "settings",
    "losses",
    "seconds",
    "started_from",
)
NEVER = 1 << 62  # no run has so many steps


class TrainingDivergedError(RuntimeError):
    """The loss or a weight became NaN or infinite."""


class State:
    """A run after some step: the network, its averages, the optimiser and the losses so far.

    Attributes
    ----------
    path : pathlib.Path or None
        The checkpoint, if one is written.
    step, seconds : int, float
        Steps done, and the time they took.
    losses : list of (int, float)
        Steps, and the mean loss over the steps since the entry before.
    averages, decays : list of torch.nn.Module, list of float
        The moving averages of the weights, and their decays.
    held_out : list of list
        Step, decay, mean of the logarithms and losses by noise level on the images held out, see `HeldOut`.
    settings, metadata, origin : dict
        What must be the same to go on; the caller's record, with that of the training before if the weights come from
        one; where and by what this part is computed.
    """

    def __init__(
        self,
        model: nn.Module,
        averages: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        schedule: Process,
        settings: dict[str, Any],
        metadata: dict[str, Any],
        origin: dict[str, Any],
        processes: Processes,
        path: Path | None,
        started_from: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.model, self.averages, self.optimizer, self.schedule = model, list(averages), optimizer, schedule
        self.decays, self.held_out = decays_of(settings), list[list[Any]]()
        self.settings, self.metadata, self.origin, self.processes = settings, metadata, origin, processes
        if taken := metadata.keys() & {*origin, *RECORD}:
            raise ValueError(f"metadata must not have the entries of the record itself; it has {sorted(taken)}")
        self.images_before = 0  # seen by the weights in the training they come from
        if started_from is not None:
            self.images_before = require_count(
                "images_seen in the record of the training before", started_from.get("images_seen"), 0
            )
            self.metadata = {**metadata, "started_from": dict(started_from)}
        self.resumed: list[dict[str, Any]] = []  # the origins of the parts before, each with the step it went to
        self.loaded: tuple[int, dict[str, Any]] | None = None
        self.step, self.seconds = 0, 0.0
        self.kept: int | None = None  # the step of the checkpoint, if there is one
        self.losses: list[tuple[int, float]] = []
        device = next(model.parameters()).device
        self.levels = NoiseLevels(schedule.n_steps, device)
        self._lost = torch.full((), NEVER, device=device)  # the first step whose loss is not finite

    def learning_rate(self, step: int) -> float:
        """That of a step, 1 the first."""
        return learning_rate(self.settings, step)

    def set_learning_rate(self) -> None:
        """Give the optimiser the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step + 1)

    def count(self, losses: Tensor, t: Tensor) -> None:
        """Count a step, given the losses of its images at their times; does not wait for the device."""
        # torch's own `AveragedModel` counts on the host, and waits for the device.
        for average, decay in zip(self.averages, self.decays, strict=True):
            own = min(decay, (1 + self.step) / (10 + self.step)) if self.step else 0.0
            get_ema_multi_avg_fn(own)(list(average.parameters()), list(self.model.parameters()), 0)
            for kept, current in zip(average.buffers(), self.model.buffers(), strict=True):
                kept.copy_(current)
        self.step += 1
        self.levels.add(losses, t)
        self._lost = torch.where(torch.isfinite(losses).all(), self._lost, self._lost.clamp(max=self.step))

    @property
    def best(self) -> int:
        """Which average had the least loss on the images held out, when it was last taken; 0, the first, without any.

        Each noise level counts alike: the logarithms of their losses are compared.
        """
        latest = [row for row in self.held_out if row[0] == self.held_out[-1][0]]
        scores = {row[1]: row[2] for row in latest}
        return min(range(len(self.decays)), key=lambda i: scores.get(self.decays[i], math.inf))

    def take_loss(self) -> tuple[float, dict[str, float]]:
        """The mean loss since it was last taken, checked and noted, and that of each bin of noise levels."""
        sums = self.processes.sum(self.levels.sums.clone())
        self._check_finite("the loss", sums[0].sum())
        total, each = float(sums[0].sum() / sums[1].sum()), (sums[0] / sums[1]).tolist()
        self.losses.append((self.step, total))
        self.levels.sums.zero_()
        return total, dict(zip(self.levels.names, each, strict=True))

    def check(self) -> None:
        """Raise TrainingDivergedError unless the loss, all weights and Adam's moments are finite."""
        self._check_finite("the loss", self.processes.sum(self.levels.sums.clone()).sum())
        slots = [slot for each in self.optimizer.state.values() for slot in each.values()]
        for name, tensors in (("weight", list(self.model.parameters())), ("moment of Adam", slots)):
            largest = nn.utils.get_total_norm(tensors, norm_type=torch.inf)
            self._check_finite(f"the largest {name}", largest)

    def _check_finite(self, name: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            step = -self.processes.largest(-int(self._lost)) if name == "the loss" else NEVER
            when = f"at step {step}" if step < NEVER else f"by step {self.step}"
            rate = self.learning_rate(min(step, self.step))
            kept, advice = "there is no checkpoint", "Begin again with a smaller learning rate."
            if self.path and self.path.exists():
                kept, smaller = f"the last good checkpoint is {self.path}", f"{self.settings['learning_rate'] / 4:.3g}"
                advice = (
                    "Resume from it with a smaller learning rate: train(..., resume=True, change_settings=True, "
                    f"learning_rate={smaller}), or --resume --change-settings --learning-rate {smaller}."
                )
                if self.kept is not None and step == self.kept + 1:  # the loss comes before the step
                    advice = (
                        "Its own weights give this loss, whatever the learning rate from there: begin again with a "
                        "smaller one in another directory."
                    )
            raise TrainingDivergedError(
                f"{name} was {float(value)} {when}, with learning rate {rate:.6g}; {kept}. {advice}"
            )

    @property
    def is_as_loaded(self) -> bool:
        """Whether no step was taken since the checkpoint: it keeps its origin then."""
        return self.loaded is not None and self.loaded[0] == self.step

    def record(self) -> dict[str, Any]:
        """How the network was trained, for its checkpoints."""
        if self.loaded is not None and self.is_as_loaded:
            return {**self.loaded[1], "losses": self.losses}
        n_images = self.images_before + self.step * self.settings["batch_size"]
        return {
            **self.metadata,
            **self.origin,
            "resumed": self.resumed,
            "steps": self.step,
            "images_seen": n_images,
            "settings": self.settings,
            "losses": self.losses,
            "average_decay": self.decays[self.best],
            "held_out": self.held_out,
            "seconds": round(self.seconds, 6),
        }

    def save(self) -> None:
        """Write the checkpoint to resume from. All processes call, the first writes."""
        self.check()  # never replace a good checkpoint by a bad one
        sums = self.processes.sum(self.levels.sums.clone())
        self.kept = self.step
        if self.path is None or not self.processes.first:
            return
        tensors = {f"weights.{name}": t for name, t in self.model.state_dict().items()}
        for name, weight in self.model.named_parameters():  # weights that are frozen or unused have no state
            tensors |= {f"optimizer.{name}.{slot}": t for slot, t in self.optimizer.state.get(weight, {}).items()}
        for i, average in enumerate(self.averages[1:], start=1):
            tensors |= {f"averages.{i}.{name}": t for name, t in average.state_dict().items()}
        tensors["losses"] = sums
        save_checkpoint(self.path, self.averages[0], self.schedule, self.record(), training=tensors)

    def load(self, path: Path, change_settings: bool = False) -> None:
        """Become what a checkpoint holds; `CHANGEABLE` settings may differ if that is wanted.

        Raises
        ------
        CheckpointError
            If the file is damaged or belongs to another network.
        ValueError
            If its run had other settings.
        """
        tensors, header = read_tensors(path)
        record = header["metadata"]
        slots: dict[str, dict[str, Tensor]] = {}
        names = [name for name, _ in self.model.named_parameters()]
        try:
            before = ADDED_LATER | record.get("settings", {})
            now = self.settings
            if decays_of(before) == self.decays[: len(decays_of(before))]:  # averages may be added
                before["average_decay"] = now["average_decay"]
            changed = [name for name in {**now, **before} if before.get(name) != now.get(name)]
            if change_settings:
                changed = [name for name in changed if name not in CHANGEABLE]
            require_architecture(header["architecture"], self.model)
            for key, tensor in _part(tensors, "training.optimizer.").items():
                name, _, slot = key.rpartition(".")
                # Older checkpoints number the weights.
                slots.setdefault(name if name in names else names[int(name)], {})[slot] = tensor
            if not changed:
                self._restore(tensors, slots, record)
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise CheckpointError(f"{path} cannot be resumed: {error}") from error
        if changed:
            both = "; ".join(f"{name} = {before.get(name)!r}, now {now.get(name)!r}" for name in changed)
            hint = " (change_settings=True or --change-settings permits this)" if set(changed) <= CHANGEABLE else ""
            raise ValueError(f"{path} belongs to a run with other settings: {both}{hint}")

    def _restore(self, tensors: dict[str, Tensor], slots: dict[str, dict[str, Tensor]], record: dict[str, Any]) -> None:
        first = _part(tensors, "model.")
        for module, weights in (
            (self.model, _part(tensors, "training.weights.")),
            (self.averages[0], first),
            # One that the checkpoint does not have begins as the first.
            *((new, _part(tensors, f"training.averages.{i}.") or first) for i, new in enumerate(self.averages) if i),
        ):
            require_fit(weights, module)
            module.load_state_dict(weights)
        state: dict[int, dict[str, Tensor]] = {}
        for number, (name, weight) in enumerate(self.model.named_parameters()):
            own = slots.get(name)
            if own is None:
                continue
            shapes = {slot: tensor.shape for slot, tensor in own.items()}
            if shapes != {"step": (), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}:
                raise ValueError(f"Adam's state for the weight {name} is incomplete or has another shape")
            if not all(torch.isfinite(tensor).all() for tensor in own.values()):
                raise ValueError(f"Adam's state for the weight {name} must be finite")
            for slot in ("exp_avg", "exp_avg_sq"):  # in the weight's memory format, as the fused Adam needs it
                own[slot] = torch.empty_like(weight).copy_(own[slot])
            state[number] = own
        sums = tensors["training.losses"]
        if sums.shape != self.levels.sums.shape or not torch.isfinite(sums).all():
            raise ValueError("the losses of the noise levels are not finite, or have another shape")
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.levels.sums.copy_(sums * self.processes.first)  # they are summed over the processes
        self.step, self.seconds = record["steps"], float(record["seconds"])
        if isinstance(self.step, bool) or not isinstance(self.step, int) or self.step < 0:
            raise ValueError(f"steps must be a count; it is {self.step!r}")
        self.losses = [(int(step), float(loss)) for step, loss in record["losses"]]
        self.held_out = [list(row) for row in record.get("held_out", [])]
        self.resumed = [
            *record.get("resumed", []),
            {name: record.get(name) for name in self.origin} | {"steps": self.step, "settings": record["settings"]},
        ]
        self.loaded, self.kept = (self.step, record), self.step


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
