"""A batch of frames, several chains each, annealed side by side on one device.

Frames of a batch may have different atoms: they are padded to one size, and padding has neither weight nor bonds. Every
frame's numbers come from its own streams, so its result does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scant.inference.anneal import Chain, adapt_step, hamiltonian_move, mirror_flip, start_chain
from scant.inference.energy import PosteriorEnergy
from scant.inference.information import image_information, signal_to_noise2
from scant.inference.neighbour_frames import NeighbourLink, ThermalMotion, blurred, link_terms, motion_seen, without_first
from scant.inference.posterior import Moments, chain_weights, combine_chains, split_r_hat
from scant.inference.precondition import ModeCoordinates, bond_modes, mode_scales, thermal_height_variance
from scant.inference.prior import POTENTIALS, build_prior
from scant.inference.problem import FrameProblem, RefineSettings
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.optics import Optics
from scant.rng import stream
from scant.xp import to_numpy

SOFT_MODES = 12
# Stiffer modes of heights are held by the prior alone.
SENSED_MODES = 150
MOVES_PER_REFRESH = 5
SAMPLES_PER_CHECK = 20
DOME_RADIUS_ANGSTROM = (2.5, 10.0)
# Steepest descent in scaled coordinates, where the energy's curvature is about 1.
SETTLING_STEPS, SETTLING_STEP = 10, 0.6


class Replicas:
    """Replicas of all frames, chains of a frame side by side, with their energy and coordinates.

    `motion_angstrom` (frames,): the motion against the linked frames that each image asks for; NaN without a link. `link_energy`: the
    link's share of the energy (B,) of each sample.
    """

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
        self._link: NeighbourLink | None = None
        self.motion_angstrom = np.full(len(problems), np.nan)
        self.link_energy: list[np.ndarray] = []
        self._height_information: list[np.ndarray] = []
        self.coordinates, self._free_variance = self._coordinates(n_atoms)
        self.held = np.repeat([len(p.positions) for p in problems], chains)
        self.energy = PosteriorEnergy(self.model, prior.on(xp), *self.own)
        self.energy.refresh(self.coordinates.origin)
        self.streams = [stream(settings.seed, "anneal", p.frame, c) for p in problems for c in range(chains)]

    def _on_device(self, images: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Any, Any]:
        """Counts and weights (B, H, W) of all replicas from those of the frames."""
        counts, weights = (self.replicated(np.stack(part)) for part in zip(*images))
        return counts, weights

    def _coordinates(self, n_atoms: int) -> tuple[ModeCoordinates, np.ndarray]:
        """Mode coordinates of all replicas, and the variance (frames, N) in A^2 of the modes' heights of a free sheet."""
        frames = len(self.problems)
        origin = np.zeros((frames, n_atoms, 3), np.float32)
        modes = np.zeros((frames, n_atoms, n_atoms), np.float32)
        scales = np.zeros((frames, n_atoms, 3), np.float32)
        free = np.zeros((frames, n_atoms))
        for f, p in enumerate(self.problems):
            n = len(p.positions)
            origin[f, :n] = p.positions
            modes[f, :n, :n], scales[f, :n], free[f, :n], information = self._frame_modes(p)
            self._height_information.append(information)
        self._soft_modes, self._height_scales = modes[:, :, :SENSED_MODES], scales[:, :SENSED_MODES, 2]
        return ModeCoordinates(self.replicated(origin), self.xp.asarray(modes), self.xp.asarray(scales)), free

    def _frame_modes(self, problem: FrameProblem) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Modes (N, N) of one frame, their scales (N, 3), the variance (N,) of the heights of a free sheet, and the image's information
        (K, K) about the scaled heights of the K sensed modes."""
        eigenvalues, modes = bond_modes(problem.bonds, len(problem.positions))
        image = problem.positions[:, :2], problem.counts_e, problem.inverse_variance
        plane = np.median(image_information(self.model, *image, axes="x").diagonal())
        soft = modes[:, :SENSED_MODES]
        felt = image_information(self.model, *image, axes="z") @ soft
        height = np.zeros(len(modes))
        height[:SENSED_MODES] = (soft * felt).sum(axis=0)
        potential = POTENTIALS[self.settings.potential]
        scales = mode_scales(eigenvalues, self.settings.temperature_k, potential, float(plane), height)
        by_scale = scales[:SENSED_MODES, 2]
        free = thermal_height_variance(eigenvalues, self.settings.temperature_k, potential)
        return modes, scales, free, (soft.T @ felt) * by_scale[:, None] * by_scale

    def _energy_of_modes(self, u: Any) -> tuple[Any, Any, Any]:
        energy, gradient, misfit = self.energy(self.coordinates.positions(u))
        gradient = self.coordinates.pull_back(gradient)
        if self._link is not None:
            linked, slope = self._link.energy_and_gradient(u[..., 2])
            energy = energy + linked
            gradient[:, : slope.shape[1], 2] += slope
        return energy, gradient, misfit

    def anneal(self) -> tuple[Chain, Moments]:
        """Anneal on the guide, learn the neighbours' link from it where asked, then burn in and sample the frame's own posterior."""
        schedule, xp = self.settings.schedule, self.xp
        self.energy.observe(*self.guide)
        self.energy.refresh(self.coordinates.origin)
        chain = start_chain(self._energy_of_modes, xp.zeros_like(self.coordinates.origin), held=self.held)
        self._temper(chain, schedule.taus()[: schedule.n_annealed])
        if self.settings.motion is not None:
            self._temper(chain, schedule.taus()[schedule.n_annealed :])
            self._link = self._learn_link(chain, self.settings.motion)
        self.energy.observe(*self.own)
        self._refresh(chain)
        self._temper(chain, schedule.taus()[schedule.n_annealed :])
        return chain, self._sample(chain)

    def _temper(self, chain: Chain, taus: np.ndarray) -> None:
        """One move at each temperature, steps adapting, the quadratic image kept up to date."""
        schedule = self.settings.schedule
        for n, tau in enumerate(taus):
            if n > 0 and n % MOVES_PER_REFRESH == 0:
                self._refresh(chain)
            self._move(chain, float(tau))
            adapt_step(chain, schedule.target_acceptance, len(chain.trace) - 1)

    def _move(self, chain: Chain, tau: float, active: np.ndarray | None = None) -> None:
        """One trajectory and one try to turn a dome over, of every replica or of the active ones (B,)."""
        hamiltonian_move(chain, self._energy_of_modes, tau, self.settings.schedule.leapfrog_steps, self.streams, active)
        mirror_flip(chain, self._energy_of_modes, tau, self._domes(), self.streams, active)

    def _domes(self) -> Any:
        """A random dome for each replica, as a unit vector (B, N) of the scaled coordinates of its soft modes."""
        domes = np.zeros(self.coordinates.origin.shape[:2], np.float32)
        for row, source, n in zip(range(len(domes)), self.streams, self.held):
            frame = row // self.settings.n_chains
            xy = self.problems[frame].positions[:, :2]
            off = ((xy - xy[source.integers(n)]) ** 2).sum(axis=1)
            bump = np.exp(-0.5 * off / source.uniform(*DOME_RADIUS_ANGSTROM) ** 2)
            soft = slice(1, min(SENSED_MODES, n))
            dome = (bump @ self._soft_modes[frame, :n, soft]) / self._height_scales[frame][soft]
            domes[row, soft] = dome / np.linalg.norm(dome)
        return self.xp.asarray(domes)

    def _refresh(self, chain: Chain) -> None:
        self.energy.refresh(self.coordinates.positions(chain.u))
        chain.energy, chain.gradient, chain.misfit = self._energy_of_modes(chain.u)

    def _sample(self, chain: Chain) -> Moments:
        """Moves at tau = 1, step sizes and quadratic image frozen, until a frame's chains agree or `n_samples` are drawn."""
        schedule, moments = self.settings.schedule, Moments()
        active = np.ones(len(chain.u), bool)
        for n in range(1, schedule.n_samples + 1):
            self._move(chain, 1.0, active)
            moments.add(*self.about_mean_height(self.coordinates.positions(chain.u)), chain.u[:, 1 : 1 + SOFT_MODES, 2], active)
            self.link_energy.append(self._link_energy(chain.u))
            if n % SAMPLES_PER_CHECK == 0:
                agree = [r < schedule.stop_r_hat for r in self._r_hats(moments)]
                active = active & ~np.repeat(agree, self.settings.n_chains)
                if not active.any():
                    break
        return moments

    def _link_energy(self, u: Any) -> np.ndarray:
        return np.zeros(len(u)) if self._link is None else to_numpy(self._link.energy_and_gradient(u[..., 2])[0])

    def _r_hats(self, moments: Moments) -> list[float]:
        """Largest split R-hat of the soft modes of each frame, over all its chains."""
        soft = np.stack(moments.soft).reshape(len(moments.soft), len(self.problems), self.settings.n_chains, -1)
        counts = moments.counts[:: self.settings.n_chains]
        return [float(np.max(split_r_hat(soft[:n, f]))) for f, n in enumerate(counts)]

    def _learn_link(self, chain: Chain, motion: ThermalMotion) -> NeighbourLink:
        """What the neighbours' mean image says of each frame's heights, about the mean of samples of the shape that it shows.

        The samples' prior is left behind: only the image's information and its slope at their mean enter, or else the frame's own
        posterior would count the prior twice.
        """
        schedule, chains = self.settings.schedule, self.settings.n_chains
        moments = Moments()
        for _ in range(schedule.n_samples):
            hamiltonian_move(chain, self._energy_of_modes, 1.0, schedule.leapfrog_steps, self.streams)
            moments.add(chain.u, chain.misfit, chain.u[:, 1 : 1 + SOFT_MODES, 2])
        energies = np.stack(chain.trace[-schedule.n_samples :]).reshape(schedule.n_samples, -1, chains)
        mean, sigma, _ = combine_chains(moments, chain_weights(energies))
        guide_slope, own_slope = self._image_slope(mean), self._own_slope(mean)
        sensed = min(SENSED_MODES, mean.shape[1])
        slopes, precisions, pulls = (np.zeros((len(self.problems), *[sensed] * n), np.float32) for n in (1, 2, 1))
        for f, p in enumerate(self.problems):
            if not p.guide_offsets:
                continue
            own = self._height_information[f]
            held, linked = slice(len(own)), slice(1, len(own))
            strength = signal_to_noise2(*p.guide) / signal_to_noise2(p.counts_e, p.inverse_variance)
            apart = (own_slope - guide_slope / strength)[f, linked]
            variance_of = self._motion_variance_of(f, linked)
            seen = motion_seen(motion, apart, own[1:, 1:], 1 + 1 / strength, variance_of, p.guide_offsets)
            self.motion_angstrom[f] = seen.rms_angstrom
            slopes[f, linked], variance = link_terms(mean[f, linked, 2], sigma[f, linked, 2] ** 2, variance_of(seen), p.guide_offsets, seen)
            likelihood = without_first(strength * own, strength * own @ mean[f, held, 2] + guide_slope[f, held])
            precisions[f, linked, linked], pulls[f, linked] = blurred(*likelihood, variance)
        return NeighbourLink(*(self.xp.asarray(part) for part in (slopes, precisions, pulls)))

    def _image_slope(self, modes: np.ndarray) -> np.ndarray:
        """Derivative (frames, N) by the scaled heights of the log-likelihood of the images observed, at coordinates (frames, N, 3)."""
        positions = self.coordinates.positions(self.replicated(modes))
        self.energy.refresh(positions)
        return -to_numpy(self.coordinates.pull_back(self.energy.misfit(positions)[1]))[:: self.settings.n_chains, :, 2]

    def _own_slope(self, modes: np.ndarray) -> np.ndarray:
        """As `_image_slope` of each frame's own image, at heights of coordinates (frames, N, 3) with the x and y that suit them best."""
        u = self.replicated(modes * (0, 0, 1))
        self.energy.observe(*self.own)
        self.energy.refresh(self.coordinates.positions(u))
        for _ in range(SETTLING_STEPS):
            u[..., :2] -= SETTLING_STEP * self._energy_of_modes(u)[1][..., :2]
        return self._image_slope(to_numpy(u)[:: self.settings.n_chains])

    def _motion_variance_of(self, frame: int, modes: slice) -> Callable[[ThermalMotion], np.ndarray]:
        """From a motion to its variance in some scaled height modes of a frame."""
        free, scale = self._free_variance[frame, : len(self.problems[frame].positions)], self._height_scales[frame][modes]
        return lambda motion: motion.variance(free)[modes] / scale**2

    def replicated(self, values: np.ndarray) -> Any:
        """What each replica has (B, ...), in single precision on the device, from what each frame has (frames, ...)."""
        return self.xp.asarray(np.repeat(values, self.settings.n_chains, axis=0).astype(np.float32))

    def about_mean_height(self, positions: Any) -> tuple[Any, Any]:
        """Positions with the mean height of each replica taken out, and that mean (B,)."""
        mean = positions[..., 2].sum(axis=-1) / self.xp.asarray(self.held, positions.dtype)
        centred = positions.copy()
        centred[..., 2] -= mean[:, None]
        return centred, mean
