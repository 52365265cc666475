"""Bonds: errors and biases against scatter, the network against loops and known rings."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_tables import atoms_of_frame, atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.bonds import bond_angles_deg, bond_table, coordination, frame_bonds, ring_sizes, sampled_bond_table
from scant.analysis.neighbours import iterate_frames, neighbour_pairs, padded_neighbours
from scant.errors import InputError


def test_pairs_and_padding_agree_with_a_loop():
    points = np.random.default_rng(2).uniform(0, 9, (60, 3))
    expected = [(i, j) for i in range(60) for j in range(i + 1, 60) if np.linalg.norm(points[i] - points[j]) < 1.85]
    pairs = neighbour_pairs(points, 1.85)
    assert pairs.tolist() == [list(p) for p in expected]
    index, valid = padded_neighbours(60, pairs)
    for atom in range(60):
        partners = sorted([b for a, b in expected if a == atom] + [a for a, b in expected if b == atom])
        assert sorted(index[atom][valid[atom]].tolist()) == partners
        assert (index[atom][~valid[atom]] == atom).all()


def test_flat_graphene_has_its_bonds_angles_and_rings():
    xyz = np.column_stack([honeycomb_xy(20.0), np.zeros(len(honeycomb_xy(20.0)))])
    bonds = frame_bonds(frame_atoms(xyz))
    np.testing.assert_allclose(bonds.length_angstrom, 2.46 / np.sqrt(3), rtol=1e-12)
    np.testing.assert_allclose(bond_angles_deg(xyz, bonds.pairs), 120.0, atol=1e-6)
    assert set(ring_sizes(xyz, bonds.pairs)) == {6}
    inner = np.all((xyz[:, :2] > 2) & (xyz[:, :2] < 18), axis=1)
    assert set(coordination(len(xyz), bonds.pairs)[inner]) == {3}


def test_a_vacancy_is_a_ring_of_twelve():
    xyz = np.column_stack([honeycomb_xy(24.0), np.zeros(len(honeycomb_xy(24.0)))])
    whole = ring_sizes(xyz, neighbour_pairs(xyz, 1.85))
    centre = np.argmin(np.linalg.norm(xyz[:, :2] - 12, axis=1))
    holed = np.delete(xyz, centre, axis=0)
    sizes = ring_sizes(holed, neighbour_pairs(holed, 1.85))
    assert sorted(sizes)[-1] == 12
    assert (sizes == 6).sum() == (whole == 6).sum() - 3


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_sigma_and_bias_agree_with_scatter(correlation):
    rng = np.random.default_rng(4)
    truth = np.array([[0.0, 0.0, 0.0], [1.3, 0.5, 0.3]])
    sigma = (0.05, 0.08, 0.20)
    shared, own = rng.normal(size=(20000, 1, 3)), rng.normal(size=(20000, 2, 3))
    noisy = truth + (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own) * sigma
    length = np.linalg.norm(truth[1] - truth[0])
    bonds = [frame_bonds(frame_atoms(xyz, sigma), 3.0, correlation) for xyz in noisy]
    measured = np.array([b.length_angstrom[0] for b in bonds])
    corrected = np.array([b.length_corrected_angstrom[0] for b in bonds])
    claimed = frame_bonds(frame_atoms(truth, sigma), 3.0, correlation).sigma_length_angstrom[0]
    assert measured.std() == pytest.approx(claimed, rel=0.10)
    assert measured.mean() - length > 0.001
    assert abs(corrected.mean() - length) < 0.25 * (measured.mean() - length)


def test_a_posterior_mean_is_shorter_than_its_samples():
    samples = np.array([[0.0, 0.0, 0.0], [1.42, 0.0, 0.0]]) + np.random.default_rng(6).normal(size=(20000, 2, 3)) * [0.02, 0.02, 0.2]
    mean_length = np.linalg.norm(samples[:, 1] - samples[:, 0], axis=1).mean()
    bonds = frame_bonds(frame_atoms(samples.mean(axis=0), (0.02, 0.02, 0.2)), estimate="posterior_mean")
    assert bonds.length_angstrom[0] < mean_length - 0.02
    assert bonds.length_corrected_angstrom[0] == pytest.approx(mean_length, abs=0.004)


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
    with pytest.raises(InputError, match=r"1\.2"):
        frame_bonds(frame_atoms(np.zeros((2, 3))), error_correlation=1.2)


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
