"""Bonds turned by 90 degrees: candidates by what looks missing, decision by the energy of the best local fit either way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scant.imaging.candidates import (
    FLAG_CONTAMINATED,
    FLAG_DEFECT,
    FLAG_OUTSIDE,
    Detection,
    refitted,
    subset,
    turned_pair,
    with_turned_bond,
)
from scant.imaging.fit import Fit, Observation, Springs, refine, spring_force
from scant.imaging.missing import AtomKernels, Simulator
from scant.imaging.normal_equations import neighbour_pairs
from scant.imaging.occupancy import evidence
from scant.imaging.separable import responses, visible_weight
from scant.imaging.template import Template, overlaps

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

PRIOR_LOG_ODDS = float(np.log(1e-4))
CANDIDATES = 8
# What makes a candidate: more than this share of the change that the template expects; scores beyond so many of their spreads.
PROMISING, SIGNIFICANT = 0.6, 2.0
MODEL_ERROR = 0.05
WINDOW_BONDS, BEYOND_BONDS = 6.0, 3.0
FREE_BONDS = 3.0
SHARES_OF_MOVES = (0.25, 0.5, 0.75, 1.0)
# Of the difference between both images: half of it is lost by turning a bond that is not turned.
HOPELESS = 0.4


@dataclass(frozen=True)
class LocalFit:
    """The best fit around a bond: its `energy`, and its `image` (h, w) with the pixels' `weight`."""

    energy: float
    image: Array
    weight: Array


@dataclass(frozen=True)
class Surroundings:
    """A window around a bond in one way of bonding: its pixels, atoms (n, 2) in them to begin with, their springs and template."""

    crop: Observation
    start: Array
    springs: Springs
    template: Template


def turn_bonds(
    observation: Observation, state: Detection, simulate: Simulator | None, kernels: AtomKernels | None, bond_px: float, most: int = 20
) -> Detection:
    """Turn the bonds that explain the image better so, one after the other, each the best of its round.

    With the simulated kernels of single atoms candidates are bonds both of whose atoms look missing, else those whose turning suits the
    fitted template, which is blind near focus and misled beyond it.
    """
    rejected: set[tuple[int, ...]] = set()
    for _ in range(most):
        gains = {}
        candidates = turn_candidates(observation, state) if kernels is None else missing_pairs(observation, state, kernels, bond_px)
        for candidate in candidates:
            atoms = tuple(state.index[state.bonds[candidate]].ravel().tolist())
            if atoms not in rejected:
                gains[candidate] = turning_gain(observation, state, candidate, bond_px, simulate)
                rejected |= {atoms} if gains[candidate] <= 0 else set()
        best = max(gains, key=lambda candidate: gains[candidate], default=None)
        if best is None or gains[best] <= 0:
            return state
        state = refitted(with_turned_bond(state, best), observation, bond_px)
    return state


def turning_gain(observation: Observation, state: Detection, candidate: int, bond_px: float, simulate: Simulator | None) -> float:
    """Log odds for a bond's being turned: the energies of the best fit either way, and the prior.

    Without a fit first: where the simulated image is much worse with the bond turned, atoms that move a little change nothing of that.
    """
    around, number = _around(state, candidate, bond_px)
    ways = [_surroundings(observation, around, way, number, bond_px) for way in (around, with_turned_bond(around, number))]
    if simulate is None:
        gain, difference = _compared(*(fitted(way) for way in ways))
    else:
        unmoved = [_simulated(way, way.start, simulate) for way in ways]
        gain, difference = _compared(*unmoved)
        if gain >= -HOPELESS * difference:
            gain, difference = _compared(*(moved(way, first, simulate) for way, first in zip(ways, unmoved)))
    # where noise is small the model's own error decides: ask for a share of the signal too
    return gain + min(PRIOR_LOG_ODDS, -MODEL_ERROR * difference)


def _compared(as_is: LocalFit, turned: LocalFit) -> tuple[float, float]:
    """By how much the turned bond's energy is lower, and chi^2 between both images."""
    return as_is.energy - turned.energy, float(((turned.image - as_is.image) ** 2 * as_is.weight).sum())


def _around(state: Detection, bond_number: int, bond_px: float) -> tuple[Detection, int]:
    """The atoms that a fit of the window around a bond needs, and that bond's number among theirs."""
    off = np.abs(state.positions_px - state.positions_px[state.bonds[bond_number]].mean(axis=0)).max(axis=1)
    part, held = subset(state, off < (WINDOW_BONDS + BEYOND_BONDS) * bond_px)
    return part, int(np.searchsorted(held, bond_number))


def missing_pairs(observation: Observation, state: Detection, kernels: AtomKernels, bond_px: float) -> list[int]:
    """Bonds whose two atoms look missing most, the one that does less deciding: a turned bond's atoms are 0.7 A from their sites."""
    seen = evidence(observation, state, kernels, bond_px)
    score = np.where(seen.visible & (state.flag & (FLAG_OUTSIDE | FLAG_DEFECT) == 0), seen.score, 0.0)
    # what looks like contamination may be a turned bond, but must not keep the others out
    dirty = (state.flag & FLAG_CONTAMINATED) > 0
    found: list[int] = []
    for where in (~dirty, dirty):
        missing = np.where(where, score, 0.0)[state.bonds].min(axis=1)
        found += [int(k) for k in np.argsort(-missing, kind="stable")[:CANDIDATES] if missing[k] > SIGNIFICANT * seen.spread]
    return found


def turn_candidates(observation: Observation, state: Detection) -> list[int]:
    """Bonds whose turning, everything else held still, changes chi^2 most favourably."""
    clean = (state.flag & (FLAG_CONTAMINATED | FLAG_OUTSIDE | FLAG_DEFECT)) == 0
    usable = np.nonzero(clean[state.bonds].all(axis=1))[0]
    if not len(usable):
        return []
    weighted = state.fit.residual * observation.weight
    old = responses(state.positions_px, weighted, state.template.atom)[:, 0]
    # atoms that are not where the model has them leave a residual of the other sign: the rest need no closer look
    usable = np.sort(usable[np.argsort(old[state.bonds[usable]].sum(axis=1), kind="stable")[: max(len(usable) // 8, 32 * CANDIDATES)]])
    pairs = state.bonds[usable]
    turned = turned_pair(state.positions_px, pairs).reshape(-1, 2)
    new = responses(turned, weighted, state.template.atom)[:, 0].reshape(-1, 2)
    # |r + t_old - t_new|^2 - |r|^2 = 2 r.(t_old - t_new) + |t_old - t_new|^2; the last term is nearly the same for all bonds
    linear = 2 * (old[pairs].sum(axis=1) - new.sum(axis=1))
    order = np.argsort(linear)[: 4 * CANDIDATES]
    quadratic = np.array([_difference_norm(observation, state, pairs[k], turned[2 * k : 2 * k + 2]) for k in order])
    gain = linear[order] + quadratic
    return [int(usable[order[k]]) for k in np.argsort(gain)[:CANDIDATES] if gain[k] < PROMISING * quadratic[k]]


def _difference_norm(observation: Observation, state: Detection, pair: Ints, turned: Array) -> float:
    points = np.concatenate([state.positions_px[pair], turned])
    pairs = neighbour_pairs(points, 1e9)
    sign = np.array([1.0, 1.0, -1.0, -1.0])
    overlap = overlaps(points, pairs, visible_weight(points, observation.weight, state.template.atom), state.template)[:, 0, 0]
    double = np.where(pairs[:, 0] == pairs[:, 1], 1.0, 2.0)
    return float((overlap * double * sign[pairs[:, 0]] * sign[pairs[:, 1]]).sum())


def _surroundings(observation: Observation, original: Detection, state: Detection, bond_number: int, bond_px: float) -> Surroundings:
    """The window around a bond of the original, springs near it free so that both ways of bonding are judged alike."""
    centre = original.positions_px[original.bonds[bond_number]].mean(axis=0)
    reach = WINDOW_BONDS * bond_px
    low = np.maximum(np.floor(centre - reach).astype(int), 0)
    crop = observation.crop(slice(low[1], int(centre[1] + reach) + 1), slice(low[0], int(centre[0] + reach) + 1))
    near, bonds = np.hypot(*(original.positions_px - centre).T) < FREE_BONDS * bond_px, state.bonds
    springs = Springs(bonds, state.reference_px[bonds[:, 1]] - state.reference_px[bonds[:, 0]], near[bonds].any(axis=1), bond_px)
    return Surroundings(crop, state.positions_px - low, springs, state.template)


def _refined(way: Surroundings) -> Fit:
    return refine(way.crop, way.start, np.ones(len(way.start)), way.springs, template=way.template, iterations=5)


def fitted(way: Surroundings) -> LocalFit:
    """The fit of the template."""
    fit = _refined(way)
    return LocalFit(fit.energy, way.crop.image - fit.residual, way.crop.weight)


def moved(way: Surroundings, unmoved: LocalFit, simulate: Simulator) -> LocalFit:
    """The best simulated window on the way to the fit of the template.

    Near focus that fit pulls positions far off: only as much of each move is taken as lowers the energy of the simulated image.
    """
    move = _refined(way).positions_px - way.start
    return min([unmoved, *(_simulated(way, way.start + share * move, simulate) for share in SHARES_OF_MOVES)], key=lambda each: each.energy)


def _simulated(way: Surroundings, positions: Array, simulate: Simulator) -> LocalFit:
    """The simulated window, its contrast scaled to the frame."""
    crop = way.crop
    image = simulate(positions, (crop.image.shape[0], crop.image.shape[1]))
    image = crop.high_passed(image - image.mean())
    scale = float((image * crop.image * crop.weight).sum() / max(float((image**2 * crop.weight).sum()), 1e-12))
    misfit = 0.5 * float(((crop.image - scale * image) ** 2 * crop.weight).sum())
    return LocalFit(misfit + spring_force(positions, way.springs)[2], scale * image, crop.weight)
