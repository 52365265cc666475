"""Curvature of sphere, cylinder, saddle."""

from __future__ import annotations

import numpy as np
import pytest
from report_tables import atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.curvature import curvature_table, frame_curvature

XY = honeycomb_xy(24.0) - 12.0
INNER = np.linalg.norm(XY, axis=1) < 6.5


def curved(z: np.ndarray, sigma_z: float = 1e-3):
    return frame_curvature(frame_atoms(np.column_stack([XY, z]), (sigma_z, sigma_z, sigma_z)))


def test_sphere():
    radius = 60.0
    dome = curved(np.sqrt(radius**2 - np.sum(XY**2, axis=1)) - radius)
    np.testing.assert_allclose(dome.mean_per_angstrom[INNER], -1 / radius, rtol=0.02)
    np.testing.assert_allclose(dome.gaussian_per_angstrom2[INNER], 1 / radius**2, rtol=0.03)
    normal = np.column_stack([XY, np.sqrt(radius**2 - np.sum(XY**2, axis=1))]) / radius
    np.testing.assert_allclose(dome.normal[INNER], normal[INNER], atol=0.01)


def test_cylinder_tilted_against_the_lattice():
    along = XY @ [np.cos(0.7), np.sin(0.7)]
    radius = 50.0
    trough = curved(radius - np.sqrt(radius**2 - along**2))
    np.testing.assert_allclose(trough.mean_per_angstrom[INNER], 0.5 / radius, rtol=0.02)
    np.testing.assert_allclose(trough.gaussian_per_angstrom2[INNER], 0.0, atol=2e-5)


def test_saddle_and_its_slopes():
    x, y = XY.T
    a, b = 0.02, 0.012
    saddle = curved(0.5 * a * x**2 - 0.5 * b * y**2 + 0.3 * x)
    p, q = a * x + 0.3, -b * y
    w2 = 1 + p**2 + q**2
    mean = ((1 + q**2) * a - (1 + p**2) * b) / (2 * w2**1.5)
    np.testing.assert_allclose(saddle.mean_per_angstrom[INNER], mean[INNER], atol=3e-4)
    np.testing.assert_allclose(saddle.gaussian_per_angstrom2[INNER], (-a * b / w2**2)[INNER], rtol=0.06)


def test_sigmas_agree_with_scatter():
    rng = np.random.default_rng(1)
    bowl = 0.01 * np.sum(XY**2, axis=1)
    runs = [curved(bowl + rng.normal(0, 0.2, len(XY)), 0.2) for _ in range(150)]
    centre = np.argmin(np.sum(XY**2, axis=1))
    for name in ("mean_per_angstrom", "gaussian_per_angstrom2"):
        values = np.array([getattr(r, name)[centre] for r in runs])
        claimed = np.sqrt(np.mean([getattr(r, "sigma_" + name)[centre] ** 2 for r in runs]))
        assert values.std() == pytest.approx(claimed, rel=0.35)


def test_gaussian_curvature_is_that_of_the_posterior_mean_however_large_sigma():
    sheet = np.column_stack([XY, 0.3 * np.sin(XY[:, 0] / 3)])
    small, large = (frame_curvature(frame_atoms(sheet, (sigma,) * 3)).gaussian_per_angstrom2 for sigma in (1e-3, 0.3))
    np.testing.assert_allclose(small, large, atol=1e-12)


def test_without_sigmas_the_residual_speaks():
    atoms = frame_atoms(np.column_stack([XY, np.random.default_rng(3).normal(0, 0.2, len(XY))]), (np.nan,) * 3)
    known = frame_atoms(atoms.xyz_angstrom, (0.2,) * 3)
    ratio = frame_curvature(atoms).sigma_mean_per_angstrom[INNER] / frame_curvature(known).sigma_mean_per_angstrom[INNER]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.2)


def test_few_atoms_or_no_heights_give_nan():
    assert curvature_table(atoms_table(1, flat=True))["mean_per_angstrom"].is_nan().all()
    assert np.isnan(frame_curvature(frame_atoms(np.eye(3))).mean_per_angstrom).all()
