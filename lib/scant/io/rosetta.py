"""Vendor formats through RosettaSciIO: DigitalMicrograph .dm3/.dm4, Velox and Berkeley .emd, HyperSpy .hspy; always lazily."""

from __future__ import annotations

import importlib
import logging
import struct
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scant.errors import InputError
from scant.io.source import Axis, MovieSource, Opened, checked_dtype, frame_time_ms, jsonable, movie_shape, pixel_size_angstrom

MODULES = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".emd": "emd", ".hspy": "hspy"}
ROW_NAMES, COLUMN_NAMES = ("y", "height"), ("x", "width")
VOLTAGE_PATHS_V = (
    ("Optics", "AccelerationVoltage"),
    ("microscope", "high tension"),
    ("ImageList", "TagGroup0", "ImageTags", "Microscope Info", "Voltage"),
)
BEAM_ENERGY_PATH_KEV = ("Acquisition_instrument", "TEM", "beam_energy")


def open_rosetta(path: Path) -> Opened:
    """Open a vendor file. Raises InputError when it is truncated, not what its ending says, or holds no single movie."""
    name = str(path)
    if path.suffix.lower() in (".dm3", ".dm4"):
        _check_dm_length(path)
    else:
        _check_hdf5(path)
    signal = _the_movie(name, _signals(path))
    data, (t, y, x) = _in_order(signal)
    kind = checked_dtype(name, data.dtype)
    shape = movie_shape(name, data.shape)
    pixel_size, notes = pixel_size_angstrom(y, x)
    original = signal.get("original_metadata", {})
    metadata = {"original_metadata": jsonable(original), "metadata": jsonable(signal.get("metadata", {}))}
    voltage = _voltage_kv(metadata)
    source = MovieSource((name,), *shape, kind, pixel_size, frame_time_ms(t), voltage, "rosettasciio", metadata, notes)
    stack = data.reshape(shape)

    def read(start: int, stop: int) -> np.ndarray:
        return np.array(stack[start:stop].compute(scheduler="synchronous"))

    return Opened(source, read, path.stat().st_size, int(np.prod(shape, dtype=object)) * data.dtype.itemsize)


def _signals(path: Path) -> list[dict[str, Any]]:
    module = importlib.import_module(f"rsciio.{MODULES[path.suffix.lower()]}")
    try:
        with warnings.catch_warnings():
            # vendors' metadata oddities are no fault of the pixels; shapes and sizes are checked on the result
            warnings.simplefilter("ignore")
            logging.getLogger("rsciio").setLevel(logging.ERROR)
            return list(module.file_reader(str(path), lazy=True))
    except Exception as error:
        raise InputError(
            f"{path}: RosettaSciIO cannot read it ({type(error).__name__}: {error}); "
            f"the file may be truncated ({path.stat().st_size} bytes) or of another format: copy or export it again"
        ) from error


def _the_movie(name: str, signals: list[dict[str, Any]]) -> dict[str, Any]:
    stacks = [s for s in signals if s["data"].ndim >= 3] or [s for s in signals if s["data"].ndim == 2]
    if len(stacks) != 1:
        listed = ", ".join(f"{s['metadata'].get('General', {}).get('title', '?')} {s['data'].shape}" for s in signals) or "nothing"
        raise InputError(f"{name}: expected one movie, found {len(stacks)} ({listed}); export the movie alone")
    return stacks[0]


def _in_order(signal: dict[str, Any]) -> tuple[Any, tuple[Axis | None, Axis, Axis]]:
    """The data as (..., y, x) with its calibrations. The axes' own names decide (RosettaSciIO hands Berkeley EMD over as x, y, t)."""
    data = signal["data"]
    axes = [Axis(int(a["size"]), a.get("scale"), str(a.get("units") or "")) for a in signal["axes"]]
    names = [str(a.get("name") or "").lower() for a in signal["axes"]]
    rows = [i for i, n in enumerate(names) if n in ROW_NAMES]
    columns = [i for i, n in enumerate(names) if n in COLUMN_NAMES]
    if len(rows) == 1 and len(columns) == 1:
        order = [i for i in range(data.ndim) if i not in (rows[0], columns[0])] + [rows[0], columns[0]]
        data, axes = data.transpose(order), [axes[i] for i in order]
    return data, (axes[-3] if len(axes) > 2 else None, axes[-2], axes[-1])


def _voltage_kv(metadata: dict[str, Any]) -> float | None:
    candidates = [(_lookup(metadata["original_metadata"], keys), 1e-3) for keys in VOLTAGE_PATHS_V]
    candidates.append((_lookup(metadata["metadata"], BEAM_ENERGY_PATH_KEV), 1.0))
    for value, factor in candidates:
        try:
            voltage = float(value) * factor
        except (TypeError, ValueError):
            continue
        if voltage > 0:
            return voltage
    return None


def _lookup(tree: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _check_dm_length(path: Path) -> None:
    """The header of a .dm3/.dm4 says how long its tags and pixels are."""
    head, size = path.open("rb").read(12), path.stat().st_size
    version = struct.unpack_from(">I", head)[0] if len(head) == 12 else None
    if version not in (3, 4):
        raise InputError(f"{path}: not a DigitalMicrograph file (version {version}, expected 3 or 4; {size} bytes)")
    expected = struct.unpack_from(">I" if version == 3 else ">Q", head, 4)[0] + (12 if version == 3 else 16)
    if size < expected:
        raise InputError(f"{path}: truncated: expected at least {expected} bytes, found {size}; copy or export the file again")


def _check_hdf5(path: Path) -> None:
    """Every chunk of every image is there and stored no larger than it decodes to; no object arrays, no data in other files."""
    try:
        with h5py.File(path, "r") as file:
            problems: list[str] = []
            file.visititems(lambda key, item: problems.extend(_dataset_problems(key, item)) if isinstance(item, h5py.Dataset) else None)
    except OSError as error:
        raise InputError(f"{path}: HDF5 cannot open it ({error}; {path.stat().st_size} bytes); copy or export the file again") from error
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}; the file is damaged or not a movie: export it again")


def _dataset_problems(key: str, dataset: h5py.Dataset) -> list[str]:
    if dataset.ndim < 2:
        return []
    if dataset.external or dataset.is_virtual:
        return [f"{key} keeps its pixels in other files"]
    if dataset.chunks is None:
        return []
    expected = int(np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks)]))
    chunk_bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    sizes: list[int] = []
    dataset.id.chunk_iter(lambda info: sizes.append(info.size))
    problems = [f"{key}: expected {expected} chunks, found {len(sizes)}"] if len(sizes) < expected and key.lower().endswith("/data") else []
    if sizes and max(sizes) > 2 * chunk_bytes + 4096:
        problems.append(f"{key}: a chunk of {chunk_bytes} bytes is stored in {max(sizes)}")
    return problems
