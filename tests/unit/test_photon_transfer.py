import numpy as np
import pytest
from scant.errors import CalibrationError, InputError
from scant.imaging.photon_transfer import dose_check, photon_transfer, relative_noise_power, signal_band_per_px
from scipy import fft

SHAPE = (192, 160)


def lattice(shift_px: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 1 + 0.25 * np.cos(2 * np.pi * 0.095 * (x - shift_px)) * np.cos(2 * np.pi * 0.08 * y)


def movie(gain: float, read_adu: float, excess: float, mean_e: float = 90.0, n_frames: int = 16, moving: float = 0.0) -> np.ndarray:
    """Electrons with a gamma-distributed charge (variance `excess` - 1 per electron), gain, offset 50 ADU, read noise."""
    generator = np.random.default_rng(17)
    frames = []
    for _ in range(n_frames):
        electrons = generator.poisson(mean_e * lattice(moving * generator.normal()))
        shape = electrons / (excess - 1) if excess > 1 else electrons
        charge = generator.gamma(np.maximum(shape, 1e-9), excess - 1) if excess > 1 else electrons
        frames.append(50 + gain * charge + generator.normal(0, read_adu, SHAPE))
    return np.array(frames)


def darks(read_adu: float, n: int = 12) -> np.ndarray:
    return 50 + np.random.default_rng(4).normal(0, read_adu, (n, *SHAPE))


@pytest.mark.parametrize(("gain", "read_adu", "excess"), [(6.0, 3.0, 1.0), (2.5, 8.0, 1.5), (0.7, 1.0, 2.0), (30.0, 60.0, 1.2)])
def test_gain_excess_and_read_noise_within_three_percent(gain: float, read_adu: float, excess: float) -> None:
    frames = movie(gain, read_adu, excess)
    given = photon_transfer(frames, darks(read_adu), gain_adu_per_electron=gain)
    assert given.excess_noise_factor == pytest.approx(excess, rel=0.03)
    assert abs(given.excess_noise_factor - excess) < 5 * given.excess_noise_sigma
    assert given.read_noise_adu == pytest.approx(read_adu, rel=0.03)
    assert given.offset_adu == pytest.approx(50, abs=read_adu * 0.1)
    assert given.mean_e == pytest.approx(90, rel=0.01)
    assert given.noise_is_white
    measured = photon_transfer(frames, darks(read_adu))
    assert measured.gain_adu_per_electron == pytest.approx(gain * excess, rel=0.03)
    assert measured.excess_noise_factor == pytest.approx(1.0)
    assert (given.gain_source, measured.gain_source) == ("given", "measured")


def test_motion_is_left_out() -> None:
    """Atoms that shake by 3 px rms add 30 % of variance, at their own spatial frequencies."""
    frames = movie(6.0, 3.0, 1.0, n_frames=24, mean_e=400, moving=3.0)
    naive = float(np.mean(np.diff(frames, axis=0) ** 2) / 2 / (frames.mean() - 50))
    assert naive > 6 * 1.2
    found = photon_transfer(frames, darks(3.0), signal_band=(0.06, 0.2))
    assert found.gain_adu_per_electron == pytest.approx(6.0, rel=0.03)
    assert found.motion_share == pytest.approx(1 - 6.0 / naive, abs=0.05)
    assert photon_transfer(frames, darks(3.0)).gain_adu_per_electron == pytest.approx(6.0, rel=0.05)


def test_hits_bad_pixels_and_flicker_do_not_count() -> None:
    frames = movie(6.0, 3.0, 1.0)
    generator = np.random.default_rng(1)
    frames = 50 + (frames - 50) * np.linspace(0.97, 1.03, 16)[:, None, None]
    for frame in frames:
        frame[generator.integers(0, SHAPE[0], 5), generator.integers(0, SHAPE[1], 5)] += generator.exponential(8000, 5)
    bad = np.zeros(SHAPE, bool)
    bad[3, 4] = True
    frames[::2, 3, 4] = 60000
    found = photon_transfer(frames, darks(3.0), bad=bad)
    assert found.gain_adu_per_electron == pytest.approx(6.0, rel=0.03)
    assert found.hit_share == pytest.approx(2 * 5 / (SHAPE[0] * SHAPE[1]), rel=0.3)


def test_smoothed_noise_gives_gain_at_frequency_zero_and_excess_per_pixel() -> None:
    generator = np.random.default_rng(9)
    frequency = np.hypot(fft.fftfreq(SHAPE[0])[:, None], fft.rfftfreq(SHAPE[1])[None, :])
    transfer = np.exp(-((frequency / 0.5) ** 2))
    frames = [50 + fft.irfft2(fft.rfft2(6.0 * generator.poisson(200 * lattice())) * transfer, SHAPE) for _ in range(24)]
    whole = np.fft.fftfreq(SHAPE[0])[:, None] ** 2 + np.fft.fftfreq(SHAPE[1])[None, :] ** 2
    per_pixel = float(np.mean(np.exp(-2 * whole / 0.25)))
    found = photon_transfer(np.array(frames), np.full(SHAPE, 50.0), signal_band=(0.08, 0.14))
    assert not found.noise_is_white
    assert found.gain_adu_per_electron == pytest.approx(6.0, rel=0.05)
    assert found.excess_noise_factor == pytest.approx(per_pixel, rel=0.05)
    k = np.fft.fftfreq(32)
    true = np.exp(-2 * (k[:, None] ** 2 + k**2) / 0.25)
    power = relative_noise_power(found.noise_shape, 32)
    assert power.mean() == pytest.approx(1)
    np.testing.assert_allclose(power, true / true.mean(), rtol=0.08, atol=0.02)


@pytest.mark.parametrize("flat_is_gain", [True, False])
def test_flat_exponent_tells_gain_from_illumination(flat_is_gain: bool) -> None:
    generator = np.random.default_rng(3)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flat = 1 + 0.4 * np.sin(x / 40.0) * np.cos(y / 50.0)
    flat /= flat.mean()
    electrons = generator.poisson(200 if flat_is_gain else 200 * flat, (16, *SHAPE))
    found = photon_transfer(50 + 6.0 * (flat if flat_is_gain else 1) * electrons, np.full(SHAPE, 50.0), flat)
    assert found.flat_exponent == pytest.approx(float(flat_is_gain), abs=5 * found.flat_exponent_sigma)
    assert found.flat_exponent_sigma < 0.05
    assert found.gain_adu_per_electron == pytest.approx(6.0, rel=0.03)


def test_curve_meets_zero_at_the_offset() -> None:
    generator = np.random.default_rng(3)
    steps = np.repeat([50.0, 100.0, 200.0, 400.0], SHAPE[1] // 4)
    found = photon_transfer(20.0 + 6.0 * generator.poisson(np.broadcast_to(steps, (16, *SHAPE))))
    assert found.curve_offset_adu == pytest.approx(20.0, abs=4 * found.curve_offset_sigma_adu)
    assert found.curve_offset_sigma_adu < 10


def test_dose_check_and_band() -> None:
    assert dose_check(320.0, 0.2, 8000.0).ratio == pytest.approx(1.0)
    assert dose_check(300.0, 0.2, 8000.0).dose_e_per_angstrom2 == pytest.approx(7500.0)
    low, high = signal_band_per_px(0.2, 2.46, 1.2)
    assert 0 < low < 0.2 * 2 / (np.sqrt(3) * 2.46) < 0.2 * 1.2 < high


def test_refusals() -> None:
    frames = movie(6.0, 3.0, 1.0, n_frames=4)
    with pytest.raises(InputError, match="at least 3"):
        photon_transfer(frames[:2])
    for gain in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="gain_adu_per_electron"):
            photon_transfer(frames, gain_adu_per_electron=gain)
    with pytest.raises(InputError, match="dark is"):
        photon_transfer(frames, np.zeros((4, 4)))
    with pytest.raises(CalibrationError, match="above the dark"):
        photon_transfer(frames, np.full(SHAPE, 9000.0))


def test_frames_without_noise_are_refused() -> None:
    """A stack that repeats one frame, or was averaged into equal ones, has no noise to measure."""
    with pytest.raises(CalibrationError, match="neighbouring frames are equal"):
        photon_transfer(np.repeat(movie(6.0, 3.0, 1.0, n_frames=1), 5, axis=0))
