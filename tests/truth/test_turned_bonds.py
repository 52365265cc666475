"""A turned bond is found in the mean of five frames of a warm sheet, near focus and beyond it too, where an atom's template misleads."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scant.imaging.counts import Detector
from scant.imaging.reciprocal import Lattice2D, find_lattice
from scant.inference.optics_calibration import optics_for_detection
from scant.physics.detector import counts_with_noise
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, true_frames
from scant.rng import stream
from scant.stages.localising import LocaliseSettings, localise_columns
from scant.stages.optics_frames import flat_frames
from scipy.spatial import cKDTree

PIXEL_ANGSTROM, SIDE_PX, FRAMES, MEAN_E = 0.2, 160, 5, 8000 * 0.04
GRID = ImageGrid.padded(SIDE_PX, SIDE_PX, PIXEL_ANGSTROM, 6.0)


@cache
def sheets() -> tuple[np.ndarray, ...]:
    """Positions (N, 3) of five frames with a Stone-Wales defect in the middle of the view."""
    view = View(SIDE_PX, PIXEL_ANGSTROM, 0.35, drift_angstrom_per_frame=0.0)
    return tuple(frame.positions for frame in true_frames(view, FRAMES, Specimen(n_stone_wales=1), seed=7))


def movie(optics: Optics, name: str) -> tuple[list[np.ndarray], Lattice2D]:
    """Noisy frames (H, W) of the sheets in electrons, and the lattice found in them."""
    frames = []
    for n, positions in enumerate(sheets()):
        image = ForwardModel(optics, GRID, np.full(len(positions), "C")).image(positions[None].astype(np.float32))[0]
        frames.append(counts_with_noise(image, MEAN_E, 0.5, 1.0, stream(0, name, n)))
    return frames, find_lattice(np.stack(frames), lattice_constant_angstrom=2.46, pixel_size_angstrom=PIXEL_ANGSTROM)


def seen_by_the_lattice(nominal: Optics, frames: list[np.ndarray], lattice: Lattice2D) -> Optics:
    """The optics for detection from frames in electrons of a perfect detector."""
    flat = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    detector = Detector(flat, flat + 1, flat > 0, 1.0, 0.5, 1.0)
    return optics_for_detection(nominal, flat_frames(frames, detector, lattice, ("C", "C"), 8.0), PIXEL_ANGSTROM)


def misplaced_angstrom(frames: list[np.ndarray], lattice: Lattice2D, optics: Optics) -> float:
    """Largest distance of a true atom from the next one found, or of one found from the next true one; a turned bond's atoms lie 0.7 A from
    the sites that they have left."""
    settings = LocaliseSettings(lattice, np.zeros((SIDE_PX, SIDE_PX), bool), 0.5, 1.0, 3.0, optics)
    found = localise_columns(frames[2], np.mean(frames, axis=0), FRAMES, settings)
    positions = np.column_stack([found["x_px"], found["y_px"]]) * PIXEL_ANGSTROM
    truth = sheets()[2][:, :2]
    inside = ((truth > 2) & (truth < SIDE_PX * PIXEL_ANGSTROM - 2)).all(axis=1)
    well_inside = ((positions > 3) & (positions < SIDE_PX * PIXEL_ANGSTROM - 3)).all(axis=1)
    return max(cKDTree(positions).query(truth[inside])[0].max(), cKDTree(truth).query(positions[well_inside])[0].max())


@pytest.mark.parametrize("defocus_angstrom", [-30.0, -45.0, -90.0, 60.0, 100.0, 120.0])
def test_a_turned_bond_of_a_warm_sheet_is_found(defocus_angstrom):
    optics = Optics(80.0, -130000.0, defocus_angstrom, 10.0, 52.2)
    frames, lattice = movie(optics, f"turned {defocus_angstrom}")
    assert misplaced_angstrom(frames, lattice, optics) < 0.5


def test_a_turned_bond_is_found_with_the_nominal_optics_far_off_since_the_lattice_shows_the_true_ones():
    """Defocus 13 A off, astigmatism 10 A unknown, twice the focal spread."""
    true = Optics(80.0, -130000.0, -45.0, 20.0, 52.2, astigmatism_x_angstrom=8.0, astigmatism_y_angstrom=6.0)
    nominal = Optics(80.0, -130000.0, -32.0, 20.0, 52.2)
    frames, lattice = movie(true, "optics far off")
    seen = seen_by_the_lattice(nominal, frames[:2], lattice)
    assert abs(seen.defocus_angstrom - true.defocus_angstrom) < 3
    assert np.hypot(seen.astigmatism_x_angstrom - 8, seen.astigmatism_y_angstrom - 6) < 3
    assert misplaced_angstrom(frames, lattice, seen) < 0.5


def test_optics_stay_nominal_where_no_lattice_is_seen_or_it_does_not_look_like_the_model():
    nominal = Optics(80.0, -130000.0, -32.0, 20.0, 52.2)
    frames, lattice = movie(nominal, "no lattice")
    noise = [stream(0, "noise", n).poisson(MEAN_E, frames[0].shape).astype(np.float32) for n in range(2)]
    assert seen_by_the_lattice(nominal, [], lattice).defocus_angstrom == -32.0
    assert seen_by_the_lattice(nominal, noise, lattice).defocus_angstrom == -32.0
