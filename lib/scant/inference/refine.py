"""From counts and a flat start to 3D atoms: a batch of frames, several chains each, annealed together.

Frames of a batch may have different atoms: they are padded to one size, and padding has neither weight nor bonds. Every
frame's numbers come from its own streams, so its result does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from scant.errors import FrameFailure
from scant.inference.anneal import Chain, Schedule, adapt_step, hamiltonian_move, start_chain
from scant.inference.energy import PosteriorEnergy, Prior
from scant.inference.posterior import Moments, chain_weights, combine_chains, split_r_hat
from scant.inference.precondition import ModeCoordinates, bond_modes, mode_scales
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics
from scant.physics.tersoff import TersoffParameters, neighbour_table, scaled, stack_tables
from scant.rng import stream
from scant.xp import module_for, to_numpy

SOFT_MODES = 12
MOVES_PER_REFRESH = 5
# Chains of a few dozen moves do not each explore the softest ripples (their R-hat says so); what the estimate needs is that
# their means agree, and what remains between them is part of sigma.
CHAIN_SPREAD_LIMIT_ANGSTROM = 0.3
EDGE_ANGSTROM = 3.0
# ASSUME: Tersoff is not the sample's own potential, which makes the posterior too narrow by these factors in x, y and z:
# measured as error over spread on the open validation movie, whose truth is LCBOP (2026-11-20).
PRIOR_ERROR = np.array([1.18, 1.18, 1.36])
BASIN_WEIGHT = 0.05
MINIMUM_ACCEPTANCE = 0.2


@dataclass(frozen=True)
class FrameProblem:
    """What one frame gives the annealer.

    counts_e, inverse_variance: (H, W), electrons and 1/electrons^2 (0 where a pixel is bad or hit). positions (N, 3) in
    angstrom: the start, atoms just outside the view included. bonds (M, 2). coordination (N,): bonds each atom has in
    reality; more than in `bonds` where the table ends at the margin.
    """

    frame: int
    counts_e: np.ndarray
    inverse_variance: np.ndarray
    positions: np.ndarray
    species: np.ndarray
    bonds: np.ndarray
    coordination: np.ndarray


@dataclass(frozen=True)
class RefineSettings:
    """How to anneal: schedule, chains, the prior's temperature and lattice constant, and the gate on correlation."""

    schedule: Schedule
    n_chains: int
    temperature_k: float
    lattice_constant_angstrom: float
    minimum_correlation: float
    seed: int


def refine_settings(anneal: Mapping[str, Any], lattice_constant_angstrom: float, minimum_correlation: float, seed: int) -> RefineSettings:
    """Settings from the values of the configuration's `anneal` leaf."""
    return RefineSettings(
        schedule=Schedule(**{f.name: anneal[f.name] for f in fields(Schedule) if f.name in anneal}),
        n_chains=anneal["n_chains"],
        temperature_k=anneal["temperature_k"],
        lattice_constant_angstrom=lattice_constant_angstrom,
        minimum_correlation=minimum_correlation,
        seed=seed,
    )


@dataclass(frozen=True)
class FrameEstimate:
    """Posterior of one frame: mean `positions` and `sigma` (N, 3) in angstrom, one `sample` (N, 3) of it, and how it was reached.

    `converged`: the chains' mean heights agree to 0.3 A rms away from the view's edge, and moves were accepted. `r_hat` of the
    softest height modes is the stricter figure: near 1 when each chain alone has seen the whole posterior.
    """

    frame: int
    positions: np.ndarray
    sigma: np.ndarray
    sample: np.ndarray
    energy: float
    chains_in_basin: int
    reduced_chi2: float
    correlation: float
    intensity_e: float
    acceptance: float
    r_hat: float
    chain_spread_z_angstrom: float
    converged: bool
    n_moves: int
    trace: np.ndarray


def refine_frames(
    problems: list[FrameProblem], optics: Optics, grid: ImageGrid, settings: RefineSettings, device: str = "cpu"
) -> tuple[list[FrameEstimate], list[FrameFailure]]:
    """Anneal the frames as one batch on a resolved device; on exhausted memory the batch is halved.

    Frames that fail the gate or leave the finite numbers come back as failures, the others as estimates.
    """
    try:
        return _refine_batch(problems, optics, grid, settings, device)
    except MemoryError:
        if len(problems) == 1:
            raise
    middle = len(problems) // 2
    halves = [refine_frames(part, optics, grid, settings, device) for part in (problems[:middle], problems[middle:])]
    return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]


def _refine_batch(
    problems: list[FrameProblem], optics: Optics, grid: ImageGrid, settings: RefineSettings, device: str
) -> tuple[list[FrameEstimate], list[FrameFailure]]:
    batch = _Batch(problems, optics, grid, settings, module_for(device))
    correlation = to_numpy(batch.energy.correlation(batch.coordinates.origin))[:: settings.n_chains]
    refused = correlation < settings.minimum_correlation
    if refused.any():
        failures = [_gate_failure(p, c, settings) for p, c, r in zip(problems, correlation, refused) if r]
        rest = [p for p, r in zip(problems, refused) if not r]
        estimates, more = _refine_batch(rest, optics, grid, settings, device) if rest else ([], [])
        return estimates, failures + more
    chain, moments = batch.anneal()
    return batch.estimates(chain, moments)


def _gate_failure(problem: FrameProblem, correlation: float, settings: RefineSettings) -> FrameFailure:
    found = f"model and data correlate by {correlation:.3f} at the start, at least {settings.minimum_correlation:.3f} is needed"
    wrong_sign = correlation < -settings.minimum_correlation
    reason = (
        "the contrast has the wrong sign: check the signs of defocus_angstrom and cs_um"
        if wrong_sign
        else "check pixel_size_angstrom, the optics and the atoms found by localise"
    )
    return FrameFailure(problem.frame, "anneal", "correlation", found, reason)


class _Batch:
    """Replicas of all frames, chains of a frame side by side, with their energy and coordinates."""

    def __init__(self, problems: list[FrameProblem], optics: Optics, grid: ImageGrid, settings: RefineSettings, xp: Any):
        self.problems, self.settings, self.xp = problems, settings, xp
        n_atoms = max(len(p.positions) for p in problems)
        chains = settings.n_chains
        species = np.full((len(problems), n_atoms), "", dtype="U2")
        for row, p in zip(species, problems):
            row[: len(p.species)] = p.species
        self.model = ForwardModel(optics, grid, np.repeat(species, chains, axis=0), xp=xp)
        tables = [neighbour_table(p.bonds, len(p.positions), coordination=p.coordination) for p in problems for _ in range(chains)]
        potential = scaled(TersoffParameters(), settings.lattice_constant_angstrom)
        prior = Prior(stack_tables(tables).on(xp), potential, settings.temperature_k)
        counts, weights = (
            np.repeat(np.stack(a), chains, axis=0).astype(np.float32) for a in zip(*((p.counts_e, p.inverse_variance) for p in problems))
        )
        self.energy = PosteriorEnergy(self.model, prior, xp.asarray(counts), xp.asarray(weights))
        self.coordinates = self._coordinates(n_atoms)
        self.energy.refresh(self.coordinates.origin)
        self.streams = [stream(settings.seed, "anneal", p.frame, c) for p in problems for c in range(chains)]

    def _coordinates(self, n_atoms: int) -> ModeCoordinates:
        frames = len(self.problems)
        origin = np.zeros((frames, n_atoms, 3), np.float32)
        modes = np.zeros((frames, n_atoms, n_atoms), np.float32)
        scales = np.zeros((frames, n_atoms, 3), np.float32)
        for f, p in enumerate(self.problems):
            n = len(p.positions)
            eigenvalues, vectors = bond_modes(p.bonds, n)
            plane, height = atom_information(self.model, p)
            origin[f, :n], modes[f, :n, :n] = p.positions, vectors
            scales[f, :n] = mode_scales(eigenvalues, self.settings.temperature_k, plane, height)
        chains = self.settings.n_chains
        return ModeCoordinates(*(self.xp.asarray(np.repeat(a, chains, axis=0)) for a in (origin, modes, scales)))

    def _energy_of_modes(self, u: Any) -> tuple[Any, Any, Any]:
        energy, gradient, misfit = self.energy(self.coordinates.positions(u))
        return energy, self.coordinates.pull_back(gradient), misfit

    def _move(self, chain: Chain, tau: float, n_moves: int) -> None:
        hamiltonian_move(chain, self._energy_of_modes, tau, self.settings.schedule.leapfrog_steps, self.streams)
        if n_moves % MOVES_PER_REFRESH == 0:
            self.energy.refresh(self.coordinates.positions(chain.u))
            chain.energy, chain.gradient, chain.misfit = self._energy_of_modes(chain.u)

    def anneal(self) -> tuple[Chain, Moments]:
        """Run the schedule, then sample at tau = 1; the step sizes and the quadratic image are frozen while sampling."""
        schedule, xp = self.settings.schedule, self.xp
        chain = start_chain(self._energy_of_modes, xp.zeros_like(self.coordinates.origin))
        for n, tau in enumerate(schedule.taus()):
            self._move(chain, float(tau), n)
            adapt_step(chain, schedule.target_acceptance, n)
        moments = Moments()
        for _ in range(schedule.n_samples):
            hamiltonian_move(chain, self._energy_of_modes, 1.0, schedule.leapfrog_steps, self.streams)
            moments.add(self.coordinates.positions(chain.u), chain.u[:, 1 : 1 + SOFT_MODES, 2])
        return chain, moments

    def _well_inside(self, positions: np.ndarray) -> np.ndarray:
        """Atoms (N,) far enough from the view's edge for the image to hold them on all sides; all atoms when none is."""
        grid = self.model.grid
        size = np.array([grid.width_px, grid.height_px]) * grid.pixel_size_angstrom
        inner = np.asarray(((positions[:, :2] > EDGE_ANGSTROM) & (positions[:, :2] < size - EDGE_ANGSTROM)).all(axis=1))
        return inner if inner.any() else np.ones(len(positions), bool)

    def estimates(self, chain: Chain, moments: Moments) -> tuple[list[FrameEstimate], list[FrameFailure]]:
        chains, n_samples = self.settings.n_chains, self.settings.schedule.n_samples
        trace = np.stack(chain.trace).reshape(len(chain.trace), -1, chains)
        weights = chain_weights(trace[-n_samples:])
        mean, sigma, spread = combine_chains(moments, weights)
        correlation = to_numpy(self.energy.correlation(self.xp.asarray(np.repeat(mean, chains, axis=0), np.float32)))[::chains]
        soft = np.stack(moments.soft).reshape(n_samples, len(self.problems), chains, -1)
        acceptance = np.stack(chain.accepted[-n_samples:]).reshape(n_samples, -1, chains).mean(axis=(0, 2))
        last = to_numpy(self.coordinates.positions(chain.u))
        misfit, intensity = to_numpy(chain.misfit), to_numpy(self.energy.intensity_e)
        estimates, failures = [], []
        for f, p in enumerate(self.problems):
            n = len(p.positions)
            if not np.isfinite(mean[f, :n]).all():
                failures.append(FrameFailure(p.frame, "anneal", "diverged", "the energy left the finite numbers", "lower anneal.tau_start"))
                continue
            mine = slice(f * chains, (f + 1) * chains)
            kept = weights[f] > BASIN_WEIGHT * weights[f].max()
            inner = self._well_inside(p.positions)
            spread_z = float(np.sqrt((spread[f, :n, 2][inner] ** 2).mean()))
            r_hat = float(np.max(split_r_hat(soft[:, f][:, kept])))
            estimates.append(
                FrameEstimate(
                    frame=p.frame,
                    positions=mean[f, :n],
                    sigma=sigma[f, :n] * PRIOR_ERROR,
                    sample=last[f * chains + int(weights[f].argmax()), :n],
                    energy=float((trace[-n_samples:, f] * weights[f]).sum(axis=-1).mean()),
                    chains_in_basin=int(kept.sum()),
                    reduced_chi2=float(2 * misfit[mine].mean() / (p.inverse_variance > 0).sum()),
                    correlation=float(correlation[f]),
                    intensity_e=float(intensity[mine].mean()),
                    acceptance=float(acceptance[f]),
                    r_hat=r_hat,
                    chain_spread_z_angstrom=spread_z,
                    converged=bool(spread_z < CHAIN_SPREAD_LIMIT_ANGSTROM and acceptance[f] > MINIMUM_ACCEPTANCE),
                    n_moves=len(chain.trace),
                    trace=trace[:, f],
                )
            )
        return estimates, failures


def atom_information(model: ForwardModel, problem: FrameProblem) -> tuple[float, float]:
    """Fisher information (1/A^2) that the image alone holds on one atom's in-plane coordinate and on its height.

    From the linear image of one atom of the first element in the middle of the view, by central differences.
    """
    grid, step = model.grid, 0.05
    single = ForwardModel(model.optics, grid, np.array([model.elements[0]]))
    centre = np.array([grid.width_px / 2, grid.height_px / 2, 0.0]) * grid.pixel_size_angstrom
    shifts = step * np.array([[1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]])
    images = [single.linear_image((centre + s)[None, None].astype(np.float32))[0][0].astype(float) for s in shifts]
    used = problem.inverse_variance > 0
    signal_to_noise = problem.counts_e[used].mean() ** 2 * problem.inverse_variance[used].mean()
    plane, height = (signal_to_noise * (((a - b) / (2 * step)) ** 2).sum() for a, b in ((images[0], images[1]), (images[2], images[3])))
    return float(plane), float(height)
