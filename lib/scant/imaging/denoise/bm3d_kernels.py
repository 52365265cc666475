"""One stage of BM3D over an image: block matching, rolling rows of patch transforms, filtering of the groups, aggregation.

The image is walked in vertical strips, each copied out and walked from top to bottom, once for the matches and once for each image that
is filtered by them. The 2D transforms of all patches within reach of a row of reference patches are kept in a ring of WINDOW_ROWS rows,
each computed once per strip (every patch serves many groups); a strip is narrow so that ring and sums stay near the core, and copied
because rows a power of two apart fight for the same cache lines (2048 columns: 30 % slower). The order of all sums is fixed: results are
bit-identical from run to run.

numba's cache on disk watches this file alone: after editing `bm3d_vector` or `simd`, touch it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from scant.imaging.denoise import bm3d_vector as vector
from scant.imaging.denoise.bm3d_vector import CODE_BITS, LANE_BITS
from scant.simd import LANES, Matrix

PATCH = LANES
WINDOW_ROWS = 39
WINDOW_COLUMNS = 40
STRIP_COLUMNS = 128
GROUP = 16
NEAREST = np.float32(1e-6)
SMALLEST_KEPT = np.float32(1.0)
SMALLEST_POWER = np.float32(1e-3)
FAR = np.float32(1e30)
_LANE_MASK = (1 << LANE_BITS) - 1
_CODE_MASK = (1 << CODE_BITS) - 1


def dct_matrix() -> Matrix:
    """Orthonormal DCT-II of length 8, one basis function per row."""
    k, c = np.mgrid[:PATCH, :PATCH]
    matrix = np.cos(np.pi * (2 * c + 1) * k / (2 * PATCH)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def biorthogonal_matrix() -> Matrix:
    """Periodic bior1.5 wavelet analysis of length 8 (Cohen, Daubechies & Feauveau 1992), rows of norm 1: white noise keeps its sd."""
    low = np.array([3, -3, -22, 22, 128, 128, 22, -22, -3, 3]) * math.sqrt(2) / 256
    rows, details = np.eye(PATCH), np.empty((0, PATCH))
    while len(rows) > 1:
        pairs = 2 * np.arange(len(rows) // 2)
        details = np.vstack([(rows[pairs + 1] - rows[pairs]) / math.sqrt(2), details])
        rows = sum(low[tap] * rows[(pairs + tap - 4) % len(rows)] for tap in range(low.size))
    matrix = np.vstack([rows, details])
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


# Noisy patches are matched on three pixels of four (half of them: 0.1 dB worse at sigma 0.2), on raw ones, not on low-pass sums: the
# nearest of 1,500 candidates then share the reference's noise in no particular coefficient (2 x 2 sums select low-frequency noise that the
# threshold keeps: 0.9 dB worse on camera at sigma 50). The pilot is smooth: 12 pixels will do (8: 0.1 dB worse on a lattice at sigma 0.2;
# all 64: 0.1 dB worse on camera, since what is left of the noise decides among patches that are truly alike).
NOISY_SAMPLES = [(r, c) for r in range(PATCH) for c in range(PATCH) if (r + 2 * c) % 4]
PILOT_SAMPLES = [(0, 3), (1, 1), (1, 5), (2, 0), (3, 3), (3, 7), (4, 7), (5, 1), (5, 5), (6, 4), (7, 3), (7, 7)]

_hard_transform = vector.row_transform(biorthogonal_matrix())
_hard_aggregate = vector.aggregate(np.linalg.inv(biorthogonal_matrix()).astype(np.float64))
_hard_nearer = vector.nearer(NOISY_SAMPLES, WINDOW_COLUMNS)
_hard_keep = vector.keep_nearest(GROUP)
_hard_threshold = vector.hard_threshold(GROUP)
_wiener_transform = vector.row_transform(dct_matrix())
_wiener_aggregate = vector.aggregate(dct_matrix().T)
_wiener_nearer = vector.nearer(PILOT_SAMPLES, WINDOW_COLUMNS)
_wiener_keep = vector.keep_nearest(GROUP)
_wiener_filter = vector.wiener(GROUP)


@njit(cache=True, error_model="numpy")
def columns_transform(image, row, matrix, out):
    """First half of the 2D transforms of the patches starting in `row`: out[k, x] = sum_r matrix[k, r] image[row + r, x]."""
    width = out.shape[1]
    r0, r1, r2, r3 = image[row], image[row + 1], image[row + 2], image[row + 3]
    r4, r5, r6, r7 = image[row + 4], image[row + 5], image[row + 6], image[row + 7]
    for k in range(PATCH):
        a, b, c, d, e, f, g, h = matrix[k]
        line = out[k]
        for x in range(width):
            line[x] = a * r0[x] + b * r1[x] + c * r2[x] + d * r3[x] + e * r4[x] + f * r5[x] + g * r6[x] + h * r7[x]


class Stage(NamedTuple):
    """How one stage filters, in units of the noise sd: hard threshold, or the Wiener filter guided by a pilot. `limits` (64,), of the
    threshold, and `variances` (64,) of the noise are those of a transformed patch's coefficients, transposed as `row_transform` leaves
    them."""

    hard: bool
    matrix: npt.NDArray[np.float32]
    limits: npt.NDArray[np.float32]
    variances: npt.NDArray[np.float32]
    window: npt.NDArray[np.float32]


@njit(cache=True, error_model="numpy")
def match_strip(image, hard, rows, columns):
    """Sorted keys (n, GROUP) of the patches nearest to each of a strip's reference patches, at rows and, by turns, columns[0] and [1].

    hard: the image is noisy, and patches are compared on more of their pixels than on a pilot's. It must hold the search windows.
    """
    last_row, last_column = (image.shape[0] - PATCH + 1 - WINDOW_ROWS, image.shape[1] - PATCH + 1 - WINDOW_COLUMNS)
    count = (len(rows) + 1) // 2 * len(columns[0]) + len(rows) // 2 * len(columns[1])
    keys, distances = np.empty((count, GROUP), np.float32), np.empty(64, np.float32)
    at = 0
    for turn, row in enumerate(rows):
        top = _window_start(row, WINDOW_ROWS, last_row)
        for column in columns[turn % 2]:
            _match(image, hard, (row, column), (top, _window_start(column, WINDOW_COLUMNS, last_column)), distances, keys[at])
            at += 1
    return keys


@njit(cache=True, error_model="numpy")
def filter_strip(stage, noisy, pilot, rows, columns, keys, sums):
    """Filters the groups that `match_strip` found for the same rows and columns; adds weighted values and weights to sums (y, 2, x)."""
    last_row, last_column = (noisy.shape[0] - PATCH + 1 - WINDOW_ROWS, noisy.shape[1] - PATCH + 1 - WINDOW_COLUMNS)
    n_images, positions = 1 if stage.hard else 2, noisy.shape[1] - PATCH + 1
    ring = np.empty((n_images, WINDOW_ROWS, positions, PATCH * PATCH), dtype=np.float32)
    group, offsets = np.empty(PATCH * PATCH * GROUP, dtype=np.float32), np.empty(GROUP, np.int64)
    codes = keys.view(np.int32)
    done = at = 0
    for turn, row in enumerate(rows):
        top = _window_start(row, WINDOW_ROWS, last_row)
        while done < top + WINDOW_ROWS:
            for which in range(n_images):
                _transform_row(stage, noisy if which == 0 else pilot, done, ring[which])
            done += 1
        for column in columns[turn % 2]:
            window = top, _window_start(column, WINDOW_COLUMNS, last_column)
            _filter_group(stage, window, ring, codes[at], offsets, group, sums)
            at += 1


@njit(cache=True, error_model="numpy")
def _window_start(position, length, last):
    return min(max(position - length // 2, 0), last)


@njit(cache=True, error_model="numpy")
def _transform_row(stage, image, row, ring):
    half = np.empty((PATCH, image.shape[1]), dtype=np.float32)
    columns_transform(image, row, stage.matrix, half)
    line = ring[row % WINDOW_ROWS].reshape(-1)
    for x in range(ring.shape[1]):
        if stage.hard:
            _hard_transform(half, x, half.shape[1], line, x * PATCH * PATCH)
        else:
            _wiener_transform(half, x, half.shape[1], line, x * PATCH * PATCH)


@njit(cache=True, error_model="numpy")
def _match(image, hard, own, window, distances, keys):
    """Leaves the sorted keys of the nearest patches; the reference itself is always the first."""
    (row, column), (top, left), stride = own, window, image.shape[1]
    keys[:] = FAR
    keys[0] = NEAREST
    codes = keys.view(np.int32)
    for k in range(keys.size):
        codes[k] = (codes[k] & ~_CODE_MASK) | ((row - top) << LANE_BITS) | (column - left)
    limit = FAR
    for step in range(2 * WINDOW_ROWS):
        # from the reference's row outwards: near patches are alike, so the limit falls early
        candidate = row + (step + 1) // 2 if step % 2 else row - step // 2
        if candidate < top or candidate >= top + WINDOW_ROWS:
            continue
        at, own_at = candidate * stride + left, row * stride + column
        if hard:
            bits = _hard_nearer(image, at, own_at, stride, distances, limit)
        else:
            bits = _wiener_nearer(image, at, own_at, stride, distances, limit)
        if step == 0:
            bits &= ~(np.uint64(1) << np.uint64(column - left))
        if bits != 0:
            limit = _hard_keep(keys, distances, bits, candidate - top) if hard else _wiener_keep(keys, distances, bits, candidate - top)


@njit(cache=True, error_model="numpy")
def _filter_group(stage, window, ring, codes, offsets, group, sums):
    top, left = window
    for k in range(GROUP):
        row, column = _place(codes[k], top, left)
        offsets[k] = ((row % WINDOW_ROWS) * ring.shape[2] + column) * PATCH * PATCH
    if stage.hard:
        weight = np.float32(1.0) / max(_hard_threshold(ring[0], offsets, group, stage.limits, stage.variances), SMALLEST_KEPT)
    else:
        weight = np.float32(1.0) / max(_wiener_filter(ring[0], ring[1], offsets, group, stage.variances), SMALLEST_POWER)
    factors = np.float32(weight) * stage.window
    stride = sums.shape[2]
    for k in range(GROUP):
        row, column = _place(codes[k], top, left)
        at = 2 * row * stride + column
        if stage.hard:
            _hard_aggregate(group, k * PATCH * PATCH, sums, at, stride, factors)
        else:
            _wiener_aggregate(group, k * PATCH * PATCH, sums, at, stride, factors)


@njit(cache=True, error_model="numpy")
def _place(code, top, left):
    return top + ((code & _CODE_MASK) >> LANE_BITS), left + (code & _LANE_MASK)
