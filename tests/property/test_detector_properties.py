import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scant.imaging.align import PairShifts, integrate_shifts
from scant.imaging.counts import correct_frame, make_detector
from scant.imaging.temporal import temporal_median_mad
from scant.io.blocks import sample_frames

STACKS = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))


@settings(deadline=None, max_examples=80)
@given(STACKS)
def test_median_and_mad_of_any_integers(frames: np.ndarray) -> None:
    median = np.median(frames.astype(float), axis=0)
    found = temporal_median_mad(frames)
    np.testing.assert_array_equal(found.median_adu, median)
    np.testing.assert_array_equal(found.mad_adu, np.median(np.abs(frames - median), axis=0))


@settings(deadline=None, max_examples=40)
@given(STACKS, st.randoms(use_true_random=False))
def test_order_of_frames_does_not_matter(frames: np.ndarray, random) -> None:
    order = list(range(len(frames)))
    random.shuffle(order)
    np.testing.assert_array_equal(temporal_median_mad(frames).mad_adu, temporal_median_mad(frames[order]).mad_adu)


@given(st.integers(1, 10**6), st.integers(1, 500))
def test_samples_are_increasing_and_inside(n_frames: int, n_samples: int) -> None:
    indices = sample_frames(n_frames, n_samples)
    assert len(indices) == min(n_frames, n_samples)
    assert (np.diff(indices) > 0).all()
    assert indices[0] == 0
    assert indices[-1] < n_frames


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 40), st.floats(0, 200))
def test_gain_and_offset_cancel(seed: int, gain: float, offset_adu: float) -> None:
    """A camera with another gain and offset gives the same electrons, mask and hits."""
    electrons = np.random.default_rng(seed).poisson(50, (40, 50)).astype(np.float64)
    electrons[7, 8] = 900
    bad = np.zeros(electrons.shape, bool)
    bad[20, 30] = True
    plain = correct_frame(electrons, make_detector(None, None, bad, 1.0))
    other = correct_frame(offset_adu + gain * electrons, make_detector(np.full(bad.shape, offset_adu), None, bad, gain))
    np.testing.assert_array_equal(plain.weight_mask, other.weight_mask)
    np.testing.assert_allclose(plain.image_e, other.image_e, rtol=1e-4, atol=2e-3)
    assert plain.n_hits == other.n_hits >= 1


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 30), st.just(2)), elements=st.floats(-50, 50)))
def test_consistent_pairs_give_the_track_back(track: np.ndarray) -> None:
    pairs = np.array([(i, i + lag) for i in range(len(track)) for lag in (1, 2, 4) if i + lag < len(track)])
    table = PairShifts(pairs[:, 0], pairs[:, 1], track[pairs[:, 1]] - track[pairs[:, 0]], np.full((len(pairs), 2), 0.1))
    drift, sigma = integrate_shifts(table, len(track))
    np.testing.assert_allclose(drift, track - track[0], atol=1e-5)
    assert np.isfinite(sigma).all()
