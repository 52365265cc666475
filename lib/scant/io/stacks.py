"""The movie's store renewed without losing its frames; a block's stack beside it: same pixel size, a chunk a frame, its manifest inside."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scant.errors import DataIntegrityError
from scant.io.manifest import ChunkRecord, write_manifest
from scant.io.store import create_movie, create_stack, layout_of, write_frames

MANIFEST = "manifest.json"
CHUNKS = "0/c"


def renew_movie(path: str, shape: tuple[int, int, int], dtype: str, chunk_frames: int, **attributes: Any) -> None:
    """Create the movie's store with these attributes (see `create_movie`); frames that an equal layout already holds stay.

    Whether they are still the right ones is for their manifests to say: the rule that writes frames runs again when its input changes.
    """
    target, beside = Path(path), Path(f"{path}.new")
    shutil.rmtree(beside, ignore_errors=True)
    create_movie(str(beside), shape, dtype, chunk_frames, **attributes)
    if target.exists() and _same_layout(path, str(beside)) and (target / CHUNKS).exists():
        (target / CHUNKS).rename(beside / CHUNKS)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def _same_layout(one: str, other: str) -> bool:
    try:
        return layout_of(one) == layout_of(other)
    except DataIntegrityError:
        return False


def begin_stack(path: str, movie: str, start: int, shape: tuple[int, int, int], provenance: Mapping[str, Any]) -> None:
    """Create a block's float32 stack (t, y, x) whose chunks are single frames, so that workers can each write their own.

    What an interrupted job left there goes first.
    """
    shutil.rmtree(path, ignore_errors=True)
    pixel_size_angstrom, frame_time_ms = _scales(movie)
    create_stack(path, shape, 1, start, pixel_size_angstrom, frame_time_ms, provenance)


def finish_stack(path: str, records: Iterable[ChunkRecord]) -> None:
    """Fill the frames that no record names with NaN, and leave the manifest that says the stack is whole."""
    written = list(records)
    layout = layout_of(path)
    blank = np.full((1, layout.height_px, layout.width_px), np.nan, np.float32)
    for frame in sorted(set(range(layout.first_frame, layout.stop_frame)) - {record.start for record in written}):
        written += write_frames(path, frame, blank)
    write_manifest(str(Path(path) / MANIFEST), written)


def _scales(movie: str) -> tuple[float | None, float | None]:
    """Pixel size in angstrom and frame time in ms from a movie's OME-NGFF axes; None where an axis has no unit."""
    ome: Any = zarr.open_group(movie, mode="r").attrs["ome"]
    multiscales = ome["multiscales"][0]
    scale = multiscales["datasets"][0]["coordinateTransformations"][0]["scale"]
    units = [axis.get("unit") for axis in multiscales["axes"]]
    return (scale[2] if units[2] else None), (scale[0] if units[0] else None)
