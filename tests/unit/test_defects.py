"""Defects and their events: rings and missing atoms of known patches; a movie in which a bond turns and back and a vacancy jumps."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scant.analysis.defect_events import event_table, rate_interval, settled, tracked_defects
from scant.analysis.defects import defect_table
from scant.io.structures import FieldOfView
from scant.physics.lattice import honeycomb, pairs_within, stone_wales
from scipy.optimize import least_squares
from scipy.sparse import csr_matrix

LATTICE, PIXEL = 2.46, 0.2
FIELD = FieldOfView(200, 240, PIXEL, 1.0)
SIZE = np.array([48.0, 40.0])
CENTRE = SIZE / 2


def patch() -> np.ndarray:
    return honeycomb(*SIZE, LATTICE, rotation_rad=0.2, origin=(1.0, 2.0), margin_angstrom=3.0)


def nearest(positions: np.ndarray, place: np.ndarray) -> int:
    return int(np.linalg.norm(positions[:, :2] - place, axis=1).argmin())


def turned(flat: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The patch with the bond nearest to the place turned; springs between first and second neighbours relax what is near."""
    bonds = pairs_within(flat, 1.85)
    which = int(np.linalg.norm(flat[bonds].mean(axis=1)[:, :2] - place, axis=1).argmin())
    positions, new = stone_wales(flat, bonds, which)
    near = np.linalg.norm(positions - place, axis=1) < 7
    bonded = csr_matrix((np.ones(len(new)), new.T), shape=(len(flat),) * 2)
    bonded = bonded + bonded.T
    second = np.argwhere(np.triu((bonded @ bonded).toarray(), 1))

    def misfit(free: np.ndarray) -> np.ndarray:
        moved = positions.copy()
        moved[near] = free.reshape(-1, 2)
        first, angle = (np.linalg.norm(moved[p[:, 1]] - moved[p[:, 0]], axis=1) for p in (new, second))
        return np.concatenate([first - LATTICE / np.sqrt(3), 0.3 * (angle - LATTICE)])

    positions[near] = least_squares(misfit, positions[near].ravel()).x.reshape(-1, 2)
    return positions


def atoms_table(frames: dict[int, np.ndarray], noise_angstrom: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """In-view atoms of each frame in the columns of atoms.parquet, flagged within 2.5 A of the edge."""
    rng, tables = np.random.default_rng(seed), []
    for frame, flat in frames.items():
        inside = flat[((flat >= 0) & (flat <= SIZE)).all(axis=1)]
        noisy = inside + rng.normal(0, noise_angstrom, inside.shape)
        edge = ((inside < 2.5) | (inside > SIZE - 2.5)).any(axis=1)
        columns = {"frame": np.full(len(noisy), frame), "id": np.arange(len(noisy)), "x_angstrom": noisy[:, 0], "y_angstrom": noisy[:, 1]}
        columns |= {name: np.zeros(len(noisy)) for name in ("z_angstrom", "sigma_x_angstrom", "sigma_y_angstrom", "sigma_z_angstrom")}
        tables.append(pl.DataFrame(columns | {"flag": np.where(edge, 2, 0)}))
    return pl.concat(tables)


def test_a_perfect_sheet_has_none_and_an_open_edge_is_none():
    assert defect_table(atoms_table({0: patch()}, 0.05), LATTICE).height == 0


def test_rings_and_missing_atoms_of_known_defects():
    flat = patch()
    vacancy = np.delete(flat, nearest(flat, CENTRE), axis=0)
    bond = pairs_within(flat, 1.85)
    pair = bond[np.linalg.norm(flat[bond].mean(axis=1)[:, :2] - CENTRE, axis=1).argmin()]
    frames = {0: turned(flat, CENTRE), 1: vacancy, 2: np.delete(flat, pair, axis=0)}
    found = defect_table(atoms_table(frames, 0.04), LATTICE)
    assert found.select("frame", "rings", "n_missing").rows() == [(0, "5-5-7-7", 0), (1, "12", 1), (2, "14", 2)]
    assert found["n_atoms"].to_list() == [16, 12, 14]
    np.testing.assert_allclose(found.select("x_angstrom", "y_angstrom").to_numpy(), np.tile(CENTRE, (3, 1)), atol=1.5)


def test_two_defects_apart_are_two_and_one_at_the_edge_is_left_out():
    flat = turned(patch(), CENTRE)
    for place in ([36.0, 30.0], [2.0, 20.0]):
        flat = np.delete(flat, nearest(flat, np.array(place)), axis=0)
    assert defect_table(atoms_table({0: flat}), LATTICE)["rings"].to_list() == ["5-5-7-7", "12"]


@pytest.fixture(scope="module")
def movie() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and tracked defects: 40 drifting frames; a bond turned in 10..24, a vacancy that jumps between 17 and 20, a blink in 30."""
    flat, drift = patch(), np.array([0.05, -0.02])
    site = nearest(flat, np.array([14.0, 14.0]))
    beside = next(int(b if a == site else a) for a, b in pairs_within(flat, 1.85) if site in (a, b))
    blink = nearest(flat, np.array([34.0, 14.0]))
    frames, with_turned_bond = {}, turned(flat, np.array([26.0, 28.0]))
    for frame in range(40):
        if frame in (18, 19):
            continue
        gone = [site if frame < 18 else beside] + [blink] * (frame == 30)
        frames[frame] = np.delete(with_turned_bond if 10 <= frame < 25 else flat, gone, axis=0) + frame * drift
    status = ["failed" if frame in (18, 19) else "ok" for frame in range(40)]
    facts = pl.DataFrame(
        {
            "frame": range(40),
            "time_ms": [2.0 * frame for frame in range(40)],
            "status": status,
            "drift_x_px": drift[0] / PIXEL * np.arange(40),
            "drift_y_px": drift[1] / PIXEL * np.arange(40),
        }
    )
    tracked = tracked_defects(defect_table(atoms_table(frames, 0.04), LATTICE), facts, PIXEL)
    return event_table(tracked, facts, FIELD), tracked


def test_events_stand_between_the_right_frames(movie):
    events, tracked = movie
    assert tracked["defect"].n_unique() == 3
    kept = settled(events)
    columns = ("event", "frame_before", "frame_after", "time_before_ms", "time_after_ms", "rings_before", "rings_after")
    assert kept.select(columns).rows() == [
        ("bond rotation", 9, 10, 18.0, 20.0, "", "5-5-7-7"),
        ("jump", 17, 20, 34.0, 40.0, "12", "12"),
        ("bond rotation", 24, 25, 48.0, 50.0, "5-5-7-7", ""),
    ]
    assert kept.select("n_before", "n_after").rows() == [(10, 13), (18, 20), (13, 15)]
    assert kept["jump_angstrom"].to_list()[1] == pytest.approx(LATTICE / np.sqrt(3), abs=0.15)


def test_a_defect_of_one_frame_is_two_events_that_do_not_settle(movie):
    events, _ = movie
    blink = events.filter(pl.min_horizontal("n_before", "n_after") == 1)
    assert blink.select("event", "frame_before", "frame_after").rows() == [("atoms lost", 29, 30), ("atoms gained", 30, 31)]


def test_a_defect_that_drifts_out_of_view_is_no_event():
    flat, drift = patch(), np.array([-0.5, 0.0])
    sheet = np.delete(flat, nearest(flat, np.array([12.0, 20.0])), axis=0)
    frames = {frame: sheet + frame * drift for frame in range(30)}
    facts = pl.DataFrame(
        {
            "frame": range(30),
            "time_ms": [float(frame) for frame in range(30)],
            "status": ["ok"] * 30,
            "drift_x_px": drift[0] / PIXEL * np.arange(30),
            "drift_y_px": np.zeros(30),
        }
    )
    tracked = tracked_defects(defect_table(atoms_table(frames), LATTICE), facts, PIXEL)
    assert tracked.height and tracked["frame"].max() < 29
    assert event_table(tracked, facts, FIELD).height == 0


def test_no_defects_at_all():
    facts = pl.DataFrame({"frame": [0], "time_ms": [0.0], "status": ["ok"], "drift_x_px": [0.0], "drift_y_px": [0.0]})
    tracked = tracked_defects(defect_table(atoms_table({0: patch()}), LATTICE), facts, PIXEL)
    assert tracked.height == 0 and event_table(tracked, facts, FIELD).height == 0


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (5, 1.623, 11.668)])
def test_poisson_interval_is_that_of_the_tables(count, low, high):
    assert rate_interval(count, 1.0) == pytest.approx((low, high), abs=1e-3)
