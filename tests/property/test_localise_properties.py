"""Moving, turning, flipping or scaling an image moves, turns, flips or leaves its atoms; so does cutting it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scant.imaging.localise import Localised, localise_frame
from scant.imaging.reciprocal import find_lattice
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from honeycomb_images import draw, honeycomb, in_view, noisy

SHAPE, PIXEL, DOSE = (110, 124), 0.2, 8000


def found_in(image: np.ndarray, variance: float = DOSE * PIXEL**2) -> Localised:
    return localise_frame(image, variance, None, find_lattice(image))


def same(a: np.ndarray, b: np.ndarray, shape: tuple[int, int], tolerance_px: float, margin: float = 10.0) -> None:
    inner = a[in_view(a, shape, margin)]
    assert len(inner) > 100
    assert cKDTree(b).query(inner)[0].max() < tolerance_px


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), rotation=st.floats(0, 1.0), sign=st.sampled_from([-0.25, 0.25]))
def test_transposing_and_flipping_commute(seed: int, rotation: float, sign: float) -> None:
    image = noisy(draw(honeycomb(SHAPE, PIXEL, rotation=rotation), SHAPE, PIXEL, contrast=sign), DOSE, PIXEL, seed)
    plain = found_in(image).positions_px
    same(plain, found_in(np.ascontiguousarray(image.T)).positions_px[:, ::-1], SHAPE, 0.1)
    flipped = found_in(np.ascontiguousarray(image[:, ::-1])).positions_px
    same(plain, np.stack([SHAPE[1] - 1 - flipped[:, 0], flipped[:, 1]], axis=1), SHAPE, 0.1)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(scale=st.floats(0.1, 30), offset=st.floats(-200, 500))
def test_intensity_scale_and_offset_change_nothing(scale: float, offset: float) -> None:
    image = noisy(draw(honeycomb(SHAPE, PIXEL, rotation=0.2), SHAPE, PIXEL), DOSE, PIXEL, 3).astype(np.float64)
    plain, other = found_in(image), found_in(scale * image + offset, DOSE * PIXEL**2 * scale**2)
    same(plain.positions_px, other.positions_px, SHAPE, 1e-3, margin=0.0)
    assert np.allclose(plain.sigma_x_px, other.sigma_x_px, rtol=1e-3)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(dx=st.integers(0, 12), dy=st.integers(0, 12))
def test_a_cut_out_keeps_its_atoms(dx: int, dy: int) -> None:
    image = noisy(draw(honeycomb(SHAPE, PIXEL, rotation=0.4), SHAPE, PIXEL), DOSE, PIXEL, 5)
    whole, part = found_in(image).positions_px, found_in(np.ascontiguousarray(image[dy:, dx:])).positions_px + [dx, dy]
    same(whole[in_view(whole - [dx, dy], (SHAPE[0] - dy, SHAPE[1] - dx), 12)], part, SHAPE, 0.15, margin=0.0)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    pixel=st.floats(0.12, 0.25), rotation=st.floats(0, 1.0), sx=st.floats(-5, 5), sy=st.floats(-5, 5), sign=st.sampled_from([-0.25, 0.25])
)
def test_any_pixel_size_rotation_and_shift(pixel: float, rotation: float, sx: float, sy: float, sign: float) -> None:
    shape = (int(26 / pixel), int(28 / pixel))
    atoms = honeycomb(shape, pixel, rotation=rotation, shift=(sx, sy))
    image = noisy(draw(atoms, shape, pixel, contrast=sign), DOSE, pixel, 7)
    found = found_in(image, DOSE * pixel**2)
    view = found.positions_px[found.in_view]
    assert cKDTree(view).query(atoms[in_view(atoms, shape, 1.0)])[0].max() * pixel < 0.35
    assert cKDTree(atoms).query(view)[0].max() * pixel < 0.35
