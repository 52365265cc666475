"""What a movie file says about itself, in scant's units: the result of every reader."""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scant.errors import InputError
from scant.units import length_in_angstrom

LENGTH_ALIASES = {
    "micron": "um", "microns": "um", "micrometer": "um", "micrometre": "um", "\\u00b5m": "um", "nanometer": "nm", "nanometre": "nm",
    "picometer": "pm", "meter": "m", "meters": "m", "centimeter": "cm",
}  # fmt: skip
MILLISECONDS_PER = {
    "millisecond": 1.0,
    "microsecond": 1e-3,
    "s": 1e3,
    "sec": 1e3,
    "second": 1e3,
    "seconds": 1e3,
    "ms": 1.0,
    "us": 1e-3,
    "µs": 1e-3,
    "μs": 1e-3,
    "ns": 1e-6,
    "min": 6e4,
}
PIXEL_ANISOTROPY_MAX = 0.01


@dataclass(frozen=True)
class MovieSource:
    """A movie that can be read frame by frame; axes (t, y, x). Picklable, so that workers can read it.

    `None` means that the file does not say; `notes` then says why. `metadata` is the vendor's, verbatim and JSON-able.
    """

    paths: tuple[str, ...]
    n_frames: int
    height_px: int
    width_px: int
    dtype: str
    pixel_size_angstrom: float | None
    frame_time_ms: float | None
    voltage_kv: float | None
    reader: str
    metadata: dict[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """An open file: its description, `read(start, stop)` -> (t, y, x), and its size on disk and decoded."""

    source: MovieSource
    read: Callable[[int, int], np.ndarray]
    stored_bytes: int
    decoded_bytes: int


@dataclass(frozen=True)
class Axis:
    """One calibrated axis as the file gives it; `scale` per pixel or frame, in `unit`."""

    size: int
    scale: float | None = None
    unit: str | None = None


def axis_length_angstrom(axis: Axis) -> float | None:
    """Pixel size in angstrom; None for no unit, a unit that is no length (1/nm, px), and sizes <= 0 or not finite."""
    if axis.scale is None or not axis.unit or not math.isfinite(axis.scale) or axis.scale <= 0:
        return None
    unit = axis.unit.strip()
    try:
        return length_in_angstrom(float(axis.scale), LENGTH_ALIASES.get(unit.lower(), unit))
    except KeyError:
        return None


def pixel_size_angstrom(y: Axis, x: Axis) -> tuple[float | None, tuple[str, ...]]:
    """The one pixel size of both axes, or None and a note: a movie whose axes disagree by over 1 % has no single one."""
    y_angstrom, x_angstrom = axis_length_angstrom(y), axis_length_angstrom(x)
    if y_angstrom is None or x_angstrom is None:
        known = [f"{name} {axis.scale} {axis.unit or 'without a unit'}" for name, axis in (("y", y), ("x", x)) if axis.scale is not None]
        return None, (": ".join(["pixel size unset in the file", *([", ".join(known)] if known else [])]),)
    if abs(y_angstrom - x_angstrom) > PIXEL_ANISOTROPY_MAX * max(y_angstrom, x_angstrom):
        return None, (f"pixel size not used: y {y_angstrom:g} A and x {x_angstrom:g} A differ",)
    return (y_angstrom + x_angstrom) / 2, ()


def frame_time_ms(t: Axis | None) -> float | None:
    """Time between frames in ms; None where the stack axis is no time."""
    if t is None or t.scale is None or not t.unit or not math.isfinite(t.scale) or t.scale <= 0:
        return None
    factor = MILLISECONDS_PER.get(t.unit.strip().lower())
    return None if factor is None else float(t.scale) * factor


def checked_dtype(path: str, dtype: np.dtype) -> str:
    """Name of a real numeric dtype. Raises InputError for complex, RGB or structured, boolean, object and text data."""
    if dtype.kind in "uif":
        return str(dtype.newbyteorder("=").name)
    what = {"c": "complex data (a Fourier transform or a wave?)", "V": "RGB or structured data", "O": "Python objects", "b": "booleans"}
    raise InputError(
        f"{path}: pixels are {what.get(dtype.kind, 'not numbers')} ({dtype}); a movie needs integer or floating-point intensities: "
        "export the raw frames as such"
    )


def movie_shape(path: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(t, y, x) of an image, a stack, or either with leading axes of size 1. Raises InputError for anything else."""
    squeezed = tuple(n for n in shape[:-2] if n != 1) + tuple(shape[-2:])
    if len(squeezed) == 2:
        squeezed = (1, *squeezed)
    if len(squeezed) != 3 or min(squeezed) < 1:
        raise InputError(f"{path}: shape {shape} is no movie; expected one image (y, x) or one stack (t, y, x): export a single stack")
    return int(squeezed[0]), int(squeezed[1]), int(squeezed[2])


def refuse_truncated(path: str, expected: int, found: int, detail: str) -> None:
    """Raise InputError when fewer frames are there than the file declares."""
    if found < expected:
        raise InputError(f"{path}: truncated: expected {expected} frames, found {found} ({detail}); copy or export the file again")


def jsonable(value: Any) -> Any:
    """The value in JSON's types: NumPy scalars and arrays as numbers and lists, bytes as text or base64, non-finite numbers as text."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [jsonable(v) for v in value]
    if isinstance(value, np.void) and value.dtype.names:
        return {name: jsonable(value[name]) for name in value.dtype.names}
    if isinstance(value, np.ndarray):
        return [jsonable(v) for v in value] if value.ndim else jsonable(value[()])
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, bytes | bytearray):
        return _text_or_base64(bytes(value))
    if isinstance(value, complex):
        return [jsonable(value.real), jsonable(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _text_or_base64(value: bytes) -> Any:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}
