r"""A trained network as a prior: samples that agree with a blurred and noisy image.

The heat flow multiplies cosine mode k of an image by :math:`d_k = e^{-\mu_k T}`, so a measured state is
:math:`y_k = d_k x_{0,k} + \sigma \xi_k`. Given y, eq. (9) needs the mean of :math:`x_0` given :math:`x_t` and y. If
:math:`x_0` given :math:`x_t` has independent modes of the network's mean :math:`\hat x_0` and the variances

.. math:: r_k^2 = \frac{S_k \varsigma_t^2}{S_k + \varsigma_t^2}, \qquad
          \varsigma_t^2 = \frac{1 - \bar\alpha_t}{\bar\alpha_t} ,

as for Gaussian data of variances :math:`S_k`, the mean is Kalman's

.. math:: \hat x_{0,k} + g_k\, (y_k - d_k \hat x_{0,k}), \qquad g_k = \frac{r_k^2 d_k}{r_k^2 d_k^2 + \sigma^2} .

For such Gaussian data this is exact, else it is the approximation of pseudo-inverse guidance (Song et al. 2023).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from diffmath._arguments import real_array, require_positive
from diffmath.ddpm._arguments import as_tensor, check_prediction, require_model, require_process
from diffmath.ddpm.denoisers import Denoiser
from diffmath.domains import Box
from diffmath.schedule import VarianceSchedule

__all__ = ["Conditioned", "conditioned", "cosine_modes"]


def cosine_modes(images: Tensor) -> Tensor:
    """The coefficients of images in orthonormal cosines, the eigenfunctions of a box without flux.

    Parameters
    ----------
    images : Tensor, shape (..., H, W)

    Returns
    -------
    Tensor, shape (..., H, W)
        The sum of their squares is that of the pixels.

    Examples
    --------
    >>> cosine_modes(torch.ones(2, 2)).round(decimals=6)
    tensor([[2., 0.],
            [0., 0.]])
    """
    images = as_tensor(images, "images")
    rows, columns = (_cosines(n, images) for n in images.shape[-2:])
    return rows @ images @ columns.mT


def _cosines(n: int, like: Tensor) -> Tensor:
    """The orthonormal matrix of the cosine transform, in the dtype and on the device of a tensor."""
    return _matrix(n).to(like)


@lru_cache(maxsize=8)
def _matrix(n: int) -> Tensor:
    return torch.from_numpy(Box(n).to_values(np.eye(n)) / np.sqrt(n))


class Conditioned(nn.Module):
    """What `conditioned` returns: a noise predictor with the parameters and the ``image_shape`` of its network."""

    def __init__(self, network: Denoiser, weight: Tensor, decay: Tensor, modes: Tensor, amplitudes: Tensor) -> None:
        super().__init__()
        self.network = network
        for name, value in (("weight", weight), ("decay", decay), ("modes", modes), ("amplitudes", amplitudes)):
            self.register_buffer(name, value, persistent=False)
        if (shape := getattr(network, "image_shape", None)) is not None:
            self.image_shape = shape

    weight: Tensor
    decay: Tensor
    modes: Tensor
    amplitudes: Tensor

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The prediction of the noise given the measured image too."""
        kept = x_t.clone()  # the network may change its input
        eps = check_prediction(self.network(x_t, t), kept).double()
        signal, spread = self.amplitudes[t - 1].unbind(-1)
        signal, spread = (a.reshape(-1, 1, 1, 1) for a in (signal, spread))
        x_0 = (kept.double() - spread * eps) / signal
        innovation = self.weight[t - 1][:, None] * (self.modes - self.decay * cosine_modes(x_0))
        rows, columns = (_cosines(n, x_0) for n in x_0.shape[-2:])
        return (eps - signal / spread * (rows.mT @ innovation @ columns)).to(kept.dtype)


def conditioned(
    network: Denoiser,
    schedule: VarianceSchedule,
    image: npt.ArrayLike | Tensor,
    *,
    decay: npt.ArrayLike,
    noise: float,
    variance: npt.ArrayLike,
) -> Conditioned:
    """Make a network predict the noise given a blurred and noisy image, so that `sample` draws from its posterior.

    Parameters
    ----------
    network : callable
        A noise predictor ``(x_t, t) -> eps`` for images (B, C, H, W).
    schedule : VarianceSchedule
        The one it was trained with.
    image : array or Tensor, shape (C, H, W) or (H, W)
        The measured image, in the network's units.
    decay : array of float, shape (H, W)
        d_k, what became of each cosine mode, between 0 and 1: ``np.exp(-T * Box((H, W)).eigenvalues)`` for the heat
        flow in units of the image's width.
    noise : float
        The standard deviation of the errors of the measured pixels.
    variance : array of float, shape (H, W)
        S_k, of the cosine modes of the data, see `cosine_modes`; positive.

    Returns
    -------
    Conditioned
        A module for `sample`, with any method.

    Examples
    --------
    >>> from diffmath.ddpm import gaussian_denoiser, sample
    >>> schedule = VarianceSchedule.linear(500)
    >>> network = gaussian_denoiser(schedule, 0.0, 1.0)
    >>> ones = np.ones((4, 4))
    >>> posterior = conditioned(network, schedule, 0.8 * ones, decay=ones, noise=0.5, variance=ones)
    >>> x = sample(posterior, schedule, torch.randn(500, 1, 4, 4, generator=torch.manual_seed(0)), generator=0)
    >>> round(x.mean().item(), 2)  # 0.8 / (1 + 0.25)
    0.64
    """
    require_model(network, "network")
    require_process(schedule)
    sigma = require_positive("noise", noise)
    y = torch.from_numpy(real_array(image, "image").astype(np.float64))
    d, S = real_array(decay, "decay").astype(np.float64), real_array(variance, "variance").astype(np.float64)
    if y.ndim not in (2, 3) or not bool(y.isfinite().all()):
        raise ValueError(f"image must be finite, of the shape (C, H, W) or (H, W); its shape is {tuple(y.shape)}")
    shape = tuple(y.shape[-2:])
    for name, values, good in (("decay", d, (d >= 0) & (d <= 1)), ("variance", S, (S > 0) & np.isfinite(S))):
        if values.shape != shape or not good.all():
            need = "between 0 and 1" if name == "decay" else "positive and finite"
            raise ValueError(f"{name} must be {need}, of the image's shape {shape}; its shape is {values.shape}")
    alpha_bar, spread = schedule.transition(np.arange(1, schedule.n_steps + 1), 0)
    ratio = (spread / alpha_bar)[:, None, None]
    r = S * ratio / (S + ratio)
    weight = r * d / (r * d**2 + sigma**2)  # of t = 1..T
    amplitudes = np.sqrt(np.stack((alpha_bar, spread), axis=-1))
    return Conditioned(
        network, torch.from_numpy(weight), torch.from_numpy(d), cosine_modes(y), torch.from_numpy(amplitudes)
    )
