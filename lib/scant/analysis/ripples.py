"""Ripples of a sheet: rms height and the height correlation spectrum with its noise floor.

Spectrum: G(q) = |sum_j w_j h_j exp(-i q r_j) / rho|^2 / int w^2 dA, angstrom^4, with a Hann window w and the atom
density rho, so that int G(q) d2q / (2 pi)^2 = <h^2>; a free membrane has G = k_B T / (kappa q^4) (Fasolino, Los and
Katsnelson, Nature Materials 6, 858 (2007)). Sums run over the atoms themselves: no interpolation damps short waves,
and independent errors add exactly sum w_j^2 sigma_j^2 / rho^2 / int w^2 dA, the noise floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from scant.analysis.neighbours import FrameAtoms, iterate_frames
from scant.errors import InputError

MIN_ATOMS = 12


@dataclass(frozen=True)
class SpectrumSum:
    """Partial result of a spectrum; sums of two blocks add, so splitting the frames cannot change the result."""

    q_edges_per_angstrom: np.ndarray
    power_angstrom4: np.ndarray
    power_squared_angstrom8: np.ndarray
    noise_angstrom4: np.ndarray
    n_modes: np.ndarray
    n_frames: int

    def merge(self, other: SpectrumSum) -> SpectrumSum:
        """The sum over the frames of both."""
        if not np.array_equal(self.q_edges_per_angstrom, other.q_edges_per_angstrom):
            raise InputError("ripple spectra with different q bins cannot be merged; use one set of q_edges_per_angstrom")
        own, theirs = vars(self), vars(other)
        return SpectrumSum(self.q_edges_per_angstrom, *(own[name] + theirs[name] for name in list(own)[1:]))


@dataclass(frozen=True)
class RippleSpectrum:
    """Mean power (angstrom^4) per ring of q (1/angstrom) over all frames, its standard error and the noise floor."""

    q_per_angstrom: np.ndarray
    power_angstrom4: np.ndarray
    sigma_power_angstrom4: np.ndarray
    noise_angstrom4: np.ndarray
    n_modes: np.ndarray
    n_frames: int


def detrended_heights(atoms: FrameAtoms) -> np.ndarray:
    """Heights (n,) above the frame's least-squares plane, angstrom: tilt is not ripple."""
    return without_plane(atoms.xyz_angstrom[:, :2], atoms.xyz_angstrom[:, 2])


def without_plane(xy_angstrom: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Heights (n,) or several sets of them (n, m), less the least-squares plane of each."""
    design = np.column_stack([np.ones(len(xy_angstrom)), xy_angstrom])
    return np.asarray(heights - design @ np.linalg.lstsq(design, heights, rcond=None)[0])


def default_q_edges(atoms: FrameAtoms, q_max_per_angstrom: float = 1.5) -> np.ndarray:
    """Rings of width 2 pi / L from the longest wave that the field of view (shorter side L) holds up to q_max."""
    step = 2 * np.pi / np.ptp(atoms.xyz_angstrom[:, :2], axis=0).min()
    return np.arange(0.5 * step, q_max_per_angstrom + step, step)


@dataclass(frozen=True)
class PlaneWaves:
    """Plane waves of a view's bounding box whose q lies in a ring, over atoms at xy (n, 2) angstrom; `ring` (w,) numbers their rings."""

    xy_angstrom: np.ndarray
    q_edges_per_angstrom: np.ndarray

    @cached_property
    def _size(self) -> np.ndarray:
        return np.asarray(np.ptp(self.xy_angstrom, axis=0))

    @cached_property
    def window(self) -> np.ndarray:
        """Hann window (n,) over the box."""
        return np.asarray(np.prod(np.sin(np.pi * (self.xy_angstrom - self.xy_angstrom.min(axis=0)) / self._size) ** 2, axis=1))

    @cached_property
    def norm(self) -> float:
        return float(len(self.xy_angstrom) ** 2 / self._size.prod() * (3 / 8) ** 2)

    @cached_property
    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        n_waves = np.ceil(self.q_edges_per_angstrom[-1] * self._size / (2 * np.pi)).astype(int)
        q_x, q_y = (2 * np.pi / side * np.arange(-n, n + 1) for side, n in zip(self._size, n_waves))
        return q_x, q_y

    @cached_property
    def _phases(self) -> tuple[np.ndarray, np.ndarray]:
        (q_x, q_y), (x, y) = self._axes, self.xy_angstrom.T
        return np.exp(-1j * np.outer(q_x, x)) * self.window, np.exp(-1j * np.outer(y, q_y))

    @cached_property
    def _rings(self) -> tuple[np.ndarray, np.ndarray]:
        q_x, q_y = self._axes
        ring = np.digitize(np.hypot(q_x[:, None], q_y[None, :]).ravel(), self.q_edges_per_angstrom) - 1
        inside = (ring >= 0) & (ring < self.q_edges_per_angstrom.size - 1)
        return ring[inside], inside

    @property
    def ring(self) -> np.ndarray:
        return self._rings[0]

    def amplitude(self, heights_angstrom: np.ndarray) -> np.ndarray:
        """Complex amplitude (w,), angstrom^2, of heights (n,); its squared magnitude is their power."""
        along_x, along_y = self._phases
        return np.asarray(((along_x * heights_angstrom) @ along_y / np.sqrt(self.norm)).ravel()[self._rings[1]])

    def power(self, heights_angstrom: np.ndarray) -> np.ndarray:
        """Power (w,), angstrom^4, of heights (n,)."""
        return np.asarray(np.abs(self.amplitude(heights_angstrom)) ** 2)

    def over_rings(self, values: np.ndarray | None) -> np.ndarray:
        """Sum (r,) of values (w,) over each ring; their number for None."""
        return np.bincount(self.ring, values, minlength=self.q_edges_per_angstrom.size - 1)


def frame_spectrum(atoms: FrameAtoms, q_edges_per_angstrom: np.ndarray) -> SpectrumSum:
    """Power of one frame, summed over the plane waves of its bounding box in every ring of q."""
    waves = PlaneWaves(atoms.xyz_angstrom[:, :2], q_edges_per_angstrom)
    power = waves.power(detrended_heights(atoms))
    floor = float(np.sum(waves.window**2 * atoms.sigma_angstrom[:, 2] ** 2) / waves.norm)
    sums = [waves.over_rings(values) for values in (power, power**2, None)]
    return SpectrumSum(q_edges_per_angstrom, sums[0], sums[1], floor * sums[2], sums[2].astype(np.int64), 1)


def ripple_spectrum(total: SpectrumSum) -> RippleSpectrum:
    """Mean over waves and frames; the standard error counts a wave and its mirror image (q, -q) as one."""
    count = np.where(total.n_modes > 0, total.n_modes, np.nan)
    mean = total.power_angstrom4 / count
    variance = np.maximum(total.power_squared_angstrom8 / count - mean**2, 0.0)
    centre = 0.5 * (total.q_edges_per_angstrom[1:] + total.q_edges_per_angstrom[:-1])
    error = np.sqrt(variance / np.maximum(count / 2, 1.0))
    return RippleSpectrum(centre, mean, error, total.noise_angstrom4 / count, total.n_modes, total.n_frames)


def spectrum_of_table(atoms: pl.DataFrame, q_edges_per_angstrom: np.ndarray | None = None) -> RippleSpectrum | None:
    """Spectrum over all frames that have heights and at least 12 atoms; None when there is none."""
    total: SpectrumSum | None = None
    for frame in iterate_frames(atoms):
        if not frame.has_heights or frame.ids.size < MIN_ATOMS:
            continue
        if q_edges_per_angstrom is None:
            q_edges_per_angstrom = default_q_edges(frame)
        part = frame_spectrum(frame, q_edges_per_angstrom)
        total = part if total is None else total.merge(part)
    return None if total is None else ripple_spectrum(total)


def ripple_table(atoms: pl.DataFrame) -> pl.DataFrame:
    """Per frame: frame, n_atoms, rms_height_angstrom, sigma_rms_height_angstrom, height_range_angstrom.

    A posterior mean is smoother than the sheet: its variance is too small by sigma^2, which the rms height holds. The range runs from
    the 5th to the 95th percentile, uncorrected.
    """
    rows = [(a.frame, a.ids.size, *frame_ripple(a)) for a in iterate_frames(atoms)]
    schema = {"frame": pl.Int64, "n_atoms": pl.Int64, "rms_height_angstrom": pl.Float64,
              "sigma_rms_height_angstrom": pl.Float64, "height_range_angstrom": pl.Float64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def frame_ripple(atoms: FrameAtoms) -> tuple[float | None, float | None, float | None]:
    """rms height, its sigma and the height range (angstrom) of one frame, as in `ripple_table`; None without heights."""
    if not atoms.has_heights or atoms.ids.size < MIN_ATOMS:
        return None, None, None
    height, variance = detrended_heights(atoms), np.nan_to_num(atoms.sigma_angstrom[:, 2]) ** 2
    square = float(np.mean(height**2) + np.mean(variance))
    rms = float(np.sqrt(max(square, 0.0)))
    # var(mean h^2) = mean(4 h^2 s^2 + 2 s^4) / n, and rms = sqrt(mean h^2).
    sigma_square = np.sqrt(np.mean(4 * height**2 * variance + 2 * variance**2) / height.size)
    sigma = float(sigma_square / (2 * rms)) if rms > 0 else float(np.sqrt(sigma_square))
    low, high = np.percentile(height, [5, 95])
    return rms, sigma, float(high - low)
