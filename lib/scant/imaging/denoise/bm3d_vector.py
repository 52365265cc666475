"""The six inner steps of BM3D (see `bm3d_kernels`), each a numba intrinsic of 8-wide vector code built by a factory for a fixed size."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from scant.simd import FLOAT, LANES, WORD, Emitter, Matrix, haar_gains, with_signature

CODE_BITS = 12
"""Low bits of a match's float32 key that hold where it is; 11 bits of its distance remain, a resolution of 5e-4."""
LANE_BITS = 6
SMALLEST_DISTANCE = 1e-3
"""Added to every distance, so that the key of an identical patch is no subnormal number. Distances are in units of the noise variance."""


def row_transform(matrix: Matrix) -> Any:
    """f(rows, at, stride, out, out_at): out[64] = matrix @ rows[8, 8].T, the second half of a 2D transform, left transposed."""

    def emit(e: Emitter) -> None:
        rows, start, stride, out, out_at = e.values
        lines = e.transpose([e.load(rows, e.strided_offset(start, stride, k)) for k in range(LANES)])
        target = e.at(out, out_at)
        for k, line in enumerate(e.product(matrix, lines)):
            e.store(line, target, k * LANES)

    return with_signature(types.void, emit, 5)


def nearer(samples: list[tuple[int, int]], width: int) -> Any:
    """f(image, at, own_at, stride, distances, limit) -> bits of the candidates nearer than the limit.

    distances[i] = squared distance of the candidate patch at + i from the reference patch at own_at over the `samples` (row, column), plus
    SMALLEST_DISTANCE, for `width` candidates side by side (a multiple of 8, at most 64).
    """

    def emit(e: Emitter) -> Any:
        image, start, own_at, stride, distances, limit = e.values
        totals: list[Any] = [e.constant(SMALLEST_DISTANCE)] * (width // LANES)
        for r, c in samples:
            row = e.at(image, e.strided_offset(start, stride, r))
            own = e.splat(e.builder.load(e.at(e.at(image, e.strided_offset(own_at, stride, r)), c)))
            for v in range(len(totals)):
                difference = e.builder.fsub(e.load(row, c + v * LANES), own)
                totals[v] = e.fma(difference, difference, totals[v])
        result: Any = ir.Constant(WORD, 0)
        for v, total in enumerate(totals):
            e.store(total, distances, v * LANES)
            byte = e.bits(e.builder.fcmp_ordered("<", total, e.splat(limit)))
            result = e.builder.or_(result, e.builder.shl(byte, ir.Constant(WORD, v * LANES)))
        return result

    return with_signature(types.uint64, emit, 6)


def keep_nearest(size: int) -> Any:
    """f(keys, distances, bits, row) -> largest key kept: merges the candidates of one row that `bits` names into the sorted keys[size].

    A key is a distance whose low bits are replaced by row << LANE_BITS | lane: keys sort by distance, one array holds both. Inserting d
    into sorted a is min(a[i], max(a[i - 1], d)) in all lanes at once: no branch to mispredict (that took 40 % of the time).
    """

    def emit(e: Emitter) -> Any:
        keys, distances, bits, row = e.values
        b, integer = e.builder, ir.IntType(32)
        kept = [cgutils.alloca_once_value(b, e.load(keys, v * LANES)) for v in range(size // LANES)]
        left = cgutils.alloca_once_value(b, bits)
        place = b.trunc(b.shl(row, ir.Constant(WORD, LANE_BITS)), integer)
        with cgutils.for_range(b, b.ctpop(bits)):
            bits = b.load(left)
            lane = b.cttz(bits, ir.Constant(ir.IntType(1), 1))
            b.store(b.and_(bits, b.sub(bits, ir.Constant(WORD, 1))), left)
            high = b.and_(b.bitcast(b.load(e.at(distances, lane)), integer), ir.Constant(integer, -(1 << CODE_BITS)))
            key = e.splat(b.bitcast(b.or_(high, b.or_(place, b.trunc(lane, integer))), FLOAT))
            before = e.constant(0.0)
            for slot in kept:
                current = b.load(slot)
                shifted = e.shuffle(before, current, [7, 8, 9, 10, 11, 12, 13, 14])
                b.store(e.smaller(current, e.larger(shifted, key)), slot)
                before = current
        for v, slot in enumerate(kept):
            e.store(b.load(slot), keys, v * LANES)
        return b.extract_element(b.load(kept[-1]), ir.Constant(integer, LANES - 1))

    return with_signature(types.float32, emit, 4)


def hard_threshold(size: int) -> Any:
    """f(patches, offsets, group, limits, variances) -> sum of the variances of the coefficients kept: Haar across `size` patches of
    64, hard threshold limits[64], inverse Haar, into group."""
    gains = haar_gains(size)

    def emit(e: Emitter) -> Any:
        patches, offsets, group, limits, variances = e.values
        starts = [e.at(patches, e.builder.load(e.at(offsets, k))) for k in range(size)]
        kept = cgutils.alloca_once_value(e.builder, e.constant(0.0))
        with cgutils.for_range(e.builder, ir.Constant(WORD, LANES)) as loop:
            column = e.builder.mul(loop.index, ir.Constant(WORD, LANES))
            coefficients = e.haar([e.load(start, column) for start in starts])
            total, least, variance = e.builder.load(kept), e.load(limits, column), e.load(variances, column)
            for k, gain in enumerate(gains):
                limit = e.builder.fmul(least, e.constant(np.sqrt(gain)))
                large = e.builder.fcmp_ordered(">", e.magnitude(coefficients[k]), limit)
                total = e.builder.fadd(total, e.builder.select(large, variance, e.constant(0.0)))
                coefficients[k] = e.builder.select(large, e.builder.fmul(coefficients[k], e.constant(1 / gain)), e.constant(0.0))
            e.builder.store(total, kept)
            e.store_rows(e.inverse_haar(coefficients), group, column)
        return e.sum_of_lanes(e.builder.load(kept))

    return with_signature(types.float32, emit, 5)


def wiener(size: int) -> Any:
    """f(noisy, pilot, offsets, group, variances) -> sum of squared weights times variances[64]: Haar of both groups, weights
    p^2 / (p^2 + variance), inverse, into group."""
    gains = haar_gains(size)

    def emit(e: Emitter) -> Any:
        noisy, pilot, offsets, group, variances = e.values
        starts = [e.builder.load(e.at(offsets, k)) for k in range(size)]
        power = cgutils.alloca_once_value(e.builder, e.constant(0.0))
        with cgutils.for_range(e.builder, ir.Constant(WORD, LANES)) as loop:
            column = e.builder.mul(loop.index, ir.Constant(WORD, LANES))
            known = e.haar([e.load(e.at(pilot, start), column) for start in starts])
            coefficients = e.haar([e.load(e.at(noisy, start), column) for start in starts])
            total, variance = e.builder.load(power), e.load(variances, column)
            for k, gain in enumerate(gains):
                square = e.builder.fmul(known[k], known[k])
                noise = e.builder.fmul(variance, e.constant(gain))
                weight = e.builder.fdiv(square, e.builder.fadd(square, noise))
                total = e.fma(e.builder.fmul(weight, weight), variance, total)
                coefficients[k] = e.builder.fmul(e.builder.fmul(coefficients[k], weight), e.constant(1 / gain))
            e.builder.store(total, power)
            e.store_rows(e.inverse_haar(coefficients), group, column)
        return e.sum_of_lanes(e.builder.load(power))

    return with_signature(types.float32, emit, 5)


def aggregate(inverse: Matrix) -> Any:
    """f(patch, at, sums, sums_at, stride, window): the inverse 2D transform of patch[64] (transposed, as `row_transform` leaves it) onto
    the image.

    sums holds two images (weighted values, weights) with rows interleaved, `stride` apart: value row, weight row, next value row.
    """

    def emit(e: Emitter) -> None:
        patch, start, sums, place, stride, window = e.values
        source = e.at(patch, start)
        lines = e.product(inverse, [e.load(source, k * LANES) for k in range(LANES)])
        for r, row in enumerate(e.product(inverse, e.transpose(lines))):
            values, weights = (e.at(sums, e.strided_offset(place, stride, 2 * r + which)) for which in (0, 1))
            factor = e.load(window, r * LANES)
            e.store(e.fma(row, factor, e.load(values, 0)), values, 0)
            e.store(e.builder.fadd(e.load(weights, 0), factor), weights, 0)

    return with_signature(types.void, emit, 6)
