"""Sites from the lattice phase, vacancies, turned bonds, contamination: no atom missed, none invented."""

from __future__ import annotations

import numpy as np
import pytest
from honeycomb_images import draw, honeycomb, in_view, noisy
from scant.errors import CalibrationError
from scant.imaging.candidates import FLAG_CONTAMINATED, FLAG_DEFECT, FLAG_EDGE, FLAG_OUTSIDE, Detection
from scant.imaging.detect import detect_atoms
from scant.imaging.reciprocal import find_lattice
from scant.imaging.sites import hollow_grid, honeycomb_sites
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

SHAPE, PIXEL, DOSE = (140, 160), 0.2, 8000


def detect(atoms: np.ndarray, contrast: float = 0.25, dose: float = DOSE, simulate: bool = True, seed: int = 1, **kw) -> Detection:  # type: ignore[no-untyped-def]
    image = noisy(draw(atoms, SHAPE, PIXEL, contrast=contrast), dose, PIXEL, seed)
    simulator = (lambda p, shape: draw(p, shape, PIXEL, contrast=0.2 * np.sign(contrast))) if simulate else None
    return detect_atoms(image, find_lattice(image), variance_e2=dose * PIXEL**2, simulate=simulator, **kw)


def unmatched(found: np.ndarray, truth: np.ndarray, radius_angstrom: float = 0.4) -> tuple[int, int]:
    """Truth atoms without, and found atoms beyond, a partner."""
    missed = (cKDTree(found).query(truth)[0] * PIXEL > radius_angstrom).sum()
    extra = (cKDTree(truth).query(found)[0] * PIXEL > radius_angstrom).sum()
    return int(missed), int(extra)


@pytest.mark.parametrize("contrast", [0.25, -0.25])
@pytest.mark.parametrize("rotation", [0.0, 0.37])
def test_every_atom_right_up_to_the_edge_and_no_other(contrast: float, rotation: float) -> None:
    atoms = honeycomb(SHAPE, PIXEL, rotation=rotation)
    found = detect(atoms, contrast, simulate=False)
    inside = found.positions_px[found.in_view]
    # within half a pixel of the edge noise decides on which side an atom is found
    assert unmatched(inside, atoms[in_view(atoms, SHAPE, 0.5)])[0] == 0
    assert unmatched(inside, atoms)[1] == 0
    assert in_view(atoms, SHAPE, 0.5).sum() <= len(inside) <= in_view(atoms, SHAPE, -0.5).sum()
    assert len(found.vacancies_px) == 0
    assert len(found.turned_px) == 0
    assert (found.p_atom[found.in_view] > 0.9).mean() > 0.99


def test_atoms_beyond_the_view_are_modelled_and_flagged() -> None:
    atoms = honeycomb(SHAPE, PIXEL)
    found = detect(atoms, margin_angstrom=4.0)
    outside = found.positions_px[(found.flag & FLAG_OUTSIDE) > 0]
    assert unmatched(outside, atoms)[1] == 0
    near = atoms[in_view(atoms, SHAPE, -2.0 / PIXEL) & ~in_view(atoms, SHAPE, -0.5)]
    assert unmatched(found.positions_px, near)[0] == 0
    edge = found.positions_px[(found.flag & FLAG_EDGE) > 0]
    assert in_view(edge, SHAPE).all()
    assert not in_view(edge, SHAPE, 1.5 / PIXEL).any()


@pytest.mark.parametrize("contrast", [0.25, -0.25])
def test_single_and_double_vacancies_stay_empty(contrast: float) -> None:
    atoms = honeycomb(SHAPE, PIXEL, rotation=0.2)
    tree = cKDTree(atoms)
    single = tree.query([55.0, 50.0])[1]
    pair = tree.query([110.0, 90.0], k=2)[1]
    real = np.delete(atoms, [single, *pair], axis=0)
    found = detect(real, contrast)
    assert unmatched(found.positions_px[found.in_view], real[in_view(real, SHAPE, 0.5)])[0] == 0
    assert unmatched(found.positions_px[found.in_view], real)[1] == 0
    assert len(found.vacancies_px) == 3
    assert cKDTree(found.vacancies_px).query(atoms[[single, *pair]])[0].max() * PIXEL < 0.4
    around = [n for n in tree.query_ball_point(atoms[single], 1.8 / PIXEL) if n != single]
    flags = found.flag[cKDTree(found.positions_px).query(atoms[around])[1]]
    assert ((flags & FLAG_DEFECT) > 0).all()
    assert np.bincount(found.bonds.ravel()).max() <= 3


@pytest.mark.parametrize("simulate", [True, False])
def test_a_turned_bond_is_found_with_its_bonds(simulate: bool) -> None:
    atoms = honeycomb(SHAPE, PIXEL, rotation=0.1)
    tree = cKDTree(atoms)
    a, b = tree.query([80.0, 70.0], k=2)[1]
    middle, half = (atoms[a] + atoms[b]) / 2, (atoms[b] - atoms[a]) / 2
    atoms[[a, b]] = middle + 0.93 * np.array([[-half[1], half[0]], [half[1], -half[0]]])
    found = detect(atoms, simulate=simulate)
    assert len(found.turned_px) == 1
    assert np.hypot(*(found.turned_px[0] - middle)) * PIXEL < 0.3
    assert unmatched(found.positions_px[found.in_view], atoms[in_view(atoms, SHAPE, 0.5)])[0] == 0
    assert unmatched(found.positions_px[found.in_view], atoms)[1] == 0
    ends = cKDTree(found.positions_px).query(atoms[[a, b]])[1]
    for end in ends:
        partners = found.bonds[(found.bonds == end).any(axis=1)]
        length = np.linalg.norm(found.positions_px[partners[:, 0]] - found.positions_px[partners[:, 1]], axis=1) * PIXEL
        assert len(partners) == 3
        assert length.max() < 2.0
        assert length.min() > 1.1


def test_contamination_is_flagged_and_clean_lattice_is_not() -> None:
    atoms = honeycomb(SHAPE, PIXEL)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dirt = np.random.default_rng(3).normal(size=SHAPE)
    dirt = gaussian_filter(dirt, 2.5) * 2.5 * np.exp(-(((x - 135) / 25) ** 4 + ((y - 20) / 25) ** 4))
    image = noisy(draw(atoms, SHAPE, PIXEL) + dirt, DOSE, PIXEL, 4)
    found = detect_atoms(image, find_lattice(image))
    dirty = (found.flag & FLAG_CONTAMINATED) > 0
    distance = np.hypot(*(found.positions_px - [135, 20]).T)
    assert dirty[found.in_view & (distance < 15)].mean() > 0.9
    assert dirty[found.in_view & (distance > 60)].mean() < 0.02


def test_hollows_follow_a_smooth_distortion() -> None:
    """A ripple displaces sites by up to 0.5 A over 12 A; the phase, smoothed over 4.9 A, follows 80 % of it."""
    atoms = honeycomb((200, 200), PIXEL, margin=10)
    moved = atoms + 2.5 * np.stack([np.sin(atoms[:, 1] / 40.0), np.cos(atoms[:, 0] / 45.0)], axis=1)
    image = draw(moved, (200, 200), PIXEL)
    sites = honeycomb_sites(hollow_grid(image, find_lattice(image), margin_px=5.0))
    inner = moved[in_view(moved, (200, 200), 12)]
    distance, partner = cKDTree(sites.positions_px).query(inner)
    assert len(set(partner)) == len(inner)
    assert np.sqrt((distance**2).mean()) * PIXEL < 0.1
    assert np.bincount(sites.bonds.ravel()).max() == 3


def test_masked_pixels_do_not_move_or_remove_atoms() -> None:
    atoms = honeycomb(SHAPE, PIXEL)
    image = noisy(draw(atoms, SHAPE, PIXEL), DOSE, PIXEL, 5)
    mask = np.random.default_rng(6).random(SHAPE) > 0.02
    broken = np.where(mask, image, image.mean()).astype(np.float32)
    lattice = find_lattice(broken)
    found = detect_atoms(broken, lattice, variance_e2=DOSE * PIXEL**2, mask=mask)
    inner = atoms[in_view(atoms, SHAPE, 3)]
    distance = cKDTree(found.positions_px).query(inner)[0] * PIXEL
    assert np.sqrt((distance**2).mean()) < 0.06


def test_too_small_a_view_is_refused() -> None:
    image = draw(honeycomb((36, 36), 0.1), (36, 36), 0.1)
    lattice = find_lattice(draw(honeycomb(SHAPE, 0.1), SHAPE, 0.1))
    with pytest.raises(CalibrationError, match="at least 20"):
        detect_atoms(image[:12, :12], lattice, margin_angstrom=0.0)
