"""A reconstruction against a known truth: who matches whom, and the errors of those who do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

MATCH_ANGSTROM = 0.7
MARGIN_ANGSTROM = 3.0
NO_PAIR = 1e3


@dataclass(frozen=True)
class Score:
    """Matched atoms: `found`, `true` (M,) their numbers, `error_angstrom` (M, 3) with the mean height error removed."""

    found: np.ndarray
    true: np.ndarray
    error_angstrom: np.ndarray
    recall: float
    precision: float

    @property
    def rmsd_3d_angstrom(self) -> float:
        """Root mean square distance in 3D over matched atoms; infinite when fewer than three match."""
        return float(np.sqrt((self.error_angstrom**2).sum(axis=1).mean())) if len(self.found) >= 3 else np.inf


def score(found: np.ndarray, true: np.ndarray, view_angstrom: tuple[float, float]) -> Score:
    """Match positions (N, 3) and (T, 3) one to one within 0.7 A in the plane (Hungarian); atoms within 3 A of the edge of the view
    (width, height) are not scored. An absolute height is a defocus and is not scored either.
    """
    inner = [np.all((p[:, :2] > MARGIN_ANGSTROM) & (p[:, :2] < np.array(view_angstrom) - MARGIN_ANGSTROM), axis=1) for p in (found, true)]
    i, j = _pairs(found[:, :2], true[:, :2])
    counted = inner[1][j]
    i, j = i[counted], j[counted]
    error = found[i] - true[j]
    error[:, 2] -= error[:, 2].mean() if len(error) else 0.0
    extra = inner[0].sum() - inner[0][i].sum()
    return Score(i, j, error, len(i) / max(int(inner[1].sum()), 1), 1 - float(extra) / max(int(inner[0].sum()), 1))


def _pairs(found: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    near = cKDTree(found).sparse_distance_matrix(cKDTree(true), MATCH_ANGSTROM, output_type="coo_matrix").tocsr()
    rows, columns = np.unique(near.nonzero()[0]), np.unique(near.nonzero()[1])
    if not len(rows):
        return np.empty(0, int), np.empty(0, int)
    block = near[rows][:, columns].toarray()
    a, b = linear_sum_assignment(np.where(block > 0, block, NO_PAIR))
    matched = block[a, b] > 0
    return rows[a[matched]], columns[b[matched]]
