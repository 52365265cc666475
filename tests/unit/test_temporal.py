import numpy as np
import pytest
from scant.errors import InputError
from scant.imaging.temporal import frame_faults, frame_levels, temporal_median_mad
from scant.io.blocks import sample_frames


def stack(n_frames: int, seed: int = 3) -> np.ndarray:
    """Asymmetric in t, y and x, with stuck, full-range and noisy pixels; wider than one tile."""
    generator = np.random.default_rng(seed)
    level = 300 + 40 * np.arange(11)[:, None] + 3 * np.arange(300)[None, :]
    frames = generator.poisson(level, (n_frames, 11, 300)).astype(np.uint16)
    frames[:, 2, 3], frames[:, 4, 5], frames[n_frames // 2, 6] = 0, 65535, 65535
    frames[:, 7, 290] = generator.integers(0, 65536, n_frames)
    frames[::2, 8, 1] = 65535
    return frames


@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 24, 37])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.uint8])
def test_median_and_mad_are_numpys(n_frames: int, dtype: type) -> None:
    frames = (stack(n_frames) // 257 if dtype is np.uint8 else stack(n_frames)).astype(dtype)
    median = np.median(frames.astype(float), axis=0)
    statistics = temporal_median_mad(frames)
    np.testing.assert_array_equal(statistics.median_adu, median)
    np.testing.assert_array_equal(statistics.mad_adu, np.median(np.abs(frames - median), axis=0))
    assert statistics.n_frames == n_frames


@pytest.mark.parametrize("bad_value", [np.nan, np.inf, -np.inf])
def test_one_bad_sample_costs_itself_only(bad_value: float) -> None:
    frames = stack(9).astype(np.float32)
    frames[3, 5, 7] = bad_value
    frames[:, 1, 1] = bad_value
    statistics = temporal_median_mad(frames)
    kept = np.delete(frames[:, 5, 7], 3)
    assert statistics.median_adu[5, 7] == np.median(kept)
    assert statistics.mad_adu[5, 7] == np.median(np.abs(kept - np.median(kept)))
    assert np.isnan(statistics.median_adu[1, 1])
    assert np.isnan(statistics.mad_adu[1, 1])
    assert np.isnan(statistics.median_adu).sum() == 1


def test_frames_that_are_not_valid_change_nothing() -> None:
    frames = stack(12)
    valid = np.ones(12, bool)
    valid[[0, 5, 11]] = False
    expected = temporal_median_mad(frames[valid])
    frames[[0, 5, 11]] = np.array([0, 65535, 7], np.uint16)[:, None, None]
    found = temporal_median_mad(frames, valid)
    np.testing.assert_array_equal(found.median_adu, expected.median_adu)
    np.testing.assert_array_equal(found.mad_adu, expected.mad_adu)


def test_tiles_of_the_field_give_the_same_numbers() -> None:
    frames = stack(10)
    whole = temporal_median_mad(frames).mad_adu
    parts = np.hstack([temporal_median_mad(frames[:, :, a:b]).mad_adu for a, b in ((0, 17), (17, 256), (256, 300))])
    np.testing.assert_array_equal(whole, parts)


def test_refusals_name_the_numbers() -> None:
    with pytest.raises(InputError, match="0 of 4 frames"):
        temporal_median_mad(stack(4), np.zeros(4, bool))
    with pytest.raises(InputError, match=r"\(3,\)"):
        temporal_median_mad(stack(4), np.ones(3, bool))
    with pytest.raises(InputError, match="t, y, x"):
        temporal_median_mad(stack(4)[0])
    with pytest.raises(InputError, match="at least 1"):
        sample_frames(0, 4)


@pytest.mark.parametrize(("n_frames", "n_samples"), [(24, 8), (50_000, 64), (5, 5), (3, 10), (7, 1), (2, 2)])
def test_samples_are_spread_evenly_and_include_the_ends(n_frames: int, n_samples: int) -> None:
    indices = sample_frames(n_frames, n_samples)
    assert len(np.unique(indices)) == len(indices) == min(n_frames, n_samples)
    assert indices[0] == 0
    if n_samples > 1:
        assert indices[-1] == n_frames - 1
        assert np.ptp(np.diff(indices)) <= 1


@pytest.mark.fault("F14")
def test_faulty_frames_are_named_and_good_ones_are_not() -> None:
    generator = np.random.default_rng(0)
    good = 100 + 6.0 * generator.poisson(300, (8, 64, 64))
    good[:, 3, 4], good[:, 5, 6], good[:, 7, 8] = 0, 60000, np.nan
    frames = np.concatenate([good, np.repeat(good[:1], 7, 0)])
    frames[8], frames[9], frames[10] = 0, 65535, np.nan
    frames[11, :, :32] = np.inf
    frames[12] = 100 + generator.normal(0, 3, (64, 64))
    frames[13] = 100 + 6.0 * generator.poisson(100, (64, 64))
    frames[14] = 100 + 6.0 * generator.poisson(900, (64, 64))
    faults = frame_faults(frames, offset_adu=100.0)
    assert faults[:8] == [None] * 8
    assert faults[8:] == ["empty", "saturated", "nan", "nan", "empty", "dim", "bright"]
    level = float(np.median(frame_levels(good)))
    assert [frame_faults(frames[i : i + 1], 100.0, level)[0] for i in range(15)] == faults


def test_counting_frames_of_zeros_and_ones_are_not_saturated() -> None:
    frames = np.random.default_rng(1).poisson(0.7, (4, 64, 64)).astype(np.uint8)
    assert frame_faults(frames) == [None] * 4


def test_partly_saturated_integer_frame() -> None:
    frames = np.random.default_rng(1).poisson(2000, (3, 64, 64)).clip(0, 4095).astype(np.uint16)
    frames[1, :20] = 4095
    assert frame_faults(frames) == [None, "saturated", None]
