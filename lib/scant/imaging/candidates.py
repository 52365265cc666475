"""The state of a detection: sites with their bonds, flags and fit, and the two ways a site leaves the perfect lattice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scant.imaging.fit import Fit, Observation, Springs, refine
from scant.imaging.template import Template

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bool = NDArray[np.bool_]

FLAG_CONTAMINATED, FLAG_EDGE, FLAG_DEFECT, FLAG_UNCERTAIN, FLAG_OUTSIDE = 1, 2, 4, 8, 16
# A turned bond of a relaxed Stone-Wales defect is shorter than a bond of the lattice (1.32 A).
TURNED_LENGTH = 0.93


@dataclass(frozen=True)
class Detection:
    """Atoms in view and up to the margin beyond it.

    `positions_px` (n, 2); `index` (n, 3) = (i, j, sublattice) on the lattice; `bonds` (m, 2); `p_atom` (n,) probability that the site is
    occupied; `flag` (n,) bits FLAG_*; `reference_px` (n, 2) the smooth local lattice sites; `vacancies_px` (k, 2) sites found empty;
    `turned_px` (s, 2) centres of bonds found turned by 90 degrees; `fit` the image fit that they come from.
    """

    positions_px: Array
    index: Ints
    bonds: Ints
    p_atom: Array
    flag: Ints
    reference_px: Array
    vacancies_px: Array
    turned_px: Array
    fit: Fit

    @property
    def in_view(self) -> Bool:
        """(n,) atoms whose centre lies in the field of view."""
        return np.asarray((self.flag & FLAG_OUTSIDE) == 0)

    @property
    def template(self) -> Template:
        return self.fit.template

    def springs(self, bond_px: float) -> Springs:
        """Springs to the smooth lattice, free around defects."""
        defect = (self.flag & FLAG_DEFECT) > 0
        vectors = self.reference_px[self.bonds[:, 1]] - self.reference_px[self.bonds[:, 0]]
        return Springs(self.bonds, vectors, np.asarray(defect[self.bonds].any(axis=1)), bond_px)


def refitted(state: Detection, observation: Observation, bond_px: float, iterations: int = 3) -> Detection:
    """The detection with its positions fitted to the image again."""
    fit = refine(observation, state.positions_px, np.ones(len(state.positions_px)), state.springs(bond_px), iterations=iterations)
    return replace(state, fit=fit, positions_px=fit.positions_px)


def subset(state: Detection, keep: Bool) -> tuple[Detection, Ints]:
    """The detection of some atoms (n,) with the bonds among them, and which bonds (m,) of the whole these are; its fit is the whole's."""
    held = np.flatnonzero(keep[state.bonds].all(axis=1))
    part = replace(
        state, positions_px=state.positions_px[keep], index=state.index[keep], p_atom=state.p_atom[keep], flag=state.flag[keep],
        reference_px=state.reference_px[keep], bonds=(np.cumsum(keep) - 1)[state.bonds[held]],
    )  # fmt: skip
    return part, held


def without(state: Detection, removed: Ints) -> Detection:
    """The detection less some atoms; their neighbours count as defect atoms, their sites as vacancies."""
    keep = np.ones(len(state.positions_px), dtype=bool)
    keep[removed] = False
    flag = state.flag.copy()
    flag[state.bonds[~keep[state.bonds].all(axis=1)].ravel()] |= FLAG_DEFECT
    rest, _ = subset(replace(state, flag=flag), keep)
    return replace(rest, vacancies_px=np.concatenate([state.vacancies_px, state.reference_px[removed]]))


def turned_pair(positions: Array, pairs: Ints) -> Array:
    """Ends (..., 2, 2) of bonds (..., 2) turned by 90 degrees about their middle."""
    middle, half = positions[pairs].mean(axis=-2), (positions[pairs[..., 1]] - positions[pairs[..., 0]]) / 2
    across = TURNED_LENGTH * np.stack([-half[..., 1], half[..., 0]], axis=-1)
    return np.stack([middle - across, middle + across], axis=-2)


def with_turned_bond(state: Detection, bond_number: int) -> Detection:
    """The detection with one bond turned and its outer bonds tied to the nearer end (Stone & Wales 1986)."""
    a, b = state.bonds[bond_number]
    positions = state.positions_px.copy()
    positions[[a, b]] = turned_pair(state.positions_px, state.bonds[bond_number])
    bonds = state.bonds.copy()
    outer = [(n, side) for side in (0, 1) for n in np.nonzero(np.isin(bonds[:, side], (a, b)))[0] if n != bond_number]
    ends = positions[[bonds[n, 1 - side] for n, side in outer]]
    preference = np.linalg.norm(ends - positions[a], axis=1) - np.linalg.norm(ends - positions[b], axis=1)
    for rank, k in enumerate(np.argsort(preference)):
        n, side = outer[int(k)]
        bonds[n, side] = a if rank < (len(outer) + 1) // 2 else b
    flag = state.flag.copy()
    flag[bonds[np.isin(bonds, (a, b)).any(axis=1)].ravel()] |= FLAG_DEFECT
    centre = state.positions_px[[a, b]].mean(axis=0, keepdims=True)
    return replace(state, positions_px=positions, bonds=bonds, flag=flag, turned_px=np.concatenate([state.turned_px, centre]))
