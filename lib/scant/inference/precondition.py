"""Coordinates in which the posterior of a sheet is round: vibrational modes of the bond graph, scaled by their stiffness.

Heights of a sheet are stiff as kappa L^2 / kT and soft as the longest ripple; in-plane displacements as k L / kT plus
what the image knows of each atom, with L the Laplacian of the bond graph (DESIGN 4). x = x_0 + V (s * u) with L = V diag(l) V^T
makes every u of order one. The mean height is not a coordinate: it cannot be told from defocus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scant.units import BOLTZMANN_EV_PER_K

BENDING_EV_PER_ANGSTROM2 = 1.6
STRETCHING_EV_PER_ANGSTROM2 = 12.0
COHERENT_GAIN = 1.0
MINIMUM_HEIGHT_INFORMATION_PER_ANGSTROM2 = 0.03


@dataclass(frozen=True)
class ModeCoordinates:
    """x = origin + modes @ (scales * u), per replica: modes (B, N, N), scales (B, N, 3), origin (B, N, 3)."""

    origin: Any
    modes: Any
    scales: Any

    def positions(self, u: Any) -> Any:
        return self.origin + self.modes @ (self.scales * u)

    def pull_back(self, gradient: Any) -> Any:
        """Gradient with respect to u from the gradient with respect to positions, (B, N, 3)."""
        return self.scales * (self.modes.swapaxes(-1, -2) @ gradient)


def bond_modes(bonds: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (N,) and eigenvectors (N, N) of the Laplacian of the bond graph, bonds (M, 2)."""
    laplacian = np.zeros((n_atoms, n_atoms))
    laplacian[bonds[:, 0], bonds[:, 1]] = laplacian[bonds[:, 1], bonds[:, 0]] = -1
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    eigenvalues, modes = np.linalg.eigh(laplacian)
    return np.maximum(eigenvalues, 0), modes


def mode_scales(
    eigenvalues: np.ndarray, temperature_k: float, plane_information_per_angstrom2: float, height_information_per_angstrom2: float
) -> np.ndarray:
    """Expected standard deviation in angstrom of each mode along x, y, z: (N, 3).

    The informations (1/variance) are what the image says of one atom alone; neighbours that move together scatter
    coherently, but the softest heights are wider than one atom's information alone makes them: a factor of one mixes best
    (measured on rippled graphene at 8e3 e/A^2). The uniform shift of the heights, the first mode, is fixed by a scale of zero.
    """
    kt_ev = BOLTZMANN_EV_PER_K * temperature_k
    floor = max(COHERENT_GAIN * height_information_per_angstrom2, MINIMUM_HEIGHT_INFORMATION_PER_ANGSTROM2)
    in_plane = (STRETCHING_EV_PER_ANGSTROM2 * eigenvalues / kt_ev + plane_information_per_angstrom2) ** -0.5
    height = (BENDING_EV_PER_ANGSTROM2 * eigenvalues**2 / kt_ev + floor) ** -0.5
    height[0] = 0
    return np.stack([in_plane, in_plane, height], axis=1)
