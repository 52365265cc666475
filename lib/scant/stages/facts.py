"""What is known of a dataset: its file's metadata, overridden by acquisition.yaml, and what is missing for each depth of analysis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from scant.config import Acquisition
from scant.imaging.binning import coarser_by
from scant.io.source import MovieSource
from scant.stages.materials import BUILT_IN, load_material

OPTICS_KEYS = ("voltage_kV", "cs_um", "defocus_angstrom")
ELEMENTS_WITH_PRIOR = {"C"}


def frames_read(n_in_movie: int, max_frames: int | None) -> int:
    """Frames of a movie that a run reads: all, or the first so many."""
    return min(n_in_movie, max_frames or n_in_movie)


def coarser_pixels(facts: Mapping[str, Any], pixel_size_angstrom: float) -> int:
    """How many times coarser a frame's pixels may be: 1 where nothing is known of the aperture."""
    return coarser_by(pixel_size_angstrom) if facts["optics"] else 1


def dataset_facts(source: MovieSource, acquisition: Acquisition, folder: Path, max_frames: int | None = None) -> dict[str, Any]:
    """Facts for ingest/facts.json: shape, sizes, references, optics (None when incomplete) and sentences on what is missing."""
    n_frames = frames_read(source.n_frames, max_frames)
    values = acquisition.model_dump(mode="json")
    values["voltage_kV"] = acquisition.voltage_kV or source.voltage_kv
    pixel = acquisition.pixel_size_angstrom or usable_pixel_size_angstrom(source)
    unset = [key for key in OPTICS_KEYS if values[key] is None]
    missing = []
    if unset:
        missing.append(f"no {', '.join(unset)}: atoms are located in 2D, heights and MD are left out; add them to acquisition.yaml")
    material = acquisition.material if acquisition.material in BUILT_IN else str(folder / acquisition.material)
    without_prior = sorted(set(load_material(material).species) - ELEMENTS_WITH_PRIOR)
    if without_prior:
        missing.append(f"no interatomic prior for {', '.join(without_prior)}: atoms are located in 2D, heights and MD are left out")
    if pixel is None:
        found = "unset" if source.pixel_size_angstrom is None else f"{source.pixel_size_angstrom:g} A (none that shows a lattice)"
        missing.append(f"pixel size {found} in the file and unset in acquisition.yaml: it is taken from the lattice")
    for kind in ("dark", "flat"):
        if values[kind] is None:
            missing.append(f"no {kind} reference: {'taken as zero' if kind == 'dark' else 'a polynomial through the movie stands in'}")
    if n_frames < source.n_frames:
        missing.append(f"the first {n_frames} of {source.n_frames} frames are read, as `ingest.max_frames` asks")
    return {
        "n_frames": n_frames,
        "n_frames_in_movie": source.n_frames,
        "height_px": source.height_px,
        "width_px": source.width_px,
        "dtype": source.dtype,
        "itemsize": np.dtype(source.dtype).itemsize,
        "frame_bytes": source.height_px * source.width_px * 4,
        "reader": source.reader,
        "source_paths": list(source.paths),
        "pixel_size_angstrom": pixel,
        "pixel_size_in_file_angstrom": source.pixel_size_angstrom,
        "frame_time_ms": acquisition.frame_time_ms or source.frame_time_ms,
        "material": material,
        "dark": str(folder / acquisition.dark) if acquisition.dark else None,
        "flat": str(folder / acquisition.flat) if acquisition.flat else None,
        "gain_adu_per_electron": acquisition.gain_adu_per_electron,
        "dose_e_per_angstrom2": acquisition.dose_e_per_angstrom2,
        "optics": None if unset or without_prior else nominal_optics(values),
        "missing": missing,
    }


def usable_pixel_size_angstrom(source: MovieSource) -> float | None:
    """The file's pixel size where acquisition.yaml would accept it: exports of overviews and of other programs state up to micrometres."""
    try:
        return Acquisition(movie="-", pixel_size_angstrom=source.pixel_size_angstrom).pixel_size_angstrom
    except ValidationError:
        return None


def nominal_optics(values: dict[str, Any]) -> dict[str, Any]:
    """Nominal optics in the names of `scant.physics.optics.Optics`."""
    return {
        "voltage_kv": values["voltage_kV"],
        "cs_angstrom": values["cs_um"] * 1e4,
        "defocus_angstrom": values["defocus_angstrom"],
        "focal_spread_angstrom": values["focal_spread_angstrom"],
        "objective_aperture_mrad": values["objective_aperture_mrad"],
    }
