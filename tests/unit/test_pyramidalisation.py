"""POAV of C60, of a (10,10) tube and of a sphere, its sigma against scatter, and what noise does to a flat sheet."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule, nanotube
from report_tables import atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.pyramidalisation import pi_axes, pyramidalisation_deg, pyramidalisation_table
from scant.physics.lattice import pairs_within

XY = honeycomb_xy(24.0) - 12.0
INNER = np.linalg.norm(XY, axis=1) < 6.5


def poav(atoms: FrameAtoms) -> tuple[np.ndarray, np.ndarray]:
    return pyramidalisation_deg(atoms, pairs_within(atoms.xyz_angstrom, 1.85))


def test_c60_has_haddons_angle():
    c60 = molecule("C60")
    angle, sigma = poav(frame_atoms(c60.positions))
    # The coordinates of ASE's molecule are relaxed to about 0.01 angstrom only.
    np.testing.assert_allclose(np.abs(angle), 11.64, atol=0.2)
    assert np.abs(angle).mean() == pytest.approx(11.64, abs=0.01)
    np.testing.assert_array_equal(np.sign(angle), np.sign(c60.positions[:, 2] - c60.positions[:, 2].mean()))
    assert (sigma > 0).all()


def test_a_10_10_tube_has_three_degrees():
    """Niyogi et al., Acc. Chem. Res. 35, 1105 (2002): 3.0 degrees; bond / 4 radius = 1.42 / (4 x 6.78) is 3.00 degrees."""
    tube = nanotube(10, 10, length=6, bond=1.42)
    radius = np.hypot(*(tube.positions[:, :2] - tube.positions[:, :2].mean(axis=0)).T).mean()
    assert radius == pytest.approx(6.78, abs=0.01)
    angle, _ = poav(frame_atoms(tube.positions[:, [0, 2, 1]]))
    assert np.nanmedian(np.abs(angle)) == pytest.approx(3.0, abs=0.05)
    assert np.nanmedian(np.abs(angle)) == pytest.approx(np.degrees(1.42 / (4 * radius)), rel=0.02)


def test_a_bump_is_positive_by_bond_over_two_radii():
    z = np.sqrt(80.0**2 - np.sum(XY**2, axis=1)) - 80.0
    angle, _ = poav(frame_atoms(np.column_stack([XY, z])))
    np.testing.assert_allclose(angle[INNER], np.degrees(1.42 / 160), rtol=0.02)
    angle, _ = poav(frame_atoms(np.column_stack([XY, -z])))
    np.testing.assert_allclose(angle[INNER], -np.degrees(1.42 / 160), rtol=0.02)


def test_sigma_is_the_derivative_of_the_angle():
    rng = np.random.default_rng(4)
    atoms = frame_atoms(np.column_stack([XY, 0.03 * np.sum(XY**2, axis=1)]) + rng.normal(0, 0.1, (len(XY), 3)), (0.02, 0.03, 0.2))
    pairs = pairs_within(XY, 1.6)
    _, sigma = pyramidalisation_deg(atoms, pairs)
    centre, step = int(np.argmin(np.sum(XY**2, axis=1))), 1e-5
    variance = 0.0
    for atom in (centre, *pairs[(pairs == centre).any(axis=1)].ravel()):
        if atom == centre and variance:
            continue
        for axis in range(3):
            moved = [atoms.xyz_angstrom.copy() for _ in range(2)]
            moved[0][atom, axis] += step
            moved[1][atom, axis] -= step
            up, down = (pyramidalisation_deg(FrameAtoms(0, atoms.ids, xyz, atoms.sigma_angstrom), pairs)[0][centre] for xyz in moved)
            variance += ((up - down) / (2 * step)) ** 2 * atoms.sigma_angstrom[atom, axis] ** 2
    assert sigma[centre] == pytest.approx(np.sqrt(variance), rel=1e-6)


def test_noise_biases_the_magnitude_of_a_flat_sheets_angle_but_not_the_signed_angle():
    rng, flat = np.random.default_rng(5), np.column_stack([XY, np.zeros(len(XY))])
    pairs = pairs_within(flat, 1.85)
    angles = []
    for _ in range(200):
        atoms = frame_atoms(flat + rng.normal(0, 1, flat.shape) * [0.01, 0.01, 0.05], (0.01, 0.01, 0.05))
        angle, sigma = pyramidalisation_deg(atoms, pairs)
        angles.append(angle[INNER])
    claimed = np.median(sigma[INNER])
    assert np.std(angles) == pytest.approx(claimed, rel=0.05)
    assert abs(np.mean(angles)) < 4 * claimed / np.sqrt(np.size(angles))
    assert np.mean(np.abs(angles)) == pytest.approx(np.sqrt(2 / np.pi) * claimed, rel=0.05)


def test_a_tilted_flat_sheet_is_not_pyramidal_and_its_axes_are_its_normal():
    z = 0.2 * XY[:, 0] - 0.1 * XY[:, 1]
    xyz = np.column_stack([XY, z])
    pairs = pairs_within(XY, 1.6)
    angle, _ = pyramidalisation_deg(frame_atoms(xyz), pairs)
    np.testing.assert_allclose(angle[np.isfinite(angle)], 0.0, atol=1e-6)
    normal = np.array([-0.2, 0.1, 1.0]) / np.sqrt(1.05)
    two_bonds = np.bincount(pairs.ravel(), minlength=len(XY)) == 2
    held = np.abs(XY).max(axis=1) < 11.3
    assert two_bonds[held].any()
    np.testing.assert_allclose(pi_axes(xyz, pairs)[held], np.broadcast_to(normal, (held.sum(), 3)), atol=1e-6)
    np.testing.assert_array_equal(pi_axes(xyz, np.empty((0, 2), dtype=np.int64)), np.broadcast_to([0.0, 0.0, 1.0], xyz.shape))


def test_without_heights_there_is_no_angle():
    table = pyramidalisation_table(atoms_table(1, flat=True))
    assert table["pyramidalisation_deg"].is_nan().all()
    assert pyramidalisation_table(atoms_table(2))["pyramidalisation_deg"].is_finite().sum() > 200
