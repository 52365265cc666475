"""Mean over a sliding window of frames, aware of ends, gaps in the numbering, bad frames, bad pixels and drift.

Every mean is summed afresh in float64, in frame order: a frame's result depends on the frames of its window alone, so blocks with a halo of
``size // 2`` frames give bit-identical results wherever their borders lie. A running sum would not (its rounding carries the past).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from scant.errors import InputError

DRIFT_LIMIT_PX = 0.1
"""Relative drift above which a neighbour is shifted before averaging: below it the blur of a 6 px lattice period costs under 0.3 % of
contrast."""

WINDOW_DOSE_E_PER_ANGSTROM2 = 4e4
SHORTEST_WINDOW, LONGEST_WINDOW = 5, 25

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def window_for_dose(dose_e_per_angstrom2: float | None) -> int:
    """Frames (odd) whose doses add up to what single vacancies are found at, 4e4 e/A^2: at least 5, at most 25, beyond which a sheet
    moves more than its noise; 5 where the dose is not known."""
    if dose_e_per_angstrom2 is None:
        return SHORTEST_WINDOW
    frames = 2 * math.ceil((WINDOW_DOSE_E_PER_ANGSTROM2 / dose_e_per_angstrom2 - 1) / 2) + 1
    return min(max(frames, SHORTEST_WINDOW), LONGEST_WINDOW)


def window_mean(
    frames: Floats,
    frame_numbers: npt.NDArray[np.integer],
    valid: Bools,
    size: int = 5,
    mask: Bools | None = None,
    drift_px: npt.NDArray[np.floating] | None = None,
) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Mean of the frames whose number lies within ``size // 2`` of each frame's number.

    frames (t, y, x) float32; frame_numbers (t,) strictly increasing, gaps allowed: a missing frame is left out, nothing moves into its
    place. At the ends and beside gaps the mean is over the frames there are. valid (t,): a False frame enters no mean, its own result is
    NaN and 0 frames. size: odd, 1 returns the frames. mask (t, y, x): True = leave this pixel out (bad pixel, hit); a pixel left out of
    every frame is NaN. drift_px (t, 2): position (dy, dx) of the sample in each frame; a neighbour displaced by more than DRIFT_LIMIT_PX
    relative to the frame is shifted onto it first (`shift_frame`); what comes from outside the field, or touches a masked or NaN pixel,
    is left out.

    Returns mean (t, y, x) float32 and the number of frames used: uint8 (t,), or (t, y, x) when mask or drift_px is given. Without either,
    a NaN pixel makes its window NaN. Raises InputError for shapes, numbers or a size that do not fit.
    """
    _check(frames, frame_numbers, valid, size)
    frames = np.ascontiguousarray(frames, dtype=np.float32)
    first, last = _windows(np.asarray(frame_numbers), size)
    if mask is None and drift_px is None:
        return _mean_of_frames(frames, first, last, np.asarray(valid, dtype=np.bool_))
    if mask is not None and mask.shape != frames.shape:
        raise InputError(
            f"mask has shape {mask.shape}, the frames {frames.shape}: give one mask per frame (np.broadcast_to for a common one)"
        )
    usable = np.where(mask, np.float32(np.nan), frames) if mask is not None else frames
    drift = np.zeros((len(frames), 2)) if drift_px is None else _checked_drift(drift_px, valid)
    mean = np.empty_like(frames)
    used = np.empty(frames.shape, dtype=np.uint8)
    for t in range(len(frames)):
        members = [s for s in range(first[t], last[t]) if valid[s]] if valid[t] else []
        mean[t], used[t] = _mean_of_members(usable, members, drift - drift[t])
    return mean, used


def mean_onto(frames: Floats, target: int, mask: Bools, drift_px: npt.NDArray[np.floating]) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Mean (y, x) of all frames (t, y, x) shifted onto the target, and the frames used per pixel; mask, drift: see `window_mean`."""
    drift = _checked_drift(drift_px, np.ones(len(frames), dtype=np.bool_))
    usable = np.where(mask, np.float32(np.nan), frames)
    return _mean_of_members(usable, list(range(len(frames))), drift - drift[target])


def averaged_frame(frames: Floats, own: int, drift_px: npt.NDArray[np.floating]) -> tuple[Floats, int]:
    """The mean (y, x) of a window of frames (t, y, x) at its frame `own`, and how many frames it holds; drift_px (t, 2): see `window_mean`.

    A frame with NaN is left out; where `own` itself has NaN it comes back as it is, of 0 frames. A shifted neighbour does not reach the
    edge: there the frame itself stands in.
    """
    valid = np.asarray(np.isfinite(frames).all(axis=(1, 2)))
    if not valid[own]:
        return frames[own], 0
    members = np.flatnonzero(valid)
    drift = _checked_drift(drift_px[members], valid[members])
    at = int(np.searchsorted(members, own))
    mean, used = _mean_of_members(np.ascontiguousarray(frames[members], np.float32), list(range(len(members))), drift - drift[at])
    return np.where(np.isfinite(mean), mean, frames[own]), int(used.max())


def shift_frame(frame: Floats, dy_px: float, dx_px: float) -> Floats:
    """The frame's content moved by (dy_px, dx_px): out[y, x] = frame(y - dy, x - dx), by cubic convolution (Keys 1981, a = -1/2).

    frame (y, x) float32. Whole-pixel shifts are exact copies. A point outside the frame's pixel centres is NaN; the kernel's taps beyond
    an edge repeat the edge pixel; a NaN spreads over the taps that touch it (at most 4 x 4 pixels).
    """
    if frame.ndim != 2 or not (math.isfinite(dy_px) and math.isfinite(dx_px)):
        raise InputError(f"cannot shift an array of shape {frame.shape} by ({dy_px}, {dx_px}) px: give one frame (y, x) and finite shifts")
    rows = _shift_rows(np.ascontiguousarray(frame, dtype=np.float32), *_taps(dy_px))
    return np.ascontiguousarray(_shift_rows(np.ascontiguousarray(rows.T), *_taps(dx_px)).T)


def _check(frames: Floats, frame_numbers: npt.NDArray[np.integer], valid: Bools, size: int) -> None:
    if size < 1 or size % 2 == 0 or size > 255:
        raise InputError(f"the averaging window is {size} frames; it must be odd, from 1 (off) to 255")
    if frames.ndim != 3 or frame_numbers.shape != (len(frames),) or valid.shape != (len(frames),):
        raise InputError(
            f"frames {frames.shape}, frame_numbers {frame_numbers.shape} and valid {valid.shape} do not fit: "
            "(t, y, x), (t,) and (t,) are needed"
        )
    backwards = np.flatnonzero(np.diff(frame_numbers) <= 0)
    if backwards.size:
        at = int(backwards[0])
        raise InputError(
            f"frame number {frame_numbers[at + 1]} follows {frame_numbers[at]}: numbers must increase strictly; "
            "sort the frames and drop duplicates"
        )


def _checked_drift(drift_px: npt.NDArray[np.floating], valid: Bools) -> npt.NDArray[np.float64]:
    if drift_px.shape != (len(valid), 2):
        raise InputError(f"drift_px has shape {drift_px.shape}; ({len(valid)}, 2) is needed: (dy, dx) in pixels for every frame")
    unknown = np.flatnonzero(valid & ~np.isfinite(drift_px).all(axis=1))
    if unknown.size:
        raise InputError(
            f"the drift of frame {int(unknown[0])} of this stack is not finite: mark the frame as not valid, or align it again"
        )
    return np.asarray(drift_px, dtype=np.float64)


def _windows(frame_numbers: npt.NDArray[np.integer], size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    numbers = frame_numbers.astype(np.int64)
    half = size // 2
    return np.searchsorted(numbers, numbers - half, side="left"), np.searchsorted(numbers, numbers + half, side="right")


def _mean_of_members(usable: Floats, members: list[int], relative_px: npt.NDArray[np.float64]) -> tuple[Floats, npt.NDArray[np.uint8]]:
    total = np.zeros(usable.shape[1:], dtype=np.float64)
    used = np.zeros(usable.shape[1:], dtype=np.uint8)
    for s in members:
        dy_px, dx_px = relative_px[s]
        still = math.hypot(dy_px, dx_px) <= DRIFT_LIMIT_PX
        _add_finite(total, used, usable[s] if still else shift_frame(usable[s], -dy_px, -dx_px))
    return _divide(total, used), used


def _taps(shift_px: float) -> tuple[int, Floats]:
    """First source offset and the four weights of Keys' cubic kernel for out[i] = sum_j w[j] * frame[i + offset + j]."""
    whole = math.floor(-shift_px)
    f = -shift_px - whole
    weights = [((-0.5 * f + 1.0) * f - 0.5) * f, (1.5 * f - 2.5) * f * f + 1.0, ((-1.5 * f + 2.0) * f + 0.5) * f, (0.5 * f - 0.5) * f * f]
    return whole - 1, np.array(weights, dtype=np.float32)


@njit(cache=True)
def _shift_rows(frame, offset, weights):
    n_rows, n_columns = frame.shape
    out = np.zeros_like(frame)
    fraction = weights[1] != np.float32(1.0)
    for y in range(n_rows):
        source = y + offset + 1
        if source < 0 or source + fraction > n_rows - 1:
            out[y] = np.nan
            continue
        for tap in range(4):
            # a weight of zero must not let a NaN in
            if weights[tap] != np.float32(0.0):
                row = min(max(y + offset + tap, 0), n_rows - 1)
                for x in range(n_columns):
                    out[y, x] += weights[tap] * frame[row, x]
    return out


@njit(cache=True)
def _mean_of_frames(frames, first, last, valid):
    n_frames, n_rows, n_columns = frames.shape
    mean = np.empty_like(frames)
    used = np.zeros(n_frames, dtype=np.uint8)
    for t in range(n_frames):
        if valid[t]:
            used[t] = valid[first[t] : last[t]].sum()
    total = np.empty(n_columns, dtype=np.float64)
    # rows outermost: a row of the whole window stays in the cache, so each frame is read from memory once
    for y in range(n_rows):
        for t in range(n_frames):
            if not valid[t]:
                mean[t, y] = np.nan
                continue
            total[:] = 0.0
            for s in range(first[t], last[t]):
                if valid[s]:
                    for x in range(n_columns):
                        total[x] += frames[s, y, x]
            for x in range(n_columns):
                mean[t, y, x] = total[x] / used[t]
    return mean, used


@njit(cache=True)
def _add_finite(total, used, frame):
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            value = frame[y, x]
            if not np.isnan(value):
                total[y, x] += value
                used[y, x] += 1


@njit(cache=True)
def _divide(total, used):
    mean = np.empty(total.shape, dtype=np.float32)
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            mean[y, x] = total[y, x] / used[y, x] if used[y, x] > 0 else np.nan
    return mean
