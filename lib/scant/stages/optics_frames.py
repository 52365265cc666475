"""Frames for the optics fit: counts, weights and located atoms of a few frames spread over the movie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scant.errors import CalibrationError
from scant.imaging.correction import counts_and_weights
from scant.imaging.counts import Detector
from scant.inference.prepare import frame_problem
from scant.inference.problem import FrameProblem
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
