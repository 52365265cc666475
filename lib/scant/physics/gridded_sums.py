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

KERNEL_WIDTH, KERNEL_DEGREE = 6, 10
# Cells that a row of the kernel takes in a vector, the last ones empty.
LANES = 8
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
        self._pieces = _kernel_pieces(beta)
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
        _spread(waves, _weights(waves, members), self._pieces, fine)
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
        _gather(fields, waves, _weights(waves, members), self._pieces, gradient)
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


def _kernel_pieces(beta: float) -> np.ndarray:
    """Polynomials (degree + 1, LANES) of the kernel's cells in the distance f, 0 to 1, of an atom from the first; highest power first.

    Their slopes are the kernel's: what is spread and what is gathered belong together whatever the polynomials' own error, 1e-6.
    """
    f = 0.5 + 0.5 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    u = (f[:, None] + np.arange(KERNEL_WIDTH) - KERNEL_WIDTH / 2) / (KERNEL_WIDTH / 2)
    fitted = np.polynomial.chebyshev.chebfit(2 * f - 1, np.exp(beta * (np.sqrt(1 - u**2) - 1)), KERNEL_DEGREE)
    pieces = np.zeros((KERNEL_DEGREE + 1, LANES), np.float32)
    for cell in range(KERNEL_WIDTH):
        of_f = np.polynomial.Chebyshev(fitted[:, cell], domain=[0, 1]).convert(kind=np.polynomial.Polynomial)
        pieces[:, cell] = of_f.coef[::-1]
    return pieces


@numba.njit(cache=True, fastmath=True, inline="always")
def _kernel(at: float, pieces: np.ndarray, value: np.ndarray, slope: np.ndarray) -> int:
    """First cell of the kernel around `at`, its values, and its slopes with respect to `at`."""
    first = int(np.ceil(at - np.float32(KERNEL_WIDTH / 2)))
    f = np.float32(first) - at + np.float32(KERNEL_WIDTH / 2)
    for c in range(LANES):
        value[c], slope[c] = pieces[0, c], np.float32(0)
    for power in range(1, KERNEL_DEGREE + 1):
        for c in range(LANES):
            slope[c] = slope[c] * f - value[c]
            value[c] = value[c] * f + pieces[power, c]
    return first


@numba.njit(cache=True, fastmath=True)
def _spread(waves: np.ndarray, weights: np.ndarray, pieces: np.ndarray, fine: np.ndarray) -> None:
    """Add weight * z^m of every atom to the cells around it."""
    n_frames, n_orders, ny, nx = fine.shape
    kernel_x, kernel_y, slope = np.empty((3, LANES), np.float32)
    for b in range(n_frames):
        for j in range(waves.shape[1]):
            power = weights[b, j]
            if power == 0:
                continue
            first_x = _kernel(waves[b, j, 0], pieces, kernel_x, slope) % nx
            first_y = _kernel(waves[b, j, 1], pieces, kernel_y, slope)
            # an unsigned number cannot count from the end: that is what LLVM vectorises
            left, whole = np.uint64(first_x), first_x + LANES <= nx
            for m in range(n_orders):
                for r in range(KERNEL_WIDTH):
                    line, factor = fine[b, m, (first_y + r) % ny], power * kernel_y[r]
                    if whole:
                        for c in range(LANES):
                            line[left + np.uint64(c)] += factor * kernel_x[c]
                    else:
                        for c in range(KERNEL_WIDTH):
                            line[(first_x + c) % nx] += factor * kernel_x[c]
                power *= waves[b, j, 2]


@numba.njit(cache=True, fastmath=True)
def _gather(fields: np.ndarray, waves: np.ndarray, weights: np.ndarray, pieces: np.ndarray, gradient: np.ndarray) -> None:
    """Slopes of sum_m weight * z^m * field_m(r) by x and y (per cell) and z at every atom."""
    n_frames, n_orders, ny, nx = fields.shape
    kernel_x, kernel_y, slope_x, slope_y, plain, sloped = np.empty((6, LANES), np.float32)
    for b in range(n_frames):
        for j in range(waves.shape[1]):
            first_x = _kernel(waves[b, j, 0], pieces, kernel_x, slope_x) % nx
            first_y = _kernel(waves[b, j, 1], pieces, kernel_y, slope_y)
            left, whole = np.uint64(first_x), first_x + LANES <= nx
            z, power, lower = waves[b, j, 2], np.float32(1), np.float32(0)
            by_x, by_y, by_z = np.float32(0), np.float32(0), np.float32(0)
            for m in range(n_orders):
                plain[:] = 0
                sloped[:] = 0
                for r in range(KERNEL_WIDTH):
                    line = fields[b, m, (first_y + r) % ny]
                    if whole:
                        for c in range(LANES):
                            plain[c] += kernel_y[r] * line[left + np.uint64(c)]
                            sloped[c] += slope_y[r] * line[left + np.uint64(c)]
                    else:
                        for c in range(KERNEL_WIDTH):
                            plain[c] += kernel_y[r] * line[(first_x + c) % nx]
                            sloped[c] += slope_y[r] * line[(first_x + c) % nx]
                value, along_x, along_y = np.float32(0), np.float32(0), np.float32(0)
                for c in range(LANES):
                    value += plain[c] * kernel_x[c]
                    along_x += plain[c] * slope_x[c]
                    along_y += sloped[c] * kernel_x[c]
                by_x += power * along_x
                by_y += power * along_y
                by_z += lower * value
                lower = np.float32(m + 1) * power
                power *= z
            gradient[b, j, 0] = weights[b, j] * by_x
            gradient[b, j, 1] = weights[b, j] * by_y
            gradient[b, j, 2] = weights[b, j] * by_z
