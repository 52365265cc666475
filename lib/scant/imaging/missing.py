"""What one atom changes in the image of its crystal, from a simulation, and the test for sites where that change is seen.

A fitted template explains a perfect lattice with its Bragg reflections alone, and says little about what a single atom does between them;
a vacancy test built on it is blind or wrong. So the change is simulated: the image of a flat patch less the same patch without one atom,
cross-terms with its neighbours included, once per sublattice. Its scatter over the occupied sites of the frame is the null distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from scant.imaging.reciprocal import Lattice2D

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Image of a flat sheet in units of the mean beam: positions (n, 2) in pixels and (ny, nx) -> (ny, nx).
Simulator = Callable[[Array, tuple[int, int]], Array]

REACH_BONDS = 2.4
SURROUNDING_BONDS = 4.0
OVERSAMPLING = 2


@dataclass(frozen=True)
class AtomKernels:
    """`values` (2, s, s, p, p): change of the relative intensity by an atom of each sublattice, for s x s positions within the pixel."""

    values: Array
    radius_px: int


def atom_kernels(simulate: Simulator, lattice: Lattice2D) -> AtomKernels:
    """Simulate the patches: 16 small images, once for frames that share simulator and lattice."""
    return _kernels(simulate, lattice.bond_px, tuple(map(tuple, lattice.vectors_px.tolist())))


@lru_cache(maxsize=4)
def _kernels(simulate: Simulator, bond: float, vectors_px: tuple[tuple[float, float], ...]) -> AtomKernels:
    vectors = np.array(vectors_px)
    radius = int(np.ceil(REACH_BONDS * bond))
    size = 2 * radius + 1
    i, j = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9))
    cells = np.stack([i.ravel(), j.ravel()], axis=1)
    values = np.zeros((2, OVERSAMPLING, OVERSAMPLING, size, size))
    for sub in (0, 1):
        others = np.concatenate([cells @ vectors, (cells + (1 - 2 * sub) / 3) @ vectors])
        others = others[np.hypot(*others.T) > 0.5 * bond]
        others = others[np.abs(others).max(axis=1) < radius + SURROUNDING_BONDS * bond]
        for a in range(OVERSAMPLING):
            for b in range(OVERSAMPLING):
                centre = radius + (np.array([b, a]) + 0.5) / OVERSAMPLING - 0.5
                without = simulate(others + centre, (size, size))
                values[sub, a, b] = simulate(np.concatenate([others, np.zeros((1, 2))]) + centre, (size, size)) - without
    return AtomKernels(values, radius)


def missing_scores(residual: Array, weight: Array, positions_px: Array, sublattice: Ints, kernels: AtomKernels) -> tuple[Array, Array]:
    """(n,) score of each site, 0 for an atom that is there and about 1 for one that is not; and its information (1 / variance).

    `residual` is the image less a model in which every site is occupied, in the kernels' unit.
    """
    score, information = np.zeros(len(positions_px)), np.zeros(len(positions_px))
    _scores(residual, weight, positions_px, sublattice, kernels.values, kernels.radius_px, score, information)
    return score, information


# reassociated sums: those over a row use the processor's vectors
@numba.njit(cache=True, fastmath={"reassoc", "contract"})
def _scores(residual, weight, positions, sublattice, values, radius, score, information):
    fine = values.shape[1]
    for n in range(positions.shape[0]):
        x0, y0 = int(np.floor(positions[n, 0] + 0.5)), int(np.floor(positions[n, 1] + 0.5))
        b = min(int((positions[n, 0] - x0 + 0.5) * fine), fine - 1)
        a = min(int((positions[n, 1] - y0 + 0.5) * fine), fine - 1)
        kernel = values[sublattice[n], a, b]
        product, norm = 0.0, 0.0
        for y in range(max(y0 - radius, 0), min(y0 + radius + 1, residual.shape[0])):
            for x in range(max(x0 - radius, 0), min(x0 + radius + 1, residual.shape[1])):
                value = kernel[y - y0 + radius, x - x0 + radius] * weight[y, x]
                product -= residual[y, x] * value
                norm += kernel[y - y0 + radius, x - x0 + radius] * value
        if norm > 0:
            score[n], information[n] = product / norm, norm
