"""The structure sums of `structure_sums` by a non-uniform FFT: atoms spread on a fine grid, one FFT per power of the height.

On a CPU core this costs an eighth of the matrix products at 1,000 atoms (tests/benchmarks) and differs from them by less than
1e-4 of the largest sum. Kernel: exponential of a semicircle (Barnett, Magland and af Klinteberg, SIAM J. Sci. Comput. 41 (2019)
C479). The gradient is the derivative of the spread sums themselves, so energy and gradient belong together to rounding.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import scipy.fft

from scant.physics.spreading import KERNEL_WIDTH, gather, kernel, kernel_pieces, spread
from scant.physics.structure_sums import Band

MINIMUM_OVERSAMPLING = 1.55


class GriddedSums:
    """Same interface as MatrixSums, for NumPy arrays in float32. `cells` (y, x): size of the fine grid, without a prime factor beyond 5.

    A transform of 226 cells would take five times as long as one of 225.
    """

    def __init__(self, band: Band, n_orders: int, offset_angstrom: float):
        self.band, self.n_orders, self.offset_angstrom = band, n_orders, offset_angstrom
        waves = np.array([2 * band.n_ky + 1, 2 * band.n_kx + 1])
        self.cells = tuple(scipy.fft.next_fast_len(math.ceil(MINIMUM_OVERSAMPLING * n), real=True) for n in waves)
        oversampling = (self.cells / waves).min()
        beta = float(0.98 * np.pi * (1 - 0.5 / oversampling) * KERNEL_WIDTH)
        self._pieces = kernel_pieces(beta)
        n_y, n_x = self.cells
        self._cells_per_angstrom = np.float32(n_x / band.width_angstrom), np.float32(n_y / band.height_angstrom)
        by_x = _kernel_transform(np.arange(band.n_kx + 1) / n_x, beta)
        by_y = _kernel_transform(np.arange(-band.n_ky, band.n_ky + 1) / n_y, beta)
        self._deconvolve = (1 / (by_y[:, None] * by_x[None, :])).astype(np.float32)

    def waves(self, positions: Any) -> Any:
        """Positions (B, N, 3) in cells of the fine grid for x and y, in angstrom for z."""
        cells = np.array([*self._cells_per_angstrom, 1], np.float32)
        return ((positions + np.array([self.offset_angstrom] * 2 + [0])) * cells).astype(np.float32)

    def sums(self, waves: Any, members: Any) -> Any:
        """S_m(k): (B, M, 2 n_ky + 1, n_kx + 1) complex64; `members` (B, N) are weights of the atoms, None all ones."""
        fine = np.zeros((len(waves), self.n_orders, *self.cells), np.float32)
        spread(waves, _weights(waves, members), self._pieces, fine)
        # axis by axis: columns beyond the band are not wanted
        spectrum = scipy.fft.fft(scipy.fft.rfft(fine, axis=-1)[..., : self.band.n_kx + 1], axis=-2)
        return self.band.of_spectrum(spectrum, np) * self._deconvolve

    def pull_back(self, slopes: Any, waves: Any, members: Any) -> Any:
        """Gradient of Re sum_k,m slopes_m(k) S_m(k) with respect to (x, y, z) of each atom: (B, N, 3)."""
        # Re sum over the half-plane equals the real field of the whole plane when columns beyond the first count half.
        half = np.conj(slopes) * self._deconvolve
        half[..., 1:] *= 0.5
        n_y, n_x = self.cells
        spectrum = self.band.to_spectrum(half, n_y, np)
        spectrum[:, :, :, 0] = _hermitian_column(spectrum[:, :, :, 0])
        fields = scipy.fft.irfft(scipy.fft.ifft(spectrum, axis=-2), n=n_x, axis=-1) * np.float32(n_y * n_x)
        gradient = np.empty_like(waves)
        gather(np.ascontiguousarray(fields), waves, _weights(waves, members), self._pieces, gradient)
        gradient *= np.array([*self._cells_per_angstrom, 1], np.float32)
        return gradient


def _weights(waves: Any, members: Any) -> Any:
    """Weights (B, N) of the atoms; `members` may be the same (1, N) for all structures."""
    weights = np.ones(1, np.float32) if members is None else members
    return np.ascontiguousarray(np.broadcast_to(weights, waves.shape[:2]), np.float32)


def _hermitian_column(column: Any) -> Any:
    """The k_x = 0 column (..., ny) whose real field is that of the given one: (c(k) + conj c(-k)) / 2."""
    mirrored = np.concatenate([column[..., :1], column[..., :0:-1]], axis=-1)
    return 0.5 * (column + np.conj(mirrored))


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(200)


def _kernel_transform(k_per_cell: np.ndarray, beta: float) -> np.ndarray:
    """Fourier transform of the kernel in cells, by Gauss-Legendre quadrature."""
    nodes, weights = _quadrature()
    half = KERNEL_WIDTH / 2
    return half * (np.cos(2 * np.pi * np.asarray(k_per_cell)[:, None] * half * nodes) * kernel(nodes, beta) * weights).sum(axis=1)
