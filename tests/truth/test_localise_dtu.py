"""The real frame graphene-dtu: pixel size by its own lattice and the published hexagon centres, contamination flagged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scant.imaging.localise import Hexagons, Localised, hexagon_centres, localise_frame
from scant.imaging.reciprocal import Lattice2D, find_lattice
from scipy.spatial import cKDTree

PIXEL = 0.118


@pytest.fixture(scope="module")
def measured(shared_data: Path) -> tuple[np.ndarray, Lattice2D, Localised, Hexagons, np.ndarray]:
    folder = shared_data / "graphene-dtu"
    image = tifffile.imread(folder / "frame.tif").astype(np.float32)
    lattice = find_lattice(image)
    found = localise_frame(image, None, None, lattice)
    published = np.loadtxt(folder / "hexagon_centres_xy_px.csv", delimiter=",", skiprows=1)
    return image, lattice, found, hexagon_centres(image, lattice, found), published


def test_pixel_size_without_a_hint(measured: tuple) -> None:
    assert measured[1].pixel_size_angstrom == pytest.approx(0.118, abs=0.001)


def test_published_hexagon_centres(measured: tuple) -> None:
    _, _, _, hexagons, published = measured
    distance = cKDTree(hexagons.centres_px[~hexagons.contaminated]).query(published)[0] * PIXEL
    assert (distance < 0.35).mean() >= 0.95
    assert np.median(distance) < 0.13


def test_contamination_is_where_it_is_seen(measured: tuple) -> None:
    """The upper right corner is dirt, the lower left half is clean."""
    _, _, _, hexagons, _ = measured
    x, y = hexagons.centres_px.T
    assert hexagons.contaminated[(x > 430) & (y < 60)].mean() > 0.9
    assert hexagons.contaminated[(x < 350) & (y > 200)].mean() < 0.02


def test_rings_carry_six_atoms_at_a_bond_length(measured: tuple) -> None:
    _, lattice, found, hexagons, _ = measured
    clean = ~hexagons.contaminated & (hexagons.corners >= 0).all(axis=1)
    assert clean.sum() > 500
    corners = found.positions_px[hexagons.corners[clean]]
    distance = np.linalg.norm(corners - hexagons.centres_px[clean][:, None], axis=2) * lattice.pixel_size_angstrom
    assert distance.mean() == pytest.approx(1.42, abs=0.03)
    assert distance.std() < 0.12
