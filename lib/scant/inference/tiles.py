"""Large views in overlapping tiles, each annealed alone.

The annealer holds all modes of a sheet, time with the third and memory with the second power of its atoms; what an image tells of an atom
comes from within ten angstrom. A tile's mean height is its own part of the defocus, which its image tells to 0.1 A at 8e3 e/A^2: so tiles
are level without a look at the atoms that they share, whose heights at the tiles' rims are less sure than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from scant.errors import FrameFailure
from scant.inference.prepare import grid_around
from scant.inference.problem import FrameEstimate, FrameProblem, RefineSettings
from scant.physics.forward import ImageGrid
from scant.physics.optics import Optics
from scant.rng import seed_of, stream

MOST_ATOMS = 2500
CORE_ANGSTROM, OVERLAP_ANGSTROM, BEYOND_ANGSTROM = 44.0, 8.0, 3.0

Refined = tuple[list[FrameEstimate], list[FrameFailure]]
Refine = Callable[[list[FrameProblem], Optics, ImageGrid, RefineSettings, str], Refined]


@dataclass(frozen=True)
class Tile:
    """A part of a frame as a problem of its own: `atoms` (n,) their numbers in the frame, `own` (n,) those that no other tile decides."""

    problem: FrameProblem
    atoms: np.ndarray
    own: np.ndarray
    origin_angstrom: np.ndarray


def refine_in_tiles(
    problem: FrameProblem, optics: Optics, pixel_size_angstrom: float, settings: RefineSettings, refine: Refine, device: str
) -> Refined:
    """One frame tile by tile, each by `refine`: the frame's estimate, or the failure of the first tile that has one."""
    tiles, estimates = tiles_of(problem, pixel_size_angstrom), []
    for number, tile in enumerate(tiles):
        own = replace(settings, seed=seed_of(settings.seed, "tile", number))
        found, failures = refine([tile.problem], optics, grid_around([tile.problem], pixel_size_angstrom), own, device)
        if failures:
            return [], failures
        estimates += found
    return [joined(problem, tiles, estimates, stream(settings.seed, "tiles", problem.frame))], []


def tiles_of(problem: FrameProblem, pixel_size_angstrom: float) -> list[Tile]:
    """Tiles of equal cores that cover the view, row by row, each 8 A larger than its core on the sides that another tile adjoins."""
    shape = problem.counts_e.shape
    cuts = [np.linspace(0, side, int(np.ceil(side * pixel_size_angstrom / CORE_ANGSTROM)) + 1).round().astype(int) for side in shape]
    at_px = problem.positions[:, 1::-1] / pixel_size_angstrom
    core = [np.clip(np.searchsorted(cut, at_px[:, axis], side="right") - 1, 0, len(cut) - 2) for axis, cut in enumerate(cuts)]
    overlap = round(OVERLAP_ANGSTROM / pixel_size_angstrom)
    tiles = []
    for row in range(len(cuts[0]) - 1):
        for column in range(len(cuts[1]) - 1):
            window = [(max(cut[k] - overlap, 0), min(cut[k + 1] + overlap, side)) for k, cut, side in zip((row, column), cuts, shape)]
            mine = (core[0] == row) & (core[1] == column)
            atoms = np.flatnonzero(mine | _in_one_piece(_near(problem, window, pixel_size_angstrom) | mine, problem.bonds))
            own = mine[atoms]
            tiles.append(Tile(_cut(problem, window, atoms, pixel_size_angstrom), atoms, own, _origin(window, pixel_size_angstrom)))
    return tiles


def middle_of(problem: FrameProblem, side_angstrom: float, pixel_size_angstrom: float) -> FrameProblem:
    """The problem of the square of this side in the middle of the view; the problem itself where the view is no larger."""
    shape = problem.counts_e.shape
    window = middle_window(shape, round(side_angstrom / pixel_size_angstrom))
    if window == [(0, n) for n in shape]:
        return problem
    atoms = np.flatnonzero(_in_one_piece(_near(problem, window, pixel_size_angstrom), problem.bonds))
    return _cut(problem, window, atoms, pixel_size_angstrom)


def middle_window(shape: tuple[int, ...], side_px: int) -> list[tuple[int, int]]:
    """First pixel and the one after the last of each edge of the middle of an image, at most `side_px` wide."""
    return [((n - min(side_px, n)) // 2, (n + min(side_px, n)) // 2) for n in shape]


def _near(problem: FrameProblem, window: list[tuple[int, int]], pixel_size_angstrom: float) -> np.ndarray:
    """Atoms (N,) that lie in a window or just outside it."""
    at_px, beyond = problem.positions[:, 1::-1] / pixel_size_angstrom, BEYOND_ANGSTROM / pixel_size_angstrom
    return np.all([(at_px[:, a] > low - beyond) & (at_px[:, a] < high + beyond) for a, (low, high) in enumerate(window)], axis=0)


def _in_one_piece(chosen: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """The largest part of the chosen atoms (N,) that bonds hold together: a stray at a tile's corner has nothing to hold it."""
    inner = bonds[chosen[bonds].all(axis=1)]
    graph = coo_matrix((np.ones(len(inner)), inner.T), shape=(len(chosen), len(chosen)))
    piece = connected_components(graph, directed=False)[1]
    return np.asarray(chosen & (piece == np.bincount(piece[chosen]).argmax()))


def _origin(window: list[tuple[int, int]], pixel_size_angstrom: float) -> np.ndarray:
    """Place (x, y, 0) of a window's first pixel."""
    return np.array([window[1][0] * pixel_size_angstrom, window[0][0] * pixel_size_angstrom, 0.0])


def _cut(problem: FrameProblem, window: list[tuple[int, int]], atoms: np.ndarray, pixel_size_angstrom: float) -> FrameProblem:
    (top, bottom), (left, right) = window
    number = np.full(len(problem.positions), -1)
    number[atoms] = np.arange(len(atoms))
    bonds = number[problem.bonds]

    def part(image: np.ndarray | None) -> np.ndarray | None:
        return None if image is None else np.ascontiguousarray(image[top:bottom, left:right])

    counts, weights = (np.ascontiguousarray(image[top:bottom, left:right]) for image in (problem.counts_e, problem.inverse_variance))
    return replace(
        problem,
        counts_e=counts,
        inverse_variance=weights,
        positions=problem.positions[atoms] - _origin(window, pixel_size_angstrom),
        species=problem.species[atoms],
        bonds=bonds[(bonds >= 0).all(axis=1)],
        coordination=problem.coordination[atoms],
        guide_e=part(problem.guide_e),
        guide_inverse_variance=part(problem.guide_inverse_variance),
    )


def joined(problem: FrameProblem, tiles: list[Tile], estimates: list[FrameEstimate], rng: np.random.Generator) -> FrameEstimate:
    """The frame's estimate from those of its tiles; every atom comes from the tile that owns it, the error of the tile's mean height added
    to its own, and drawn from `rng` for the samples.

    Figures of convergence are those of the worst tile, others their mean; energies are summed, overlaps counted twice.
    """
    defocus, unsure = np.array([(e.defocus_angstrom, e.sigma_defocus_angstrom) for e in estimates]).T
    shape = (len(problem.positions), 3)
    positions, sigma, rebonded = np.zeros(shape), np.zeros(shape), np.zeros(len(problem.positions), bool)
    samples = np.zeros((min(len(e.samples) for e in estimates), *shape))
    for tile, estimate, rise, error in zip(tiles, estimates, defocus - defocus.mean(), unsure):
        kept, shift = tile.atoms[tile.own], tile.origin_angstrom + [0, 0, rise]
        positions[kept], samples[:, kept] = estimate.positions[tile.own] + shift, estimate.samples[: len(samples), tile.own] + shift
        samples[:, kept, 2] += rng.normal(0, error, (len(samples), 1))
        sigma[kept] = np.hypot(estimate.sigma[tile.own], [0, 0, error])
        rebonded[tile.atoms] |= estimate.rebonded
    mean = positions[:, 2].mean()
    positions[:, 2] -= mean
    samples[..., 2] -= samples[..., 2].mean(axis=1, keepdims=True)
    moves = min(len(e.trace) for e in estimates)
    return FrameEstimate(
        frame=problem.frame,
        positions=positions,
        sigma=sigma,
        samples=samples,
        energy=sum(e.energy for e in estimates),
        chains_in_basin=min(e.chains_in_basin for e in estimates),
        reduced_chi2=float(np.mean([e.reduced_chi2 for e in estimates])),
        correlation=float(np.mean([e.correlation for e in estimates])),
        intensity_e=float(np.mean([e.intensity_e for e in estimates])),
        acceptance=float(np.mean([e.acceptance for e in estimates])),
        r_hat=float(np.max([e.r_hat for e in estimates])),
        chain_spread_z_angstrom=float(np.max([e.chain_spread_z_angstrom for e in estimates])),
        defocus_angstrom=float(defocus.mean() + mean),
        sigma_defocus_angstrom=float(np.sqrt((unsure**2).mean() / len(unsure))),
        motion_angstrom=float(np.mean([e.motion_angstrom for e in estimates])),
        converged=all(e.converged for e in estimates),
        n_moves=max(e.n_moves for e in estimates),
        trace=np.sum([e.trace[:moves] for e in estimates], axis=0),
        rebonded=rebonded,
    )
