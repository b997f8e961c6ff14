"""Evaluations as text and as what JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diffmath._arguments import require_each, require_instance
from diffmath.ddpm.metrics.estimates import LEAST, Estimate, Interval
from diffmath.ddpm.metrics.evaluation import Evaluation
from diffmath.ddpm.metrics.frechet import Extrapolation
from diffmath.ddpm.metrics.images import CLASSES

__all__ = ["describe", "summary", "table"]

FEW = 500  # digits; of fewer the extrapolated Frechet distance is too small


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as nested dictionaries and lists that JSON can hold, without the numbers of single images.

    A Frechet distance of fewer than 500 images is marked as "too small".

    Examples
    --------
    >>> summary(evaluate(images, test, training))["energy"]  # doctest: +SKIP
    {'value': 0.42, 'error': 0.05}
    """

    require_instance("evaluation", evaluation, Evaluation)

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", None)
            if fields is None:
                return [plain(entry) for entry in value]
            return {f: plain(v) for f, v in zip(fields, value, strict=True) if not isinstance(v, np.ndarray)}
        return value

    plainly: dict[str, Any] = plain(evaluation)
    plainly["frechet"]["too small"] = _is_biased(evaluation)
    return plainly


def table(evaluations: Mapping[str, Evaluation]) -> str:
    """Evaluations as plain text: in each of its parts a line for each of them, under its name.

    Numbers stand with their standard errors, or with 95 % intervals in brackets. A Frechet distance of fewer than 500
    images is marked, as it is too small.

    Examples
    --------
    >>> print(table({"mine": evaluate(images, test, training)}))  # doctest: +SKIP
    """

    require_instance("evaluations", evaluations, Mapping)
    require_each("evaluations", evaluations.values(), Evaluation)

    def frechet(e: Evaluation) -> str:
        return _text(e.frechet) + " (too small)" * _is_biased(e)

    columns: list[tuple[str, dict[str, Callable[[Evaluation], str]]]] = [
        (
            "On the classifier's features",
            {
                "Frechet": frechet,
                "kernel": lambda e: _text(e.kernel),
                "precision": lambda e: _text(e.neighbours.precision),
                "recall": lambda e: _text(e.neighbours.recall),
                "density": lambda e: _text(e.neighbours.density),
                "coverage": lambda e: _text(e.neighbours.coverage),
            },
        ),
        (
            "What the classifier says",
            {
                "confidence": lambda e: _text(e.confidence.mean),
                "share above 0.9": lambda e: _text(e.confidence.sure),
                "total variation of the classes": lambda e: _text(e.balance.distance),
            },
        ),
        ("Images of each digit, in %", {str(digit): _percent(digit) for digit in range(CLASSES)}),
        (
            "Pixels",
            {
                "background's mean": lambda e: _text(e.background.mean),
                "its spread": lambda e: _text(e.background.spread),
                "energy distance": lambda e: _text(e.energy),
            },
        ),
        (
            "Nearest over second nearest training image",
            {
                "median": lambda e: _text(e.memorisation.median),
                "share below 1/3": lambda e: _text(e.memorisation.copies),
            },
        ),
    ]
    width = max(map(len, evaluations), default=0)
    lines: list[str] = []
    for title, cells in columns:
        texts = [[head, *(cell(e) for e in evaluations.values())] for head, cell in cells.items()]
        padded = [[text.rjust(max(map(len, column))) for text in column] for column in texts]
        rows = zip(["", *evaluations], *padded, strict=True)
        lines += ["", title, *("  ".join([name.ljust(width), *row]).rstrip() for name, *row in rows)]
    if any(map(_is_biased, evaluations.values())):
        lines += ["", f"(too small): the Frechet distance of fewer than {FEW} images is, by about 1 for {LEAST}."]
    return "\n".join(lines[1:])


def describe(evaluations: Mapping[str, Evaluation], origin: Mapping[str, Any]) -> str:
    """The evaluations of `evaluate_beside_real` as plain text, with where the samples come from and what they mean.

    Examples
    --------
    >>> found = evaluate_beside_real(images, test, training)  # doctest: +SKIP
    >>> print(describe(found, {"file": "digits.npy"}).splitlines()[0])  # doctest: +SKIP
    100 samples (file digits.npy), and 100 real images drawn from the
    """
    require_instance("evaluations", evaluations, Mapping)
    require_instance("origin", origin, Mapping)
    if missing := {"samples", "real images"} - set(evaluations):
        raise ValueError(f"evaluations must have the entries of evaluate_beside_real; it has no {sorted(missing)}")
    samples, real = evaluations["samples"], evaluations["real images"]
    described = ", ".join(f"{name} {value}" for name, value in origin.items())
    return (
        f"{samples.n_images:,} samples ({described}), and {real.n_images:,} real images drawn from the\ntraining set, "
        f"against the {samples.n_reference:,} test images. Memorisation: against the training images, for\nthe real "
        "ones against those not drawn. Numbers stand with their standard errors, or with\n95 % intervals.\n\n"
        + table(evaluations)
    )


def _is_biased(evaluation: Evaluation) -> bool:
    return min(evaluation.n_images, evaluation.n_reference) < FEW


def _percent(digit: int) -> Callable[[Evaluation], str]:
    return lambda e: "±".join(f"{100 * number:.1f}" for number in e.balance.shares[digit])


def _text(number: Estimate | Extrapolation | Interval) -> str:
    """A number to two digits of its error, with the error."""
    value, *rest = number[:3] if isinstance(number, Interval) else number[:2]
    error = (rest[1] - rest[0]) / 4 if len(rest) == 2 else rest[0]
    places = min(6, max(0, 1 - math.floor(math.log10(error)))) if error > 0 else 3
    texts = [f"{v:z.{places}f}" for v in (value, *rest)]
    return f"{texts[0]} ± {texts[1]}" if len(texts) == 2 else f"{texts[0]} [{texts[1]}, {texts[2]}]"
