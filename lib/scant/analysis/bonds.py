"""Bonds of every frame with propagated errors; angles, coordination and rings of the bond network.

Two different things are called sigma of a position, and the length of a bond reacts to them with opposite signs.
`noisy`: estimate = truth + noise. Noise across the bond lengthens it: E|d + n| = L + (tr S - u.S.u) / 2L, so a 3D
length is biased up, mostly by sigma_z. `posterior_mean`: truth = estimate + deviation. The mean of the samples is
shorter than the samples (Jensen), and the same term is to be added.
Errors of neighbours that share a soft bending mode are strongly correlated; `error_correlation` says how strongly.
The default 0 (independent) makes sigma and the correction upper bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from scant.analysis.neighbours import FrameAtoms, geometric_positions, iterate_frames, neighbour_pairs, padded_neighbours
from scant.analysis.posterior_spread import posterior_sigma
from scant.analysis.samples import iterate_samples
from scant.errors import InputError

Estimate = Literal["noisy", "posterior_mean"]
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


def frame_bonds(
    atoms: FrameAtoms,
    cutoff_angstrom: float = BOND_CUTOFF_ANGSTROM,
    error_correlation: float = 0.0,
    estimate: Estimate = "noisy",
) -> FrameBonds:
    """Bonds shorter than the cutoff, first-order sigma of their length and the length freed of its bias.

    The bias term is the one of the module's head; a length that it would make negative becomes NaN.
    Raises InputError for a correlation outside [0, 1).
    """
    if not 0.0 <= error_correlation < 1.0:
        raise InputError(f"error_correlation: {error_correlation} is outside 0 <= c < 1; use 0 where it is not known")
    xyz = geometric_positions(atoms)
    pairs = neighbour_pairs(xyz, cutoff_angstrom)
    vector = xyz[pairs[:, 1]] - xyz[pairs[:, 0]]
    length = np.linalg.norm(vector, axis=1)
    sigma = np.where([True, True, atoms.has_heights], atoms.sigma_angstrom, 0.0)
    sigma_a, sigma_b = sigma[pairs[:, 0]], sigma[pairs[:, 1]]
    variance = sigma_a**2 + sigma_b**2 - 2 * error_correlation * sigma_a * sigma_b
    along = np.sum((vector / length[:, None]) ** 2 * variance, axis=1)
    across = variance.sum(axis=1) - along
    # The squared form agrees with L -/+ across / 2L to first order and holds better where sigma_z is a third of L.
    squared = length**2 + (across if estimate == "posterior_mean" else -across)
    corrected = np.sqrt(np.where(squared > 0, squared, np.nan))
    return FrameBonds(pairs, length, np.sqrt(along), corrected)


def bond_table(
    atoms: pl.DataFrame,
    cutoff_angstrom: float = BOND_CUTOFF_ANGSTROM,
    error_correlation: float = 0.0,
    estimate: Estimate = "noisy",
) -> pl.DataFrame:
    """Bonds of all frames: frame, id_a < id_b, length, sigma and bias-corrected length (angstrom)."""
    tables = [pl.DataFrame(schema=SCHEMA)]
    for frame in iterate_frames(atoms):
        bonds = frame_bonds(frame, cutoff_angstrom, error_correlation, estimate)
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
    """Bonds between posterior means, as `bond_table`; where a frame has two samples of its posterior or more, sigma is a length's spread
    over them and the corrected length its mean over them, as long as the sheet's own bonds. Without, both hold for independent errors.
    """
    table = bond_table(atoms, estimate="posterior_mean")
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


def coordination(n_atoms: int, pairs: np.ndarray) -> np.ndarray:
    """Number of bonds (n,) of each atom."""
    return np.bincount(pairs.ravel(), minlength=n_atoms)


def bond_angles_deg(xyz_angstrom: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """All angles (m,) in degrees between two bonds that share an atom; 120 in flat graphene."""
    index, valid = padded_neighbours(len(xyz_angstrom), pairs)
    vector = xyz_angstrom[index] - xyz_angstrom[:, None, :]
    first, second = np.triu_indices(index.shape[1], k=1)
    both = valid[:, first] & valid[:, second]
    a, b = vector[:, first][both], vector[:, second][both]
    cosine = np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def ring_sizes(xy_angstrom: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Sizes (r,) of the rings of a sheet seen from above: the faces of its planar bond graph.

    Every bond is two half-edges; turning by one bond at each atom traces a face. Inner faces run anticlockwise; the
    outer border (clockwise) and faces with a dangling bond (an atom met twice) are left out.
    """
    following = _next_half_edge(xy_angstrom, pairs)
    seen: set[tuple[int, int]] = set()
    sizes = []
    for start in following:
        face, edge = [], start
        while edge not in seen:
            seen.add(edge)
            face.append(edge[0])
            edge = following[edge]
        if len(face) >= 3 and len(set(face)) == len(face) and _signed_area(xy_angstrom[face]) > 0:
            sizes.append(len(face))
    return np.array(sizes, dtype=np.int64)


def _next_half_edge(xy_angstrom: np.ndarray, pairs: np.ndarray) -> dict[tuple[int, int], tuple[int, int]]:
    """For a -> b the half-edge b -> c with the face on its left: c precedes a in the anticlockwise order around b."""
    half = np.concatenate([pairs, pairs[:, ::-1]])
    vector = xy_angstrom[half[:, 1], :2] - xy_angstrom[half[:, 0], :2]
    order = np.lexsort((np.arctan2(vector[:, 1], vector[:, 0]), half[:, 0]))
    around: dict[int, list[int]] = {}
    for centre, other in half[order].tolist():
        around.setdefault(centre, []).append(other)
    return {(a, b): (b, others[k - 1]) for b, others in around.items() for k, a in enumerate(others)}


def _signed_area(polygon_angstrom: np.ndarray) -> float:
    x, y = polygon_angstrom[:, 0], polygon_angstrom[:, 1]
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
