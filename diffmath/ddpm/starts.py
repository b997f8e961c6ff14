r"""Where the way back starts: the law of x_T that belongs to the data, in place of N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor

from diffmath._arguments import require_count, require_pixels
from diffmath.ddpm._arguments import Seed, as_floating, as_generator, require_process
from diffmath.ddpm.denoisers import gaussian_data, require_shape
from diffmath.schedule import VarianceSchedule

__all__ = ["matched_start", "moments"]


def moments(data: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the covariance of data, for `matched_start`.

    Of data (N, ...), N at least 2, they have the shapes (...) and (d, d), in the order of ``flatten``, both float64,
    and the covariance is unbiased. Images that are plainly not in [-1, 1] are refused.

    Examples
    --------
    >>> moments(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))[0]
    tensor([1., 2.], dtype=torch.float64)
    """
    x = as_floating(data, "data", least=2).double()
    require_pixels(x, "data")
    flat = x.reshape(len(x), -1)
    return x.mean(0), torch.cov(flat.T).reshape(flat.shape[1], flat.shape[1])


def matched_start(
    schedule: VarianceSchedule,
    n_samples: int,
    mean: float | Tensor,
    variance: float | Tensor | None = None,
    *,
    covariance: Tensor | None = None,
    t: int | None = None,
    generator: Seed | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Draw the x_T of `sample` from :math:`N(\sqrt{\bar\alpha_T}\, m,\ \bar\alpha_T C + (1 - \bar\alpha_T) I)`.

    By eq. (9) this is the law of x_T for data :math:`N(m, C)`, and has the mean and covariance of x_T for any other
    data, where N(0, I) has neither: for the paper's schedule :math:`\sqrt{\bar\alpha_T} = 0.08`. It is computed as
    :math:`\sqrt{\bar\alpha_T}\, m + S z` with S the symmetric root of the covariance of x_T and z the noise that
    `sample` would itself start from with the same generator, so that samples from either start come in pairs.

    Parameters
    ----------
    schedule : VarianceSchedule
    n_samples : int
        The number N of samples.
    mean, variance : float or Tensor of a sample's shape
        The moments of the data; the variance is for independent components.
    covariance : Tensor, shape (d, d), optional
        C, in place of the variance, as for `gaussian_denoiser`; it is diagonalised, some 0.3 s for d = 1024.
    t : int, optional
        A time to start at, 1..T. Defaults to T.
    generator : torch.Generator or int, optional
        Draws z on its device, or seeds what does. Defaults to a new, randomly seeded generator on the CPU.
    dtype : torch.dtype
        The dtype of z and of the result; the computation is in float64.

    Returns
    -------
    Tensor, shape (N, ...)
        The samples have the mean's or the variance's shape, unless both are numbers; then they are vectors of length d
        with a covariance, and numbers without one.

    Examples
    --------
    >>> matched_start(VarianceSchedule.linear(500), 3, mean=torch.zeros(2), variance=0.04, generator=0).shape
    torch.Size([3, 2])
    """
    require_process(schedule)
    n = require_count("n_samples", n_samples)
    t = schedule.n_steps if t is None else require_count("t", t, most=schedule.n_steps)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be floating, as torch.float32 is; it is {dtype}")
    m, v, axes = gaussian_data(mean, variance, covariance)
    shape = m.shape or v.shape
    if axes is None:
        require_shape(shape, "variance", v.shape, (), shape)
    else:
        require_shape(shape, "covariance", axes.shape, (shape.numel(), shape.numel()))
    alpha_bar, rest = schedule.transition(t, 0)

    generator = as_generator(generator)
    z = torch.randn((n, *shape), generator=generator, device=generator.device, dtype=dtype)
    scale = (alpha_bar * v.to(z.device) + rest).sqrt()
    if axes is None:
        noise = scale * z.double()
    else:
        basis = axes.to(z.device)
        noise = ((z.double().reshape(n, -1) @ basis * scale) @ basis.T).reshape(z.shape)
    x_t: Tensor = alpha_bar**0.5 * m.to(z.device) + noise
    return x_t.to(dtype)
