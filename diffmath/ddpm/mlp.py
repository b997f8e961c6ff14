"""A small network for points, on which a diffusion model trains within a minute on one core."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from diffmath._arguments import require_count
from diffmath.ddpm.unet import TimeEmbedding

__all__ = ["MLP"]


class MLP(nn.Module):
    r"""A noise predictor :math:`\epsilon_\theta(x_t, t)` for points: residual layers with the time in each.

    Parameters
    ----------
    n_features : int
        The dimension of the points, 2 for points in the plane.
    width : int
        The number of hidden units, even.
    depth : int
        The number of residual layers.

    Raises
    ------
    TypeError, ValueError
        If one of them is no integer, or out of range.

    Examples
    --------
    >>> import torch
    >>> MLP()(torch.zeros(5, 2), torch.full((5,), 7)).shape
    torch.Size([5, 2])
    """

    def __init__(self, n_features: int = 2, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        n_features, depth = require_count("n_features", n_features), require_count("depth", depth)
        width = require_count("width", width, 2)
        if width % 2:
            raise ValueError(f"width must be even; it is {width}")
        self.config = {"n_features": n_features, "width": width, "depth": depth}
        self.embedding = TimeEmbedding(width)
        self.linear_in = nn.Linear(n_features, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.times = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(depth))
        self.linear_out = nn.Linear(width, n_features)
        nn.init.zeros_(self.linear_out.weight)  # the untrained network predicts zero, the mean of the noise
        nn.init.zeros_(self.linear_out.bias)

    @property
    def image_shape(self) -> tuple[int]:
        """The shape of one point, ``(n_features,)``."""
        return (self.config["n_features"],)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in points.

        Parameters
        ----------
        x : Tensor, shape (B, n_features), floating
            Noisy points.
        t : Tensor, shape (B,)
            Their times, 1..T.

        Returns
        -------
        Tensor, the shape of ``x``
        """
        if x.ndim != 2 or x.shape[1] != self.config["n_features"]:
            raise ValueError(f"x must have shape (B, {self.config['n_features']}); its shape is {tuple(x.shape)}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have one entry for each of the {len(x)} points; its shape is {tuple(t.shape)}")
        emb, h = F.silu(self.embedding(t)), self.linear_in(x)
        for layer, time in zip(self.layers, self.times, strict=True):
            h = h + layer(F.silu(h + time(emb)))
        out: Tensor = self.linear_out(F.silu(h))
        return out
