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
        off = pairs[:, 0] != pairs[:, 1]
        blocks = np.sort(np.concatenate([keys, pairs[off, 1] * n + pairs[off, 0]]))
        row, column = blocks // n, blocks % n
        per_row = np.bincount(row, minlength=n)
        first = np.concatenate([[0], np.cumsum(per_row)])
        # row 2i holds the upper rows of all blocks of i, row 2i + 1 the lower ones
        start = (2 * (first[row] + np.arange(len(blocks))))[:, None] + 2 * per_row[row][:, None] * np.arange(2)
        indices = np.empty(4 * len(blocks), dtype=np.int64)
        for r in range(2):
            for c in range(2):
                indices[start[:, r] + c] = 2 * column + c
        indptr = np.concatenate([[0], np.cumsum(np.repeat(2 * per_row, 2))])
        place = lambda i, j: np.searchsorted(blocks, i * n + j)  # noqa: E731
        a, b = bonds.T
        return cls(
            pairs, bonds, place(*pairs.T), place(pairs[:, 1], pairs[:, 0]), place(np.arange(n), np.arange(n)),
            np.stack([place(a, b), place(b, a)], axis=1), start, indptr, indices,
        )  # fmt: skip

    def matrix(self, coupling: Array, stiffness: Array, ridge: float) -> sp.csr_matrix:
        """Couplings (p, 2, 2) of pairs, stiffness (m, 2, 2) of bonds and a ridge on the diagonal, as a symmetric CSR matrix."""
        data = np.zeros(4 * len(self.start))
        _fill(self.start, self.slot, self.mirrored, self.own, self.bonds, self.bonded, coupling, stiffness, ridge, data)
        return sp.csr_matrix((data, self.indices, self.indptr), shape=(2 * len(self.own),) * 2)


@njit(cache=True)
def _fill(start, slot, mirrored, own, bonds, bonded, coupling, stiffness, ridge, data):
    for r in range(2):
        for c in range(2):
            for p in range(slot.shape[0]):
                data[start[slot[p], r] + c] = coupling[p, r, c]
                data[start[mirrored[p], r] + c] = coupling[p, c, r]
            for b in range(bonds.shape[0]):
                for end in range(2):
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
