"""FEI/ThermoFisher TIA series (.ser), read frame by frame through a memory map, and the .emi that belongs to them.

RosettaSciIO loads the whole series to read one frame, so only the XML of the .emi goes through it. As there, rows, which are
stored bottom-up, are turned as TIA shows them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from scant.errors import InputError
from scant.io.source import Axis, MovieSource, Opened, checked_dtype, jsonable, movie_shape, pixel_size_angstrom, refuse_truncated

SER_MAGIC, IMAGE_DATA = 0x0197, 0x4122
ELEMENT_HEADER = struct.Struct("<ddiddihii")
PIXEL_TYPES = {1: "u1", 2: "<u2", 3: "<u4", 4: "i1", 5: "<i2", 6: "<i4", 7: "<f4", 8: "<f8", 9: "<c8", 10: "<c16"}


def ser_of_emi(path: Path) -> Path:
    """The one .ser beside an .emi (NAME_1.ser). Raises InputError when there is none, or naming all when there are several."""
    found = sorted(p for p in path.parent.iterdir() if p.suffix.lower() == ".ser" and p.stem.rpartition("_")[0] == path.stem)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or f"no {path.stem}_1.ser beside it"
        raise InputError(f"{path}: an .emi holds no pixels; expected one .ser series, found {len(found)}: {names}; name the .ser to read")
    return found[0]


def open_ser(path: Path) -> Opened:
    """Open a TIA image series. Raises InputError for truncated files, spectra and frames of several shapes."""
    name = str(path)
    data: Any = np.memmap(path, np.uint8, "r")
    offsets, n_total = _element_offsets(name, data)
    elements = [_element(data, offset) for offset in offsets]
    whole = [e for e in elements if e is not None]
    refuse_truncated(name, len(offsets), len(whole), f"{len(data)} bytes")
    kinds = {(e[2], e[3], e[4]) for e in whole}
    if len(kinds) != 1:
        raise InputError(f"{name}: frames of {len(kinds)} shapes or types: {sorted(kinds)}; expected one: export them apart")
    dtype, height, width = kinds.pop()
    shape = movie_shape(name, (len(offsets), height, width))
    kind = checked_dtype(name, np.dtype(dtype))
    starts = [e[5] for e in whole]
    y, x = Axis(height, whole[0][0], "m"), Axis(width, whole[0][1], "m")
    metadata, voltage = _emi_metadata(path)
    pixel_size, notes = pixel_size_angstrom(y, x)
    if "diffraction" in str(metadata.get("ObjectInfo", {}).get("ExperimentalDescription", {}).get("Mode", "")).lower():
        pixel_size, notes = None, ("diffraction patterns: the scale is reciprocal",)
    if n_total > len(offsets):
        notes += (f"the acquisition stopped after {len(offsets)} of {n_total} frames",)
    metadata["ser"] = {
        "TotalNumberElements": n_total,
        "ValidNumberElements": len(offsets),
        "CalibrationDelta_m": [whole[0][0], whole[0][1]],
    }
    source = MovieSource((name,), *shape, kind, pixel_size, None, voltage, "scant.io.ser", jsonable(metadata), notes)
    n_bytes = height * width * np.dtype(dtype).itemsize

    def read(start: int, stop: int) -> np.ndarray:
        frames = [data[s : s + n_bytes].view(dtype).reshape(height, width)[::-1] for s in starts[start:stop]]
        return np.stack(frames)

    return Opened(source, read, len(data), shape[0] * n_bytes)


def _element_offsets(name: str, data: Any) -> tuple[list[int], int]:
    if len(data) < 30:
        raise InputError(f"{name}: truncated: expected a .ser header of 30 bytes, found {len(data)}; copy the file again")
    _order, magic, version, data_type, _tag, n_total, n_valid = struct.unpack_from("<HHHIIII", data)
    if magic != SER_MAGIC or data_type != IMAGE_DATA:
        raise InputError(f"{name}: not a TIA image series (series {magic:#06x}, data {data_type:#06x}; expected 0x0197 and 0x4122)")
    wide = version >= 0x220
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 22)
    kind, end = ("<u8" if wide else "<u4"), table + n_valid * (8 if wide else 4)
    refuse_truncated(name, n_valid, 0 if end > len(data) else n_valid, f"{len(data)} bytes; the table of frames ends at byte {end}")
    return [int(o) for o in np.frombuffer(data[table:end].tobytes(), kind)], int(n_total)


def _element(data: Any, offset: int) -> tuple[float, float, str, int, int, int] | None:
    """(pixel size y in m, x in m, dtype, height, width, first byte) of one frame; None when it ends beyond the file."""
    start = offset + ELEMENT_HEADER.size
    if start > len(data):
        return None
    _, dx, _, _, dy, _, kind, width, height = ELEMENT_HEADER.unpack_from(data, offset)
    dtype = PIXEL_TYPES.get(kind, "O")
    complete = start + width * height * np.dtype(dtype).itemsize <= len(data)
    return (dy, dx, dtype, height, width, start) if complete else None


def _emi_metadata(path: Path) -> tuple[dict[str, Any], float | None]:
    emi = next((p for p in path.parent.iterdir() if p.suffix.lower() == ".emi" and p.stem == path.stem.rpartition("_")[0]), None)
    if emi is None:
        return {}, None
    from rsciio.tia._api import convert_xml_to_dict, get_xml_info_from_emi

    objects = get_xml_info_from_emi(str(emi))
    metadata = convert_xml_to_dict(objects[0]).to_dict() if objects else {}
    voltage = metadata.get("ObjectInfo", {}).get("ExperimentalDescription", {}).get("High tension_kV")
    return metadata, None if voltage is None else float(voltage)
