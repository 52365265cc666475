"""A block's stack beside its movie: same chunks, same pixel size, its manifest inside."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scant.io.store import create_stack, layout_of, write_frames, write_manifest

MANIFEST = "manifest.json"


def write_stack(path: str, movie: str, start: int, frames: np.ndarray, provenance: Mapping[str, Any]) -> None:
    """Write a block's frames (t, y, x) as a new float32 stack; what an interrupted job left there goes first."""
    shutil.rmtree(path, ignore_errors=True)
    pixel_size_angstrom, frame_time_ms = _scales(movie)
    shape = (len(frames), frames.shape[1], frames.shape[2])
    create_stack(path, shape, layout_of(movie).chunk_frames, start, pixel_size_angstrom, frame_time_ms, provenance)
    records = write_frames(path, start, np.ascontiguousarray(frames, dtype=np.float32))
    write_manifest(str(Path(path) / MANIFEST), records)


def _scales(movie: str) -> tuple[float | None, float | None]:
    """Pixel size in angstrom and frame time in ms from a movie's OME-NGFF axes; None where an axis has no unit."""
    multiscales = zarr.open_group(movie, mode="r").attrs["ome"]["multiscales"][0]
    scale = multiscales["datasets"][0]["coordinateTransformations"][0]["scale"]
    units = [axis.get("unit") for axis in multiscales["axes"]]
    return (scale[2] if units[2] else None), (scale[0] if units[0] else None)
