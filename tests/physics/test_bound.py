"""The Cramer-Rao bounds: Fisher information against differences of images, the Hessian against finite differences, limits of the bound."""

from __future__ import annotations

import numpy as np
import pytest
from scant.inference.bound import SheetInView, hessian, image_bound, position_bound, sheet_in_view
from scant.inference.information import image_information
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import honeycomb
from scant.physics.optics import Optics

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2, astigmatism_x_angstrom=5.0, envelope_b_angstrom2=1.0)


@pytest.fixture(scope="module")
def sheet() -> SheetInView:
    return sheet_in_view(14.0, 0.2, 2.46, 300.0)


def test_information_equals_the_products_of_image_derivatives():
    xy = honeycomb(12.0, 12.0, rotation_rad=0.2)
    grid = ImageGrid.padded(60, 60, 0.2, 8.0)
    model = ForwardModel(OPTICS, grid, np.full(len(xy), "C"), dtype=np.float64)
    counts = np.full((60, 60), 300.0)
    information = image_information(model, xy, counts, 1 / counts, axes="xyz").toarray()
    flat = np.column_stack([xy, np.zeros(len(xy))])
    middle = np.argsort(np.linalg.norm(xy - 6.0, axis=1))[:3]
    slopes = []
    for atom in middle:
        for axis in range(3):
            push = np.zeros_like(flat)
            push[atom, axis] = 0.02
            slopes.append(((model.linear_image((flat + push)[None])[0] - model.linear_image((flat - push)[None])[0]) / 0.04).ravel())
    expected = 300.0 * np.array(slopes) @ np.array(slopes).T
    rows = (3 * middle[:, None] + np.arange(3)).ravel()
    np.testing.assert_allclose(information[np.ix_(rows, rows)], expected, atol=0.05 * np.abs(expected).max())
    z = 3 * middle + 2
    np.testing.assert_allclose(information[np.ix_(z, z)], expected[2::3, 2::3], atol=0.1 * expected[2::3, 2::3].max())


def test_hessian_by_colours_equals_one_atom_at_a_time(sheet):
    class Springs:
        """Every pair within 3 A is held by a spring: the Hessian is known."""

        def energy_and_gradient(self, positions):
            difference = positions[0][:, None] - positions[0][None]
            near = (np.linalg.norm(sheet.sites[:, None] - sheet.sites[None], axis=-1) < 3.0)[..., None]
            return None, (difference * near).sum(axis=1)[None]

    flat = np.column_stack([sheet.sites, np.zeros(len(sheet.sites))])
    matrix = hessian(Springs(), flat)
    near = np.linalg.norm(sheet.sites[:, None] - sheet.sites[None], axis=-1) < 3.0
    expected = np.kron(np.diag(near.sum(axis=1)) - near.astype(float), np.eye(3))
    np.testing.assert_allclose(matrix, expected, atol=1e-6)


def test_the_bound_falls_with_dose_and_the_prior_is_what_holds_heights(sheet):
    low, high = (position_bound(sheet, OPTICS, dose) for dose in (300.0, 30_000.0))
    assert np.all(high < low)
    alone = image_bound(sheet, OPTICS, 8000.0)
    assert 1.0 < alone[2] < 9.0  # DESIGN 3: 4 to 8 A for an atom alone
    assert alone[0] == pytest.approx(image_bound(sheet, OPTICS, 2000.0)[0] / 2, rel=0.02)
    assert position_bound(sheet, OPTICS, 8000.0)[2] < 0.3
