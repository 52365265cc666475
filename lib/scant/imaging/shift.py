"""A frame moved by part of a pixel: cubic convolution (Keys, IEEE Trans. ASSP 29 (1981) 1153, a = -1/2), row by row."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from scant.errors import InputError

Floats = npt.NDArray[np.float32]
Taps = tuple[int, npt.NDArray[np.float32]]


def taps(shift_px: float) -> Taps:
    """First source offset and the four weights of Keys' kernel for out[i] = sum_j w[j] * line[i + offset + j]; one weight if whole."""
    whole = math.floor(-shift_px)
    f = -shift_px - whole
    if f == 0.0:
        return whole, np.ones(1, np.float32)
    weights = [((-0.5 * f + 1.0) * f - 0.5) * f, (1.5 * f - 2.5) * f * f + 1.0, ((-1.5 * f + 2.0) * f + 0.5) * f, (0.5 * f - 0.5) * f * f]
    return whole - 1, np.array(weights, dtype=np.float32)


def shift_frame(frame: Floats, dy_px: float, dx_px: float) -> Floats:
    """The frame's content moved by (dy_px, dx_px): out[y, x] = frame(y - dy, x - dx).

    frame (y, x) float32. Whole-pixel shifts are exact copies. A point outside the frame's pixel centres is NaN; the kernel's taps beyond
    an edge repeat the edge pixel; a NaN spreads over the taps that touch it (at most 4 x 4 pixels).
    """
    if frame.ndim != 2 or not (math.isfinite(dy_px) and math.isfinite(dx_px)):
        raise InputError(f"cannot shift an array of shape {frame.shape} by ({dy_px}, {dx_px}) px: give one frame (y, x) and finite shifts")
    out = np.empty(frame.shape, np.float32)
    shift_rows(np.ascontiguousarray(frame, dtype=np.float32), 0, taps(dy_px), taps(dx_px), out)
    return out


@njit(cache=True)
def shift_rows(frame, top, rows, columns, out):
    """Rows of the shifted frame, from `top` on, into `out`; `rows` and `columns` are the taps of the shifts in y and x."""
    for y in range(out.shape[0]):
        _shift_row(frame, top + y, rows, columns, out[y])


@njit(cache=True)
def _shift_row(frame, y, rows, columns, out):
    (down, row_weights), (right, column_weights) = rows, columns
    first, last = reached(down, row_weights.size, frame.shape[0])
    if not first <= y < last:
        out[:] = np.nan
        return
    n = out.size
    # room for the taps beyond both edges
    line = np.zeros(n + 2, np.float32)
    for tap in range(row_weights.size):
        source = frame[min(max(y + down + tap, 0), frame.shape[0] - 1)]
        for x in range(n):
            line[x + 1] += row_weights[tap] * source[x]
    line[0], line[n + 1] = line[1], line[n]
    first, last = reached(right, column_weights.size, n)
    out[:first], out[last:] = np.nan, np.nan
    # views that begin at their tap: indices that cannot be negative are what LLVM vectorises
    seen, moved = line[first + right + 1 :], out[first:last]
    if column_weights.size == 1:
        moved[:] = seen[: moved.size]
        return
    second, third, fourth = seen[1:], seen[2:], seen[3:]
    a, b, c, d = column_weights[0], column_weights[1], column_weights[2], column_weights[3]
    for x in range(moved.size):
        moved[x] = a * seen[x] + b * second[x] + c * third[x] + d * fourth[x]


@njit(cache=True)
def reached(offset, n_taps, size):
    """First and last (exclusive) place whose source lies among the pixel centres."""
    source, beyond = (offset, 0) if n_taps == 1 else (offset + 1, 1)
    first = min(max(-source, 0), size)
    return first, max(min(size - source - beyond, size), first)
