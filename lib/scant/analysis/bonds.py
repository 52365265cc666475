"""Bonds of every frame with propagated errors; angles between them.

Two different things are called sigma of a position, and the length of a bond reacts to them with opposite signs.
Atoms with heights are posterior means: truth = estimate + deviation, and the mean of the samples is shorter than the
samples (Jensen), E|d + n| = L + (tr S - u.S.u) / 2L, mostly by sigma_z. Atoms without are located in the image:
estimate = truth + noise, and the same term, now of the plane alone, has lengthened their bonds.
Errors of neighbours that share a soft bending mode are strongly correlated; taking them for independent makes sigma
and the correction upper bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.analysis.neighbours import FrameAtoms, geometric_positions, iterate_frames, padded_neighbours
from scant.analysis.posterior_spread import posterior_sigma
from scant.analysis.samples import iterate_samples
from scant.physics.lattice import pairs_within

BOND_CUTOFF_ANGSTROM = 1.85
SCHEMA = {
    "frame": pl.Int64,
    "id_a": pl.Int64,
    "id_b": pl.Int64,
    "length_angstrom": pl.Float64,
    "sigma_length_angstrom": pl.Float64,
    "length_corrected_angstrom": pl.Float64,
}


@dataclass(frozen=True)
class FrameBonds:
    """Bonds of one frame: pairs (m, 2) index its atoms; lengths (m,) angstrom, in the plane where heights are unknown."""

    pairs: np.ndarray
    length_angstrom: np.ndarray
    sigma_length_angstrom: np.ndarray
    length_corrected_angstrom: np.ndarray


def frame_bonds(atoms: FrameAtoms) -> FrameBonds:
    """Bonds shorter than 1.85 A, first-order sigma of their length and the length freed of its bias.

    The bias term is the one of the module's head; a length that it would make negative becomes NaN.
    """
    xyz = geometric_positions(atoms)
    pairs = pairs_within(xyz, BOND_CUTOFF_ANGSTROM)
    vector = xyz[pairs[:, 1]] - xyz[pairs[:, 0]]
    length = np.linalg.norm(vector, axis=1)
    sigma = np.where([True, True, atoms.has_heights], atoms.sigma_angstrom, 0.0)
    variance = sigma[pairs[:, 0]] ** 2 + sigma[pairs[:, 1]] ** 2
    along = np.sum((vector / length[:, None]) ** 2 * variance, axis=1)
    across = variance.sum(axis=1) - along
    # The squared form agrees with L -/+ across / 2L to first order and holds better where sigma_z is a third of L.
    squared = length**2 + (across if atoms.has_heights else -across)
    corrected = np.sqrt(np.where(squared > 0, squared, np.nan))
    return FrameBonds(pairs, length, np.sqrt(along), corrected)


def bond_table(atoms: pl.DataFrame) -> pl.DataFrame:
    """Bonds of all frames: frame, id_a < id_b, length, sigma and bias-corrected length (angstrom)."""
    tables = [pl.DataFrame(schema=SCHEMA)]
    for frame in iterate_frames(atoms):
        bonds = frame_bonds(frame)
        columns = {
            "frame": np.full(len(bonds.pairs), frame.frame),
            "id_a": frame.ids[bonds.pairs[:, 0]],
            "id_b": frame.ids[bonds.pairs[:, 1]],
            "length_angstrom": bonds.length_angstrom,
            "sigma_length_angstrom": bonds.sigma_length_angstrom,
            "length_corrected_angstrom": bonds.length_corrected_angstrom,
        }
        tables.append(pl.DataFrame(columns, schema=SCHEMA))
    return pl.concat(tables)


def sampled_bond_table(atoms: pl.DataFrame, samples: pl.DataFrame | None) -> pl.DataFrame:
    """Bonds as in `bond_table`; where a frame has two samples of its posterior or more, sigma is a length's spread over them and the
    corrected length its mean over them, as long as the sheet's own bonds. Without, both hold for independent errors.
    """
    table = bond_table(atoms)
    if samples is None or not table.height:
        return table
    parts = []
    for frame, drawn in iterate_samples(atoms, samples):
        bonds = table.filter(frame=frame.frame)
        ends = np.searchsorted(frame.ids, bonds.select("id_a", "id_b").to_numpy())
        lengths = np.linalg.norm(drawn[:, ends[:, 1]] - drawn[:, ends[:, 0]], axis=-1)
        if len(drawn) > 1:
            bonds = bonds.with_columns(
                sigma_length_angstrom=pl.Series(posterior_sigma(lengths)), length_corrected_angstrom=pl.Series(lengths.mean(axis=0))
            )
        parts.append(bonds)
    return pl.concat(parts)


def bond_angles_deg(xyz_angstrom: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """All angles (m,) in degrees between two bonds that share an atom; 120 in flat graphene."""
    index, valid = padded_neighbours(len(xyz_angstrom), pairs)
    vector = xyz_angstrom[index] - xyz_angstrom[:, None, :]
    first, second = np.triu_indices(index.shape[1], k=1)
    both = valid[:, first] & valid[:, second]
    a, b = vector[:, first][both], vector[:, second][both]
    cosine = np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
