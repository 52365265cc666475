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

from scant.imaging.normal_equations import Pattern, block_jacobi, neighbour_pairs, solved
from scant.imaging.separable import render, responses, visible_weight
from scant.imaging.smooth import wide_gaussian
from scant.imaging.template import Template, TemplateBasis, combine, gaussian_basis, overlaps

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
# Of a Gauss-Newton step that is corrected by the next one.
STEP_TOLERANCE = 1e-2
# Side, in bond lengths, of the middle of a frame that settles what all atoms share: ten thousand of them are more than enough.
FACTS_BONDS = 120.0


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

    def middle(self) -> tuple[Observation, Array]:
        """The middle of the frame, `FACTS_BONDS` a side where there are so many, and its origin (x, y) in the frame."""
        most_px = int(FACTS_BONDS * self.width_px / HIGH_PASS)
        starts = [max(0, (side - most_px) // 2) for side in self.image.shape]
        rows, columns = (slice(start, start + most_px) for start in starts)
        cut = self.crop(rows, columns)
        norm = np.maximum(wide_gaussian(cut.mask, self.width_px), 1e-9)
        return replace(cut, norm=norm), np.array(starts[::-1], dtype=float)


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
    """Positions (n, 2), the template and what pixel weight each atom has under it (n,), the residual image, the sparse normal matrix
    (2n, 2n) with its pattern, and the energy: half of chi^2, and that of the springs."""

    positions_px: Array
    template: Template
    visible: Array
    residual: Array
    normal: sp.csr_matrix
    pattern: Pattern
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
    """Template whose basis weights fit the frame best (the middle of a large one), by linear least squares."""
    basis = observation.basis
    observation, origin = observation.middle()
    positions_px, shape = positions_px - origin, observation.image.shape
    stack = np.array([observation.high_passed(render(positions_px, amplitude, atom, shape)) for atom in basis.atoms])
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
    pattern: Pattern | None = None,
    iterations: int = 4,
) -> Fit:
    """Gauss-Newton for the positions of all atoms together; the template is refitted on the way unless it is given.

    `pattern` is that of an earlier fit of the same atoms and bonds, near enough to these positions.
    """
    positions, shape = positions_px.copy(), observation.image.shape
    if pattern is None:
        pattern = Pattern.of(len(positions), neighbour_pairs(positions, PAIR_REACH * springs.length_px), springs.bonds)
    ridge = RIDGE_PER_ANGSTROM2 * (BOND_ANGSTROM / springs.length_px) ** 2
    current = template or fit_template(observation, positions, amplitude)
    first, second = pattern.pairs.T
    normal = sp.csr_matrix((0, 0))
    for step in range(iterations):
        if template is None and step == 2:
            current = fit_template(observation, positions, amplitude)
        residual = observation.image - observation.high_passed(render(positions, amplitude, current.atom, shape))
        force, stiffness, _ = spring_force(positions, springs)
        force = force + amplitude[:, None] * responses(positions, residual * observation.weight, current.atom)[:, 1:]
        # the later steps are small: one matrix serves them and the errors
        if step < (2 if template is None else 1):
            visible = visible_weight(positions, observation.weight, current.atom)
            coupling = overlaps(positions, pattern.pairs, visible, current)[:, 1:, 1:]
            normal = pattern.matrix(coupling * (amplitude[first] * amplitude[second])[:, None, None], stiffness, ridge)
            preconditioner = block_jacobi(normal, 2)
        shift = solved(normal, force, STEP_TOLERANCE, preconditioner)
        positions = positions + np.clip(shift, -0.25 * springs.length_px, 0.25 * springs.length_px)
    residual = observation.image - observation.high_passed(render(positions, amplitude, current.atom, shape))
    energy = 0.5 * float((residual**2 * observation.weight).sum()) + spring_force(positions, springs)[2]
    return Fit(positions, current, visible, residual, normal, pattern, energy)


def spring_force(positions: Array, springs: Springs) -> tuple[Array, Array, float]:
    """Force (n, 2) of all springs, stiffness block (m, 2, 2) of each, and their energy in k_B T."""
    along, across = springs.stiffness_per_px2
    force, blocks = np.zeros_like(positions), np.empty((len(springs.bonds), 2, 2))
    energy = _pull(positions, springs.bonds, springs.reference_px, springs.free, springs.length_px, along, across, force, blocks)
    return force, blocks, energy


@njit(cache=True)
def _pull(positions, bonds, reference, free, length, along, across, force, blocks):
    energy = 0.0
    for k in range(bonds.shape[0]):
        a, b = bonds[k]
        x, y = positions[b, 0] - positions[a, 0], positions[b, 1] - positions[a, 1]
        u, v = (x, y) if free[k] else (reference[k, 0], reference[k, 1])
        norm = max(np.sqrt(u * u + v * v), 1e-9)
        size, side = (length, 0.1 * across) if free[k] else (norm, across)
        u, v = u / norm, v / norm
        off_x, off_y = x - size * u, y - size * v
        blocks[k, 0, 0], blocks[k, 1, 1] = along * u * u + side * v * v, along * v * v + side * u * u
        blocks[k, 0, 1] = blocks[k, 1, 0] = (along - side) * u * v
        pull_x, pull_y = blocks[k, 0, 0] * off_x + blocks[k, 0, 1] * off_y, blocks[k, 1, 0] * off_x + blocks[k, 1, 1] * off_y
        force[a, 0] += pull_x
        force[a, 1] += pull_y
        force[b, 0] -= pull_x
        force[b, 1] -= pull_y
        energy += 0.5 * (pull_x * off_x + pull_y * off_y)
    return energy
