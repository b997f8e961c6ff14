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

    Parameters
    ----------
    data : Tensor, shape (N, ...), floating
        At least 2 samples of d numbers in all.

    Returns
    -------
    mean : Tensor, shape (...), float64
    covariance : Tensor, shape (d, d), float64
        Unbiased, in the order of ``flatten``.

    Raises
    ------
    ValueError, TypeError
        If the data are no finite floating tensor of that shape.
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

    By eq. (9) this is the law of x_T for data :math:`N(m, C)`. For any other data of that mean and covariance it has
    the mean and covariance of x_T, where N(0, I) has neither: with the paper's schedule :math:`\sqrt{\bar\alpha_T}` is
    0.08.

    It is computed as :math:`\sqrt{\bar\alpha_T}\, m + S z` with S the symmetric root of the covariance of x_T and
    :math:`z \sim N(0, I)`, the noise that `sample` would itself start from with the same generator. So samples from
    either start come in pairs, as near to each other as can be.

    Parameters
    ----------
    schedule : VarianceSchedule
    n_samples : int
        N.
    mean : float or Tensor of a sample's shape
        m, of the data.
    variance : float or Tensor of a sample's shape, optional
        The variances of data with independent components.
    covariance : Tensor, shape (d, d), optional
        C, in place of the variance, for samples of d numbers in all, in the order of ``flatten``; symmetric and
        positive semidefinite up to roundings, as for `gaussian_denoiser`. It is diagonalised: some 0.3 s for d = 1024.
    t : int, optional
        A time to start at in place of T, 1..T.
    generator : torch.Generator or int, optional
        The source of z, which is drawn on its device, or its seed. Defaults to a new, randomly seeded generator on the
        CPU.
    dtype : torch.dtype
        Of z and the result; inside it computes in float64.

    Returns
    -------
    Tensor, shape (N, ...)
        On the generator's device; of the shape of the mean or the variance, whichever is no number; else (N, d) with
        a covariance and (N,) with a variance.

    Raises
    ------
    ValueError
        If an argument is out of range, the shapes do not fit, or not exactly one of variance and covariance is given.
    TypeError
        If ``n_samples`` or ``t`` is no integer, or the dtype is not floating.
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
