"""Bending stiffness of the rim of a sheet that is cut out of a crystal.

At the model's end atoms lack the neighbours that hold them in the plane, and a cut rim curls or folds where the crystal would
not. Each rim atom is given the energy k/2 (z_i - 2 z_j + z_l)^2 of every straight triple of second neighbours around it
that the model holds: linear heights cost nothing, so the sheet may tilt freely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

# Half the sheet's own: measured on thermal LCBOP sheets cut at a view, whose virial of heights it leaves at N k_B T
# (tests/physics/test_prior.py). The full stiffness flattens ripples by 8 %.
RIM_BENDING_EV = 0.5
ATOM_AREA_PER_LATTICE_CONSTANT2 = np.sqrt(3) / 4
RIM_WIDTH = 1.1
STRAIGHT_WITHIN = 0.12


@dataclass(frozen=True)
class RimSprings:
    """Sparse stiffness of heights, slot-first: the force on site s is sum_slot weight[slot, s] * z[index[slot, s]], eV and A."""

    index: Any
    weight: Any

    def on(self, xp: Any) -> RimSprings:
        """The same springs in the memory of another array module."""
        return RimSprings(xp.asarray(self.index), xp.asarray(self.weight))

    def energy_and_slope(self, heights: Any) -> tuple[Any, Any]:
        """Half z.R.z for each site and its slope R z, heights (sites,)."""
        slope = (self.weight * heights[self.index]).sum(axis=0)
        return 0.5 * heights * slope, slope


def rim_springs(sites: np.ndarray, at_end: np.ndarray, lattice_constant_angstrom: float) -> RimSprings:
    """Springs of one structure with flat sites (N, 2) in A; `at_end` (N,) says which atoms lack a neighbour beyond the model."""
    n = len(sites)
    stiffness = RIM_BENDING_EV * ATOM_AREA_PER_LATTICE_CONSTANT2 / lattice_constant_angstrom**2
    rows: list[dict[int, float]] = [{} for _ in range(n)]
    for triple in _straight_triples(sites, at_end, lattice_constant_angstrom):
        for i, a in zip(triple, (1.0, -2.0, 1.0), strict=True):
            for j, b in zip(triple, (1.0, -2.0, 1.0), strict=True):
                rows[i][j] = rows[i].get(j, 0.0) + stiffness * a * b
    width = max([len(row) for row in rows], default=0)
    index, weight = np.zeros((width, n), np.intp), np.zeros((width, n), np.float32)
    for i, row in enumerate(rows):
        index[: len(row), i], weight[: len(row), i] = list(row), list(row.values())
    return RimSprings(index, weight)


def stack_rims(rims: Sequence[RimSprings], n_atoms: int) -> RimSprings:
    """Springs of F structures padded to `n_atoms` sites each, one after another."""
    width = max(rim.index.shape[0] for rim in rims)
    index, weight = np.zeros((width, len(rims), n_atoms), np.intp), np.zeros((width, len(rims), n_atoms), np.float32)
    for f, rim in enumerate(rims):
        slots, held = rim.index.shape
        index[:slots, f, :held], weight[:slots, f, :held] = rim.index + f * n_atoms, rim.weight
    return RimSprings(index.reshape(width, -1), weight.reshape(width, -1))


def _straight_triples(sites: np.ndarray, at_end: np.ndarray, a: float) -> list[tuple[int, int, int]]:
    """Second neighbours (i, j, l) in a line around each atom j near the end."""
    if not at_end.any():
        return []
    near = np.flatnonzero(cKDTree(sites[at_end]).query(sites)[0] < RIM_WIDTH * a)
    tree = cKDTree(sites)
    triples = []
    for j in near.tolist():
        around = [i for i in tree.query_ball_point(sites[j], (1 + STRAIGHT_WITHIN) * a) if i != j]
        second = [i for i in around if abs(np.linalg.norm(sites[i] - sites[j]) - a) < STRAIGHT_WITHIN * a]
        for i in second:
            distance, opposite = tree.query(2 * sites[j] - sites[i])
            if distance < STRAIGHT_WITHIN * a and i < opposite:
                triples.append((i, j, int(opposite)))
    return triples
