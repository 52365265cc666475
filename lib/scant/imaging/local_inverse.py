"""Standard errors of coupled atoms: the diagonal blocks of a large sparse inverse, each from a submatrix around its atom."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from scant.imaging.normal_equations import own_blocks

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_MEMBERS = 24
# Atoms of a crystal are alike within so much of the usual stiffness; what they share is found on so many of them, if there are enough.
SAME_STIFFNESS, FEWEST_ALIKE, SAMPLE_ATOMS = 0.1, 100, 16
WIDE_REACH = 2.5


def local_inverse(matrix: sp.csr_matrix, positions: Array, reach_px: float, width: int) -> Array:
    """Diagonal blocks (n, width, width) of the inverse of a matrix whose rows go atom by atom (`normal_equations.Pattern`).

    Correlations die out because the image anchors every atom, but slowly: with the nearest 24 within the reach, within a few percent.
    """
    out, every = np.empty((len(positions), width, width)), np.arange(len(positions))
    _invert_around(matrix, cKDTree(positions), every, reach_px, out)
    return out


def crystal_inverse(matrix: sp.csr_matrix, positions: Array, reach_px: float, width: int) -> Array:
    """As `local_inverse` for atoms of a crystal, where most have the same surroundings.

    With L the Cholesky factor of an atom's own block, its block of the inverse is L^-T F L^-1 with an F that is the same for all atoms of
    the perfect lattice: found on a few of them, whose surroundings are inverted to 2.5 times the reach. Atoms at the border of the view
    and at defects are inverted one by one.
    """
    out, tree = np.empty((len(positions), width, width)), cKDTree(positions)
    alike = _alike(matrix, width)
    if alike.sum() < FEWEST_ALIKE:
        alike[:] = False
    regular = np.flatnonzero(alike)
    if len(regular):
        root = np.asarray(np.linalg.cholesky(own_blocks(matrix, width)[regular]), dtype=np.float64)
        shared = _shared_factor(matrix, tree, WIDE_REACH * reach_px, regular, root)
        inverse = np.linalg.inv(root)
        out[regular] = inverse.transpose(0, 2, 1) @ shared @ inverse
    _invert_around(matrix, tree, np.flatnonzero(~alike), reach_px, out)
    return out


def _alike(matrix: sp.csr_matrix, width: int) -> NDArray[np.bool_]:
    """(n,) atoms whose own stiffness is that of most, and that of all atoms up to two couplings away too."""
    own = matrix.diagonal().reshape(-1, width).sum(axis=1)
    usual = np.abs(own / np.median(own) - 1) < SAME_STIFFNESS
    for _ in range(2):
        usual = np.logical_and.reduceat(usual[matrix.indices // width], matrix.indptr[:-1:width])
    return np.asarray(usual)


def _shared_factor(matrix: sp.csr_matrix, tree: cKDTree, reach_px: float, atoms: Ints, root: Array) -> Array:
    """F (width, width) by wide submatrices around a few of the atoms, whose own blocks are `root` (m, width, width) times its transpose."""
    width, factors = root.shape[1], []
    for n in np.linspace(0, len(atoms) - 1, SAMPLE_ATOMS).astype(int):
        around = np.sort(tree.query_ball_point(tree.data[atoms[n]], reach_px))
        rows = (around[:, None] * width + np.arange(width)).ravel()
        unit = (rows[:, None] == atoms[n] * width + np.arange(width)).astype(float)
        block = unit.T @ np.linalg.solve(matrix[rows][:, rows].toarray(), unit)
        factors.append(root[n].T @ block @ root[n])
    return np.asarray(np.median(factors, axis=0))


def _invert_around(matrix: sp.csr_matrix, tree: cKDTree, atoms: Ints, reach_px: float, out: Array) -> None:
    """Blocks of some atoms from the submatrices of the nearest atoms within a reach."""
    if len(atoms):
        distance, members = tree.query(tree.data[atoms], k=range(1, min(MOST_MEMBERS, tree.n) + 1), distance_upper_bound=reach_px)
        _invert_locally(matrix.indptr, matrix.indices, matrix.data, atoms, members, np.isfinite(distance).sum(axis=1), out)


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
