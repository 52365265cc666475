"""Lattice from the power spectrum: pixel size, rotation, strain, contrast, hollow; contamination, strong second order, no lattice."""

from __future__ import annotations

import numpy as np
import pytest
from honeycomb_images import draw, honeycomb, noisy
from scant.errors import CalibrationError, InputError
from scant.imaging.phase_fields import local_reflections
from scant.imaging.reciprocal import THERMAL_CONTRACTION, find_lattice

SHAPE = (180, 230)


@pytest.mark.parametrize(("pixel", "rotation", "contrast"), [(0.1, 0.05, 0.2), (0.16, 0.31, -0.2), (0.25, -0.4, 0.2), (0.2, 0.52, -0.15)])
def test_vectors_rotation_contrast_and_hollow_without_a_hint(pixel: float, rotation: float, contrast: float) -> None:
    atoms = honeycomb(SHAPE, pixel, rotation=rotation)
    lattice = find_lattice(noisy(draw(atoms, SHAPE, pixel, contrast=contrast), 8000, pixel, 1))
    # a drawn lattice is flat and cold: no thermal contraction to correct for
    assert lattice.pixel_size_angstrom / (1 - THERMAL_CONTRACTION) == pytest.approx(pixel, rel=4e-3)
    assert lattice.contrast_sign == np.sign(contrast)
    assert lattice.contrast_confidence > 0.99
    turn = (lattice.rotation_rad - rotation) % (np.pi / 3)
    assert min(turn, np.pi / 3 - turn) < 2e-3
    nearest = np.sort(np.hypot(*(atoms - lattice.origin_px).T))[:6]
    assert nearest == pytest.approx(2.46 / np.sqrt(3) / pixel, abs=0.12 / pixel)


def test_basis_spans_sixty_degrees_and_reciprocal_is_dual() -> None:
    lattice = find_lattice(draw(honeycomb(SHAPE, 0.2, rotation=0.2), SHAPE, 0.2))
    cosine = lattice.a1_px @ lattice.a2_px / np.linalg.norm(lattice.a1_px) / np.linalg.norm(lattice.a2_px)
    assert cosine == pytest.approx(0.5, abs=0.01)
    assert lattice.vectors_px @ lattice.reciprocal_per_px.T == pytest.approx(np.eye(2), abs=1e-12)
    assert lattice.bond_px == pytest.approx(1.42 / 0.2, rel=3e-3)


def test_second_order_stronger_than_first() -> None:
    atoms = honeycomb((256, 256), 0.2, rotation=0.1)
    y, x = np.arange(256), np.arange(256)
    image = np.ones((256, 256))
    for width, weight in ((1.1, 0.5), (2.2, -0.1)):
        image += (
            weight * np.exp(-0.5 * ((y[:, None] - atoms[:, 1]) / width) ** 2) @ np.exp(-0.5 * ((x[:, None] - atoms[:, 0]) / width) ** 2).T
        )
    power = np.abs(np.fft.fft2((image - image.mean()) * np.outer(np.hanning(256), np.hanning(256)))) ** 2
    k = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    first = power[(k > 0.085) & (k < 0.105)].max()
    assert power[(k > 0.15) & (k < 0.18)].max() > first, "the test image must have the feature it tests"
    assert find_lattice(noisy(image, 8000, 0.2, 3)).pixel_size_angstrom == pytest.approx(0.2, rel=6e-3)


def test_strong_low_frequency_contamination() -> None:
    y, x = np.mgrid[:256, :256]
    blobs = 1.5 * np.exp(-((x - 200) ** 2 + (y - 40) ** 2) / 900) + 0.5 * np.sin(x / 17.0) * np.sin(y / 23.0)
    image = draw(honeycomb((256, 256), 0.2), (256, 256), 0.2) + blobs
    assert find_lattice(noisy(image, 8000, 0.2, 4)).pixel_size_angstrom == pytest.approx(0.2, rel=6e-3)


def test_many_weak_frames_with_drift_succeed_where_one_fails() -> None:
    frames = []
    for k in range(40):
        atoms = honeycomb((128, 128), 0.2, shift=(0.4 * k, -0.3 * k))
        frames.append(noisy(draw(atoms, (128, 128), 0.2, contrast=0.1), 60, 0.2, k))
    lattice = find_lattice(np.array(frames))
    assert lattice.pixel_size_angstrom == pytest.approx(0.2, rel=0.04)
    with pytest.raises(CalibrationError, match="no lattice"):
        find_lattice(frames[0])


def test_a_lattice_found_in_noise_is_called_chance() -> None:
    """With no pixel size to look near, six spots above a threshold that finds faint lattices can be found in noise: each says so."""
    chance = []
    for seed in range(8):
        frames = np.random.default_rng(seed).poisson(320, (16, 256, 256))
        with pytest.raises(CalibrationError, match="no lattice"):
            find_lattice(frames, pixel_size_angstrom=0.2)
        try:
            chance.append(find_lattice(frames).is_weak)
        except CalibrationError:
            continue
    assert chance and all(chance)
    assert not find_lattice(noisy(draw(honeycomb(SHAPE, 0.2), SHAPE, 0.2), 2000, 0.2, 1)).is_weak


def test_tilted_sheet_gives_the_true_pixel_size_not_the_projected_one() -> None:
    atoms = honeycomb((256, 256), 0.2, margin=20)
    centre = 127.5
    atoms[:, 0] = centre + (atoms[:, 0] - centre) * np.cos(np.radians(12))
    lattice = find_lattice(noisy(draw(atoms, (256, 256), 0.2), 8000, 0.2, 5))
    assert lattice.anisotropy > 0.01
    projected = 2.46 / (lattice.bond_px * np.sqrt(3))
    found = lattice.pixel_size_angstrom / (1 - THERMAL_CONTRACTION)
    assert abs(found / 0.2 - 1) < 0.4 * abs(projected / 0.2 - 1)
    assert abs(lattice.pixel_size_angstrom - 0.2) < 3 * lattice.pixel_size_sigma_angstrom


def test_noise_square_lattice_and_bad_input_are_refused() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(CalibrationError, match="no lattice"):
        find_lattice(rng.poisson(300, (200, 200)).astype(float))
    y, x = np.mgrid[:200, :200]
    square = 300 + 60 * (np.cos(2 * np.pi * x / 11) + np.cos(2 * np.pi * y / 11)) + rng.normal(0, 10, (200, 200))
    with pytest.raises(CalibrationError):
        find_lattice(square)
    with pytest.raises(CalibrationError, match="constant"):
        find_lattice(np.ones((64, 64)))
    with pytest.raises(InputError, match="NaN"):
        find_lattice(np.where(x == 3, np.nan, square))
    with pytest.raises(InputError, match="32 x 32"):
        find_lattice(np.ones((20, 64)))


def test_a_nominal_pixel_size_far_off_finds_nothing() -> None:
    image = noisy(draw(honeycomb(SHAPE, 0.2), SHAPE, 0.2), 8000, 0.2, 7)
    assert find_lattice(image, pixel_size_angstrom=0.21).pixel_size_angstrom == pytest.approx(0.2, rel=6e-3)
    with pytest.raises(CalibrationError, match="nominal"):
        find_lattice(image, pixel_size_angstrom=0.31)


def test_phase_field_against_a_naive_sum() -> None:
    image = np.random.default_rng(8).normal(size=(40, 52))
    b = np.array([[0.08, 0.01], [-0.03, 0.09]])
    fields = local_reflections(image, b, 4.0)
    node = (18, 20)
    at = fields.offset_px + fields.step_px * np.array(node[::-1])
    y, x = np.mgrid[:40, :52]
    weight = np.exp(-0.5 * ((x - at[0]) ** 2 + (y - at[1]) ** 2) / 16)
    local_mean = np.array(
        [
            [(image * w).sum() / w.sum() for w in [np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / 16)]]
            for py, px in zip(y.ravel(), x.ravel())
        ]
    )
    flat = image - local_mean.reshape(image.shape)
    naive = (weight * flat * np.exp(-2j * np.pi * (b[0, 0] * x + b[0, 1] * y))).sum() / weight.sum()
    assert abs(fields.values[0][node] - naive) < 2e-3
