"""Atoms as a graph: bonds between neighbours in view, and the lattice carried on beyond the view for the forward model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from scant.errors import InputError
from scant.imaging.localise import FLAG_CONTAMINATED, FLAG_DEFECT, Localised
from scant.imaging.reciprocal import Lattice2D

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bool = NDArray[np.bool_]

BOND_CUT = 1.3
MAX_BONDS = 3
SMOOTHING_CELLS = 1.5


@dataclass(frozen=True)
class Topology:
    """`positions_px` (n, 2), `in_view` (n,), `bonds` (m, 2) with at most three per atom; atoms in view keep their order and come first."""

    positions_px: Array
    in_view: Bool
    bonds: Ints


def bond_graph(positions_px: Array, bond_px: float) -> Ints:
    """Bonds (m, 2), a < b, between atoms closer than 1.3 bond lengths (1.85 A), shortest first, no atom with more than three."""
    pairs = cKDTree(positions_px).query_pairs(BOND_CUT * bond_px, output_type="ndarray")
    if not len(pairs):
        return np.zeros((0, 2), dtype=np.int64)
    pairs = np.sort(pairs, axis=1)
    length = np.linalg.norm(positions_px[pairs[:, 0]] - positions_px[pairs[:, 1]], axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], length))]
    degree = np.bincount(pairs.ravel(), minlength=len(positions_px))
    keep = np.ones(len(pairs), dtype=bool)
    # only atoms with too many candidates need the sequential choice
    contested = np.nonzero((degree[pairs] > MAX_BONDS).any(axis=1))[0]
    settled = np.bincount(np.delete(pairs, contested, axis=0).ravel(), minlength=len(positions_px))
    for k in contested:
        a, b = pairs[k]
        keep[k] = settled[a] < MAX_BONDS and settled[b] < MAX_BONDS
        settled[a] += keep[k]
        settled[b] += keep[k]
    chosen = pairs[keep]
    return np.asarray(chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))], dtype=np.int64)


def extend_beyond_view(localised: Localised, lattice: Lattice2D, shape: tuple[int, int], *, margin_angstrom: float = 5.0) -> Topology:
    """Topology of the atoms in view plus those up to the margin beyond it.

    Atoms outside that the fit carried along are taken over. Farther ones sit at their lattice site plus the displacement of the nearest
    known atoms (Gaussian mean over 1.5 cells, held constant outwards; a higher order would amplify noise).
    Raises InputError with fewer than 12 regular atoms.
    """
    margin = margin_angstrom / lattice.pixel_size_angstrom
    limits = np.array(shape[::-1]) - 0.5
    close = ((localised.positions_px > -0.5 - margin) & (localised.positions_px < limits + margin)).all(axis=1)
    known, index = localised.positions_px[close], localised.index[close]
    regular = (localised.flag[close] & (FLAG_DEFECT | FLAG_CONTAMINATED)) == 0
    if regular.sum() < 12:
        raise InputError(
            f"extending the lattice needs 12 regular atoms in view, found {int(regular.sum())}; check the detection of this frame"
        )
    offset = _mean_offset(known[regular], index[regular], lattice)
    have = {tuple(k) for k in index.tolist()}
    wanted = [k for k in _sites_around(lattice, offset, shape, margin).tolist() if tuple(k) not in have]
    ideal = ideal_sites(np.array(wanted, dtype=np.int64).reshape(-1, 3), lattice) + offset
    moved = ideal + _smooth_displacement(ideal, known[regular], known[regular] - ideal_sites(index[regular], lattice) - offset, lattice)
    # a site missing inside the view is a vacancy, not an atom to add
    beyond = ((moved < -0.5) | (moved >= limits)).any(axis=1) & ((moved > -0.5 - margin) & (moved < limits + margin)).all(axis=1)
    clear = cKDTree(known).query(moved)[0] > 0.6 * lattice.bond_px
    everything = np.concatenate([known, moved[beyond & clear]])
    inside = np.zeros(len(everything), dtype=bool)
    inside[: len(known)] = localised.in_view[close]
    return Topology(everything, inside, bond_graph(everything, lattice.bond_px))


def ideal_sites(index: Ints, lattice: Lattice2D) -> Array:
    """Positions (n, 2) in pixels of lattice indices (n, 3) = (i, j, sublattice) on the undistorted lattice."""
    return np.asarray((index[:, :2] + (index[:, 2:] + 1) / 3) @ lattice.vectors_px + lattice.origin_px)


def _mean_offset(positions: Array, index: Ints, lattice: Lattice2D) -> Array:
    """Drift between the lattice's origin and these atoms."""
    return np.asarray(np.median(positions - ideal_sites(index, lattice), axis=0))


def _sites_around(lattice: Lattice2D, offset: Array, shape: tuple[int, int], margin: float) -> Ints:
    low, high = np.full(2, -0.5 - 2 * margin), np.array(shape[::-1]) - 0.5 + 2 * margin
    corners = np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]) - lattice.origin_px - offset
    reach = corners @ lattice.reciprocal_per_px.T
    first, last = np.floor(reach.min(axis=0)).astype(int) - 1, np.ceil(reach.max(axis=0)).astype(int) + 1
    i, j, s = np.meshgrid(np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1), (0, 1), indexing="ij")
    index = np.stack([i.ravel(), j.ravel(), s.ravel()], axis=1)
    at = ideal_sites(index, lattice) + offset
    return np.asarray(index[((at > low) & (at < high)).all(axis=1)], dtype=np.int64)


def _smooth_displacement(points: Array, known: Array, displacement: Array, lattice: Lattice2D) -> Array:
    width = SMOOTHING_CELLS * lattice.bond_px * np.sqrt(3)
    distance, number = cKDTree(known).query(points, k=12)
    weight = np.exp(-0.5 * ((distance - distance[:, :1]) / width) ** 2)
    return np.asarray((displacement[number] * weight[..., None]).sum(axis=1) / weight.sum(axis=1, keepdims=True))
