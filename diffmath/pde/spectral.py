r"""The heat flow of a spectrum, without over- or underflow and without cancellation, for any time.

Mode k of the heat flow is :math:`c_k e^{-\mu_k t}`. Only ratios of modes matter to the renormalised flow, but they are
all lost once every mode has underflowed, and they lose digits long before: the exponent :math:`\mu_k t` has a relative
rounding error, so its exponential has an absolute one. Here each mode is a mantissa and an exponent of two,

.. math:: c_k e^{-\mu_k t} = f_k\, 2^{-g_k} \cdot 2^{e_k - n_k}, \qquad
          \mu_k t / \ln 2 = \sum_d k_d^2 \sigma_d = n_k + g_k, \quad \sigma_d = \frac{\pi^2 t}{L_d^2 \ln 2} ,

where :math:`c_k = f_k 2^{e_k}`, :math:`n_k` is an integer and :math:`|g_k| \le 1/2` for each axis. As :math:`k_d^2` is
an integer, g is accurate to a rounding whatever the time is, once :math:`\sigma` is known to some 100 bits. The
exponents are compared first, and only what is left of a mode beside the largest becomes a float again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from diffmath.domains.box import Box, Floats

__all__ = ["HeatModes", "QuickDecay"]

PI_SQUARED_OVER_LN_2 = Fraction("14.2388293249875054338606757113668454468202784376646520314511")
PI_SQUARED_OVER_LN_2_FLOAT = float(PI_SQUARED_OVER_LN_2)
OCTAVES = 128.0  # 2^-64 for what the lowest mode may be smaller than others, and 2^-64 for rounding
CAUTION = 1 + 1e-9  # as the octaves are known roughly when a window is chosen
ORDINARY = 400.0  # octaves whose squares are far from the ends of a float64's range
BITS_FOR_TWO_TERMS = 27  # of 128 octaves: the rest is below 128 / 2^27, and half its square below a rounding
GROUP = 1 << 15  # numbers that fit in a processor's cache
LOWEST = -1023.0  # the exponent of zero in a float64
NARROW = 400  # a range of exponents within which squares are float64 numbers
GONE = 2300.0  # octaves of decay that no ratio of amplitudes can make up for
MOST_OCTAVES = 2.0**51


class HeatModes:
    """The heat flow of a batch of spectra.

    Parameters
    ----------
    domain : Box
    c : array, shape (B, N_1, ..., N_n)
        Coefficients, finite, each of the B spectra with a mode that is not zero.
    """

    def __init__(self, domain: Box, c: Floats) -> None:
        self.domain = domain
        sizes = np.abs(c.reshape(len(c), -1))
        present = sizes > 0
        largest = np.frexp(sizes.max(axis=1))[1]
        self.exponent = largest.astype(np.int64)
        """``c * 2**exponent`` is the spectrum that was given, and its largest mode lies in [1/2, 1)."""
        self.c = _ldexp(c, -self.exponent.reshape(-1, *[1] * domain.ndim))
        mu = domain.eigenvalues.ravel()
        self.lowest = self._numbers(np.where(present, mu, np.inf).argmin(axis=1))
        self.highest = self._numbers(np.where(present, mu, -np.inf).argmax(axis=1))
        least = np.frexp(np.where(present, sizes, np.inf).min(axis=1))[1]
        self.split = None
        if (least < self.exponent - NARROW).any():
            mantissa, exponents = np.frexp(c)
            relative = exponents - self.exponent.reshape(-1, *[1] * domain.ndim).astype(np.float64)
            self.split = mantissa, np.where(c == 0, -np.inf, relative)

    def at(self, t: float) -> tuple[Floats, Floats, tuple[slice, ...]]:
        """The modes at a time, up to a factor for each spectrum.

        Parameters
        ----------
        t : float
            Of either sign, or infinite.

        Returns
        -------
        v : array, shape (B, K_1, ..., K_n)
            The modes of a window, outside of which they are zero beside the largest, which lies in [2^-410, 2].
        exponent : array, shape (B,)
            ``v * 2**exponent`` is the heat flow of the spectra ``c``.
        window : tuple of slice
        """
        if t == 0:
            return self.c, np.zeros(len(self.c)), (slice(None),) * self.domain.ndim
        ends = self.lowest if t > 0 else self.highest
        t = math.copysign(min(abs(t), self.horizon(t)), t)
        window = self._window(t, ends)
        here = (slice(None), *window)
        fractions, octaves = zip(*(self._axis(t, axis, part) for axis, part in enumerate(window)), strict=True)
        factor, decay = _outer(np.multiply, fractions), _outer(np.add, octaves)
        if self.split is None and (ends == ends[0]).all():
            # All spectra have this mode, so what falls below 2^-1022 of it matters to none: one factor serves all.
            reference = decay[tuple(k - part.start for k, part in zip(ends[0], window, strict=True))]
            v = self.c[here] * (factor * _power_of_two(reference - decay))
            return v, np.full(len(v), -reference), window
        mantissa, exponents = self.split or (self.c, np.where(self.c == 0, -np.inf, 0.0))
        left = exponents[here] - decay
        largest = left.reshape(len(left), -1).max(axis=1)
        v = mantissa[here] * factor
        v *= _power_of_two(left - largest.reshape(-1, *[1] * self.domain.ndim))
        return v, largest, window

    def horizon(self, t: float, all_of_them: bool = True) -> float:
        """The time that counts as infinite, in the direction of t: the mode that stays has decayed by 2^51 octaves.

        All others are gone then, and the octaves are still integers of a float64. It is the least of the spectra's, or
        the greatest.
        """
        rates = self._decay(1.0, self.lowest if t > 0 else self.highest)
        slowest = self._decay(1.0, np.array([self.domain.lowest_mode]))[0]  # if it is the mean that stays
        times = MOST_OCTAVES / np.maximum(rates, slowest)
        return float(times.min() if all_of_them else times.max())

    def _decay(self, t: float, modes: npt.NDArray[np.intp]) -> Floats:
        """The octaves by which modes have decayed at a time, roughly."""
        rates = np.array([_rate_parts(length)[0] for length in self.domain.lengths]) * abs(t)
        decay: Floats = (rates * modes.astype(np.float64) ** 2).sum(axis=1)
        return decay

    def _numbers(self, flat: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Mode numbers, shape (B, n), from indices of flattened spectra."""
        return np.stack(np.unravel_index(flat, self.domain.shape), axis=1)

    def _window(self, t: float, ends: npt.NDArray[np.intp]) -> tuple[slice, ...]:
        """Bounds of the modes that are not zero beside the one that stays, along each axis."""
        shape, decay = self.domain.shape, self._decay(t, ends)
        rate = [abs(t) * _rate_parts(length)[0] for length in self.domain.lengths]
        # In n dimensions, the most and the least of k_d^2 along an axis that may still count.
        whole = [r * (n - 1.0) ** 2 for n, r in zip(shape, rate, strict=True)]
        if t > 0:
            most = decay.max() + GONE
            stops = [
                n if w <= most else int(math.sqrt(most / r) * CAUTION) + 1
                for n, r, w in zip(shape, rate, whole, strict=True)
            ]
            return tuple(slice(0, min(n, stop)) for n, stop in zip(shape, stops, strict=True))
        least = decay.min() - GONE - sum(whole)
        starts = [
            0 if least + w <= 0 else int(math.sqrt((least + w) / r) / CAUTION) for r, w in zip(rate, whole, strict=True)
        ]
        return tuple(slice(min(n - 1, start), n) for n, start in zip(shape, starts, strict=True))

    def _axis(self, t: float, axis: int, part: slice) -> tuple[Floats, Floats]:
        r"""The factors :math:`2^{-g}` and the octaves n of the decay along one axis."""
        k_squared = np.arange(part.start, part.stop, dtype=np.float64) ** 2
        high, middle, low = _octaves_per_mode(t, self.domain.lengths[axis], part.stop)
        decay = k_squared * high  # exact, as is the difference below
        rest = k_squared * middle
        octaves = np.rint(decay + rest)
        fraction = ((decay - octaves) + rest) + k_squared * low
        # From 2^53 octaves on it is no fraction; of such modes only those of the least octaves are left, and level.
        return np.exp2(-np.clip(fraction, -1, 1)), octaves


class QuickDecay:
    r"""The factors :math:`e^{-(\mu_k - \mu_l) t}` relative to the lowest mode l, for spectra in which l is not small.

    There the mantissas and exponents of `HeatModes` are not needed: what has decayed by some 128 powers of two more
    than the lowest mode is nothing beside it, and the others are floats. As exact, at a fraction of the cost: the part
    of the exponent that is exact goes to exp2, and the rest to the first two terms of its series, if it is so small.

    Parameters
    ----------
    domain : Box
    times : array of float, shape (n,)
        Not negative, finite, in increasing order.
    """

    def __init__(self, domain: Box, times: Floats) -> None:
        self.domain, self.times = domain, times
        rates = [_rate_parts(length)[0] for length in domain.lengths]
        self.sigma = [times * rate for rate in rates]
        of_lowest = sum(rate * k * k for rate, k in zip(rates, domain.lowest_mode, strict=True))
        self.stops = [
            tuple(_reach(t * rate, OCTAVES + t * of_lowest, n) for rate, n in zip(rates, domain.shape, strict=True))
            for t in times.tolist()
        ]
        self.possible = max(domain.shape) < 1 << 25 and (
            domain.ndim == 1 or OCTAVES + float(times[-1]) * of_lowest < ORDINARY
        )

    def groups(self) -> Iterator[tuple[slice, list[Floats], tuple[slice, ...]]]:
        """Times that share a window, few enough to be worked on together.

        Yields
        ------
        part : slice
            Of the times.
        factors : list of array, shape (len(part), K_d)
            For each axis; the factor of a mode is their product.
        window : tuple of slice
            The modes that matter at these times.
        """
        first, stops = 0, self.stops
        while first < len(stops):
            most, last = max(1, GROUP // math.prod(stops[first])), first + 1
            while last < len(stops) and last - first < most and stops[last] == stops[first]:
                last += 1
            part = slice(first, last)
            factors = [self._factors(axis, part, stop) for axis, stop in enumerate(stops[first])]
            yield part, factors, tuple(slice(0, stop) for stop in stops[first])
            first = last

    def _factors(self, axis: int, part: slice, stop: int) -> Floats:
        squares = _squares(self.domain.shape[axis], self.domain.lowest_mode[axis], self.domain.ndim > 1)[:stop]
        bits = 53 - 2 * stop.bit_length()
        high, rest = _split(self.times[part], self.sigma[axis][part], self.domain.lengths[axis], bits)
        factors = np.exp2(squares * -high[:, None])
        if bits < BITS_FOR_TWO_TERMS:
            factors *= np.exp2(squares * -rest[:, None])
        else:
            rest *= -math.log(2)
            correction = squares * rest[:, None]
            correction += 1
            factors *= correction
        return factors


def _reach(sigma: float, octaves: float, n: int) -> int:
    """How many of n modes decay by less than so many octaves: rounded up to a power of four, so that times share it."""
    if sigma * (n - 1.0) ** 2 <= octaves:
        return n
    bits = int(math.sqrt(octaves / sigma) + 1).bit_length()
    return min(n, 1 << (bits + bits % 2))


@lru_cache(maxsize=64)
def _squares(n: int, reference: int, several: bool) -> Floats:
    """The differences k^2 - l^2 for k < n, read-only; in one dimension there is nothing below l but a zero."""
    squares = np.maximum(np.arange(n, dtype=np.float64) ** 2 - reference**2, -math.inf if several else 0)
    squares.setflags(write=False)
    return squares


@lru_cache(maxsize=64)
def _rate(length: float) -> tuple[int, int]:
    """pi^2 / (L^2 ln 2) as an integer of 128 bits and a power of two."""
    rate = PI_SQUARED_OVER_LN_2 / Fraction(length) ** 2
    power = 128 - (rate.numerator.bit_length() - rate.denominator.bit_length())
    return int(rate * Fraction(2) ** power), -power


@lru_cache(maxsize=64)
def _rate_parts(length: float) -> tuple[float, float, float, float]:
    """pi^2 / (L^2 ln 2) as a float; and as a sum of floats, the first two of 26 bits."""
    rate, power = _rate(length)
    parts = []
    for bits in (26, 26, 53):
        drop = max(0, rate.bit_length() - bits)
        parts.append(math.ldexp(rate >> drop, power + drop))
        rate -= (rate >> drop) << drop
    return math.fsum(parts), parts[0], parts[1], parts[2]


def _split(t: Floats, sigma: Floats, length: float, bits: int) -> tuple[Floats, Floats]:
    """The octaves sigma of mode 1 as a sum of two floats, the first of so few bits; good to some 78 bits."""
    _, r_1, r_2, r_3 = _rate_parts(length)
    t_1 = _rounded(t, 26)
    t_2 = t - t_1
    high = _rounded(sigma, bits)
    # The products of halves are exact, and so is the first difference.
    rest = ((t_1 * r_1 - high) + (t_1 * r_2 + t_2 * r_1)) + (t_2 * r_2 + t * r_3)
    return high, rest


def _rounded(x: Floats, bits: int) -> Floats:
    """The number x to so many bits (Veltkamp)."""
    scaled = x * (2.0 ** (53 - bits) + 1)
    return scaled - (scaled - x)


def _octaves_per_mode(t: float, length: float, n: int) -> tuple[float, float, float]:
    """The octaves sigma of mode 1 as a sum of three floats; the products of the first two with k^2 < n^2 are exact."""
    mantissa, exponent = math.frexp(abs(t))
    rate, power = _rate(length)
    sigma, power = int(mantissa * 2.0**53) * rate, power + exponent - 53
    bits = max(8, 53 - 2 * n.bit_length())
    parts = []
    for kept in (bits, bits, 53):
        drop = max(0, sigma.bit_length() - kept)
        parts.append(math.copysign(math.ldexp(sigma >> drop, power + drop), t))
        sigma -= (sigma >> drop) << drop
    return parts[0], parts[1], parts[2]


def _outer(operation: np.ufunc, parts: Sequence[Floats]) -> Floats:
    """The outer product or sum of one array for each axis."""
    result = parts[0]
    for part in parts[1:]:
        result = operation.outer(result, part)
    return result


def _power_of_two(exponents: Floats) -> Floats:
    """2 to the power of integers, exactly; 0 below the normal range, and no more than 2^1000: of absent modes only."""
    bits = np.clip(exponents, LOWEST, 1000).astype(np.int64)
    bits += 1023
    bits <<= 52
    return bits.view(np.float64)


def _ldexp(x: Floats, exponent: npt.NDArray[np.int64]) -> Floats:
    """The product x 2^exponent, in two steps as one power of two may exceed float64."""
    half = exponent // 2
    return x * _power_of_two(half.astype(np.float64)) * _power_of_two((exponent - half).astype(np.float64))
