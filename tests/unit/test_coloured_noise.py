"""Noise that a camera smooths: BM3D under its spectrum, and errors of localised atoms that are for the noise at the reflections."""

from __future__ import annotations

import numpy as np
import pytest
from honeycomb_images import draw, honeycomb
from scant.errors import InputError
from scant.imaging.binning import band_limited
from scant.imaging.calibration import References, calibrate
from scant.imaging.correction import counts_and_weights
from scant.imaging.denoise import bm3d
from scant.imaging.denoise.bm3d_kernels import biorthogonal_matrix, dct_matrix
from scant.imaging.denoise.coarser import _low_frequencies
from scant.imaging.denoise.coloured import coefficient_variances, stronger_filters

BLUR_PX = 0.6


def spectrum(n: int, blur_px: float = BLUR_PX) -> np.ndarray:
    """Relative power of white noise seen through a Gaussian point spread."""
    k = np.fft.fftfreq(n)
    power = np.exp(-4 * (np.pi * blur_px) ** 2 * (k[:, None] ** 2 + k**2))
    return power / power.mean()


def coloured(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Noise of sd 1 per pixel."""
    side = max(shape)
    white = np.random.default_rng(seed).normal(size=(side, side))
    return np.fft.ifft2(np.fft.fft2(white) * np.sqrt(spectrum(side))).real[: shape[0], : shape[1]]


@pytest.mark.parametrize("matrix", [dct_matrix(), biorthogonal_matrix()], ids=["dct", "bior1.5"])
def test_variances_are_those_of_transformed_patches(matrix: np.ndarray) -> None:
    np.testing.assert_allclose(coefficient_variances(matrix, np.ones((32, 32))), 1, atol=1e-12)
    noise = coloured((800, 800), 1).reshape(100, 8, 100, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    measured = (matrix @ noise @ matrix.T).var(axis=0)
    np.testing.assert_allclose(measured, coefficient_variances(matrix, spectrum(32)), rtol=0.08, atol=0.02)


def test_coarser_pixels_know_the_low_frequencies() -> None:
    """Noise smoothed by the camera, on pixels twice as coarse: the spectrum's own middle, as measured on it."""
    coarse, _ = band_limited(coloured((1024, 1024), 3), np.ones((1024, 1024), dtype=bool), 2)
    patches = (2 * coarse).reshape(64, 8, 64, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    measured = (dct_matrix() @ patches @ dct_matrix().T).var(axis=0)
    np.testing.assert_allclose(measured, coefficient_variances(dct_matrix(), _low_frequencies(spectrum(64), 2)), rtol=0.1, atol=0.02)


def test_bm3d_takes_out_what_white_noise_would_have_left() -> None:
    y, x = np.mgrid[:128, :160]
    clean = 10 + 3 * np.sin(x / 4.0) * np.cos(y / 5.0) + 4 * (x + y > 140)
    noisy = clean + coloured(clean.shape, 2)
    known, taken_for_white = (np.std(bm3d(noisy, 1.0, spectrum=s) - clean) for s in (spectrum(32), None))
    assert known < 0.75 * taken_for_white
    np.testing.assert_array_equal(bm3d(noisy, 1.0, spectrum=np.ones((16, 16))), bm3d(noisy, 1.0))
    assert stronger_filters(None) == (1.0, 1.0)


@pytest.mark.parametrize("wrong", [np.ones((8, 8)), np.ones(32), np.zeros((32, 32)), np.full((32, 32), np.nan)])
def test_a_spectrum_that_is_none_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="a noise spectrum is a square"):
        bm3d(np.ones((60, 60)) + coloured((60, 60), 3), 1.0, spectrum=wrong)


def test_weights_of_the_likelihood_are_for_the_noise_at_the_reflections() -> None:
    """The lattice's place in each frame by least squares: its scatter is what the weights say, through calibration and correction."""
    shape, pixel, mean_e, gain, n_frames = (128, 128), 0.2, 320.0, 6.0, 60
    image = draw(honeycomb(shape, pixel, rotation=0.2), shape, pixel)
    rng = np.random.default_rng(5)
    blur = np.sqrt(np.exp(-4 * (np.pi * BLUR_PX) ** 2 * sum(k**2 for k in np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))))
    raw = np.stack([gain * np.fft.ifft2(np.fft.fft2(rng.poisson(mean_e * image)) * blur).real + 100 for _ in range(n_frames)])
    known = References(np.full(shape, 100.0, np.float32), None, gain, pixel, None, 2.46)
    detector = calibrate(raw[:24].astype(np.float32), raw[:24].astype(np.float32), known, 2, 50.0).detector
    assert detector.noise_spectrum is not None
    seen = mean_e * np.fft.ifft2(np.fft.fft2(image) * blur).real
    slopes = [slope[8:-8, 8:-8] for slope in np.gradient(seen)]
    places, claimed = [], []
    for frame in raw:
        counts, weights = (part[8:-8, 8:-8] for part in counts_and_weights(frame, detector, 50.0))
        information = [float((weights * slope**2).sum()) for slope in slopes]
        residual = counts - seen[8:-8, 8:-8]
        places.append([float((weights * slope * residual).sum()) / each for slope, each in zip(slopes, information)])
        claimed.append(np.array(information) ** -0.5)
    scatter = np.std(places, axis=0).mean() / np.mean(claimed)
    assert 0.85 < scatter < 1.15
    assert scatter * detector.signal_noise**0.5 > 1.3, "as for white noise of that variance, the errors would be far too small"
