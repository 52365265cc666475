"""Pseudo-magnetic field of strained graphene: what strain does to electrons of one valley, as a field in tesla.

With x along a zigzag row, the valley at +x of the two, the bond decay beta = -d ln t / d ln L and the bond length a
A = hbar / e * beta / (2 a) * (E_xx - E_yy, -2 E_xy),  B = dA_y/dx - dA_x/dy  (Vozmediano, Katsnelson and Guinea, Phys. Rep. 496, 109
(2010), sec. 4.3); electrons of the other valley see -B. E is the Green-Lagrange strain: bonds also lengthen on a slope.
"""

from __future__ import annotations

import numpy as np

from scant.analysis.neighbours import padded_neighbours
from scant.physics.lattice import pairs_within

HBAR_OVER_E_TESLA_ANGSTROM2 = 65821.19569
FIT_RADIUS_ANGSTROM = 5.0
FEWEST_NEIGHBOURS = 6


def zigzag_angle_rad(bond_angle_rad: float, reference_rad: float = 0.0) -> float:
    """Direction of the zigzag rows nearest to the reference: bonds stand at 90 degrees to one row, rows come every 60 degrees.

    The next row but one belongs to the same valley, the next to the other: what compares signs must use one reference.
    """
    sixth = np.pi / 3
    row = bond_angle_rad + sixth / 2
    return float(row + sixth * np.round((reference_rad - row) / sixth))


def vector_potential_tesla_angstrom(strain: np.ndarray, zigzag_rad: float, bond_angstrom: float, decay: float) -> np.ndarray:
    """Vector potential (n, 2), in the axes in which the strain (n, 3) xx, yy, xy is given."""
    c, s = np.cos(zigzag_rad), np.sin(zigzag_rad)
    xx, yy, xy = strain.T
    # Difference and shear of the strain in the crystal's axes.
    difference = (xx - yy) * (c * c - s * s) + 4 * c * s * xy
    shear = (c * c - s * s) * xy - c * s * (xx - yy)
    along, across = difference, -2 * shear
    scale = HBAR_OVER_E_TESLA_ANGSTROM2 * decay / (2 * bond_angstrom)
    return scale * np.column_stack([c * along - s * across, s * along + c * across])


def curl_tesla(xy_angstrom: np.ndarray, potential_tesla_angstrom: np.ndarray) -> np.ndarray:
    """Curl (n,) of a vector potential (n, 2) at atoms (n, 2): from the plane through its values within 5 A; NaN where too few are known."""
    known = np.flatnonzero(np.isfinite(potential_tesla_angstrom).all(axis=1))
    field = np.full(len(xy_angstrom), np.nan)
    index, valid = padded_neighbours(known.size, pairs_within(xy_angstrom[known], FIT_RADIUS_ANGSTROM))
    enough = valid.sum(axis=1) >= FEWEST_NEIGHBOURS
    if not enough.any():
        return field
    index = np.hstack([np.arange(known.size)[:, None], index])[enough]
    weight = np.hstack([np.ones((known.size, 1)), valid])[enough]
    offset = xy_angstrom[known[index]] - xy_angstrom[known[enough]][:, None, :]
    design = np.concatenate([np.ones_like(weight)[..., None], offset], axis=-1) * weight[..., None]
    value = potential_tesla_angstrom[known[index]] * weight[..., None]
    slope = np.linalg.pinv(design) @ value
    field[known[enough]] = slope[:, 1, 1] - slope[:, 2, 0]
    return field
