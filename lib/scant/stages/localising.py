"""Located atoms of a block as a table, with the bond graph that the annealer builds on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from scant.imaging.binning import band_limited, coarser_by
from scant.imaging.detect import detect_atoms
from scant.imaging.localise import Localised, localise_frame
from scant.imaging.model_atoms import model_atoms
from scant.imaging.reciprocal import Lattice2D
from scant.imaging.template import TemplateBasis, optical_basis
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics, focal_spread_envelope, image_envelope, wave_transfer
from scant.physics.scattering import scattering_amplitude_angstrom2

SITES: dict[str, pl.DataType | type[pl.DataType]] = {
    "frame": pl.Int64, "atom": pl.Int64, "x_px": pl.Float64, "y_px": pl.Float64, "sigma_x_px": pl.Float64, "sigma_y_px": pl.Float64,
    "p_atom": pl.Float64, "pcd": pl.Float64, "sigma_pcd": pl.Float64, "amplitude_e": pl.Float64, "background_e": pl.Float64,
    "flag": pl.Int64, "in_view": pl.Boolean, "sublattice": pl.Int64, "coordination": pl.Int64,
    "neighbour_0": pl.Int64, "neighbour_1": pl.Int64, "neighbour_2": pl.Int64,
}  # fmt: skip
ELEMENT, TRANSFER_STEPS, PAD_ANGSTROM = "C", 400, 8.0
ESTIMATES = ("x_px", "y_px", "sigma_x_px", "sigma_y_px", "p_atom", "pcd", "sigma_pcd", "amplitude_e", "background_e", "flag", "in_view")


@dataclass(frozen=True)
class LocaliseSettings:
    """Lattice, noise and margin that all frames of a movie share; optics where the nominal ones are known."""

    lattice: Lattice2D
    bad: np.ndarray
    read_noise_e: float
    excess_noise: float
    margin_angstrom: float
    optics: Optics | None = None


def localise_columns(
    image_e: np.ndarray, detection_image: np.ndarray, n_averaged: int, settings: LocaliseSettings
) -> dict[str, np.ndarray]:
    """Columns of the sites table (less `frame`) of one corrected frame (H, W).

    Which atoms there are comes from the detection image. With optics that is the plain mean of `n_averaged` frames, whose noise
    is known, and a site is tested for emptiness against the image that the microscope would give without its atom; without
    optics it is the denoised mean, and the atom's image is learned from it.
    """
    mask, lattice = ~settings.bad, settings.lattice
    variance_e2 = settings.excess_noise * float(image_e[mask].mean()) + settings.read_noise_e**2
    if settings.optics is None:
        located = localise_frame(image_e, variance_e2, mask, lattice, detection_image=detection_image)
    else:
        located = _located(image_e, detection_image, variance_e2, n_averaged, settings, settings.optics)
    model = model_atoms(located, (image_e.shape[0], image_e.shape[1]), settings.margin_angstrom / lattice.pixel_size_angstrom)
    columns: dict[str, np.ndarray] = {"atom": np.arange(len(model.keep))}
    columns |= {name: getattr(located, name)[model.keep] for name in ESTIMATES}
    columns["sublattice"] = located.index[model.keep, 2]
    columns["coordination"] = model.coordination
    return columns | {f"neighbour_{n}": model.neighbours[:, n] for n in range(3)}


def _located(
    image_e: np.ndarray, mean_e: np.ndarray, variance_e2: float, n_averaged: int, settings: LocaliseSettings, optics: Optics
) -> Localised:
    """Atoms detected on the mean and fitted to the frame, both on pixels as coarse as the aperture allows."""
    factor = coarser_by(settings.lattice.pixel_size_angstrom)
    lattice = settings.lattice.coarser(factor)
    sight = _Sight(optics, lattice.pixel_size_angstrom)
    basis = _basis(sight, lattice.bond_px)
    (image, count), (mean, _) = (band_limited(frame, ~settings.bad, factor) for frame in (image_e, mean_e))
    mask, variance = count > 0, variance_e2 / np.maximum(count, 1)
    detection = detect_atoms(mean, lattice, variance_e2=variance / n_averaged, mask=mask, basis=basis, simulate=sight)
    return localise_frame(image, variance, mask, lattice, detection=detection, basis=basis).enlarged(factor)


@dataclass(frozen=True)
class _Sight:
    """How the microscope images flat carbon: good enough for detection 10 A off the true defocus."""

    optics: Optics
    pixel_size_angstrom: float

    def __call__(self, positions_px: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Relative intensity (H, W) of atoms (N, 2) at height 0."""
        grid = ImageGrid.padded(shape[0], shape[1], self.pixel_size_angstrom, PAD_ANGSTROM)
        positions = np.column_stack([positions_px * self.pixel_size_angstrom, np.zeros(len(positions_px))])
        return ForwardModel(self.optics, grid, np.full(len(positions), ELEMENT)).image(positions[None].astype(np.float32))[0]


# Frames of a movie share it.
@lru_cache(maxsize=4)
def _basis(sight: _Sight, bond_px: float) -> TemplateBasis:
    """Radial linear image of one atom, as the starting point of the template that is fitted to the frame."""
    optics, k = sight.optics, np.linspace(0, min(sight.optics.cutoff_per_angstrom, 0.5 / sight.pixel_size_angstrom), TRANSFER_STEPS)
    wave = 1j * scattering_amplitude_angstrom2(ELEMENT, optics.voltage_kv, k) * wave_transfer(optics, k, np.zeros_like(k))
    transfer = 2 * np.real(wave) * focal_spread_envelope(optics, k) * image_envelope(optics, k)
    return optical_basis(k, transfer, bond_px, sight.pixel_size_angstrom)


def sites_table(columns: dict[int, dict[str, Any]]) -> pl.DataFrame:
    """The sites of all frames of a block, in frame order."""
    parts = [
        pl.DataFrame(c).with_columns(pl.lit(frame, pl.Int64).alias("frame")).select(*SITES).cast(pl.Schema(SITES))
        for frame, c in sorted(columns.items())
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=SITES)


def columns_of(rows: pl.DataFrame) -> dict[str, np.ndarray]:
    """The columns of one frame's sites as arrays."""
    return {name: rows[name].to_numpy() for name in SITES}


def lattice_from(facts: dict[str, Any], pixel_size_angstrom: float) -> Lattice2D:
    """The lattice from calibrate's facts, on the pixel size that the dataset uses."""
    vectors = {key: np.array(facts[key]) for key in ("a1_px", "a2_px", "origin_px")}
    return Lattice2D(**{**facts, **vectors, "pixel_size_angstrom": pixel_size_angstrom})
