"""The prior of a cut-out: stiffness as the annealer's coordinates assume it, and equipartition on a sheet of another's making."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scant.errors import InputError
from scant.inference.prior import POTENTIALS, build_prior
from scant.physics.lammps import Simulation
from scant.physics.lattice import honeycomb, pairs_within
from scant.physics.sheet import SheetSettings, thermal_sheet
from scant.units import BOLTZMANN_EV_PER_K
from scipy.constants import atomic_mass, elementary_charge, speed_of_light
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

KT_EV = BOLTZMANN_EV_PER_K * 300.0


def cut_out(positions: np.ndarray) -> SimpleNamespace:
    """What the prior needs of a frame: atoms with at least two bonds, all of whose bonds exist in the crystal."""
    for _ in range(3):
        bonds = pairs_within(positions, 1.85)
        positions = positions[np.bincount(bonds.ravel(), minlength=len(positions)) > 1]
    bonds = pairs_within(positions, 1.85)
    return SimpleNamespace(positions=positions, bonds=bonds, coordination=np.full(len(positions), 3))


@pytest.mark.parametrize("name", ["lcbop", "tersoff"])
def test_heights_are_held_by_the_stated_bending_stiffness(name):
    a = POTENTIALS[name].lattice_constant_angstrom
    frame = cut_out(honeycomb(40.0, 40.0, a))
    prior = build_prior([frame], 1, name, a, 300.0)
    flat = np.column_stack([frame.positions, np.zeros(len(frame.positions))])
    middle = int(np.linalg.norm(frame.positions - frame.positions.mean(axis=0), axis=1).argmin())
    raised = flat.copy()
    raised[middle, 2] = 1e-4
    diagonal = prior.energy_and_gradient(raised[None])[1][0, middle, 2] / 1e-4 * KT_EV
    # L^2 has 12 on its diagonal
    assert diagonal / 12 == pytest.approx(POTENTIALS[name].bending_ev_per_angstrom2, rel=0.1)


def test_a_lattice_constant_that_is_no_graphene_is_refused():
    frame = cut_out(honeycomb(12.0, 12.0, 2.46))
    with pytest.raises(InputError, match="lattice constant"):
        build_prior([frame], 1, "lcbop", 3.1, 300.0)


def test_a_sheet_at_temperature_obeys_equipartition_under_the_prior_of_its_cut_out():
    """<sum_i z_i dU/dz_i> = N k_B T at 300 K: a rim too stiff or too soft, or a wrong lattice constant, would show."""
    a = POTENTIALS["lcbop"].lattice_constant_angstrom
    settings = SheetSettings(40, 40, 16, frame_interval_ps=0.5, equilibration_ps=4.0, lattice_constant_angstrom=a, potential="lcbop")
    excess = []
    for snapshot in thermal_sheet(settings, 8).positions:
        frame = cut_out(snapshot[(np.abs(snapshot[:, :2] - 20) < 18).all(axis=1)])
        prior = build_prior([frame], 1, "lcbop", a, 300.0)
        _, gradient = prior.energy_and_gradient(frame.positions[None].copy())
        height = frame.positions[:, 2] - frame.positions[:, 2].mean()
        excess.append((height @ gradient[0, :, 2]) / len(height) - 1)
    assert np.mean(excess) == pytest.approx(0, abs=0.1)


# Graphite at the zone centre: the G line of Raman spectra, the A2u line of infrared ones (Nemanich, Lucovsky and Solin, 1977)
MEASURED_PER_CM = {"x": 1582.0, "z": 868.0}


def zone_centre_wavenumber_per_cm(potential: str, axis: int) -> float:
    """sqrt(2 K / m) of the sublattices moving against each other along an axis, from LAMMPS forces in the middle of a flat sheet."""
    spacing = POTENTIALS[potential].lattice_constant_angstrom
    xy = honeycomb(40.0, 40.0, spacing)
    bonds = pairs_within(xy, 1.9)
    start = int(((xy - 20.0) ** 2).sum(axis=1).argmin())
    graph = csr_array((np.ones(len(bonds)), bonds.T), (len(xy), len(xy)))
    steps = shortest_path(graph, directed=False, unweighted=True, indices=start)
    reached = np.isfinite(steps)
    xy, sign = xy[reached], np.where(steps[reached] % 2, 0.5, -0.5)
    middle = steps[reached] <= 3
    forces = []
    for step in (2e-3, -2e-3):
        moved = np.column_stack([xy, np.zeros(len(xy))])
        moved[:, axis] += sign * step
        with Simulation(moved, np.full(len(xy), "C"), potential=potential, lattice_constant_angstrom=spacing) as simulation:
            forces.append(simulation.forces()[:, axis])
    stiffness = -((forces[0] - forces[1]) * np.sign(sign))[middle].mean() / 4e-3 * elementary_charge * 1e20
    return float(np.sqrt(2 * stiffness / (12.011 * atomic_mass)) / (2 * np.pi * speed_of_light * 100))


def test_optical_phonons_of_the_default_prior_are_those_of_graphene():
    """LCBOP 1512 and 821 per cm; Tersoff 1689 and 1303: its heights are far too stiff, one reason for the default."""
    for axis, name in ((0, "x"), (2, "z")):
        lcbop, tersoff = (zone_centre_wavenumber_per_cm(potential, axis) for potential in ("lcbop", "tersoff"))
        assert lcbop == pytest.approx(MEASURED_PER_CM[name], rel=0.08)
        assert abs(lcbop - MEASURED_PER_CM[name]) < abs(tersoff - MEASURED_PER_CM[name])
