"""Structure sums S_m(k) = sum_j z_j^m exp(-2 pi i k.r_j) of many structures, and their adjoint, as real matrix products.

The exact form: it runs at the machine's limit on NumPy and CuPy alike and is the reference for `gridded_sums`. Sums over atoms
are products of cosines and sines: E(-k_y) = conj E(k_y) halves the arithmetic of the complex form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Band:
    """The half-plane of spatial frequencies k_y = -n_ky .. n_ky, k_x = 0 .. n_kx in steps of one over the padded size (height, width)."""

    n_ky: int
    n_kx: int
    height_angstrom: float
    width_angstrom: float

    @property
    def k_per_angstrom(self) -> tuple[np.ndarray, np.ndarray]:
        """kx (1, n_kx + 1) and ky (2 n_ky + 1, 1)."""
        return (
            np.arange(self.n_kx + 1)[None, :] / self.width_angstrom,
            np.arange(-self.n_ky, self.n_ky + 1)[:, None] / self.height_angstrom,
        )

    def of_spectrum(self, spectrum: Any, xp: Any) -> Any:
        """The band (..., 2 n_ky + 1, n_kx + 1) of a spectrum (..., H, n_kx + 1) whose rows are in the order of an FFT."""
        return xp.concatenate([spectrum[..., -self.n_ky :, :], spectrum[..., : self.n_ky + 1, :]], axis=-2)

    def to_spectrum(self, band: Any, n_rows: int, xp: Any) -> Any:
        """The spectrum (..., n_rows, n_kx + 1), rows in the order of an FFT, that is the band and zero elsewhere."""
        spectrum = xp.zeros((*band.shape[:-2], n_rows, band.shape[-1]), band.dtype)
        spectrum[..., : self.n_ky + 1, :] = band[..., self.n_ky :, :]
        spectrum[..., -self.n_ky :, :] = band[..., : self.n_ky, :]
        return spectrum


class MatrixSums:
    """Sums and adjoint on a band for positions (B, N, 3) in angstrom whose origin lies `offset_angstrom` inside the padded field."""

    def __init__(self, band: Band, n_orders: int, offset_angstrom: float, xp: Any, dtype: np.dtype):
        self.band, self.n_orders, self.offset_angstrom, self.xp, self.dtype = band, n_orders, offset_angstrom, xp, dtype
        kx, ky = band.k_per_angstrom
        self._kx = xp.asarray(2 * np.pi * kx[0], dtype)
        self._ky = xp.asarray(2 * np.pi * ky[band.n_ky :, 0], dtype)

    def waves(self, positions: Any) -> Any:
        """What `sums` and `pull_back` share: cos and sin of k_x x and k_y y, (B, N, K) each, and heights (B, N, 1)."""
        xp = self.xp
        phase_x = (positions[..., 0:1] + self.offset_angstrom).astype(self.dtype) * self._kx
        phase_y = (positions[..., 1:2] + self.offset_angstrom).astype(self.dtype) * self._ky
        return xp.cos(phase_x), xp.sin(phase_x), xp.cos(phase_y), xp.sin(phase_y), positions[..., 2:3].astype(self.dtype)

    def sums(self, waves: Any, members: Any) -> Any:
        """S_m(k) over the atoms of weight `members` (B, N), or over all for None: (B, M, 2 n_ky + 1, n_kx + 1) complex."""
        xp = self.xp
        cos_x, sin_x, cos_y, sin_y, z = waves
        rows = xp.concatenate([cos_y, sin_y], axis=-1)
        columns = [xp.concatenate([cos_x, -sin_x], axis=-1)]
        if members is not None:
            columns[0] = columns[0] * members[..., None]
        for _ in range(1, self.n_orders):
            columns.append(columns[-1] * z)
        product = xp.matmul(rows.swapaxes(-1, -2), xp.concatenate(columns, axis=-1))
        n_y, n_x = self.band.n_ky + 1, self.band.n_kx + 1
        product = product.reshape(-1, 2, n_y, self.n_orders, 2, n_x)
        even = product[:, 0, :, :, 0] + 1j * product[:, 0, :, :, 1]
        odd = product[:, 1, :, :, 1] - 1j * product[:, 1, :, :, 0]
        return xp.concatenate([(even - odd)[:, :0:-1], even + odd], axis=1).swapaxes(1, 2)

    def pull_back(self, slopes: Any, waves: Any, members: Any) -> Any:
        """Gradient of Re sum_k,m slopes_m(k) S_m(k) with respect to (x, y, z) of each atom: (B, N, 3)."""
        xp = self.xp
        cos_x, sin_x, cos_y, sin_y, z = waves
        n_ky, n_x = self.band.n_ky, self.band.n_kx + 1
        upper = slopes[:, :, n_ky:]
        lower = xp.concatenate([xp.zeros_like(upper[:, :, :1]), slopes[:, :, n_ky - 1 :: -1][:, :, :n_ky]], axis=2)
        even, odd = upper + lower, (upper - lower) * -1j
        ky = self._ky[:, None]
        blocks = [xp.concatenate([even, odd], axis=2), xp.concatenate([odd * ky, -even * ky], axis=2)]
        n_b = slopes.shape[0]
        stacked = xp.stack(blocks, axis=1)
        matrix = xp.stack([stacked.real, stacked.imag], axis=-2).transpose(0, 3, 1, 2, 4, 5)
        matrix = xp.ascontiguousarray(matrix).reshape(n_b, 2 * (n_ky + 1), -1)
        rows = xp.concatenate([cos_y, sin_y], axis=-1)
        sums = xp.matmul(rows, matrix).reshape(n_b, -1, 2, self.n_orders, 2, n_x)
        value, by_y, by_z = self._horner(sums[:, :, 0], z), self._horner(sums[:, :, 1], z), self._horner_slope(sums[:, :, 0], z)
        grad_x = (self._kx * (cos_x * value[:, :, 1] - sin_x * value[:, :, 0])).sum(-1)
        grad_y = (cos_x * by_y[:, :, 0] + sin_x * by_y[:, :, 1]).sum(-1)
        grad_z = (cos_x * by_z[:, :, 0] + sin_x * by_z[:, :, 1]).sum(-1)
        gradient = xp.stack([grad_x, grad_y, grad_z], axis=-1)
        return gradient if members is None else gradient * members[..., None]

    def _horner(self, sums: Any, z: Any) -> Any:
        """sum_m z^m sums_m: (B, N, 2, Kx)."""
        total = sums[:, :, -1]
        for m in range(self.n_orders - 2, -1, -1):
            total = total * z[..., None] + sums[:, :, m]
        return total

    def _horner_slope(self, sums: Any, z: Any) -> Any:
        """sum_m m z^(m-1) sums_m: (B, N, 2, Kx)."""
        total = (self.n_orders - 1) * sums[:, :, -1]
        for m in range(self.n_orders - 2, 0, -1):
            total = total * z[..., None] + m * sums[:, :, m]
        return total
