"""Pyramidalisation of each atom's bonds: the pi-orbital axis vector and its angle, POAV1 (Haddon, Acc. Chem. Res. 21, 243 (1988)).

With unit bond vectors u1, u2, u3 the pi axis n makes the same angle with all three: it is normal to the plane through their tips,
N = u1 x u2 + u2 x u3 + u3 x u1, and the angle beyond 90 degrees is arcsin(-u . n) = arcsin(-u1 . (u2 x u3) / |N|).
A sheet of radius R has the angle L / 2R on a sphere and L / 4R on a cylinder, L the bond length: 3.0 degrees in a (10,10) tube.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from scant.analysis.bonds import BOND_CUTOFF_ANGSTROM
from scant.analysis.neighbours import FrameAtoms, geometric_positions, iterate_frames, padded_neighbours
from scant.physics.lattice import pairs_within


def pyramidalisation_deg(atoms: FrameAtoms, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pyramidalisation angle (n,) and its sigma, degrees: 0 in graphene, 11.64 in C60; pairs (m, 2) are the bonds.

    Positive when the atom sticks out along +z, as on a bump towards +z. The signed angle of a flat sheet is not biased by noise,
    while its magnitude is, by sqrt(2 / pi) sigma where the sheet is flat. Sigma is of first order for independent errors: an upper bound
    where neighbours err together. NaN for atoms without exactly three bonds, and where heights are unknown.
    """
    angle, sigma = np.full((2, atoms.ids.size), np.nan)
    if not atoms.has_heights:
        return angle, sigma
    three, index, unit, length = _bonds_of_three(atoms.xyz_angstrom, pairs)
    axis, size = _axis(unit)
    upward = np.where(axis[:, 2] < 0, -1.0, 1.0)
    sine = np.einsum("na,na->n", unit[:, 0], axis)
    angle[three] = -upward * np.degrees(np.arcsin(sine))
    gradient = _gradient(unit, axis, sine, size) / length[..., None] / np.sqrt(1 - sine**2)[:, None, None]
    along = np.einsum("nka,nka->n", atoms.sigma_angstrom[index] ** 2, gradient**2)
    own = np.einsum("na,na->n", atoms.sigma_angstrom[three] ** 2, gradient.sum(axis=1) ** 2)
    sigma[three] = np.degrees(np.sqrt(along + own))
    return angle, sigma


def pyramidalisation_table(atoms: pl.DataFrame) -> pl.DataFrame:
    """Pyramidalisation of all frames: frame, id, pyramidalisation_deg, sigma_pyramidalisation_deg."""
    schema = {"frame": pl.Int64, "id": pl.Int64, "pyramidalisation_deg": pl.Float64, "sigma_pyramidalisation_deg": pl.Float64}
    tables = [pl.DataFrame(schema=schema)]
    for frame in iterate_frames(atoms):
        angle, sigma = pyramidalisation_deg(frame, pairs_within(geometric_positions(frame), BOND_CUTOFF_ANGSTROM))
        tables.append(pl.DataFrame([np.full(angle.size, frame.frame), frame.ids, angle, sigma], schema=schema))
    return pl.concat(tables)


def pi_axes(xyz_angstrom: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3) of the pi orbitals, upwards; atoms without exactly three bonds take the mean of their neighbours', or z."""
    axes = np.zeros_like(xyz_angstrom)
    three, _, unit, _ = _bonds_of_three(xyz_angstrom, pairs)
    axis = _axis(unit)[0]
    axes[three] = axis * np.where(axis[:, 2] < 0, -1.0, 1.0)[:, None]
    index, valid = padded_neighbours(len(axes), pairs)
    borrowed = (axes[index] * valid[..., None]).sum(axis=1)
    borrowed[~borrowed.any(axis=1)] = [0.0, 0.0, 1.0]
    axes[~three] = (borrowed / np.linalg.norm(borrowed, axis=1)[:, None])[~three]
    return axes


def _bonds_of_three(xyz_angstrom: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which atoms (n,) have three bonds; of those, neighbours (m, 3), unit vectors (m, 3, 3) and lengths (m, 3) of the bonds."""
    index, valid = padded_neighbours(len(xyz_angstrom), pairs)
    three = valid.sum(axis=1) == 3
    index = index[three][:, :3] if three.any() else np.empty((0, 3), dtype=np.int64)
    bond = xyz_angstrom[index] - xyz_angstrom[three][:, None, :]
    length = np.linalg.norm(bond, axis=-1)
    return three, index, bond / length[..., None], length


def _axis(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pi axis (m, 3), right-handed to the three bonds, and the length (m,) of N."""
    normal = np.cross(unit, np.roll(unit, -1, axis=1)).sum(axis=1)
    size = np.linalg.norm(normal, axis=-1)
    return normal / size[:, None], size


def _gradient(unit: np.ndarray, axis: np.ndarray, sine: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Derivative (m, 3, 3) of u . n by each unit vector, the part along the bond taken out.

    s = V / |N| with dV / du1 = u2 x u3 and d|N| / du1 = (u2 - u3) x n, and so on in turn.
    """
    second, third = np.roll(unit, -1, axis=1), np.roll(unit, -2, axis=1)
    slope = (np.cross(second, third) - sine[:, None, None] * np.cross(second - third, axis[:, None, :])) / size[:, None, None]
    return slope - np.einsum("nka,nka->nk", slope, unit)[..., None] * unit
