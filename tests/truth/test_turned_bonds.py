"""A turned bond is found in the mean of five frames of a warm sheet, near focus and beyond it too, where an atom's template misleads."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scant.imaging.reciprocal import find_lattice
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, true_frames
from scant.rng import stream
from scant.stages.localising import LocaliseSettings, localise_columns
from scipy.spatial import cKDTree

PIXEL_ANGSTROM, SIDE_PX, FRAMES, MEAN_E = 0.2, 160, 5, 8000 * 0.04
GRID = ImageGrid.padded(SIDE_PX, SIDE_PX, PIXEL_ANGSTROM, 6.0)


@cache
def sheets() -> tuple[np.ndarray, ...]:
    """Positions (N, 3) of five frames with a Stone-Wales defect in the middle of the view."""
    view = View(SIDE_PX, PIXEL_ANGSTROM, 0.35, drift_angstrom_per_frame=0.0)
    return tuple(frame.positions for frame in true_frames(view, FRAMES, Specimen(n_stone_wales=1), seed=7))


@pytest.mark.parametrize("defocus_angstrom", [-30.0, -45.0, -90.0, 60.0, 100.0, 120.0])
def test_a_turned_bond_of_a_warm_sheet_is_found(defocus_angstrom):
    optics = Optics(80.0, -130000.0, defocus_angstrom, 10.0, 52.2)
    frames = []
    for n, positions in enumerate(sheets()):
        image = ForwardModel(optics, GRID, np.full(len(positions), "C")).image(positions[None].astype(np.float32))[0]
        frames.append(counts_with_noise(image, MEAN_E, 0.5, 1.0, stream(0, f"turned {defocus_angstrom}", n)))
    lattice = find_lattice(np.stack(frames), lattice_constant_angstrom=2.46, pixel_size_angstrom=PIXEL_ANGSTROM)
    settings = LocaliseSettings(lattice, np.zeros((SIDE_PX, SIDE_PX), bool), 0.5, 1.0, 3.0, optics)
    found = localise_columns(frames[2], np.mean(frames, axis=0), FRAMES, settings)
    positions = np.column_stack([found["x_px"], found["y_px"]]) * PIXEL_ANGSTROM
    truth = sheets()[2][:, :2]
    inside = ((truth > 2) & (truth < SIDE_PX * PIXEL_ANGSTROM - 2)).all(axis=1)
    # a turned bond's atoms lie 0.7 A from the sites that they have left
    assert cKDTree(positions).query(truth[inside])[0].max() < 0.5
    well_inside = ((positions > 3) & (positions < SIDE_PX * PIXEL_ANGSTROM - 3)).all(axis=1)
    assert cKDTree(truth).query(positions[well_inside])[0].max() < 0.5
