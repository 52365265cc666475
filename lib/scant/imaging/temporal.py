"""Exact median and MAD of every pixel over time, and the frames that must stay out of them.

Long movies are represented by evenly spread samples (`io.blocks.sample_frames`): the stack of samples is the partial result, and two parts
merge by stacking, so tiling the movie in space or reading it in blocks cannot change the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from scant.errors import InputError

MAD_TO_SIGMA = 1.482602218505602
"""Standard deviation of a Gaussian over its median absolute deviation."""

_TILE_PX = 256
_LARGEST_STACK = 65535
_LEVEL_PIXELS = 250_000
_SATURATED_SHARE = 0.05
_NON_FINITE_SHARE = 0.01
_SMALLEST_FULL_SCALE_ADU = 255


@dataclass(frozen=True)
class TemporalStatistics:
    """Median and MAD over time, (y, x) float64 in the unit of the frames; `n_frames` went into them. NaN where no sample was finite."""

    median_adu: np.ndarray
    mad_adu: np.ndarray
    n_frames: int


def temporal_median_mad(frames: np.ndarray, valid: np.ndarray | None = None) -> TemporalStatistics:
    """Exact median and (unscaled) median absolute deviation over time.

    `frames` (t, y, x): uint16 and uint8 by bisection over the value, which runs in SIMD lanes over neighbouring pixels; every other
    type by sorting each pixel's finite samples (a NaN costs its own sample, not the pixel, unlike np.median). `valid` (t,) bool leaves
    frames out. The middle two are averaged for even counts, as numpy does. Raises InputError when no frame is left.
    """
    if frames.ndim != 3:
        raise InputError(f"temporal statistics need frames (t, y, x), got shape {frames.shape}")
    kept = np.ones(len(frames), bool) if valid is None else np.asarray(valid, bool)
    if kept.shape != (len(frames),):
        raise InputError(f"valid has shape {kept.shape}, expected ({len(frames)},): one flag per frame")
    n_kept = int(kept.sum())
    if not 1 <= n_kept <= _LARGEST_STACK:
        raise InputError(f"{n_kept} of {len(frames)} frames are usable, need 1 to {_LARGEST_STACK}: see the frame faults")
    chosen = np.flatnonzero(kept)
    height, width = frames.shape[1:]
    median, mad = np.empty((height, width)), np.empty((height, width))
    if frames.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        _bisect_rows(frames, chosen, median, mad)
    else:
        _sort_pixels(frames, chosen, median, mad)
    return TemporalStatistics(median, mad, n_kept)


@njit(cache=True)
def _order_statistics(tile, width, rank, low, high, count):
    """Into `low` and `high` (uint16, per lane): the values of rank `rank` and `rank + 1` (from 0) along axis 0 of `tile`."""
    n = tile.shape[0]
    smallest, largest = tile[0, 0], tile[0, 0]
    for k in range(n):
        for j in range(width):
            smallest = min(smallest, tile[k, j])
            largest = max(largest, tile[k, j])
    for j in range(width):
        low[j] = smallest
    bit = 1
    while bit <= int(largest) - int(smallest):
        bit *= 2
    bit //= 2
    while bit:
        for j in range(width):
            high[j] = np.uint16(min(int(low[j]) + bit, 65535))
            count[j] = 0
        for k in range(n):
            for j in range(width):
                count[j] += np.uint16(tile[k, j] < high[j])
        for j in range(width):
            if count[j] <= rank and int(low[j]) + bit <= 65535:
                low[j] = high[j]
        bit //= 2
    for j in range(width):
        high[j] = 65535
        count[j] = 0
    for k in range(n):
        for j in range(width):
            value = tile[k, j]
            count[j] += np.uint16(value <= low[j])
            high[j] = value if (value > low[j]) and (value < high[j]) else high[j]
    for j in range(width):
        if count[j] > rank + 1:
            high[j] = low[j]


@njit(cache=True)
def _bisect_rows(frames, chosen, median, mad):
    """Median and MAD of unsigned integers, tile by tile of neighbouring pixels."""
    n, even = chosen.size, chosen.size % 2 == 0
    rank = (n - 1) // 2
    height, width = median.shape
    tile = np.empty((n, _TILE_PX), np.uint16)
    low, high, count = np.empty(_TILE_PX, np.uint16), np.empty(_TILE_PX, np.uint16), np.empty(_TILE_PX, np.uint16)
    twice = np.empty(_TILE_PX, np.int32)
    for y in range(height):
        for x in range(0, width, _TILE_PX):
            w = min(_TILE_PX, width - x)
            for k in range(n):
                for j in range(w):
                    tile[k, j] = frames[chosen[k], y, x + j]
            _order_statistics(tile, w, rank, low, high, count)
            for j in range(w):
                twice[j] = np.int32(low[j]) + np.int32(high[j] if even else low[j])
                median[y, x + j] = 0.5 * twice[j]
            # |2 v - 2 median| has one parity for all samples of a pixel: its half, rounded down, still fits 16 bits and orders them
            for k in range(n):
                for j in range(w):
                    tile[k, j] = np.uint16(abs(2 * np.int32(tile[k, j]) - twice[j]) >> 1)
            _order_statistics(tile, w, rank, low, high, count)
            for j in range(w):
                odd = 0.5 * (twice[j] & 1)
                mad[y, x + j] = odd + 0.5 * (float(low[j]) + float(high[j] if even else low[j]))


@njit(cache=True)
def _middle(values):
    """Median of sorted values."""
    n = values.size
    return 0.5 * (values[(n - 1) // 2] + values[n // 2])


@njit(cache=True)
def _sort_pixels(frames, chosen, median, mad):
    """Median and MAD of any number type, pixel by pixel over the finite samples."""
    samples = np.empty(chosen.size)
    for y in range(median.shape[0]):
        for x in range(median.shape[1]):
            n = 0
            for k in chosen:
                value = float(frames[k, y, x])
                if np.isfinite(value):
                    samples[n] = value
                    n += 1
            if n == 0:
                median[y, x] = mad[y, x] = np.nan
                continue
            samples[:n].sort()
            middle = _middle(samples[:n])
            median[y, x] = middle
            for k in range(n):
                samples[k] = abs(samples[k] - middle)
            samples[:n].sort()
            mad[y, x] = _middle(samples[:n])


def frame_levels(frames: np.ndarray) -> np.ndarray:
    """Level of every frame, (t,) in ADU: mean of the lower 99.5 % of the finite pixels (a median cannot tell 0.4 from 0.1 electrons).

    Large frames are sampled on an even grid of about 250,000 pixels. NaN for a frame without finite pixels.
    """
    step = max(1, int(np.sqrt(frames[0].size / _LEVEL_PIXELS)))
    levels = np.full(len(frames), np.nan)
    for i, frame in enumerate(frames):
        values = frame[::step, ::step]
        values = values[np.isfinite(values)].astype(np.float64)
        n = int(np.ceil(0.995 * values.size))
        if n:
            levels[i] = np.partition(values, n - 1)[:n].mean()
    return levels


def frame_faults(frames: np.ndarray, offset_adu: float = 0.0, expected_level_adu: float | None = None) -> list[str | None]:
    """For every frame of (t, y, x) None, or why it must stay out of medians and neighbour means.

    "nan": more than 1 % of the pixels are not finite. "saturated": more than 5 % sit at one maximum of at least 255 ADU. "empty": all
    pixels equal, or the level less than 5 % of the expected level above `offset_adu`. "dim" and "bright": below half or above twice it.
    `expected_level_adu` is the movie's own level (median of `frame_levels` over sampled frames); None takes it from these frames, which
    makes the verdict depend on the block. Never raises on the values of a frame.
    """
    levels = frame_levels(frames)
    usable = levels[np.isfinite(levels) & (levels > offset_adu)]
    expected = float(np.median(usable)) if expected_level_adu is None and usable.size else (expected_level_adu or 0.0)
    return [_fault(frame, level - offset_adu, expected - offset_adu) for frame, level in zip(frames, levels)]


def _fault(frame: np.ndarray, signal_adu: float, expected_signal_adu: float) -> str | None:
    finite = np.isfinite(frame)
    if np.mean(~finite) > _NON_FINITE_SHARE:
        return "nan"
    values = frame[finite]
    largest = values.max()
    if largest >= _SMALLEST_FULL_SCALE_ADU and np.mean(values == largest) > _SATURATED_SHARE:
        return "saturated"
    if values.min() == largest:
        return "empty"
    if expected_signal_adu <= 0:
        return None
    ratio = signal_adu / expected_signal_adu
    for fault, is_so in (("empty", ratio < 0.05), ("dim", ratio < 0.5), ("bright", ratio > 2.0)):
        if is_so:
            return fault
    return None
