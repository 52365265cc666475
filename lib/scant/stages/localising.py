"""Located atoms of a block as a table, with the bond graph that the annealer builds on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from scant.imaging.localise import localise_frame
from scant.imaging.model_atoms import model_atoms
from scant.imaging.reciprocal import Lattice2D

SITES: dict[str, pl.DataType | type[pl.DataType]] = {
    "frame": pl.Int64, "atom": pl.Int64, "x_px": pl.Float64, "y_px": pl.Float64, "sigma_x_px": pl.Float64, "sigma_y_px": pl.Float64,
    "p_atom": pl.Float64, "pcd": pl.Float64, "sigma_pcd": pl.Float64, "amplitude_e": pl.Float64, "background_e": pl.Float64,
    "flag": pl.Int64, "in_view": pl.Boolean, "sublattice": pl.Int64, "coordination": pl.Int64,
    "neighbour_0": pl.Int64, "neighbour_1": pl.Int64, "neighbour_2": pl.Int64,
}  # fmt: skip
ESTIMATES = ("x_px", "y_px", "sigma_x_px", "sigma_y_px", "p_atom", "pcd", "sigma_pcd", "amplitude_e", "background_e", "flag", "in_view")


@dataclass(frozen=True)
class LocaliseSettings:
    """Lattice, noise and margin that all frames of a movie share."""

    lattice: Lattice2D
    bad: np.ndarray
    read_noise_e: float
    excess_noise: float
    margin_angstrom: float


def localise_columns(image_e: np.ndarray, detection_image: np.ndarray, settings: LocaliseSettings) -> dict[str, np.ndarray]:
    """Columns of the sites table (less `frame`) of one corrected frame (H, W); which atoms there are comes from the detection image."""
    mask = ~settings.bad
    variance_e2 = settings.excess_noise * float(image_e[mask].mean()) + settings.read_noise_e**2
    located = localise_frame(image_e, variance_e2, mask, settings.lattice, detection_image=detection_image)
    model = model_atoms(located, (image_e.shape[0], image_e.shape[1]), settings.margin_angstrom / settings.lattice.pixel_size_angstrom)
    columns: dict[str, np.ndarray] = {"atom": np.arange(len(model.keep))}
    columns |= {name: getattr(located, name)[model.keep] for name in ESTIMATES}
    columns["sublattice"] = located.index[model.keep, 2]
    columns["coordination"] = model.coordination
    return columns | {f"neighbour_{n}": model.neighbours[:, n] for n in range(3)}


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
