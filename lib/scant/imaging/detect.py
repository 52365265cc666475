"""Which atoms are there: every honeycomb site in view, edges included, less the vacancies, with turned bonds found.

Sites come from the local lattice phase (`sites`), so no atom of the lattice is missed however noisy the frame is. Whether a site is empty
(`occupancy`) or a bond turned (`stone_wales`) is decided against the fitted image, best with a simulator of the microscope.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from scant.errors import CalibrationError
from scant.imaging.candidates import FLAG_CONTAMINATED, FLAG_EDGE, FLAG_OUTSIDE, Detection, refitted
from scant.imaging.fit import Fit, Observation, Springs, observe, refine
from scant.imaging.missing import AtomKernels, Simulator, atom_kernels
from scant.imaging.occupancy import remove_vacancies
from scant.imaging.reciprocal import Lattice2D
from scant.imaging.sites import WEAK_FIELD, hollow_grid, honeycomb_sites
from scant.imaging.smooth import wide_gaussian
from scant.imaging.stone_wales import turn_bonds
from scant.imaging.template import TemplateBasis

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bool = NDArray[np.bool_]

MARGIN_ANGSTROM = 5.0
UNEXPLAINED_BONDS = 3.0
UNEXPLAINED = 0.5


def detect_atoms(
    image_e: NDArray[np.floating],
    lattice: Lattice2D,
    *,
    variance_e2: NDArray[np.floating] | float | None = None,
    mask: Bool | None = None,
    basis: TemplateBasis | None = None,
    simulate: Simulator | None = None,
    margin_angstrom: float = MARGIN_ANGSTROM,
) -> Detection:
    """Every atom in view of a (ny, nx) image in electrons, and those up to the margin beyond.

    `variance_e2` per pixel, estimated when absent; `basis` the transfer of one atom (`template.optical_basis`); `simulate` the image of a
    flat sheet under the calibrated optics, without which single vacancies are only found where the contrast happens to be kind. Use the
    average of a window of frames where single frames are noisy. Raises CalibrationError when the lattice is lost.
    """
    bond = lattice.bond_px
    grid = hollow_grid(image_e, lattice, mask, margin_px=margin_angstrom / lattice.pixel_size_angstrom)
    sites = honeycomb_sites(grid)
    if len(sites.positions_px) < 20:
        raise CalibrationError(f"only {len(sites.positions_px)} lattice sites fit the view, at least 20 are needed; check the pixel size")
    observation = observe(image_e, 1.0 if variance_e2 is None else variance_e2, mask, bond, basis)
    flag = _edge_flags(sites.positions_px, image_e.shape, bond)
    flag[(sites.strength < WEAK_FIELD) & (flag == 0)] |= FLAG_CONTAMINATED
    ones, vectors = np.ones(len(flag)), sites.positions_px[sites.bonds[:, 1]] - sites.positions_px[sites.bonds[:, 0]]
    fit = refine(
        observation, sites.positions_px, ones, Springs(sites.bonds, vectors, np.zeros(len(vectors), dtype=bool), bond), iterations=3
    )
    if variance_e2 is None:
        observation = _with_variance(observation, fit.residual)
    none = np.zeros((0, 2))
    state = Detection(fit.positions_px, sites.index, sites.bonds, ones, flag, sites.positions_px, none, none, fit)
    state = refitted(state, observation, bond, 2) if variance_e2 is None else state
    weak = state.flag & FLAG_CONTAMINATED
    state = _with_contamination(observation, state, weak, bond)
    kernels = None if simulate is None else _scaled_kernels(observation, state, simulate, lattice)
    state = _with_contamination(observation, turn_bonds(observation, state, simulate, kernels, bond), weak, bond)
    return remove_vacancies(observation, state, kernels, bond)


def _with_contamination(observation: Observation, state: Detection, weak: Ints, bond: float) -> Detection:
    """The detection with atoms flagged where the lattice is `weak` (n,), or as it stands does not explain what the image shows."""
    dirty = state.in_view & (_unexplained(observation, state.fit, bond) > UNEXPLAINED)
    return replace(state, flag=(state.flag & ~FLAG_CONTAMINATED) | weak | np.where(dirty, FLAG_CONTAMINATED, 0))


def _edge_flags(positions: Array, shape: tuple[int, ...], bond: float) -> Ints:
    limits = np.array(shape[::-1]) - 0.5
    depth = np.minimum(positions + 0.5, limits - positions).min(axis=1)
    return np.where(depth < 0, FLAG_OUTSIDE, np.where(depth < bond, FLAG_EDGE, 0)).astype(np.int64)


def _with_variance(observation: Observation, residual: Array) -> Observation:
    """Noise variance of an image whose electrons are not known: the residual's own, robustly."""
    valid = observation.mask > 0
    variance = (1.4826 * np.median(np.abs(residual[valid]))) ** 2
    return replace(observation, weight=observation.mask / max(float(variance), 1e-12))


def _unexplained(observation: Observation, fit: Fit, bond: float) -> Array:
    """Residual power around each atom, noise removed, over the power of the lattice: contamination is structure of the lattice's strength
    that the lattice does not explain, over more than the few angstrom of a point defect."""
    width = UNEXPLAINED_BONDS * bond
    norm = np.maximum(wide_gaussian(observation.mask, width), 1e-9)
    local = wide_gaussian(fit.residual**2 * observation.mask, width) / norm
    model = observation.image - fit.residual
    at_atoms = map_coordinates(local, fit.positions_px[:, ::-1].T, order=1, mode="nearest")
    return np.asarray((at_atoms - np.median(local)) / max(float((model**2).mean()), 1e-12))


def _scaled_kernels(observation: Observation, state: Detection, simulate: Simulator, lattice: Lattice2D) -> AtomKernels:
    """Kernels in electrons: the simulated contrast is scaled to that of the frame, so that a wrong dose or Stobbs factor does no harm."""
    middle, origin = observation.middle()
    positions, (height, width) = state.positions_px - origin, middle.image.shape
    margin = MARGIN_ANGSTROM / lattice.pixel_size_angstrom
    near = ((positions > -margin) & (positions < np.array([width, height]) + margin)).all(axis=1)
    image = middle.high_passed(simulate(positions[near], (height, width)))
    scale = float((image * middle.image * middle.weight).sum() / (image**2 * middle.weight).sum())
    kernels = atom_kernels(simulate, lattice)
    return replace(kernels, values=scale * kernels.values)
