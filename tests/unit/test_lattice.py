"""Lattices, bonds, rings and the Stone-Wales turn, against counts and lengths known by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scant.errors import InputError
from scant.physics.lattice import GRAPHENE, Material, bond_lengths, crystal_patch, honeycomb, pairs_within, rings, stone_wales

CUTOFF = 1.9


@pytest.fixture(scope="module")
def patch() -> tuple[np.ndarray, np.ndarray]:
    positions = honeycomb(31.0, 23.0, rotation_rad=0.3, origin=(3.0, 4.0))
    return positions, pairs_within(positions, CUTOFF)


def interior_bond(positions: np.ndarray, bonds: np.ndarray) -> int:
    return int(np.linalg.norm(positions[bonds].mean(axis=1) - positions.mean(axis=0), axis=1).argmin())


def test_density_and_bond_length_are_graphene(patch: tuple[np.ndarray, np.ndarray]) -> None:
    positions, bonds = patch
    area_per_atom = np.sqrt(3) / 4 * 2.46**2
    assert len(positions) == pytest.approx(31 * 23 / area_per_atom, rel=0.03)
    np.testing.assert_allclose(bond_lengths(positions, bonds), 2.46 / np.sqrt(3), atol=1e-9)


def test_rectangle_origin_rotation_and_margin() -> None:
    positions = honeycomb(20.0, 10.0, 2.5, rotation_rad=0.2, origin=(5.0, 6.0), margin_angstrom=1.5)
    assert positions.min() >= -1.5 and (positions <= [21.5, 11.5]).all()
    assert np.linalg.norm(positions - [5.0, 6.0], axis=1).min() < 1e-12
    along = 2.5 * np.array([np.cos(0.2), np.sin(0.2)])
    assert np.linalg.norm(positions - [5.0, 6.0] - along, axis=1).min() < 1e-9
    larger = honeycomb(20.0, 10.0, 2.5, rotation_rad=0.2, origin=(5.0, 6.0), margin_angstrom=8.0)
    inside = (larger >= -1.5).all(axis=1) & (larger <= [21.5, 11.5]).all(axis=1)
    np.testing.assert_allclose(np.sort(larger[inside], axis=0), np.sort(positions, axis=0))


def test_crystal_patch_gives_each_basis_atom_its_species() -> None:
    two_kinds = Material("checked", ("A", "B"), 2.5)
    positions, species = crystal_patch(two_kinds, 20.0, 15.0)
    pairs = species[pairs_within(positions, CUTOFF)]
    assert set(map(tuple, np.sort(pairs, axis=1).tolist())) == {("A", "B")}
    assert GRAPHENE.species == ("C", "C")


def test_bonds_equal_a_double_loop() -> None:
    positions = np.random.default_rng(3).uniform(0, 8, (60, 3)) * [1, 2, 0.3]
    naive = [(i, j) for i in range(60) for j in range(i + 1, 60) if np.linalg.norm(positions[i] - positions[j]) <= CUTOFF]
    assert pairs_within(positions, CUTOFF).tolist() == [list(pair) for pair in naive]


def test_no_atoms_have_no_bonds() -> None:
    assert pairs_within(np.empty((0, 2)), CUTOFF).shape == (0, 2)
    assert pairs_within(np.zeros((1, 3)), CUTOFF).shape == (0, 2)


def test_perfect_sheet_has_hexagons_only_and_obeys_euler(patch: tuple[np.ndarray, np.ndarray]) -> None:
    positions, bonds = patch
    faces = rings(bonds, positions)
    assert Counter(map(len, faces)) == {6: len(faces)}
    assert len(positions) - len(bonds) + len(faces) == 1
    assert len({tuple(sorted(face)) for face in faces}) == len(faces)


def test_ring_edges_are_bonds_and_run_counter_clockwise(patch: tuple[np.ndarray, np.ndarray]) -> None:
    positions, bonds = patch
    known = set(map(tuple, bonds.tolist()))
    for face in rings(bonds, positions):
        assert all(tuple(sorted(edge)) in known for edge in zip(face.tolist(), np.roll(face, -1).tolist()))
        x, y = positions[face].T
        assert x @ np.roll(y, -1) - y @ np.roll(x, -1) > 0
        assert face[0] == face.min()


def test_vacancy_leaves_one_ring_of_twelve(patch: tuple[np.ndarray, np.ndarray]) -> None:
    positions, bonds = patch
    hexagons = len(rings(bonds, positions))
    holed = np.delete(positions, bonds[interior_bond(positions, bonds)][0], axis=0)
    assert Counter(map(len, rings(pairs_within(holed, CUTOFF), holed))) == {6: hexagons - 3, 12: 1}


def test_a_dangling_chain_does_not_break_the_walk() -> None:
    hexagon = np.array([[np.cos(a), np.sin(a)] for a in np.arange(6) * np.pi / 3]) * 1.42
    tail = np.array([[2.84, 0.0], [4.26, 0.0]])
    positions = np.vstack([hexagon, tail])
    faces = rings(pairs_within(positions, 1.5), positions)
    assert [face.tolist() for face in faces] == [[0, 1, 2, 3, 4, 5]]


def test_stone_wales_makes_two_pentagons_and_two_heptagons(patch: tuple[np.ndarray, np.ndarray]) -> None:
    positions, bonds = patch
    lifted = np.column_stack([positions, np.linspace(0, 1, len(positions))])
    index = interior_bond(positions, bonds)
    turned, new_bonds = stone_wales(lifted, bonds, index)
    hexagons = len(rings(bonds, positions))
    assert Counter(map(len, rings(new_bonds, turned))) == {6: hexagons - 4, 5: 2, 7: 2}
    assert len(new_bonds) == len(bonds)
    a, b = bonds[index]
    before, after = positions[b] - positions[a], turned[b, :2] - turned[a, :2]
    assert before @ after == pytest.approx(0, abs=1e-9) and np.linalg.norm(after) == pytest.approx(np.linalg.norm(before))
    assert (turned[:, 2] == lifted[:, 2]).all() and (np.delete(turned, [a, b], axis=0) == np.delete(lifted, [a, b], axis=0)).all()


def test_errors_name_the_atom_and_the_value(patch: tuple[np.ndarray, np.ndarray]) -> None:
    positions, bonds = patch
    broken = positions.copy()
    broken[7, 1] = np.nan
    with pytest.raises(InputError, match="atom 7 has position"):
        pairs_within(broken, CUTOFF)
    with pytest.raises(InputError, match="cut-off is 0"):
        pairs_within(positions, 0.0)
    edge = int(np.bincount(bonds.ravel()).argmin())
    edge_bond = int(np.flatnonzero((bonds == edge).any(axis=1))[0])
    with pytest.raises(InputError, match="away from edges"):
        stone_wales(positions, bonds, edge_bond)
    with pytest.raises(InputError, match="one each"):
        Material("lopsided", ("C",), 2.46)
    with pytest.raises(InputError, match="1 to 20 A"):
        Material("vast", ("C", "C"), float("nan"))
