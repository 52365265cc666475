"""Standard errors of coupled atoms: the diagonal blocks of a large sparse inverse, each from a submatrix around its atom."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_MEMBERS = 24
# Atoms are alike within so much of the usual stiffness; the factor common to them is found on so many of them, if there are enough.
SAME_STIFFNESS, FEWEST_ALIKE, SAMPLE_ATOMS = 0.1, 100, 12
WIDE_REACH = 2.5


def local_inverse(matrix: sp.csr_matrix, positions: Array, reach_px: float, width: int) -> Array:
    """Diagonal blocks (n, width, width) of the inverse of a matrix whose rows go atom by atom (`normal_equations.Pattern`).

    Correlations die out because the image anchors every atom, but slowly. Atoms of the perfect lattice, all alike, take those that they are
    coupled to; what lies further out makes the same factor for all of them, found on a few whose surroundings are inverted to 2.5 times
    the reach (so within 0.1 %). Atoms at the border of the view and at defects take the nearest 24 within the reach (within a few percent).
    """
    out, tree = np.empty((len(positions), width, width)), cKDTree(positions)
    alike = _alike(matrix, width)
    if alike.sum() < FEWEST_ALIKE:
        alike[:] = False
    regular, others = np.flatnonzero(alike), np.flatnonzero(~alike)
    if len(regular):
        _invert_locally(matrix.indptr, matrix.indices, matrix.data, regular, *_coupled(matrix, width, regular), out)
        out[regular] *= _missing_factor(matrix, tree, WIDE_REACH * reach_px, regular, out)
    distance, members = tree.query(positions[others], k=range(1, min(MOST_MEMBERS, len(positions)) + 1))
    _invert_locally(matrix.indptr, matrix.indices, matrix.data, others, members, (distance <= reach_px).sum(axis=1), out)
    return out


def _alike(matrix: sp.csr_matrix, width: int) -> NDArray[np.bool_]:
    """(n,) atoms whose own stiffness is that of most, and that of all atoms up to two couplings away too."""
    own = matrix.diagonal().reshape(-1, width).sum(axis=1)
    usual = np.abs(own / np.median(own) - 1) < SAME_STIFFNESS
    for _ in range(2):
        usual = np.logical_and.reduceat(usual[matrix.indices // width], matrix.indptr[:-1:width])
    return np.asarray(usual)


def _coupled(matrix: sp.csr_matrix, width: int, atoms: Ints) -> tuple[Ints, Ints]:
    """Atoms (m, most) that each of `atoms` (m,) is coupled to, itself first, and how many there are."""
    start, stop = matrix.indptr[width * atoms], matrix.indptr[width * atoms + 1]
    held = (stop - start).astype(np.int64) // width
    place = np.minimum(np.arange(held.max()), held[:, None] - 1)
    members = matrix.indices[start[:, None] + width * place].astype(np.int64) // width
    rows, own = np.arange(len(atoms)), np.argmax(members == atoms[:, None], axis=1)
    members[rows, own] = members[:, 0]
    members[:, 0] = atoms
    return members, held


def _missing_factor(matrix: sp.csr_matrix, tree: cKDTree, reach_px: float, atoms: Ints, found: Array) -> float:
    """What the variances found for atoms that are alike lack: the median ratio to those of wide submatrices around a few of them."""
    width, ratios = found.shape[1], []
    for atom in atoms[np.linspace(0, len(atoms) - 1, SAMPLE_ATOMS).astype(int)]:
        around = np.sort(tree.query_ball_point(tree.data[atom], reach_px))
        rows = (around[:, None] * width + np.arange(width)).ravel()
        unit = (rows[:, None] == atom * width + np.arange(width)).astype(float)
        block = np.linalg.solve(matrix[rows][:, rows].toarray(), unit)
        ratios.append(np.sum(unit * block) / np.trace(found[atom]))
    return float(np.median(ratios))


# reassociated sums: dot products of rows use the processor's vectors
@njit(cache=True, fastmath={"reassoc", "contract"})
def _invert_locally(start, columns, values, atoms, members, held, out):
    """Cholesky of each submatrix with its own atom last, whose block of the inverse then needs the last rows alone."""
    width = out.shape[1]
    most = members.shape[1] * width
    index, factor, root = np.empty(most, np.int64), np.zeros((most, most)), np.zeros((width, width))
    place = np.full(out.shape[0] * width, -1)
    for row in range(atoms.shape[0]):
        n, size = atoms[row], held[row] * width
        for m in range(held[row]):
            for a in range(width):
                index[m * width + a] = members[row, held[row] - 1 - m] * width + a
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
        for i in range(width):
            for j in range(i + 1):
                total = 1.0 if i == j else 0.0
                for k in range(j, i):
                    total -= factor[corner + i, corner + k] * root[k, j]
                root[i, j] = total / factor[corner + i, corner + i]
        for i in range(width):
            for j in range(width):
                total = 0.0
                for k in range(max(i, j), width):
                    total += root[k, i] * root[k, j]
                out[n, i, j] = total
