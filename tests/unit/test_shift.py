"""A frame moved by part of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from scant.errors import InputError
from scant.imaging.shift import shift_frame

FRAME = np.random.default_rng(5).normal(100, 30, (7, 11)).astype(np.float32)


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
    frame = FRAME
    shifted = shift_frame(frame, 2.0, -1.0)
    np.testing.assert_array_equal(shifted[2:, :-1], frame[:-2, 1:])
    assert np.isnan(shifted[:2]).all()
    assert np.isnan(shifted[:, -1]).all()


def test_shift_against_keys_kernel_by_hand() -> None:
    frame = FRAME
    shifted = shift_frame(frame, 0.0, -0.25)
    weights = [-0.0703125, 0.8671875, 0.2265625, -0.0234375]
    for x in (3, 6):
        assert shifted[4, x] == pytest.approx(sum(w * float(frame[4, x - 1 + i]) for i, w in enumerate(weights)), rel=1e-6)


def test_a_nan_spreads_over_the_taps_that_touch_it_and_no_further() -> None:
    frame = FRAME.copy()
    frame[3, 5] = np.nan
    assert np.isnan(shift_frame(frame, 0.0, 1.0)).sum() == 1 + 7
    assert np.isnan(shift_frame(frame, 0.0, 0.5)).sum() == 4 + 7
    assert np.isnan(shift_frame(frame, 0.5, 0.5)[1:, 1:]).sum() == 16


def test_what_cannot_be_shifted_is_refused() -> None:
    with pytest.raises(InputError, match="give one frame"):
        shift_frame(FRAME, np.inf, 0.0)
