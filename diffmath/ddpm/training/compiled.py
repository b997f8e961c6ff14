"""Compiled networks: their gradients are checked against the uncompiled network's before they are trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffmath.ddpm.training.algorithm import Loss, Predictor

__all__ = ["differing", "gradients", "require_equal_gradients"]

NAMED = 10  # weights in an error message


def gradients(
    loss: Loss, network: Predictor, model: nn.Module, process: Any, batch: tuple[Tensor, Tensor, Tensor]
) -> dict[str, Tensor]:
    """The gradients of the mean loss of a minibatch x_0, eps, t, by weight; the model is as before afterwards.

    It is in evaluation mode meanwhile, as two networks with dropout could not agree otherwise. Small numbers stand for
    weights that are all zero: a last layer of zeros, with which a `UNet` begins, hides the gradients of all others.
    """
    training, zeros = model.training, [weight for weight in model.parameters() if not weight.any()]
    model.eval().zero_grad(set_to_none=True)
    with torch.no_grad():
        for weight in zeros:
            weight.copy_(torch.linspace(-0.1, 0.1, weight.numel()).reshape(weight.shape))
    x_0, eps, t = batch
    try:
        loss(network, process, x_0, eps, t).mean().backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    finally:
        with torch.no_grad():
            for weight in zeros:
                weight.zero_()
        model.train(training).zero_grad(set_to_none=True)


def differing(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], tolerance: float) -> list[str]:
    """The names of the weights whose gradients differ, or are missing in one of the two.

    A difference is measured in the Euclidean norm, and in units of the expected gradient's norm plus that of a gradient
    of the same shape whose entries have the root mean square of all entries: some gradients, such as those of a bias in
    front of a normalisation, are nothing but rounding errors.
    """
    squares = torch.stack([gradient.double().square().sum() for gradient in expected.values()]).sum()
    typical = (squares / sum(gradient.numel() for gradient in expected.values())).sqrt()
    wrong = expected.keys() ^ found.keys()
    for name in expected.keys() & found.keys():
        gradient = expected[name].double()
        scale = gradient.norm() + typical * gradient.numel() ** 0.5
        if not (found[name].double() - gradient).norm() <= tolerance * scale:  # NaN is never below
            wrong.add(name)
    return [name for name in {**expected, **found} if name in wrong]


def require_equal_gradients(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], dtype: torch.dtype | None
) -> None:
    """RuntimeError if the compiled network's gradients are not those of the network, up to rounding.

    Sums of many terms are rounded in another order: they may differ by 1 % in single precision (on GPUs that multiply
    in TF32) and by a quarter in a half precision. Faults of a compiler give NaN or another number altogether.
    """
    wrong = differing(expected, found, 0.01 if dtype is None else 0.25)
    if wrong:
        names = ", ".join(wrong[:NAMED]) + (f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else "")
        how = "" if dtype is None else f", or in single precision, which is autocast=False in place of {dtype}"
        raise RuntimeError(
            f"torch.compile changes the gradients of {len(wrong)} of {len(expected)} weights: {names}. Train without "
            f"compile=True (--compile){how}"
        )
