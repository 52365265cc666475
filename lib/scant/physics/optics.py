"""The microscope between the exit wave and the detector: aberrations, focal spread, aperture, detector transfer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from scant.units import wavelength_angstrom


@dataclass(frozen=True)
class Optics:
    """Imaging conditions; underfocus is positive; `focal_spread_angstrom` is a standard deviation.

    `envelope_b_angstrom2` collects what damps the contrast isotropically and cannot be told apart in an image: fast
    thermal motion (Debye-Waller), detector transfer, image vibration: exp(-B k^2 / 4). `contrast_scale` multiplies
    the contrast (Stobbs factor, inelastic background).
    """

    voltage_kv: float
    cs_angstrom: float
    defocus_angstrom: float
    focal_spread_angstrom: float
    objective_aperture_mrad: float | None = None
    astigmatism_x_angstrom: float = 0.0
    astigmatism_y_angstrom: float = 0.0
    coma_x_angstrom: float = 0.0
    coma_y_angstrom: float = 0.0
    threefold_x_angstrom: float = 0.0
    threefold_y_angstrom: float = 0.0
    envelope_b_angstrom2: float = 0.0
    contrast_scale: float = 1.0

    @property
    def wavelength_angstrom(self) -> float:
        return wavelength_angstrom(self.voltage_kv)

    @property
    def cutoff_per_angstrom(self) -> float:
        """Largest spatial frequency the image carries: the aperture, else where focal spread leaves e^-4.5 of an amplitude."""
        lam = self.wavelength_angstrom
        limits = [2.5]
        if self.objective_aperture_mrad:
            limits.append(self.objective_aperture_mrad * 1e-3 / lam)
        if self.focal_spread_angstrom > 0:
            limits.append(math.sqrt(3.0 / (math.pi * lam * self.focal_spread_angstrom)))
        return min(limits)

    def with_values(self, **values: float) -> Optics:
        return replace(self, **values)


def aberration_phase_rad(optics: Optics, kx_per_angstrom: np.ndarray, ky_per_angstrom: np.ndarray) -> np.ndarray:
    """chi(k) = -pi lambda df k^2 + pi/2 Cs lambda^3 k^4 + 2 pi/3 lambda^2 k^3 (coma + three-fold), df with two-fold astigmatism.

    The astigmatism (A_x, A_y) adds A_x cos 2phi + A_y sin 2phi to the defocus (Krivanek C12 with its angle as a vector); coma is
    C21 cos(phi - phi21) and three-fold astigmatism C23 cos 3(phi - phi23), as vectors C21 (cos phi21, sin phi21) and
    C23 (cos 3 phi23, sin 3 phi23) (Krivanek et al., Ultramicroscopy 78 (1999) 1).
    """
    lam = optics.wavelength_angstrom
    k2 = kx_per_angstrom**2 + ky_per_angstrom**2
    focus = optics.defocus_angstrom * k2
    focus = focus + optics.astigmatism_x_angstrom * (kx_per_angstrom**2 - ky_per_angstrom**2)
    focus = focus + optics.astigmatism_y_angstrom * 2 * kx_per_angstrom * ky_per_angstrom
    odd = (optics.coma_x_angstrom * kx_per_angstrom + optics.coma_y_angstrom * ky_per_angstrom) * k2
    odd = odd + optics.threefold_x_angstrom * kx_per_angstrom * (kx_per_angstrom**2 - 3 * ky_per_angstrom**2)
    odd = odd + optics.threefold_y_angstrom * ky_per_angstrom * (3 * kx_per_angstrom**2 - ky_per_angstrom**2)
    return -np.pi * lam * focus + 2 / 3 * np.pi * lam**2 * odd + 0.5 * np.pi * optics.cs_angstrom * lam**3 * k2**2


def wave_transfer(optics: Optics, kx_per_angstrom: np.ndarray, ky_per_angstrom: np.ndarray) -> np.ndarray:
    """Coherent transfer exp(-i chi) inside the aperture, 0 outside."""
    k = np.hypot(kx_per_angstrom, ky_per_angstrom)
    return np.exp(-1j * aberration_phase_rad(optics, kx_per_angstrom, ky_per_angstrom)) * aperture(optics, k)


def aperture(optics: Optics, k_per_angstrom: np.ndarray) -> np.ndarray:
    """1 inside the objective aperture, else 0 (1 everywhere when the optics have none)."""
    if not optics.objective_aperture_mrad:
        return np.ones_like(k_per_angstrom)
    return (k_per_angstrom * optics.wavelength_angstrom * 1e3 <= optics.objective_aperture_mrad).astype(float)


def focal_spread_envelope(optics: Optics, k_per_angstrom: np.ndarray) -> np.ndarray:
    """exp(-(pi lambda k^2 Delta)^2 / 2): the linear image averaged over a Gaussian defocus spread of s.d. Delta."""
    return np.exp(-0.5 * (np.pi * optics.wavelength_angstrom * k_per_angstrom**2 * optics.focal_spread_angstrom) ** 2)


def image_envelope(optics: Optics, k_per_angstrom: np.ndarray) -> np.ndarray:
    """What damps intensities, not waves: contrast scale and the isotropic envelope exp(-B k^2 / 4)."""
    return optics.contrast_scale * np.exp(-optics.envelope_b_angstrom2 * k_per_angstrom**2 / 4)
