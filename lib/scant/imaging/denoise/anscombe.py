"""Generalised Anscombe transform for Poisson-Gauss noise and its exact unbiased inverse.

A pixel z in electrons has variance ``excess * mean + read**2`` (excess: the detector's excess noise, 1 for a pure counter). Scaled by
1/excess it is Poisson plus Gauss with sd ``read / excess``, and ``2 sqrt(z + 3/8 + sd**2)`` has a variance close to 1 (Starck, Murtagh &
Bijaoui 1998). A denoiser of the stabilised image estimates its mean, E[f(z)], so the way back is the inverse of mean -> E[f(z)], not of
f: the algebraic inverse is biased low by about a quarter of a count. Makitalo & Foi, IEEE Trans. Image Process. 20, 99 (2011) and 22, 91
(2013). The inverse is tabulated: their closed form is off by up to 0.03 counts (0.045 with read noise), where a table costs no more.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.special import gammaln, xlogy

from scant.errors import InputError

TABLE_LAST = 36.0
"""Last stabilised value of the table (a mean of about 320 counts); beyond, the correction to D^2/4 - 1/8 - sd^2 is below 1e-3 counts and
falls as 1/D^2."""
TABLE_STEP = 1.0 / 64.0
GAUSS_NODES = 48


def stabilise(image_e: npt.NDArray, *, read_noise_e: float, excess_noise: float) -> npt.NDArray[np.float32]:
    """Stabilised image, noise sd 1 wherever the mean exceeds a few electrons.

    image_e: any shape, electrons; noise variance in e^2 is ``excess_noise * mean + read_noise_e**2``. Values below ``-3/8 excess - read^2
    / excess`` (only noise goes there) become 0. Raises InputError for noise figures that are not physical.
    """
    _check_noise(read_noise_e, excess_noise)
    return _stabilise(np.asarray(image_e, dtype=np.float32).ravel(), np.float32(read_noise_e), np.float32(excess_noise)).reshape(
        np.shape(image_e)
    )


def destabilise(stabilised: npt.NDArray, *, read_noise_e: float, excess_noise: float) -> npt.NDArray[np.float32]:
    """Exact unbiased inverse: the mean in electrons whose stabilised expectation is the given value; 0 below the expectation of an empty
    pixel.

    stabilised: any shape, the denoised output of `stabilise` with the same noise figures. Raises InputError like `stabilise`.
    """
    _check_noise(read_noise_e, excess_noise)
    sd = read_noise_e / excess_noise
    first, correction = _inverse_table(sd)
    flat = np.asarray(stabilised, dtype=np.float32).ravel()
    return _destabilise(flat, (sd, excess_noise, first, TABLE_STEP), correction).reshape(np.shape(stabilised))


def expected_stabilised(mean_counts: npt.NDArray[np.float64], sd: float) -> npt.NDArray[np.float64]:
    """E[2 sqrt(max(p + n + 3/8 + sd^2, 0))], p Poisson of the given means (n,), n Gauss of the given sd, by summation and quadrature."""
    counts = np.arange(_last_count(float(np.max(mean_counts))) + 1, dtype=np.float64)
    nodes, weights = np.polynomial.hermite_e.hermegauss(GAUSS_NODES if sd > 0 else 1)
    argument = counts[:, None] + sd * nodes[None, :] + 3 / 8 + sd**2
    conditional = (2 * np.sqrt(np.maximum(argument, 0.0))) @ (weights / weights.sum())
    return np.array([np.exp(xlogy(counts, mean) - mean - gammaln(counts + 1)) @ conditional for mean in mean_counts])


def _check_noise(read_noise_e: float, excess_noise: float) -> None:
    if not (math.isfinite(excess_noise) and excess_noise > 0):
        raise InputError(
            f"excess_noise is {excess_noise}; it must be finite and above 0 (1 for a pure counter): take it from the calibration"
        )
    if not (math.isfinite(read_noise_e) and read_noise_e >= 0):
        raise InputError(f"read_noise_e is {read_noise_e} e; it must be finite and at least 0: take it from the calibration")


def _last_count(mean: float) -> int:
    return int(mean + 12 * math.sqrt(mean + 1) + 12)


@lru_cache(maxsize=16)
def _inverse_table(sd: float) -> tuple[float, npt.NDArray[np.float64]]:
    """Expectation of an empty pixel, and mean - D^2/4 + 1/8 + sd^2 on a uniform grid of D from there on: a smooth, small correction."""
    last_mean = TABLE_LAST**2 / 4 + 10
    means = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 120), np.arange(1.05, 20, 0.05), np.arange(20, last_mean, 0.5)])
    expectation = expected_stabilised(means, sd)
    first = float(expectation[0])
    grid = first + TABLE_STEP * np.arange(max(2, math.ceil((TABLE_LAST - first) / TABLE_STEP) + 1))
    smooth = means - expectation**2 / 4 + 1 / 8 + sd**2
    return first, np.interp(grid, expectation, smooth)


@njit(cache=True)
def _stabilise(image_e, read_noise_e, excess_noise):
    out = np.empty_like(image_e)
    offset = np.float32(0.375) * excess_noise * excess_noise + read_noise_e * read_noise_e
    scale = np.float32(2.0) / excess_noise
    for i in range(image_e.size):
        argument = excess_noise * image_e[i] + offset
        # written so that NaN stays NaN
        out[i] = np.float32(0.0) if argument < np.float32(0.0) else scale * np.sqrt(argument)
    return out


@njit(cache=True)
def _destabilise(stabilised, noise, correction):
    sd, excess_noise, first, step = noise
    out = np.empty_like(stabilised)
    last = first + (correction.size - 1) * step
    for i in range(stabilised.size):
        value = float(stabilised[i])
        place = (value - first) / step
        if place <= 0.0:
            out[i] = 0.0
            continue
        counts = value * value / 4.0 - 0.125 - sd * sd
        if place < correction.size - 1:
            cell = int(place)
            counts += correction[cell] + (place - cell) * (correction[cell + 1] - correction[cell])
        else:
            counts += correction[-1] * (last / value) ** 2
        out[i] = counts * excess_noise
    return out
