"""What the chains of a batch say together: posterior mean, sigma and samples of every frame, and the figures of its convergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scant.errors import FrameFailure
from scant.inference.anneal import Chain
from scant.inference.posterior import Moments, chain_weights, combine_chains, split_r_hat
from scant.inference.problem import FrameEstimate
from scant.inference.replicas import Replicas
from scant.physics.forward import ImageGrid
from scant.xp import to_numpy

# Chains of a few dozen moves do not each explore the softest ripples (their R-hat says so); what the estimate needs is that
# their means agree, and what remains between them is part of sigma.
CHAIN_SPREAD_LIMIT_ANGSTROM = 0.3
EDGE_ANGSTROM = 3.0
BASIN_WEIGHT = 0.05
MINIMUM_ACCEPTANCE = 0.2
# Sheets kept of a frame for what is not linear in the positions: each costs disk and a solution of the pi bands.
MOST_SAMPLES = 4


@dataclass(frozen=True)
class _Sampled:
    """What the chains left, fetched from the device once: per sample and replica (S, B, ...), or per replica (B, ...)."""

    accepted: np.ndarray
    soft: np.ndarray
    mean_height: np.ndarray
    positions: np.ndarray
    misfit: np.ndarray
    intensity_e: np.ndarray


def estimates_of(batch: Replicas, chain: Chain, moments: Moments) -> tuple[list[FrameEstimate], list[FrameFailure]]:
    """Estimates of the frames in order; a frame that left the finite numbers is a failure."""
    chains = batch.settings.n_chains
    before = len(chain.trace) - len(moments.soft)
    trace = np.stack(chain.trace).reshape(len(chain.trace), -1, chains)
    counts = moments.counts[::chains]
    own_energy = trace[before:] - np.stack(batch.link_energy).reshape(len(moments.soft), -1, chains)
    weights = np.concatenate([chain_weights(trace[before : before + n, f : f + 1]) for f, n in enumerate(counts)])
    mean, sigma, spread = combine_chains(moments, weights)
    correlation = to_numpy(batch.energy.correlation(batch.replicated(mean)))[::chains]
    sampled = _Sampled(
        np.stack(chain.accepted)[before:],
        np.stack(moments.soft),
        np.stack(moments.mean_height),
        to_numpy(batch.about_mean_height(batch.coordinates.positions(chain.u))[0]),
        to_numpy(chain.misfit),
        to_numpy(batch.energy.intensity_e),
    )
    estimates, failures = [], []
    for f, p in enumerate(batch.problems):
        n = len(p.positions)
        if not np.isfinite(mean[f, :n]).all():
            failures.append(FrameFailure(p.frame, "anneal", "diverged", "the energy left the finite numbers", "lower anneal.tau_start"))
            continue
        figures = _figures(batch, f, sampled, counts[f], weights[f])
        spread_z = float(np.sqrt((spread[f, :n, 2][_well_inside(batch.model.grid, p.positions)] ** 2).mean()))
        estimates.append(
            FrameEstimate(
                frame=p.frame,
                positions=mean[f, :n],
                sigma=sigma[f, :n],
                energy=float((own_energy[: counts[f], f] * weights[f]).sum(axis=-1).mean()),
                correlation=float(correlation[f]),
                chain_spread_z_angstrom=spread_z,
                converged=bool(spread_z < CHAIN_SPREAD_LIMIT_ANGSTROM and figures["acceptance"] > MINIMUM_ACCEPTANCE),
                n_moves=before + counts[f],
                trace=trace[: before + counts[f], f],
                rebonded=np.zeros(n, bool),
                **figures,
            )
        )
    return estimates, failures


def _figures(batch: Replicas, f: int, sampled: _Sampled, n_samples: int, weights: np.ndarray) -> dict[str, Any]:
    """What is read off one frame's chains beside positions: see FrameEstimate."""
    chains, p = batch.settings.n_chains, batch.problems[f]
    mine = slice(f * chains, (f + 1) * chains)
    kept = weights > BASIN_WEIGHT * weights.max()
    best_first = np.argsort(-weights, kind="stable")
    in_basin = np.flatnonzero(kept) + mine.start
    rise = sampled.mean_height[:n_samples, in_basin]
    return {
        "samples": sampled.positions[mine][best_first[kept[best_first]][:MOST_SAMPLES], : len(p.positions)],
        "chains_in_basin": int(kept.sum()),
        "reduced_chi2": float(2 * sampled.misfit[in_basin].mean() / (p.inverse_variance > 0).sum()),
        "intensity_e": float(sampled.intensity_e[in_basin].mean()),
        "acceptance": float(sampled.accepted[:n_samples, in_basin].mean()),
        "r_hat": float(np.max(split_r_hat(sampled.soft[:n_samples, in_basin]))),
        "defocus_angstrom": batch.model.optics.defocus_angstrom + float(rise.mean()),
        "sigma_defocus_angstrom": float(rise.std()),
        "motion_angstrom": float(batch.motion_angstrom[f]),
    }


def _well_inside(grid: ImageGrid, positions: np.ndarray) -> np.ndarray:
    """Atoms (N,) far enough from the view's edge for the image to hold them on all sides; all atoms when none is."""
    size = np.array([grid.width_px, grid.height_px]) * grid.pixel_size_angstrom
    inner = np.asarray(((positions[:, :2] > EDGE_ANGSTROM) & (positions[:, :2] < size - EDGE_ANGSTROM)).all(axis=1))
    return inner if inner.any() else np.ones(len(positions), bool)
