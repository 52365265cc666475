"""Strain against imposed deformations, and its sigma against scatter."""

from __future__ import annotations

import numpy as np
import pytest
from report_tables import atoms_table, frame_atoms, honeycomb_xy
from scant.analysis.strain import frame_strain, strain_table

XY = honeycomb_xy(26.0)


def sheet(xy: np.ndarray, z: np.ndarray | None = None) -> np.ndarray:
    return np.column_stack([xy, np.zeros(len(xy)) if z is None else z])


def test_uniform_strain_comes_back_and_the_rotation_goes_to_the_lattice():
    strain = np.array([[0.021, 0.006], [0.006, -0.013]])
    turn = 0.15
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = XY @ (rotation @ (np.eye(2) + strain)).T
    result = frame_strain(frame_atoms(sheet(moved)))
    whole = np.isfinite(result.eps[:, 0])
    assert whole.sum() > 0.6 * len(XY)
    # The mean lattice was turned by `turn` too: against it F = Q (1 + E) Q^T.
    turned = rotation @ strain @ rotation.T
    np.testing.assert_allclose(result.eps[whole], [[turned[0, 0], turned[1, 1], turned[0, 1]]] * whole.sum(), atol=1e-9)
    assert np.abs(result.rotation_rad[whole]).max() < 1e-9


def test_a_shear_band_and_a_gradient_come_back_locally():
    x, y = XY.T
    moved = np.column_stack([x + 0.0006 * (x - 13) ** 2, y + 0.01 * np.sin(2 * np.pi * x / 26)])
    result = frame_strain(frame_atoms(sheet(moved)))
    inner = np.isfinite(result.eps[:, 0])
    expected_xx = 0.0012 * (x - 13)
    slope = 0.01 * 2 * np.pi / 26 * np.cos(2 * np.pi * x / 26)
    assert np.abs(result.eps[inner, 0] - expected_xx[inner]).max() < 4e-4
    assert np.abs(result.eps[inner, 2] - 0.5 * slope[inner]).max() < 4e-4
    rotation = 0.5 * slope[inner]
    assert np.abs((result.rotation_rad[inner] - result.rotation_rad[inner].mean()) - (rotation - rotation.mean())).max() < 4e-4


def test_a_shift_of_the_sublattices_is_no_strain():
    bonds = np.linalg.norm(XY[:, None] - XY[None], axis=-1) < 1.6
    colour = np.full(len(XY), -1)
    colour[0], todo = 0, [0]
    while todo:
        atom = todo.pop()
        for other in np.flatnonzero(bonds[atom]):
            if colour[other] < 0:
                colour[other] = 1 - colour[atom]
                todo.append(other)
    moved = XY + np.where(colour[:, None] == 1, [0.04, -0.03], 0.0)
    result = frame_strain(frame_atoms(sheet(moved)))
    assert np.nanmax(np.abs(result.eps)) < 1e-9


def test_bending_adds_half_the_square_of_the_slope():
    z = 0.10 * XY[:, 0] - 0.05 * XY[:, 1]
    result = frame_strain(frame_atoms(sheet(XY, z), (1e-6, 1e-6, 1e-6)))
    inner = np.isfinite(result.green[:, 0])
    np.testing.assert_allclose(result.green[inner], [[0.005, 0.00125, -0.0025]] * inner.sum(), atol=1e-8)
    np.testing.assert_allclose(result.eps[inner], 0.0, atol=1e-8)


def test_sigma_and_bias_agree_with_scatter():
    rng = np.random.default_rng(8)
    mean, sigma = sheet(XY, 0.1 * XY[:, 0]), (0.03, 0.05, 0.25)
    found = frame_strain(frame_atoms(mean, sigma))
    samples = [frame_strain(frame_atoms(mean + rng.normal(size=mean.shape) * sigma, (0.0, 0.0, 0.0))) for _ in range(200)]
    centre = np.argmin(np.linalg.norm(XY - 13, axis=1))
    eps, green = (np.array([getattr(s, name)[centre] for s in samples]) for name in ("eps", "green"))
    np.testing.assert_allclose(np.nanstd(eps, axis=0), found.sigma_eps[centre], rtol=0.2)
    claimed = found.sigma_green[centre]
    np.testing.assert_allclose(np.nanstd(green, axis=0), claimed, rtol=0.25)
    assert (np.abs(np.nanmean(green, axis=0) - found.green[centre]) < 4 * claimed / np.sqrt(200)).all()


def test_without_heights_the_plane_is_still_there():
    table = strain_table(atoms_table(1, flat=True))
    assert table["eps_xx"].is_finite().sum() > 100
    assert table["green_xx"].is_finite().sum() == 0
    assert table["eps_xx"].filter(table["eps_xx"].is_finite()).mean() == pytest.approx(0.0, abs=0.005)


def test_too_few_atoms_give_nan():
    assert np.isnan(frame_strain(frame_atoms(np.array([[0.0, 0, 0], [1.42, 0, 0]]))).eps).all()


def test_a_sheet_rolled_without_stretch_has_green_strain_zero_though_its_projection_shrinks():
    radius, x = 60.0, XY[:, 0] - 13
    rolled = np.column_stack([radius * np.sin(x / radius), XY[:, 1], radius * (1 - np.cos(x / radius))])
    result = frame_strain(frame_atoms(rolled, (1e-6, 1e-6, 1e-6)))
    inner = np.isfinite(result.green[:, 0])
    np.testing.assert_allclose(result.eps[inner, 0], np.cos(x[inner] / radius) - 1, atol=5e-4)
    # What is left is the curvature inside the two shells: chords are shorter than arcs by (r / R)^2 / 24.
    assert np.abs(result.green[inner]).max() < (2.46 / radius) ** 2 / 6


def test_a_standing_wave_pinned_in_the_plane_is_strained_by_half_the_square_of_its_slope():
    amplitude, q = 0.5, 2 * np.pi / 40
    phase = q * (XY @ [0.8, 0.6])
    result = frame_strain(frame_atoms(sheet(XY, amplitude * np.sin(phase)), (1e-6, 1e-6, 1e-6)))
    inner = np.isfinite(result.green[:, 0])
    direction = np.array([0.64, 0.36, 0.48])
    expected = 0.5 * (amplitude * q * np.cos(phase))[:, None] ** 2 * direction
    np.testing.assert_allclose(result.green[inner], expected[inner], atol=0.06 * expected.max())
    np.testing.assert_allclose(result.eps[inner], 0.0, atol=1e-9)
