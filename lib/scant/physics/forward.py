"""TEM image of single-scattering atoms, with its gradient: one code for NumPy and CuPy.

psi_s(k) = sum_j i f_j(k) exp(-2 pi i k.r_j) exp(+i pi lambda z_j k^2) exp(-i chi(k)); image = 1 + 2 Re psi_s + |psi_s|^2
(DESIGN 3). The exponential in z is a Taylor series, so the linear part is sum_m c_m(k) sum_j z_j^m exp(-2 pi i k.r_j)
with all crystal- and microscope-dependent factors in c_m. The sums over atoms are matrix products (`structure_sums`: on CuPy, and
in double precision as the reference) or a non-uniform FFT (`gridded_sums`: on NumPy in single precision).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from scant.errors import InputError
from scant.physics import optics as op
from scant.physics.gridded_sums import GriddedSums
from scant.physics.scattering import scattering_amplitude_angstrom2
from scant.physics.structure_sums import Band, MatrixSums
from scant.xp import to_numpy


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
        height, width = (scipy.fft.next_fast_len(n + 2 * self.pad_px, real=True) for n in (self.height_px, self.width_px))
        return height, width

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
        self.band = Band(int(cutoff * height * pixel), int(cutoff * width * pixel), height * pixel, width * pixel)
        offset = grid.pad_px * pixel
        gridded = xp is np and self.dtype == np.float32
        self._sums = GriddedSums(self.band, n_orders, offset) if gridded else MatrixSums(self.band, n_orders, offset, xp, self.dtype)
        species = np.atleast_2d(species)
        self.elements = sorted(set(species.ravel()) - {""})
        if not self.elements:
            raise InputError("the structure has no atoms: nothing to image")
        # One element and no padding, the usual case, needs no weights at all.
        everyone = bool((species == self.elements[0]).all())
        self._members = [None if everyone else xp.asarray(species == name, self.dtype) for name in self.elements]
        self._tables(*self.band.k_per_angstrom)

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
            waves = np.stack([amplitude * forward * propagate, np.conj(amplitude * backward * propagate)], axis=1)
            self._linear.append(self.xp.asarray(damping * waves.sum(axis=1), complex_type))
            self._wave.append(self.xp.asarray(inside * waves, complex_type))
        self._lambda_pi_k2 = self.xp.asarray(np.pi * self.optics.wavelength_angstrom * k**2, self.dtype)
        self._image_envelope = self.xp.asarray(self._full_envelope(), self.dtype)

    def _full_envelope(self) -> np.ndarray:
        height, width = self.grid.padded_shape
        pixel = self.grid.pixel_size_angstrom
        k = np.hypot(np.fft.fftfreq(height, pixel)[:, None], np.fft.rfftfreq(width, pixel)[None, :])
        return op.image_envelope(self.optics, k)

    def to_image(self, band: Any, rows: slice = slice(None)) -> Any:
        """Padded real image (B, H, W), or some rows of it, of the half-plane band (B, 2 n_ky + 1, n_kx + 1)."""
        height, width = self.grid.padded_shape
        # axis by axis: columns beyond the band are empty, and rows beyond the view are not wanted
        along = self.fft.ifft(self.band.to_spectrum(band, height, self.xp), axis=-2)[:, rows]
        return self.fft.irfft(along, n=width, axis=-1) * (height * width)

    def atom_bands(self) -> tuple[np.ndarray, np.ndarray]:
        """Half-plane spectra of the linear image of one atom of the first element at the origin, and of its derivative by height."""
        return to_numpy(self._linear[0][0]).astype(complex), to_numpy(self._linear[0][1]).astype(complex)

    # -- images ----------------------------------------------------------------------------------------------------

    def linear_image(self, positions: Any) -> tuple[Any, Any]:
        """2 Re psi_s in the view, (B, H, W), and the atoms' waves, which `gradient` wants back."""
        waves = self._sums.waves(positions)
        band = sum((table * self._sums.sums(waves, who)).sum(axis=1) for table, who in zip(self._linear, self._members))
        rows, columns = self.grid.view
        return self.to_image(band, rows)[..., columns], waves

    def quadratic_image(self, positions: Any, n_defocus: int = 5) -> Any:
        """|psi_s|^2 in the view, (B, H, W), averaged over the focal spread by Gauss-Hermite quadrature."""
        xp = self.xp
        forward: Any = 0
        backward: Any = 0
        waves = self._sums.waves(positions)
        for table, members in zip(self._wave, self._members):
            sums = self._sums.sums(waves, members)
            forward = forward + (table[:, 0] * sums).sum(axis=1)
            backward = backward + (table[:, 1] * sums).sum(axis=1)
        nodes, weights = np.polynomial.hermite_e.hermegauss(n_defocus if self.optics.focal_spread_angstrom > 0 else 1)
        intensity: Any = 0
        for node, weight in zip(nodes, weights / weights.sum()):
            shift = xp.exp(1j * self._lambda_pi_k2 * self.dtype.type(node * self.optics.focal_spread_angstrom))
            wave_k, mirrored_k = forward * shift, backward * xp.conj(shift)
            # psi = Re part + i Im part; both are real images with half-plane spectra (psi(k) +- psi*(-k)) / 2.
            real, imaginary = self.to_image((wave_k + mirrored_k) / 2), self.to_image((wave_k - mirrored_k) / 2j)
            intensity = intensity + self.dtype.type(weight) * (real**2 + imaginary**2)
        spectrum = self.fft.rfft2(intensity) * self._image_envelope
        return self.fft.irfft2(spectrum, s=self.grid.padded_shape)[(slice(None), *self.grid.view)].astype(self.dtype)

    def image(self, positions: Any) -> Any:
        """Full relative intensity 1 + 2 Re psi_s + |psi_s|^2 in the view, (B, H, W)."""
        return 1 + self.linear_image(positions)[0] + self.quadratic_image(positions)

    # -- gradient --------------------------------------------------------------------------------------------------

    def gradient(self, slope: Any, waves: Any) -> Any:
        """d E / d positions, (B, N, 3), of an energy whose slope d E / d linear image is given, (B, H, W)."""
        xp = self.xp
        height, width = self.grid.padded_shape
        n_x = self.band.n_kx + 1
        rows, columns = self.grid.view
        wide = xp.zeros((*slope.shape[:2], width), self.dtype)
        wide[..., columns] = slope
        along = self.fft.rfft(wide, axis=-1)[..., :n_x]
        tall = xp.zeros((slope.shape[0], height, n_x), along.dtype)
        tall[:, rows] = along
        band = self.band.of_spectrum(xp.conj(self.fft.fft(tall, axis=-2)), xp)
        band[:, :, 1:] *= 2
        return sum(self._sums.pull_back(band[:, None] * table, waves, who) for table, who in zip(self._linear, self._members))
