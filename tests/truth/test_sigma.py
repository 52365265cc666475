"""Whether the stated errors are true: one frame each of many sheets that have nothing in common, bonds and optics known."""

from __future__ import annotations

import numpy as np
import pytest
from scant.inference.anneal import Schedule
from scant.inference.problem import FrameProblem, RefineSettings
from scant.inference.refine import refine_frames
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import pairs_within
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, true_frames
from scant.rng import stream

SIDE_PX, PIXEL_ANGSTROM, MARGIN_ANGSTROM = 150, 0.2, 3.0
SIDE_ANGSTROM = SIDE_PX * PIXEL_ANGSTROM
SHEETS, MEAN_E = 24, 8000 * 0.04
SETTINGS = RefineSettings(Schedule(8.0, 10, 1, 5, 20, 16), 6, "lcbop", 300.0, 2.46, 0.03, seed=3)


def problem_of(sheet: int, optics: Optics) -> tuple[FrameProblem, np.ndarray]:
    """A flat start for one noisy frame of a sheet, and the true positions (N, 3) of its atoms."""
    grid = ImageGrid.padded(SIDE_PX, SIDE_PX, PIXEL_ANGSTROM, 6.0)
    true = true_frames(View(SIDE_PX, PIXEL_ANGSTROM, 0.1), 1, Specimen(), seed=sheet)[0].positions
    image = ForwardModel(optics, grid, np.full(len(true), "C"), n_orders=5, dtype=np.float64).image(true[None])[0]
    counts = counts_with_noise(image, MEAN_E, 0.5, 1.0, stream(0, "sigma", sheet))
    true = true[((true[:, :2] > -MARGIN_ANGSTROM) & (true[:, :2] < SIDE_ANGSTROM + MARGIN_ANGSTROM)).all(axis=1)]
    true = true[np.bincount(pairs_within(true[:, :2], 1.85).ravel(), minlength=len(true)) > 1]
    start = true + stream(1, "sigma", sheet).normal(0, 0.05, true.shape)
    start[:, 2] = 0
    weights = np.full(counts.shape, 1 / (MEAN_E + 0.25), np.float32)
    bonds = pairs_within(true[:, :2], 1.85)
    return FrameProblem(sheet, counts, weights, start, np.full(len(true), "C"), bonds, np.full(len(true), 3)), true


@pytest.mark.slow
@pytest.mark.parametrize("defocus_angstrom", [-30.0, 60.0])
def test_errors_of_unrelated_sheets_are_as_large_as_stated(defocus_angstrom: float) -> None:
    """One sheet says little: its height error is a few soft ripples, and over sigma anything from 0.6 to 1.6."""
    optics = Optics(80.0, -130000.0, defocus_angstrom, 10.0, 52.2)
    grid = ImageGrid.padded(SIDE_PX, SIDE_PX, PIXEL_ANGSTROM, 6.0)
    squares = []
    for sheet in range(SHEETS):
        problem, true = problem_of(sheet, optics)
        (estimate,), _ = refine_frames([problem], optics, grid, SETTINGS)
        inside = ((true[:, :2] > MARGIN_ANGSTROM) & (true[:, :2] < SIDE_ANGSTROM - MARGIN_ANGSTROM)).all(axis=1)
        error = (estimate.positions - true)[inside]
        error[:, 2] -= error[:, 2].mean()
        squares.append(((error / estimate.sigma[inside]) ** 2).mean(axis=0))
    ratio = np.sqrt(np.mean(squares, axis=0))
    print(f"error over sigma of x, y, z at {defocus_angstrom:g} A: {ratio.round(3)}")
    assert ratio[:2] == pytest.approx(1.0, abs=0.1)
    assert ratio[2] == pytest.approx(1.0, abs=0.15)
