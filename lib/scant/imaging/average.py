"""Mean over a sliding window of frames, or the window registered, aware of ends, faulty frames, bad pixels and drift.

Every mean is summed afresh in float64, in frame order: a frame's result depends on the frames of its window alone, so blocks with a halo of
half a window give bit-identical results wherever their borders lie. A running sum would not (its rounding carries the past).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from scant.errors import InputError
from scant.imaging.correction_gpu import mean_on_device
from scant.imaging.shift import shift_frame, shift_rows, taps
from scant.xp import on_device

DRIFT_LIMIT_PX = 0.1
"""Relative drift above which a neighbour is shifted before averaging: below it the blur of a 6 px lattice period costs under 0.3 % of
contrast."""

# Rows of all frames that are averaged before the next ones: shifted ones stay in the processor's cache. Of so many frames a pixel's values
# are added in one go, since memory gives more from several streams side by side; loops over more of them are not unrolled.
STRIP_ROWS, PARTS_AT_ONCE = 64, 8

Floats = npt.NDArray[np.float32]


def mean_onto(frames: Sequence[Floats] | Floats, target: int, drift_px: npt.NDArray[np.floating]) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Mean (y, x) of frames (t, y, x) shifted onto the target, NaN where no frame reaches, and the frames used per pixel.

    drift_px (t, 2): position (dy, dx) of the sample in each frame; one displaced by more than DRIFT_LIMIT_PX against the target is shifted
    onto it (`shift.shift_frame`). A pixel that is NaN, or comes from outside the field, is left out of the mean. Frames of a device are
    averaged there. Raises InputError for a drift that does not fit or is not finite.
    """
    moves = _moves_onto(frames, target, drift_px)
    if on_device(frames[target]):
        return mean_on_device(frames, moves)
    # one type for all of them, which the compiled mean asks for: read-only arrays are another one to numba
    members = [(np.require(frame, np.float32, ["C", "W"]), taps(dy), taps(dx)) for frame, (dy, dx) in zip(frames, moves, strict=True)]
    shape = members[0][0].shape
    mean, used = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    room = {t: np.empty((min(STRIP_ROWS, shape[0]), shape[1]), np.float32) for t in np.flatnonzero(moves.any(axis=1)).tolist()}
    for top in range(0, shape[0], STRIP_ROWS):
        strip = slice(top, min(top + STRIP_ROWS, shape[0]))
        for t, moved in room.items():
            frame, rows, columns = members[t]
            shift_rows(frame, top, rows, columns, moved[: strip.stop - top])
        parts = tuple(room[t][: strip.stop - top] if t in room else frame[strip] for t, (frame, _, _) in enumerate(members))
        _mean_of(parts, mean[strip], used[strip])
    return mean, used


def _mean_of(parts: tuple[Floats, ...], mean: Floats, used: npt.NDArray[np.uint8]) -> None:
    """Fills `mean` and `used` (y, x) from arrays of their shape, a few of them at a time."""
    total = None
    while len(parts) > PARTS_AT_ONCE:
        if total is None:
            total = np.zeros(mean.shape)
            used[:] = 0
        _add(parts[:PARTS_AT_ONCE], total, used)
        parts = parts[PARTS_AT_ONCE:]
    _finish(parts, total, mean, used)


def averaged_frame(frames: Sequence[Floats] | Floats, own: int, drift_px: npt.NDArray[np.floating]) -> tuple[Floats, int]:
    """The mean (y, x) of a window of frames (t, y, x) at its frame `own`, and how many frames it holds; drift_px: see `mean_onto`.

    A neighbour that is missing is NaN everywhere and enters no pixel; where `own` has NaN it comes back as it is, of 0 frames. A shifted
    neighbour does not reach the edge: there the frame itself stands in.
    """
    mean, used = mean_onto(frames, own, drift_px)
    # pixels that every frame reached need no second look
    if used.min() < len(frames) and np.isnan(frames[own]).any():
        return frames[own], 0
    return mean, int(used.max())


def registered(frames: Sequence[Floats] | Floats, own: int, drift_px: npt.NDArray[np.floating]) -> tuple[list[Floats], int]:
    """The frames (y, x) of a window that are not missing, each shifted onto the frame `own`, and the place of that one among them.

    drift_px: see `mean_onto`. What a shifted neighbour does not show is the frame's own.
    """
    moves = _moves_onto(frames, own, drift_px)
    there = [n for n in range(len(frames)) if n == own or np.isfinite(frames[n]).any()]
    shifted = [shift_frame(frames[n], *moves[n]) if moves[n].any() else frames[n] for n in there]
    return [np.where(np.isnan(image), frames[own], image) for image in shifted], there.index(own)


def _moves_onto(frames: Sequence[Floats] | Floats, target: int, drift_px: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    if np.shape(drift_px) != (len(frames), 2):
        raise InputError(f"drift_px has shape {np.shape(drift_px)}; ({len(frames)}, 2) is needed: (dy, dx) in pixels for every frame")
    unknown = np.flatnonzero(~np.isfinite(drift_px).all(axis=1))
    if unknown.size:
        raise InputError(f"the drift of frame {int(unknown[0])} of this window is not finite: leave the frame out, or align it again")
    moves = np.asarray(drift_px[target] - drift_px, dtype=np.float64)
    moves[np.hypot(*moves.T) <= DRIFT_LIMIT_PX] = 0.0
    return moves


@njit(inline="always")
def _sum(parts, y, x, total, count):
    """The total and the count with what is not NaN. A tuple's length is known when this is compiled, and the loop unrolled."""
    for k in range(len(parts)):
        value = parts[k][y, x]
        there = value == value
        total += value if there else np.float32(0)
        count += there
    return total, count


@njit(cache=True)
def _add(parts, total, used):
    for y in range(used.shape[0]):
        for x in range(used.shape[1]):
            total[y, x], used[y, x] = _sum(parts, y, x, total[y, x], int(used[y, x]))


@njit(cache=True, error_model="numpy")
def _finish(parts, total, mean, used):
    """Means of the last parts together with the `total` of `used` others, if there is one."""
    for y in range(mean.shape[0]):
        for x in range(mean.shape[1]):
            if total is None:
                added, count = _sum(parts, y, x, 0.0, 0)
            else:
                added, count = _sum(parts, y, x, total[y, x], int(used[y, x]))
            mean[y, x] = added / count
            used[y, x] = count
