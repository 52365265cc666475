"""A first look at a movie: the calibration that a run will make, on a few frames, with a failure as a sentence and not an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from scant.errors import CalibrationError, InputError
from scant.imaging.calibration import Calibration, References, calibrate
from scant.imaging.counts import correct_frame
from scant.imaging.phase_fields import FIRST_ORDER
from scant.imaging.reciprocal import SECOND_ORDER, Lattice2D
from scant.imaging.temporal import frame_faults
from scant.io.readers import read_frames, read_reference
from scant.io.source import MovieSource
from scant.report.preview import Preview
from scant.stages.materials import load_material

FRAMES = 12
MOST_PX = 1024  # of an edge: the lattice is looked for in the middle of larger frames


def look(source: MovieSource, facts: Mapping[str, Any], flat_degree: int, hit_threshold_sigma: float) -> Preview:
    """Preview of the middle 1024 x 1024 px of 12 consecutive frames in the middle of the movie; `facts` as `dataset_facts` gives them.

    Raises InputError for frames or references that cannot be read; what keeps the calibration from success is in `problems`.
    """
    start = max(0, (source.n_frames - FRAMES) // 2)
    frames = _middle(read_frames(source, start, min(start + FRAMES, source.n_frames)))
    references = References(
        dark_adu=_middle(read_reference(facts["dark"])), flat_adu=_middle(read_reference(facts["flat"])),
        gain_adu_per_electron=facts["gain_adu_per_electron"], pixel_size_angstrom=facts["pixel_size_angstrom"],
        dose_e_per_angstrom2=facts["dose_e_per_angstrom2"],
        lattice_constant_angstrom=load_material(facts["material"]).lattice_constant_angstrom,
    )  # fmt: skip
    faults = frame_faults(frames)
    good = frames[[fault is None for fault in faults]]
    if not len(good):
        kinds = ", ".join(sorted({str(fault) for fault in faults}))
        return Preview(
            len(frames), *mean_and_power(frames), problems=(f"all {len(frames)} frames looked at are {kinds}: such frames are left out",)
        )
    calibrated, problems = _calibrated(good, references, flat_degree, hit_threshold_sigma)
    if calibrated is None:
        return Preview(len(good), *mean_and_power(good), problems=problems)
    lattice, known = calibrated.lattice, calibrated.facts["gain_source"].split(":")[0] != "none"
    corrected = np.stack([correct_frame(frame, calibrated.detector, hit_threshold_sigma).image_e for frame in good])
    return Preview(
        len(good),
        *mean_and_power(corrected),
        problems=problems,
        lattice=lattice,
        spots_per_px=reflections_of(lattice),
        gain_adu_per_electron=calibrated.facts["gain_adu_per_electron"] if known else None,
        gain_source=calibrated.facts["gain_source"],
        dose_e_per_angstrom2=calibrated.facts["dose_e_per_angstrom2"] if known else None,
    )


def _calibrated(
    frames: np.ndarray, references: References, flat_degree: int, hit_threshold_sigma: float
) -> tuple[Calibration | None, tuple[str, ...]]:
    """With the pixel size given; where that fails, without it, since the lattice may tell what it should have been."""
    problems: list[str] = []
    for tried in (references, replace(references, pixel_size_angstrom=None)):
        try:
            found = calibrate(frames, frames, tried, flat_degree, hit_threshold_sigma)
            if problems and not found.lattice.is_weak:
                problems.append(
                    f"pixel_size_angstrom: the lattice fits a pixel of {found.lattice.pixel_size_angstrom:.4f} A, not the "
                    f"{references.pixel_size_angstrom:g} A given: correct it, or leave it empty"
                )
            return found, tuple(problems)
        except (CalibrationError, InputError) as error:
            problems.append(f"these frames cannot be calibrated: {error}")
        if references.pixel_size_angstrom is None:
            break
    return None, tuple(dict.fromkeys(problems))


def _middle(frames: np.ndarray | None) -> Any:
    """The middle of (..., y, x)."""
    if frames is None:
        return None
    starts = [max(0, (side - MOST_PX) // 2) for side in frames.shape[-2:]]
    return np.ascontiguousarray(frames[..., starts[0] : starts[0] + MOST_PX, starts[1] : starts[1] + MOST_PX])


def mean_and_power(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean image and mean power spectrum, windowed so that the border draws no cross; what is not finite counts as the mean."""
    window = np.outer(np.hanning(frames.shape[1]), np.hanning(frames.shape[2]))
    mean, power = np.zeros(frames.shape[1:]), np.zeros(frames.shape[1:])
    for frame in frames.astype(np.float64):
        whole = np.isfinite(frame)
        level = float(frame[whole].mean()) if whole.any() else 0.0
        filled = np.where(whole, frame, level)
        mean += filled / len(frames)
        power += np.abs(np.fft.fftshift(np.fft.fft2((filled - level) * window))) ** 2 / len(frames)
    return mean, power


def reflections_of(lattice: Lattice2D) -> np.ndarray:
    """(12, 2): first-order and second-order reflections (x, y) in cycles per pixel, each with its opposite."""
    # FIRST_ORDER counts in vectors at 120 degrees, as the reciprocal ones of two at 60 are
    indices = np.concatenate([sign * orders for orders in (FIRST_ORDER, SECOND_ORDER) for sign in (1, -1)])
    return np.asarray(indices @ lattice.reciprocal_per_px)
