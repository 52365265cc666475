"""How many atoms an image holds, and where: a maximum a posteriori search that knows neither a lattice nor a least separation.

Atoms are added where the residual asks for one, all are fitted together again, and those that the image does not need are taken out: the
alternating descent of Boyd, Schiebinger and Recht (ADCG; SIAM J. Optim. 27, 616, 2017) with Bayesian evidence as its rule to stop. The odds
of an atom are what it adds to the likelihood, against the room that its place and height have (Laplace's approximation); how dense atoms
lie and how high they are is learned from the image itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree
from scipy.special import expit

from scant.errors import InputError
from scant.imaging.spots import REACH_WIDTHS, Counts, Spots, fit_spots

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Widths that are tried, in pixels. A filter sets each against its own surroundings, so much wider; it sees blobs most that are narrower
# than itself.
WIDTHS_PX, SURROUNDINGS, NARROWER = 0.7 * 2 ** (np.arange(18) / 4), 1.6, 2**-0.5
# Signal over noise at which a place is tried; atoms nearer than this many widths stand or fall one after the other.
WORTH_A_TRY, NEIGHBOURHOOD = 3.0, 4.0
MOST_ROUNDS = 40
# Heights of one kind of atom scatter at least by this share.
LEAST_SCATTER = 0.1


@dataclass(frozen=True)
class FoundSpots:
    """The atoms of an image, and `p_atom` (n,): the probability that there is one."""

    spots: Spots
    p_atom: Array


def find_spots(counts: Counts, width_px: float | None = None, device: str = "cpu") -> FoundSpots:
    """Every bright atom of an image; `width_px` of its Gaussian is only where the fit begins, and found from the image when absent.

    Fits run on a resolved `device`, the search for places on the CPU. Raises InputError for an image in which no atom stands out from
    the noise.
    """
    width = typical_width(counts) if width_px is None else width_px
    positions = _places(counts, _local_mean(counts, width), width, np.sqrt(2 * _chance(counts, width)))
    if not len(positions):
        raise InputError(f"no atom stands out of the noise at a width of {width:.2g} px; are counts in electrons, and atoms bright?")
    rejected = np.zeros((0, 2))
    for _ in range(MOST_ROUNDS):
        spots = fit_spots(counts, positions, width, device)
        odds, width = log_odds(counts, spots), spots.width_px
        refused = _worst(spots.positions_px, odds, NEIGHBOURHOOD * width)
        if refused.any():
            rejected = np.concatenate([rejected, positions[refused], spots.positions_px[refused]])
            positions = spots.positions_px[~refused]
            if not len(positions):
                raise InputError("no atom of this image is more likely than none; are counts in electrons, and atoms bright?")
            continue
        fresh = _places(counts, spots.model_e + counts.noise_variance_e2, width, WORTH_A_TRY)
        if len(rejected) and len(fresh):
            fresh = fresh[cKDTree(rejected).query(fresh)[0] > width]
        if not len(fresh):
            break
        positions = np.concatenate([spots.positions_px, fresh])
    return FoundSpots(spots, expit(odds))


def typical_width(counts: Counts) -> float:
    """Standard deviation in pixels, 0.5 to 9, of the blobs that stand out most from the shot noise."""
    return float(NARROWER * WIDTHS_PX[np.argmax([_promise(counts, width) for width in WIDTHS_PX])])


def _promise(counts: Counts, width_px: float) -> float:
    """What atoms of a width would add to the log-likelihood, each more than chance would anywhere in the image."""
    ratio = _contrast(counts, _local_mean(counts, width_px), width_px)
    peaks = ratio[ratio == maximum_filter(ratio, size=3)]
    return float(np.maximum(0.5 * peaks**2 - _chance(counts, width_px), 0.0).sum())


def _chance(counts: Counts, width_px: float) -> float:
    """Logarithm of how many places for an atom of a width there are."""
    return float(np.log(max(counts.used.sum() / (2 * np.pi * width_px**2), 2.0)))


def log_odds(counts: Counts, spots: Spots) -> Array:
    """(n,) natural logarithm of the odds that each atom is there, all others as found."""
    height, variance = spots.height_e, spots.covariance[:, 2, 2]
    gain, information = np.zeros(len(height)), np.zeros(len(height))
    model = spots.model_e + counts.noise_variance_e2
    _gains(counts.shifted_e, counts.used, model, spots.positions_px, height, spots.width_px, gain, information)
    # what neighbours would take up, were the atom not there, by the ratio of the variances with them free and held
    gain = gain / np.maximum(information * variance, 1.0)
    usual, density = np.median(height), len(height) / counts.used.sum()
    scatter = max((1.4826 * np.median(np.abs(height - usual))) ** 2 - np.median(variance), (LEAST_SCATTER * usual) ** 2)
    room = np.sqrt(np.maximum(np.linalg.det(spots.covariance[:, :2, :2]), 1e-300)) * 2 * np.pi * density
    spread = scatter + variance
    return np.asarray(gain + np.log(room) + 0.5 * np.log(variance / spread) - 0.5 * (height - usual) ** 2 / spread)


def _worst(positions: Array, odds: Array, reach_px: float) -> Bool:
    """(n,) atoms less likely than not, the least likely of each neighbourhood alone."""
    refused = np.zeros(len(odds), dtype=bool)
    tree, unlikely = cKDTree(positions), np.flatnonzero(odds < 0)
    for n in unlikely[np.argsort(odds[unlikely])]:
        refused[n] = not refused[tree.query_ball_point(positions[n], reach_px)].any()
    return refused


def _places(counts: Counts, model: Array, width_px: float, least: float) -> Array:
    """(m, 2) local maxima of the residual behind a filter of an atom's shape, that exceed its noise `least` times."""
    ratio = _contrast(counts, model, width_px)
    y, x = np.nonzero((ratio > least) & (ratio == maximum_filter(ratio, size=3)) & (counts.used > 0))
    return np.column_stack([x, y]).astype(float)


def _contrast(counts: Counts, model: Array, width_px: float) -> Array:
    """(H, W) the residual behind a filter of an atom's shape, over the shot noise that is left of it there."""
    noise = np.sqrt(_blob_noise(width_px) * np.maximum(gaussian_filter(model, width_px), 1e-12))
    return np.asarray(_blobs(counts.used * (counts.shifted_e - model), width_px) / noise)


def _filled(counts: Counts) -> Array:
    return np.where(counts.used > 0, counts.shifted_e, counts.shifted_e[counts.used > 0].mean())


def _local_mean(counts: Counts, width_px: float) -> Array:
    return np.asarray(gaussian_filter(_filled(counts), SURROUNDINGS * width_px))


def _blobs(image: Array, width_px: float) -> Array:
    """The image behind a Gaussian less its surroundings."""
    return np.asarray(gaussian_filter(image, width_px) - gaussian_filter(image, SURROUNDINGS * width_px))


def _blob_noise(width_px: float) -> float:
    """Variance that white noise of variance 1 has behind that filter."""
    pulse = np.zeros((2 * int(6 * SURROUNDINGS * width_px) + 1,) * 2)
    pulse[pulse.shape[0] // 2, pulse.shape[1] // 2] = 1.0
    return float((_blobs(pulse, width_px) ** 2).sum())


@njit(cache=True, error_model="numpy")
def _gains(counts, used, model, positions, height, width, gain, information):
    """What each atom adds to the log-likelihood, and the Fisher information of its height, both with all else held."""
    reach = REACH_WIDTHS * width
    for n in range(positions.shape[0]):
        px, py = positions[n, 0], positions[n, 1]
        for y in range(max(int(np.ceil(py - reach)), 0), min(int(np.floor(py + reach)) + 1, model.shape[0])):
            for x in range(max(int(np.ceil(px - reach)), 0), min(int(np.floor(px + reach)) + 1, model.shape[1])):
                g = np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / width**2)
                added, whole = height[n] * g, model[y, x]
                gain[n] += used[y, x] * (counts[y, x] * np.log(whole / max(whole - added, 1e-9 * whole)) - added)
                information[n] += used[y, x] * g * g / whole
