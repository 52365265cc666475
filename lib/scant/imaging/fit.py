"""All atoms of a frame fitted at once: maximum a posteriori positions under bond springs, and their covariance.

Energy = 1/2 sum of w (image - background - sum of templates)^2 + 1/2 sum of spring energies. Gauss-Newton with sparse normal equations:
overlapping atoms are coupled exactly, the local background is projected out by a high-pass filter, the template's weights are linear.
A spring ties each bond vector to a reference (the smooth local lattice, strained and tilted as it is) with separate stiffness along and
across the bond; a free spring, used at defects, knows only its length. Without springs the inverse normal matrix is the Cramer-Rao bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg
from scipy.spatial import cKDTree

from scant.imaging.smooth import wide_gaussian
from scant.imaging.template import Template, TemplateBasis, combine, gaussian_basis, overlaps, render, responses, visible_weight

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bool = NDArray[np.bool_]

BOND_ANGSTROM = 1.42
# High-pass width, reach of coupled pairs and of the blocks that are inverted for uncertainties, in bond lengths.
HIGH_PASS = 2.8
PAIR_REACH = 2.2
BLOCK_REACH = 3.2
# Thermal stiffness / k_B T of a bond vector of free graphene at 300 K against its smooth surroundings, projected along the beam.
SPRING_ALONG_PER_ANGSTROM2 = 1200.0
SPRING_ACROSS_PER_ANGSTROM2 = 250.0
RIDGE_PER_ANGSTROM2 = 1.0
SOLVER_TOLERANCE, SOLVER_STEPS = 1e-5, 200


@dataclass(frozen=True)
class Observation:
    """A frame ready for fitting: `image` high-passed and masked, `weight` = mask / variance, `norm` the smoothed mask."""

    image: Array
    weight: Array
    mask: Array
    norm: Array
    width_px: float
    basis: TemplateBasis

    def high_passed(self, image: Array) -> Array:
        return np.asarray((image - wide_gaussian(image * self.mask, self.width_px) / self.norm) * self.mask)

    def crop(self, rows: slice, columns: slice) -> Observation:
        cut = {name: getattr(self, name)[rows, columns] for name in ("image", "weight", "mask", "norm")}
        return replace(self, **cut)


@dataclass(frozen=True)
class Springs:
    """Bonds (m, 2) of atoms a -> b, their reference vectors (m, 2) in pixels, and which are free (length only)."""

    bonds: Ints
    reference_px: Array
    free: Bool
    length_px: float

    @property
    def stiffness_per_px2(self) -> tuple[float, float]:
        scale = (BOND_ANGSTROM / self.length_px) ** 2
        return SPRING_ALONG_PER_ANGSTROM2 * scale, SPRING_ACROSS_PER_ANGSTROM2 * scale


@dataclass(frozen=True)
class Fit:
    """Positions (n, 2), the template, the residual image, the sparse normal matrix (2n, 2n), chi^2 and spring energy."""

    positions_px: Array
    template: Template
    residual: Array
    normal: sp.csr_matrix
    energy: float


def observe(
    image_e: NDArray[np.floating],
    variance_e2: NDArray[np.floating] | float,
    mask: Bool | None,
    bond_px: float,
    basis: TemplateBasis | None = None,
) -> Observation:
    """High-pass a frame (background of longer waves removed) and weigh its pixels; masked pixels count for nothing."""
    image = np.asarray(image_e, dtype=np.float64)
    valid = np.ones_like(image) if mask is None else np.asarray(mask, dtype=np.float64)
    norm = np.maximum(wide_gaussian(valid, HIGH_PASS * bond_px), 1e-9)
    blank = Observation(image, valid / np.maximum(variance_e2, 1e-12), valid, norm, HIGH_PASS * bond_px, basis or gaussian_basis(bond_px))
    return replace(blank, image=blank.high_passed(np.where(valid > 0, image, 0.0)))


def fit_template(observation: Observation, positions_px: Array, amplitude: Array) -> Template:
    """Template whose basis weights fit the whole frame best, by linear least squares."""
    basis, shape = observation.basis, observation.image.shape
    stack = np.array([observation.high_passed(render(positions_px, amplitude, basis, shape, m)) for m in range(len(basis.profile))])
    normal = np.einsum("ayx,byx,yx->ab", stack, stack, observation.weight)
    right = np.einsum("ayx,yx,yx->a", stack, observation.image, observation.weight)
    ridge = basis.penalty * (normal[0, 0] / right[0]) ** 2 + 1e-6 * np.trace(normal)
    weights = np.linalg.solve(normal + np.diag(ridge), right)
    return combine(basis, weights, observation.width_px)


def refine(
    observation: Observation,
    positions_px: Array,
    amplitude: Array,
    springs: Springs,
    *,
    template: Template | None = None,
    iterations: int = 4,
) -> Fit:
    """Gauss-Newton for the positions of all atoms together; the template is refitted on the way unless it is given."""
    positions, shape = positions_px.copy(), observation.image.shape
    pairs = neighbour_pairs(positions, PAIR_REACH * springs.length_px)
    current = template or fit_template(observation, positions, amplitude)
    normal = sp.csr_matrix((0, 0))
    for step in range(iterations):
        if template is None and step == 2:
            current = fit_template(observation, positions, amplitude)
        model = observation.high_passed(render(positions, amplitude, current, shape))
        residual = observation.image - model
        force, blocks, _ = spring_force(positions, springs)
        force = force + amplitude[:, None] * responses(positions, residual * observation.weight, current)[:, 1:]
        if step < 2:
            coupling = overlaps(positions, pairs, visible_weight(positions, observation.weight, current), current)[:, 1:, 1:]
            coupling *= (amplitude[pairs[:, 0]] * amplitude[pairs[:, 1]])[:, None, None]
        normal = _normal_matrix(len(positions), pairs, coupling, springs, blocks)
        shift = solved(normal, force)
        positions = positions + np.clip(shift, -0.25 * springs.length_px, 0.25 * springs.length_px)
    residual = observation.image - observation.high_passed(render(positions, amplitude, current, shape))
    energy = 0.5 * float((residual**2 * observation.weight).sum()) + spring_force(positions, springs)[2]
    return Fit(positions, current, residual, normal, energy)


def neighbour_pairs(positions: Array, reach_px: float) -> Ints:
    """Sorted pairs (i, j), i <= j, closer than the reach, the diagonal included."""
    pairs = cKDTree(positions).query_pairs(reach_px, output_type="ndarray")
    diagonal = np.repeat(np.arange(len(positions))[:, None], 2, axis=1)
    both = np.concatenate([np.sort(pairs, axis=1), diagonal])
    return np.asarray(both[np.lexsort((both[:, 1], both[:, 0]))], dtype=np.int64)


def spring_force(positions: Array, springs: Springs) -> tuple[Array, Array, float]:
    """Force (n, 2) of all springs, stiffness block (m, 2, 2) of each, and their energy in k_B T."""
    a, b = springs.bonds.T
    vector = positions[b] - positions[a]
    along, across = springs.stiffness_per_px2
    direction = np.where(springs.free[:, None], vector, springs.reference_px)
    unit = direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    target = np.where(springs.free[:, None], unit * springs.length_px, springs.reference_px)
    projector = unit[:, :, None] * unit[:, None, :]
    side = np.where(springs.free, 0.1 * across, across)[:, None, None]
    blocks = along * projector + side * (np.eye(2) - projector)
    stretch = vector - target
    pull = np.einsum("mij,mj->mi", blocks, stretch)
    force = np.zeros_like(positions)
    np.add.at(force, a, pull)
    np.add.at(force, b, -pull)
    return force, blocks, 0.5 * float((pull * stretch).sum())


def _normal_matrix(n: int, pairs: Ints, coupling: Array, springs: Springs, blocks: Array) -> sp.csr_matrix:
    off = pairs[:, 0] != pairs[:, 1]
    a, b = springs.bonds.T
    first = np.concatenate([pairs[:, 0], pairs[off, 1], a, b, a, b])
    second = np.concatenate([pairs[:, 1], pairs[off, 0], a, b, b, a])
    values = np.concatenate([coupling, coupling[off].swapaxes(1, 2), blocks, blocks, -blocks, -blocks])
    rows = (2 * first[:, None, None] + np.arange(2)[:, None] + np.zeros((1, 2), dtype=int)).ravel()
    columns = (2 * second[:, None, None] + np.arange(2) + np.zeros((2, 1), dtype=int)).ravel()
    ridge = RIDGE_PER_ANGSTROM2 * (BOND_ANGSTROM / springs.length_px) ** 2
    matrix = sp.csr_matrix((values.ravel(), (rows, columns)), shape=(2 * n, 2 * n))
    return sp.csr_matrix(matrix + ridge * sp.identity(2 * n, format="csr"))


def solved(normal: sp.csr_matrix, force: Array) -> Array:
    """normal^-1 force (n, width) by conjugate gradients, preconditioned by each atom's own block: couplings reach a few bonds only."""
    width = force.shape[1]
    blocks = np.linalg.inv(_own_blocks(normal, width))

    def precondition(x: Array) -> Array:
        return np.asarray(np.einsum("nab,nb->na", blocks, x.reshape(-1, width)).ravel())

    operator = LinearOperator(normal.shape, precondition, dtype=np.float64)
    found, _ = cg(normal, force.ravel(), rtol=SOLVER_TOLERANCE, maxiter=SOLVER_STEPS, M=operator)
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
    nearest = min(24, len(positions))
    distance, members = cKDTree(positions).query(positions, k=nearest)
    distance, members = distance.reshape(len(positions), -1), members.reshape(len(positions), -1)
    held = (distance <= reach_px).sum(axis=1)
    rows = sp.csr_matrix(matrix)
    rows.sort_indices()
    out = np.empty((len(positions), width, width))
    _invert_locally(rows.indptr, rows.indices, rows.data, members, held, out)
    return out


@njit(cache=True)
def _invert_locally(start, columns, values, members, held, out):
    """Cholesky of each submatrix with its own atom last, whose block of the inverse then needs the last rows alone."""
    width = out.shape[1]
    most = members.shape[1] * width
    index, factor = np.empty(most, np.int64), np.zeros((most, most))
    for n in range(out.shape[0]):
        size = held[n] * width
        for m in range(held[n]):
            for a in range(width):
                index[m * width + a] = members[n, held[n] - 1 - m] * width + a
        for i in range(size):
            row = index[i]
            for j in range(i + 1):
                at = start[row] + np.searchsorted(columns[start[row] : start[row + 1]], index[j])
                value = values[at] if at < start[row + 1] and columns[at] == index[j] else 0.0
                for k in range(j):
                    value -= factor[i, k] * factor[j, k]
                factor[i, j] = np.sqrt(value) if i == j else value / factor[j, j]
        corner = size - width
        if width == 1:
            out[n, 0, 0] = 1 / factor[corner, corner] ** 2
        else:
            a, b, c = factor[corner, corner], factor[corner + 1, corner], factor[corner + 1, corner + 1]
            out[n, 1, 1] = 1 / c**2
            out[n, 0, 1] = out[n, 1, 0] = -b / (a * c**2)
            out[n, 0, 0] = 1 / a**2 + (b / (a * c)) ** 2
