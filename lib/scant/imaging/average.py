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
from scant.imaging.shift import shift_frame, shifted_row, taps
from scant.xp import on_device

DRIFT_LIMIT_PX = 0.1
"""Relative drift above which a neighbour is shifted before averaging: below it the blur of a 6 px lattice period costs under 0.3 % of
contrast."""

# Rows that are summed over all frames before the next ones: their sums stay in the processor's cache.
STRIP_ROWS = 64

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
    members = [(np.ascontiguousarray(frame, np.float32), taps(dy), taps(dx)) for frame, (dy, dx) in zip(frames, moves, strict=True)]
    shape = members[0][0].shape
    mean, used = np.empty(shape, np.float32), np.zeros(shape, np.uint8)
    sums = np.empty((STRIP_ROWS, shape[1]))
    for top in range(0, shape[0], STRIP_ROWS):
        strip = slice(top, top + STRIP_ROWS)
        total = sums[: len(used[strip])]
        total[:] = 0
        for frame, rows, columns in members:
            _add_shifted(total, used[strip], frame, top, rows, columns)
        _divide(total, used[strip], mean[strip])
    return mean, used


def averaged_frame(frames: Sequence[Floats] | Floats, own: int, drift_px: npt.NDArray[np.floating]) -> tuple[Floats, int]:
    """The mean (y, x) of a window of frames (t, y, x) at its frame `own`, and how many frames it holds; drift_px: see `mean_onto`.

    A neighbour that is missing is NaN everywhere and enters no pixel; where `own` has NaN it comes back as it is, of 0 frames. A shifted
    neighbour does not reach the edge: there the frame itself stands in.
    """
    if not np.isfinite(frames[own]).all():
        return frames[own], 0
    mean, used = mean_onto(frames, own, drift_px)
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


@njit(cache=True)
def _add_shifted(total, used, frame, top, rows, columns):
    """Adds rows [top, top + len(total)) of the shifted frame to the sums, and counts what is not NaN."""
    moved = np.empty(frame.shape[1], np.float32)
    still = rows[0] == 0 and rows[1].size == 1 and columns[0] == 0 and columns[1].size == 1
    for y in range(total.shape[0]):
        if not still:
            shifted_row(frame, top + y, rows, columns, moved)
        line, sums, counts = frame[top + y] if still else moved, total[y], used[y]
        known = 0
        for x in range(line.size):
            known += line[x] == line[x]
        if known == line.size:
            # the usual row, in loops of one width each, which is what LLVM vectorises
            for x in range(line.size):
                sums[x] += line[x]
            for x in range(line.size):
                counts[x] += np.uint8(1)
            continue
        for x in range(line.size):
            there = line[x] == line[x]
            sums[x] += line[x] if there else np.float32(0)
            counts[x] += np.uint8(there)


@njit(cache=True, error_model="numpy")
def _divide(total, used, mean):
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            mean[y, x] = total[y, x] / used[y, x]
