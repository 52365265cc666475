import numpy as np
import pytest
from scant.errors import CalibrationError, InputError
from scant.imaging.align import PairShifts, fourier_signal, integrate_shifts, merge_shifts, pair_shifts

PERIOD_PX = 12.3


def crystal(dy: float = 0.0, dx: float = 0.0, shape: tuple[int, int] = (160, 140)) -> np.ndarray:
    """Honeycomb with a missing atom, displaced by (dy, dx), mean 1."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    y, x = y - dy, x - dx
    k = 2 * np.pi / (PERIOD_PX * np.sqrt(3) / 2)
    turned = [0.1 + i * np.pi / 3 for i in range(3)]
    image = 1 - 0.05 * sum(np.cos(k * (x * np.cos(a) + y * np.sin(a))) for a in turned)
    return image - 0.2 * np.exp(-((x - 60) ** 2 + (y - 90) ** 2) / (2 * 3.0**2))


def noisy(image: np.ndarray, mean_e: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean_e * image).astype(np.float32)


def drift_between(reference: np.ndarray, frame: np.ndarray) -> tuple[float, float]:
    """(dy, dx) of a frame against another."""
    dy, dx = pair_shifts(np.stack([reference, frame]), lags=(1,)).shift_px[0]
    return float(dy), float(dx)


def drift_track(frames: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    return integrate_shifts(pair_shifts(frames, valid=valid), len(frames))


@pytest.mark.parametrize(("dy", "dx"), [(0.0, 0.0), (0.37, -1.21), (-4.2, 0.6), (2.0, 3.0)])
def test_shift_without_noise_has_the_sign_of_the_sample_motion(dy: float, dx: float) -> None:
    assert drift_between(crystal(), crystal(dy, dx)) == pytest.approx((dy, dx), abs=0.03)


def test_sign_against_moving_the_field_of_view() -> None:
    """Cut out of a larger image three rows higher and two columns further left, the sample appears further down and right."""
    large = noisy(crystal(shape=(200, 200)), 1000, 5)
    assert drift_between(large[20:180, 20:180], large[17:177, 18:178]) == pytest.approx((3, 2), abs=0.05)


def test_error_is_what_sigma_says() -> None:
    true = np.random.default_rng(1).uniform(-2, 2, (60, 2))
    reference = [noisy(crystal(), 300, 1000 + i) for i in range(60)]
    moved = [noisy(crystal(*d), 300, i) for i, d in enumerate(true)]
    found = [pair_shifts(np.stack(pair), lags=(1,)) for pair in zip(reference, moved)]
    errors = np.array([pair.shift_px[0] for pair in found]) - true
    assert np.sqrt(np.mean(errors**2)) < 0.06
    assert 0.2 < np.sqrt(np.mean((errors / np.array([pair.sigma_px[0] for pair in found])) ** 2)) < 1.2


def test_swapping_the_frames_turns_the_sign() -> None:
    a, b = noisy(crystal(), 300, 1), noisy(crystal(0.4, 0.9), 300, 2)
    forth, back = drift_between(a, b), drift_between(b, a)
    assert forth == pytest.approx((-back[0], -back[1]), abs=1e-5)


def test_a_jump_beyond_half_a_cell_is_taken_for_the_nearest_lattice_shift() -> None:
    """The trap: a perfect crystal that moves by 0.9 periods looks as if it went back by 0.1."""
    y, x = np.mgrid[:160, :140]
    perfect = [np.cos(2 * np.pi * (x - d) / 10) + np.cos(2 * np.pi * y / 10) for d in (0.0, 9.0)]
    assert drift_between(*perfect)[1] == pytest.approx(-1.0, abs=0.05)


def test_track_follows_many_lattice_vectors_and_errors_do_not_add_up() -> None:
    true = np.cumsum(np.vstack([[0, 0], np.random.default_rng(2).normal((0.6, -1.1), 0.3, (59, 2))]), axis=0)
    frames = np.array([noisy(crystal(*d), 300, i) for i, d in enumerate(true)])
    drift, sigma = drift_track(frames)
    assert np.hypot(*true[-1]) > 4 * PERIOD_PX
    errors = drift - true
    assert np.abs(errors).max() < 0.25
    assert np.sqrt(np.mean((errors[1:] / sigma[1:]) ** 2)) < 1.5
    assert (drift[0] == 0).all()
    assert (sigma[0] == 0).all()


def test_blocks_with_halo_give_the_track_of_the_whole() -> None:
    true = np.cumsum(np.vstack([[0, 0], np.random.default_rng(3).normal(0.1, 0.2, (29, 2))]), axis=0)
    frames = np.array([noisy(crystal(*d), 300, i) for i, d in enumerate(true)])
    signal = fourier_signal(frames[::5])
    whole = pair_shifts(frames, signal)
    blocks = [pair_shifts(frames[a : a + 18], signal, first_frame=a, n_own=10) for a in (20, 0, 10)]
    merged = merge_shifts(blocks)
    np.testing.assert_array_equal(merged.first, merge_shifts([whole]).first)
    np.testing.assert_array_equal(merged.second, merge_shifts([whole]).second)
    np.testing.assert_allclose(integrate_shifts(merged, 30)[0], integrate_shifts(whole, 30)[0], atol=1e-6)


def test_frames_that_are_not_valid_take_no_part() -> None:
    true = np.arange(12)[:, None] * np.array([[0.1, 0.3]])
    frames = np.array([noisy(crystal(*d), 300, i) for i, d in enumerate(true)])
    frames[4], frames[5] = np.nan, 0
    valid = np.ones(12, bool)
    valid[4:6] = False
    drift, sigma = drift_track(frames, valid)
    assert np.abs(drift - true)[valid].max() < 0.25
    assert np.isinf(sigma[4:6]).all()
    assert np.isfinite(sigma[valid]).all()
    assert np.isfinite(drift).all()


def table(first: list[int], second: list[int], shift: list[float], sigma: float = 0.1) -> PairShifts:
    values = np.array(shift)
    return PairShifts(
        np.array(first, np.int64), np.array(second, np.int64), np.stack([values, -values], 1), np.full((len(first), 2), sigma)
    )


def test_integration_is_weighted_least_squares() -> None:
    generator = np.random.default_rng(5)
    pairs = [(i, i + lag) for i in range(9) for lag in (1, 2, 4) if i + lag < 9]
    value = np.array([0.3 * (j - i) for i, j in pairs]) + generator.normal(0, 0.01, len(pairs))
    found, _ = integrate_shifts(table([i for i, _ in pairs], [j for _, j in pairs], value.tolist()), 9)
    design = np.array([[(n == j) - (n == i) for n in range(1, 9)] for i, j in pairs], float)
    np.testing.assert_allclose(found[1:, 0], np.linalg.lstsq(design, value, rcond=None)[0], atol=1e-6)
    np.testing.assert_allclose(found[:, 1], -found[:, 0], atol=1e-12)


def test_one_wrong_pair_does_not_bend_the_track() -> None:
    pairs = [(i, i + lag) for i in range(20) for lag in (1, 2, 4, 8) if i + lag < 20]
    value = [0.5 * (j - i) for i, j in pairs]
    value[pairs.index((9, 10))] += 12.3
    found, _ = integrate_shifts(table([i for i, _ in pairs], [j for _, j in pairs], value), 20)
    assert np.abs(found[:, 0] - 0.5 * np.arange(20)).max() < 0.15


def test_a_chain_adds_its_variances() -> None:
    _, sigma = integrate_shifts(table(list(range(10)), list(range(1, 11)), [0.2] * 10), 11)
    np.testing.assert_allclose(sigma[1:, 0] ** 2, 0.01 * np.arange(1, 11) + 0.01, rtol=1e-6)


def test_after_a_break_the_steps_are_right_and_sigma_is_infinite() -> None:
    found, sigma = integrate_shifts(table([0, 1, 4, 5], [1, 2, 5, 6], [1.0, 1.0, 2.0, 2.0]), 7)
    np.testing.assert_allclose(found[:, 0], [0, 1, 2, 2, 2, 4, 6], atol=1e-5)
    assert np.isfinite(sigma[:3]).all()
    assert np.isinf(sigma[3:]).all()


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_no_pairs_at_all(n_frames: int) -> None:
    found, sigma = integrate_shifts(table([], [], []), n_frames)
    assert (found == 0).all()
    assert np.isinf(sigma[1:]).all()


def test_refusals() -> None:
    with pytest.raises(InputError, match="0 <= first < second < 3"):
        integrate_shifts(table([0], [3], [1.0]), 3)
    with pytest.raises(InputError, match="not finite"):
        drift_between(crystal(), np.full((160, 140), np.nan))
    with pytest.raises(InputError, match="t, y, x"):
        pair_shifts(crystal())
    flat = np.zeros((160, 140))
    with pytest.raises(CalibrationError, match="no lattice to align on"):
        drift_between(flat, flat)
