"""Localisation of graphene-open, single frames, against its truth: recall, precision, error, stated error, pixel size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scant.imaging.link import empty_state, link_step
from scant.imaging.localise import localise_frame
from scant.imaging.model_atoms import model_atoms
from scant.imaging.reciprocal import find_lattice
from scipy.ndimage import median_filter
from scipy.spatial import cKDTree

PIXEL = 0.2
SIZE = 51.2


@pytest.fixture(scope="module")
def corrected(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Movie in electrons, and its valid pixels: a plain correction, kept apart from the library's own."""
    folder = shared_data / "graphene-open"
    raw, dark, flat = (tifffile.imread(folder / f"{name}.tif").astype(np.float32) for name in ("movie", "dark", "flat"))
    stuck = np.isin(np.median(raw, axis=0), (0, 60000))
    gain = np.where(stuck, 1, flat - dark)
    image = (raw - dark) / (6 * gain / np.median(gain))
    valid = np.broadcast_to(~stuck, image.shape).copy()
    for frame, ok in zip(image, valid):
        smooth = median_filter(frame, 5)
        ok &= np.abs(frame - smooth) < 8 * 1.4826 * np.median(np.abs(frame - smooth))
        frame[~ok] = smooth[~ok]
    return image, valid


@pytest.fixture(scope="module")
def truth(shared_data: Path) -> list[np.ndarray]:
    frames, lines = [], (shared_data / "graphene-open" / "truth.extxyz").read_text().splitlines()
    while lines:
        n = int(lines[0])
        frames.append(np.array([line.split()[1:4] for line in lines[2 : 2 + n]], dtype=float))
        lines = lines[2 + n :]
    return frames


@pytest.fixture(scope="module")
def results(corrected: tuple[np.ndarray, np.ndarray]) -> dict:
    image, valid = corrected
    out = {}
    for k in (0, 5, 11, 17, 23):
        lattice = find_lattice(image[k])
        out[k] = (localise_frame(image[k], float(image[k].mean()), valid[k], lattice), lattice)
    return out


def inner(points: np.ndarray, margin: float = 3.0) -> np.ndarray:
    return ((points[:, :2] > margin) & (points[:, :2] < SIZE - margin)).all(axis=1)


def test_pixel_size_and_contrast(corrected: tuple[np.ndarray, np.ndarray]) -> None:
    lattice = find_lattice(corrected[0])
    assert lattice.pixel_size_angstrom == pytest.approx(PIXEL, rel=3e-3)
    assert abs(lattice.pixel_size_angstrom - PIXEL) < 2 * lattice.pixel_size_sigma_angstrom
    assert lattice.contrast_sign == 1
    assert lattice.contrast_confidence > 0.99


def test_recall_precision_and_error(results: dict, truth: list[np.ndarray]) -> None:
    errors, ratios = [], []
    for k, (found, _) in results.items():
        positions = found.positions_px[found.in_view] * PIXEL
        true = truth[k][:, :2]
        distance, partner = cKDTree(positions).query(true)
        scored = inner(true)
        assert (distance[scored] < 0.4).mean() >= 0.998
        assert (cKDTree(true).query(positions[inner(positions)])[0] < 0.4).mean() >= 0.998
        assert len(set(partner[scored].tolist())) == scored.sum()
        error = positions[partner[scored]] - true[scored]
        sigma = np.stack([found.sigma_x_px, found.sigma_y_px], axis=1)[found.in_view][partner[scored]] * PIXEL
        errors.append(error)
        ratios.append(error / sigma)
    error, ratio = np.concatenate(errors), np.concatenate(ratios)
    assert np.abs(error.mean(axis=0)).max() < 0.005, "no half-pixel shift"
    assert error.std(axis=0).max() < 0.045
    assert np.abs(error).max() < 0.25
    assert 0.85 < ratio.std() < 1.3


def test_atoms_up_to_the_edge(results: dict, truth: list[np.ndarray]) -> None:
    for k, (found, _) in results.items():
        true = truth[k][:, :2]
        distance = cKDTree(found.positions_px * PIXEL).query(true)[0]
        assert distance.max() < 0.4
        well_inside = inner(true, 0.2)
        assert cKDTree(found.positions_px[found.in_view] * PIXEL).query(true[well_inside])[0].max() < 0.4


def test_topology_is_a_perfect_honeycomb(results: dict) -> None:
    for found, _ in results.values():
        model = model_atoms(found, (256, 256), 3.0 / PIXEL)
        assert ((model.neighbours >= 0).sum(axis=1)[found.in_view[model.keep]] == 3).all()
        assert len(found.vacancies_px) == 0


def test_contrast_of_an_atom_tells_its_height(results: dict, truth: list[np.ndarray]) -> None:
    correlation = []
    for k, (found, _) in results.items():
        scored = truth[k][inner(truth[k])]
        partner = cKDTree(found.positions_px * PIXEL).query(scored[:, :2])[1]
        correlation.append(np.corrcoef(found.pcd[partner], scored[:, 2])[0, 1])
    assert np.abs(np.mean(correlation)) > 0.2


def test_identities_follow_the_atoms_through_drift(results: dict, shared_data: Path) -> None:
    """An identity never jumps to a neighbour: with the drift taken off, a track stays within half a bond of its first place."""
    text = (shared_data / "graphene-open" / "truth.extxyz").read_text()
    drift = np.array(re.findall(r"drift_x=(\S+) drift_y=(\S+)", text), dtype=float)[list(results)] / PIXEL
    frames = [found.positions_px[found.in_view] for found, _ in results.values()]
    ids, state = [], empty_state()
    for frame, shift in zip(frames, drift):
        of_frame, state = link_step(state, frame, shift, radius_px=3.5)
        ids.append(of_frame)
    first = {i: p - drift[0] for i, p in zip(ids[0].tolist(), frames[0])}
    for frame_ids, frame, shift in zip(ids[1:], frames[1:], drift[1:]):
        jumps = [np.hypot(*(p - shift - first[i])) * PIXEL for i, p in zip(frame_ids.tolist(), frame) if i in first]
        assert max(jumps) < 0.71
        assert len(jumps) > 0.95 * min(len(frame), len(first))
