"""The verdict of molecular dynamics on one reconstructed structure: would it stand at room temperature as it is drawn?

A structure is quenched by a few minimisation steps, which take the local errors out (bond lengths, single misplaced
atoms) and leave the ripples, then kept at temperature by a Nose-Hoover thermostat. Input is a cut-out: atoms near the
convex hull of the view lack neighbours they really have, so that rim is tethered in the quench, stays where it is in the dynamics, and is
left out of every figure. (Dangling atoms that move gain energy at the potential's cut-off: a patch of 28 A gained 7 eV in 0.4 ps.)
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import ConvexHull, QhullError

from scant.errors import InputError, SimulationError
from scant.physics.lammps import LATTICE_RANGE_ANGSTROM, LammpsError, Simulation, checked, checked_potential
from scant.physics.lattice import bond_lengths, pairs_within

# Measured on 300 K graphene with errors of 0.03 A in x, y and 0.3 A (smooth) in z: bonds 1.25 to 1.65 A, in-plane
# displacement 0.27 A (0.48 A beside a vacancy), released energy 0.6 to 1.3 eV (1.9 eV there). One atom moved by 0.6 A
# releases 5 to 25 eV, or leaves a pair of atoms at 1.9 to 2.05 A. At these limits all of 360 such structures (Tersoff and
# LCBOP) were judged rightly.
QUENCH_ITERATIONS = 30
TETHER_EV_PER_ANGSTROM2 = 2.0
MD_SEGMENTS = 10
# At 1.5 fs the whole energy of 750 atoms varies by 16 meV and drifts by 0.4 meV per ps; verdicts on vacancies, turned bonds and holes are
# those of 0.5 fs.
TIMESTEP_FS = 1.5


@dataclass(frozen=True)
class MdSettings:
    """How a structure is judged; every limit is a reason for 'unstable'. Raises InputError for values out of range.

    Two atoms are bonded within `bond_range_angstrom`, or at least `apart_angstrom` apart: a pair closer is refused, and one
    between too, unless both are bonded to the same third. (A short-ranged potential takes a bond of 2.0 A for cut and leaves it so.)
    """

    potential: str = "tersoff"
    lattice_constant_angstrom: float = 2.46
    temperature_k: float = 300.0
    length_ps: float = 50.0
    timestep_fs: float = TIMESTEP_FS
    damping_ps: float = 0.1
    rim_angstrom: float = 3.0
    bond_cutoff_angstrom: float = 1.9
    bond_range_angstrom: tuple[float, float] = (1.05, 1.85)
    apart_angstrom: float = 2.1
    max_displacement_angstrom: float = 0.7
    max_released_ev: float = 1.2
    max_excess_ev_per_atom: float = 0.3
    max_temperature_deviation: float = 0.3
    potential_folder: Path | None = None

    def __post_init__(self) -> None:
        checked_potential(self.potential)
        checked(self.lattice_constant_angstrom, "lattice constant", "A", *LATTICE_RANGE_ANGSTROM)
        checked(self.temperature_k, "temperature", "K", 1.0, 5000.0)
        checked(self.length_ps, "length", "ps", 0.01, 1e5)
        checked(self.timestep_fs, "time step", "fs", 0.01, 2.0)
        checked(self.damping_ps, "thermostat damping", "ps", 0.01, 10.0)
        checked(self.rim_angstrom, "rim", "A", 0.0, 50.0)
        checked(self.bond_cutoff_angstrom, "bond cut-off", "A", 1.5, 2.3)


@dataclass(frozen=True)
class MdVerdict:
    """'stable', 'unstable' (the structure cannot be so) or 'failed' (it could not be simulated), with the reason and figures.

    All figures are over the atoms inside the rim, and NaN where the run did not get that far. Displacements are those of the
    quench in x and y, without rigid motion (heights of ripples change freely, which says nothing); `max_released_ev` is the
    most that one atom's energy fell in the quench. Energies: as given, quenched, mean over the second half of the MD. Bonds
    broken and formed compare the input with the end of the MD; mean and sd of the bond length are the input's.
    """

    verdict: str
    reason: str
    n_atoms: int
    rms_displacement_angstrom: float = math.nan
    max_displacement_angstrom: float = math.nan
    max_released_ev: float = math.nan
    energy_per_atom_ev: float = math.nan
    relaxed_energy_per_atom_ev: float = math.nan
    md_temperature_k: float = math.nan
    md_energy_per_atom_ev: float = math.nan
    bonds_broken: int = 0
    bonds_formed: int = 0
    mean_bond_angstrom: float = math.nan
    sd_bond_angstrom: float = math.nan
    cpu_s: float = 0.0
    log: str = ""


def judge_structure(positions: np.ndarray, species: np.ndarray | list[str], *, settings: MdSettings, seed: int) -> MdVerdict:
    """Quench and run one structure, positions (N, 3) in A with N species symbols; never raises for what is wrong with it.

    A structure that cannot be simulated (positions not finite, atoms on top of each other, atoms lost) has the verdict
    'failed' with the log of LAMMPS, and so has one for which LAMMPS or its potential is missing: other structures go on. A
    structure that is already refused after the quench is not run. Deterministic for a seed.
    """
    started = time.thread_time()
    blank = MdVerdict("failed", "", len(positions))
    try:
        verdict = _judge(np.asarray(positions, dtype=float), species, settings, seed)
    except LammpsError as error:
        verdict = replace(blank, reason=str(error), log=error.log)
    except (InputError, SimulationError) as error:
        verdict = replace(blank, reason=str(error))
    return replace(verdict, cpu_s=time.thread_time() - started)


def rim_atoms(positions: np.ndarray, rim_angstrom: float) -> np.ndarray:
    """Which atoms (N booleans) lie within a distance of the convex hull of the structure in (x, y)."""
    try:
        hull = ConvexHull(positions[:, :2])
    except QhullError:
        return np.ones(len(positions), dtype=bool)
    depth = -(positions[:, :2] @ hull.equations[:, :2].T + hull.equations[:, 2]).max(axis=1)
    return depth < rim_angstrom


def in_plane_displacement(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Distance (N,) in A that each atom moved in x and y once the common shift and rotation are taken out (Kabsch 1976)."""
    a, b = (x[:, :2] - x[:, :2].mean(axis=0) for x in (before, after))
    angle = math.atan2(float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()), float((a * b).sum()))
    turned = a @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.linalg.norm(b - turned, axis=1)


def _judge(positions: np.ndarray, species: np.ndarray | list[str], settings: MdSettings, seed: int) -> MdVerdict:
    simulation = Simulation(
        positions, species, potential=settings.potential, lattice_constant_angstrom=settings.lattice_constant_angstrom,
        potential_folder=settings.potential_folder,
    )  # fmt: skip
    rim = rim_atoms(positions, settings.rim_angstrom)
    inside = ~rim
    bonds = _bonds_inside(positions, inside, settings)
    if not len(bonds):
        raise InputError(f"no bonds are left inside the rim of {settings.rim_angstrom} A; the structure is too small")
    lengths = bond_lengths(positions, bonds)
    with simulation:
        given = simulation.atom_energies()
        simulation.tether(rim, TETHER_EV_PER_ANGSTROM2)
        simulation.minimise(QUENCH_ITERATIONS)
        quenched = simulation.atom_energies()
        moved = in_plane_displacement(positions[inside], simulation.positions()[inside])
        verdict = MdVerdict(
            "stable", "", len(positions),
            rms_displacement_angstrom=float(np.sqrt((moved**2).mean())), max_displacement_angstrom=float(moved.max()),
            max_released_ev=float((given - quenched)[inside].max()),
            energy_per_atom_ev=float(given[inside].mean()), relaxed_energy_per_atom_ev=float(quenched[inside].mean()),
            mean_bond_angstrom=float(lengths.mean()), sd_bond_angstrom=float(lengths.std()), log=simulation.log,
        )  # fmt: skip
        reasons = _static_reasons(verdict, _odd_pairs(positions, inside, settings), settings)
        if not reasons:
            verdict = _run(simulation, verdict, inside, bonds, settings, seed)
            reasons = _dynamic_reasons(verdict, settings)
    return replace(verdict, verdict="unstable" if reasons else "stable", reason="; ".join(reasons))


def _run(simulation: Simulation, verdict: MdVerdict, inside: np.ndarray, bonds: np.ndarray, settings: MdSettings, seed: int) -> MdVerdict:
    """The verdict with the figures of the dynamics filled in."""
    simulation.start_nvt(
        settings.temperature_k, seed=seed, timestep_fs=settings.timestep_fs, damping_ps=settings.damping_ps, moving=inside
    )  # fmt: skip
    temperatures, energies = [], []
    for _ in range(MD_SEGMENTS):
        simulation.run(settings.length_ps / MD_SEGMENTS)
        temperatures.append(simulation.temperature_k())
        energies.append(simulation.atom_energies()[inside].mean())
    before = set(map(tuple, bonds.tolist()))
    after = set(map(tuple, _bonds_inside(simulation.positions(), inside, settings).tolist()))
    return replace(
        verdict,
        md_temperature_k=float(np.mean(temperatures[MD_SEGMENTS // 2 :])),
        md_energy_per_atom_ev=float(np.mean(energies[MD_SEGMENTS // 2 :])),
        bonds_broken=len(before - after),
        bonds_formed=len(after - before),
        log=simulation.log,
    )


def _bonds_inside(positions: np.ndarray, inside: np.ndarray, settings: MdSettings) -> np.ndarray:
    bonds = pairs_within(positions, settings.bond_cutoff_angstrom)
    return bonds[inside[bonds].all(axis=1)]


def _odd_pairs(positions: np.ndarray, inside: np.ndarray, settings: MdSettings) -> np.ndarray:
    """Distances of the pairs that are neither bonded nor apart; pairs with a bonded neighbour in common may be near (pentagons)."""
    low, high = settings.bond_range_angstrom
    pairs = pairs_within(positions, settings.apart_angstrom)
    lengths = bond_lengths(positions, pairs)
    i, j = pairs[lengths <= high].T
    bonded = coo_array((np.ones(2 * i.size), (np.r_[i, j], np.r_[j, i])), shape=(len(positions),) * 2).tocsr()
    shared = bonded[pairs[:, 0]].multiply(bonded[pairs[:, 1]]).sum(axis=1) > 0
    odd = (lengths < low) | ((lengths > high) & ~shared)
    return lengths[odd & inside[pairs].all(axis=1)]


def _static_reasons(verdict: MdVerdict, odd: np.ndarray, settings: MdSettings) -> list[str]:
    low, high = settings.bond_range_angstrom
    excess = verdict.relaxed_energy_per_atom_ev - checked_potential(settings.potential).flat_energy_ev
    checks = [
        (
            odd.size > 0,
            f"{odd.size} pairs of atoms are neither bonded ({low} to {high} A) nor apart ({settings.apart_angstrom} A):"
            f" {odd[:5].round(2).tolist()} A",
        ),
        (
            verdict.max_displacement_angstrom > settings.max_displacement_angstrom,
            f"an atom moved {verdict.max_displacement_angstrom:.2f} A in the quench (limit {settings.max_displacement_angstrom} A)",
        ),
        (
            verdict.max_released_ev > settings.max_released_ev,
            f"an atom gave up {verdict.max_released_ev:.1f} eV in the quench (limit {settings.max_released_ev} eV)",
        ),
        (
            excess > settings.max_excess_ev_per_atom,
            f"{excess:.2f} eV per atom above the flat sheet after the quench (limit {settings.max_excess_ev_per_atom} eV)",
        ),
    ]
    return [reason for failed, reason in checks if failed]


def _dynamic_reasons(verdict: MdVerdict, settings: MdSettings) -> list[str]:
    deviation = abs(verdict.md_temperature_k / settings.temperature_k - 1)
    checks = [
        (verdict.bonds_broken > 0, f"{verdict.bonds_broken} bonds broke in {settings.length_ps:g} ps"),
        (verdict.bonds_formed > 0, f"{verdict.bonds_formed} bonds formed in {settings.length_ps:g} ps"),
        (
            deviation > settings.max_temperature_deviation,
            f"temperature ran to {verdict.md_temperature_k:.0f} K (thermostat at {settings.temperature_k:g} K)",
        ),
    ]
    return [reason for failed, reason in checks if failed]
