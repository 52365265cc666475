"""Ring centres and honeycomb sites of a lattice image from its local phase: where atoms belong, before asking whether they are there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scant.imaging.phase_fields import FIRST_ORDER, ReflectionFields, local_reflections
from scant.imaging.reciprocal import Lattice2D

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

PHASE_WIDTH = 2.0
WEAK_FIELD = 0.35
NEIGHBOURS = np.array([(1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1)])


@dataclass(frozen=True)
class HollowGrid:
    """Ring centres on lattice indices: `positions_px` (m, m, 2), NaN beyond the margin; `strength` (m, m) is the local amplitude of the
    weakest lattice reflection over its median in the view; index (i, j) is array position minus `centre`."""

    positions_px: Array
    strength: Array
    centre: int


@dataclass(frozen=True)
class Sites:
    """Honeycomb sites: `positions_px` (n, 2), `index` (n, 3) = (i, j, sublattice), `bonds` (m, 2), `strength` (n,)."""

    positions_px: Array
    index: NDArray[np.int64]
    bonds: NDArray[np.int64]
    strength: Array


def hollow_grid(image: NDArray[np.floating], lattice: Lattice2D, mask: Bool | None = None, *, margin_px: float = 0.0) -> HollowGrid:
    """Every ring centre of the lattice in view and up to `margin_px` beyond, placed by the local phase of three reflections.

    Growing from the image centre along lattice vectors needs no phase unwrapping; where the lattice is weak (contamination, holes) or
    outside the view the displacement of the neighbours is carried on.
    """
    cell = lattice.bond_px * np.sqrt(3)
    fields = local_reflections(image, lattice.reciprocal_per_px, PHASE_WIDTH * cell, mask)
    shape = np.array(image.shape[::-1], dtype=float)
    reach = int(np.ceil((np.hypot(*shape) / 2 + margin_px) / cell * 1.2)) + 3
    positions = np.full((2 * reach + 1, 2 * reach + 1, 2), np.nan)
    strength = np.zeros(positions.shape[:2])
    typical = _typical_amplitude(fields, image.shape)
    positions[reach, reach], strength[reach, reach] = lattice.origin_px, 1.0
    frontier = np.array([(reach, reach)])
    while len(frontier):
        frontier = _neighbours_to_visit(frontier, positions)
        if not len(frontier):
            break
        predicted = _predict(frontier, positions, lattice)
        near = np.all((predicted > -0.5 - margin_px) & (predicted < shape - 0.5 + margin_px), axis=1)
        frontier, predicted = frontier[near], predicted[near]
        refined, amplitude = _refine_on_phase(predicted, fields, lattice, shape)
        amplitude /= typical
        positions[frontier[:, 0], frontier[:, 1]] = np.where((amplitude > WEAK_FIELD)[:, None], refined, predicted)
        strength[frontier[:, 0], frontier[:, 1]] = amplitude
    return HollowGrid(positions, strength, reach)


def honeycomb_sites(grid: HollowGrid) -> Sites:
    """The two atoms of every cell whose three surrounding hollows are placed, at the centroid of those; bonds between them."""
    p, s = grid.positions_px, grid.strength
    corners = {
        0: (p[:-1, :-1], p[1:, :-1], p[:-1, 1:]),
        1: (p[1:, :-1], p[:-1, 1:], p[1:, 1:]),
    }
    levels = np.minimum(np.minimum(s[:-1, 1:], s[1:, :-1]), np.minimum(s[:-1, :-1], s[1:, 1:]))
    number = np.full((*p.shape[:2], 2), -1)
    places, indices, strengths = [], [], []
    count = 0
    for sub in (0, 1):
        centroid = np.mean(corners[sub], axis=0)
        i, j = np.nonzero(np.isfinite(centroid[..., 0]))
        number[i, j, sub] = count + np.arange(len(i))
        count += len(i)
        places.append(centroid[i, j])
        indices.append(np.stack([i - grid.centre, j - grid.centre, np.full(len(i), sub)], axis=1))
        strengths.append(levels[i, j])
    bonds = []
    for di, dj in ((0, 0), (1, 0), (0, 1)):
        a = number[di:, dj:, 0]
        b = number[: number.shape[0] - di, : number.shape[1] - dj, 1]
        both = (a >= 0) & (b >= 0)
        bonds.append(np.stack([a[both], b[both]], axis=1))
    return Sites(np.concatenate(places), np.concatenate(indices), np.concatenate(bonds), np.concatenate(strengths))


def _typical_amplitude(fields: ReflectionFields, shape: tuple[int, ...]) -> float:
    ny, nx = shape
    y, x = np.meshgrid(np.linspace(0, ny - 1, 24), np.linspace(0, nx - 1, 24), indexing="ij")
    return float(np.median(np.abs(fields.sample(np.stack([x.ravel(), y.ravel()], axis=1))).mean(axis=0)))


def _neighbours_to_visit(frontier: NDArray[np.int64], positions: Array) -> NDArray[np.int64]:
    around = (frontier[:, None] + NEIGHBOURS).reshape(-1, 2)
    inside = np.all((around >= 0) & (around < positions.shape[0]), axis=1)
    around = np.stack(np.divmod(np.unique(around[inside] @ [positions.shape[0], 1]), positions.shape[0]), axis=1)
    return np.asarray(around[np.isnan(positions[around[:, 0], around[:, 1], 0])])


def _predict(nodes: NDArray[np.int64], positions: Array, lattice: Lattice2D) -> Array:
    """Mean over visited neighbours of their position plus the lattice vector to here."""
    padded = np.pad(positions, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    guesses = [padded[nodes[:, 0] + 1 + di, nodes[:, 1] + 1 + dj] - np.array([di, dj]) @ lattice.vectors_px for di, dj in NEIGHBOURS]
    return np.asarray(np.nanmean(guesses, axis=0))


def _refine_on_phase(points: Array, fields: ReflectionFields, lattice: Lattice2D, shape: Array) -> tuple[Array, Array]:
    """Move points to where the three local phases agree on a hollow; and the mean local amplitude there."""
    g = FIRST_ORDER @ fields.b_per_px
    for _ in range(3):
        values = fields.sample(np.clip(points, 0, shape - 1))
        carried = -lattice.contrast_sign * values * np.exp(2j * np.pi * (g @ points.T))
        phase, weight = np.angle(carried) / (2 * np.pi), np.abs(values) ** 2
        normal = np.einsum("kn,ka,kb->nab", weight, g, g)
        points = points - np.linalg.solve(normal, np.einsum("kn,kn,ka->na", weight, phase, g)[..., None])[..., 0]
    return points, np.abs(values).mean(axis=0)
