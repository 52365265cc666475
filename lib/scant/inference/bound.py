"""Bayesian Cramer-Rao bound of the positions in one frame, for the dataset's own optics and dose.

Van Trees (Detection, Estimation and Modulation Theory, 1968, sec. 2.4): the covariance of any estimate is at least the inverse of the
data's Fisher information plus the prior's. The data's is that of the flat sheet; the prior's is the mean of its second derivatives over
sheets at the sample's temperature, which are stiffer against ripples than a sheet at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial import cKDTree

from scant.inference.information import image_information
from scant.inference.prior import Prior, build_prior
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import pairs_within
from scant.physics.optics import Optics
from scant.physics.sheet import BOND_CUTOFF_PER_LATTICE_CONSTANT, SheetSettings, thermal_sheet

MODEL_MARGIN_ANGSTROM = 3.0
IMAGE_TAIL_ANGSTROM = 5.0
SCORED_MARGIN_ANGSTROM = 3.0
# Pairs farther apart than this share no energy term: 6 A for LCBOP's pairs, on both sides.
REACH_ANGSTROM = 12.5
STEP_ANGSTROM = 1e-3
SNAPSHOTS = 4
# Rim atoms beyond the view are held by neither image nor full crystal; a soft tie keeps the matrix invertible.
TIE_PER_ANGSTROM2 = 5.0


@dataclass(frozen=True)
class SheetInView:
    """A carbon sheet in a square view: mean `sites` (N, 2), `inner` (N,) the atoms that are scored, the prior's information (3 N, 3 N)."""

    size_angstrom: float
    pixel_size_angstrom: float
    sites: np.ndarray
    inner: np.ndarray
    prior_information: np.ndarray


def sheet_in_view(size_angstrom: float, pixel_size_angstrom: float, lattice_constant_angstrom: float, temperature_k: float) -> SheetInView:
    """The sheet of a view with what LCBOP at the temperature knows of it: second derivatives averaged over a short molecular dynamics."""
    settings = SheetSettings(
        size_angstrom, size_angstrom, SNAPSHOTS, frame_interval_ps=1.0, temperature_k=temperature_k, potential="lcbop",
        lattice_constant_angstrom=lattice_constant_angstrom, equilibration_ps=4.0, margin_angstrom=MODEL_MARGIN_ANGSTROM + 3.0,
    )  # fmt: skip
    snapshots = thermal_sheet(settings, seed=0).positions
    mean = snapshots.mean(axis=0)
    near = _inside(mean, size_angstrom, -MODEL_MARGIN_ANGSTROM)
    bonds = pairs_within(mean[near, :2], BOND_CUTOFF_PER_LATTICE_CONSTANT * lattice_constant_angstrom)
    kept = np.flatnonzero(near)[np.bincount(bonds.ravel(), minlength=near.sum()) > 1]
    bonds = pairs_within(mean[kept, :2], BOND_CUTOFF_PER_LATTICE_CONSTANT * lattice_constant_angstrom)
    frame = _Sites(mean[kept], bonds, np.full(len(kept), 3))
    prior = build_prior([frame], 1, "lcbop", lattice_constant_angstrom, temperature_k)
    information = np.mean([hessian(prior, snapshot[kept]) for snapshot in snapshots], axis=0)
    return SheetInView(
        size_angstrom, pixel_size_angstrom, mean[kept, :2], _inside(mean[kept], size_angstrom, SCORED_MARGIN_ANGSTROM), information
    )


@dataclass(frozen=True)
class _Sites:
    positions: np.ndarray
    bonds: np.ndarray
    coordination: np.ndarray


def hessian(prior: Prior, positions: np.ndarray) -> np.ndarray:
    """Second derivatives (3 N, 3 N) of U / (k_B T) in 1/A^2 at positions (N, 3), by central differences of the gradient.

    Atoms that share no neighbour are displaced together, so the number of gradients does not grow with the sheet.
    """
    n = len(positions)
    tree = cKDTree(positions)
    colour = _colours(tree.query_ball_point(positions, REACH_ANGSTROM))
    near = tree.query_ball_point(positions, REACH_ANGSTROM / 2)
    owner = np.full((n, colour.max() + 1), -1)
    for atom, around in enumerate(near):
        owner[around, colour[atom]] = atom
    matrix = np.zeros((n, 3, n, 3))
    for c in range(owner.shape[1]):
        felt = np.flatnonzero(owner[:, c] >= 0)
        for axis in range(3):
            push = np.zeros_like(positions)
            push[colour == c, axis] = STEP_ANGSTROM
            up, down = (prior.energy_and_gradient((positions + sign * push)[None])[1][0] for sign in (1, -1))
            matrix[owner[felt, c], axis, felt, :] = ((up - down) / (2 * STEP_ANGSTROM))[felt]
    square = matrix.reshape(3 * n, 3 * n)
    return 0.5 * (square + square.T)


def _colours(conflicts: list[list[int]]) -> np.ndarray:
    """Greedy colouring: a colour (N,) for each atom that none of its conflicts has."""
    colour = np.full(len(conflicts), -1)
    for atom, others in enumerate(conflicts):
        taken = {colour[other] for other in others}
        colour[atom] = next(c for c in range(len(conflicts)) if c not in taken)
    return colour


def position_bound(sheet: SheetInView, optics: Optics, dose_e_per_angstrom2: float, noise_per_electron: float = 1.0) -> np.ndarray:
    """Root mean square bound (3,) in angstrom on x, y and z of the atoms inside, the mean height taken out.

    noise_per_electron: variance of a pixel over its mean in electrons (excess and read noise included).
    """
    data = _data_information(sheet, optics, dose_e_per_angstrom2, noise_per_electron)
    outside = ~_inside(sheet.sites, sheet.size_angstrom, 0.0)
    total = sheet.prior_information + data + TIE_PER_ANGSTROM2 * np.diag(np.repeat(outside, 3).astype(float))
    total[2::3, 2::3] += 1e-4 * np.eye(len(sheet.sites))
    inner = np.flatnonzero(sheet.inner)
    columns = np.zeros((len(total), 3 * len(inner)))
    columns[(3 * inner[:, None] + np.arange(3)).ravel(), np.arange(3 * len(inner))] = 1
    centre = np.tile(np.array([0, 0, 1.0]), len(inner)) / len(inner)
    columns[(3 * inner + 2)[:, None], np.arange(3 * len(inner))] -= centre
    solved = cho_solve(cho_factor(total), columns)
    variance = (columns * solved).sum(axis=0).reshape(-1, 3)
    return np.sqrt(variance.mean(axis=0))


def image_bound(sheet: SheetInView, optics: Optics, dose_e_per_angstrom2: float, noise_per_electron: float = 1.0) -> np.ndarray:
    """Root mean square Cramer-Rao bound (3,) in angstrom on x, y and z from the image alone, without any prior."""
    data = _data_information(sheet, optics, dose_e_per_angstrom2, noise_per_electron)
    in_view = np.repeat(_inside(sheet.sites, sheet.size_angstrom, 0.0), 3)
    variance = np.diag(np.linalg.pinv(data[np.ix_(in_view, in_view)], hermitian=True)).reshape(-1, 3)
    return np.sqrt(variance[sheet.inner[in_view[::3]]].mean(axis=0))


def _data_information(sheet: SheetInView, optics: Optics, dose_e_per_angstrom2: float, noise_per_electron: float) -> np.ndarray:
    size_px = round(sheet.size_angstrom / sheet.pixel_size_angstrom)
    grid = ImageGrid.padded(size_px, size_px, sheet.pixel_size_angstrom, MODEL_MARGIN_ANGSTROM + IMAGE_TAIL_ANGSTROM)
    model = ForwardModel(optics, grid, np.full(len(sheet.sites), "C"))
    mean_e = dose_e_per_angstrom2 * sheet.pixel_size_angstrom**2
    counts = np.full((grid.height_px, grid.width_px), mean_e)
    return image_information(model, sheet.sites, counts, 1 / (noise_per_electron * counts), axes="xyz").toarray()


def _inside(sites: np.ndarray, size_angstrom: float, margin_angstrom: float) -> np.ndarray:
    """Atoms (N,) at least so far inside the square view."""
    return np.asarray((np.abs(sites[:, :2] - size_angstrom / 2) <= size_angstrom / 2 - margin_angstrom).all(axis=1))
