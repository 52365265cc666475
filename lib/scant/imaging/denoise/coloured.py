"""Noise that is not white, as BM3D needs it: the variance of each coefficient of a transformed patch.

The transform of a patch is linear, so the variance of a coefficient is the noise's autocovariance seen through its basis function (Dabov,
Foi & Egiazarian, EUSIPCO 2008). Patches of a group are taken as independent. They are not: patches are found alike because they share
noise, which Makinen, Azzari & Foi (2020) account for coefficient by coefficient; here threshold and Wiener filter are made stronger by a
law tuned on a lattice and on camera.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scant.errors import InputError

SMALLEST_SIDE = 16
# Per e-fold of the pixels that share noise.
STRONGER_THRESHOLD, STRONGER_WIENER = 0.27, 1.5


def coefficient_variances(matrix: npt.NDArray[np.floating], spectrum: npt.NDArray[np.floating] | None) -> npt.NDArray[np.float64]:
    """Variances (8, 8) of the coefficients matrix @ patch @ matrix.T of noise whose pixels have variance 1, row frequency first.

    spectrum (n, n), n >= 16: power of the noise at the frequencies np.fft.fftfreq(n), 1 everywhere for white noise; None is white.
    """
    size = len(matrix)
    if spectrum is None:
        return np.ones((size, size))
    covariance = np.fft.ifft2(spectrum).real
    lag = np.subtract.outer(np.arange(size), np.arange(size))
    between_pixels = covariance[lag[:, None, :, None], lag[None, :, None, :]]
    return np.asarray(np.einsum("ia,jb,abcd,ic,jd->ij", matrix, matrix, between_pixels, matrix, matrix, optimize=True))


def check_spectrum(spectrum: npt.NDArray[np.floating] | None) -> None:
    """Raises InputError for a spectrum that is no image of finite powers above 0, or too small for the lags within a patch."""
    if spectrum is None:
        return
    if spectrum.ndim != 2 or min(spectrum.shape) < SMALLEST_SIDE or not (np.isfinite(spectrum).all() and spectrum.min() > 0):
        raise InputError(
            f"a noise spectrum is a square of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} finite powers above 0; given {spectrum.shape}"
        )


def stronger_filters(spectrum: npt.NDArray[np.floating] | None) -> tuple[float, float]:
    """Factors on the hard threshold and on the Wiener filter's noise variance, from the number of pixels that share noise: 1 if white."""
    shared = 1.0 if spectrum is None else max(1.0, float(spectrum[0, 0] / spectrum.mean()))
    return 1 + STRONGER_THRESHOLD * float(np.log(shared)), 1 + STRONGER_WIENER * float(np.log(shared))
