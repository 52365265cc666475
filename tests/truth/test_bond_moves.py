"""Bonds that localise got wrong are put right by annealing, and right ones are left alone, on frames with a known Stone-Wales defect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scant.inference.anneal import Schedule
from scant.inference.bond_moves import BondJudge, move_bonds, turned_ends
from scant.inference.problem import FrameProblem, RefineSettings
from scant.inference.refine import refine_frames
from scant.inference.scoring import score
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import rings, stone_wales
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, true_frames
from scant.rng import stream
from scipy.spatial import cKDTree

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2, envelope_b_angstrom2=1.5)
VIEW = View(120, 0.2, 0.1)
GRID = ImageGrid.padded(120, 120, 0.2, 6.0)
SETTINGS = RefineSettings(Schedule(8.0, 8, 1, 8, 12, 16), 2, "lcbop", 300.0, 2.46, 0.03, 3)
MEAN_E = 8000 * 0.04


def mutual_bonds(positions: np.ndarray) -> np.ndarray:
    """Bonds (M, 2) of atoms that are among each other's three nearest."""
    distance, nearest = cKDTree(positions).query(positions, k=4)
    pairs = {(min(i, j), max(i, j)) for i in range(len(positions)) for j, d in zip(nearest[i, 1:], distance[i, 1:]) if d < 2.0}
    return np.array(sorted((i, j) for i, j in pairs if i in nearest[j] and j in nearest[i]))


def ring_sizes(problem: FrameProblem) -> list[int]:
    return sorted(len(ring) for ring in rings(problem.bonds, problem.positions) if len(ring) != 6)


@pytest.fixture(scope="module", params=[0, 1], ids=["perfect", "stone-wales"])
def frame(request) -> tuple[FrameProblem, np.ndarray]:
    """One noisy frame with the right bonds, and its true positions."""
    truth = true_frames(VIEW, 1, Specimen(n_stone_wales=request.param), seed=5)[0].positions
    species = np.full(len(truth), "C")
    image = ForwardModel(OPTICS, GRID, species, n_orders=5, dtype=np.float64).image(truth[None])[0]
    counts = counts_with_noise(image, MEAN_E, 0.5, 1.0, stream(0, "test-bonds"))
    start = truth + stream(1, "test-bonds").normal(0, 0.05, truth.shape)
    start[:, 2] = 0
    weights = np.full(counts.shape, 1 / (MEAN_E + 0.25), np.float32)
    return FrameProblem(0, counts, weights, start, species, mutual_bonds(truth), np.full(len(truth), 3)), truth


def wrong_bond(problem: FrameProblem) -> int:
    """The bond between the two heptagons where there is a defect, else one in the middle of the view."""
    sevens = [set(ring.tolist()) for ring in rings(problem.bonds, problem.positions) if len(ring) == 7]
    if sevens:
        return next(k for k, (a, b) in enumerate(problem.bonds.tolist()) if all({a, b} <= ring for ring in sevens))
    return int(((problem.positions[problem.bonds, :2].mean(axis=1) - 12.0) ** 2).sum(axis=1).argmin())


def test_right_bonds_are_left_alone(frame):
    problem, truth = frame
    (estimate,), failures = refine_frames([problem], OPTICS, GRID, SETTINGS)
    assert failures == []
    assert not estimate.rebonded.any()
    result = score(estimate.positions, truth, (24.0, 24.0))
    assert result.recall == 1.0
    assert result.error_angstrom[:, :2].std() < 0.06


def test_a_wrongly_turned_bond_is_turned(frame):
    """A defect that was missed is found, one that was invented goes away, and the atoms end where they are."""
    problem, truth = frame
    turned, bonds = stone_wales(problem.positions, problem.bonds, wrong_bond(problem))
    wrong = replace(problem, positions=turned, bonds=bonds)
    (estimate,), _ = refine_frames([wrong], OPTICS, GRID, SETTINGS)
    assert estimate.rebonded.sum() == 6
    result = score(estimate.positions, truth, (24.0, 24.0))
    assert result.recall == 1.0
    assert result.error_angstrom[:, :2].std() < 0.06
    mended, _ = move_bonds(wrong, turned, OPTICS, GRID, SETTINGS, np)
    assert ring_sizes(mended) == ring_sizes(problem)


def test_the_residual_of_a_missed_turn_is_all_of_it(frame):
    """At the true atoms the share of every turn is 0 within its deviation; at the wrong bond of the wrong structure it is 1."""
    problem, truth = frame
    judge = BondJudge(problem, OPTICS, GRID, SETTINGS, np)
    inside = ((truth[problem.bonds, :2].mean(axis=1) > 3) & (truth[problem.bonds, :2].mean(axis=1) < 21)).all(axis=1)
    bonds = problem.bonds[inside]
    share, sigma = judge.turned_share(truth, truth[bonds, :2], turned_ends(truth, bonds))
    assert 0.8 < (share / sigma).std() < 1.2
    k = wrong_bond(problem)
    wrong, _ = stone_wales(truth, problem.bonds, k)
    pair = problem.bonds[[k]]
    at_wrong, deviation = judge.turned_share(wrong, wrong[pair, :2], turned_ends(wrong, pair))
    assert at_wrong[0] == pytest.approx(1.0, abs=5 * deviation[0])


def test_a_lost_bond_is_made_again(frame):
    problem, truth = frame
    k = wrong_bond(problem)
    coordination = problem.coordination.copy()
    coordination[problem.bonds[k]] -= 1
    without = replace(problem, bonds=np.delete(problem.bonds, k, axis=0), coordination=coordination)
    mended, touched = move_bonds(without, truth, OPTICS, GRID, SETTINGS, np)
    assert {tuple(b) for b in mended.bonds.tolist()} == {tuple(b) for b in problem.bonds.tolist()}
    assert touched[problem.bonds[k]].all()
    np.testing.assert_array_equal(mended.coordination, problem.coordination)
