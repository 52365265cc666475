"""A large view annealed in tiles against its truth: nothing lost or doubled, tiles level with each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scant.inference import tiles
from scant.inference.anneal import Schedule
from scant.inference.problem import FrameProblem, RefineSettings
from scant.inference.refine import refine_frames
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import pairs_within
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, true_frames
from scant.rng import stream
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2, envelope_b_angstrom2=1.5)
VIEW = View(300, 0.2, 0.1)
MEAN_E = 8000 * 0.04
SETTINGS = RefineSettings(Schedule(8.0, 10, 1, 8, 10, 16), 2, "lcbop", 300.0, 2.46, 0.03, 3)


@pytest.fixture(scope="module")
def frame() -> tuple[FrameProblem, np.ndarray]:
    """One frame of 60 A: 1,700 atoms with the margin, four tiles."""
    truth = true_frames(VIEW, 1, Specimen(), seed=2)[0].positions
    species = np.full(len(truth), "C")
    image = ForwardModel(OPTICS, ImageGrid.padded(300, 300, 0.2, 6.0), species).image(truth[None].astype(np.float32))[0]
    counts = counts_with_noise(image, MEAN_E, 0.5, 1.0, stream(0, "test-tiles"))
    start = truth + stream(1, "test-tiles").normal(0, 0.05, truth.shape)
    start[:, 2] = 0
    weights = np.full(counts.shape, 1 / (MEAN_E + 0.25), np.float32)
    return FrameProblem(0, counts, weights, start, species, pairs_within(truth[:, :2], 1.85), np.full(len(truth), 3)), truth


def test_every_atom_belongs_to_one_tile(frame):
    problem, _ = frame
    parts = tiles.tiles_of(problem, 0.2)
    assert len(parts) == 4
    owned = np.concatenate([tile.atoms[tile.own] for tile in parts])
    np.testing.assert_array_equal(np.sort(owned), np.arange(len(problem.positions)))
    for tile in parts:
        np.testing.assert_allclose(tile.problem.positions + tile.origin_angstrom, problem.positions[tile.atoms], atol=1e-9)
        top, left = (round(float(side) / 0.2) for side in tile.origin_angstrom[1::-1])
        height, width = tile.problem.counts_e.shape
        np.testing.assert_array_equal(tile.problem.counts_e, problem.counts_e[top : top + height, left : left + width])


def test_no_tile_holds_strays(frame):
    """Every atom of a tile hangs together with the others: one that floats free leaves the finite numbers."""
    problem, _ = frame
    for tile in tiles.tiles_of(problem, 0.2):
        bonds, n = tile.problem.bonds, len(tile.atoms)
        pieces, _ = connected_components(coo_matrix((np.ones(len(bonds)), bonds.T), shape=(n, n)), directed=False)
        assert pieces == 1


def test_tiles_are_as_good_as_the_truth_allows_and_level(frame, monkeypatch):
    problem, truth = frame
    monkeypatch.setattr(tiles, "MOST_ATOMS", 1200)
    (estimate,), failures = refine_frames([problem], OPTICS, ImageGrid.padded(300, 300, 0.2, 6.0), SETTINGS)
    assert failures == []
    inside = ((truth[:, :2] > 1) & (truth[:, :2] < 59)).all(axis=1)
    error = estimate.positions - truth
    error[:, 2] -= error[inside, 2].mean()
    assert error[inside, :2].std() < 0.05
    assert error[inside, 2].std() < 0.5
    # Annealed as a whole its quarters are off by up to 0.28 A, and the error of all heights is 0.37 to 0.38 A.
    for tile in tiles.tiles_of(problem, 0.2):
        mine = tile.atoms[tile.own]
        assert abs(error[mine[inside[mine]], 2].mean()) < 0.35
    assert 0.7 < (error[inside, :2] / estimate.sigma[inside, :2]).std() < 1.4
    assert abs(estimate.defocus_angstrom - OPTICS.defocus_angstrom) < 5


def test_a_tile_that_is_refused_refuses_the_frame(frame, monkeypatch):
    problem, _ = frame
    monkeypatch.setattr(tiles, "MOST_ATOMS", 1200)
    brief = replace(SETTINGS, schedule=Schedule(2.0, 1, 1, 0, 4, 2), minimum_correlation=0.99)
    estimates, failures = refine_frames([problem], OPTICS, ImageGrid.padded(300, 300, 0.2, 6.0), brief)
    assert estimates == []
    assert [f.cause for f in failures] == ["correlation"]


def test_the_middle_of_a_large_view_is_a_problem_of_its_own(frame):
    problem, _ = frame
    middle = tiles.middle_of(problem, 40.0, 0.2)
    np.testing.assert_array_equal(middle.counts_e, problem.counts_e[50:250, 50:250])
    assert len(middle.positions) == pytest.approx((40 + 2 * tiles.BEYOND_ANGSTROM) ** 2 / (2.46**2 * np.sqrt(3) / 4), rel=0.05)
    assert middle.positions[:, :2].min() > -tiles.BEYOND_ANGSTROM and middle.positions[:, :2].max() < 40 + tiles.BEYOND_ANGSTROM
    assert tiles.middle_of(problem, 60.0, 0.2) is problem
