"""Joint fit: error against stated sigma, unbiased at the edge, own frame decides positions, hexagons, topology beyond the view."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from honeycomb_images import draw, honeycomb, in_view, noisy
from scant.errors import InputError
from scant.imaging import fit as fitting
from scant.imaging.local_inverse import _alike, crystal_inverse, local_inverse
from scant.imaging.localise import Localised, hexagon_centres, localise_frame
from scant.imaging.model_atoms import model_atoms
from scant.imaging.normal_equations import Pattern, neighbour_pairs
from scant.imaging.reciprocal import Lattice2D, find_lattice
from scipy.spatial import cKDTree

SHAPE, PIXEL, DOSE = (150, 130), 0.2, 8000


def thermal(seed: int, sd_angstrom: float = 0.05, **kw) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Atoms in their own harmonic wells: less correlated than a crystal's, so a hard case for springs."""
    atoms = honeycomb(SHAPE, PIXEL, **kw)
    return atoms + np.random.default_rng(seed).normal(0, sd_angstrom / PIXEL, atoms.shape)


def localised(atoms: np.ndarray, seed: int, dose: float = DOSE) -> tuple[Localised, Lattice2D, np.ndarray]:
    image = noisy(draw(atoms, SHAPE, PIXEL), dose, PIXEL, seed)
    lattice = find_lattice(image)
    return localise_frame(image, dose * PIXEL**2, None, lattice), lattice, image


def errors(result: Localised, atoms: np.ndarray, margin_angstrom: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    inner = atoms[in_view(atoms, SHAPE, margin_angstrom / PIXEL)]
    partner = cKDTree(result.positions_px).query(inner)[1]
    sigma = np.stack([result.sigma_x_px, result.sigma_y_px], axis=1)[partner]
    return (result.positions_px[partner] - inner) * PIXEL, sigma * PIXEL


def test_errors_are_small_unbiased_and_as_stated() -> None:
    parts = [errors(localised(thermal(k, 0.03), k)[0], thermal(k, 0.03)) for k in range(3)]
    error, sigma = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    assert error.std() < 0.05
    assert np.abs(error.mean(axis=0)).max() < 4 * error.std() / np.sqrt(len(error))
    assert 0.8 < (error / sigma).std() < 1.25


def test_without_springs_the_error_is_the_cramer_rao_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Springs off, template known: scatter over noise draws = stated sigma of the simultaneous fit, edges included."""
    for name in ("SPRING_ALONG_PER_ANGSTROM2", "SPRING_ACROSS_PER_ANGSTROM2", "RIDGE_PER_ANGSTROM2"):
        monkeypatch.setattr(fitting, name, 1e-6)
    shape = (64, 70)
    atoms = honeycomb(shape, PIXEL, margin=2.0)
    near = np.random.default_rng(1).normal(0, 0.3, atoms.shape)
    springs = fitting.Springs(np.zeros((0, 2), dtype=np.int64), np.zeros((0, 2)), np.zeros(0, dtype=bool), 7.1)
    found = []
    for k in range(40):
        image = noisy(draw(atoms, shape, PIXEL, contrast=0.4), 30000, PIXEL, k)
        observation = fitting.observe(image, 30000 * PIXEL**2, None, 7.1)
        fit = fitting.refine(observation, atoms + near, np.ones(len(atoms)), springs, iterations=6)
        found.append(fit.positions_px)
    sigma = np.sqrt(np.diag(np.linalg.inv(fit.normal.toarray()))).reshape(-1, 2)
    inner = in_view(atoms, shape, 4)
    ratio = np.std(found, axis=0)[inner] / sigma[inner]
    assert np.sqrt((ratio**2).mean()) == pytest.approx(1.0, abs=0.08)


def test_local_inverse_agrees_with_the_full_inverse() -> None:
    result, _, image = localised(thermal(5), 5)
    observation = fitting.observe(image, DOSE * PIXEL**2, None, 7.1)
    order = np.arange(len(result.x_px))
    positions = result.positions_px[order]
    vectors = positions[result.bonds[:, 1]] - positions[result.bonds[:, 0]]
    springs = fitting.Springs(result.bonds, vectors, np.zeros(len(vectors), dtype=bool), 7.1)
    fit = fitting.refine(observation, positions, np.ones(len(positions)), springs, iterations=1)
    full = np.linalg.inv(fit.normal.toarray())
    local = crystal_inverse(fit.normal, positions, fitting.BLOCK_REACH * 7.1, 2)
    exact = np.sqrt(np.diag(full)).reshape(-1, 2)
    view = result.in_view
    ratio = np.sqrt(np.stack([local[:, 0, 0], local[:, 1, 1]], axis=1))[view] / exact[view]
    assert ratio.min() > 0.85
    assert ratio.max() < 1.02
    alike = _alike(fit.normal, 2)
    assert alike.sum() > 100
    np.testing.assert_allclose(np.sqrt(local[alike, 0, 0]) / exact[alike, 0], 1, atol=0.02)
    assert np.sqrt(local[alike, 0, 0] / full.diagonal()[::2][alike]).mean() == pytest.approx(1, abs=0.003)
    one_by_one = local_inverse(fit.normal, positions, fitting.BLOCK_REACH * 7.1, 2)
    np.testing.assert_allclose(np.sqrt(one_by_one[alike, 0, 0]) / exact[alike, 0], 1, atol=0.06)


def test_pattern_puts_blocks_where_a_dense_sum_does() -> None:
    """A bond beyond the reach of the pairs included."""
    rng = np.random.default_rng(4)
    positions = rng.uniform(0, 30, (25, 2))
    bonds = np.array([[0, 5], [7, 2], [3, 24]])
    pattern = Pattern.of(25, neighbour_pairs(positions, 9.0), bonds)
    coupling, stiffness = rng.normal(size=(len(pattern.pairs), 2, 2)), rng.normal(size=(3, 2, 2))
    coupling, stiffness = (a + a.swapaxes(1, 2) for a in (coupling, stiffness))
    dense = 0.5 * np.eye(50)
    for (i, j), block in zip(pattern.pairs, coupling):
        dense[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += block
        if i != j:
            dense[2 * j : 2 * j + 2, 2 * i : 2 * i + 2] += block.T
    for (a, b), block in zip(bonds, stiffness):
        for i, j, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
            dense[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += sign * block
    matrix = pattern.matrix(coupling, stiffness, 0.5)
    assert matrix.has_sorted_indices
    np.testing.assert_allclose(matrix.toarray(), dense)


def test_spring_force_is_the_gradient_of_its_energy() -> None:
    rng = np.random.default_rng(7)
    positions = rng.normal(0, 10, (6, 2))
    bonds = np.array([[0, 1], [1, 2], [3, 2], [4, 5]])
    springs = fitting.Springs(bonds, rng.normal(0, 7, (4, 2)), np.array([False, False, False, False]), 7.1)
    force, _, _ = fitting.spring_force(positions, springs)
    for n in range(6):
        for axis in (0, 1):
            step = np.zeros_like(positions)
            step[n, axis] = 1e-4
            slope = (fitting.spring_force(positions + step, springs)[2] - fitting.spring_force(positions - step, springs)[2]) / 2e-4
            assert force[n, axis] == pytest.approx(-slope, rel=1e-5, abs=1e-6)


def test_detection_image_gives_the_atoms_and_the_frame_their_positions() -> None:
    """At 300 e/A^2 a frame shows little; its atoms are those of the average, but its positions follow its own shift."""
    base = honeycomb(SHAPE, PIXEL, rotation=0.2)
    frames = [noisy(draw(base, SHAPE, PIXEL), 300, PIXEL, k) for k in range(24)]
    average = np.mean(frames, axis=0).astype(np.float32)
    moved = base + np.array([0.8, -0.6])
    frame = noisy(draw(moved, SHAPE, PIXEL), 300, PIXEL, 99)
    lattice = find_lattice(average)
    result = localise_frame(frame, 300 * PIXEL**2, None, lattice, detection_image=average)
    error, _ = errors(result, moved)
    assert np.abs(error.mean(axis=0)).max() < 0.03
    assert np.sqrt((error**2).mean()) < 0.12
    assert result.in_view.sum() == pytest.approx(in_view(base, SHAPE).sum(), abs=14)


def test_result_is_complete_and_ordered() -> None:
    result, _, _ = localised(thermal(8), 8)
    n = len(result.x_px)
    assert all(
        len(getattr(result, name)) == n
        for name in ("y_px", "sigma_x_px", "amplitude_e", "background_e", "p_atom", "flag", "pcd", "sigma_pcd")
    )
    assert (np.diff(result.in_view.astype(int)) <= 0).all(), "atoms in view come first"
    view = result.in_view
    assert result.background_e[view] == pytest.approx(DOSE * PIXEL**2, rel=0.1)
    assert result.amplitude_e[view].mean() == pytest.approx(0.25 * (1 - 0.5 * (0.42 / 0.8) ** 2) * DOSE * PIXEL**2, rel=0.25)
    assert result.pcd[view].mean() == pytest.approx(1, abs=0.05)
    assert result.chi2 == pytest.approx(1, abs=0.15)
    assert (result.sigma_x_px[view] > 0).all()
    lengths = np.linalg.norm(result.positions_px[result.bonds[:, 0]] - result.positions_px[result.bonds[:, 1]], axis=1) * PIXEL
    assert lengths.min() > 1.1
    assert lengths.max() < 1.8


def test_pcd_tells_strong_from_weak_atoms() -> None:
    atoms = honeycomb(SHAPE, PIXEL)
    right = atoms[:, 0] > 65
    image = 1 + 1.15 * (draw(atoms[right], SHAPE, PIXEL) - 1) + 0.85 * (draw(atoms[~right], SHAPE, PIXEL) - 1)
    frame = noisy(image, DOSE, PIXEL, 9)
    result = localise_frame(frame, DOSE * PIXEL**2, None, find_lattice(frame))
    inner = in_view(result.positions_px, SHAPE, 10)
    strong, weak = result.pcd[inner & (result.x_px > 75)], result.pcd[inner & (result.x_px < 55)]
    assert strong.mean() - weak.mean() == pytest.approx(0.3, abs=0.1)
    assert result.sigma_pcd[inner].mean() == pytest.approx(strong.std(), rel=0.5)


def test_hexagons_have_six_corners_a_bond_away() -> None:
    result, lattice, image = localised(thermal(10, 0.02), 10)
    hexagons = hexagon_centres(image, lattice, result)
    assert (hexagons.corners >= 0).all(axis=1).mean() > 0.95
    complete = (hexagons.corners >= 0).all(axis=1)
    corners = result.positions_px[hexagons.corners[complete]]
    distance = np.linalg.norm(corners - hexagons.centres_px[complete][:, None], axis=2) * PIXEL
    assert distance == pytest.approx(1.42, abs=0.3)
    turn = np.unwrap(np.arctan2(*(corners - hexagons.centres_px[complete][:, None]).transpose(2, 0, 1)[::-1]), axis=1)
    assert np.abs(np.abs(turn[:, -1] - turn[:, 0]) - 5 * np.pi / 3).max() < 0.4, "corners go round once"
    assert not hexagons.contaminated.any()


def test_model_atoms_reach_beyond_the_view_with_all_their_bonds() -> None:
    atoms = thermal(11, 0.03, rotation=0.3)
    result, _, _ = localised(atoms, 11)
    model = model_atoms(result, SHAPE, 3.0 / PIXEL)
    positions, inside = result.positions_px[model.keep], result.in_view[model.keep]
    assert cKDTree(atoms).query(positions[~inside])[0].max() * PIXEL < 0.35
    expected = atoms[in_view(atoms, SHAPE, -2.0 / PIXEL)]
    assert cKDTree(positions).query(expected)[0].max() * PIXEL < 0.35
    held = (model.neighbours >= 0).sum(axis=1)
    assert (held[inside] == 3).all(), "every atom in view has its three neighbours"
    assert (model.coordination == 3).all(), "the crystal goes on beyond the model"
    for atom, row in enumerate(model.neighbours):
        for other in row[row >= 0]:
            assert atom in model.neighbours[other], "bonds are seen from both ends"
            assert np.hypot(*(positions[atom] - positions[other])) * PIXEL < 1.85


def test_next_to_a_vacancy_an_atom_has_two_bonds() -> None:
    atoms = thermal(12, 0.03)
    result, _, _ = localised(atoms, 12)
    gone = int(np.hypot(*(result.positions_px - np.array(SHAPE[::-1]) / 2).T).argmin())
    stay = np.arange(len(result.x_px)) != gone
    number = np.cumsum(stay) - 1
    bonds = number[result.bonds[stay[result.bonds].all(axis=1)]]
    columns = {f.name: getattr(result, f.name) for f in fields(result)}
    columns = {name: value[stay] if np.shape(value)[:1] == stay.shape else value for name, value in columns.items()}
    model = model_atoms(Localised(**(columns | {"bonds": bonds})), SHAPE, 3.0 / PIXEL)
    assert (model.coordination == 2).sum() == 3


def test_bad_frames_are_refused() -> None:
    _, lattice, image = localised(thermal(14), 14)
    with pytest.raises(InputError, match="mask has shape"):
        localise_frame(image, 300.0, np.ones((3, 3), dtype=bool), lattice)
    with pytest.raises(InputError, match="finite"):
        localise_frame(np.where(image > image.mean(), np.nan, image), 300.0, None, lattice)
