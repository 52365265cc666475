"""The pseudo-magnetic field of analytic strains, and the Landau level that the same strain makes in the pi bands."""

from __future__ import annotations

import numpy as np
import pytest
from report_tables import frame_atoms, honeycomb_xy
from scant.analysis.pi_bands import BOND_ANGSTROM, DECAY, HOPPING_EV, pi_hamiltonian
from scant.analysis.pseudofield import HBAR_OVER_E_TESLA_ANGSTROM2, curl_tesla, vector_potential_tesla_angstrom, zigzag_angle_rad
from scant.analysis.strain import frame_strain
from scant.physics.lattice import pairs_within

LATTICE = BOND_ANGSTROM * np.sqrt(3)
SCALE = HBAR_OVER_E_TESLA_ANGSTROM2 * DECAY / (2 * BOND_ANGSTROM)


def triaxial(xy: np.ndarray, c: float, zigzag_rad: float = 0.0) -> np.ndarray:
    """Guinea, Katsnelson and Geim, Nat. Phys. 6, 30 (2010): u = c (2 x y, x^2 - y^2), x along a zigzag row; its field is uniform."""
    turn = np.array([[np.cos(zigzag_rad), np.sin(zigzag_rad)], [-np.sin(zigzag_rad), np.cos(zigzag_rad)]])
    x, y = (xy @ turn.T).T
    return xy + c * np.column_stack([2 * x * y, x**2 - y**2]) @ turn


def strain_of(xy: np.ndarray, c: float, zigzag_rad: float = 0.0) -> tuple[np.ndarray, float]:
    xyz = np.column_stack([triaxial(xy, c, zigzag_rad), np.zeros(len(xy))])
    result = frame_strain(frame_atoms(xyz, (0.0, 0.0, 0.0)), LATTICE)
    return result.green, result.lattice_angle_rad


XY = honeycomb_xy(60.0, LATTICE, 0.0) - 30.0
INNER = np.linalg.norm(XY, axis=1) < 20


def test_triaxial_strain_makes_a_uniform_field():
    """Of u = c (2 x y, x^2 - y^2): E_xx = -E_yy = 2 c y, E_xy = 2 c x to first order, B = -8 c hbar beta / (2 a e)."""
    c = 2e-4
    strain, bond_angle = strain_of(XY, c)
    potential = vector_potential_tesla_angstrom(strain, zigzag_angle_rad(bond_angle), BOND_ANGSTROM, DECAY)
    field = curl_tesla(XY, potential)
    assert -8 * c * SCALE == pytest.approx(-125, abs=1)
    # Second order in the strain, 1.7 % at the rim of the inner part.
    np.testing.assert_allclose(field[INNER], -8 * c * SCALE, rtol=0.05)
    assert np.mean(field[INNER]) == pytest.approx(-8 * c * SCALE, rel=0.02)


def test_uniform_strain_and_bulging_make_no_field_but_a_potential():
    strain = np.broadcast_to([0.01, -0.004, 0.003], (len(XY), 3))
    potential = vector_potential_tesla_angstrom(strain, 0.0, BOND_ANGSTROM, DECAY)
    np.testing.assert_allclose(potential, SCALE * np.broadcast_to([0.014, -0.006], potential.shape))
    assert np.nanmax(np.abs(curl_tesla(XY, potential))) < 1e-6
    isotropic = vector_potential_tesla_angstrom(np.broadcast_to([0.02, 0.02, 0.0], strain.shape), 0.3, BOND_ANGSTROM, DECAY)
    np.testing.assert_allclose(isotropic, 0.0, atol=1e-9)


def test_the_field_turns_with_the_crystal_and_changes_sign_with_the_valley():
    c, angle = 2e-4, 0.3
    turned = honeycomb_xy(60.0, LATTICE, -angle) - 30.0
    strain, bond_angle = strain_of(turned, c, -angle)
    inner = np.linalg.norm(turned, axis=1) < 20
    for reference, sign in ((-angle, 1), (-angle + np.pi / 3, -1), (-angle - np.pi / 3, -1), (-angle + 2 * np.pi / 3, 1)):
        zigzag = zigzag_angle_rad(bond_angle, reference)
        assert zigzag == pytest.approx(reference, abs=0.01)
        field = curl_tesla(turned, vector_potential_tesla_angstrom(strain, zigzag, BOND_ANGSTROM, DECAY))
        assert np.mean(field[inner]) == pytest.approx(-sign * 8 * c * SCALE, rel=0.03)


def test_the_first_landau_level_of_the_bands_lies_where_the_field_says():
    """E_1 = v sqrt(2 hbar e |B|) with v = 3 t a / 2 hbar: the local density of states at the centre peaks there and at 0."""
    field = 600.0
    disc = honeycomb_xy(100.0, LATTICE, 0.0) - 50.0
    disc = disc[np.linalg.norm(disc, axis=1) < 40]
    moved = triaxial(disc, field / (8 * SCALE))
    xyz = np.column_stack([moved, np.zeros(len(moved))])
    states = pi_hamiltonian(xyz, pairs_within(disc, 1.6)).eigenstate()
    centre = np.linalg.norm(disc, axis=1) < 6
    weight = (np.abs(states.state[:, centre]) ** 2).sum(axis=1)
    first = 1.5 * HOPPING_EV * BOND_ANGSTROM * np.sqrt(2 * field / HBAR_OVER_E_TESLA_ANGSTROM2)
    grid = np.linspace(0.3 * first, 1.3 * first, 200)
    density = np.exp(-0.5 * ((grid[:, None] - states.eig) / 0.06) ** 2) @ weight
    assert grid[density.argmax()] == pytest.approx(first, rel=0.05)
    at_zero, between = (np.exp(-0.5 * ((energy - states.eig) / 0.06) ** 2) @ weight for energy in (0.0, 0.5 * first))
    assert at_zero > 3 * between


def test_too_few_atoms_have_no_field():
    assert np.isnan(curl_tesla(np.eye(2), np.ones((2, 2)))).all()
    assert np.isnan(curl_tesla(XY[:40], np.full((40, 2), np.nan))).all()
