"""The paper's network: residual and attention blocks in a U-Net (section 5).

The paper gives "12.9 Million parameters across 205 layers"; it is the network of the MathWorks example *Generate
Images Using Diffusion* (R2023b), whose layers and learnable parameters (12,980,033) give just these numbers. The
structure follows Ronneberger et al. (2015) and Ho, Jain and Abbeel (2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmath._arguments import require_count, require_counts

__all__ = ["UNet"]

GROUPS = 32  # in each normalisation, or fewer where the width is no multiple


class UNet(nn.Module):
    r"""The noise predictor :math:`\epsilon_\theta(x_t, t)`.

    Three resolutions (32, 16, 8 for MNIST) of widths c, 2c, 4c; two residual blocks at each on the way down and two
    on the way up, self-attention at the middle resolution and in the bridge. The outputs of the residual blocks on
    the way down are concatenated to the inputs of their mirror images on the way up.

    Parameters
    ----------
    width : int
        The base width c, even. Each normalisation has 32 groups, or as many as divide c if it is no multiple of 32.
    channels : int
        Image channels: 1 for grey images, 3 for colour.
    image_size : int or (int, int)
        Height and width of the images, multiples of 4. `diffmath.ddpm.sample` makes images of this size by default;
        the parameters do not depend on it.

    channels_out : int, optional
        Channels of the prediction, where they are not those of the images.
    patch : int
        The side of the squares of pixels that become channels before the first layer, and pixels again after the last:
        the network works on images that are so many times smaller, and ``image_size`` is a multiple of 4 of them.

    Raises
    ------
    TypeError
        If one of them is no integer.
    ValueError
        If one of them is less than 1, ``width`` is odd, or ``image_size`` is no multiple of 4.

    Examples
    --------
    >>> sum(p.numel() for p in UNet.paper().parameters())
    12980033
    >>> UNet(width=8, channels=3, image_size=(64, 48)).image_shape
    (3, 64, 48)
    """

    def __init__(
        self,
        width: int = 64,
        channels: int = 1,
        image_size: int | Sequence[int] = 32,
        *,
        channels_out: int | None = None,
        patch: int = 1,
    ) -> None:
        super().__init__()
        width, channels = require_count("width", width, 2), require_count("channels", channels)
        channels_out = channels if channels_out is None else require_count("channels_out", channels_out)
        self._unit = 4 * require_count("patch", patch)
        if width % 2:
            raise ValueError(f"width must be even; it is {width}")
        sizes = require_counts("image_size", image_size if isinstance(image_size, (list, tuple)) else [image_size])
        if len(sizes) > 2 or any(size % self._unit for size in sizes):
            raise ValueError(f"image_size must be a multiple of {self._unit}, or two of them; it is {image_size}")
        size = sizes[0] if sizes[0] == sizes[-1] else sizes
        self._size = sizes[0], sizes[-1]
        self.config: dict[str, Any] = {"width": width, "channels": channels, "image_size": size}
        self.config |= {"channels_out": channels_out} if channels_out != channels else {}
        self.config |= {"patch": patch} if patch != 1 else {}
        groups = max(n for n in range(1, GROUPS + 1) if width % n == 0)
        c = width
        residual = partial(ResidualBlock, embedding=4 * c, groups=groups)
        attention = partial(AttentionBlock, groups=groups)
        self.embedding = TimeEmbedding(c)
        self.fold, self.unfold = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.conv_in = nn.Conv2d(channels * patch**2, c, 3, padding=1)
        self.res1, self.res2 = residual(c, c), residual(c, c)
        self.down1 = nn.Conv2d(c, 2 * c, 3, stride=2, padding=1)
        self.res3, self.res4 = residual(2 * c, 2 * c), residual(2 * c, 2 * c)
        self.att3, self.att4 = attention(2 * c), attention(2 * c)
        self.down2 = nn.Conv2d(2 * c, 4 * c, 3, stride=2, padding=1)
        self.res5, self.res6 = residual(4 * c, 4 * c), residual(4 * c, 4 * c)
        self.res7, self.res8 = residual(4 * c, 4 * c), residual(4 * c, 4 * c)
        self.att7, self.att8 = attention(4 * c), attention(4 * c)
        self.res9, self.res10 = residual(8 * c, 4 * c), residual(8 * c, 4 * c)
        self.up2 = nn.ConvTranspose2d(4 * c, 2 * c, 3, stride=2, padding=1, output_padding=1)
        self.res11, self.res12 = residual(4 * c, 2 * c), residual(4 * c, 2 * c)
        self.att11, self.att12 = attention(2 * c), attention(2 * c)
        self.up1 = nn.ConvTranspose2d(2 * c, c, 3, stride=2, padding=1, output_padding=1)
        self.res13, self.res14 = residual(2 * c, c), residual(2 * c, c)
        self.norm_out = nn.GroupNorm(groups, 2 * c)
        self.conv_out = nn.Conv2d(2 * c, channels_out * patch**2, 3, padding=1)
        # The untrained network predicts zero, the mean of the noise: training starts at a loss of exactly E|eps|^2.
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    @classmethod
    def paper(cls) -> UNet:
        """The paper's network: c = 64.

        Examples
        --------
        >>> sum(p.numel() for p in UNet.paper().parameters())
        12980033
        """
        return cls(width=64)

    @classmethod
    def compact(cls) -> UNet:
        """The same network at c = 32, for machines without a GPU.

        Examples
        --------
        >>> sum(p.numel() for p in UNet.compact().parameters())
        3254177
        """
        return cls(width=32)

    @classmethod
    def for_images(cls, shape: Sequence[int], width: int = 64, seed: int = 0) -> UNet:
        """Make a network for images of a shape (channels, height, width), whose initial weights a seed decides.

        Torch's own generator stays as it is.

        Examples
        --------
        >>> UNet.for_images((3, 16, 24), width=8).image_shape
        (3, 16, 24)
        """
        channels, *size = require_counts("shape", shape)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(require_count("seed", seed, 0))
            return cls(width, channels, size)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (channels, height, width) of one image."""
        height, width = self._size
        return self.config["channels"], height, width

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in ``x``.

        Parameters
        ----------
        x : Tensor, shape (B, channels, H, W), floating
            Noisy images; H and W multiples of 4 patches.
        t : Tensor, shape (B,)
            Their times, 1..T.

        Returns
        -------
        Tensor, the shape of ``x``, with the channels of the prediction
            In the dtype of the parameters, or autocast's.

        Raises
        ------
        ValueError
            If a shape is not as above.
        """
        if x.ndim != 4 or x.shape[1] != self.config["channels"] or x.shape[2] % self._unit or x.shape[3] % self._unit:
            raise ValueError(
                f"x must have shape (B, {self.config['channels']}, H, W) with H and W multiples of {self._unit}; "
                f"its shape is {tuple(x.shape)}"
            )
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have one entry for each of the {len(x)} images; its shape is {tuple(t.shape)}")
        emb = self.embedding(t)
        h_in = self.conv_in(self.fold(x))
        h1 = self.res1(h_in, emb)
        h2 = self.res2(h1, emb)
        h3 = self.res3(self.down1(h2), emb)
        h4 = self.res4(self.att3(h3), emb)
        h5 = self.res5(self.down2(self.att4(h4)), emb)
        h6 = self.res6(h5, emb)

        h = self.att7(self.res7(h6, emb))
        h = self.att8(self.res8(h, emb))

        h = self.res9(torch.cat([h, h6], dim=1), emb)
        h = self.up2(self.res10(torch.cat([h, h5], dim=1), emb))
        h = self.att11(self.res11(torch.cat([h, h4], dim=1), emb))
        h = self.up1(self.att12(self.res12(torch.cat([h, h3], dim=1), emb)))
        h = self.res13(torch.cat([h, h2], dim=1), emb)
        h = self.res14(torch.cat([h, h1], dim=1), emb)
        out: Tensor = self.unfold(self.conv_out(F.silu(self.norm_out(torch.cat([h, h_in], dim=1)))))
        return out


class TimeEmbedding(nn.Module):
    """Sinusoidal encoding of t with c features (Vaswani et al. 2017), then two linear layers of 4c."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, 4 * width)

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        # Computed where it is used, in float32: a table among the weights would be averaged, cast and saved with them.
        frequency = torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / half))
        angle = t[:, None].float() * frequency
        features = torch.cat([angle.sin(), angle.cos()], dim=1)
        emb: Tensor = self.linear2(F.silu(self.linear1(features.to(self.linear1.weight.dtype))))
        return emb


class ResidualBlock(nn.Module):
    """Two normalised 3 x 3 convolutions with the time between them, and a 1 x 1 skip from the normalised input."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm_embedding = nn.GroupNorm(groups, embedding)
        self.linear = nn.Linear(embedding, channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.norm1(x)
        y = self.conv1(F.silu(h))
        y = y + self.linear(self.norm_embedding(emb))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        out: Tensor = y + self.skip(h)
        return out


class AttentionBlock(nn.Module):
    """Single-head self-attention over the pixels of the normalised input, added to that input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        pixels = h.flatten(2).transpose(1, 2)  # (B, H W, C)
        q, k, v = self.query_key_value(pixels)[:, None].chunk(3, dim=-1)  # one head
        attention = self.project(F.scaled_dot_product_attention(q, k, v)[:, 0])
        out: Tensor = h + attention.transpose(1, 2).reshape(h.shape)
        return out
