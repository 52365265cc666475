"""Bonds turned, made or broken where a refined frame still disagrees with its image, accepted by the energy that annealed it.

A move changes the table, relaxes the atoms around it and is judged by the energies so reached, as in bond switching (Wooten, Winer and
Weaire, Phys. Rev. Lett. 54 (1985) 1392). Whether near atoms share a bond is for the electrons, hence for the energy alone. A turned bond
has a barrier between it and the lattice; the beam takes it across, temperature does not: it is judged by its energy above the least
that its bonds allow there, p(data | table) in Laplace's approximation with equal curvatures, and by fixed odds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from scant.inference.energy import PosteriorEnergy
from scant.inference.prior import Prior, build_prior
from scant.inference.problem import FrameProblem, RefineSettings
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import bond_lengths, stone_wales
from scant.physics.optics import Optics
from scant.rng import stream
from scant.xp import to_numpy

# As localise has it: one bond in ten thousand.
LOG_ODDS_OF_A_TURN = float(np.log(1e-4))
# A bond is tried where the residual holds at least this share of its turn, by so many standard deviations of the noise.
SUSPECT_SHARE = 0.3
SUSPECT_SIGMA = 3.5
MOST_CANDIDATES = 4
MOST_MOVES = 4
EDGE_ANGSTROM = 3.0
RELAXED_ANGSTROM = 9.0
RELAXATION_STEPS = 80
# Fixed tables are not bound from below: atoms that leave the reach of their bonds gain energy without end.
REACH_ANGSTROM = 0.7
BROKEN_ANGSTROM = 1.85
BONDING_ANGSTROM = 2.1
FULL_COORDINATION = 3


@dataclass(frozen=True)
class BondMove:
    """Another bond table for the same atoms: `bonds` (M, 2), `coordination` (N,), starting `positions` (N, 3), and the atoms concerned.

    turns: a bond turned, not made or broken.
    """

    bonds: np.ndarray
    coordination: np.ndarray
    positions: np.ndarray
    atoms: tuple[int, int]
    turns: bool

    @property
    def centre(self) -> np.ndarray:
        return np.asarray(self.positions[list(self.atoms), :2].mean(axis=0))


class BondJudge:
    """Energies of bond tables of one frame, on the counts that its annealing begins with (the window's mean where there is one)."""

    def __init__(self, problem: FrameProblem, optics: Optics, grid: ImageGrid, settings: RefineSettings, xp: Any):
        self.settings, self.xp = settings, xp
        self.model = ForwardModel(optics, grid, problem.species[None], xp=xp)
        self.counts, self.weights = (xp.asarray(part[None].astype(np.float32)) for part in problem.guide)

    def turned_share(self, positions: np.ndarray, ends: np.ndarray, turned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much of each turn the image's residual holds, and the standard deviation of that figure, (n,) each.

        ends, turned (n, 2, 2): both atoms of a bond in angstrom now and after the turn, all others held; 1 where the residual is that
        change, 0 where the bond is right. A matched filter with the image of a flat atom. The deviation is that of the noise, or the
        frame's own scatter where a poor model makes it larger.
        """
        grid = self.model.grid
        model = to_numpy(self.model.image(self._stacked(positions)))[0].astype(float)
        counts, weights = (to_numpy(part)[0].astype(float) for part in (self.counts, self.weights))
        intensity = (weights * model * counts).sum() / (weights * model**2).sum()
        residual = np.zeros(grid.padded_shape)
        residual[grid.view] = weights * intensity * (counts - intensity * model)
        atom = rfft2(to_numpy(self.model.to_image(self.model.xp.asarray(self.model.atom_bands()[0][None])))[0])
        seen = irfft2(rfft2(residual) * np.conj(atom), s=grid.padded_shape)
        overlap = intensity**2 * weights[weights > 0].mean() * irfft2(np.abs(atom) ** 2, s=grid.padded_shape)
        points, sign = np.concatenate([turned, ends], axis=1), np.array([1.0, 1.0, -1.0, -1.0])
        apart = points[:, :, None] - points[:, None]
        projection = self._at(seen, points + grid.pad_px * grid.pixel_size_angstrom) @ sign
        square = np.einsum("nij,i,j->n", self._at(overlap, apart), sign, sign)
        share = projection / square
        scatter = 1.4826 * float(np.median(np.abs(share - np.median(share))))
        return share, np.maximum(square**-0.5, scatter)

    def _at(self, field: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Values of a padded field at points (..., 2) as (x, y) in angstrom from its first pixel."""
        return np.asarray(
            map_coordinates(field, np.moveaxis(points, -1, 0)[::-1] / self.model.grid.pixel_size_angstrom, order=3, mode="grid-wrap")
        )

    def relaxed(self, problem: FrameProblem, positions: np.ndarray, centre: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy of the table with the atoms near `centre` relaxed, and the positions (N, 3) then."""
        posterior = PosteriorEnergy(self.model, self._prior(problem), self.counts, self.weights)
        # The quadratic image is held while the atoms relax: twice, so that it is that of the relaxed atoms.
        for _ in range(2):
            posterior.refresh(self._stacked(positions))
            energy, positions = self._minimum(posterior, positions, centre)
        return energy, positions

    def least(self, problem: FrameProblem, positions: np.ndarray, centre: np.ndarray) -> float:
        """The least energy that the table's bonds allow near `centre`, whatever the image."""
        return self._minimum(self._prior(problem).energy_and_gradient, positions, centre)[0]

    def _prior(self, problem: FrameProblem) -> Prior:
        s = self.settings
        return build_prior([problem], 1, s.potential, s.lattice_constant_angstrom, s.temperature_k).on(self.xp)

    def _minimum(self, energy: Any, positions: np.ndarray, centre: np.ndarray) -> tuple[float, np.ndarray]:
        free = ((positions[:, :2] - centre) ** 2).sum(axis=1) < RELAXED_ANGSTROM**2

        def value_and_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
            moved = positions.copy()
            moved[free] = x.reshape(-1, 3)
            value, gradient, *_ = energy(self._stacked(moved))
            return float(value[0]), to_numpy(gradient)[0][free].astype(float).ravel()

        start = positions[free].ravel()
        bounds = np.stack([start - REACH_ANGSTROM, start + REACH_ANGSTROM], axis=1)
        found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": RELAXATION_STEPS})
        relaxed = positions.copy()
        relaxed[free] = found.x.reshape(-1, 3)
        return float(found.fun), relaxed

    def _stacked(self, positions: np.ndarray) -> Any:
        return self.xp.asarray(positions[None].astype(np.float32))


def move_bonds(
    problem: FrameProblem, positions: np.ndarray, optics: Optics, grid: ImageGrid, settings: RefineSettings, xp: Any
) -> tuple[FrameProblem, np.ndarray]:
    """The problem with the bonds that explain its image better, one move after the other, and which atoms (N,) they touched.

    positions (N, 3): the frame's estimate. Moves are accepted by Metropolis's rule at tau = 1 on relaxed energies. A frame without
    candidates costs one image.
    """
    judge = BondJudge(problem, optics, grid, settings, xp)
    source = stream(settings.seed, "bonds", problem.frame)
    touched = np.zeros(len(positions), bool)
    for _ in range(MOST_MOVES):
        judged = [_judged(problem, positions, move, judge) for move in candidates(problem, positions, judge)]
        if not judged:
            break
        gain, changed, relaxed, move = max(judged, key=lambda tried: tried[0])
        if np.log(source.uniform()) >= gain:
            break
        start = problem.positions.copy()
        near = ((relaxed[:, :2] - move.centre) ** 2).sum(axis=1) < RELAXED_ANGSTROM**2
        start[near, :2] = relaxed[near, :2]
        problem, positions = replace(changed, positions=start), relaxed
        touched[np.unique(move.bonds[np.isin(move.bonds, move.atoms).any(axis=1)])] = True
    return problem, touched


def _judged(
    problem: FrameProblem, positions: np.ndarray, move: BondMove, judge: BondJudge
) -> tuple[float, FrameProblem, np.ndarray, BondMove]:
    """Energy gained by a move, the odds of a turn included; the problem and the relaxed positions after it; the move."""
    changed = replace(problem, bonds=move.bonds, coordination=move.coordination)
    before, _ = judge.relaxed(problem, positions, move.centre)
    after, relaxed = judge.relaxed(changed, move.positions, move.centre)
    gain = before - after
    if move.turns:
        gain += judge.least(changed, relaxed, move.centre) - judge.least(problem, positions, move.centre) + LOG_ODDS_OF_A_TURN
    return gain, changed, relaxed, move


def candidates(problem: FrameProblem, positions: np.ndarray, judge: BondJudge) -> list[BondMove]:
    """Bonds to turn where the image disagrees most, overlong bonds to break, and pairs of atoms that lack a bond and are near."""
    bonds, degree = problem.bonds, np.bincount(problem.bonds.ravel(), minlength=len(positions))
    grid = judge.model.grid
    size = np.array([grid.width_px, grid.height_px]) * grid.pixel_size_angstrom
    middles = positions[bonds, :2].mean(axis=1)
    inside = np.flatnonzero(((middles > EDGE_ANGSTROM) & (middles < size - EDGE_ANGSTROM)).all(axis=1))
    whole = inside[(degree[bonds[inside]] == FULL_COORDINATION).all(axis=1)]
    moves = []
    if len(whole):
        share, sigma = judge.turned_share(positions, positions[bonds[whole], :2], turned_ends(positions, bonds[whole]))
        tried = np.argsort(-share, kind="stable")[:MOST_CANDIDATES]
        moves = [_turned(problem, positions, int(whole[k])) for k in tried if share[k] > max(SUSPECT_SHARE, SUSPECT_SIGMA * sigma[k])]
    long = inside[bond_lengths(positions, bonds[inside]) > BROKEN_ANGSTROM]
    moves += [_broken(problem, positions, int(k)) for k in long[:MOST_CANDIDATES]]
    short_of_one = np.flatnonzero((degree < FULL_COORDINATION) & (problem.coordination < FULL_COORDINATION))
    pairs = short_of_one[cKDTree(positions[short_of_one]).query_pairs(BONDING_ANGSTROM, output_type="ndarray")].reshape(-1, 2)
    bonded = {tuple(sorted(pair)) for pair in bonds.tolist()}
    new = [(int(a), int(b)) for a, b in pairs if tuple(sorted((int(a), int(b)))) not in bonded]
    return moves + [_made(problem, positions, pair) for pair in new[:MOST_CANDIDATES]]


def turned_ends(positions: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """Both ends (n, 2, 2) of bonds (n, 2) turned by 90 degrees about their middle in (x, y), as `stone_wales` turns one."""
    a, b = positions[bonds[:, 0], :2], positions[bonds[:, 1], :2]
    across = np.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], axis=1) / 2
    return np.stack([(a + b) / 2 - across, (a + b) / 2 + across], axis=1)


def _turned(problem: FrameProblem, positions: np.ndarray, bond: int) -> BondMove:
    turned, bonds = stone_wales(positions, problem.bonds, bond)
    a, b = (int(i) for i in problem.bonds[bond])
    return BondMove(bonds, problem.coordination, turned, (a, b), turns=True)


def _broken(problem: FrameProblem, positions: np.ndarray, bond: int) -> BondMove:
    a, b = (int(i) for i in problem.bonds[bond])
    coordination = problem.coordination.copy()
    coordination[[a, b]] -= 1
    return BondMove(np.delete(problem.bonds, bond, axis=0), coordination, positions, (a, b), turns=False)


def _made(problem: FrameProblem, positions: np.ndarray, pair: tuple[int, int]) -> BondMove:
    coordination = problem.coordination.copy()
    coordination[list(pair)] += 1
    return BondMove(np.concatenate([problem.bonds, [sorted(pair)]]), coordination, positions, pair, turns=False)
