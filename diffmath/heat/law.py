"""The law of what the flow leaves of an image in the end: its mean, its energy and an angle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from diffmath._arguments import ReadOnly, as_rng, real_array, require_count, require_number

__all__ = ["TerminalLaw"]


class Jitter(NamedTuple):
    """The widths of the kernels: in deviations of the mean and of log C, and in radians."""

    numbers: float = 0.05
    angle: float = 0.025


class TerminalLaw(ReadOnly):
    r"""A kernel density on the triples (mean, log C, angle) of a training set.

    In the end an image is its mean plus a gradient, :math:`\sqrt{C / \mu_1} (\cos\theta\, w_x + \sin\theta\, w_y)`.

    Parameters
    ----------
    triples : array of float, shape (n, 3)
        The mean of the pixels, log C with C the integral of the squared gradient on the unit square, and the angle
        between the gradient and the x axis, in radians.

    Examples
    --------
    >>> law = TerminalLaw([[0.1, 4.0, -1.0], [0.3, 5.0, -2.0]])
    >>> law.sample(5, rng=0).shape
    (5, 3)
    """

    def __init__(self, triples: npt.ArrayLike) -> None:
        values = real_array(triples, "triples")
        if values.ndim != 2 or values.shape[1] != 3 or len(values) < 2:
            raise ValueError(f"triples must have shape (n, 3) with n >= 2; their shape is {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError("triples must be finite; they hold NaN or infinity")
        self.triples = values.astype(np.float32)
        numbers = self.triples[:, :2].astype(np.float64)
        # of the mean and of log C
        self.centre, self.scale = numbers.mean(axis=0), numbers.std(axis=0)
        if not (self.scale > 0).all():
            raise ValueError("the means and the energies of triples must differ; some are all equal")
        self._freeze()

    def sample(
        self, n_samples: int, rng: np.random.Generator | int | None = None, width: float = 1.0
    ) -> npt.NDArray[np.float64]:
        """Draw triples.

        Parameters
        ----------
        n_samples : int
        rng : numpy.random.Generator or int, optional
            The source of randomness, or its seed.
        width : float
            Of the kernels, as a multiple of 0.05 deviations and 0.025 rad; 0 draws from the training set itself.

        Returns
        -------
        numpy.ndarray, float64, shape (n_samples, 3)

        Examples
        --------
        >>> TerminalLaw([[0.1, 4.0, -1.0], [0.3, 5.0, -2.0]]).sample(1, rng=0, width=0.0).round(1).tolist()
        [[0.3, 5.0, -2.0]]
        """
        width = require_number("width", width)
        if not 0 <= width < np.inf:
            raise ValueError(f"width must be finite and not negative; it is {width}")
        generator = as_rng(rng)
        drawn = self.triples[generator.integers(len(self.triples), size=require_count("n_samples", n_samples))]
        jitter = Jitter()
        widths = np.array([*(jitter.numbers * self.scale), jitter.angle])
        return drawn + width * widths * generator.standard_normal(drawn.shape)
