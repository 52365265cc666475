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
# Atoms count as alike within so much of the usual stiffness; a factor common to them is found on so many, if there are enough.
SAME_STIFFNESS, FEWEST_ALIKE, SAMPLE_ATOMS = 0.1, 100, 12


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
    """Diagonal blocks (n, width, width) of the inverse of a `Pattern`'s matrix, each from a submatrix of the atoms around.

    Correlations die out because the image anchors every atom, but slowly. Atoms of the perfect lattice, all alike, take the atoms that they
    are coupled to; what lies further out makes the same factor for all of them, found on a few whose surroundings are inverted to 2.5 times
    the reach (so within 0.1 %). Atoms at the border of the view and at defects take all atoms within the reach (within a few percent).
    """
    alike = _alike(matrix, width)
    out = np.empty((len(positions), width, width))
    members, held = _coupled(matrix, width)
    if alike.sum() >= FEWEST_ALIKE:
        _invert_locally(matrix.indptr, matrix.indices, matrix.data, np.flatnonzero(alike), members, held, out)
        out[alike] *= _missing_factor(matrix, positions, 2.5 * reach_px, np.flatnonzero(alike), out)
    else:
        alike[:] = False
    distance, members = cKDTree(positions).query(positions[~alike], k=min(MOST_MEMBERS, len(positions)))
    held = (distance.reshape(len(distance), -1) <= reach_px).sum(axis=1)
    around = np.empty((len(positions), min(MOST_MEMBERS, len(positions))), dtype=np.int64)
    around[~alike], counted = members.reshape(len(distance), -1), np.zeros(len(positions), dtype=np.int64)
    counted[~alike] = held
    _invert_locally(matrix.indptr, matrix.indices, matrix.data, np.flatnonzero(~alike), around, counted, out)
    return out


def _alike(matrix: sp.csr_matrix, width: int) -> NDArray[np.bool_]:
    """(n,) atoms whose own stiffness is that of most, and that of all atoms up to two couplings away too."""
    own = matrix.diagonal().reshape(-1, width).sum(axis=1)
    usual = np.abs(own / np.median(own) - 1) < SAME_STIFFNESS
    for _ in range(2):
        usual = np.logical_and.reduceat(usual[matrix.indices // width], matrix.indptr[:-1:width])
    return np.asarray(usual)


def _coupled(matrix: sp.csr_matrix, width: int) -> tuple[Ints, Ints]:
    """Atoms (n, most) that each atom is coupled to, itself first, and how many there are."""
    start = matrix.indptr[::width]
    held = np.diff(start) // (width * width)
    members = np.zeros((len(held), held.max()), dtype=np.int64)
    row = np.repeat(np.arange(len(held)), held)
    place = np.arange(len(row)) - np.repeat(np.cumsum(held) - held, held)
    first = np.repeat(matrix.indptr[:-1:width], held) + width * place
    members[row, place] = matrix.indices[first] // width
    own = np.argmax(members == np.arange(len(held))[:, None], axis=1)
    members[np.arange(len(held)), own] = members[:, 0]
    members[:, 0] = np.arange(len(held))
    return members, held.astype(np.int64)


def _missing_factor(matrix: sp.csr_matrix, positions: Array, reach_px: float, atoms: Ints, found: Array) -> float:
    """What the variances found for atoms that are alike lack: the median ratio to those of wide submatrices around a few of them."""
    width, tree, ratios = found.shape[1], cKDTree(positions), []
    for atom in atoms[np.linspace(0, len(atoms) - 1, SAMPLE_ATOMS).astype(int)]:
        around = np.array(tree.query_ball_point(positions[atom], reach_px))
        rows = (around[:, None] * width + np.arange(width)).ravel()
        unit = np.zeros((len(rows), width))
        unit[np.searchsorted(np.sort(around), atom) * width + np.arange(width), np.arange(width)] = 1.0
        rows = np.sort(rows)
        block = np.linalg.solve(matrix[rows][:, rows].toarray(), unit)
        ratios.append(np.sum(unit * block) / np.trace(found[atom]))
    return float(np.median(ratios))


# reassociated sums: dot products of rows use the processor's vectors
@njit(cache=True, fastmath={"reassoc", "contract"})
def _invert_locally(start, columns, values, atoms, members, held, out):
    """Cholesky of each submatrix with its own atom last, whose block of the inverse then needs the last rows alone."""
    width = out.shape[1]
    most = members.shape[1] * width
    index, factor = np.empty(most, np.int64), np.zeros((most, most))
    place = np.full(out.shape[0] * width, -1)
    for n in atoms:
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
