"""One identity per atom through a movie: frames are linked one after the other, so identities do not depend on blocks.

Tracks are kept in sample coordinates (frame position minus known drift), so an atom that a frame misses, or that drifts out of view, waits
where it was and gets its number back. Assignment is one to one (Jonker-Volgenant on the sparse near pairs), as in Crocker & Grier 1996.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from scant.errors import InputError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MEMORY = 0.3


@dataclass(frozen=True)
class TrackState:
    """Tracks after a frame: `ids` (n,), rising; `positions_px` (n, 2) without drift, recent frames weighing most; `next_id`."""

    ids: Ints
    positions_px: Array
    next_id: int


def empty_state() -> TrackState:
    """State before the first frame."""
    return TrackState(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), 0)


def link_step(previous: TrackState, positions_px: Array, drift_px: Array, *, radius_px: float) -> tuple[Ints, TrackState]:
    """Identities (n,) of one frame's atoms (n, 2), and the tracks for the next frame.

    `drift_px` (2,) is the frame's displacement against the first; an atom farther than `radius_px` from every free track is a new one.
    Choose the radius below half a bond length. New identities are given in reading order (y, then x). Raises InputError for NaN.
    """
    positions = np.asarray(positions_px, dtype=float).reshape(-1, 2)
    drift = np.asarray(drift_px, dtype=float)
    if not (np.isfinite(positions).all() and np.isfinite(drift).all()):
        raise InputError("link: positions or drift hold NaN; leave the failed frame out, its atoms keep their tracks")
    if not radius_px > 0:
        raise InputError(f"link: radius {radius_px} px must be positive; half a bond length is the largest safe value")
    at = positions - drift
    tracks, atoms = _match(previous.positions_px, at, radius_px)
    ids = np.full(len(at), -1, dtype=np.int64)
    ids[atoms] = previous.ids[tracks]
    fresh = np.nonzero(ids < 0)[0]
    fresh = fresh[np.lexsort((at[fresh, 0], at[fresh, 1]))]
    ids[fresh] = previous.next_id + np.arange(len(fresh))
    moved = previous.positions_px.copy()
    # the mean follows slow ripples and does not jump with one noisy frame
    moved[tracks] += MEMORY * (at[atoms] - moved[tracks])
    state = TrackState(np.concatenate([previous.ids, ids[fresh]]), np.concatenate([moved, at[fresh]]), previous.next_id + len(fresh))
    return ids, state


def _match(tracks: Array, atoms: Array, radius: float) -> tuple[Ints, Ints]:
    """One-to-one pairs within the radius: mutual sole candidates at once, the rest cluster by cluster with the least squared distance."""
    none = np.zeros(0, dtype=np.int64)
    if not len(tracks) or not len(atoms):
        return none, none
    near = cKDTree(tracks).sparse_distance_matrix(cKDTree(atoms), radius, output_type="ndarray")
    if not len(near):
        return none, none
    i, j, d = near["i"].astype(np.int64), near["j"].astype(np.int64), near["v"]
    graph = csr_matrix((np.ones(len(i)), (i, j + len(tracks))), shape=(len(tracks) + len(atoms),) * 2)
    label = connected_components(graph, directed=False)[1][i]
    single = np.bincount(label)[label] == 1
    left, right = [i[single]], [j[single]]
    order = np.argsort(label[~single], kind="stable")
    i, j, d, label = i[~single][order], j[~single][order], d[~single][order], label[~single][order]
    edges = np.flatnonzero(np.diff(label, prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        rows, r = np.unique(i[start:stop], return_inverse=True)
        columns, c = np.unique(j[start:stop], return_inverse=True)
        cost = np.full((len(rows), len(columns)), 10 * radius**2 * len(rows))
        cost[r, c] = d[start:stop] ** 2
        a, b = linear_sum_assignment(cost)
        good = cost[a, b] <= radius**2
        left.append(rows[a[good]])
        right.append(columns[b[good]])
    return np.concatenate(left), np.concatenate(right)
