"""What else happens at a step of a training: progress, log, checkpoints, sheets of samples, and the user's callback."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from diffmath.ddpm.sampling import sample
from diffmath.ddpm.training.log import Log
from diffmath.ddpm.training.state import State

__all__ = ["Callback", "Checkpoints", "Clock", "Logging", "Progress", "Sheets", "deferred_interrupts"]


class Clock:
    """The time that a training takes, and how much of it goes into files rather than steps.

    The first step includes compilation and the device's own preparations; its time goes into the record.
    """

    def __init__(self, state: State, device: torch.device) -> None:
        self.state, self.device = state, device
        self.first_step, self.before = state.step, state.seconds
        self.paused = 0.0
        self.began = time.monotonic()

    def on_step(self, losses: Tensor) -> None:
        """Update the seconds of the state."""
        if self.state.step == self.first_step + 1:
            finish(self.device)
            self.state.origin["warm_up_seconds"] = round(time.monotonic() - self.began, 6)
        self.state.seconds = self.before + time.monotonic() - self.began

    def on_end(self) -> None:
        """Leave the seconds as the last checkpoint has them."""

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time something that is no step, once the device has finished the steps before."""
        finish(self.device)
        paused_at = time.monotonic()
        yield
        self.paused += time.monotonic() - paused_at


class Progress:
    """A progress bar that counts images."""

    def __init__(self, bar: Any, state: State) -> None:
        self.bar, self.state = bar, state

    def on_step(self, losses: Tensor) -> None:
        """Count the images of the step, and show the latest mean loss."""
        self.bar.update(self.state.settings["batch_size"])
        if self.state.losses and self.state.losses[-1][0] == self.state.step:
            self.bar.set_postfix(loss=f"{self.state.losses[-1][1]:.4f}")

    def on_end(self) -> None:
        """Leave the bar to whoever opened it."""


class Logging:
    """Every few steps the mean loss is looked at, and an entry of the log written if there is one."""

    def __init__(self, state: State, clock: Clock, log: Log | None, every: int, n_images: int) -> None:
        self.state, self.clock, self.log, self.every, self.n_images = state, clock, log, every, n_images
        self._restart()

    def on_step(self, losses: Tensor) -> None:
        """Write an entry when it is due."""
        step = self.state.step
        if step % self.every == 0:
            mean_loss, by_level = self.state.take_loss()
            if self.log is not None:
                images, new = (n * self.state.settings["batch_size"] for n in (step, step - self.step))
                seconds = time.monotonic() - self.at - (self.clock.paused - self.paused)
                gradients = [p.grad for p in self.state.model.parameters() if p.grad is not None]
                entry = {
                    "step": step,
                    "images": images,
                    "epoch": images / self.n_images,
                    "loss": mean_loss,
                    "learning_rate": self.state.learning_rate(step),
                    "gradient_norm": float(nn.utils.get_total_norm(gradients)),
                    "images_per_second": new / seconds if new else math.nan,
                }
                self.log.write(entry | {f"loss_t{name}": loss for name, loss in by_level.items()})
        if step % self.every == 0 or step == self.clock.first_step + 1:
            self._restart()

    def on_end(self) -> None:
        """Note the mean loss since the last entry, and close the log."""
        if self.state.step % self.every:
            self.state.take_loss()
        if self.log is not None:
            self.log.close()

    def _restart(self) -> None:
        """Count images and seconds from here."""
        self.step, self.at, self.paused = self.state.step, time.monotonic(), self.clock.paused


class Checkpoints:
    """Every few minutes, at a signal and at the end the state is saved."""

    def __init__(
        self, state: State, clock: Clock, log: Log | None, minutes: float, interrupted: threading.Event
    ) -> None:
        self.state, self.clock, self.log, self.minutes, self.interrupted = state, clock, log, minutes, interrupted
        self.saved, self.at = -1, time.monotonic()

    def on_step(self, losses: Tensor) -> None:
        """Save when it is due; after a signal raise KeyboardInterrupt."""
        processes = self.state.processes
        due = processes.first and time.monotonic() - self.at >= 60 * self.minutes
        stop, due = processes.any(self.interrupted.is_set(), due)
        if stop or due:
            self.save()
        if stop:
            processes.wait()  # a process that ends has the others killed: not while the first is writing
            raise KeyboardInterrupt(f"saved after step {self.state.step} in {self.state.path}")

    def on_end(self) -> None:
        """Save, unless no step was taken."""
        if not self.state.is_as_loaded:
            self.save()

    def save(self) -> None:
        """Save the state if this has not been done since its step. All processes call."""
        if self.saved == self.state.step:
            return
        with self.clock.pause():
            if self.log is not None:  # first: after a power cut it may hold more than the checkpoint, not less
                self.log.sync()
            self.state.save()
        self.saved, self.at = self.state.step, time.monotonic()


class Sheets:
    """Every few minutes sixteen samples are drawn, always from the same noise, so that sheets can be compared."""

    def __init__(
        self, state: State, checkpoints: Checkpoints, log: Log | None, minutes: float, shape: torch.Size
    ) -> None:
        self.state, self.checkpoints, self.log, self.minutes, self.shape = state, checkpoints, log, minutes, shape
        self.at = time.monotonic()

    def on_step(self, losses: Tensor) -> None:
        """Write a sheet when it is due, and a checkpoint before: a sheet is only of what is finite, and may fail."""
        now, processes = time.monotonic(), self.state.processes
        (due,) = processes.any(processes.first and now - self.at >= 60 * self.minutes)
        if not due:
            return
        self.checkpoints.save()
        self.at = now
        if self.log is not None:
            with self.checkpoints.clock.pause():
                generator = torch.Generator().manual_seed(0)
                x_T = torch.randn((16, *self.shape), generator=generator)
                n_steps = min(50, self.state.schedule.n_steps)
                average = self.state.averages[self.state.best]
                images = sample(average, self.state.schedule, x_T, n_steps=n_steps, generator=generator)
                self.log.show(images, self.state.step)

    def on_end(self) -> None:
        """Draw no further sheet."""


class Callback:
    """The user's function of the step and of its mean loss."""

    def __init__(self, state: State, function: Callable[[int, float], Any]) -> None:
        self.state, self.function = state, function

    def on_step(self, losses: Tensor) -> bool:
        """Whether the function, in any of the processes, returns True."""
        processes = self.state.processes
        loss = float(processes.sum(losses.mean()) / processes.size)
        (stop,) = processes.any(self.function(self.state.step, loss) is True)
        return stop

    def on_end(self) -> None:
        """Call it no more."""


def finish(device: torch.device) -> None:
    """Wait for a device that computes while Python goes on."""
    if device.type == "cuda":  # pragma: no cover (needs a GPU)
        torch.cuda.synchronize(device)
    elif device.type == "mps":  # pragma: no cover (needs a GPU)
        torch.mps.synchronize()


@contextmanager
def deferred_interrupts(enabled: bool, impatient: bool) -> Iterator[threading.Event]:
    """Let Ctrl-C, SIGTERM and SIGHUP set an event, so that a step is finished first.

    An ignored SIGHUP stays ignored, as under nohup. A second Ctrl-C interrupts at once if `impatient`. Not so among
    several processes, which get the same one from the terminal and from torchrun; nor a second SIGTERM, as schedulers
    send it to whole groups.
    """
    event = threading.Event()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: object) -> None:
        if impatient and number == signal.SIGINT and event.is_set():
            raise KeyboardInterrupt
        event.set()

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {n: signal.signal(n, note) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
