"""Electronic response of each frame's carbon atoms with its uncertainty: every quantity is computed for each sample of the posterior.

The value is the mean over the samples, sigma their standard deviation with what so few samples leave open, sqrt(1 + 1/S): errors of
neighbours enter correlated as they are, and of a snapshot's thermal motion whatever the image did not settle. Sheets larger than a piece
are cut into overlapping ones that go on as a wide band at their cuts. Of the flat sheet, the density of states 9 A from the rim is too
high by 3 % on average and 15 % at most, and bond orders scatter by 0.002; nearer to it atoms get NaN. Of a sheet in pieces the density
of states is 6 % too high.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scant.analysis.bonds import BOND_CUTOFF_ANGSTROM
from scant.analysis.defects import frame_defects
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.pi_bands import BOND_ANGSTROM, DECAY, PiResponse, pi_response
from scant.analysis.posterior_spread import mean_of_samples, posterior_sigma
from scant.analysis.pseudofield import curl_tesla, vector_potential_tesla_angstrom, zigzag_angle_rad
from scant.analysis.response_sums import response_sums
from scant.analysis.strain import frame_strain
from scant.physics.lattice import pairs_within

BONDS_OF_CARBON = 3
RIM_ANGSTROM = 9.0
# A bond lost this near to the edge of the atoms' box was lost to the view's edge, not to a vacancy.
EDGE_ANGSTROM = 3.0
# Cost grows with the third power of a piece: a larger view is cut into cores of 16 A, at 10 A from their cuts.
LARGEST_PIECE_ANGSTROM, CORE_ANGSTROM, OVERLAP_ANGSTROM = 58.0, 16.0, 10.0
DEFECT_REACH_ANGSTROM = 10.0
QUANTITIES = ("ldos_per_ev", "charge_e", "free_valence", "pseudo_field_tesla")


@dataclass(frozen=True)
class FrameElectrons:
    """Of atoms: {quantity: (value (n,), sigma (n,))}; of bonds between `pairs` (m, 2): pi bond order and sigma (m,). NaN: not known.

    ldos_per_ev: local density of states at the Fermi level, 1/eV; charge_e: positive where electrons lack; free_valence: sqrt(3) less
    the sum of the atom's pi bond orders (Coulson, Discuss. Faraday Soc. 2, 9 (1947)); pseudo_field_tesla: along +z, of the valley
    nearest to the reference direction. sums (7, 6): of `response_sums`, mean over samples.
    """

    atoms: dict[str, tuple[np.ndarray, np.ndarray]]
    pairs: np.ndarray
    bond_order: np.ndarray
    sigma_bond_order: np.ndarray
    sums: np.ndarray


def frame_electrons(atoms: FrameAtoms, samples_angstrom: np.ndarray, lattice_angstrom: float, valley_rad: float = 0.0) -> FrameElectrons:
    """Response of one frame of carbon atoms with heights; samples (S, n, 3) of its posterior, at least one; sigma is NaN with one alone."""
    pairs = pairs_within(atoms.xyz_angstrom, BOND_CUTOFF_ANGSTROM)
    zigzag = zigzag_angle_rad(frame_strain(atoms, lattice_angstrom).lattice_angle_rad, valley_rad)
    moved = [FrameAtoms(atoms.frame, atoms.ids, xyz, atoms.sigma_angstrom) for xyz in samples_angstrom]
    strains = [_exact_strain(sample, lattice_angstrom) for sample in moved]
    responses = [sheet_response(xyz, pairs, atoms.xyz_angstrom[:, :2]) for xyz in samples_angstrom]
    order = np.array([r.bond_order for r in responses])
    valence = [np.sqrt(3) - sum(np.bincount(end, r.bond_order, len(atoms.ids)) for end in pairs.T) for r in responses]
    field = [pseudo_field_tesla(sample.xyz_angstrom[:, :2], strain, zigzag) for sample, strain in zip(moved, strains)]
    counted = _away_from_defects(atoms, lattice_angstrom)
    sums = np.mean([response_sums(s, pairs, r, v, e, counted) for s, r, v, e in zip(moved, responses, valence, strains)], axis=0)
    drawn = [[r.ldos_per_ev for r in responses], [r.charge_e for r in responses], valence, field]
    return FrameElectrons(
        {name: _mean_and_sigma(np.array(values)) for name, values in zip(QUANTITIES, drawn)}, pairs, *_mean_and_sigma(order), sums
    )


def _away_from_defects(atoms: FrameAtoms, lattice_angstrom: float) -> np.ndarray:
    """Atoms (n,) whose electrons answer to the sheet's shape, not to a hole: a vacancy's own states reach over several bonds."""
    away = np.ones(len(atoms.ids), bool)
    for _, x, y, *_ in frame_defects(atoms, lattice_angstrom):
        away &= np.hypot(*(atoms.xyz_angstrom[:, :2] - [x, y]).T) > DEFECT_REACH_ANGSTROM
    return away


def _exact_strain(atoms: FrameAtoms, lattice_angstrom: float) -> np.ndarray:
    """Green-Lagrange strain (n, 3) of positions without errors."""
    exact = FrameAtoms(atoms.frame, atoms.ids, atoms.xyz_angstrom, np.zeros_like(atoms.xyz_angstrom))
    return frame_strain(exact, lattice_angstrom).green


def pseudo_field_tesla(xy_angstrom: np.ndarray, strain: np.ndarray, zigzag_rad: float) -> np.ndarray:
    """Pseudo-magnetic field (n,) of a strain (n, 3) known exactly at atoms (n, 2), over the 5 A around each."""
    return curl_tesla(xy_angstrom, vector_potential_tesla_angstrom(strain, zigzag_rad, BOND_ANGSTROM, DECAY))


def sheet_response(xyz_angstrom: np.ndarray, pairs: np.ndarray, sites_angstrom: np.ndarray) -> PiResponse:
    """Response of a whole sheet of carbon atoms (n, 3) in pieces; the mean sites (n, 2) lay out pieces and rim, NaN within 9 A of it."""
    n_atoms = len(xyz_angstrom)
    bonded = np.bincount(pairs.ravel(), minlength=n_atoms)
    rim = np.minimum(sites_angstrom - sites_angstrom.min(axis=0), sites_angstrom.max(axis=0) - sites_angstrom).min(axis=1)
    beyond = np.where(rim < EDGE_ANGSTROM, np.maximum(BONDS_OF_CARBON - bonded, 0), 0)
    inside = rim >= RIM_ANGSTROM
    whole = PiResponse(np.full(n_atoms, np.nan), np.full(n_atoms, np.nan), np.full(len(pairs), np.nan))
    for near, own in _pieces(sites_angstrom):
        decided = own & inside
        if not decided.any():
            continue
        mine = near[pairs].all(axis=1)
        number = np.cumsum(near) - 1
        cut = bonded[near] - np.bincount(number[pairs[mine]].ravel(), minlength=near.sum())
        part = pi_response(xyz_angstrom[near], number[pairs[mine]], beyond[near] + cut)
        whole.ldos_per_ev[decided], whole.charge_e[decided] = part.ldos_per_ev[decided[near]], part.charge_e[decided[near]]
        kept = decided[pairs[:, 0]] & inside[pairs[:, 1]] & mine
        whole.bond_order[kept] = part.bond_order[kept[mine]]
    return whole


def _pieces(xy: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks (n,) of the atoms of each piece and of those that no other piece decides; pieces without such are left out."""
    low, size = xy.min(axis=0), np.maximum(np.ptp(xy, axis=0), CORE_ANGSTROM)
    count = np.where((size <= LARGEST_PIECE_ANGSTROM).all(), 1, np.ceil(size / CORE_ANGSTROM)).astype(int)
    cell = np.minimum((xy - low) / size * count, count - 1).astype(int)
    for column in range(count[0]):
        for row in range(count[1]):
            start, stop = low + size / count * [column, row], low + size / count * [column + 1, row + 1]
            near = ((xy >= start - OVERLAP_ANGSTROM) & (xy <= stop + OVERLAP_ANGSTROM)).all(axis=1)
            own = (cell == [column, row]).all(axis=1)
            if own.any():
                yield near, own


def _mean_and_sigma(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n,) over samples (S, n) and its total uncertainty: spread of the posterior, and of a mean of so few samples."""
    return mean_of_samples(values), posterior_sigma(values) * np.sqrt(1 + 1 / len(values))
