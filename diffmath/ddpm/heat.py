"""The network and the loss of the heat model, for `diffmath.ddpm.train` and `diffmath.ddpm.sample`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffmath._arguments import require_instance
from diffmath.ddpm._arguments import require_model
from diffmath.ddpm.unet import UNet
from diffmath.heat import HeatProcess

__all__ = ["HeatDenoiser", "heat_loss"]


class HeatDenoiser(nn.Module):
    r"""A network that predicts the flow :math:`u_k` and the increment :math:`u_{k-1} - u_k` of a step back.

    It adds to the affine predictions of `diffmath.heat.Moments` what is not affine. The network sees four images: the
    state whitened mode by mode, the state over its root mean square, and, each constant, log C and the mean of the
    pixels in deviations of the training set. Its two outputs, in units of the deviations that the affine predictions
    leave, mode by mode, are added to these.

    Parameters
    ----------
    process : HeatProcess
        With moments and law, as `HeatProcess.fit` gives them.
    width, patch : int
        Of the `UNet`.

    Examples
    --------
    >>> process = HeatProcess.fit(torch.rand(20, 1, 16, 16, generator=torch.manual_seed(0)), times=[0, 1e-4, 1e-2])
    >>> model = HeatDenoiser(process, width=4)
    >>> model(process.add_noise(torch.rand(3, 1, 16, 16), torch.zeros(3, 1, 16, 16), 2), torch.tensor([2, 2, 2])).shape
    torch.Size([3, 2, 16, 16])
    """

    def __init__(self, process: HeatProcess, width: int = 16, patch: int = 2) -> None:
        super().__init__()
        require_instance("process", process, HeatProcess)
        if process.moments is None or process.law is None:
            raise ValueError("process must have moments and a terminal law: HeatProcess.fit finds them")
        self.process = process
        self.config = {"width": width, "patch": patch}
        self.network = UNet(width, 4, process.modes, channels_out=2, patch=patch)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict both, of shape (B, 2, H, W), from states x, of shape (B, 3, H, W), at times t, of shape (B,)."""
        process, law = self.process, self.process.law
        assert law is not None
        image = process.image(x)
        deviation = process.to_modes(image) - process.at("mean", t, x)
        numbers = (x[:, 1:] - x.new_tensor(law.centre)[:, None, None]) / x.new_tensor(law.scale)[:, None, None]
        white = process.to_pixels(deviation * process.at("whitening", t, x))
        size = image.square().mean((-3, -2, -1), keepdim=True).sqrt()
        heads = process.to_modes(self.network(torch.cat([white, image / size, numbers.flip(1)], dim=1), t).to(x.dtype))
        u = process.at("mean", t, x) + process.at("gain", t, x) * deviation
        u = u + process.at("deviation", t, x) * heads[:, :1]
        increment = process.at("mean_increment", t, x) + process.at("gain_increment", t, x) * deviation
        increment = increment + process.at("deviation_increment", t, x) * heads[:, 1:]
        prediction: Tensor = process.to_pixels(torch.cat([u, increment], dim=1))
        return prediction


def heat_loss(
    model: Callable[[Tensor, Tensor], Tensor], process: HeatProcess, x_0: Tensor, eps: Tensor, t: Tensor
) -> Tensor:
    """The squared errors of the flow and of its increment, each mode in units of what is unknown of it.

    Parameters
    ----------
    model : callable
        ``model(x, t)`` predicts both from states, as a `HeatDenoiser` does.
    process : HeatProcess
        With moments, whose weights these are: see `diffmath.heat.Moments.tables`.
    x_0, eps : Tensor, shape (B, 1, H, W)
        Images and noise.
    t : Tensor, shape (B,), int64
        Their times, 1..K.

    Returns
    -------
    Tensor, shape (B,)
        For each image the mean over modes.

    Examples
    --------
    The loss is zero, but for rounding, where both are known:

    >>> x_0, t = torch.rand(4, 1, 8, 8, generator=torch.manual_seed(0)), torch.tensor([1, 2, 1, 2])
    >>> process = HeatProcess.fit(x_0, times=[0, 0.001, 0.1])
    >>> u, before = process.flow(x_0, t), process.flow(x_0, t - 1)
    >>> losses = heat_loss(lambda x, t: torch.cat([u, before - u], dim=1), process, x_0, torch.zeros_like(x_0), t)
    >>> losses.max().item() < 1e-8
    True
    """
    require_model(model)
    require_instance("process", process, HeatProcess)
    for name, value in (("x_0", x_0), ("eps", eps), ("t", t)):
        require_instance(name, value, Tensor)
    c = process.to_modes(x_0)
    u = process.flow_modes(c, t)
    increment = process.flow_modes(c, t - 1) - u
    predicted = process.to_modes(model(process.noisy(c, u, eps, t), t))
    errors = process.at("weight", t, c) * (predicted[:, :1] - u).square()
    errors = errors + process.at("weight_increment", t, c) * (predicted[:, 1:] - increment).square()
    loss: Tensor = errors.flatten(1).mean(dim=1)
    return loss
