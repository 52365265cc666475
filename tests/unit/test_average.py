"""Mean over a window of frames against a naive loop, with ends, faulty frames, bad pixels and drift; block-size invariance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scant.errors import InputError
from scant.imaging.average import DRIFT_LIMIT_PX, averaged_frame, mean_onto, registered
from scant.imaging.shift import shift_frame


def movie(n_frames: int = 9) -> np.ndarray:
    """Every frame, row and column differs, so an error of one place shows."""
    t, y, x = np.mgrid[:n_frames, :37, :11]
    noise = np.random.default_rng(5).normal(size=t.shape)
    return (100 * t**1.5 + 10 * y + 0.7 * x * x + noise).astype(np.float32)


@pytest.mark.parametrize("target", [0, 4, 8])
def test_against_a_naive_loop_with_masked_pixels(target: int) -> None:
    frames = movie()
    frames[np.random.default_rng(2).random(frames.shape) < 0.2] = np.nan
    frames[:, 2, 3] = np.nan
    mean, used = mean_onto(frames, target, np.zeros((9, 2)))
    there = np.isfinite(frames)
    total = sum(np.where(there[t], frames[t], 0).astype(float) for t in range(9))
    np.testing.assert_array_equal(used, there.sum(axis=0))
    np.testing.assert_allclose(mean[used > 0], (total / np.maximum(used, 1))[used > 0], rtol=1e-7)
    assert np.isnan(mean[2, 3])


@pytest.mark.parametrize("own", [0, 2, 4])
def test_shifted_frames_against_the_shifting_of_whole_frames(own: int) -> None:
    frames, drift = movie(5), np.random.default_rng(3).normal(0, 2, (5, 2))
    frames[3, 20, 5] = np.nan
    shifted = np.array([shift_frame(f, *(drift[own] - d)) for f, d in zip(frames, drift, strict=True)], float)
    mean, used = mean_onto(frames, own, drift)
    np.testing.assert_array_equal(used, np.isfinite(shifted).sum(axis=0))
    seen = used > 0
    np.testing.assert_allclose(mean[seen], np.nanmean(shifted, axis=0, where=np.broadcast_to(seen, shifted.shape))[seen], rtol=1e-7)


def test_a_faulty_frame_enters_no_mean() -> None:
    frames = movie(5)
    frames[1] = np.nan
    mean, used = averaged_frame(frames, 2, np.zeros((5, 2)))
    assert used == 4
    np.testing.assert_allclose(mean, frames[[0, 2, 3, 4]].astype(float).mean(axis=0), rtol=1e-7)
    alone, none = averaged_frame(frames, 1, np.zeros((5, 2)))
    assert none == 0
    np.testing.assert_array_equal(alone, frames[1])


def test_a_registered_window_has_no_gaps_and_its_mean_is_the_mean() -> None:
    frames, drift = movie(5), np.array([(0, 0), (0.04, 0.0), (1.3, -0.7), (2, 2), (-0.5, 0.4)])
    frames[1] = np.nan
    images, own = registered(frames, 2, drift)
    assert (len(images), own) == (4, 1)
    np.testing.assert_array_equal(images[own], frames[2])
    assert np.isfinite(images).all()
    mean, used = mean_onto(frames, 2, drift)
    np.testing.assert_allclose(np.mean(images, axis=0, dtype=float)[used == 4], mean[used == 4], rtol=1e-6)
    shifted = shift_frame(frames[3], *(drift[2] - drift[3]))
    np.testing.assert_array_equal(images[2], np.where(np.isnan(shifted), frames[2], shifted))


def test_a_pixel_that_a_neighbour_lacks_is_the_mean_of_the_others() -> None:
    frames = movie(5)
    frames[1, 3, 3] = np.nan
    mean, used = averaged_frame(frames, 2, np.zeros((5, 2)))
    assert used == 5
    np.testing.assert_allclose(mean, np.nanmean(frames.astype(float), axis=0), rtol=1e-7)


def test_window_of_one_returns_the_frame_and_leaves_the_input_alone() -> None:
    frames = movie(1)
    before = frames.copy()
    mean, used = averaged_frame(frames, 0, np.array([[3.0, -2.5]]))
    np.testing.assert_array_equal(mean, before[0])
    np.testing.assert_array_equal(frames, before)
    assert used == 1


@settings(max_examples=40, deadline=None)
@given(n_frames=st.integers(1, 9), cut=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_a_row_does_not_depend_on_the_rows_below(n_frames: int, cut: int, seed: int) -> None:
    """Bit by bit, though rows are summed in strips."""
    rng = np.random.default_rng(seed)
    frames = (rng.normal(size=(n_frames, 60, 6)) * 10.0 ** rng.integers(-3, 5)).astype(np.float32)
    drift = rng.normal(size=(n_frames, 2)) * [0, 0.3]
    whole, used = mean_onto(frames, 0, drift)
    part, part_used = mean_onto(frames[:, :cut], 0, drift)
    np.testing.assert_array_equal(part, whole[:cut])
    np.testing.assert_array_equal(part_used, used[:cut])


def waves(dy_px: float, dx_px: float) -> np.ndarray:
    y, x = np.mgrid[:48, :56].astype(float)
    y, x = y - dy_px, x - dx_px
    return (50 + 10 * np.sin(2 * np.pi * (x / 11 + y / 17)) + 7 * np.cos(2 * np.pi * (x / 9 - y / 12))).astype(np.float32)


def test_drifting_lattice_is_not_blurred() -> None:
    drift_px = np.array([[0.9 * t, -0.6 * t] for t in range(5)])
    frames = np.stack([waves(*d) for d in drift_px])
    inner = (slice(6, -6), slice(6, -6))
    still = mean_onto(frames, 2, np.zeros((5, 2)))[0][inner] - frames[2][inner]
    followed, used = mean_onto(frames, 2, drift_px)
    assert np.std(followed[inner] - frames[2][inner]) < 0.1 * np.std(still)
    assert np.std(followed[inner] - frames[2][inner]) < 0.15
    assert used[inner].min() == 5
    # neighbours that drifted away leave the border to fewer frames, never to invented values
    assert used.min() < 5
    assert np.isfinite(followed).all()


def test_drift_below_the_limit_changes_nothing() -> None:
    frames = movie()
    drift_px = np.linspace(0, 0.9 * DRIFT_LIMIT_PX, 9)[:, None] * [[0.7, -0.7]]
    np.testing.assert_array_equal(mean_onto(frames, 4, drift_px)[0], mean_onto(frames, 4, np.zeros((9, 2)))[0])


@pytest.mark.parametrize(
    ("drift_px", "words"),
    [(np.zeros((9, 3)), r"\(9, 2\) is needed"), (np.full((9, 2), np.nan), "drift of frame 0 of this window is not finite")],
)
def test_a_drift_that_does_not_fit_is_refused(drift_px: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mean_onto(movie(), 0, drift_px)
