"""Bonds: errors and biases against scatter, padded neighbours against loops."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_tables import atoms_of_frame, atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.bonds import bond_angles_deg, bond_table, frame_bonds, sampled_bond_table
from scant.analysis.neighbours import iterate_frames, padded_neighbours
from scant.errors import InputError
from scant.physics.lattice import pairs_within


def test_padded_neighbours_are_the_partners_of_the_pairs():
    points = np.random.default_rng(2).uniform(0, 9, (60, 3))
    pairs = pairs_within(points, 1.85)
    index, valid = padded_neighbours(60, pairs)
    for atom in range(60):
        partners = sorted([b for a, b in pairs if a == atom] + [a for a, b in pairs if b == atom])
        assert sorted(index[atom][valid[atom]].tolist()) == partners
        assert (index[atom][~valid[atom]] == atom).all()


def test_flat_graphene_has_its_bonds_and_angles():
    xyz = np.column_stack([honeycomb_xy(20.0), np.zeros(len(honeycomb_xy(20.0)))])
    bonds = frame_bonds(frame_atoms(xyz))
    np.testing.assert_allclose(bonds.length_angstrom, 2.46 / np.sqrt(3), rtol=1e-12)
    np.testing.assert_allclose(bond_angles_deg(xyz, bonds.pairs), 120.0, atol=1e-6)


def test_noise_of_located_atoms_lengthens_their_bonds_by_what_is_taken_off():
    rng = np.random.default_rng(4)
    truth, sigma = np.array([[0.0, 0.0, np.nan], [1.3, 0.5, np.nan]]), (0.05, 0.08, np.nan)
    noisy = truth + rng.normal(size=(20000, 2, 3)) * [0.05, 0.08, 0.0]
    length = np.linalg.norm(truth[1, :2] - truth[0, :2])
    bonds = [frame_bonds(frame_atoms(xyz, sigma)) for xyz in noisy]
    measured = np.array([b.length_angstrom[0] for b in bonds])
    corrected = np.array([b.length_corrected_angstrom[0] for b in bonds])
    claimed = frame_bonds(frame_atoms(truth, sigma)).sigma_length_angstrom[0]
    assert measured.std() == pytest.approx(claimed, rel=0.10)
    assert measured.mean() - length > 0.001
    assert abs(corrected.mean() - length) < 0.25 * (measured.mean() - length)


def test_a_posterior_mean_is_shorter_than_its_samples():
    samples = np.array([[0.0, 0.0, 0.0], [1.42, 0.0, 0.0]]) + np.random.default_rng(6).normal(size=(20000, 2, 3)) * [0.02, 0.02, 0.2]
    lengths = np.linalg.norm(samples[:, 1] - samples[:, 0], axis=1)
    bonds = frame_bonds(frame_atoms(samples.mean(axis=0), (0.02, 0.02, 0.2)))
    assert bonds.length_angstrom[0] < lengths.mean() - 0.02
    assert bonds.length_corrected_angstrom[0] == pytest.approx(lengths.mean(), abs=0.004)


def test_table_holds_every_frame_and_only_its_bonds():
    table = atoms_table(3)
    bonds = bond_table(table)
    assert bonds["frame"].unique().sort().to_list() == [0, 1, 2]
    one = next(iterate_frames(table.filter(frame=1)))
    assert bonds.filter(frame=1).height == len(frame_bonds(one).pairs)
    assert (bonds["id_a"] < bonds["id_b"]).all()


def test_without_heights_bonds_lie_in_the_plane():
    bonds = bond_table(atoms_table(2, flat=True))
    assert bonds["length_angstrom"].mean() == pytest.approx(1.42, abs=0.01)
    assert bonds["sigma_length_angstrom"].is_finite().all()


def test_faults_are_named():
    with pytest.raises(InputError, match="sigma_z_angstrom"):
        bond_table(atoms_table(1).drop("sigma_z_angstrom"))


def test_an_empty_table_gives_an_empty_table():
    empty = atoms_of_frame(frame_atoms(np.zeros((1, 3)))).clear()
    assert bond_table(empty).height == 0


def test_samples_give_the_sheets_own_lengths_where_neighbours_err_together():
    """A sheet that moves up and down as one by 0.25 A, its atoms by 0.03 A: independent errors would lengthen its bonds by 0.04 A."""
    rng, xy = np.random.default_rng(8), honeycomb_xy(20.0)
    mean = np.column_stack([xy, np.zeros(len(xy))])
    drawn = mean + rng.normal(0, 0.25, (4, 1, 1)) * [0, 0, 1] + rng.normal(0, 0.03, (4, len(xy), 3))
    atoms = atoms_of_frame(frame_atoms(mean, (0.03, 0.03, 0.25)))
    samples = pl.concat(
        pl.DataFrame({"frame": 0, "id": np.arange(len(xy)), "draw": k, **{f"{a}_angstrom": d[:, n] for n, a in enumerate("xyz")}})
        for k, d in enumerate(drawn)
    )
    found, alone = sampled_bond_table(atoms, samples), sampled_bond_table(atoms, None)
    bond = 2.46 / np.sqrt(3)
    assert found["length_corrected_angstrom"].mean() == pytest.approx(bond + 0.03**2 / bond, abs=0.002)
    assert alone["length_corrected_angstrom"].mean() == pytest.approx(bond + 0.25**2 / bond, abs=0.005)
    assert found["sigma_length_angstrom"].median() == pytest.approx(0.03 * np.sqrt(2), rel=0.1)
    assert found.select("frame", "id_a", "id_b", "length_angstrom").equals(alone.select("frame", "id_a", "id_b", "length_angstrom"))
    one = sampled_bond_table(atoms, samples.filter(draw=0))
    assert one.equals(alone)
