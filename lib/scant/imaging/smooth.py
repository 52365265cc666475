"""A wide Gaussian filter at a tenth of its usual cost: on bins much smaller than the Gaussian, then back by linear interpolation."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]

BINS_PER_SIGMA = 4


def wide_gaussian(image: Array, sigma_px: float) -> Array:
    """Image (y, x) convolved with a Gaussian, zero beyond its edges; within 1e-3 of `scipy.ndimage.gaussian_filter`'s range of values.

    Binning and interpolating widen the Gaussian by known variances, which are taken off its own. Narrow ones are not binned.
    """
    cell = int(sigma_px / BINS_PER_SIGMA)
    if cell < 2:
        return np.asarray(gaussian_filter(image, sigma_px, mode="constant"))
    widened = (cell**2 - 1) / 12 + cell**2 / 6
    rows, columns = (-(-side // cell) + 2 for side in image.shape)
    # A ring of empty bins: what the Gaussian throws over the edge is interpolated too.
    binned = np.zeros((rows, columns))
    _bin(np.ascontiguousarray(image, np.float64), cell, binned)
    smooth = gaussian_filter(binned, np.sqrt(sigma_px**2 - widened) / cell, mode="constant")
    out = np.empty(image.shape)
    _interpolate(smooth, cell, out)
    return out


@njit(cache=True)
def _bin(image, cell, binned):
    """Means of cells of `cell` x `cell` pixels; pixels beyond the image count as zero."""
    share = 1.0 / cell**2
    for y in range(image.shape[0]):
        row = y // cell + 1
        for x in range(image.shape[1]):
            binned[row, x // cell + 1] += image[y, x] * share


@njit(cache=True)
def _interpolate(smooth, cell, out):
    for y in range(out.shape[0]):
        at = (y + 0.5) / cell + 0.5
        i = int(at)
        v = at - i
        for x in range(out.shape[1]):
            across = (x + 0.5) / cell + 0.5
            j = int(across)
            u = across - j
            upper = smooth[i, j] + u * (smooth[i, j + 1] - smooth[i, j])
            lower = smooth[i + 1, j] + u * (smooth[i + 1, j + 1] - smooth[i + 1, j])
            out[y, x] = upper + v * (lower - upper)
