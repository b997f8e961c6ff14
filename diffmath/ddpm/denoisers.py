r"""Exact denoisers: :math:`E[\epsilon \mid x_t]` in closed form, for data whose law is known.

The minimiser of Algorithm 1's loss is the conditional mean of the noise. By eq. (8) it is
:math:`(x_t - \sqrt{\bar\alpha_t}\, E[x_0 \mid x_t]) / \sqrt{1 - \bar\alpha_t}`, and for Gaussians, mixtures of them and
finite sets of points :math:`E[x_0 \mid x_t]` is Bayes' rule. In place of the network they test Algorithm 2 without any
training.

Each denoiser is a callable ``(x_t, t) -> noise`` for `diffmath.ddpm.sample`: x_t of shape (B, ...), t one time for each
sample. The result has x_t's dtype and device; inside it computes in float64. Making or calling one raises ValueError
where a shape does not fit or a number is out of range, and TypeError where x_t is not floating.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffmath.ddpm._arguments import as_tensor, require_process
from diffmath.process import ForwardProcess, spread
from diffmath.schedule import VarianceSchedule

__all__ = ["gaussian_denoiser", "mixture_denoiser", "points_denoiser"]

Denoiser = Callable[[Tensor, Tensor], Tensor]


def gaussian_denoiser(
    schedule: ForwardProcess,
    mean: float | Tensor,
    variance: float | Tensor | None = None,
    *,
    covariance: Tensor | None = None,
) -> Denoiser:
    r"""The exact denoiser of Gaussian data :math:`N(m, C)`; :math:`C = \operatorname{diag}(s^2)` or any covariance.

    .. math:: E[\epsilon \mid x_t] = \sqrt{1 - \bar\alpha_t}\,
              \bigl( \bar\alpha_t C + (1 - \bar\alpha_t) I \bigr)^{-1} (x_t - \sqrt{\bar\alpha_t}\, m)

    A covariance is diagonalised once; each evaluation then takes two matrix products.

    Parameters
    ----------
    schedule : ForwardProcess
        One with modes takes a variance.
    mean : float or Tensor of a sample's shape
        m.
    variance : float or Tensor of a sample's shape, optional
        s^2; it may be zero, which is a point.
    covariance : Tensor, shape (d, d), optional
        C, in place of the variance, for samples of d numbers in all, in the order of ``flatten``; symmetric up to 4 d
        roundings of its largest entry in its dtype, positive semidefinite up to as many of its largest eigenvalue.

    Examples
    --------
    >>> denoiser = gaussian_denoiser(VarianceSchedule([0.5]), mean=0.0, variance=1.0)
    >>> denoiser(torch.ones(1, 1, dtype=torch.float64), torch.tensor([1])) ** 2  # 1 - alpha_bar
    tensor([[0.5000]], dtype=torch.float64)
    """
    require_process(schedule, ForwardProcess if covariance is None else VarianceSchedule)
    m, v, axes = gaussian_data(mean, variance, covariance)
    if axes is not None:
        return _correlated(schedule, m, v, axes)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar, rest = _coefficients(schedule, x_t, t)
        require_shape(x_t.shape[1:], "mean", m.shape, (), x_t.shape[1:])
        require_shape(x_t.shape[1:], "variance", v.shape, (), x_t.shape[1:])
        x = x_t.double()
        noise = rest.sqrt() * (x - alpha_bar.sqrt() * m.to(x.device)) / (alpha_bar * v.to(x.device) + rest)
        return noise.to(x_t.dtype)

    return denoise


def _correlated(schedule: ForwardProcess, m: Tensor, v: Tensor, axes: Tensor) -> Denoiser:
    """The Gaussian denoiser in the covariance's eigenbasis, where the components are independent."""
    independent = gaussian_denoiser(schedule, 0.0, v)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar, _ = _coefficients(schedule, x_t, t)
        d = math.prod(x_t.shape[1:])
        require_shape(x_t.shape[1:], "mean", m.shape, (), x_t.shape[1:])
        require_shape(x_t.shape[1:], "covariance", axes.shape, (d, d))
        basis, gap = axes.to(x_t.device), x_t.double() - alpha_bar.sqrt() * m.to(x_t.device)
        noise = independent(gap.reshape(-1, d) @ basis, t) @ basis.T
        return noise.reshape(x_t.shape).to(x_t.dtype)

    return denoise


def gaussian_data(
    mean: float | Tensor, variance: float | Tensor | None, covariance: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The arguments of `gaussian_denoiser`, checked: m, variances and, with a covariance, its axes as columns."""
    m = _double(mean, "mean")
    if (variance is None) == (covariance is None):
        raise ValueError(f"give a variance or a covariance; {'neither' if variance is None else 'both'} came")
    if covariance is not None:
        return m, *_eigenbasis(covariance)
    assert variance is not None
    return m, _double(variance, "variance", least=0), None


def mixture_denoiser(
    schedule: VarianceSchedule, means: Tensor, variances: float | Tensor, weights: Tensor | None = None
) -> Denoiser:
    r"""The exact denoiser of data from a mixture of Gaussians, :math:`\sum_i w_i\, N(m_i, s_i^2 I)`.

    Given x_t, the components have the weights

    .. math:: \propto w_i\, N(x_t; \sqrt{\bar\alpha_t}\, m_i, (\bar\alpha_t s_i^2 + 1 - \bar\alpha_t) I) ,

    found by log-sum-exp, with which the mean of the noise is that of the components' Gaussian denoisers.

    Parameters
    ----------
    schedule : VarianceSchedule
    means : Tensor, shape (K, ...)
        The means m_i, of a sample's shape.
    variances : float or Tensor, shape (K,)
        s_i^2, not negative; zero makes a component a point.
    weights : Tensor, shape (K,), optional
        w_i, positive, of any sum. Defaults to equal ones.

    Examples
    --------
    >>> denoiser = mixture_denoiser(VarianceSchedule([0.5]), torch.tensor([-1.0, 1.0]), 0.1)
    >>> denoiser(torch.zeros(1, 1), torch.tensor([1]))  # halfway between the two means
    tensor([[0.]])
    """
    require_process(schedule)
    m = _double(means, "means")
    if m.ndim == 0 or len(m) == 0:
        raise ValueError(f"means must have shape (K, ...) with K >= 1; the shape is {tuple(m.shape)}")
    n = len(m)
    v = _double(variances, "variances", least=0)
    w = torch.ones(n, dtype=torch.float64) if weights is None else _double(weights, "weights", least=0)
    if v.shape not in ((), (n,)) or w.shape != (n,) or not (w > 0).all():
        raise ValueError(
            f"there must be one variance, and one positive weight, for each of the {n} means; the variances have shape "
            f"{tuple(v.shape)}, the weights {tuple(w.shape)}, the least is {_least(w)}"
        )
    v = v.broadcast_to(n)
    m, log_w = m if m.ndim > 1 else m[:, None], w.log().log_softmax(0)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar, rest = (c.reshape(-1, 1) for c in _coefficients(schedule, x_t, t))
        require_shape(x_t.shape[1:], "each mean", m.shape[1:], x_t.shape[1:])
        x, centres = x_t.double().flatten(1), m.flatten(1).to(x_t.device)
        spread = alpha_bar * v.to(x.device) + rest  # (B, K)
        # |x - a m|^2 from the differences: expanded, the squares would cancel where the data are far from 0.
        scaled = alpha_bar.sqrt()[:, :, None] * centres  # (B, K, d)
        gap = x[:, None] - scaled
        logits = log_w.to(x.device) - 0.5 * gap.square().sum(2) / spread - 0.5 * x.shape[1] * spread.log()
        share = logits.softmax(dim=1) / spread  # (B, K)
        noise = rest.sqrt() * (share[:, :, None] * gap).sum(1)
        return noise.reshape(x_t.shape).to(x_t.dtype)

    return denoise


def points_denoiser(schedule: VarianceSchedule, points: Tensor, weights: Tensor | None = None) -> Denoiser:
    r"""The exact denoiser of a finite set of points, such as a training set: the minimiser that memorises.

    .. math:: E[x_0 \mid x_t] = \sum_i w_i\, x_i, \qquad
              w_i \propto \exp \Bigl( -\frac{|x_t - \sqrt{\bar\alpha_t}\, x_i|^2}{2 (1 - \bar\alpha_t)} \Bigr)

    Algorithm 2 with it ends on the points, which is what section 6 of the paper warns of. The exponents are rounded at
    about :math:`10^{-16} R^2 / (1 - \bar\alpha_t)`, with R the largest distance of a point from their mean: for R
    beyond some :math:`10^4` take `mixture_denoiser` with variances of 0, which is slower and has no such limit.

    Parameters
    ----------
    schedule : VarianceSchedule
    points : Tensor, shape (K, ...)
        The points, of a sample's shape.
    weights : Tensor, shape (K,), optional
        Their probabilities, positive, of any sum. Defaults to equal ones.

    Examples
    --------
    >>> denoiser = points_denoiser(VarianceSchedule([0.75]), torch.zeros(1, 2))
    >>> denoiser(torch.ones(1, 2), torch.tensor([1])).square()  # all of x_t is noise, of variance 0.75
    tensor([[1.3333, 1.3333]])
    """
    require_process(schedule)
    x_i = _double(points, "points")
    if x_i.ndim == 0 or len(x_i) == 0:
        raise ValueError(f"points must have shape (K, ...) with K >= 1; the shape is {tuple(x_i.shape)}")
    w = torch.ones(len(x_i), dtype=torch.float64) if weights is None else _double(weights, "weights", least=0)
    if w.shape != (len(x_i),) or not (w > 0).all():
        raise ValueError(
            f"there must be one positive weight for each of the {len(x_i)} points; they have shape {tuple(w.shape)}, "
            f"the least is {_least(w)}"
        )
    x_i, log_w = x_i if x_i.ndim > 1 else x_i[:, None], w.log().log_softmax(0)
    flat, shape = x_i.flatten(1), x_i.shape[1:]
    centre = flat.mean(0)
    flat = flat - centre  # seen from their mean, as the squares below would cancel where the data are far from 0

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar, rest = (c.reshape(-1, 1) for c in _coefficients(schedule, x_t, t))
        require_shape(x_t.shape[1:], "each point", shape, x_t.shape[1:])
        root, centres = alpha_bar.sqrt(), flat.to(x_t.device)
        x = x_t.double().flatten(1) - root * centre.to(x_t.device)
        # -|x - a x_i|^2 / 2v = a x.x_i / v - a^2 |x_i|^2 / 2v + what no weight depends on: one matrix product, no
        # (B, K, d) array, so that all of MNIST can be the points.
        logits = (root * (x @ centres.T) - 0.5 * alpha_bar * centres.square().sum(1)) / rest
        x_0 = (logits + log_w.to(x.device)).softmax(dim=1) @ centres
        return ((x - root * x_0) / rest.sqrt()).reshape(x_t.shape).to(x_t.dtype)

    return denoise


def _coefficients(schedule: ForwardProcess, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_bar_t and the variance of x_t given x_0 for each sample, float64, shaped to multiply x_t."""
    for name, given in (("x_t", x_t), ("t", t)):
        if not isinstance(given, Tensor):
            raise TypeError(f"{name} must be a tensor; it is a {type(given).__name__}")
    if not x_t.is_floating_point():
        raise TypeError(f"x_t must be a floating tensor; its dtype is {x_t.dtype}")
    if t.shape != x_t.shape[:1]:
        raise ValueError(f"t must have one entry for each of the {len(x_t)} samples; its shape is {tuple(t.shape)}")
    alpha_bar, rest = schedule.transition(t, torch.zeros_like(t))
    first, second = (spread(c.to(x_t.device), 1, tuple(x_t.shape)) for c in (alpha_bar, rest))
    return first, second


def require_shape(sample: tuple[int, ...], name: str, shape: tuple[int, ...], *allowed: tuple[int, ...]) -> None:
    """ValueError unless the shape of an argument is one of those that fit samples of this shape."""
    if shape not in allowed:
        raise ValueError(
            f"{name} must have the shape {' or '.join(str(tuple(a)) for a in allowed)} for samples of shape "
            f"{tuple(sample)}; its shape is {tuple(shape)}"
        )


def _eigenbasis(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues of a covariance, and the matrix of its eigenvectors."""
    c = _double(covariance, "covariance")
    if c.ndim != 2 or c.shape[0] != c.shape[1] or len(c) == 0:
        raise ValueError(f"covariance must have shape (d, d); its shape is {tuple(c.shape)}")
    given = as_tensor(covariance, "covariance").dtype
    dtype = given if given.is_floating_point else torch.float64
    rounding = 4 * len(c) * torch.finfo(dtype).eps
    if (gap := (c - c.T).abs().max()) > rounding * c.abs().max():
        raise ValueError(f"covariance must be symmetric; it differs from its transpose by {gap:.3g}")
    v, axes = torch.linalg.eigh(c)
    if v.min() < -rounding * v.abs().max():
        raise ValueError(f"covariance must be positive semidefinite; its least eigenvalue is {v.min():.3g}")
    return v.clamp(min=0), axes


def _double(values: float | Tensor, name: str, least: float = -float("inf")) -> Tensor:
    tensor = as_tensor(values, name)
    if tensor.is_complex():
        raise TypeError(f"{name} must be real; its dtype is {tensor.dtype}")
    tensor = tensor.detach().to(torch.float64, copy=True)  # the caller's may change
    if not torch.isfinite(tensor).all() or (tensor < least).any():
        required = f" and at least {least}" if least > -float("inf") else ""
        first = tensor[~tensor.isfinite() | (tensor < least)].flatten()[0]
        raise ValueError(f"{name} must be finite{required}; {float(first):.3g} came")
    return tensor


def _least(values: Tensor) -> str:
    return f"{values.min():.3g}" if values.numel() else "missing"
