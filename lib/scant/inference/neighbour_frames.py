"""What the other frames of a window say of a frame's ripples: an Ornstein-Uhlenbeck link, mode by mode.

A mode of heights is h(t) = s + d(t): a ripple s that the window shares, held by compression and clamping, and thermal motion d, an
Ornstein-Uhlenbeck process of variance C that forgets within `relaxation_frames` (Uhlenbeck and Ornstein, Phys. Rev. 36 (1930) 823).
Given h = h(0), the others' mean m is then Gaussian about slope * h: a factor of the likelihood, which adds to the prior without counting
the thermal motion twice. S, the square of s, is taken from m itself; a mode that does not stand out of its thermal motion and of the
error of m is linked by what motion it shares alone (empirical Bayes). Where the frame's own image departs from the others' by more than
motion and noise explain, the motion is taken to be so much larger: ripples that turn over between frames are then hardly linked at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq

# A frame's own image is asked about motion up to this, and by its long modes alone: all others say little.
LARGEST_MOTION_ANGSTROM, LONG_MODES = 5.0, 40
# Standard deviations of the score that noise and the motion given leave to chance: at low dose noise looks like any motion.
CHANCE_SIGMAS = 3.0
MOTION_DECIMALS = 3


@dataclass(frozen=True)
class ThermalMotion:
    """Thermal motion of the heights about the ripple that neighbouring frames share: its rms over atoms, and how long it lasts."""

    rms_angstrom: float
    relaxation_frames: float

    def variance(self, free_variance: np.ndarray) -> np.ndarray:
        """Variance C of each mode (N,), angstrom^2, from that of a free flat sheet, so that the rms over N atoms is as given.

        Stretching stiffens the long modes of a rippled sheet far below their free variance: all are capped alike.
        """
        free, wanted = free_variance[np.isfinite(free_variance)], self.rms_angstrom**2 * len(free_variance)
        if free.sum() <= wanted:
            return free_variance
        cap = brentq(lambda c: (1 / (1 / free + 1 / c)).sum() - wanted, 1e-9 * wanted, 1e9 * wanted)
        return 1 / (1 / free_variance + 1 / cap)

    def correlation(self, lag_frames: np.ndarray) -> np.ndarray:
        """exp(-|lag| / relaxation); 1 at lag 0 and 0 elsewhere for a relaxation within the frame."""
        if self.relaxation_frames == 0:
            return (lag_frames == 0).astype(float)
        return np.exp(-np.abs(lag_frames) / self.relaxation_frames)

    def mean_correlations(self, offsets: Sequence[int]) -> tuple[float, float]:
        """Of the others' mean motion with the frame's, and with itself; offsets: numbers of the others relative to the frame."""
        others = np.asarray(offsets, float)
        return float(self.correlation(others).mean()), float(self.correlation(others[:, None] - others).mean())


@dataclass(frozen=True)
class NeighbourLink:
    """What the others' mean image says of the leading K scaled height coordinates u of each frame: a Gaussian of slope * u.

    precision (F, K, K) and pull (F, K) are its second derivative and its slope at 0, slope (F, K); 0 where nothing is linked. Replicas
    (F * C) of a frame lie side by side.
    """

    slope: Any
    precision: Any
    pull: Any

    def energy_and_gradient(self, u: Any) -> tuple[Any, Any]:
        """-log of the factor up to a constant, (F * C,) in float64, and its gradient (F * C, K), at u (F * C, N)."""
        frames, linked = self.slope.shape
        v = self.slope[:, None] * u[:, :linked].reshape(frames, -1, linked)
        force = v @ self.precision
        energy = ((0.5 * force - self.pull[:, None]) * v).sum(axis=-1, dtype=np.float64)
        gradient = self.slope[:, None] * (force - self.pull[:, None])
        return energy.reshape(-1), gradient.reshape(-1, linked)


def motion_seen(
    motion: ThermalMotion,
    slope: np.ndarray,
    information: np.ndarray,
    noise: float,
    variance_of: Callable[[ThermalMotion], np.ndarray],
    offsets: Sequence[int],
) -> ThermalMotion:
    """The motion given, or the larger one by which the frame's image departs from the others' mean by more than chance.

    slope (K,): derivative of the frame's log-likelihood by each mode, less that of the others' mean image scaled to the same information:
    what model and optics get wrong in both alike drops out. information (K, K): the frame's Fisher information. The slope's variance is
    noise * I without motion, and I D I more with one that moves the frame against the others by a covariance D (from `variance_of`, in the
    modes' unit). A score test (Rao, Proc. Camb. Phil. Soc. 44 (1948) 50), solved for the rms.
    """
    with_frame, among = motion.mean_correlations(offsets)
    apart = 1 + among - 2 * with_frame
    information = information[:LONG_MODES, :LONG_MODES]
    own = information.diagonal()
    seen = float((slope[:LONG_MODES] ** 2 / own - noise).sum())

    def moved(rms_angstrom: float) -> np.ndarray:
        return apart * variance_of(replace(motion, rms_angstrom=rms_angstrom))[:LONG_MODES]

    def lacks(rms_angstrom: float) -> float:
        return seen - float((information**2 @ moved(rms_angstrom) / own).sum())

    covariance = noise * information + information * moved(motion.rms_angstrom) @ information
    spread = np.sqrt(2 * float((covariance**2 / np.outer(own, own)).sum()))
    if lacks(motion.rms_angstrom) <= CHANCE_SIGMAS * spread:
        return motion
    if lacks(LARGEST_MOTION_ANGSTROM) >= 0:
        return replace(motion, rms_angstrom=LARGEST_MOTION_ANGSTROM)
    # rounded: the last bits of matrix products depend on where in memory the arrays lie, and the result must not
    rms_angstrom = round(brentq(lacks, motion.rms_angstrom, LARGEST_MOTION_ANGSTROM, xtol=1e-6), MOTION_DECIMALS)
    return replace(motion, rms_angstrom=rms_angstrom)


def link_terms(
    mean: np.ndarray, variance: np.ndarray, motion_variance: np.ndarray, offsets: Sequence[int], motion: ThermalMotion
) -> tuple[np.ndarray, np.ndarray]:
    """Slope (K,) of the others' mean of each mode by the frame's own, and the variance (K,) of that mean about it.

    `mean` and `variance` (K,): posterior of the others' mean; motion_variance (K,): C, in the same unit as `variance`. offsets: numbers of
    the others relative to the frame.
    """
    with_frame, among = motion.mean_correlations(offsets)
    shared = np.maximum(mean**2 - among * motion_variance - variance, 0)
    slope = (shared + with_frame * motion_variance) / (shared + motion_variance)
    return slope, shared + among * motion_variance - slope**2 * (shared + motion_variance)


def blurred(information: np.ndarray, pull: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian likelihood exp(pull . x - x . information . x / 2) of x (K,), seen through noise of `variance` (K,) added to x.

    Its information (K, K) and pull (K,) are (I^-1 + D)^-1 and (1 + I D)^-1 pull, with no inverse of I, which may be singular.
    """
    spread = np.eye(len(information)) + information * variance
    both = np.linalg.solve(spread, np.column_stack([information, pull]))
    return 0.5 * (both[:, :-1] + both[:, :-1].T), both[:, -1]


def without_first(information: np.ndarray, pull: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likelihood of all but the first of K coordinates, about which nothing else is known (a frame's own defocus)."""
    carried = information[1:, 0] / information[0, 0]
    return information[1:, 1:] - np.outer(carried, information[0, 1:]), pull[1:] - carried * pull[0]
