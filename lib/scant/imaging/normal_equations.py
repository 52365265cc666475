"""Sparse normal equations of coupled atoms: put together on a pattern that is found once, and solved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

SOLVER_STEPS = 200


def neighbour_pairs(positions: Array, reach_px: float) -> Ints:
    """Sorted pairs (i, j), i <= j, closer than the reach, the diagonal included."""
    pairs = cKDTree(positions).query_pairs(reach_px, output_type="ndarray")
    diagonal = np.repeat(np.arange(len(positions))[:, None], 2, axis=1)
    both = np.concatenate([np.sort(pairs, axis=1), diagonal])
    return np.asarray(both[np.lexsort((both[:, 1], both[:, 0]))], dtype=np.int64)


@dataclass(frozen=True)
class Pattern:
    """Where the 2 x 2 blocks of n atoms stand in a CSR matrix (2n, 2n): `pairs` (p, 2), i <= j, and bonds (m, 2) among them.

    `slot` (p,) and `mirrored` (p,) number the blocks (i, j) and (j, i), one and the same on the diagonal; `own` (n,) those of the
    diagonal, `bonded` (m, 2) those of (a, b) and (b, a). `indptr`, `indices` are the matrix's own; block k, row r begins at `start[k, r]`.
    """

    pairs: Ints
    bonds: Ints
    slot: Ints
    mirrored: Ints
    own: Ints
    bonded: Ints
    start: Ints
    indptr: Ints
    indices: Ints

    @classmethod
    def of(cls, n: int, pairs: Ints, bonds: Ints) -> Pattern:
        """The pattern of sorted pairs; a bond between atoms that are no pair becomes one."""
        keys, wanted = pairs @ [n, 1], np.sort(bonds, axis=1) @ [n, 1]
        far = wanted[keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] != wanted]
        keys = np.sort(np.concatenate([keys, far]))
        pairs = np.stack([keys // n, keys % n], axis=1)
        per_row, row, column, slot, mirrored = _blocks(n, pairs)
        first = np.cumsum(per_row) - per_row
        # row 2i holds the upper rows of all blocks of i, row 2i + 1 the lower ones
        start = (2 * (first[row] + np.arange(len(row))))[:, None] + 2 * per_row[row][:, None] * np.arange(2)
        indices = np.empty(4 * len(row), dtype=np.int64)
        for r in range(2):
            for c in range(2):
                indices[start[:, r] + c] = 2 * column + c
        indptr = np.concatenate([[0], np.cumsum(np.repeat(2 * per_row, 2))])
        own, bonded = slot[pairs[:, 0] == pairs[:, 1]], np.searchsorted(keys, wanted)
        there, back = slot[bonded], mirrored[bonded]
        upward = bonds[:, 0] < bonds[:, 1]
        ends = np.stack([np.where(upward, there, back), np.where(upward, back, there)], axis=1)
        return cls(pairs, bonds, slot, mirrored, own, ends, start, indptr, indices)

    def matrix(self, coupling: Array, stiffness: Array, ridge: float) -> sp.csr_matrix:
        """Couplings (p, 2, 2) of pairs, stiffness (m, 2, 2) of bonds and a ridge on the diagonal, as a symmetric CSR matrix."""
        data = np.zeros(4 * len(self.start))
        _fill(self.start, self.slot, self.mirrored, self.own, self.bonds, self.bonded, coupling, stiffness, ridge, data)
        return sp.csr_matrix((data, self.indices, self.indptr), shape=(2 * len(self.own),) * 2)


@njit(cache=True)
def _blocks(n, pairs):
    """Blocks per row, row and column of all blocks in order, and where the two blocks (i, j) and (j, i) of each sorted pair stand."""
    per_row = np.zeros(n, np.int64)
    for i, j in pairs:
        per_row[i] += 1
        if i != j:
            per_row[j] += 1
    free = np.cumsum(per_row) - per_row
    row, column = np.empty(per_row.sum(), np.int64), np.empty(per_row.sum(), np.int64)
    slot, mirrored = np.empty(len(pairs), np.int64), np.empty(len(pairs), np.int64)
    # a row's blocks left of the diagonal come first, and the pairs are in the order of their first atoms
    for p in range(len(pairs)):
        i, j = pairs[p]
        if i != j:
            mirrored[p] = free[j]
            row[free[j]], column[free[j]] = j, i
            free[j] += 1
    for p in range(len(pairs)):
        i, j = pairs[p]
        slot[p] = free[i]
        row[free[i]], column[free[i]] = i, j
        free[i] += 1
        if i == j:
            mirrored[p] = slot[p]
    return per_row, row, column, slot, mirrored


@njit(cache=True)
def _fill(start, slot, mirrored, own, bonds, bonded, coupling, stiffness, ridge, data):
    for p in range(slot.shape[0]):
        for r in range(2):
            for c in range(2):
                data[start[slot[p], r] + c] = coupling[p, r, c]
                data[start[mirrored[p], r] + c] = coupling[p, c, r]
    for b in range(bonds.shape[0]):
        for end in range(2):
            for r in range(2):
                for c in range(2):
                    data[start[bonded[b, end], r] + c] -= stiffness[b, r, c]
                    data[start[own[bonds[b, end]], r] + c] += stiffness[b, r, c]
    for n in range(own.shape[0]):
        data[start[own[n], 0]] += ridge
        data[start[own[n], 1] + 1] += ridge


def block_jacobi(normal: sp.csr_matrix, width: int) -> LinearOperator:
    """The inverse of each atom's own block, for `solved`."""
    blocks = np.linalg.inv(own_blocks(normal, width))

    def apply(x: Array) -> Array:
        return np.asarray(np.einsum("nab,nb->na", blocks, x.reshape(-1, width)).ravel())

    return LinearOperator(normal.shape, apply, dtype=np.float64)


def solved(normal: sp.csr_matrix, force: Array, tolerance: float, preconditioner: LinearOperator) -> Array:
    """normal^-1 force (n, width) by conjugate gradients to a relative tolerance."""
    found, _ = cg(normal, force.ravel(), rtol=tolerance, maxiter=SOLVER_STEPS, M=preconditioner)
    return np.asarray(found.reshape(force.shape))


def own_blocks(matrix: sp.csr_matrix, width: int) -> Array:
    """Diagonal blocks (n, width, width) of a matrix whose rows go atom by atom."""
    out = np.zeros((matrix.shape[0] // width, width, width))
    _take_own(matrix.indptr, matrix.indices, matrix.data, out)
    return out


@njit(cache=True)
def _take_own(start, columns, values, out):
    width = out.shape[1]
    for row in range(out.shape[0] * width):
        n = row // width
        for k in range(start[row], start[row + 1]):
            if columns[k] // width == n:
                out[n, row % width, columns[k] % width] = values[k]
