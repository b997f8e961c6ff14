r"""The forward process whose mean is the renormalised heat flow, image by image.

The state at step k is the exact solution of eq. (22) from the image, plus Gaussian noise of all pixels,

.. math:: x_k = u(t_k; x_0) + \sigma_k\, \epsilon, \qquad 0 = t_0 < t_1 < \ldots < t_K, \quad \sigma_0 = 0 ,

with the mean of the image kept. The flow is not linear in :math:`x_0`, as its multiplier depends on the image, and
the process is not Markov. It need not be: the posterior of `flow_posterior` holds for any deterministic flow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from diffmath._arguments import as_rng, real_array, require_count, require_instance, require_number
from diffmath.domains import Box
from diffmath.heat.grid import Floats, heat_sigma, heat_times, require_times
from diffmath.heat.law import TerminalLaw
from diffmath.heat.moments import ROUNDING, Moments
from diffmath.process import Array, Process, Times

__all__ = ["HeatProcess", "flow_posterior"]

SMALLEST = 1e-18  # of a decay in float32, whose square is a normal number


def flow_posterior(
    x: Array, u: Array, u_s: Array, sigma: Any, sigma_s: Any, kappa: Any
) -> tuple[Array, npt.NDArray[np.float64]]:
    r"""Eqs. (32), (34): the law of an earlier state given a later one and the image, for any deterministic flow.

    .. math:: q(x_s | x_k, x_0) = N\Bigl(u_s + \sigma_s \kappa\, \frac{x_k - u_k}{\sigma_k},\;
              \sigma_s^2 (1 - \kappa^2) \Bigr)

    If x_k has the law N(u_k, sigma_k^2), then x_s has N(u_s, sigma_s^2), whatever kappa is in [0, 1].

    Parameters
    ----------
    x, u, u_s : array or Tensor
        The state, and the flow at its time and at the earlier one.
    sigma, sigma_s, kappa : float or array
        The deviations of the noise at these times, and the share of it that is kept.

    Returns
    -------
    mean : array or Tensor
    deviation : numpy.ndarray

    Examples
    --------
    >>> flow_posterior(np.array([3.0]), np.array([1.0]), np.array([5.0]), sigma=1.0, sigma_s=0.5, kappa=0.6)
    (array([5.6]), np.float64(0.4))
    """
    x, u, u_s = (_samples(value, name) for value, name in ((x, "x"), (u, "u"), (u_s, "u_s")))
    numbers = ((sigma, "sigma"), (sigma_s, "sigma_s"), (kappa, "kappa"))
    sigma, sigma_s, kappa = (real_array(value, name).astype(np.float64) for value, name in numbers)
    shapes = [tuple(values.shape) for values in (x, u, u_s, sigma, sigma_s, kappa)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"x, u, u_s, sigma, sigma_s and kappa must have shapes that fit; they have {shapes}") from None
    if not ((kappa >= 0) & (kappa <= 1)).all():
        raise ValueError(f"kappa must lie in [0, 1]; it ranges from {kappa.min()} to {kappa.max()}")
    if not (sigma > 0).all():
        raise ValueError(f"sigma must be positive where there is a state to walk back from; it is {sigma}")
    return u_s + _like(sigma_s * kappa / sigma, x) * (x - u), sigma_s * np.sqrt(1 - kappa**2)


class HeatProcess(Process):
    r"""The renormalised heat flow of each image, with noise; its way back needs the flow's prediction alone.

    Images have shape (N, 1, H, W), numpy or torch, and lie on the unit square. A *state* has shape (N, 3, H, W): the
    noisy image, and what the flow keeps, the mean of the pixels and log C, as two constant images. Amplitudes are of
    cosines that are orthonormal for the sum over pixels, so that noise is as large in each mode as in each pixel.

    Parameters
    ----------
    shape : (int, int)
        H and W.
    times, sigma : array of float, shape (K + 1,), optional
        They begin with 0. Those of `heat_times` and `heat_sigma` by default.
    moments : Moments, optional
        What a training set tells of the flow; `fit` finds it.
    law : TerminalLaw, optional
        Of the three numbers to start from; likewise.

    Examples
    --------
    >>> process = HeatProcess((8, 8))
    >>> x_0 = np.random.default_rng(0).uniform(-1, 1, (2, 1, 8, 8))
    >>> u = process.flow(x_0, [20, 40])
    >>> bool(np.allclose(process.energy(u), process.energy(x_0), rtol=1e-12))
    True
    """

    def __init__(
        self,
        shape: tuple[int, int],
        times: npt.ArrayLike | None = None,
        sigma: npt.ArrayLike | None = None,
        moments: Moments | None = None,
        law: TerminalLaw | None = None,
    ) -> None:
        self.domain = Box(shape)
        if len(self.domain.shape) != 2:
            raise ValueError(f"shape must be the height and the width of an image; it is {shape}")
        n = max(self.domain.shape)
        self.times = heat_times(n) if times is None else require_times(times)
        self.sigma = heat_sigma(self.times, n) if sigma is None else real_array(sigma, "sigma").astype(np.float64)
        if self.sigma.shape != self.times.shape or self.sigma[0] != 0 or not (self.sigma[1:] > 0).all():
            raise ValueError(f"sigma must be one for each time, 0 and then positive; it is {self.sigma}")
        for name, value, kind in (("moments", moments, Moments), ("law", law, TerminalLaw)):
            if value is not None:
                require_instance(name, value, kind)
        self.n_steps, self.modes = len(self.times) - 1, self.domain.shape
        expected = (len(self.times), *self.modes)
        if moments is not None and any(table.shape != expected for table in moments):
            raise ValueError(f"moments must have shape {expected}; they have {moments.mean.shape}")
        self.moments, self.law = moments, law
        decided = (self.times[1:] > 8e-4) & (self.times[1:] < 4e-2)  # when it is decided which digit it will be
        self.frequencies = np.where(decided, 4.0, 1.0)
        self._cache: dict[tuple[str, ...], Any] = {}
        self._freeze()

    @classmethod
    def fit(cls, images: Any, times: Any = None, sigma: Any = None, n_moments: int = 6000) -> HeatProcess:
        """The process with the moments and the terminal law of a training set.

        Parameters
        ----------
        images : array or Tensor of float, shape (N, 1, H, W), pixels in [-1, 1]
        times, sigma : optional
            As for the class.
        n_moments : int
            The number of images, the first ones, for the moments; the law has all.

        Examples
        --------
        >>> images = np.random.default_rng(0).uniform(-1, 1, (20, 1, 8, 8))
        >>> HeatProcess.fit(images, times=[0, 0.001, 0.1]).start(4, np.random.default_rng(0)).shape
        (4, 3, 8, 8)
        """
        x_0 = real_array(images, "images")
        if not np.isfinite(x_0).all():
            raise ValueError("images must be finite; they hold NaN or infinity")
        if x_0.ndim != 4 or x_0.shape[1] != 1 or len(x_0) < 2:
            raise ValueError(f"images must have shape (N, 1, H, W) with N >= 2; their shape is {x_0.shape}")
        process = cls(x_0.shape[2:], times, sigma)
        n = require_count("n_moments", n_moments, 2)
        law = TerminalLaw(process.triples(x_0))
        return cls(x_0.shape[2:], process.times, process.sigma, process._moments_of(x_0[:n, 0]), law)

    # The flow

    def to_modes(self, x: Array) -> Array:
        """The amplitudes of images in orthonormal cosines, over the last two axes."""
        rows, columns = (self._table(f"cosines_{n}", x) for n in self.modes)
        return rows @ x @ columns.T

    def to_pixels(self, c: Array) -> Array:
        """The images of amplitudes, the inverse of `to_modes`."""
        rows, columns = (self._table(f"cosines_{n}", c) for n in self.modes)
        return rows.T @ c @ columns

    def flow_modes(self, c: Array, t: Times) -> Array:
        r"""The amplitudes of :math:`u(t_k)` from those of the images: decayed, and scaled to the energy they had."""
        mu = self._table("mu", c)
        v = c * self.at("decay", t, c)
        size = (mu * c**2).sum((-2, -1)) / (mu * v**2).sum((-2, -1))
        u = v * (size**0.5)[..., None, None]
        u[..., 0, 0] = c[..., 0, 0]
        return u

    def flow(self, x_0: Array, t: Times) -> Array:
        """Eqs. (22), (31) with the mean kept: the image at the times of steps t, one or one for each image, 0..K.

        Raises
        ------
        ValueError
            If an image is constant, and has no energy to be kept.

        Examples
        --------
        >>> x_0 = np.random.default_rng(0).uniform(-1, 1, (1, 1, 8, 8))
        >>> bool(np.allclose(HeatProcess((8, 8)).flow(x_0, 0), x_0))
        True
        """
        t_ = self._time(t, "t", least=0)
        pixels = (x_0 := self._images(x_0)).reshape(len(x_0), -1)
        if not (pixels != pixels[:, :1]).any(1).all():
            raise ValueError("x_0 must not be constant: such an image has no energy to be kept")
        return self.to_pixels(self.flow_modes(self.to_modes(x_0), t_))

    def energy(self, x: Array) -> Array:
        r"""The integral C of :math:`|\nabla x|^2` on the unit square, which (31) keeps, shape (N, 1).

        Examples
        --------
        >>> x = np.broadcast_to(np.cos(np.pi * (np.arange(8) + 0.5) / 8), (1, 1, 8, 8))
        >>> bool(np.isclose(HeatProcess((8, 8)).energy(x)[0, 0], np.pi**2 / 2))
        True
        """
        return self._energy(self.to_modes(self._images(x, "x")))

    def add_noise(self, x_0: Array, eps: Array, t: Times) -> Array:
        """Eq. (31), the state at t: the flow of the images plus the noise, with the mean and log C beside it.

        Examples
        --------
        >>> x_0 = np.random.default_rng(0).uniform(-1, 1, (2, 1, 8, 8))
        >>> HeatProcess((8, 8)).add_noise(x_0, np.zeros_like(x_0), [3, 5]).shape
        (2, 3, 8, 8)
        """
        c, eps, t_ = self.to_modes(self._images(x_0)), self._images(eps, "eps"), self._time(t, "t", least=0)
        return self.noisy(c, self.flow_modes(c, t_), eps, t_)

    def noisy(self, c: Array, u: Array, eps: Array, t: Times) -> Array:
        """The state at t from the amplitudes of the images and of their flow there, unchecked."""
        x = self.to_pixels(u) + self.at("sigma", t, c) * eps
        return self.state(x, c[..., 0, 0] / math.sqrt(math.prod(self.modes)), self._energy(c))

    def state(self, x: Array, mean: Array, C: Array) -> Array:
        """A state from noisy images and the numbers of each, of shape (N, 1)."""
        state = x.new_empty((len(x), 3, *self.modes)) if hasattr(x, "new_empty") else np.empty((len(x), 3, *self.modes))
        state[:, :1] = x
        state[:, 1] = mean[..., None]
        state[:, 2] = (C.log() if hasattr(C, "log") else np.log(C))[..., None]
        return state

    def image(self, x: Array) -> Array:
        """The image in a state."""
        return x[:, :1]

    # The start

    def triples(self, x_0: Array) -> Floats:
        """The mean, log C and the angle of the gradient that the flow of each image ends in, shape (N, 3).

        Examples
        --------
        >>> ramp = np.broadcast_to(np.arange(8.0), (1, 1, 8, 8))  # from dark on the left to bright on the right
        >>> abs(HeatProcess((8, 8)).triples(ramp)[0, 2]).round(6)
        np.float64(3.141593)
        """
        c = self.to_modes(self._images(real_array(x_0, "x_0").astype(np.float64)))[:, 0]
        angle = np.arctan2(c[:, 1, 0], c[:, 0, 1])
        triples: Floats = np.stack(
            [c[:, 0, 0] / math.sqrt(math.prod(self.modes)), np.log(self._energy(c)), angle], axis=1
        )
        return triples

    def gradients(self, triples: npt.ArrayLike) -> Floats:
        """The images (N, 1, H, W) in which a flow ends, from their three numbers.

        Examples
        --------
        >>> process = HeatProcess((8, 8))
        >>> process.triples(process.gradients([[0.5, 1.0, -2.0]])).round(6).tolist()
        [[0.5, 1.0, -2.0]]
        """
        mean, log_C, angle = _triples(triples).T
        c = np.zeros((len(mean), 1, *self.modes))
        size = np.exp(log_C / 2) * math.sqrt(math.prod(self.modes) / self.domain.lowest_eigenvalue)
        c[:, 0, 0, 0] = mean * math.sqrt(math.prod(self.modes))
        c[:, 0, 0, 1], c[:, 0, 1, 0] = size * np.cos(angle), size * np.sin(angle)
        pixels: Floats = self.to_pixels(c)
        return pixels

    def start(
        self, n_samples: int, rng: np.random.Generator | int | None = None, triples: npt.ArrayLike | None = None
    ) -> Floats:
        """States at T: gradients of the terminal law, or of given triples (N, 3), with noise."""
        n_samples, rng = require_count("n_samples", n_samples), as_rng(rng)
        if triples is None:
            if self.law is None:
                raise ValueError("the process has no terminal law to start from: HeatProcess.fit finds it")
            triples = self.law.sample(n_samples, rng)
        numbers = _triples(triples)
        x = self.gradients(numbers)
        x += self.sigma[-1] * rng.standard_normal(x.shape)
        state: Floats = self.state(x, numbers[:, :1], np.exp(numbers[:, 1:2]))
        return state

    # The way back

    def kept(self, t: int, s: int, eta: float = 1.0) -> Floats:
        r"""The share :math:`\kappa = e^{-\eta \mu (t_t - t_s)}` of the noise that a step keeps, by mode."""
        mu = self.domain.eigenvalues
        with np.errstate(invalid="ignore"):
            return np.where(mu > 0, np.exp(-eta * mu * (self.times[t] - self.times[s])), 1.0)

    def backward_step(
        self, x: Array, u: Array, increment: Array, z: Array, t: int, s: int | None = None, eta: float = 1.0
    ) -> Array:
        r"""Eq. (33), a step back: `flow_posterior` with the predictions of :math:`u_t` and of :math:`u_{t-1} - u_t`.

        Parameters
        ----------
        x, u, increment, z : array or Tensor, shape (N, 1, H, W)
            The noisy image, the two predictions, and standard Gaussian noise.
        t, s : int
            The times; s is t - 1 unless given, and the increment is stretched to longer steps.
        eta : float
            How quickly noise is renewed: 0 never, 1 at the rate of the heat equation, infinity at once.

        Examples
        --------
        >>> x_0 = np.random.default_rng(0).uniform(-1, 1, (1, 1, 8, 8))
        >>> process = HeatProcess((8, 8))
        >>> u = process.flow(x_0, 1)
        >>> bool(np.allclose(process.backward_step(u, u, x_0 - u, 0 * u, 1), x_0))
        True
        """
        named = ((x, "x"), (u, "u"), (increment, "increment"), (z, "z"))
        x, u, increment, z = (self._images(value, name) for value, name in named)
        t, s = (int(each) for each in self._times(require_count("t", t), s))
        eta = require_number("eta", eta)
        if not eta >= 0:
            raise ValueError(f"eta must not be negative; it is {eta}")
        stretch = (self.times[t] - self.times[s]) / (self.times[t] - self.times[t - 1])
        u_s = u + float(stretch) * increment
        if s == 0:
            return u_s
        c, c_u, c_s = (self.to_modes(each) for each in (x, u, u_s))
        mean, deviation = flow_posterior(c, c_u, c_s, self.sigma[t], self.sigma[s], self.kept(t, s, eta))
        return self.to_pixels(mean + _like(deviation, x) * z)

    def prediction_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Two images, the flow and its increment, for each state."""
        return (shape[0], 2, *shape[2:])

    # Storage

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Times, noise, moments and the law's triples."""
        arrays: dict[str, npt.NDArray[Any]] = {"times": self.times, "sigma": self.sigma, "shape": np.array(self.modes)}
        if self.moments is not None:
            arrays |= self.moments._asdict()
        return arrays | ({} if self.law is None else {"triples": self.law.triples})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> HeatProcess:
        """The process of its `arrays`."""
        moments = Moments(*(arrays[name] for name in Moments._fields)) if "mean" in arrays else None
        law = TerminalLaw(arrays["triples"]) if "triples" in arrays else None
        height, width = arrays["shape"].tolist()
        return cls((height, width), arrays["times"], arrays["sigma"], moments, law)

    def __getstate__(self) -> dict[str, Any]:
        """Without the tables in the precisions and on the devices where they were used."""
        return {name: value for name, value in self.__dict__.items() if name != "tables"} | {"_cache": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> HeatProcess:
        """Itself, as it never changes."""
        return self

    # Tables

    @cached_property
    def tables(self) -> dict[str, Floats]:
        """All tables by name: of modes, and over the times 0..K, float64."""
        mu, lowest = self.domain.eigenvalues, self.domain.lowest_mode
        decay = np.exp(-np.multiply.outer(self.times, self.domain.gaps(lowest)))
        decay[:, 0, 0] = 1.0
        tables = {"mu": mu, "decay": decay, "sigma": self.sigma.reshape(-1, 1, 1)}
        tables |= {f"cosines_{n}": Box(n).to_values(np.eye(n)) / math.sqrt(n) for n in self.modes}
        return tables | ({} if self.moments is None else self.moments.tables(self.times, self.sigma, mu))

    def at(self, name: str, t: Times, x: Array) -> Array:
        """A table at times, one or one for each sample, shaped to multiply images (N, 1, H, W)."""
        if self.moments is None and name not in self.tables:
            raise ValueError("the process has no moments to predict from: HeatProcess.fit finds them")
        rows = self._table(name, x)[t if hasattr(x, "new_tensor") else np.asarray(t)]
        return rows[:, None] if rows.ndim > 2 else rows

    def _table(self, name: str, x: Array) -> Array:
        """A table in the dtype and on the device of samples, made once."""
        key = name, str(x.dtype), str(getattr(x, "device", ""))
        if key not in self._cache:
            values = self.tables[name]
            if "64" not in key[1]:
                values = np.where(np.abs(values) < SMALLEST, 0.0, values)
            self._cache[key] = _like(values, x)
        return self._cache[key]

    def _energy(self, c: Array) -> Array:
        return (self._table("mu", c) * c**2).sum((-2, -1)) / math.prod(self.modes)

    def _images(self, x: Array, name: str = "x_0") -> Array:
        """Images, once they are known to be floating, and of the shape (N, 1, H, W)."""
        x = _samples(x, name)
        if x.ndim != 4 or tuple(x.shape[1:]) != (1, *self.modes):
            raise ValueError(f"{name} must have shape {('N', 1, *self.modes)}; its shape is {tuple(x.shape)}")
        return x

    def _moments_of(self, images: npt.NDArray[Any]) -> Moments:
        """The moments of a training set, one time after the other."""
        c = self.to_modes(images.astype(np.float64))
        noise, u_before = self.sigma**2, None
        rows = []
        for k in range(self.n_steps + 1):
            u = self.flow_modes(c, k)
            mean = u.mean(axis=0)
            u -= mean
            d = np.zeros_like(u) if u_before is None else u_before - u
            S, G, V = (u**2).mean(axis=0), (d * u).mean(axis=0), (d**2).mean(axis=0)
            with np.errstate(invalid="ignore"):
                R = np.nan_to_num(V - G**2 / (S + noise[k]))
            rows.append((mean, S, G, np.where(R > ROUNDING * V, R, 0.0)))
            u_before = u
        return Moments(*(np.array(each, dtype=np.float32) for each in zip(*rows, strict=True)))


def _triples(values: npt.ArrayLike) -> Floats:
    """The triples of mean, log C and angle, shape (N, 3)."""
    triples = real_array(values, "triples").astype(np.float64)
    if triples.ndim != 2 or triples.shape[1] != 3:
        raise ValueError(f"triples must have shape (N, 3); their shape is {triples.shape}")
    return triples


def _samples(x: Array, name: str) -> Array:
    """Real numbers, as a floating tensor or a numpy array."""
    if hasattr(x, "new_tensor") and not x.is_floating_point():
        raise TypeError(f"{name} must be floating; it is {x.dtype}")
    return x if hasattr(x, "new_tensor") else real_array(x, name)


def _like(values: Any, x: Array) -> Array:
    return x.new_tensor(values) if hasattr(x, "new_tensor") else np.asarray(values, x.dtype)
