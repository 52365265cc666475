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
from scant.inference.energy import PosteriorEnergy
from scant.inference.information import image_information
from scant.inference.posterior import Moments, chain_weights, combine_chains, split_r_hat
from scant.inference.precondition import ModeCoordinates, bond_modes, mode_scales
from scant.inference.prior import POTENTIALS, PotentialName, build_prior
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics
from scant.rng import stream
from scant.xp import module_for, to_numpy

SOFT_MODES = 12
# Stiffer modes of heights are held by the prior alone.
SENSED_MODES = 150
MOVES_PER_REFRESH = 5
# Chains of a few dozen moves do not each explore the softest ripples (their R-hat says so); what the estimate needs is that
# their means agree, and what remains between them is part of sigma.
CHAIN_SPREAD_LIMIT_ANGSTROM = 0.3
EDGE_ANGSTROM = 3.0
BASIN_WEIGHT = 0.05
MINIMUM_ACCEPTANCE = 0.2


@dataclass(frozen=True)
class FrameProblem:
    """What one frame gives the annealer.

    counts_e, inverse_variance: (H, W), electrons and 1/electrons^2 (0 where a pixel is bad or hit). positions (N, 3) in
    angstrom: the start, atoms just outside the view included. bonds (M, 2). coordination (N,): bonds each atom has in
    reality; more than in `bonds` where the table ends at the margin. guide_e, guide_inverse_variance (H, W): the mean of a window of
    frames around this one with its own noise, on which the annealing looks for the basin; None: the frame itself.
    """

    frame: int
    counts_e: np.ndarray
    inverse_variance: np.ndarray
    positions: np.ndarray
    species: np.ndarray
    bonds: np.ndarray
    coordination: np.ndarray
    guide_e: np.ndarray | None = None
    guide_inverse_variance: np.ndarray | None = None

    @property
    def guide(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts and inverse variances (H, W) that the annealing looks at before it samples the frame's own posterior."""
        if self.guide_e is None or self.guide_inverse_variance is None:
            return self.counts_e, self.inverse_variance
        return self.guide_e, self.guide_inverse_variance


@dataclass(frozen=True)
class RefineSettings:
    """How to anneal: schedule, chains, the prior's temperature and lattice constant, and the gate on correlation."""

    schedule: Schedule
    n_chains: int
    potential: PotentialName
    temperature_k: float
    lattice_constant_angstrom: float
    minimum_correlation: float
    seed: int


def refine_settings(anneal: Mapping[str, Any], lattice_constant_angstrom: float, minimum_correlation: float, seed: int) -> RefineSettings:
    """Settings from the values of the configuration's `anneal` leaf."""
    return RefineSettings(
        schedule=Schedule(**{f.name: anneal[f.name] for f in fields(Schedule) if f.name in anneal}),
        n_chains=anneal["n_chains"],
        potential=anneal["potential"],
        temperature_k=anneal["temperature_k"],
        lattice_constant_angstrom=lattice_constant_angstrom,
        minimum_correlation=minimum_correlation,
        seed=seed,
    )


@dataclass(frozen=True)
class FrameEstimate:
    """Posterior of one frame: mean `positions` and `sigma` (N, 3) in angstrom, one `sample` (N, 3) of it, and how it was reached.

    `converged`: the chains' mean heights agree to 0.3 A rms away from the view's edge, and moves were accepted. `r_hat` of the
    softest height modes is the stricter figure: near 1 when each chain alone has seen the whole posterior. `defocus_angstrom` is the
    frame's own: the movie's plus the mean height, which `positions` do not hold.
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
    defocus_angstrom: float
    sigma_defocus_angstrom: float
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
        prior = build_prior(problems, chains, settings.potential, settings.lattice_constant_angstrom, settings.temperature_k)
        self.own = self._on_device([(p.counts_e, p.inverse_variance) for p in problems])
        self.guide = self._on_device([p.guide for p in problems])
        self.coordinates = self._coordinates(n_atoms)
        self.held = np.repeat([len(p.positions) for p in problems], chains)
        self.energy = PosteriorEnergy(self.model, prior.on(xp), *self.own)
        self.energy.refresh(self.coordinates.origin)
        self.streams = [stream(settings.seed, "anneal", p.frame, c) for p in problems for c in range(chains)]

    def _on_device(self, images: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Any, Any]:
        """Counts and weights (B, H, W) of all replicas from those of the frames."""
        counts, weights = (np.repeat(np.stack(part), self.settings.n_chains, axis=0).astype(np.float32) for part in zip(*images))
        return self.xp.asarray(counts), self.xp.asarray(weights)

    def _coordinates(self, n_atoms: int) -> ModeCoordinates:
        frames = len(self.problems)
        origin = np.zeros((frames, n_atoms, 3), np.float32)
        modes = np.zeros((frames, n_atoms, n_atoms), np.float32)
        scales = np.zeros((frames, n_atoms, 3), np.float32)
        for f, p in enumerate(self.problems):
            n = len(p.positions)
            origin[f, :n] = p.positions
            modes[f, :n, :n], scales[f, :n] = self._frame_modes(p)
        chains, xp = self.settings.n_chains, self.xp
        return ModeCoordinates(xp.asarray(np.repeat(origin, chains, axis=0)), xp.asarray(modes), xp.asarray(scales))

    def _frame_modes(self, problem: FrameProblem) -> tuple[np.ndarray, np.ndarray]:
        """Modes (N, N) of one frame and their scales (N, 3)."""
        eigenvalues, modes = bond_modes(problem.bonds, len(problem.positions))
        image = problem.positions[:, :2], problem.counts_e, problem.inverse_variance
        plane = np.median(image_information(self.model, *image, axes="x").diagonal())
        soft = modes[:, :SENSED_MODES]
        height = np.zeros(len(modes))
        height[:SENSED_MODES] = (soft * (image_information(self.model, *image, axes="z") @ soft)).sum(axis=0)
        potential = POTENTIALS[self.settings.potential]
        return modes, mode_scales(eigenvalues, self.settings.temperature_k, potential, float(plane), height)

    def _energy_of_modes(self, u: Any) -> tuple[Any, Any, Any]:
        energy, gradient, misfit = self.energy(self.coordinates.positions(u))
        return energy, self.coordinates.pull_back(gradient), misfit

    def _move(self, chain: Chain, tau: float, *, refresh: bool) -> None:
        if refresh:
            self.energy.refresh(self.coordinates.positions(chain.u))
            chain.energy, chain.gradient, chain.misfit = self._energy_of_modes(chain.u)
        hamiltonian_move(chain, self._energy_of_modes, tau, self.settings.schedule.leapfrog_steps, self.streams)

    def anneal(self) -> tuple[Chain, Moments]:
        """Anneal on the guide, then turn to the frame itself: burn in and sample at tau = 1, step sizes and quadratic image frozen."""
        schedule, xp = self.settings.schedule, self.xp
        self.energy.observe(*self.guide)
        self.energy.refresh(self.coordinates.origin)
        chain = start_chain(self._energy_of_modes, xp.zeros_like(self.coordinates.origin), held=self.held)
        for n, tau in enumerate(schedule.taus()):
            if n == schedule.n_annealed:
                self.energy.observe(*self.own)
            self._move(chain, float(tau), refresh=n % MOVES_PER_REFRESH == 0 or n == schedule.n_annealed)
            adapt_step(chain, schedule.target_acceptance, n)
        moments = Moments()
        for _ in range(schedule.n_samples):
            self._move(chain, 1.0, refresh=False)
            moments.add(*self._about_mean_height(self.coordinates.positions(chain.u)), chain.u[:, 1 : 1 + SOFT_MODES, 2])
        return chain, moments

    def _about_mean_height(self, positions: Any) -> tuple[Any, Any]:
        """Positions with the mean height of each replica taken out, and that mean (B,)."""
        mean = positions[..., 2].sum(axis=-1) / self.xp.asarray(self.held, positions.dtype)
        centred = positions.copy()
        centred[..., 2] -= mean[:, None]
        return centred, mean

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
        last = to_numpy(self._about_mean_height(self.coordinates.positions(chain.u))[0])
        rise = np.stack(moments.mean_height).reshape(n_samples, len(self.problems), chains)
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
                    sigma=sigma[f, :n],
                    sample=last[f * chains + int(weights[f].argmax()), :n],
                    energy=float((trace[-n_samples:, f] * weights[f]).sum(axis=-1).mean()),
                    chains_in_basin=int(kept.sum()),
                    reduced_chi2=float(2 * misfit[mine].mean() / (p.inverse_variance > 0).sum()),
                    correlation=float(correlation[f]),
                    intensity_e=float(intensity[mine].mean()),
                    acceptance=float(acceptance[f]),
                    r_hat=r_hat,
                    chain_spread_z_angstrom=spread_z,
                    defocus_angstrom=self.model.optics.defocus_angstrom + float(rise[:, f].mean()),
                    sigma_defocus_angstrom=float(rise[:, f].std()),
                    converged=bool(spread_z < CHAIN_SPREAD_LIMIT_ANGSTROM and acceptance[f] > MINIMUM_ACCEPTANCE),
                    n_moves=len(chain.trace),
                    trace=trace[:, f],
                )
            )
        return estimates, failures
