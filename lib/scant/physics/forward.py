"""TEM image of single-scattering atoms by matrix products, with its gradient: one code for NumPy and CuPy.

psi_s(k) = sum_j i f_j(k) exp(-2 pi i k.r_j) exp(+i pi lambda z_j k^2) exp(-i chi(k)); image = 1 + 2 Re psi_s + |psi_s|^2
(DESIGN 3). The exponential in z is a Taylor series, so the linear part is sum_m c_m(k) sum_j z_j^m exp(-2 pi i k.r_j)
with all crystal- and microscope-dependent factors in c_m. Sums over atoms are real matrix products of cosines and
sines: E(-k_y) = conj E(k_y) halves the arithmetic of the complex form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from scant.errors import InputError
from scant.physics import optics as op
from scant.physics.scattering import scattering_amplitude_angstrom2

Waves = tuple[Any, Any, Any, Any, Any]


@dataclass(frozen=True)
class ImageGrid:
    """Pixels of a frame; `pad_px` pixels all around keep atoms outside the view from wrapping to the other side."""

    height_px: int
    width_px: int
    pixel_size_angstrom: float
    pad_px: int

    @classmethod
    def padded(cls, height_px: int, width_px: int, pixel_size_angstrom: float, pad_angstrom: float) -> ImageGrid:
        return cls(height_px, width_px, pixel_size_angstrom, math.ceil(pad_angstrom / pixel_size_angstrom))

    @property
    def padded_shape(self) -> tuple[int, int]:
        fast = [scipy.fft.next_fast_len(n + 2 * self.pad_px, real=True) for n in (self.height_px, self.width_px)]
        return fast[0], fast[1] + fast[1] % 2

    @property
    def view(self) -> tuple[slice, slice]:
        """Where the frame's pixels lie in the padded image."""
        return slice(self.pad_px, self.pad_px + self.height_px), slice(self.pad_px, self.pad_px + self.width_px)


class ForwardModel:
    """Image and gradient of structures with fixed species on one grid; positions are (B, N, 3) in angstrom.

    `species` is an array of element symbols, (N,) or (B, N) when the replicas differ; '' marks padding, an atom that is
    not there. The linear part is exact up to the Taylor order; the quadratic part is evaluated on demand.
    """

    def __init__(
        self, optics: op.Optics, grid: ImageGrid, species: np.ndarray, *, n_orders: int = 3, xp: Any = np, dtype: Any = np.float32
    ):
        self.optics, self.grid, self.xp, self.dtype = optics, grid, xp, np.dtype(dtype)
        self.n_orders = n_orders
        self.fft = scipy.fft if xp is np else xp.fft
        height, width = grid.padded_shape
        pixel = grid.pixel_size_angstrom
        cutoff = min(optics.cutoff_per_angstrom, 0.499 / pixel)
        self._n_ky, self._n_kx = int(cutoff * height * pixel), int(cutoff * width * pixel)
        ky = np.arange(-self._n_ky, self._n_ky + 1) / (height * pixel)
        kx = np.arange(self._n_kx + 1) / (width * pixel)
        self._kx = xp.asarray(2 * np.pi * kx, self.dtype)
        self._ky = xp.asarray(2 * np.pi * ky[self._n_ky :], self.dtype)
        species = np.atleast_2d(species)
        self.elements = sorted(set(species.ravel()) - {""})
        if not self.elements:
            raise InputError("the structure has no atoms: nothing to image")
        # One element and no padding, the usual case, needs no weights at all.
        everyone = bool((species == self.elements[0]).all())
        self._members = [None if everyone else xp.asarray((species == name)[..., None], self.dtype) for name in self.elements]
        self._tables(kx[None, :], ky[:, None])

    def _tables(self, kx: np.ndarray, ky: np.ndarray) -> None:
        """c_m(k) of the linear image and the wave factors of the quadratic one, one table per species."""
        k = np.hypot(kx, ky)
        k_safe = np.minimum(k, 2.99)
        area = self.grid.padded_shape[0] * self.grid.padded_shape[1] * self.grid.pixel_size_angstrom**2
        propagate = np.stack([(1j * np.pi * self.optics.wavelength_angstrom * k**2) ** m / math.factorial(m) for m in range(self.n_orders)])
        forward, backward = op.wave_transfer(self.optics, kx, ky), op.wave_transfer(self.optics, -kx, -ky)
        inside = (k <= self.optics.cutoff_per_angstrom) / area
        damping = op.focal_spread_envelope(self.optics, k) * op.image_envelope(self.optics, k) * inside
        complex_type = np.complex64 if self.dtype == np.float32 else np.complex128
        self._linear, self._wave = [], []
        for name in self.elements:
            amplitude = 1j * scattering_amplitude_angstrom2(name, self.optics.voltage_kv, k_safe)
            linear = damping * (amplitude * forward * propagate + np.conj(amplitude * backward * propagate))
            self._linear.append(self.xp.asarray(linear, complex_type))
            self._wave.append(
                self.xp.asarray(np.stack([amplitude * forward, np.conj(amplitude * backward)]) * inside * propagate[:, None], complex_type)
            )
        self._lambda_pi_k2 = self.xp.asarray(np.pi * self.optics.wavelength_angstrom * k**2, self.dtype)
        self._image_envelope = self.xp.asarray(self._full_envelope(), self.dtype)

    def _full_envelope(self) -> np.ndarray:
        height, width = self.grid.padded_shape
        pixel = self.grid.pixel_size_angstrom
        k = np.hypot(np.fft.fftfreq(height, pixel)[:, None], np.fft.rfftfreq(width, pixel)[None, :])
        return op.image_envelope(self.optics, k)

    # -- sums over atoms -------------------------------------------------------------------------------------------

    def _waves(self, positions: Any) -> Waves:
        """cos and sin of k_x x and k_y y, (B, N, K) each, and heights (B, N, 1)."""
        xp = self.xp
        offset = self.grid.pad_px * self.grid.pixel_size_angstrom
        phase_x = (positions[..., 0:1] + offset).astype(self.dtype) * self._kx
        phase_y = (positions[..., 1:2] + offset).astype(self.dtype) * self._ky
        return xp.cos(phase_x), xp.sin(phase_x), xp.cos(phase_y), xp.sin(phase_y), positions[..., 2:3].astype(self.dtype)

    def _structure_sums(self, waves: Waves, members: Any) -> Any:
        """S_m(k) = sum_j z_j^m exp(-2 pi i k.r_j) over the members of one species: (B, M, 2 Ky + 1, Kx + 1) complex."""
        xp = self.xp
        cos_x, sin_x, cos_y, sin_y, z = waves
        rows = xp.concatenate([cos_y, sin_y], axis=-1)
        columns = [xp.concatenate([cos_x, -sin_x], axis=-1)]
        if members is not None:
            columns[0] = columns[0] * members
        for _ in range(1, self.n_orders):
            columns.append(columns[-1] * z)
        product = xp.matmul(rows.swapaxes(-1, -2), xp.concatenate(columns, axis=-1))
        n_y, n_x = self._n_ky + 1, self._n_kx + 1
        product = product.reshape(-1, 2, n_y, self.n_orders, 2, n_x)
        even = product[:, 0, :, :, 0] + 1j * product[:, 0, :, :, 1]
        odd = product[:, 1, :, :, 1] - 1j * product[:, 1, :, :, 0]
        return xp.concatenate([(even - odd)[:, :0:-1], even + odd], axis=1).swapaxes(1, 2)

    def _to_image(self, band: Any) -> Any:
        """Padded real image (B, H, W) of the half-plane band (B, 2 Ky + 1, Kx + 1)."""
        height, width = self.grid.padded_shape
        spectrum = self.xp.zeros((band.shape[0], height, width // 2 + 1), band.dtype)
        spectrum[:, : self._n_ky + 1, : self._n_kx + 1] = band[:, self._n_ky :]
        spectrum[:, -self._n_ky :, : self._n_kx + 1] = band[:, : self._n_ky]
        return self.fft.irfft2(spectrum, s=(height, width)) * (height * width)

    # -- images ----------------------------------------------------------------------------------------------------

    def linear_image(self, positions: Any) -> tuple[Any, Waves]:
        """2 Re psi_s in the view, (B, H, W), and the atoms' waves, which `gradient` wants back."""
        waves = self._waves(positions)
        band = sum((table * self._structure_sums(waves, who)).sum(axis=1) for table, who in zip(self._linear, self._members))
        return self._to_image(band)[(slice(None), *self.grid.view)], waves

    def quadratic_image(self, positions: Any, n_defocus: int = 5) -> Any:
        """|psi_s|^2 in the view, (B, H, W), averaged over the focal spread by Gauss-Hermite quadrature."""
        xp = self.xp
        forward: Any = 0
        backward: Any = 0
        waves = self._waves(positions)
        for table, members in zip(self._wave, self._members):
            sums = self._structure_sums(waves, members)
            forward = forward + (table[:, 0] * sums).sum(axis=1)
            backward = backward + (table[:, 1] * sums).sum(axis=1)
        nodes, weights = np.polynomial.hermite_e.hermegauss(n_defocus if self.optics.focal_spread_angstrom > 0 else 1)
        intensity: Any = 0
        for node, weight in zip(nodes, weights / weights.sum()):
            shift = xp.exp(1j * self._lambda_pi_k2 * self.dtype.type(node * self.optics.focal_spread_angstrom))
            wave_k, mirrored_k = forward * shift, backward * xp.conj(shift)
            # psi = Re part + i Im part; both are real images with half-plane spectra (psi(k) +- psi*(-k)) / 2.
            real, imaginary = self._to_image((wave_k + mirrored_k) / 2), self._to_image((wave_k - mirrored_k) / 2j)
            intensity = intensity + self.dtype.type(weight) * (real**2 + imaginary**2)
        spectrum = self.fft.rfft2(intensity) * self._image_envelope
        return self.fft.irfft2(spectrum, s=self.grid.padded_shape)[(slice(None), *self.grid.view)].astype(self.dtype)

    def image(self, positions: Any) -> Any:
        """Full relative intensity 1 + 2 Re psi_s + |psi_s|^2 in the view, (B, H, W)."""
        return 1 + self.linear_image(positions)[0] + self.quadratic_image(positions)

    # -- gradient --------------------------------------------------------------------------------------------------

    def gradient(self, slope: Any, waves: Waves) -> Any:
        """d E / d positions, (B, N, 3), of an energy whose slope d E / d linear image is given, (B, H, W)."""
        xp = self.xp
        height, width = self.grid.padded_shape
        padded = xp.zeros((slope.shape[0], height, width), self.dtype)
        padded[(slice(None), *self.grid.view)] = slope
        spectrum = xp.conj(self.fft.rfft2(padded))
        band = xp.concatenate([spectrum[:, -self._n_ky :, : self._n_kx + 1], spectrum[:, : self._n_ky + 1, : self._n_kx + 1]], axis=1)
        band[:, :, 1:] *= 2
        total: Any = 0
        for table, members in zip(self._linear, self._members):
            forces = self._pull_back(band[:, None] * table, waves)
            total = total + (forces if members is None else forces * members)
        return total

    def _pull_back(self, slopes: Any, waves: Waves) -> Any:
        """Gradient of Re sum_k,m slopes_m(k) S_m(k) with respect to (x, y, z) of each atom: (B, N, 3)."""
        xp = self.xp
        cos_x, sin_x, cos_y, sin_y, z = waves
        centre = self._n_ky
        upper = slopes[:, :, centre:]
        lower = xp.concatenate([xp.zeros_like(upper[:, :, :1]), slopes[:, :, centre - 1 :: -1][:, :, : self._n_ky]], axis=2)
        even, odd = upper + lower, (upper - lower) * -1j
        ky = self._ky[:, None]
        blocks = [xp.concatenate([even, odd], axis=2), xp.concatenate([odd * ky, -even * ky], axis=2)]
        n_b, n_x = slopes.shape[0], self._n_kx + 1
        stacked = xp.stack(blocks, axis=1)
        matrix = xp.stack([stacked.real, stacked.imag], axis=-2).transpose(0, 3, 1, 2, 4, 5)
        matrix = xp.ascontiguousarray(matrix).reshape(n_b, 2 * (self._n_ky + 1), -1)
        rows = xp.concatenate([cos_y, sin_y], axis=-1)
        sums = xp.matmul(rows, matrix).reshape(n_b, -1, 2, self.n_orders, 2, n_x)
        value, by_y, by_z = self._horner(sums[:, :, 0], z), self._horner(sums[:, :, 1], z), self._horner_slope(sums[:, :, 0], z)
        grad_x = (self._kx * (cos_x * value[:, :, 1] - sin_x * value[:, :, 0])).sum(-1)
        grad_y = (cos_x * by_y[:, :, 0] + sin_x * by_y[:, :, 1]).sum(-1)
        grad_z = (cos_x * by_z[:, :, 0] + sin_x * by_z[:, :, 1]).sum(-1)
        return xp.stack([grad_x, grad_y, grad_z], axis=-1)

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
