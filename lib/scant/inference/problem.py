"""What the annealer is given for a frame, how it is to work, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from scant.inference.anneal import Schedule
from scant.inference.neighbour_frames import ThermalMotion
from scant.inference.prior import PotentialName


@dataclass(frozen=True)
class FrameProblem:
    """What one frame gives the annealer.

    counts_e, inverse_variance: (H, W), electrons and 1/electrons^2 (0 where a pixel is bad or hit). positions (N, 3) in
    angstrom: the start, atoms just outside the view included. bonds (M, 2). coordination (N,): bonds each atom has in
    reality; more than in `bonds` where the table ends at the margin. guide_e, guide_inverse_variance (H, W): the mean of a window of
    frames around this one with its own noise, on which the annealing looks for the basin; None: the frame itself. guide_offsets:
    numbers of the window's frames relative to this one, where the window is to be linked; 0 is not among them.
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
    guide_offsets: tuple[int, ...] = ()

    @property
    def guide(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts and inverse variances (H, W) that the annealing looks at before it samples the frame's own posterior."""
        if self.guide_e is None or self.guide_inverse_variance is None:
            return self.counts_e, self.inverse_variance
        return self.guide_e, self.guide_inverse_variance


@dataclass(frozen=True)
class RefineSettings:
    """How to anneal: schedule, chains, the prior's temperature and lattice constant, and the gate on correlation.

    motion: thermal motion about the ripple that neighbouring frames share, for the link to them; None: no link.
    """

    schedule: Schedule
    n_chains: int
    potential: PotentialName
    temperature_k: float
    lattice_constant_angstrom: float
    minimum_correlation: float
    seed: int
    motion: ThermalMotion | None = None

    @property
    def n_moves(self) -> int:
        """Moves of one chain at most, sampling included."""
        return self.schedule.n_moves(linked=self.motion is not None)


def frames_are_linked(anneal: Mapping[str, Any], window: int) -> bool:
    """Whether other frames enter a frame's likelihood; in a window of one frame there is no other."""
    return bool(anneal["link_frames"]) and window > 1


def schedule_of(anneal: Mapping[str, Any]) -> Schedule:
    """The schedule from the values of the configuration's `anneal` leaf."""
    return Schedule(**{f.name: anneal[f.name] for f in fields(Schedule) if f.name in anneal})


def refine_settings(
    anneal: Mapping[str, Any], lattice_constant_angstrom: float, minimum_correlation: float, seed: int, window: int
) -> RefineSettings:
    """Settings from the values of the configuration's `anneal` leaf."""
    linked = frames_are_linked(anneal, window)
    return RefineSettings(
        schedule=schedule_of(anneal),
        n_chains=anneal["n_chains"],
        potential=anneal["potential"],
        temperature_k=anneal["temperature_k"],
        lattice_constant_angstrom=lattice_constant_angstrom,
        minimum_correlation=minimum_correlation,
        seed=seed,
        motion=ThermalMotion(anneal["motion_angstrom"], anneal["relaxation_frames"]) if linked else None,
    )


@dataclass(frozen=True)
class FrameEstimate:
    """Posterior of one frame: mean `positions` and `sigma` (N, 3) in angstrom, `samples` (S, N, 3) of it, and how it was reached.

    Samples are the last states of the chains in the basin, the one of the lowest mean energy first: independent of each other.
    `converged`: the chains' mean heights agree to 0.3 A rms away from the view's edge, and moves were accepted. `r_hat` of the
    softest height modes is the stricter figure: near 1 when each chain alone has seen the whole posterior. `defocus_angstrom` is the
    frame's own: the movie's plus the mean height, which `positions` do not hold. `rebonded` (N,): atoms whose bonds were found to be others
    than the problem's. `energy`: of the frame's own posterior, without a link. `motion_angstrom`: rms motion of the heights against the
    linked frames, the least one where the image asks for no more; NaN where none is linked.
    """

    frame: int
    positions: np.ndarray
    sigma: np.ndarray
    samples: np.ndarray
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
    motion_angstrom: float
    converged: bool
    n_moves: int
    trace: np.ndarray
    rebonded: np.ndarray
