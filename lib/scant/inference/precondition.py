"""Coordinates in which the posterior of a sheet is round: vibrational modes of the bond graph, scaled by their stiffness.

Heights of a sheet are stiff as kappa L^2 / kT and soft as the longest ripple; in-plane displacements as k L / kT plus
what the image knows of each atom, with L the Laplacian of the bond graph (DESIGN 4). What the image knows of a mode of heights is
far more than the sum over its atoms, since neighbours that move together scatter coherently: it is taken mode by mode from the image
model's own Fisher information. x = x_0 + V (s * u) with L = V diag(l) V^T makes every u of order one. The first mode of heights,
their mean, takes up what the frame's defocus differs from the movie's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scant.inference.prior import Potential
from scant.units import BOLTZMANN_EV_PER_K

# Keeps the scale of the softest modes finite where the image says next to nothing of them.
MINIMUM_HEIGHT_INFORMATION_PER_ANGSTROM2 = 0.02


@dataclass(frozen=True)
class ModeCoordinates:
    """x = origin + modes @ (scales * u) for C replicas of each of F frames, side by side: u and origin (F * C, N, 3).

    modes (F, N, N) and scales (F, N, 3) are shared by the replicas of a frame.
    """

    origin: Any
    modes: Any
    scales: Any

    def positions(self, u: Any) -> Any:
        return self.origin + self._by_replica(self.modes @ self._by_frame(u, self.scales))

    def pull_back(self, gradient: Any) -> Any:
        """Gradient with respect to u from the gradient with respect to positions, (F * C, N, 3)."""
        frames, n = self.scales.shape[:2]
        pulled = self.modes.swapaxes(-1, -2) @ self._by_frame(gradient, None)
        return self._by_replica((pulled.reshape(frames, n, -1, 3) * self.scales[:, :, None]).reshape(pulled.shape))

    def _by_frame(self, values: Any, scales: Any) -> Any:
        """(F * C, N, 3) as (F, N, C * 3), times the scales."""
        frames, n = self.scales.shape[:2]
        split = values.reshape(frames, -1, n, 3)
        return (split if scales is None else split * scales[:, None]).swapaxes(1, 2).reshape(frames, n, -1)

    def _by_replica(self, values: Any) -> Any:
        frames, n = values.shape[:2]
        return values.reshape(frames, n, -1, 3).swapaxes(1, 2).reshape(-1, n, 3)


def bond_modes(bonds: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (N,) and eigenvectors (N, N) of the Laplacian of the bond graph, bonds (M, 2)."""
    laplacian = np.zeros((n_atoms, n_atoms))
    laplacian[bonds[:, 0], bonds[:, 1]] = laplacian[bonds[:, 1], bonds[:, 0]] = -1
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    eigenvalues, modes = np.linalg.eigh(laplacian)
    return np.maximum(eigenvalues, 0), modes


def mode_scales(
    eigenvalues: np.ndarray,
    temperature_k: float,
    potential: Potential,
    plane_information_per_angstrom2: float,
    height_information_per_angstrom2: np.ndarray,
) -> np.ndarray:
    """Expected standard deviation in angstrom of each mode along x, y, z: (N, 3).

    The informations (1/variance) are what the image says: of one atom in the plane (a number), of each mode of heights (N,).
    """
    kt_ev = BOLTZMANN_EV_PER_K * temperature_k
    in_plane = (potential.stretching_ev_per_angstrom2 * eigenvalues / kt_ev + plane_information_per_angstrom2) ** -0.5
    known = height_information_per_angstrom2 + MINIMUM_HEIGHT_INFORMATION_PER_ANGSTROM2
    height = (1 / thermal_height_variance(eigenvalues, temperature_k, potential) + known) ** -0.5
    return np.stack([in_plane, in_plane, height], axis=1)


def thermal_height_variance(eigenvalues: np.ndarray, temperature_k: float, potential: Potential) -> np.ndarray:
    """k_B T over the bending stiffness of each mode, angstrom^2, (N,): infinite for the mean height."""
    with np.errstate(divide="ignore"):
        return BOLTZMANN_EV_PER_K * temperature_k / (potential.bending_ev_per_angstrom2 * eigenvalues**2)
