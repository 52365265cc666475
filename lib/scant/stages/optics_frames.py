"""Frames for the fits of the optics: counts, weights and atoms of a few frames spread over the movie, before and after it is localised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scant.errors import CalibrationError
from scant.imaging.correction import counts_and_weights
from scant.imaging.counts import Detector
from scant.imaging.detect import MARGIN_ANGSTROM
from scant.imaging.reciprocal import Lattice2D
from scant.imaging.sites import hollow_grid, honeycomb_sites
from scant.inference.optics_calibration import SIDE_ANGSTROM
from scant.inference.optics_fit import CalibrationFrame
from scant.inference.prepare import frame_problem
from scant.inference.problem import FrameProblem
from scant.inference.tiles import middle_window
from scant.io.blocks import usable_samples
from scant.io.store import read_frames
from scant.io.structures import read_tables
from scant.stages.localising import columns_of


def calibration_problems(
    movie: str, site_tables: Sequence[str], detector: Detector, calibration: Mapping[str, Any], count: int, hit_threshold_sigma: float
) -> list[FrameProblem]:
    """At most `count` located frames spread over the movie, from the tables of their blocks; CalibrationError when none was located."""
    sites = read_tables(site_tables)
    frames = usable_samples(calibration["n_frames"], count, set(sites["frame"].unique()))
    if not frames:
        raise CalibrationError(
            f"none of {count} frames spread over the movie, nor the next few of each, was located, so the optics cannot be fitted; see "
            "localise/*.failures.parquet for the causes"
        )
    problems = []
    for frame in frames:
        counts_e, weights = counts_and_weights(read_frames(movie, frame, frame + 1)[0], detector, hit_threshold_sigma)
        rows = columns_of(sites.filter(frame=frame))
        problems.append(frame_problem(frame, counts_e, weights, rows, calibration["pixel_size_angstrom"], tuple(calibration["species"])))
    return problems


def flat_frames(
    frames_adu: Iterable[np.ndarray], detector: Detector, lattice: Lattice2D, species: tuple[str, str], hit_threshold_sigma: float
) -> list[CalibrationFrame]:
    """The middle 64 A of raw frames (H, W) with an atom at every site of their lattice, at height 0; frames without a lattice left out.

    species: of each sublattice.
    """
    found = []
    for raw_adu in frames_adu:
        counts_e, weights = counts_and_weights(raw_adu, detector, hit_threshold_sigma)
        (top, bottom), (left, right) = middle_window(counts_e.shape, round(SIDE_ANGSTROM / lattice.pixel_size_angstrom))
        counts_e, weights = counts_e[top:bottom, left:right], weights[top:bottom, left:right]
        there = replace(lattice, origin_px=lattice.origin_px - [left, top])
        sites = honeycomb_sites(hollow_grid(counts_e, there, weights > 0, margin_px=MARGIN_ANGSTROM / lattice.pixel_size_angstrom))
        if len(sites.positions_px):
            positions = np.column_stack([sites.positions_px * lattice.pixel_size_angstrom, np.zeros(len(sites.positions_px))])
            found.append(CalibrationFrame(counts_e.astype(float), weights, positions, np.array(species)[sites.index[:, 2]]))
    return found
