"""Pi bands against closed forms and Hueckel's molecules: slope at K, benzene, naphthalene, C60, and the density of states of a sheet."""

from __future__ import annotations

import numpy as np
import pytest
import sisl
from ase.build import molecule
from report_tables import honeycomb_xy
from scant.analysis.pi_bands import BROADENING_EV, HOPPING_EV, SIGMA_OVER_PI, hopping_ev, pi_hamiltonian, pi_response
from scant.physics.lattice import pairs_within

BOND = 1.42
LATTICE = BOND * np.sqrt(3)
UP = np.array([0.0, 0.0, 1.0])


def flat(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    xyz = np.column_stack([xy, np.zeros(len(xy))])
    return xyz, pairs_within(xyz, 1.6)


def periodic_graphene() -> sisl.Hamiltonian:
    """The infinite sheet: one cell, hoppings over its three bonds by the code under test."""
    geometry = sisl.geom.graphene(BOND)
    hamiltonian = sisl.Hamiltonian(geometry)
    for other in geometry.close(0, R=(0.1, 1.1 * BOND))[1]:
        bond = (geometry.axyz(other) - geometry.axyz(0))[None]
        hamiltonian[0, other] = hopping_ev(bond, UP[None], UP[None])[0]
        hamiltonian[geometry.o2transpose(0, other)] = hamiltonian[0, other]
    return hamiltonian


def test_slope_at_k_is_three_halves_of_hopping_times_bond():
    graphene, k = periodic_graphene(), np.array([2 / 3, 1 / 3, 0.0])
    assert np.abs(graphene.eigh(k)).max() < 1e-9
    for direction in (np.array([1.0, 0.0, 0.0]), np.array([0.3, -0.8, 0.0])):
        step = 1e-4 * direction
        per_angstrom = np.linalg.norm(step @ graphene.rcell)
        velocity = graphene.eigh(k + step) / per_angstrom
        np.testing.assert_allclose(velocity, [-1.5 * HOPPING_EV * BOND, 1.5 * HOPPING_EV * BOND], rtol=1e-3)


def test_bands_of_flat_graphene_are_wallaces():
    """E = +- t |1 + exp(2 pi i k1) + exp(2 pi i k2)| (Wallace, Phys. Rev. 71, 622 (1947))."""
    graphene = periodic_graphene()
    for k1, k2 in ((0.0, 0.0), (0.5, 0.0), (0.21, 0.13), (-0.4, 0.33)):
        expected = HOPPING_EV * abs(1 + np.exp(2j * np.pi * k1) + np.exp(2j * np.pi * k2))
        np.testing.assert_allclose(graphene.eigh([k1, k2, 0]), [-expected, expected], atol=1e-9)


def test_hopping_knows_length_and_angles():
    bond = np.array([[BOND, 0.0, 0.0]])
    assert hopping_ev(bond, UP[None], UP[None])[0] == pytest.approx(-HOPPING_EV)
    assert hopping_ev(1.01 * bond, UP[None], UP[None])[0] == pytest.approx(-HOPPING_EV * np.exp(-0.0337))
    along = bond / BOND
    assert hopping_ev(bond, along, along)[0] == pytest.approx(-HOPPING_EV * SIGMA_OVER_PI)
    assert hopping_ev(bond, along, UP[None])[0] == pytest.approx(0.0)
    twist = np.array([[0.0, np.sin(0.3), np.cos(0.3)]])
    assert hopping_ev(bond, UP[None], twist)[0] == pytest.approx(-HOPPING_EV * np.cos(0.3))


def test_hoppings_do_not_care_how_the_sheet_lies():
    xy = honeycomb_xy(14.0, LATTICE)
    xyz = np.column_stack([xy, 0.02 * (xy**2).sum(axis=1)])
    pairs = pairs_within(xyz, 1.8)
    c, s = np.cos(0.4), np.sin(0.4)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    # Atoms with fewer bonds have no axis of their own.
    three = np.bincount(pairs.ravel(), minlength=len(xyz)) == 3
    assert three.sum() > 40
    whole, mirrored, turned = (
        pi_hamiltonian(x, pairs).Hk(format="array")[np.ix_(three, three)] for x in (xyz, xyz * [1, 1, -1], xyz @ turn.T)
    )
    np.testing.assert_allclose(mirrored, whole, atol=1e-9)
    np.testing.assert_allclose(turned, whole, atol=1e-9)


def test_bond_orders_of_benzene_and_naphthalene():
    """Hueckel: 2/3, and 0.725, 0.603, 0.555, 0.518 (Coulson and Streitwieser, Dictionary of pi-Electron Calculations, 1965)."""
    ring = BOND * np.column_stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)])
    xyz, pairs = flat(ring)
    np.testing.assert_allclose(pi_response(xyz, pairs, np.zeros(6)).bond_order, 2 / 3, atol=1e-6)
    two = np.unique(np.round(np.concatenate([ring, ring + [0, np.sqrt(3) * BOND]]), 9), axis=0)
    xyz, pairs = flat(two)
    response = pi_response(xyz, pairs, np.zeros(10))
    order = np.sort(response.bond_order)
    np.testing.assert_allclose(order, [0.518] + [0.555] * 4 + [0.603] * 2 + [0.725] * 4, atol=6e-4)
    np.testing.assert_allclose(response.charge_e, 0.0, atol=1e-9)


def test_c60_has_short_double_bonds():
    """Hueckel with one hopping: 0.601 between hexagons and 0.476 around pentagons; with shorter hexagon bonds the gap widens."""
    xyz = molecule("C60").positions
    pairs = pairs_within(xyz, 1.85)
    short = np.linalg.norm(xyz[pairs[:, 0]] - xyz[pairs[:, 1]], axis=1) < 1.41
    order = pi_response(xyz, pairs, np.zeros(60)).bond_order
    assert short.sum() == 30
    assert order[short].mean() == pytest.approx(0.601, abs=0.06) and order[~short].mean() == pytest.approx(0.476, abs=0.04)
    assert order[short].min() > order[~short].max() + 0.1


def test_odd_rings_carry_charge_and_even_ones_do_not():
    """Coulson and Rushbrooke, Proc. Camb. Phil. Soc. 36, 193 (1940): an alternant sheet has one electron on every atom."""
    angle = np.arange(5) * 2 * np.pi / 5
    pentagon = BOND / (2 * np.sin(np.pi / 5)) * np.column_stack([np.cos(angle), np.sin(angle)])
    fulvene, pairs = flat(np.vstack([pentagon, pentagon[0] * (1 + BOND / np.linalg.norm(pentagon[0]))]))
    charge = pi_response(fulvene, pairs, np.zeros(6)).charge_e
    assert charge[5] > 0.3
    sheet, pairs = flat(honeycomb_xy(14.0, LATTICE))
    # At the ends of the sheet levels lie at the Fermi level; half filled they leave every atom neutral.
    np.testing.assert_allclose(pi_response(sheet, pairs, np.zeros(len(sheet))).charge_e, 0.0, atol=1e-9)


def test_density_of_states_of_the_infinite_sheet_comes_out_of_a_cut_one():
    k = (np.arange(900) + 0.5) / 900
    band = HOPPING_EV * np.abs(1 + np.exp(2j * np.pi * k[:, None]) + np.exp(2j * np.pi * k[None]))
    infinite = 2 / np.pi * np.mean(BROADENING_EV / (BROADENING_EV**2 + band**2))
    xyz, pairs = flat(honeycomb_xy(50.0, LATTICE))
    lost = 3 - np.bincount(pairs.ravel(), minlength=len(xyz))
    centre = np.abs(xyz[:, :2] - 25).max(axis=1) < 8
    opened, closed = (pi_response(xyz, pairs, bonds).ldos_per_ev[centre] for bonds in (lost, 0 * lost))
    np.testing.assert_allclose(opened, infinite, rtol=0.03)
    assert np.std(opened) < 0.4 * np.std(closed)
