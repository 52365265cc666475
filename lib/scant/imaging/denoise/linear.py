"""Linear filters of stabilised images (noise sd 1): what any cleverer denoiser must beat, and must not be mistaken for.

Both average over the whole crystal: a periodic lattice comes out splendidly, and a missing atom is filled in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import fftfreq, irfft2, rfft2, rfftfreq

Floats = npt.NDArray[np.float32]
SIGMAS_PX = np.geomspace(0.5, 8.0, 17)
RINGS = 64


def gaussian_of_least_risk(image: npt.NDArray) -> Floats:
    """The Gaussian filter with the least mean square error by Stein's unbiased estimate (Ann. Statist. 9, 1135, 1981)."""
    spectrum, k2 = rfft2(np.asarray(image, np.float64)), _frequencies(image.shape) ** 2
    tried = []
    for sigma in SIGMAS_PX:
        transfer = np.exp(-2 * (np.pi * sigma) ** 2 * k2)
        filtered = irfft2(spectrum * transfer, s=image.shape)
        weight_of_own_pixel = float(irfft2(transfer, s=image.shape)[0, 0])
        tried.append((float(((image - filtered) ** 2).mean()) + 2 * weight_of_own_pixel, filtered))
    return np.asarray(min(tried, key=lambda pair: pair[0])[1], np.float32)


def radial_wiener(image: npt.NDArray) -> Floats:
    """Wiener filter from the image's own spectrum, averaged over rings of equal frequency, white noise of sd 1 taken off."""
    spectrum = rfft2(np.asarray(image, np.float64))
    ring = np.minimum((_frequencies(image.shape) * 2 * RINGS).astype(int), 2 * RINGS - 1)
    power = np.abs(spectrum) ** 2 / image.size
    power[0, 0] = 0
    mean = np.bincount(ring.ravel(), power.ravel(), 2 * RINGS) / np.maximum(np.bincount(ring.ravel(), minlength=2 * RINGS), 1)
    gain = np.maximum(mean - 1, 0) / np.maximum(mean, 1e-12)
    transfer = gain[ring]
    transfer[0, 0] = 1
    return np.asarray(irfft2(spectrum * transfer, s=image.shape), np.float32)


def _frequencies(shape: tuple[int, ...]) -> npt.NDArray:
    """Modulus of the frequency, cycles per pixel, on the half plane of `rfft2`."""
    return np.hypot(fftfreq(shape[0])[:, None], rfftfreq(shape[1])[None, :])
