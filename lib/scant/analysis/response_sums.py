"""What the electronic response goes with: sums behind the correlations of a sheet's pi bands with its shape.

They are taken within each sample of the posterior, a possible sheet of its own. Correlating posterior means instead would miss all that the
image left open, which is most of the thermal part: on the open movie 0.35 in place of 0.68.
"""

from __future__ import annotations

import numpy as np

from scant.analysis.curvature import frame_curvature
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.pi_bands import PiResponse

PAIRS = (
    ("density of states", "mean curvature |H|"),
    ("density of states", "strain trace"),
    ("density of states", "mean bond length"),
    ("free valence", "mean curvature |H|"),
    ("free valence", "strain trace"),
    ("free valence", "mean bond length"),
    ("bond order", "bond length"),
)


def response_sums(
    atoms: FrameAtoms, pairs: np.ndarray, response: PiResponse, valence: np.ndarray, strain: np.ndarray, counted: np.ndarray
) -> np.ndarray:
    """Sums (7, 6) of 1, x, y, x x, y y, x y for PAIRS, over the atoms or bonds of a sample where both are known.

    `counted` (n,) leaves atoms out. valence (n,): free valence; strain (n, 3): Green-Lagrange strain of the sample. Lengths in angstrom,
    curvature in 1/angstrom.
    """
    first, second = pairs.T
    length = np.linalg.norm(atoms.xyz_angstrom[second] - atoms.xyz_angstrom[first], axis=1)
    count = np.bincount(pairs.ravel(), minlength=len(valence))
    total = sum(np.bincount(end, length, len(valence)) for end in (first, second))
    shape = {
        "mean curvature |H|": np.abs(frame_curvature(atoms).mean_per_angstrom),
        "strain trace": strain[:, 0] + strain[:, 1],
        "mean bond length": np.where(count > 0, total / np.maximum(count, 1), np.nan),
        "bond length": length,
    }
    electrons = {
        "density of states": np.where(counted, response.ldos_per_ev, np.nan),
        "free valence": np.where(counted, valence, np.nan),
        "bond order": np.where(counted[pairs].all(axis=1), response.bond_order, np.nan),
    }
    return np.stack([_sums(electrons[a], shape[b]) for a, b in PAIRS])


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    return np.array([x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y])
