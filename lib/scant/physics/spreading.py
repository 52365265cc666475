"""Atoms spread on a fine grid, and fields gathered from it, by a smooth kernel of six cells: the loops of `gridded_sums`, in vectors.

The kernel is the exponential of a semicircle, here as a polynomial for each of its cells. Its slope is the polynomial's own, so what is
spread and what is gathered belong together whatever the polynomials' error, 2e-6 of the kernel's height.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types

from scant.simd import LANES, Emitter, with_signature

KERNEL_WIDTH, KERNEL_DEGREE = 6, 10


def kernel(u: np.ndarray, beta: float) -> np.ndarray:
    """The kernel's values at u, -1 to 1 from its one end to the other; 1 in the middle."""
    return np.asarray(np.exp(beta * (np.sqrt(1 - u**2) - 1)))


def kernel_pieces(beta: float) -> np.ndarray:
    """Polynomials (degree + 1, LANES) of the kernel's cells in the distance f, 0 to 1, of an atom from the first; highest power first.

    Lanes beyond the kernel's cells are 0.
    """
    f = 0.5 + 0.5 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    u = (f[:, None] + np.arange(KERNEL_WIDTH) - KERNEL_WIDTH / 2) / (KERNEL_WIDTH / 2)
    fitted = np.polynomial.chebyshev.chebfit(2 * f - 1, kernel(u, beta), KERNEL_DEGREE)
    pieces = np.zeros((KERNEL_DEGREE + 1, LANES), np.float32)
    for cell in range(KERNEL_WIDTH):
        of_f = np.polynomial.Chebyshev(fitted[:, cell], domain=[0, 1]).convert(kind=np.polynomial.Polynomial)
        pieces[:, cell] = of_f.coef[::-1]
    return pieces


def _emit_kernel(e: Emitter) -> None:
    pieces, f, out, at = e.values
    place = e.splat(f)
    value, slope = e.load(pieces, 0), e.constant(0.0)
    for power in range(1, KERNEL_DEGREE + 1):
        slope = e.fma(slope, place, value)
        value = e.fma(value, place, e.load(pieces, power * LANES))
    e.store(value, out, at)
    # by the atom's place, which f falls with
    e.store(e.builder.fneg(slope), out, e.builder.add(at, ir.Constant(at.type, LANES)))


def _emit_add(e: Emitter) -> None:
    grid, at, stride, kernels, power = e.values
    across = e.builder.fmul(e.load(kernels, 0), e.splat(power))
    for r in range(KERNEL_WIDTH):
        row = e.strided_offset(at, stride, r)
        e.store(e.fma(e.splat(e.builder.load(e.at(kernels, 2 * LANES + r))), across, e.load(grid, row)), grid, row)


def _emit_project(e: Emitter) -> None:
    field, at, stride, kernels, out = e.values
    plain, sloped = e.constant(0.0), e.constant(0.0)
    for r in range(KERNEL_WIDTH):
        row = e.load(field, e.strided_offset(at, stride, r))
        plain = e.fma(e.splat(e.builder.load(e.at(kernels, 2 * LANES + r))), row, plain)
        sloped = e.fma(e.splat(e.builder.load(e.at(kernels, 3 * LANES + r))), row, sloped)
    across, slope = e.load(kernels, 0), e.load(kernels, LANES)
    for k, product in enumerate((e.builder.fmul(plain, across), e.builder.fmul(plain, slope), e.builder.fmul(sloped, across))):
        e.builder.store(e.sum_of_lanes(product), e.at(out, k))


# f(pieces, f, kernels, at): kernels[at : at + 8] are the kernel's values for an atom f beyond the first cell, the next eight its slopes
_kernel = with_signature(types.void, _emit_kernel, 4)
# f(grid, at, stride, kernels, power): adds power times the kernel's values of six rows and eight columns, from the cell `at`
_add = with_signature(types.void, _emit_add, 5)
# f(field, at, stride, kernels, out): the field under the kernel, and its slopes by x and y
_project = with_signature(types.void, _emit_project, 5)


@njit(cache=True)
def _kernels_at(x, y, pieces, kernels):
    """First column and row of the kernel around (x, y) in cells; its values and slopes by x, then those by y, into kernels (4, LANES)."""
    first_x, first_y = int(np.ceil(x - np.float32(KERNEL_WIDTH / 2))), int(np.ceil(y - np.float32(KERNEL_WIDTH / 2)))
    _kernel(pieces, np.float32(first_x - x + np.float32(KERNEL_WIDTH / 2)), kernels, 0)
    _kernel(pieces, np.float32(first_y - y + np.float32(KERNEL_WIDTH / 2)), kernels, 2 * LANES)
    return first_x, first_y


@njit(cache=True)
def spread(waves, weights, pieces, fine):
    """Adds weight * z^m of every atom to the cells around it: waves (B, N, 3) in cells and A, weights (B, N), fine (B, M, ny, nx)."""
    n_orders, ny, nx = fine.shape[1:]
    kernels = np.empty((4, LANES), np.float32)
    for b in range(fine.shape[0]):
        for j in range(waves.shape[1]):
            power = weights[b, j]
            if power == 0:
                continue
            first_x, first_y = _kernels_at(waves[b, j, 0], waves[b, j, 1], pieces, kernels)
            if _whole(first_x, first_y, nx, ny):
                for m in range(n_orders):
                    _add(fine, ((b * n_orders + m) * ny + first_y) * nx + first_x, nx, kernels, power)
                    power *= waves[b, j, 2]
            else:
                for m in range(n_orders):
                    for r in range(KERNEL_WIDTH):
                        for c in range(KERNEL_WIDTH):
                            fine[b, m, (first_y + r) % ny, (first_x + c) % nx] += power * kernels[2, r] * kernels[0, c]
                    power *= waves[b, j, 2]


@njit(cache=True)
def gather(fields, waves, weights, pieces, gradient):
    """Slopes (B, N, 3) of sum_m weight * z^m * field_m(r) by x and y (per cell) and z at every atom; shapes as in `spread`."""
    n_orders, ny, nx = fields.shape[1:]
    kernels, sums = np.empty((4, LANES), np.float32), np.empty(3, np.float32)
    for b in range(fields.shape[0]):
        for j in range(waves.shape[1]):
            first_x, first_y = _kernels_at(waves[b, j, 0], waves[b, j, 1], pieces, kernels)
            inside = _whole(first_x, first_y, nx, ny)
            power, lower = weights[b, j], np.float32(0)
            by_x, by_y, by_z = np.float32(0), np.float32(0), np.float32(0)
            for m in range(n_orders):
                if inside:
                    _project(fields, ((b * n_orders + m) * ny + first_y) * nx + first_x, nx, kernels, sums)
                else:
                    _project_around(fields[b, m], first_x, first_y, kernels, sums)
                by_x += power * sums[1]
                by_y += power * sums[2]
                by_z += lower * sums[0]
                lower = np.float32(m + 1) * power
                power *= waves[b, j, 2]
            gradient[b, j, 0], gradient[b, j, 1], gradient[b, j, 2] = by_x, by_y, by_z


@njit(cache=True)
def _whole(first_x, first_y, nx, ny):
    """Whether the kernel, in whole vectors, crosses no edge of the grid."""
    return first_x >= 0 and first_y >= 0 and first_x + LANES <= nx and first_y + KERNEL_WIDTH <= ny


@njit(cache=True)
def _project_around(field, first_x, first_y, kernels, sums):
    """As `_project` for a kernel that goes on at the other side of the grid."""
    sums[:] = 0
    for r in range(KERNEL_WIDTH):
        for c in range(KERNEL_WIDTH):
            value = field[(first_y + r) % field.shape[0], (first_x + c) % field.shape[1]]
            sums[0] += value * kernels[0, c] * kernels[2, r]
            sums[1] += value * kernels[1, c] * kernels[2, r]
            sums[2] += value * kernels[0, c] * kernels[3, r]
