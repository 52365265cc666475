"""Gaussian atoms by Poisson likelihood: positions at the Cramer-Rao bound, overlapping atoms without bias, probabilities that are right."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import tifffile
from scant.__main__ import main
from scant.errors import InputError
from scant.imaging.spot_search import find_spots, typical_width
from scant.imaging.spots import Counts, fit_spots
from scipy.spatial import cKDTree

WIDTH = 1.5


def clean_image(positions: np.ndarray, heights: np.ndarray, background: float | np.ndarray, side: int, width: float = WIDTH) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), 0.0) + background
    for (px, py), height in zip(positions, heights, strict=True):
        image += height * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * width**2))
    return image


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(image).astype(float)


def scattered(pitch: float, side: int, seed: int, margin: float = 8.0) -> np.ndarray:
    at = np.arange(margin, side - margin, pitch)
    return np.array([(x, y) for x in at for y in at]) + np.random.default_rng(seed).uniform(-0.5, 0.5, (len(at) ** 2, 2))


def matched(truth: np.ndarray, found: np.ndarray, within_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the atoms that lie near a true one: (true, found), and which found ones are false."""
    distance, nearest = cKDTree(found).query(truth)
    seen = np.flatnonzero(distance < within_px)
    return seen, nearest[seen], cKDTree(truth).query(found)[0] >= within_px


def fisher_by_differences(positions: np.ndarray, heights: np.ndarray, width: float, background: float, side: int) -> np.ndarray:
    """Fisher matrix (3n, 3n) of (x, y, height) of every atom, from differences of images that a naive loop draws."""
    values = np.column_stack([positions, heights])
    slopes = []
    for n in range(len(values)):
        for k, step in enumerate((1e-4, 1e-4, 1e-2)):
            up, down = values.copy(), values.copy()
            up[n, k] += step
            down[n, k] -= step
            images = [clean_image(v[:, :2], v[:, 2], background, side, width) for v in (up, down)]
            slopes.append(((images[0] - images[1]) / (2 * step)).ravel())
    jacobian = np.array(slopes)
    return (jacobian / clean_image(positions, heights, background, side, width).ravel()) @ jacobian.T


def test_sigma_is_the_joint_cramer_rao_bound_of_overlapping_atoms() -> None:
    positions, heights = np.array([(13.2, 15.0), (16.1, 15.8), (20.5, 14.4), (16.0, 24.0)]), np.array([200.0, 150.0, 220.0, 90.0])
    image = clean_image(positions, heights, 20.0, 40)
    fit = fit_spots(Counts.of(image), positions + 0.2, 1.4)
    assert fit.positions_px == pytest.approx(positions, abs=5e-3)
    assert (fit.height_e, fit.width_px) == (pytest.approx(heights, rel=2e-3), pytest.approx(WIDTH, rel=1e-3))
    expected = np.sqrt(np.diag(np.linalg.inv(fisher_by_differences(positions, heights, WIDTH, 20.0, 40)))).reshape(-1, 3)
    assert np.sqrt(np.diagonal(fit.covariance, axis1=1, axis2=2)) == pytest.approx(expected, rel=0.01)


def test_isolated_atoms_reach_the_bound() -> None:
    truth = scattered(14.0, 400, 1)
    bound = np.sqrt(np.linalg.inv(fisher_by_differences(np.array([(20.0, 20.0)]), np.array([200.0]), WIDTH, 20.0, 41))[0, 0])
    fit = fit_spots(Counts.of(noisy(clean_image(truth, np.full(len(truth), 200.0), 20.0, 400), 2)), truth.round(), 1.2)
    error = fit.positions_px - truth
    assert np.sqrt((error**2).mean()) < 1.05 * bound
    assert (error / np.sqrt(np.diagonal(fit.covariance, axis1=1, axis2=2))[:, :2]).std() == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("apart_widths", [1.7, 2.5])
def test_close_pairs_are_told_apart_without_bias(apart_widths: float) -> None:
    centres = scattered(15.0, 256, 3, margin=12.0)
    angle = np.random.default_rng(4).uniform(0, np.pi, len(centres))
    along = np.column_stack([np.cos(angle), np.sin(angle)])
    truth = np.concatenate([centres + 0.5 * apart_widths * WIDTH * along, centres - 0.5 * apart_widths * WIDTH * along])
    found = find_spots(Counts.of(noisy(clean_image(truth, np.full(len(truth), 300.0), 20.0, 256), 5)))
    seen, by, false = matched(truth, found.spots.positions_px, 1.0)
    assert (len(seen), false.sum()) == (len(truth), 0)
    outwards = np.concatenate([along, -along])[seen]
    assert abs(((found.spots.positions_px[by] - truth[seen]) * outwards).sum(axis=1).mean()) < 0.02


def test_two_kinds_of_atoms_on_an_uneven_background_with_bad_pixels_and_camera_noise() -> None:
    rng = np.random.default_rng(6)
    truth = scattered(6.0, 200, 7)
    truth = truth[rng.random(len(truth)) > 0.05]
    y, x = np.mgrid[:200, :200] / 200
    image = noisy(clean_image(truth, np.where(rng.random(len(truth)) < 0.5, 100.0, 40.0), 20 + 15 * x + 10 * np.sin(3 * y), 200), 8)
    image += rng.normal(0, 3, image.shape)
    mask = rng.random(image.shape) > 0.001
    image[~mask] = 5000.0
    found = find_spots(Counts.of(image, 9.0, mask))
    seen, _, false = matched(truth, found.spots.positions_px, 1.2)
    assert len(seen) >= 0.98 * len(truth)
    assert false.mean() < 0.005


@pytest.mark.parametrize(("pitch", "width"), [(16.0, 1.2), (5.0, 1.2), (40.0, 5.0)])
def test_the_scale_is_found_from_the_image(pitch: float, width: float) -> None:
    truth = scattered(pitch, 300, 9, margin=20.0)
    counts = Counts.of(noisy(clean_image(truth, np.full(len(truth), 200.0), 20.0, 300, width), 10))
    assert typical_width(counts) == pytest.approx(width, rel=0.7)
    found = find_spots(counts)
    assert found.spots.width_px == pytest.approx(width, rel=0.02)
    assert len(found.p_atom) == len(truth)


def test_probabilities_are_those_of_finding_an_atom() -> None:
    """Faint atoms, a third of the sites empty: of those called so or so likely, as many are there."""
    probability, there = [], []
    for seed in range(12):
        truth = scattered(8.0, 128, seed)
        truth = truth[np.random.default_rng(100 + seed).random(len(truth)) > 0.3]
        found = find_spots(Counts.of(noisy(clean_image(truth, np.full(len(truth), 9.0), 20.0, 128), seed)))
        probability.append(found.p_atom)
        there.append(cKDTree(truth).query(found.spots.positions_px)[0] < 2.5)
    p, right = np.concatenate(probability), np.concatenate(there)
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        some = (p >= low) & (p < high)
        assert right[some].mean() == pytest.approx(p[some].mean(), abs=3 * np.sqrt(0.25 / some.sum()) * (1 if low < 0.9 else 0.3))


@pytest.mark.parametrize("image", [noisy(np.full((64, 64), 20.0), 0), np.zeros((64, 64))])
def test_an_image_without_atoms_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="counts in electrons"):
        find_spots(Counts.of(image))


def test_what_no_image_has_is_refused() -> None:
    good = np.full((32, 32), 20.0)
    with pytest.raises(InputError, match="finite"):
        Counts.of(np.where(np.eye(32) > 0, np.nan, good))
    with pytest.raises(InputError, match="at least 16 px"):
        Counts.of(good[:4])
    with pytest.raises(InputError, match=r"allowed are values from 0"):
        Counts.of(good, -1.0)
    with pytest.raises(InputError, match="mask of shape"):
        Counts.of(good, 0.0, np.ones((3, 3), bool))
    with pytest.raises(InputError, match="outside the image of 32 x 32 px"):
        fit_spots(Counts.of(good), np.array([(40.0, 3.0)]), 1.0)
    with pytest.raises(InputError, match="there is no atom"):
        fit_spots(Counts.of(good), np.zeros((0, 2)), 1.0)


def test_the_command_writes_a_table_and_a_picture(tmp_path, capsys) -> None:
    truth = scattered(8.0, 96, 11)
    movie = noisy(clean_image(truth, np.full(len(truth), 80.0), 20.0, 96), 12)
    path = tmp_path / "stem.tif"
    tifffile.imwrite(path, np.stack([np.zeros_like(movie), 100 + 30 * movie]).astype("u2"), photometric="minisblack")
    arguments = ["spots", str(path), "--frame", "1", "--offset-adu", "100", "--out", str(tmp_path / "found")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "by the image's own noise" in said and f"{len(truth)} atoms" in said
    table = pl.read_csv(tmp_path / "found.csv")
    seen, _, false = matched(truth, table.select("x_px", "y_px").to_numpy(), 1.0)
    assert (len(seen), false.sum()) == (len(truth), 0)
    assert (tmp_path / "found.png").stat().st_size > 10_000
    assert main(arguments) == 1
    assert "not overwritten" in capsys.readouterr().err
    assert main(["spots", str(path), "--out", str(tmp_path / "none")]) == 1
    assert "--gain-adu-per-electron" in capsys.readouterr().err
    assert main(["spots", str(path), "--frame", "2", "--out", str(tmp_path / "none")]) == 1
    assert "allowed are 0 to 1" in capsys.readouterr().err
