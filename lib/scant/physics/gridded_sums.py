"""The structure sums of `structure_sums` by a non-uniform FFT: atoms spread on a fine grid, one FFT per power of the height.

On a CPU core this costs an eighth of the matrix products at 1,000 atoms (tests/benchmarks) and differs from them by less than
1e-4 of the largest sum. Kernel: exponential of a semicircle (Barnett, Magland and af Klinteberg, SIAM J. Sci. Comput. 41 (2019)
C479). The gradient is the derivative of the spread sums themselves, so energy and gradient belong together to rounding.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np
import scipy.fft

from scant.physics.structure_sums import Band

KERNEL_WIDTH = 6
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
        self._beta = float(0.98 * np.pi * (1 - 0.5 / oversampling) * KERNEL_WIDTH)
        n_y, n_x = self.cells
        self._cells_per_angstrom = np.float32(n_x / band.width_angstrom), np.float32(n_y / band.height_angstrom)
        by_x = _kernel_transform(np.arange(band.n_kx + 1) / n_x, self._beta)
        by_y = _kernel_transform(np.arange(-band.n_ky, band.n_ky + 1) / n_y, self._beta)
        self._deconvolve = (1 / (by_y[:, None] * by_x[None, :])).astype(np.float32)

    def waves(self, positions: Any) -> Any:
        """Positions (B, N, 3) in cells of the fine grid for x and y, in angstrom for z."""
        cells = np.array([*self._cells_per_angstrom, 1], np.float32)
        return ((positions + np.array([self.offset_angstrom] * 2 + [0])) * cells).astype(np.float32)

    def sums(self, waves: Any, members: Any) -> Any:
        """S_m(k): (B, M, 2 n_ky + 1, n_kx + 1) complex64; `members` (B, N) are weights of the atoms, None all ones."""
        fine = np.zeros((len(waves), self.n_orders, *self.cells), np.float32)
        _spread(waves, _weights(waves, members), self._beta, fine)
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
        _gather(fields, waves, _weights(waves, members), self._beta, gradient)
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
    kernel = np.exp(beta * (np.sqrt(1 - nodes**2) - 1))
    return half * (np.cos(2 * np.pi * np.asarray(k_per_cell)[:, None] * half * nodes) * kernel * weights).sum(axis=1)


@numba.njit(cache=True, fastmath=True, inline="always")
def _kernel(at: float, beta: float, value: np.ndarray, slope: np.ndarray) -> int:
    """First cell of the kernel around `at`, its values, and its slopes with respect to `at`."""
    half = np.float32(KERNEL_WIDTH / 2)
    first = int(np.ceil(at - half))
    for c in range(KERNEL_WIDTH):
        u = (np.float32(first + c) - at) / half
        root = np.sqrt(max(np.float32(1e-6), np.float32(1) - u * u))
        value[c] = np.exp(beta * (root - np.float32(1)))
        slope[c] = value[c] * beta * u / (root * half)
    return first


@numba.njit(cache=True, fastmath=True)
def _spread(waves: np.ndarray, weights: np.ndarray, beta: float, fine: np.ndarray) -> None:
    """Add weight * z^m of every atom to the cells around it."""
    n_frames, n_orders, ny, nx = fine.shape
    kernel_x, kernel_y, slope = np.empty((3, KERNEL_WIDTH), np.float32)
    columns = np.empty(KERNEL_WIDTH, np.int64)
    for b in range(n_frames):
        for j in range(waves.shape[1]):
            power = weights[b, j]
            if power == 0:
                continue
            first_x = _kernel(waves[b, j, 0], beta, kernel_x, slope)
            first_y = _kernel(waves[b, j, 1], beta, kernel_y, slope)
            for c in range(KERNEL_WIDTH):
                columns[c] = (first_x + c) % nx
            for m in range(n_orders):
                for r in range(KERNEL_WIDTH):
                    row = (first_y + r) % ny
                    factor = power * kernel_y[r]
                    for c in range(KERNEL_WIDTH):
                        fine[b, m, row, columns[c]] += factor * kernel_x[c]
                power *= waves[b, j, 2]


@numba.njit(cache=True, fastmath=True)
def _gather(fields: np.ndarray, waves: np.ndarray, weights: np.ndarray, beta: float, gradient: np.ndarray) -> None:
    """Slopes of sum_m weight * z^m * field_m(r) by x and y (per cell) and z at every atom."""
    n_frames, n_orders, ny, nx = fields.shape
    kernel_x, kernel_y, slope_x, slope_y = np.empty((4, KERNEL_WIDTH), np.float32)
    columns = np.empty(KERNEL_WIDTH, np.int64)
    for b in range(n_frames):
        for j in range(waves.shape[1]):
            first_x = _kernel(waves[b, j, 0], beta, kernel_x, slope_x)
            first_y = _kernel(waves[b, j, 1], beta, kernel_y, slope_y)
            for c in range(KERNEL_WIDTH):
                columns[c] = (first_x + c) % nx
            z, power, lower = waves[b, j, 2], np.float32(1), np.float32(0)
            by_x, by_y, by_z = np.float32(0), np.float32(0), np.float32(0)
            for m in range(n_orders):
                value, along_x, along_y = np.float32(0), np.float32(0), np.float32(0)
                for r in range(KERNEL_WIDTH):
                    row = (first_y + r) % ny
                    plain, sloped = np.float32(0), np.float32(0)
                    for c in range(KERNEL_WIDTH):
                        field = fields[b, m, row, columns[c]]
                        plain += field * kernel_x[c]
                        sloped += field * slope_x[c]
                    value += plain * kernel_y[r]
                    along_x += sloped * kernel_y[r]
                    along_y += plain * slope_y[r]
                by_x += power * along_x
                by_y += power * along_y
                by_z += lower * value
                lower = np.float32(m + 1) * power
                power *= z
            gradient[b, j, 0] = weights[b, j] * by_x
            gradient[b, j, 1] = weights[b, j] * by_y
            gradient[b, j, 2] = weights[b, j] * by_z
