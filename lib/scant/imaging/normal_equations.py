"""Sparse normal equations of coupled atoms: put together on a pattern that is found once, solved, and inverted atom by atom."""

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
MOST_MEMBERS = 24


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
        blocks = np.zeros((len(self.start), 2, 2))
        blocks[self.slot] = coupling
        blocks[self.mirrored] = coupling.swapaxes(1, 2)
        for end in range(2):
            blocks[self.bonded[:, end]] -= stiffness
            np.add.at(blocks, self.own[self.bonds[:, end]], stiffness)
        blocks[self.own] += ridge * np.eye(2)
        data = np.empty(4 * len(blocks))
        for r in range(2):
            for c in range(2):
                data[self.start[:, r] + c] = blocks[:, r, c]
        return sp.csr_matrix((data, self.indices, self.indptr), shape=(2 * len(self.own),) * 2)


def solved(normal: sp.csr_matrix, force: Array, tolerance: float) -> Array:
    """normal^-1 force (n, width) by conjugate gradients to a relative tolerance, preconditioned by each atom's own block."""
    width = force.shape[1]
    blocks = np.linalg.inv(_own_blocks(normal, width))

    def precondition(x: Array) -> Array:
        return np.asarray(np.einsum("nab,nb->na", blocks, x.reshape(-1, width)).ravel())

    operator = LinearOperator(normal.shape, precondition, dtype=np.float64)
    found, _ = cg(normal, force.ravel(), rtol=tolerance, maxiter=SOLVER_STEPS, M=operator)
    return np.asarray(found.reshape(-1, width))


def _own_blocks(matrix: sp.csr_matrix, width: int) -> Array:
    """Diagonal blocks (n, width, width) of a symmetric matrix whose rows go atom by atom."""
    n = matrix.shape[0] // width
    out = np.empty((n, width, width))
    for a in range(width):
        for b in range(a, width):
            out[:, a, b] = out[:, b, a] = matrix.diagonal(b - a)[a::width]
    return out


def local_inverse(matrix: sp.csr_matrix, positions: Array, reach_px: float, width: int) -> Array:
    """Diagonal blocks (n, width, width) of the inverse, each from the submatrix of the atoms within the reach.

    Correlations die out within a few bonds because the image anchors every atom, so the full inverse is not needed.
    """
    nearest = min(MOST_MEMBERS, len(positions))
    distance, members = cKDTree(positions).query(positions, k=nearest)
    distance, members = distance.reshape(len(positions), -1), members.reshape(len(positions), -1)
    held = (distance <= reach_px).sum(axis=1)
    out = np.empty((len(positions), width, width))
    _invert_locally(matrix.indptr, matrix.indices, matrix.data, members, held, out)
    return out


# reassociated sums: dot products of rows use the processor's vectors
@njit(cache=True, fastmath={"reassoc", "contract"})
def _invert_locally(start, columns, values, members, held, out):
    """Cholesky of each submatrix with its own atom last, whose block of the inverse then needs the last rows alone."""
    width = out.shape[1]
    most = members.shape[1] * width
    index, factor = np.empty(most, np.int64), np.zeros((most, most))
    place = np.full(out.shape[0] * width, -1)
    for n in range(out.shape[0]):
        size = held[n] * width
        for m in range(held[n]):
            for a in range(width):
                index[m * width + a] = members[n, held[n] - 1 - m] * width + a
        for i in range(size):
            place[index[i]] = i
        for i in range(size):
            factor[i, : i + 1] = 0.0
            for k in range(start[index[i]], start[index[i] + 1]):
                j = place[columns[k]]
                if 0 <= j <= i:
                    factor[i, j] = values[k]
        for i in range(size):
            place[index[i]] = -1
        for i in range(size):
            own = factor[i]
            for j in range(i + 1):
                other = factor[j]
                total = 0.0
                for k in range(j):
                    total += own[k] * other[k]
                value = own[j] - total
                own[j] = np.sqrt(value) if i == j else value / other[j]
        corner = size - width
        if width == 1:
            out[n, 0, 0] = 1 / factor[corner, corner] ** 2
        else:
            a, b, c = factor[corner, corner], factor[corner + 1, corner], factor[corner + 1, corner + 1]
            out[n, 1, 1] = 1 / c**2
            out[n, 0, 1] = out[n, 1, 0] = -b / (a * c**2)
            out[n, 0, 0] = 1 / a**2 + (b / (a * c)) ** 2
