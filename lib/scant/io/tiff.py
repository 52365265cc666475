"""TIFF movies: pixels through tifffile, completeness checked here, since a cut file reads as 1 of 8 pages with only a log line."""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from scant.errors import InputError
from scant.io.source import (
    Axis,
    MovieSource,
    Opened,
    checked_dtype,
    frame_time_ms,
    jsonable,
    movie_shape,
    pixel_size_angstrom,
    refuse_truncated,
)

TYPE_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
TAG_WIDTH, TAG_LENGTH, TAG_BITS, TAG_COMPRESSION, TAG_SAMPLES = 256, 257, 258, 259, 277
UNCOMPRESSED = 1
TAGS_OFFSETS, TAGS_COUNTS = (273, 324), (279, 325)
LAYOUT_TAGS = {"StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts", "IJMetadataByteCounts"}
RESOLUTION_UNITS = {2: (2.54, "cm"), 3: (1.0, "cm")}
PIXEL_SIZE_PLAUSIBLE_MAX_ANGSTROM = 1e5


@dataclass(frozen=True)
class Page:
    """One image directory: its shape, the bytes its strips hold, and where the last of them ends."""

    height_px: int
    width_px: int
    bits: int
    samples: int
    compression: int
    stored_bytes: int
    end_byte: int


def scan_pages(path: Path) -> tuple[list[Page], bool]:
    """All pages of the directory chain, and whether the chain is whole (False: it points beyond the end of the file)."""
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        version = struct.unpack(order + "H", data[2:4])[0] if order and len(data) >= 16 else None
        if order is None or version not in (42, 43):
            raise InputError(f"{path}: not a TIFF file (it begins with {bytes(data[:4])!r}); give the path of a movie")
        big = version == 43
        offset = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        pages: list[Page] = []
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise InputError(f"{path}: page {len(pages)} points back to an earlier page; the file is damaged: export it again")
            seen.add(offset)
            try:
                page, offset = _read_directory(data, offset, order, big)
            except (struct.error, IndexError, KeyError):
                # beyond the end of the file, or a page without width or length
                return pages, False
            pages.append(page)
        return pages, True


def _read_directory(data: mmap.mmap, offset: int, order: str, big: bool) -> tuple[Page, int]:
    count_format, entry_bytes, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
    (n_entries,) = struct.unpack_from(order + count_format, data, offset)
    first = offset + struct.calcsize(count_format)
    end = first + n_entries * entry_bytes
    (following,) = struct.unpack_from(order + pointer, data, end)
    tags = {}
    wanted = {TAG_WIDTH, TAG_LENGTH, TAG_BITS, TAG_COMPRESSION, TAG_SAMPLES, *TAGS_OFFSETS, *TAGS_COUNTS}
    for at in range(first, end, entry_bytes):
        code, kind, count = struct.unpack_from(order + "HH" + pointer, data, at)
        if code in wanted and kind in TYPE_FORMATS:
            tags[code] = _read_values(data, at + 4 + struct.calcsize(pointer), order, pointer, TYPE_FORMATS[kind], count)
    offsets = next((tags[t] for t in TAGS_OFFSETS if t in tags), (0,))
    counts = next((tags[t] for t in TAGS_COUNTS if t in tags), (0,))
    last = max((a + b for a, b in zip(offsets, counts)), default=0)
    bits, samples, compression = (tags.get(tag, (1,))[0] for tag in (TAG_BITS, TAG_SAMPLES, TAG_COMPRESSION))
    return Page(tags[TAG_LENGTH][0], tags[TAG_WIDTH][0], bits, samples, compression, sum(counts), last), following


def _read_values(data: mmap.mmap, at: int, order: str, pointer: str, kind: str, count: int) -> tuple[int, ...]:
    size = struct.calcsize(kind) * count
    if size > struct.calcsize(pointer):
        (at,) = struct.unpack_from(order + pointer, data, at)
    if at + size > len(data):
        raise IndexError("values beyond the end of the file")
    return struct.unpack_from(f"{order}{count}{kind}", data, at)


def open_tiff(path: Path) -> Opened:
    """Open a .tif/.tiff stack. Raises InputError for truncated, mixed, RGB, 4-D or undecodable files."""
    name = str(path)
    pages, whole = scan_pages(path)
    size = path.stat().st_size
    complete = sum(page.end_byte <= size for page in pages)
    detail = f"{size} bytes; {len(pages)} page directories"
    if not pages:
        raise InputError(f"{name}: truncated: expected a TIFF movie, found {size} bytes without a whole page; copy or export it again")
    try:
        tif = tifffile.TiffFile(path)
        declared = _declared_frames(tif, pages[0])
        if not whole:
            refuse_truncated(name, max(declared, len(pages) + 1), complete, f"{detail}, and the chain of pages breaks off")
        series = tif.series[0]
    except tifffile.TiffFileError as error:
        raise InputError(f"{name}: damaged TIFF: expected {len(pages)} pages, found {complete} whole ({error}); export it again") from error
    _refuse_mixed(name, pages)
    _refuse_bomb(name, pages)
    contiguous_from = series.dataoffset if len(tif.series) == 1 else None
    frame_bytes = pages[0].height_px * pages[0].width_px * np.dtype(series.dtype).itemsize
    if contiguous_from is not None and len(pages) == 1:
        complete = max(0, size - contiguous_from) // frame_bytes
    refuse_truncated(name, max(declared, len(pages)), complete, detail)
    shape = movie_shape(name, series.shape if len(tif.series) == 1 else (len(pages), *series.shape[-2:]))
    dtype = checked_dtype(name, np.dtype(series.dtype))
    source = _describe(name, tif, shape, dtype)

    def read(start: int, stop: int) -> np.ndarray:
        if contiguous_from is not None:
            return np.array(np.memmap(path, np.dtype(dtype).newbyteorder(tif.byteorder), "r", contiguous_from, shape)[start:stop])
        return tif.asarray(key=range(start, stop), maxworkers=1).reshape((stop - start, *shape[1:]))

    return Opened(source, read, size, shape[0] * frame_bytes)


def _refuse_mixed(name: str, pages: list[Page]) -> None:
    kinds = Counter((p.height_px, p.width_px, p.bits, p.samples) for p in pages)
    if len(kinds) > 1:
        listed = ", ".join(f"{n} of {h} x {w} px with {b} bits" for (h, w, b, _), n in kinds.most_common())
        raise InputError(f"{name}: mixed pages: {listed}; expected one shape and one type: export the movie alone")
    if pages[0].samples > 1:
        raise InputError(f"{name}: RGB ({pages[0].samples} samples a pixel); expected grey values: export the raw frames")


def _refuse_bomb(name: str, pages: list[Page]) -> None:
    for index, page in enumerate(pages):
        raw = page.height_px * page.width_px * page.samples * max(1, page.bits // 8)
        if page.compression != UNCOMPRESSED and page.stored_bytes > 2 * raw + 4096:
            raise InputError(
                f"{name}: page {index} stores {page.stored_bytes} bytes for an image of {raw} bytes; "
                "the file is damaged or a decompression bomb: export it again"
            )


def _declared_frames(tif: tifffile.TiffFile, page: Page) -> int:
    """Frames that the descriptions promise: ImageJ's `images=`, tifffile's shape, OME's Size attributes; 0 if none does."""
    description = tif.pages.first.description
    if tif.is_imagej:
        return int((tif.imagej_metadata or {}).get("images", 0))
    if shape := re.search(r'\{"shape": \[([\d, ]+)\]', description + " " + tif.pages.first.description1):
        pixels = np.prod([int(n) for n in shape[1].split(",")], dtype=object)
        return int(pixels // (page.height_px * page.width_px * page.samples))
    if tif.is_ome:
        sizes = [re.search(rf'\bSize{axis}="(\d+)"', description) for axis in "TZC"]
        return int(np.prod([int(m[1]) for m in sizes if m]))
    return 0


def _describe(name: str, tif: tifffile.TiffFile, shape: tuple[int, int, int], dtype: str) -> MovieSource:
    tags = {tag.name if not tag.name.isdigit() else str(tag.code): tag.value for tag in tif.pages.first.tags if tag.name not in LAYOUT_TAGS}
    t, y, x = _calibration(tif, shape, tags)
    pixel_size, notes = pixel_size_angstrom(y, x)
    metadata: dict[str, Any] = {"tags": jsonable(tags)}
    if tif.imagej_metadata:
        metadata["imagej"] = jsonable(tif.imagej_metadata)
    return MovieSource((name,), *shape, dtype, pixel_size, frame_time_ms(t), None, "tifffile", metadata, notes)


def _calibration(tif: tifffile.TiffFile, shape: tuple[int, int, int], tags: dict[str, Any]) -> tuple[Axis, Axis, Axis]:
    """Axes t, y, x from DigitalMicrograph's tags, ImageJ, OME or the resolution tags, in this order."""
    n, height, width = shape
    if "65009" in tags:
        return _gatan_calibration(shape, tags)
    per_unit = [_ratio(tags.get(key)) for key in ("YResolution", "XResolution")]
    if tif.is_imagej:
        imagej = tif.imagej_metadata or {}
        unit = str(imagej.get("unit", ""))
        y, x = (Axis(size, 1 / r if r else None, unit) for size, r in zip((height, width), per_unit))
        return Axis(n, imagej.get("finterval"), str(imagej.get("tunit", "s"))), y, x
    if tif.is_ome:
        text = tif.pages.first.description
        return _ome_axis(text, "Time", n, "TimeIncrement"), _ome_axis(text, "Y", height), _ome_axis(text, "X", width)
    centimetres, unit = RESOLUTION_UNITS.get(int(tags.get("ResolutionUnit", 1)), (1.0, ""))
    scales = [centimetres / r if r else None for r in per_unit]
    if any(s is None or s * 1e8 > PIXEL_SIZE_PLAUSIBLE_MAX_ANGSTROM for s in scales):
        # printers' defaults such as 72 dots per inch are no calibration
        return Axis(n), Axis(height), Axis(width)
    return Axis(n), Axis(height, scales[0], unit), Axis(width, scales[1], unit)


def _gatan_calibration(shape: tuple[int, int, int], tags: dict[str, Any]) -> tuple[Axis, Axis, Axis]:
    # DigitalMicrograph numbers its axes from the fastest: 65003.. units and 65009.. scales of x, y, z
    x, y, t = (Axis(shape[2 - i], _number(tags.get(str(65009 + i))), str(tags.get(str(65003 + i), ""))) for i in range(3))
    return t, y, x


def _ome_axis(text: str, axis: str, size: int, key: str = "") -> Axis:
    key = key or f"PhysicalSize{axis}"
    scale, unit = re.search(rf'\b{key}="([^"]+)"', text), re.search(rf'\b{key}Unit="([^"]+)"', text)
    default = "s" if key == "TimeIncrement" else "um"
    return Axis(size, _number(scale[1]) if scale else None, unit[1] if unit else default)


def _ratio(value: Any) -> float | None:
    return value[0] / value[1] if value and value[0] and value[1] else None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
