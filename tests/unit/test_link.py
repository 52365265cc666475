"""Identities: drift, missing frames, vacancies that open, atoms that enter; independent of blocks and of order within a frame."""

from __future__ import annotations

import numpy as np
import pytest
from honeycomb_images import honeycomb, in_view
from scant.errors import InputError
from scant.imaging.link import TrackState, empty_state, link_step
from scipy.optimize import linear_sum_assignment

SHAPE, PIXEL, RADIUS = (90, 110), 0.2, 3.0


def movie(n: int, drift_px: float = 1.5, noise_px: float = 0.4) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Frames of atoms in view in shuffled order, drifts, and each frame's true numbers."""
    rng = np.random.default_rng(2)
    lattice = honeycomb(SHAPE, PIXEL, margin=14.0)
    drifts = np.stack([drift_px * np.arange(n), -0.6 * drift_px * np.arange(n)], axis=1)
    frames, names = [], []
    for k in range(n):
        atoms = lattice + drifts[k] + rng.normal(0, noise_px, lattice.shape)
        inside = np.nonzero(in_view(atoms, SHAPE))[0]
        rng.shuffle(inside)
        frames.append(atoms[inside])
        names.append(inside)
    return frames, drifts, names


def link_frames(frames: list, drifts: np.ndarray, state: TrackState | None = None) -> tuple[list, TrackState]:
    """Identities of every frame's atoms (None for a missing frame), and the state after the last one."""
    state, found = state or empty_state(), []
    for positions, drift in zip(frames, drifts, strict=True):
        ids = None
        if positions is not None:
            ids, state = link_step(state, positions, drift, radius_px=RADIUS)
        found.append(ids)
    return found, state


def test_one_identity_per_atom_through_drift_and_entries() -> None:
    frames, drifts, names = movie(20)
    ids, state = link_frames(frames, drifts)
    identity: dict[int, int] = {}
    for frame_ids, frame_names in zip(ids, names):
        assert len(set(frame_ids.tolist())) == len(frame_ids), "no identity twice in one frame"
        for i, name in zip(frame_ids.tolist(), frame_names.tolist()):
            assert identity.setdefault(name, i) == i
    assert len(set(identity.values())) == len(identity) == state.next_id
    assert len(identity) > len(names[0]), "the test must have atoms that enter"


def test_missing_frame_and_vacancy() -> None:
    frames, drifts, names = movie(8)
    frames[3] = None
    gone = names[0][10]
    for k in (5, 6, 7):
        keep = names[k] != gone
        frames[k], names[k] = frames[k][keep], names[k][keep]
    ids, _ = link_frames(frames, drifts)
    assert ids[3] is None
    lost = dict(zip(names[0].tolist(), ids[0].tolist()))[gone]
    assert all(lost not in ids[k] for k in (5, 6, 7)), "nobody inherits the identity of an atom that left"
    common = sorted(set(names[2].tolist()) & set(names[4].tolist()))
    before, after = (dict(zip(names[k].tolist(), ids[k].tolist())) for k in (2, 4))
    assert [before[c] for c in common] == [after[c] for c in common]


def test_an_atom_that_returns_gets_its_number_back() -> None:
    frames, drifts, names = movie(5)
    name = names[0][0]
    for k in (1, 2, 3):
        keep = names[k] != name
        frames[k], names[k] = frames[k][keep], names[k][keep]
    ids, _ = link_frames(frames, drifts)
    assert name in names[4]
    assert ids[4][names[4] == name][0] == ids[0][0]


def test_blocks_do_not_matter() -> None:
    frames, drifts, _ = movie(9)
    whole, end = link_frames(frames, drifts)
    first, state = link_frames(frames[:4], drifts[:4])
    second, end2 = link_frames(frames[4:], drifts[4:], state)
    assert all((a == b).all() for a, b in zip(whole, first + second))
    assert (end.positions_px == end2.positions_px).all()
    assert end.next_id == end2.next_id


def test_crowded_pairs_are_the_optimal_assignment() -> None:
    """Two tracks compete for atoms: nearest-first would be wrong; against a dense assignment over everything."""
    rng = np.random.default_rng(4)
    tracks, atoms = rng.uniform(0, 12, (14, 2)), rng.uniform(0, 12, (12, 2))
    _, state = link_step(empty_state(), tracks, np.zeros(2), radius_px=4.0)
    order = np.lexsort((tracks[:, 0], tracks[:, 1]))
    ids, _ = link_step(state, atoms, np.zeros(2), radius_px=4.0)
    d2 = ((tracks[order][:, None] - atoms[None]) ** 2).sum(axis=2)
    cost = np.where(d2 <= 16, d2, 1e4)
    rows, columns = linear_sum_assignment(cost)
    good = cost[rows, columns] < 1e4
    matched = ids < 14
    assert matched.sum() == good.sum()
    ours = sum(d2[i, j] for j, i in enumerate(ids.tolist()) if i < 14)
    assert ours == pytest.approx(cost[rows, columns][good].sum())


def test_empty_frames_and_bad_numbers() -> None:
    ids, state = link_step(empty_state(), np.zeros((0, 2)), np.zeros(2), radius_px=2.0)
    assert len(ids) == 0
    ids, state = link_step(state, np.array([[1.0, 2.0]]), np.zeros(2), radius_px=2.0)
    assert ids.tolist() == [0]
    ids, _ = link_step(state, np.zeros((0, 2)), np.zeros(2), radius_px=2.0)
    assert len(ids) == 0
    with pytest.raises(InputError, match="NaN"):
        link_step(state, np.array([[np.nan, 1.0]]), np.zeros(2), radius_px=2.0)
    with pytest.raises(InputError, match="radius"):
        link_step(state, np.array([[1.0, 1.0]]), np.zeros(2), radius_px=0.0)
