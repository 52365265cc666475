"""Sliding-window mean against a naive loop on data with gaps, ends, bad frames and bad pixels; block-size invariance; drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scant.errors import InputError
from scant.imaging.average import DRIFT_LIMIT_PX, averaged_frame, shift_frame, window_mean

NUMBERS = np.array([3, 4, 5, 7, 8, 12, 13, 14, 15])


def movie(n_frames: int = len(NUMBERS)) -> np.ndarray:
    """Every frame, row and column differs, so an error of one place shows."""
    t, y, x = np.mgrid[:n_frames, :7, :11]
    noise = np.random.default_rng(5).normal(size=(n_frames, 7, 11))
    return (100 * t**1.5 + 10 * y + 0.7 * x * x + noise).astype(np.float32)


def naive(frames: np.ndarray, numbers: np.ndarray, valid: np.ndarray, size: int, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = np.full(frames.shape, np.nan)
    used = np.zeros(frames.shape, dtype=int)
    for t in range(len(frames)):
        for y in range(frames.shape[1]):
            for x in range(frames.shape[2]):
                inside = [
                    float(frames[s, y, x])
                    for s in range(len(frames))
                    if valid[t] and valid[s] and abs(int(numbers[s]) - int(numbers[t])) <= size // 2 and not mask[s, y, x]
                ]
                used[t, y, x] = len(inside)
                if inside:
                    mean[t, y, x] = sum(inside) / len(inside)
    return mean, used


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_against_a_naive_loop_with_gaps_ends_and_bad_frames(size: int) -> None:
    frames, valid = movie(), np.ones(len(NUMBERS), dtype=bool)
    valid[[1, 6]] = False
    frames[1] = np.nan
    mean, used = window_mean(frames, NUMBERS, valid, size)
    expected, expected_used = naive(frames, NUMBERS, valid, size, np.zeros(frames.shape, dtype=bool))
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    np.testing.assert_array_equal(used, expected_used[:, 0, 0])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_masked_pixels_against_a_naive_loop(size: int) -> None:
    frames, valid = movie(), np.ones(len(NUMBERS), dtype=bool)
    valid[4] = False
    mask = np.random.default_rng(2).random(frames.shape) < 0.2
    mask[:, 2, 3] = True
    frames[mask] = 6e4
    mean, used = window_mean(frames, NUMBERS, valid, size, mask)
    expected, expected_used = naive(frames, NUMBERS, valid, size, mask)
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    np.testing.assert_array_equal(used, expected_used)
    assert np.isnan(mean[:, 2, 3]).all()


def test_a_gap_moves_no_frame_into_its_place() -> None:
    """Frames 0..9 without frame 4, window 3: frame 5 is averaged with 6 alone, not with 3."""
    numbers = np.delete(np.arange(10), 4)
    frames = np.broadcast_to(numbers[:, None, None], (9, 2, 2)).astype(np.float32)
    mean, used = window_mean(frames, numbers, np.ones(9, dtype=bool), 3)
    np.testing.assert_array_equal(mean[:, 0, 0], [0.5, 1, 2, 2.5, 5.5, 6, 7, 8, 8.5])
    np.testing.assert_array_equal(used, [2, 3, 3, 2, 2, 3, 3, 3, 2])


def test_window_of_one_returns_the_frames_and_leaves_the_input_alone() -> None:
    frames = movie()
    before = frames.copy()
    mean, used = window_mean(frames, NUMBERS, np.ones(len(NUMBERS), dtype=bool), 1)
    np.testing.assert_array_equal(mean, before)
    np.testing.assert_array_equal(frames, before)
    assert (used == 1).all()


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from([1, 3, 5, 7]),
    block=st.integers(1, 12),
    n_frames=st.integers(1, 25),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["frames", "mask", "drift"]),
)
def test_bit_identical_whatever_the_blocks(size: int, block: int, n_frames: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    frames = (rng.normal(size=(n_frames, 5, 6)) * 10.0 ** rng.integers(-3, 5)).astype(np.float32)
    numbers = np.sort(rng.choice(2 * n_frames, n_frames, replace=False))
    valid = rng.random(n_frames) > 0.2
    mask = rng.random(frames.shape) < 0.1 if kind == "mask" else None
    drift_px = rng.normal(size=(n_frames, 2)) * 0.3 if kind == "drift" else None
    whole, whole_used = window_mean(frames, numbers, valid, size, mask, drift_px)
    for start in range(0, n_frames, block):
        low, high = max(0, start - size // 2), min(n_frames, start + block + size // 2)
        part, part_used = window_mean(
            frames[low:high],
            numbers[low:high],
            valid[low:high],
            size,
            None if mask is None else mask[low:high],
            None if drift_px is None else drift_px[low:high],
        )
        inside = slice(start - low, min(start + block, n_frames) - low)
        np.testing.assert_array_equal(part[inside], whole[start : start + block])
        np.testing.assert_array_equal(part_used[inside], whole_used[start : start + block])


def waves(dy_px: float, dx_px: float) -> np.ndarray:
    y, x = np.mgrid[:48, :56].astype(float)
    y, x = y - dy_px, x - dx_px
    return (50 + 10 * np.sin(2 * np.pi * (x / 11 + y / 17)) + 7 * np.cos(2 * np.pi * (x / 9 - y / 12))).astype(np.float32)


@pytest.mark.parametrize(("dy_px", "dx_px"), [(0.5, 0.0), (0.0, -0.37), (1.3, 2.6), (-2.25, 0.8)])
def test_shift_moves_the_content(dy_px: float, dx_px: float) -> None:
    shifted = shift_frame(waves(0, 0), dy_px, dx_px)
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(shifted[inner], waves(dy_px, dx_px)[inner], atol=0.35)
    assert np.abs(waves(-dy_px, -dx_px)[inner] - waves(dy_px, dx_px)[inner]).max() > 2.0


def test_whole_pixel_shift_is_a_copy_and_outside_is_nan() -> None:
    frame = movie()[0]
    shifted = shift_frame(frame, 2.0, -1.0)
    np.testing.assert_array_equal(shifted[2:, :-1], frame[:-2, 1:])
    assert np.isnan(shifted[:2]).all()
    assert np.isnan(shifted[:, -1]).all()


def test_shift_against_keys_kernel_by_hand() -> None:
    frame = movie()[2]
    shifted = shift_frame(frame, 0.0, -0.25)
    weights = [-0.0703125, 0.8671875, 0.2265625, -0.0234375]
    for x in (3, 6):
        assert shifted[4, x] == pytest.approx(sum(w * float(frame[4, x - 1 + i]) for i, w in enumerate(weights)), rel=1e-6)


def test_drifting_lattice_is_not_blurred() -> None:
    drift_px = np.array([[0.9 * t, -0.6 * t] for t in range(5)])
    frames = np.stack([waves(*d) for d in drift_px])
    numbers, valid = np.arange(5), np.ones(5, dtype=bool)
    inner = (2, slice(6, -6), slice(6, -6))
    still = window_mean(frames, numbers, valid, 5)[0][inner] - frames[inner]
    followed, used = window_mean(frames, numbers, valid, 5, None, drift_px)
    assert np.std(followed[inner] - frames[inner]) < 0.1 * np.std(still)
    assert np.std(followed[inner] - frames[inner]) < 0.15
    assert used[inner].min() == 5
    # neighbours that drifted away leave the border to fewer frames, never to invented values
    assert used[2].min() < 5
    assert np.isfinite(followed).all()


def test_drift_below_the_limit_changes_nothing() -> None:
    frames, valid = movie(), np.ones(len(NUMBERS), dtype=bool)
    drift_px = np.linspace(0, 0.9 * DRIFT_LIMIT_PX, len(NUMBERS))[:, None] * [[0.7, -0.7]]
    np.testing.assert_array_equal(window_mean(frames, NUMBERS, valid, 5, None, drift_px)[0], window_mean(frames, NUMBERS, valid, 5)[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 4}, "window is 4 frames; it must be odd"),
        ({"frame_numbers": NUMBERS[::-1]}, "frame number 14 follows 15"),
        ({"frame_numbers": np.array([1, 2, 2, 3, 4, 5, 6, 7, 8])}, "frame number 2 follows 2"),
        ({"valid": np.ones(3, dtype=bool)}, r"valid \(3,\) do not fit"),
        ({"mask": np.zeros((7, 11), dtype=bool)}, r"mask has shape \(7, 11\)"),
        ({"drift_px": np.zeros((9, 3))}, r"\(9, 2\) is needed"),
        ({"drift_px": np.full((9, 2), np.nan)}, "drift of frame 0 of this stack is not finite"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, words: str) -> None:
    arguments = {"frames": movie(), "frame_numbers": NUMBERS, "valid": np.ones(9, dtype=bool), **changes}
    with pytest.raises(InputError, match=words):
        window_mean(**arguments)


def test_a_frame_averaged_alone_is_the_frame_of_the_stack():
    """Bit by bit, at the ends, beside a frame that is left out, and under drift."""
    rng = np.random.default_rng(3)
    frames = rng.normal(10, 1, (7, 24, 20)).astype(np.float32)
    frames[4] = np.nan
    drift = rng.normal(0, 0.5, (7, 2))
    valid = np.isfinite(frames).all(axis=(1, 2))
    mean, used = window_mean(frames, np.arange(7), valid, 5, drift_px=drift)
    for t in range(7):
        first, stop = max(t - 2, 0), min(t + 3, 7)
        alone, count = averaged_frame(frames[first:stop], t - first, drift[first:stop])
        np.testing.assert_array_equal(alone, np.where(np.isfinite(mean[t]), mean[t], frames[t]))
        assert count == used[t].max()
