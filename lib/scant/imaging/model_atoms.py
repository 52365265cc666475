"""The atoms that the 3D model of a frame needs: those in view and a rim beyond it, with bonds and true coordination."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scant.imaging.localise import Localised

FULL_COORDINATION = 3


@dataclass(frozen=True)
class ModelAtoms:
    """`keep` (n,) numbers of the located atoms that belong to the model; for these: `neighbours` (n, 3) in the model's own numbering,
    -1 where there is none; `coordination` (n,): bonds in reality, which at the model's rim are more than the neighbours it holds."""

    keep: np.ndarray
    neighbours: np.ndarray
    coordination: np.ndarray


def model_atoms(located: Localised, shape: tuple[int, int], margin_px: float) -> ModelAtoms:
    """Atoms within `margin_px` of the view (H, W), without strays that no bond ties to the rest.

    In view an atom's bonds are all of its bonds: next to a vacancy it has two. Beyond the view the crystal goes on.
    """
    beyond = np.maximum(-located.positions_px, located.positions_px - (np.array(shape[::-1]) - 1)).max(axis=1)
    near = beyond <= margin_px
    bonds = located.bonds[near[located.bonds].all(axis=1)]
    bonded = near & (np.bincount(bonds.ravel(), minlength=len(near)) > 0)
    keep = np.nonzero(bonded)[0]
    number = np.full(len(near), -1)
    number[keep] = np.arange(len(keep))
    neighbours = _neighbour_columns(number[bonds], len(keep))
    held = (neighbours >= 0).sum(axis=1)
    coordination = np.where(located.in_view[keep], held, FULL_COORDINATION)
    return ModelAtoms(keep, neighbours, coordination)


def _neighbour_columns(bonds: np.ndarray, n_atoms: int) -> np.ndarray:
    """Neighbours (n, 3) in rising order, -1 at the end where there are fewer."""
    start, end = np.concatenate([bonds, bonds[:, ::-1]]).T
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    slot = np.arange(len(start)) - np.searchsorted(start, start)
    columns = np.full((n_atoms, FULL_COORDINATION), -1)
    columns[start, slot] = end
    return columns
