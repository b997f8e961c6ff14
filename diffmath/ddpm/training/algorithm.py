"""Algorithm 1, and the loss that it minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from diffmath.ddpm._arguments import check_prediction, require_model, require_one_each
from diffmath.ddpm.training.batches import Batches
from diffmath.ddpm.training.state import State

__all__ = ["Hook", "Loss", "minimise", "predictor", "squared_error"]

Predictor = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Predictor, Any, Tensor, Tensor, Tensor], Tensor]
"""The objective: (model, process, x_0, eps, t) -> the losses of the images, of shape (B,)."""


class Hook(Protocol):
    """Something else that happens in a training: a log, checkpoints, a progress bar."""

    def on_step(self, losses: Tensor) -> bool | None:
        """After each step, with the losses of its images; True ends the training."""

    def on_end(self) -> None:
        """After the last step, the hooks in reverse order."""


def minimise(
    loss: Loss, model: Predictor, process: Any, batches: Batches, state: State, n_steps: int, hooks: Sequence[Hook]
) -> None:
    """Algorithm 1, with the minibatch's mean in place of the expectation and Adam in place of plain descent."""
    while state.step < n_steps:  # repeat
        x_0, eps, t = batches(state.step)  # x_0 ~ q(x_0), eps ~ N(0, I), t ~ Uniform(1, ..., T)
        losses = loss(model, process, x_0, eps, t)  # |eps - model(sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps, t)|^2
        require_one_each("loss", losses, len(t))
        state.set_learning_rate()
        state.optimizer.zero_grad()
        losses.mean().backward()  # the gradient with respect to theta
        state.optimizer.step()  # descends along it
        losses = losses.detach()
        state.count(losses, t)
        stops = [hook.on_step(losses) for hook in hooks]
        if any(stops):  # until converged
            break
    state.check()
    for hook in reversed(hooks):
        hook.on_end()


def squared_error(model: Predictor, process: Any, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    r"""The loss of Algorithm 1: :math:`|\epsilon - \epsilon_\theta(x_t, t)|^2` with x_t by eq. (8).

    Parameters
    ----------
    model : callable
        The noise predictor, ``model(x_t, t)``.
    process : VarianceSchedule
        It has ``add_noise``.
    x_0, eps : Tensor, shape (B, ...)
        Images and noise.
    t : Tensor, shape (B,), int64
        Their times, 1..T.

    Returns
    -------
    Tensor, shape (B,)
        The squared error of each image, its mean over the pixels.

    Examples
    --------
    A predictor of zero leaves the mean square of the noise:

    >>> from diffmath.schedule import VarianceSchedule
    >>> x_0, eps, t = torch.zeros(2, 3), torch.tensor([[1.0, -1.0, 1.0], [2.0, 2.0, 2.0]]), torch.tensor([1, 500])
    >>> squared_error(lambda x, t: 0 * x, VarianceSchedule.linear(), x_0, eps, t)
    tensor([1., 4.])
    """
    require_model(model)
    if not callable(getattr(process, "add_noise", None)):
        raise TypeError(f"process must be a ForwardProcess, with add_noise; it is a {type(process).__name__}")
    x_t = process.add_noise(x_0, eps, t)
    return (eps - check_prediction(model(x_t, t), x_t)).square().flatten(1).mean(dim=1)


def predictor(network: Predictor, process: Any, device: torch.device, dtype: torch.dtype | None) -> Predictor:
    """The network under autocast to a dtype, if any; its predictions are checked and have the dtype of x_t."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            prediction = network(x_t, t)
        return check_prediction(prediction, x_t, shape=process.prediction_shape(x_t.shape)).to(x_t.dtype)

    return predict
