r"""Guidance: a network's predictions pushed away from those of a weaker model of the same data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffmath._arguments import require_counts, require_number
from diffmath.ddpm._arguments import check_prediction, require_model
from diffmath.ddpm.denoisers import Denoiser

__all__ = ["Guided", "guided"]


class Guided(nn.Module):
    """What `guided` returns: a noise predictor with the parameters and the ``image_shape`` of its network."""

    def __init__(self, network: Denoiser, reference: Denoiser, weight: float, interval: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.reference, self.weight, self.interval = network, reference, weight, interval
        if (shape := getattr(network, "image_shape", None)) is not None:
            self.image_shape = shape

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The guided prediction: the network's own, bit for bit, at times outside the interval and without weight."""
        kept = x_t.clone()  # the network may change its input
        eps = check_prediction(self.network(x_t, t), kept)
        inside = (t >= self.interval[0]) & (t <= self.interval[1])
        if self.weight == 0 or (t.device.type == "cpu" and not inside.any()):  # on a GPU looking would wait for it
            return eps
        eps = eps.to(kept.dtype)
        away = eps - check_prediction(self.reference(kept, t), kept)
        return torch.where(inside.reshape(-1, *[1] * (eps.ndim - 1)), eps + self.weight * away, eps)

    def around(self, network: Denoiser) -> Guided:
        """The same guidance of another network, a compiled one say."""
        return Guided(network, self.reference, self.weight, self.interval)

    def extra_repr(self) -> str:
        """The two settings."""
        return f"weight={self.weight}, interval={self.interval}"


def guided(network: Denoiser, reference: Denoiser, weight: float = 0.4, interval: Sequence[int] = (100, 400)) -> Guided:
    r"""Push a network's predictions away from those of a weaker model, at the times of an interval.

    .. math:: \epsilon = \epsilon_\theta(x_t, t)
              + w \bigl( \epsilon_\theta(x_t, t) - \epsilon_{\mathrm{ref}}(x_t, t) \bigr),
              \qquad t_1 \le t \le t_2

    This is autoguidance (Karras et al. 2024): what the network knows and the reference does not is exaggerated, and so
    samples lie less often between the modes of the data. With `gaussian_denoiser` and the data's `moments` as the
    reference it takes no further evaluations of a network, only two products with a square matrix. It changes the law
    of the samples unless the network equals the reference: compare it with weight 0. Any sampler takes the result.

    Parameters
    ----------
    network, reference : callable
        Noise predictors ``(x_t, t) -> eps``, x_t of shape (B, ...) and t, int64, of shape (B,).
    weight : float
        w, finite and not negative. With 0 the predictions are the network's, bit for bit.
    interval : (int, int)
        The first and the last time t_1 and t_2 of guidance. The defaults suit the paper's 500 noise levels.

    Examples
    --------
    The network knows the two digits -1 and 1, the reference their mean and variance only:

    >>> from diffmath.ddpm import gaussian_denoiser, points_denoiser
    >>> from diffmath.schedule import VarianceSchedule
    >>> schedule, x, t = VarianceSchedule.linear(500), torch.full((1, 1), 0.5), torch.tensor([200])
    >>> network, reference = points_denoiser(schedule, torch.tensor([-1.0, 1.0])), gaussian_denoiser(schedule, 0.0, 1.0)
    >>> guided(network, reference, weight=0.0)(x, t), guided(network, reference, weight=0.4)(x, t)
    (tensor([[0.1937]]), tensor([[0.1218]]))
    """
    require_model(network, "network")
    require_model(reference, "reference")
    w, times = require_number("weight", weight), require_counts("interval", interval)
    if not 0 <= w < float("inf"):
        raise ValueError(f"weight must be finite and at least 0; it is {w}")
    if len(times) != 2 or times[0] > times[1]:
        raise ValueError(f"interval must be two times in increasing order, as (100, 400); it is {tuple(times)}")
    return Guided(network, reference, w, (times[0], times[1]))
