"""Images of many equal atoms, and correlations with them, the atom's image being a sum of eight products of functions of x and of y.

A smooth round image has that form to a few parts in 10,000, and pixels then cost eight multiply-adds on vectors of eight instead of a
look-up each. All in float32, on images with a border of `SeparableImage.width` empty pixels around, so that no pixel needs a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numba.core import cgutils, types
from numpy.typing import NDArray

from scant.simd import LANES, VECTOR, Emitter, with_signature

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

RANK = 8
STEPS_PER_PX = 64


@dataclass(frozen=True)
class SeparableImage:
    """h(x, y) = sum over m of strength_m phi_m(x) phi_m(y) around an atom.

    `value` and `slope` (steps + 1, RANK, width) hold phi and its derivative per pixel: for a position that many `STEPS_PER_PX`-ths of a
    pixel right of a pixel's centre, at the `width` pixels from the one `before` to the left of that. `strength` (RANK,).
    """

    value: Array32
    slope: Array32
    strength: Array32
    before: int

    @property
    def width(self) -> int:
        return int(self.value.shape[2])

    @property
    def peak(self) -> float:
        """h(0, 0)."""
        return float(self.strength @ self.value[0, :, self.before].astype(np.float64) ** 2)


def sampled_offsets_px(reach_px: float) -> tuple[Array, int]:
    """(steps + 1, width) distances from an atom at which a `SeparableImage` is tabulated, the width a multiple of 8, and its `before`."""
    before = int(np.ceil(reach_px)) - 1
    width = -(-2 * (before + 1) // LANES) * LANES
    return np.arange(width) - before - np.arange(STEPS_PER_PX + 1)[:, None] / STEPS_PER_PX, before


def render(positions_px: Array, amplitude: Array, atom: SeparableImage, shape: tuple[int, ...]) -> Array:
    """(ny, nx): the atoms' images at (n, 2) positions (x, y), each times its amplitude, added up."""
    pad = atom.width
    image = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), dtype=np.float32)
    _render(positions_px, amplitude.astype(np.float32), atom.value, atom.strength, atom.before, image)
    return np.asarray(image[pad:-pad, pad:-pad], dtype=np.float64)


def responses(positions_px: Array, image: Array, atom: SeparableImage) -> Array:
    """(n, 3): correlation of an image with each atom's own, and with the derivatives of that by the atom's x and y."""
    out = np.zeros((len(positions_px), 3))
    _correlate(positions_px, _padded(image, atom), atom.value, atom.slope, atom.strength, atom.before, out)
    return out


def visible_weight(positions_px: Array, weight: Array, atom: SeparableImage) -> Array:
    """(n,) mean pixel weight under the square of each atom's image: falls off at the edge of the view and at masked pixels."""
    out = np.zeros(len(positions_px))
    _visible(positions_px, _padded(weight, atom), atom.value, atom.strength, atom.before, out)
    return out


def _padded(image: Array, atom: SeparableImage) -> Array32:
    return np.pad(image.astype(np.float32), atom.width)


def _emit_add(e: Emitter) -> None:
    image, start, stride, along, across, column, width = e.values
    parts = [e.load(across, e.strided_offset(column, width, m)) for m in range(RANK)]
    with cgutils.for_range(e.builder, width) as loop:
        at = e.builder.add(start, e.builder.mul(stride, loop.index))
        total = e.load(image, at)
        for m, part in enumerate(parts):
            total = e.fma(e.splat(e.builder.load(e.at(along, e.strided_offset(loop.index, width, m)))), part, total)
        e.store(total, image, at)


def _emit_project(e: Emitter) -> None:
    image, start, stride, along, out, column, width = e.values
    totals: list[Any] = [cgutils.alloca_once(e.builder, VECTOR) for _ in range(RANK)]
    for total in totals:
        e.builder.store(e.constant(0.0), total)
    with cgutils.for_range(e.builder, width) as loop:
        row = e.load(image, e.builder.add(start, e.builder.mul(stride, loop.index)))
        for m, total in enumerate(totals):
            weight = e.splat(e.builder.load(e.at(along, e.strided_offset(loop.index, width, m))))
            e.builder.store(e.fma(weight, row, e.builder.load(total)), total)
    for m, total in enumerate(totals):
        e.store(e.builder.load(total), out, e.strided_offset(column, width, m))


# f(image, at, stride, along, across, column, width): image[at + r * stride + k] += sum over m of along[m, r] across[m, column + k], all
# r < width, k < 8
_add = with_signature(types.void, _emit_add, 7)
# f(image, at, stride, along, out, column, width): out[m, column + k] = sum over r of along[m, r] image[at + r * stride + k]
_project = with_signature(types.void, _emit_project, 7)


@njit(cache=True, error_model="numpy")
def _at(table, offset, out):
    """The functions' values at all pixels for an atom `offset` of a pixel right of a pixel's centre."""
    i = min(int(offset * STEPS_PER_PX), STEPS_PER_PX - 1)
    u = np.float32(offset * STEPS_PER_PX - i)
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[m, k] = table[i, m, k] + u * (table[i + 1, m, k] - table[i, m, k])


@njit(cache=True)
def _corner(x, y, before, width, shape):
    """Row and column, in the padded image, of the first pixel of an atom's square, and whether that lies inside."""
    row, column = int(np.floor(y)) - before + width, int(np.floor(x)) - before + width
    return row, column, row >= 0 and column >= 0 and row + width <= shape[0] and column + width <= shape[1]


@njit(cache=True, error_model="numpy")
def _add_square(image, row, column, along, across, strength, amplitude):
    """Adds an atom's image, whose functions have these values, from a pixel on; `along` is scaled on the way."""
    stride, width = image.shape[1], along.shape[1]
    for m in range(RANK):
        for k in range(width):
            along[m, k] *= strength[m] * amplitude
    for k in range(0, width, LANES):
        _add(image, row * stride + column + k, stride, along, across, k, width)


@njit(cache=True, error_model="numpy")
def _render(positions, amplitude, value, strength, before, image):
    width = value.shape[2]
    across, along = np.empty((RANK, width), np.float32), np.empty((RANK, width), np.float32)
    for n in range(positions.shape[0]):
        x, y = positions[n, 0], positions[n, 1]
        row, column, inside = _corner(x, y, before, width, image.shape)
        if inside:
            _at(value, x - np.floor(x), across)
            _at(value, y - np.floor(y), along)
            _add_square(image, row, column, along, across, strength, amplitude[n])


# reassociated sums: dot products use the processor's vectors
@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _correlate(positions, image, value, slope, strength, before, out):
    width, stride = value.shape[2], image.shape[1]
    across, along, rise, climb, level, tilt = [np.empty((RANK, width), np.float32) for _ in range(6)]
    for n in range(positions.shape[0]):
        x, y = positions[n, 0], positions[n, 1]
        row, column, inside = _corner(x, y, before, width, image.shape)
        if inside:
            for table, in_x, in_y in ((value, across, along), (slope, rise, climb)):
                _at(table, x - np.floor(x), in_x)
                _at(table, y - np.floor(y), in_y)
            for k in range(0, width, LANES):
                at = row * stride + column + k
                _project(image, at, stride, along, level, k, width)
                _project(image, at, stride, climb, tilt, k, width)
            for m in range(RANK):
                own, by_x, by_y = np.float32(0), np.float32(0), np.float32(0)
                for k in range(width):
                    own += across[m, k] * level[m, k]
                    by_x += rise[m, k] * level[m, k]
                    by_y += across[m, k] * tilt[m, k]
                out[n, 0] += strength[m] * own
                out[n, 1] -= strength[m] * by_x
                out[n, 2] -= strength[m] * by_y


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _visible(positions, image, value, strength, before, out):
    width = value.shape[2]
    across, along, patch = np.empty((RANK, width), np.float32), np.empty((RANK, width), np.float32), np.empty((width, width), np.float32)
    for n in range(positions.shape[0]):
        x, y = positions[n, 0], positions[n, 1]
        row, column, inside = _corner(x, y, before, width, image.shape)
        if inside:
            _at(value, x - np.floor(x), across)
            _at(value, y - np.floor(y), along)
            patch[:] = 0
            _add_square(patch, 0, 0, along, across, strength, np.float32(1))
            total, seen = np.float32(0), np.float32(0)
            for r in range(width):
                for k in range(width):
                    square = patch[r, k] * patch[r, k]
                    total += square
                    seen += square * image[row + r, column + k]
            out[n] = seen / total
