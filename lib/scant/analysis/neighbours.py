"""One frame's atoms as arrays, and its neighbours as a padded table: the common ground of bonds, strain and curvature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.errors import InputError

POSITION = ("x_angstrom", "y_angstrom", "z_angstrom")
SIGMA = ("sigma_x_angstrom", "sigma_y_angstrom", "sigma_z_angstrom")


@dataclass(frozen=True)
class FrameAtoms:
    """Atoms of one frame: xyz and sigma are (n, 3) angstrom; unknown values (z of a 2D dataset) are NaN."""

    frame: int
    ids: np.ndarray
    xyz_angstrom: np.ndarray
    sigma_angstrom: np.ndarray

    @property
    def has_heights(self) -> bool:
        return bool(self.ids.size and np.isfinite(self.xyz_angstrom[:, 2]).all())


def iterate_frames(atoms: pl.DataFrame) -> Iterator[FrameAtoms]:
    """The frames of an atoms table in ascending order, one at a time.

    Raises InputError when a column of the contract is missing.
    """
    missing = [name for name in ("frame", "id", *POSITION, *SIGMA) if name not in atoms.columns]
    if missing:
        raise InputError(f"atoms table: column {', '.join(missing)} is missing; it holds {', '.join(atoms.columns)}")
    ordered = atoms.sort("frame", "id")
    frames = ordered["frame"].to_numpy()
    xyz = ordered.select(pl.col(POSITION).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    sigma = ordered.select(pl.col(SIGMA).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    ids = ordered["id"].to_numpy()
    numbers, starts = np.unique(frames, return_index=True)
    for number, start, stop in zip(numbers, starts, np.append(starts[1:], frames.size)):
        yield FrameAtoms(int(number), ids[start:stop], xyz[start:stop], sigma[start:stop])


def geometric_positions(atoms: FrameAtoms) -> np.ndarray:
    """(n, 3) positions in which an unknown height counts as flat, so that planar geometry still works."""
    return np.nan_to_num(atoms.xyz_angstrom, nan=0.0)


def padded_neighbours(n_atoms: int, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbour index (n, k) and validity (n, k); k is the largest coordination, padding points at the atom itself."""
    centre = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort((other, centre))
    centre, other = centre[order], other[order]
    counts = np.bincount(centre, minlength=n_atoms)
    index = np.repeat(np.arange(n_atoms)[:, None], max(int(counts.max(initial=0)), 1), axis=1)
    slot = np.arange(centre.size) - np.repeat(np.cumsum(counts) - counts, counts)
    valid = np.zeros(index.shape, dtype=bool)
    index[centre, slot] = other
    valid[centre, slot] = True
    return index, valid
