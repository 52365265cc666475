"""Frames on coarser pixels, and detection on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scant.imaging import binning
from scant.imaging.binning import band_limited, on_coarser_pixels, on_fine_grid, on_finer_pixels
from scant.imaging.reciprocal import find_lattice
from scant.physics.detector import counts_with_noise
from scant.physics.optics import Optics
from scant.physics.simulate import Specimen, View, relative_image, true_frames
from scant.rng import stream
from scant.stages.localising import LocaliseSettings, localise_columns
from scipy.spatial import cKDTree

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2)


@pytest.mark.parametrize(("shape", "factor"), [((70, 93), 2), ((81, 60), 3), ((50, 50), 1)])
def test_waves_pass_unchanged_and_noise_stays_white(shape, factor):
    """A wave of 0.8 of the coarse limit against the wave itself on the coarse pixels' places; a few masked pixels change it little."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = lambda y, x: np.cos(np.pi * 0.8 / factor * (0.6 * (y + 0.3) + 0.8 * x))  # noqa: E731
    mask = rng.random(shape) > 0.01
    coarse, count = band_limited(np.where(mask, wave(y, x), 1e3), mask, factor)
    assert coarse.shape == tuple(-(-side // factor) for side in shape)
    assert count.sum() == mask.sum() and count.max() == factor**2
    rows, columns = (on_finer_pixels(np.arange(n, dtype=float), factor) for n in coarse.shape)
    inner = np.s_[4:-4, 4:-4]
    assert np.median(np.abs(coarse - wave(*np.meshgrid(rows, columns, indexing="ij")))[inner]) < 0.03
    noise, _ = band_limited(rng.normal(size=(300, 300)), np.ones((300, 300), dtype=bool), factor)
    assert noise.std() == pytest.approx(1 / factor, rel=0.02)
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02


def test_the_fine_grid_gets_its_own_image_back():
    coarse = np.random.default_rng(2).normal(size=(12, 9))
    again, _ = band_limited(on_fine_grid(coarse, 3), np.ones((36, 27), dtype=bool), 3)
    np.testing.assert_allclose(again, coarse, atol=1e-12)


def test_positions_go_to_coarser_pixels_and_back():
    positions = np.array([[0.0, 0.0], [1.0, 3.0], [10.5, 2.25]])
    np.testing.assert_allclose(on_coarser_pixels(np.array([[0.5, 2.5]]), 2), [[0.0, 1.0]])
    np.testing.assert_allclose(on_finer_pixels(on_coarser_pixels(positions, 3), 3), positions)


@pytest.mark.parametrize("pixel_size_angstrom", [0.2, 0.13])
def test_coarse_pixels_find_what_fine_ones_find(pixel_size_angstrom, monkeypatch):
    """Vacancies, a turned bond and every atom, with optics 8 A off; a mask on top."""
    view = View(int(40 / pixel_size_angstrom), pixel_size_angstrom, 0.0)
    truth = true_frames(view, 5, Specimen(n_vacancies=2, n_stone_wales=1), seed=2)
    mean_e = 8000 * pixel_size_angstrom**2
    images = [relative_image(frame, OPTICS, view) for frame in truth]
    frames = np.stack([counts_with_noise(im, mean_e, 0.5, 1.0, stream(2, "bins", n)) for n, im in enumerate(images)]).astype(np.float32)
    bad = np.random.default_rng(0).random(frames[0].shape) < 0.003
    frames[:, bad] = mean_e
    lattice = find_lattice(frames, lattice_constant_angstrom=2.46, pixel_size_angstrom=pixel_size_angstrom)
    settings = LocaliseSettings(lattice, bad, 0.5, 1.0, 3.0, replace(OPTICS, defocus_angstrom=-37.0))
    found = {}
    for size in (0.42, 0.01):
        monkeypatch.setattr(binning, "COARSEST_PIXEL_ANGSTROM", size)
        columns = localise_columns(frames[2], frames.mean(axis=0), 5, settings)
        found[size] = np.column_stack([columns["x_px"], columns["y_px"]]) * pixel_size_angstrom, columns["in_view"]
    (coarse, coarse_in_view), (fine, fine_in_view) = found.values()
    # atoms just outside among the others: one on the border may lie in view for one of them alone
    assert len(coarse) == len(fine)
    for one, other in ((coarse[coarse_in_view], fine), (fine[fine_in_view], coarse)):
        distance, _ = cKDTree(other).query(one)
        assert np.median(distance) < 0.005 and distance.max() < 0.2
    true = truth[2].positions[:, :2]
    inside = ((true > 2) & (true < view.size_angstrom - 2)).all(axis=1)
    assert cKDTree(coarse[coarse_in_view]).query(true[inside])[0].max() < 0.5
