"""Movies and per-block stacks in Zarr v3 with OME-NGFF 0.5 axes; no write shares a chunk, no damage stays silent.

Every chunk (`chunks`) is written beside its place and renamed, blank ones included. A missing chunk or a wrong checksum is a
DataIntegrityError that names the frames. Frame numbers are the movie's everywhere: a block's stack begins at its `first_frame`. Nothing is
fsynced: after a power cut the manifest and the checksums say what was lost.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scant.errors import DataIntegrityError, InputError
from scant.io.chunks import codecs, read_chunk, write_chunk
from scant.io.manifest import ChunkRecord

ARRAY = "0"
METADATA = ("zarr.json", f"{ARRAY}/zarr.json")
VENDOR_KEY, PROVENANCE_KEY, FIRST_FRAME_KEY = "vendor_metadata", "provenance", "first_frame"


@dataclass(frozen=True)
class StoreLayout:
    """What a store holds, read from its metadata alone."""

    n_frames: int
    height_px: int
    width_px: int
    dtype: str
    chunk_frames: int
    first_frame: int

    @property
    def stop_frame(self) -> int:
        return self.first_frame + self.n_frames

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        return self.chunk_frames, self.height_px, self.width_px


def create_movie(
    path: str,
    shape: tuple[int, int, int],
    dtype: str,
    chunk_frames: int,
    pixel_size_angstrom: float | None,
    frame_time_ms: float | None,
    metadata: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Create an empty movie store of `shape` (t, y, x); over an equal store it keeps the data, so that a run can resume.

    `metadata` (the vendor's) and `provenance` must be JSON-able, and provenance must not change between equal runs (no dates).
    Raises DataIntegrityError, naming what differs, when another store is there.
    """
    attributes = {VENDOR_KEY: dict(metadata), PROVENANCE_KEY: dict(provenance), FIRST_FRAME_KEY: 0}
    _create(path, shape, dtype, chunk_frames, {**_ome(path, pixel_size_angstrom, frame_time_ms, 0), **attributes})


def create_stack(
    path: str,
    shape: tuple[int, int, int],
    chunk_frames: int,
    first_frame: int,
    pixel_size_angstrom: float | None,
    frame_time_ms: float | None,
    provenance: Mapping[str, Any],
) -> None:
    """Create an empty float32 stack for the block that begins at `first_frame`; otherwise as `create_movie`."""
    attributes = {PROVENANCE_KEY: dict(provenance), FIRST_FRAME_KEY: first_frame}
    _create(path, shape, "float32", chunk_frames, {**_ome(path, pixel_size_angstrom, frame_time_ms, first_frame), **attributes})


def layout_of(path: str) -> StoreLayout:
    """Layout of a movie or stack. Raises DataIntegrityError when there is none that can be read."""
    try:
        states = [Path(path, part).stat() for part in METADATA]
        return _layout(path, tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataIntegrityError(f"{path}: no movie store can be opened ({error}); run the stage that writes it again") from error


@lru_cache(maxsize=1024)
def _layout(path: str, _states: tuple[tuple[int, int, int], ...]) -> StoreLayout:
    """Kept while the files of metadata are the same: Zarr takes 1.5 ms to open an array, and every frame asks."""
    first_frame = int(json.loads(Path(path, METADATA[0]).read_text())["attributes"].get(FIRST_FRAME_KEY, 0))
    array = zarr.open_array(str(Path(path, ARRAY)), mode="r", zarr_format=3)
    n, height, width = array.shape
    return StoreLayout(n, height, width, np.dtype(array.dtype).name, array.chunks[0], first_frame)


def write_frames(path: str, start: int, frames: np.ndarray) -> list[ChunkRecord]:
    """Write `frames` (t, y, x) as the movie's frames from `start` on, whole time chunks only; returns one record per chunk.

    Raises InputError, before any write, for a start or a length off the chunk grid (two jobs in one chunk corrupt each other
    silently), another frame shape or type; DataIntegrityError with path and bytes when the disk refuses.
    """
    layout, stop = layout_of(path), start + len(frames)
    _check_alignment(path, layout, start, stop)
    shape = layout.chunk_shape[1:]
    if frames.shape[1:] != shape or frames.dtype != layout.dtype:
        raise InputError(f"{path}: frames of {frames.shape[1:]} {frames.dtype} given; the store holds {shape} {layout.dtype}")
    records = []
    for at in range(start, stop, layout.chunk_frames):
        last = min(at + layout.chunk_frames, layout.stop_frame)
        chunk, key = frames[at - start : last - start], _key((at - layout.first_frame) // layout.chunk_frames)
        if len(chunk) < layout.chunk_frames:
            chunk = np.concatenate([chunk, np.zeros((layout.chunk_frames - len(chunk), *shape), frames.dtype)])
        try:
            checksum, n_bytes = write_chunk(Path(path, key), chunk)
        except OSError as error:
            raise DataIntegrityError(
                f"{path}: frames {at} to {last} cannot be written ({error.strerror or error}); "
                f"up to {(stop - at) * frames[0].nbytes} bytes are still needed there: free space, then run again"
            ) from error
        records.append(ChunkRecord(key, at, last, checksum, n_bytes))
    return records


def read_frames(path: str, start: int, stop: int) -> np.ndarray:
    """The movie's frames [start, stop) as (t, y, x); checksums are always checked.

    Raises DataIntegrityError, naming file and frames, for absent or damaged chunks; InputError for frames the store does not hold.
    """
    layout = layout_of(path)
    if not layout.first_frame <= start < stop <= layout.stop_frame:
        raise InputError(f"{path}: frames {start} to {stop} asked for; the store holds {layout.first_frame} to {layout.stop_frame}")
    begin, end, chunk_frames = start - layout.first_frame, stop - layout.first_frame, layout.chunk_frames
    numbers = range(begin // chunk_frames, -(-end // chunk_frames))
    whole = np.empty((len(numbers), *layout.chunk_shape), layout.dtype)
    absent, damaged = [], []
    for out, number in zip(whole, numbers):
        file = Path(path, _key(number))
        try:
            read_chunk(file, out)
        except FileNotFoundError:
            absent.append(_frames_of(number, layout))
        except (ValueError, RuntimeError, OSError) as error:
            damaged.append(f"{file}: frames {_frames_of(number, layout)}: {error}")
    if damaged:
        raise DataIntegrityError(f"{'; '.join(damaged)}; run the stage that writes this store again")
    if absent:
        raise DataIntegrityError(f"{path}: missing chunks: frames {', '.join(absent)}; run the stage that writes this store again")
    frames = whole.reshape(-1, *layout.chunk_shape[1:])
    wanted = frames[begin % chunk_frames :][: stop - start]
    return wanted if len(wanted) == len(frames) else wanted.copy()


class StackReader:
    """Reads across per-block stacks by the movie's frame numbers, for windows that cross a block's border."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._stacks = sorted(((layout_of(path), path) for path in paths), key=lambda pair: pair[0].first_frame)
        for (before, path), (after, other) in zip(self._stacks, self._stacks[1:]):
            if after.first_frame < before.stop_frame:
                raise InputError(f"{other}: begins at frame {after.first_frame}, which {path} holds too; give each block once")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) as (t, y, x). Raises DataIntegrityError naming the frames that no stack holds."""
        parts, at = [], start
        for layout, path in self._stacks:
            if layout.stop_frame <= at or layout.first_frame >= stop:
                continue
            self._refuse_gap(at, layout.first_frame)
            end = min(stop, layout.stop_frame)
            parts.append(read_frames(path, at, end))
            at = end
        self._refuse_gap(at, stop)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _refuse_gap(self, at: int, next_frame: int) -> None:
        if at < next_frame:
            held = ", ".join(f"{layout.first_frame} to {layout.stop_frame}" for layout, _ in self._stacks) or "none"
            raise DataIntegrityError(f"frames {at} to {next_frame} are in no stack; given stacks hold {held}: give the blocks between, too")


def _create(path: str, shape: tuple[int, int, int], dtype: str, chunk_frames: int, attributes: dict[str, Any]) -> None:
    if len(shape) != 3 or min(shape) < 1 or chunk_frames < 1:
        raise InputError(f"{path}: shape {shape} in chunks of {chunk_frames} frames; expected (t, y, x) and each at least 1")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # made aside and renamed, so that a killed run leaves no store without its metadata
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        group = zarr.create_group(str(aside), zarr_format=3, attributes=attributes, overwrite=True)
        group.create_array(
            ARRAY, shape=shape, dtype=dtype, chunks=(min(chunk_frames, shape[0]), *shape[1:]), fill_value=0,
            dimension_names=("t", "y", "x"),
            compressors=codecs(np.dtype(dtype)),
        )  # fmt: skip
        aside.chmod(0o755)
        try:
            aside.rename(target)
        except OSError:
            if not target.exists():
                raise
            differing = _differences(aside, target)
        else:
            differing = []
        if differing:
            raise DataIntegrityError(f"{path}: another store is there (other {', '.join(differing)}); remove it, or choose another folder")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _differences(wanted: Path, found: Path) -> list[str]:
    differing = []
    for part in METADATA:
        try:
            old = json.loads((found / part).read_text())
        except (OSError, ValueError):
            return [f"{part}: absent or damaged"]
        new = json.loads((wanted / part).read_text())
        flat_old, flat_new = old | old.pop("attributes", {}), new | new.pop("attributes", {})
        differing += [key for key in sorted(flat_old.keys() | flat_new.keys()) if flat_old.get(key) != flat_new.get(key)]
    return differing


def _ome(path: str, pixel_size_angstrom: float | None, frame_time_ms: float | None, first_frame: int) -> dict[str, Any]:
    """OME-NGFF 0.5 multiscales; an unset size has no unit and scale 1."""
    for name, value in (("pixel_size_angstrom", pixel_size_angstrom), ("frame_time_ms", frame_time_ms)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{path}: {name} {value}; must be above 0, or None when unset")
    axes: list[dict[str, str]] = [{"name": "t", "type": "time"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    if frame_time_ms is not None:
        axes[0]["unit"] = "millisecond"
    if pixel_size_angstrom is not None:
        axes[1]["unit"] = axes[2]["unit"] = "angstrom"
    pixel, time = pixel_size_angstrom or 1.0, frame_time_ms or 1.0
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": [time, pixel, pixel]}]
    if first_frame:
        transformations.append({"type": "translation", "translation": [first_frame * time, 0.0, 0.0]})
    dataset = {"path": ARRAY, "coordinateTransformations": transformations}
    return {"ome": {"version": "0.5", "multiscales": [{"name": Path(path).stem, "axes": axes, "datasets": [dataset]}]}}


def _check_alignment(path: str, layout: StoreLayout, start: int, stop: int) -> None:
    first, end, every = layout.first_frame, layout.stop_frame, layout.chunk_frames
    inside = first <= start < stop <= end
    if not inside or (start - first) % every or ((stop - first) % every and stop != end):
        raise InputError(
            f"{path}: frames {start} to {stop} are no whole time chunks; allowed: within {first} to {end}, start and stop every {every} "
            f"frames from {first} (or the end): write whole chunks"
        )


def _key(chunk: int) -> str:
    return f"{ARRAY}/c/{chunk}/0/0"


def _frames_of(chunk: int, layout: StoreLayout) -> str:
    start = layout.first_frame + chunk * layout.chunk_frames
    return f"{start} to {min(start + layout.chunk_frames, layout.stop_frame)}"
