"""Explicit 8-wide vector code for numba: an emitter of LLVM IR on vectors of eight float32, and the 8 x 8 linear algebra of BM3D on top.

LLVM's loop vectoriser unrolls 8 x 8 loops into scalar code before it could vectorise them, and cannot transpose; spelled out in vectors,
the rows of a patch live in registers. The IR is portable: LLVM maps it to AVX, SSE or NEON. Arrays are passed with an offset in elements;
nothing is checked here. numba's cache on disk does not watch this file: after editing it, touch `bm3d_kernels`, `separable` and
`spreading`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

Matrix = npt.NDArray[np.float64]
LANES = 8
FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
WORD = ir.IntType(64)


class Emitter:
    """Writes vector instructions at the builder's place in the function being compiled."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> None:
        self.builder = builder
        self.values = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args)
        ]

    def at(self, pointer: Any, offset: Any) -> Any:
        return self.builder.gep(pointer, [ir.Constant(WORD, offset) if isinstance(offset, int) else offset])

    def load(self, pointer: Any, offset: Any) -> Any:
        return self.builder.load(self.builder.bitcast(self.at(pointer, offset), VECTOR.as_pointer()), align=4)

    def store(self, vector: Any, pointer: Any, offset: Any) -> None:
        self.builder.store(vector, self.builder.bitcast(self.at(pointer, offset), VECTOR.as_pointer()), align=4)

    def store_rows(self, vectors: Sequence[Any], pointer: Any, column: Any) -> None:
        """Row k of a (n, 64) array takes vectors[k] at the given column."""
        for k, vector in enumerate(vectors):
            self.store(vector, pointer, self.builder.add(column, ir.Constant(WORD, k * LANES * LANES)))

    def splat(self, scalar: Any) -> Any:
        single = self.builder.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    def constant(self, value: float) -> Any:
        return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, "llvm.fmuladd.v8f32"), [a, b, c])

    def magnitude(self, vector: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, "llvm.fabs.v8f32"), [vector])

    def smaller(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def larger(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def bits(self, comparison: Any) -> Any:
        """The eight results of a comparison as the low byte of a 64-bit word."""
        return self.builder.zext(self.builder.bitcast(comparison, ir.IntType(8)), WORD)

    def sum_of_lanes(self, vector: Any) -> Any:
        lanes = [self.builder.extract_element(vector, ir.Constant(ir.IntType(32), i)) for i in range(LANES)]
        while len(lanes) > 1:
            lanes = [self.builder.fadd(a, b) for a, b in zip(lanes[0::2], lanes[1::2])]
        return lanes[0]

    def strided_offset(self, start: Any, stride: Any, times: int) -> Any:
        return self.builder.add(start, self.builder.mul(stride, ir.Constant(stride.type, times)))

    def transpose(self, rows: Sequence[Any]) -> list[Any]:
        """8 x 8 transpose in 24 shuffles that stay within 128-bit halves until the last step."""
        low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
        first = [self.shuffle(rows[i], rows[i + 1], mask) for i in (0, 2, 4, 6) for mask in (low, high)]
        low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
        pairs = [(0, 2), (1, 3), (4, 6), (5, 7)]
        second = [self.shuffle(first[i], first[j], mask) for i, j in pairs for mask in (low, high)]
        low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        return [self.shuffle(second[i], second[i + 4], mask) for mask in (low, high) for i in range(4)]

    def shuffle(self, a: Any, b: Any, mask: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask))

    def product(self, matrix: Matrix, rows: Sequence[Any]) -> list[Any]:
        """matrix @ rows for 8 rows of 8; half the work if the columns are even or odd under reversal (inverse DCT), or the rows (DCT)."""
        signs = np.where(np.arange(LANES) % 2 == 0, 1.0, -1.0)
        if np.allclose(matrix[::-1], matrix * signs):
            even = [self.combination(matrix[r, 0::2], rows[0::2]) for r in range(4)]
            odd = [self.combination(matrix[r, 1::2], rows[1::2]) for r in range(4)]
            upper = [self.builder.fadd(e, o) for e, o in zip(even, odd)]
            return upper + [self.builder.fsub(e, o) for e, o in zip(even, odd)][::-1]
        if np.allclose(matrix[:, ::-1], matrix * signs[:, None]):
            folded = [[op(rows[c], rows[7 - c]) for c in range(4)] for op in (self.builder.fadd, self.builder.fsub)]
            return [self.combination(matrix[k, :4], folded[k % 2]) for k in range(LANES)]
        return [self.combination(matrix[k], rows) for k in range(LANES)]

    def combination(self, weights: npt.NDArray[np.float64], rows: Sequence[Any]) -> Any:
        total = None
        for weight, row in zip(weights, rows):
            if abs(weight) > 1e-9:
                total = self.builder.fmul(self.constant(weight), row) if total is None else self.fma(self.constant(weight), row, total)
        return total

    def haar(self, rows: list[Any]) -> list[Any]:
        """Haar transform without its factors: [sum, differences of the coarsest level, ..., of the finest]; see `haar_gains`."""
        details: list[Any] = []
        while len(rows) > 1:
            pairs = list(zip(rows[0::2], rows[1::2]))
            details = [self.builder.fsub(a, b) for a, b in pairs] + details
            rows = [self.builder.fadd(a, b) for a, b in pairs]
        return rows + details

    def inverse_haar(self, coefficients: list[Any]) -> list[Any]:
        rows = coefficients[:1]
        while len(rows) < len(coefficients):
            details = coefficients[len(rows) : 2 * len(rows)]
            rows = [op(a, d) for a, d in zip(rows, details) for op in (self.builder.fadd, self.builder.fsub)]
        return rows


def haar_gains(size: int) -> list[float]:
    """Squared norm of each row of the factorless Haar transform: noise variance grows by it, and the factorless inverse needs 1 / it."""
    gains = [float(size)]
    while len(gains) < size:
        gains += [size / len(gains)] * len(gains)
    return gains


def with_signature(returns: Any, emit: Callable[[Emitter], Any], count: int) -> Any:
    """An intrinsic of `count` arguments whose body is written by `emit`."""

    def typed(arguments: tuple[Any, ...]) -> tuple[Any, Callable[..., Any]]:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            result = emit(Emitter(context, builder, signature, args))
            return context.get_dummy_value() if result is None else result

        return returns(*arguments), codegen

    # numba reads the number of arguments from the function's own signature
    sources = {
        4: lambda ctx, a, b, c, d: typed((a, b, c, d)), 5: lambda ctx, a, b, c, d, e: typed((a, b, c, d, e)),
        6: lambda ctx, a, b, c, d, e, f: typed((a, b, c, d, e, f)), 7: lambda ctx, a, b, c, d, e, f, g: typed((a, b, c, d, e, f, g)),
    }  # fmt: skip
    return intrinsic(sources[count])
