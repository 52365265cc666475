"""The prior of a cut-out: stiffness as the annealer's coordinates assume it, and equipartition on a sheet of another's making."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scant.errors import InputError
from scant.inference.prior import POTENTIALS, build_prior
from scant.physics.lattice import bonds_from_positions, honeycomb
from scant.physics.sheet import SheetSettings, thermal_sheet
from scant.units import BOLTZMANN_EV_PER_K

KT_EV = BOLTZMANN_EV_PER_K * 300.0


def cut_out(positions: np.ndarray) -> SimpleNamespace:
    """What the prior needs of a frame: atoms with at least two bonds, all of whose bonds exist in the crystal."""
    for _ in range(3):
        bonds = bonds_from_positions(positions, 1.85)
        positions = positions[np.bincount(bonds.ravel(), minlength=len(positions)) > 1]
    bonds = bonds_from_positions(positions, 1.85)
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
