"""The electronic response of a frame: bulk values, rims, pieces, a vacancy, and a sigma that is the scatter of the posterior."""

from __future__ import annotations

import numpy as np
import pytest
from report_tables import frame_atoms, honeycomb_xy, ripple
from scant.analysis import electronic
from scant.analysis.correlation import correlation
from scant.analysis.electronic import RIM_ANGSTROM, frame_electrons, sheet_response
from scant.analysis.response_sums import PAIRS as QUESTIONS
from scant.physics.lattice import pairs_within
from scant.stages.products import RESPONSES

LATTICE = 1.42 * np.sqrt(3)
XY = honeycomb_xy(40.0, LATTICE)
FLAT = np.column_stack([XY, np.zeros(len(XY))])
PAIRS = pairs_within(FLAT, 1.6)
INSIDE = np.minimum(XY - XY.min(axis=0), XY.max(axis=0) - XY).min(axis=1) >= RIM_ANGSTROM


def test_a_flat_sheet_has_the_bond_order_of_graphene_and_no_charge():
    """The infinite sheet: p = <|f(k)|> / 3 = 0.5249 (Coulson and Rushbrooke, Proc. R. Soc. Edinb. A 62, 350 (1948))."""
    k = (np.arange(600) + 0.5) / 600
    infinite = np.abs(1 + np.exp(2j * np.pi * k[:, None]) + np.exp(2j * np.pi * k[None])).mean() / 3
    assert infinite == pytest.approx(0.5249, abs=1e-4)
    response = sheet_response(FLAT, PAIRS, XY)
    np.testing.assert_allclose(response.bond_order[INSIDE[PAIRS].all(axis=1)], infinite, atol=0.007)
    np.testing.assert_allclose(response.charge_e[INSIDE], 0.0, atol=1e-9)
    assert np.isnan(response.ldos_per_ev[~INSIDE]).all()
    assert np.isfinite(response.ldos_per_ev).sum() == INSIDE.sum() > 100


def test_the_table_names_what_is_computed():
    assert RESPONSES == electronic.QUANTITIES


def test_a_short_bond_has_the_higher_order_and_a_stretched_sheet_the_higher_density_of_states():
    closer = FLAT.copy()
    centre = np.argmin(np.linalg.norm(XY - 20, axis=1))
    bond = int(np.flatnonzero((centre == PAIRS).any(axis=1))[0])
    a, b = PAIRS[bond]
    closer[[a, b]] += 0.03 * (FLAT[b] - FLAT[a]) * np.array([[1], [-1]])
    before, after = (sheet_response(xyz, PAIRS, XY) for xyz in (FLAT, closer))
    change = after.bond_order - before.bond_order
    assert np.nanargmax(change) == bond and change[bond] > 0.03
    stretched = sheet_response(1.02 * FLAT, PAIRS, XY).ldos_per_ev[INSIDE]
    # N ~ eta / t^2, nearly: 2 beta times the strain, less the logarithm of the cut-off.
    assert np.mean(stretched / before.ldos_per_ev[INSIDE]) == pytest.approx(np.exp(2 * 3.37 * 0.02), rel=0.03)


def test_a_large_sheet_in_pieces_is_the_sheet_in_one(monkeypatch):
    whole = sheet_response(FLAT, PAIRS, XY)
    monkeypatch.setattr(electronic, "LARGEST_PIECE_ANGSTROM", 30.0)
    monkeypatch.setattr(electronic, "CORE_ANGSTROM", 20.0)
    pieces = sheet_response(FLAT, PAIRS, XY)
    np.testing.assert_array_equal(np.isfinite(pieces.ldos_per_ev), np.isfinite(whole.ldos_per_ev))
    np.testing.assert_array_equal(np.isfinite(pieces.bond_order), np.isfinite(whole.bond_order))
    np.testing.assert_allclose(pieces.ldos_per_ev[INSIDE], whole.ldos_per_ev[INSIDE], rtol=0.15)
    assert np.mean(pieces.ldos_per_ev[INSIDE] / whole.ldos_per_ev[INSIDE]) == pytest.approx(1.0, abs=0.05)
    both = np.isfinite(whole.bond_order)
    np.testing.assert_allclose(pieces.bond_order[both], whole.bond_order[both], atol=0.007)


def test_a_vacancy_puts_states_at_the_fermi_level_on_the_other_sublattice():
    """Pereira et al., Phys. Rev. Lett. 96, 036801 (2006): the zero mode lives on the sublattice that has lost no atom."""
    gone = int(np.argmin(np.linalg.norm(XY - 20, axis=1)))
    bonded = PAIRS[(gone == PAIRS).any(axis=1)].ravel()
    neighbours = bonded[bonded != gone]
    left = np.delete(np.arange(len(XY)), gone)
    response = sheet_response(FLAT[left], pairs_within(FLAT[left], 1.6), XY[left])
    ldos = np.full(len(XY), np.nan)
    ldos[left] = response.ldos_per_ev
    bulk = np.nanmedian(ldos)
    assert (ldos[neighbours] > 4 * bulk).all()
    second = np.linalg.norm(XY - XY[gone], axis=1)
    same_sublattice = (second > 2.4) & (second < 2.5)
    assert np.nanmax(ldos[same_sublattice]) < 1.5 * bulk


def test_sigma_is_the_scatter_of_the_posterior_and_one_sample_has_none():
    rng = np.random.default_rng(2)
    mean = np.column_stack([XY, ripple(XY, 0.0)])
    atoms = frame_atoms(mean, (0.02, 0.02, 0.05))
    samples = mean + rng.normal(0, 1, (22, *mean.shape)) * [0.02, 0.02, 0.05]
    few, others = frame_electrons(atoms, samples[:6], LATTICE), frame_electrons(atoms, samples[6:], LATTICE)
    for name in ("ldos_per_ev", "free_valence", "pseudo_field_tesla"):
        (value, sigma), (reference, spread) = few.atoms[name], others.atoms[name]
        known = np.isfinite(value) & INSIDE
        assert known.sum() > 100, name
        spread = spread[known] / np.sqrt(17 / 16)
        assert np.sqrt(np.mean((value - reference)[known] ** 2 / spread**2)) == pytest.approx(np.sqrt(1 / 6 + 1 / 16), rel=0.25), name
        assert np.sqrt(np.mean(sigma[known] ** 2) / np.mean(spread**2)) == pytest.approx(np.sqrt(7 / 6), rel=0.2), name
    alone = frame_electrons(atoms, samples[:1], LATTICE)
    assert np.isnan(alone.atoms["ldos_per_ev"][1]).all() and np.isfinite(alone.atoms["ldos_per_ev"][0]).any()
    bonds = np.isfinite(few.bond_order)
    assert bonds.sum() > 150 and (few.sigma_bond_order[bonds] > 0).all()


def test_correlations_are_those_of_the_sheet_and_not_of_its_posterior_mean():
    """A sheet and its samples differ from the posterior mean alike; of the mean itself, which is flat, nothing could be told."""
    rng = np.random.default_rng(9)
    moved = FLAT + rng.normal(0, 1, (4, *FLAT.shape)) * [0.02, 0.02, 0.03]
    sheet, samples = moved[0], moved[1:]
    posterior = frame_electrons(frame_atoms(FLAT, (0.02, 0.02, 0.03)), samples, LATTICE)
    truth = frame_electrons(frame_atoms(sheet, (0.02, 0.02, 0.03)), sheet[None], LATTICE)
    values = np.array([[correlation(result.sums[[k]]).r for k in range(len(QUESTIONS))] for result in (posterior, truth)])
    # About 115 atoms of one sheet: 0.09 each at r = 0, less where r is strong.
    np.testing.assert_allclose(values[0], values[1], atol=0.27)
    np.testing.assert_allclose(values[0, [2, 5, 6]], values[1, [2, 5, 6]], atol=0.1)
    assert QUESTIONS[2] == ("density of states", "mean bond length") and values[0, 2] > 0.4
    assert QUESTIONS[6] == ("bond order", "bond length") and values[0, 6] < -0.6
    known = np.isfinite(truth.atoms["ldos_per_ev"][0])
    assert truth.sums[2, 0] == known.sum()


def test_a_vacancy_s_own_states_stay_out_of_the_correlations():
    """Near it the density of states is many times the sheet's, whatever the bonds' lengths."""
    rng = np.random.default_rng(11)
    xy = honeycomb_xy(60.0, LATTICE)
    gone = np.argmin(np.linalg.norm(xy - 15, axis=1))
    sheet = np.delete(np.column_stack([xy, np.zeros(len(xy))]), gone, axis=0) + rng.normal(0, 1, (len(xy) - 1, 3)) * [0.02, 0.02, 0.03]
    found = frame_electrons(frame_atoms(sheet, (0.02, 0.02, 0.03)), sheet[None], LATTICE)
    known = np.isfinite(found.atoms["ldos_per_ev"][0])
    near = np.linalg.norm(sheet[:, :2] - xy[gone], axis=1) <= electronic.DEFECT_REACH_ANGSTROM
    assert found.atoms["ldos_per_ev"][0][known & near].max() > 3 * np.median(found.atoms["ldos_per_ev"][0][known])
    assert found.sums[2, 0] == (known & ~near).sum() > 200
    assert correlation(found.sums[[2]]).r > 0.4
