"""All bright atoms of an image fitted together: overlapping Gaussians of one width on a smooth background, by Poisson likelihood.

Where no crystal lattice and no optics say what an atom looks like (dark-field scanning images, projections of a tilt series), an atom is a
Gaussian. Fisher scoring (Smith et al., Nat. Methods 7, 373, 2010), atom by atom against the model of all the others, in turn with the
width and the background, which all atoms share. Camera noise of variance v is taken for v more counts in image and model alike (Huang et
al., Nat. Methods 10, 653, 2013). Standard errors are those of the joint fit: the inverse Fisher matrix, the Cramer-Rao bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from scant.errors import InputError
from scant.imaging import spot_sums, spots_gpu
from scant.imaging.local_inverse import local_inverse
from scant.imaging.normal_equations import block_jacobi, neighbour_pairs, solved
from scant.xp import module_for, on_device, to_numpy

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bool = NDArray[np.bool_]

# A Gaussian ends here (3e-4 of its height), two of them overlap no further than that, and correlations die out within the last.
REACH_WIDTHS, PAIR_WIDTHS, BLOCK_WIDTHS = 4.0, 7.0, 8.0
ROUNDS, SWEEPS_PER_ROUND = 20, 2
SETTLED_WIDTHS = 1e-3
# Pixels that give the first background and height.
START_PX = 10_000
SMALLEST_PX = 16
MOST_WIDENED, LEAST_BACKGROUND = 0.2, 1e-3
# An atom too faint for its place to be told keeps it within so many widths.
WANDER_WIDTHS = 3.0
# Share of its own information that keeps two atoms at one place from being singular.
SAME_PLACE = 1e-5


@dataclass(frozen=True)
class Spots:
    """Fitted atoms: `positions_px` (n, 2), `height_e` (n,) of the Gaussian, their `covariance` (n, 3, 3) of (x, y, height), the common
    standard deviation `width_px`, the image without noise `model_e` (H, W) and its part without atoms `background_e` (H, W)."""

    positions_px: Array
    height_e: Array
    covariance: Array
    width_px: float
    model_e: Array
    background_e: Array


@dataclass(frozen=True)
class Counts:
    """An image (H, W) in electrons with camera noise in it, ready for Poisson statistics; `used` (H, W) is 0 at bad pixels, else 1."""

    shifted_e: Array
    used: Array
    noise_variance_e2: float

    @classmethod
    def of(cls, image_e: NDArray[np.floating], noise_variance_e2: float = 0.0, mask: Bool | None = None) -> Counts:
        """`mask` is False at bad pixels. Raises InputError for a shape or values that no image has."""
        image = np.asarray(image_e, dtype=np.float64)
        if image.ndim != 2 or min(image.shape) < SMALLEST_PX or not np.isfinite(image).all():
            raise InputError(f"image of shape {image.shape}: needed are two sides of at least {SMALLEST_PX} px and finite values")
        if not noise_variance_e2 >= 0:
            raise InputError(f"noise variance is {noise_variance_e2} e^2; allowed are values from 0")
        used = np.ones(image.shape) if mask is None else np.asarray(mask, dtype=np.float64)
        if used.shape != image.shape or not used.any():
            raise InputError(f"mask of shape {used.shape} for an image of {image.shape}; give one of its shape, True where a pixel is good")
        return cls(np.maximum(image + noise_variance_e2, 0.0), used, float(noise_variance_e2))


def fit_spots(counts: Counts, positions_px: Array, width_px: float, device: str = "cpu") -> Spots:
    """Atoms near the given (n, 2) positions (x, y), their common width near the given one, background a polynomial of second degree.

    Sums over pixels are taken on a resolved `device`. Raises InputError without atoms, or for one outside the image.
    """
    _check_positions(positions_px, counts.used.shape)
    every = 1 + math.isqrt(counts.used.size // START_PX)
    sample = counts.shifted_e[::every, ::every][counts.used[::every, ::every] > 0]
    shared = np.r_[width_px, np.quantile(sample, 0.2), np.zeros(5)]
    coupled = _Coupled.of(positions_px, PAIR_WIDTHS * width_px)
    xp = module_for(device)
    counts = Counts(xp.asarray(counts.shifted_e), xp.asarray(counts.used), counts.noise_variance_e2)
    atoms = xp.asarray(np.column_stack([positions_px, np.full(len(positions_px), sample.std())]))
    model, by_width = xp.empty((2, *counts.used.shape))
    for _ in range(ROUNDS):
        _render_all(atoms, shared, model)
        moved = 0.0
        for _ in range(SWEEPS_PER_ROUND):
            moved = _sums(model).sweep(counts.shifted_e, counts.used, model, atoms, shared[0], REACH_WIDTHS * shared[0])
        change = _shared_step(counts, model, atoms, shared, coupled, by_width)
        if max(moved, abs(change[0])) < SETTLED_WIDTHS * shared[0]:
            break
        shared = shared + change
    background = by_width
    _render_all(atoms[:0], shared, background)
    places = to_numpy(atoms[:, :2])
    coupled = _Coupled.of(places, PAIR_WIDTHS * shared[0])
    fisher = _fisher(counts, model, atoms, shared[0], coupled, 3)
    ridge = SAME_PLACE * fisher.diagonal() + np.tile([1.0, 1.0, 0.0], len(atoms)) / (WANDER_WIDTHS * shared[0]) ** 2
    covariance = local_inverse(sp.csr_matrix(fisher + sp.diags(ridge)), places, BLOCK_WIDTHS * shared[0], 3)
    height, model_e, background_e = (to_numpy(part) for part in (atoms[:, 2], model, background))
    v = counts.noise_variance_e2
    return Spots(places.copy(), height.copy(), covariance, float(shared[0]), model_e - v, background_e - v)


def _sums(image: Any) -> Any:
    """The module of the sums over pixels, by where the image is."""
    return spots_gpu if on_device(image) else spot_sums


def _check_positions(positions_px: Array, shape: tuple[int, ...]) -> None:
    outside = ~((positions_px >= -0.5) & (positions_px < np.array(shape[::-1]) - 0.5)).all(axis=1)
    if not len(positions_px) or outside.any():
        which = f"atom {np.argmax(outside)} at {positions_px[outside][0]} px lies outside" if outside.any() else "there is no atom in"
        raise InputError(f"{which} the image of {shape[1]} x {shape[0]} px; give positions (x, y) within it")


def _shared_step(counts: Counts, model: Array, atoms: Array, shared: Array, coupled: _Coupled, by_width: Array) -> Array:
    """Fisher-scoring step of width and background with the heights of all atoms free beside them (Schur complement).

    `by_width` (H, W) is overwritten: the derivative of the model by the width.
    """
    fisher, slope = np.zeros((len(shared),) * 2), np.zeros(len(shared))
    coupling, pull = np.zeros((len(atoms), len(shared))), np.zeros(len(atoms))
    by_width[:] = 0.0
    sums = _sums(model)
    sums.render(atoms, shared[0], REACH_WIDTHS * shared[0], 1, by_width)
    sums.shared_sums(counts.shifted_e, counts.used, model, by_width, fisher, slope)
    sums.shared_couplings(counts.shifted_e, counts.used, model, by_width, atoms, shared[0], REACH_WIDTHS * shared[0], coupling, pull)
    heights = _fisher(counts, model, atoms, shared[0], coupled, 1)
    preconditioner = block_jacobi(heights, 1)
    explained = np.column_stack([solved(heights, column[:, None], 1e-4, preconditioner)[:, 0] for column in coupling.T])
    step = np.linalg.solve(fisher - coupling.T @ explained, slope - explained.T @ pull)
    return np.asarray(step * min(1.0, MOST_WIDENED * shared[0] / max(abs(step[0]), 1e-12)))


@dataclass(frozen=True)
class _Coupled:
    """Pairs (p, 2) of overlapping atoms i <= j, which of their blocks and mirrored blocks stand where in a block-sparse matrix."""

    pairs: Ints
    order: Ints
    indices: Ints
    indptr: Ints

    @classmethod
    def of(cls, positions_px: Array, reach_px: float) -> _Coupled:
        pairs = neighbour_pairs(positions_px, reach_px)
        row, column = np.concatenate([pairs, pairs[pairs[:, 0] != pairs[:, 1]][:, ::-1]]).T
        order = np.lexsort((column, row))
        return cls(pairs, order, column[order], np.searchsorted(row[order], np.arange(len(positions_px) + 1)))

    def matrix(self, blocks: Array) -> sp.csr_matrix:
        """The symmetric matrix of blocks (p, s, s), one for each pair."""
        mirrored = blocks[self.pairs[:, 0] != self.pairs[:, 1]].transpose(0, 2, 1)
        side = blocks.shape[1] * (len(self.indptr) - 1)
        return sp.csr_matrix(sp.bsr_matrix((np.concatenate([blocks, mirrored])[self.order], self.indices, self.indptr), shape=(side, side)))


def _fisher(counts: Counts, model: Array, atoms: Array, width_px: float, coupled: _Coupled, size: int) -> sp.csr_matrix:
    """Fisher information of heights alone (`size` 1) or of (x, y, height) of every atom (3), overlapping atoms coupled."""
    blocks = np.zeros((len(coupled.pairs), size, size))
    _sums(model).pair_sums(counts.used, model, atoms, width_px, REACH_WIDTHS * width_px, coupled.pairs, blocks)
    return coupled.matrix(blocks)


def _render_all(atoms: Array, shared: Array, image: Array) -> None:
    """Overwrites an image (H, W) with background and atoms."""
    _sums(image).fill_background(shared[1:], LEAST_BACKGROUND * max(float(shared[1]), 1e-6), image)
    _sums(image).render(atoms, shared[0], REACH_WIDTHS * shared[0], 0, image)
