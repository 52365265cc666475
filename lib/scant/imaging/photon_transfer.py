"""Gain, excess noise and read noise of a camera from the movie itself (photon-transfer curve, Janesick 2007, ch. 5).

The variance of differences between neighbouring frames is free of fixed pattern and atoms that stand still. What moves between two
frames adds variance at the spatial frequencies that the microscope transfers; the noise of the camera is a smooth function of frequency.
So the noise power is read where the sample cannot reach (below the first reflection, above the information limit) and interpolated in
between. Its value at frequency zero over the mean is the gain even for a camera whose point spread smooths the noise; its mean over all
frequencies is the variance of a pixel, which is what a likelihood on pixels needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage
from scipy.signal import windows

from scant.errors import CalibrationError, InputError
from scant.imaging.temporal import MAD_TO_SIGMA

_HIT_SIGMA = 6.0
_FREQUENCY_BIN_PER_PX = 0.02
_SMOOTHING_PX = 8.0
_CURVE_BINS = 20
_TAPER = 0.5
_BANDWIDTH = (1 - 5 * _TAPER / 8) / (1 - _TAPER / 2) ** 2
"""Equivalent noise bandwidth of the taper per axis in Fourier bins (Harris 1978): so many neighbours are one independent mode."""
_WHITE_CHI2_PER_BIN = 1.5
_PAIR_CORRELATION = 1.5
"""Neighbouring differences share a frame, so their squares correlate by 1/4: this many pairs count as one."""


@dataclass(frozen=True)
class PhotonTransfer:
    """Noise model of a flat-corrected pixel: variance_e2 = excess_noise_factor * mean_e + read_noise_e**2, at flat gain 1.

    `slope_adu` is the motion-free variance of a pixel over its mean above the offset, read noise removed. `gain_source` is "given" (then
    the excess is measured), or "measured" (then the zero-frequency excess is 1 by assumption, as gain and excess cannot be told apart).
    `noise_shape` (3,) is the shape of the noise's spectrum (`relative_noise_power`), all 0 where it is white. `noise_power` (f,) is the
    radial noise power over mean and gain, in electrons per electron, at `noise_frequency_per_px` (f,);
    `motion_share` the part of the variance of differences that the sample's motion made. `flat_exponent` p tells what the flat is: the
    raw variance over mean goes as flat**p, 1 where the flat is gain, 0 where it is illumination. The curve arrays are for plots;
    `curve_offset_adu` is where their straight line meets zero variance, an independent check of the dark.
    """

    offset_adu: float
    level_adu: float
    slope_adu: float
    slope_sigma_adu: float
    gain_adu_per_electron: float
    gain_sigma_adu_per_electron: float
    gain_source: str
    excess_noise_factor: float
    excess_noise_sigma: float
    zero_frequency_excess: float
    read_noise_adu: float
    read_noise_source: str
    noise_is_white: bool
    noise_shape: np.ndarray
    noise_frequency_per_px: np.ndarray
    noise_power: np.ndarray
    motion_share: float
    hit_share: float
    flat_exponent: float
    flat_exponent_sigma: float
    curve_level_adu: np.ndarray
    curve_variance_adu2: np.ndarray
    curve_offset_adu: float
    curve_offset_sigma_adu: float

    @property
    def mean_e(self) -> float:
        """Electrons per pixel and frame."""
        return self.level_adu / self.gain_adu_per_electron

    @property
    def read_noise_e(self) -> float:
        """Read noise, standard deviation in electrons."""
        return self.read_noise_adu / self.gain_adu_per_electron


@dataclass(frozen=True)
class DoseCheck:
    """Dose that the counts say, against the one that the user gave."""

    dose_e_per_angstrom2: float
    nominal_e_per_angstrom2: float

    @property
    def ratio(self) -> float:
        """Counted over nominal."""
        return self.dose_e_per_angstrom2 / self.nominal_e_per_angstrom2


def dose_check(mean_e: float, pixel_size_angstrom: float, nominal_e_per_angstrom2: float) -> DoseCheck:
    """Dose of a frame from its mean electrons per pixel. A ratio off 1 is a wrong gain, flat normalisation, pixel size or dose."""
    return DoseCheck(mean_e / pixel_size_angstrom**2, nominal_e_per_angstrom2)


def signal_band_per_px(pixel_size_angstrom: float, lattice_angstrom: float, information_limit_per_angstrom: float) -> tuple[float, float]:
    """Spatial frequencies in cycles per pixel where a hexagonal 2D crystal's motion may add variance, with a margin of 20 % and 10 %."""
    first_reflection = 2.0 / (np.sqrt(3.0) * lattice_angstrom)
    return 0.8 * first_reflection * pixel_size_angstrom, 1.1 * information_limit_per_angstrom * pixel_size_angstrom


def relative_noise_power(shape: np.ndarray, n: int) -> np.ndarray:
    """Power (n, n) of a camera's noise at the frequencies np.fft.fftfreq(n), against white noise of the same pixel variance.

    Its logarithm is a quadratic of the squared frequency in cycles per pixel, `shape` its coefficients from the constant up.
    """
    k = np.fft.fftfreq(n)
    power = np.exp(np.polynomial.polynomial.polyval(k[:, None] ** 2 + k**2, shape))
    return np.asarray(power / power.mean())


def photon_transfer(
    frames_adu: np.ndarray,
    dark_adu: np.ndarray | None = None,
    flat_gain: np.ndarray | None = None,
    bad: np.ndarray | None = None,
    gain_adu_per_electron: float | None = None,
    signal_band: tuple[float, float] | None = None,
) -> PhotonTransfer:
    """Photon transfer from consecutive good frames (t, y, x), t >= 3, in raw ADU.

    `dark_adu` (y, x), or (n, y, x) for a measured read noise; None means offset 0. `flat_gain` (y, x) with mean 1. `signal_band` in cycles
    per pixel (`signal_band_per_px`); None looks for the frequencies with more than white noise. X-ray hits are clipped at 6 sigma.

    The errors are statistical; a wrong flat normalisation shows as an excess below 1 of white noise, which no camera has.
    Raises InputError for wrong shapes and a gain that is not positive, CalibrationError when no signal stands above the offset.
    """
    _check(frames_adu, dark_adu, flat_gain, gain_adu_per_electron)
    shape = frames_adu.shape[1:]
    good = np.ones(shape, bool) if bad is None else ~bad
    flat = np.ones(shape, np.float32) if flat_gain is None else flat_gain.astype(np.float32)
    offset, read_variance, read_source = _dark_noise(dark_adu, shape, good)
    good = good & np.isfinite(flat) & (flat > 0) & np.isfinite(offset)
    safe_flat = np.where(good, flat, np.float32(1))
    signal = (frames_adu - np.where(good, offset, 0).astype(np.float32)) / safe_flat
    signal[:, ~good] = 0
    level, mean, differences, kept = _differences(signal, good)
    exponent, exponent_sigma = _flat_exponent(differences, kept, mean, safe_flat)
    smooth = _smooth(mean, good) * safe_flat ** (exponent - 1)
    read_power = read_variance * float(np.mean(1 / safe_flat[good] ** 2)) / level
    frequency, power, sigma = _noise_power(differences / np.sqrt(2 * smooth.clip(1e-6)), kept)
    fit = _fit_noise(frequency, power, sigma, signal_band)
    total = float((differences**2 * kept).sum() / (2 * mean * safe_flat ** (exponent - 1) * kept).sum())
    slope, zero, slope_sigma = fit.pixel - read_power, fit.zero - read_power, fit.sigma
    if slope <= 0 or zero <= 0:
        raise CalibrationError(
            f"the noise of {level:.4g} ADU mean signal is explained by the read noise of {read_variance**0.5:.3g} ADU alone: check the dark"
        )
    gain, gain_sigma = (zero, fit.zero_sigma) if gain_adu_per_electron is None else (gain_adu_per_electron, 0.0)
    curve_level, curve_variance, curve_offset, curve_offset_sigma = _curve(signal, differences, kept, safe_flat ** (exponent - 1))
    return PhotonTransfer(
        offset_adu=float(np.median(offset[good])),
        level_adu=level,
        slope_adu=slope,
        slope_sigma_adu=slope_sigma,
        gain_adu_per_electron=gain,
        gain_sigma_adu_per_electron=gain_sigma,
        gain_source="measured" if gain_adu_per_electron is None else "given",
        excess_noise_factor=slope / gain,
        excess_noise_sigma=slope_sigma / gain,
        zero_frequency_excess=zero / gain,
        read_noise_adu=read_variance**0.5,
        read_noise_source=read_source,
        noise_is_white=fit.white,
        noise_shape=fit.shape,
        noise_frequency_per_px=frequency,
        noise_power=(power - read_power) / gain,
        motion_share=max(0.0, 1 - fit.pixel / total),
        hit_share=float(1 - kept.sum() / (len(kept) * good.sum())),
        flat_exponent=exponent,
        flat_exponent_sigma=exponent_sigma,
        curve_level_adu=curve_level,
        curve_variance_adu2=curve_variance,
        curve_offset_adu=curve_offset,
        curve_offset_sigma_adu=curve_offset_sigma,
    )


def _check(frames: np.ndarray, dark: np.ndarray | None, flat: np.ndarray | None, gain: float | None) -> None:
    if frames.ndim != 3 or len(frames) < 3:
        raise InputError(f"photon transfer needs at least 3 consecutive frames (t, y, x), got shape {frames.shape}")
    for name, image in (("dark", dark), ("flat", flat)):
        if image is not None and image.shape[-2:] != frames.shape[1:]:
            raise InputError(f"{name} is {image.shape[-2:]} pixels, the frames are {frames.shape[1:]}: give the {name} of this camera")
    if gain is not None and not (np.isfinite(gain) and gain > 0):
        raise InputError(f"gain_adu_per_electron is {gain} ADU/e, must be finite and above 0: correct it, or leave it out to measure it")


def _dark_noise(dark: np.ndarray | None, shape: tuple[int, ...], good: np.ndarray) -> tuple[np.ndarray, float, str]:
    """Offset map, read variance in ADU^2 and where that comes from."""
    if dark is None:
        return np.zeros(shape), 0.0, "no dark: taken as 0"
    if dark.ndim == 3 and len(dark) > 1:
        return dark.mean(0), float(np.median(dark.var(0, ddof=1)[good])), "variance over the dark frames"
    offset = dark.reshape(shape).astype(np.float64)
    local = offset - ndimage.median_filter(offset, 5)
    # one dark cannot tell read noise from fixed pattern; its pixel-to-pixel spread is their sum when it is a single exposure
    return offset, float((MAD_TO_SIGMA * np.median(np.abs(local[good]))) ** 2), "pixel-to-pixel spread of one dark (fixed pattern included)"


def _differences(signal: np.ndarray, good: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Mean level, mean image, differences of neighbours scaled to one level, and where they are free of hits and bad pixels."""
    middle = np.median(signal, axis=0)
    spread = np.abs(np.diff(signal[:, good], axis=0))
    limit = _HIT_SIGMA * max(float(MAD_TO_SIGMA * np.median(spread)) / np.sqrt(2), 0.5 * float(spread.std()), 1e-6)
    clean = good & (np.abs(signal - middle) < limit)
    sums = np.array([frame[ok].mean() for frame, ok in zip(signal, clean)])
    level = float(sums.mean())
    if not level > 0:
        raise CalibrationError(f"the frames' mean is {level:.4g} ADU above the dark, must be above 0: is the dark the one of this movie?")
    scaled = signal * (level / sums)[:, None, None].astype(np.float32)
    mean = (scaled * clean).sum(0) / clean.sum(0).clip(1)
    differences = np.diff(scaled, axis=0)
    pairs = clean[1:] & clean[:-1]
    power = float(np.mean(differences[pairs] ** 2)) if pairs.any() else 0.0
    if power == 0:
        raise CalibrationError("neighbouring frames are equal wherever both are good: no noise to measure; is this a movie of raw frames?")
    kept = pairs & (np.abs(differences) < _HIT_SIGMA * np.sqrt(power))
    differences[~kept] = 0
    return level, mean, differences, kept


def _smooth(image: np.ndarray, good: np.ndarray) -> np.ndarray:
    weight = ndimage.gaussian_filter(good.astype(np.float64), _SMOOTHING_PX)
    return ndimage.gaussian_filter(np.where(good, image, 0.0).astype(np.float64), _SMOOTHING_PX) / weight.clip(1e-9)


def _flat_exponent(differences: np.ndarray, kept: np.ndarray, mean: np.ndarray, flat: np.ndarray) -> tuple[float, float]:
    """p of raw variance over raw mean ~ flat**p with its error; 1 (the flat is gain) where the flat is too even to tell."""
    seen = kept.any(0)
    edges = np.quantile(flat[seen], np.linspace(0, 1, _CURVE_BINS + 1))
    if edges[-2] / edges[1] < 1.02:
        return 1.0, np.inf
    bins = np.clip(np.searchsorted(edges, flat, "right") - 1, 0, _CURVE_BINS - 1)
    squares, counts = (differences.astype(np.float64) ** 2).sum(0), kept.sum(0)
    variance = np.bincount(bins[seen], squares[seen], _CURVE_BINS)
    expected = np.bincount(bins[seen], (2 * mean * counts)[seen], _CURVE_BINS)
    number = np.bincount(bins[seen], counts[seen], _CURVE_BINS)
    log_flat = np.bincount(bins[seen], np.log(flat[seen]), _CURVE_BINS) / np.bincount(bins[seen], minlength=_CURVE_BINS).clip(1)
    used = (variance > 0) & (expected > 0)
    # the corrected variance over mean goes as flat**(p - 1)
    line = _weighted_polynomial(log_flat[used], np.log(variance[used] / expected[used]), np.sqrt(2 * _PAIR_CORRELATION / number[used]), 1)
    exponent, sigma = 1 + line[0][1], np.sqrt(line[1][1, 1])
    return (float(exponent), float(sigma)) if sigma < 0.25 else (1.0, np.inf)


def _noise_power(normalised: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radial power of normalised differences: frequency in cycles per pixel, power (variance per pixel if white), standard error."""
    n_pairs, height, width = normalised.shape
    power = np.zeros((height, width // 2 + 1))
    # tapered, because a crystal cut off at the border would spread its motion over all frequencies
    window = np.outer(windows.tukey(height, _TAPER), windows.tukey(width, _TAPER)).astype(np.float32)
    for difference, ok in zip(normalised, kept):
        power += np.abs(fft.rfft2(difference * window)) ** 2 / max(float((window**2 * ok).sum()), 1.0)
    power /= n_pairs
    radius = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None, :])
    bins = (radius / _FREQUENCY_BIN_PER_PX).astype(int)
    # the first bin holds what flicker and the level's scaling do
    modes = np.bincount(bins.ravel())
    mean = np.bincount(bins.ravel(), power.ravel()) / modes.clip(1)
    frequency = np.bincount(bins.ravel(), radius.ravel()) / modes.clip(1)
    sigma = mean * _BANDWIDTH * np.sqrt(_PAIR_CORRELATION / (modes.clip(1) * n_pairs))
    used = (modes > 0) & (np.arange(modes.size) > 0)
    return frequency[used], mean[used], sigma[used]


@dataclass(frozen=True)
class _NoiseFit:
    pixel: float
    sigma: float
    zero: float
    zero_sigma: float
    white: bool
    shape: np.ndarray


def _fit_noise(frequency: np.ndarray, power: np.ndarray, sigma: np.ndarray, band: tuple[float, float] | None) -> _NoiseFit:
    """Constant noise power where it fits outside the signal band, otherwise a quadratic of frequency^2 in its logarithm."""
    outside = _without_excess(power, sigma) if band is None else (frequency < band[0]) | (frequency > band[1])
    if not outside.any():
        raise CalibrationError(f"no spatial frequency lies outside the signal band {band} cycles/px: the field is too small for it")
    weight = 1 / sigma[outside] ** 2
    constant = float((power[outside] * weight).sum() / weight.sum())
    error = float(weight.sum() ** -0.5)
    chi2 = float(((power[outside] - constant) ** 2 * weight).sum())
    n = int(outside.sum())
    if n < 6 or chi2 / (n - 1) < _WHITE_CHI2_PER_BIN:
        return _NoiseFit(constant, error, constant, error, True, np.zeros(3))
    x = frequency**2
    coefficients, covariance = _weighted_polynomial(x[outside], np.log(power[outside]), (sigma / power)[outside], 2)
    modelled = np.exp(np.polynomial.polynomial.polyval(np.clip(x, 0, x[outside].max()), coefficients))
    modes = (power / sigma) ** 2
    pixel = float((modelled * modes).sum() / modes.sum())
    zero = float(np.exp(coefficients[0]))
    shape = coefficients - [np.log(pixel), 0, 0]
    return _NoiseFit(pixel, pixel * error / constant, zero, zero * float(np.sqrt(covariance[0, 0])), False, shape)


def _without_excess(power: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Bins that a constant power explains, or all where fewer than half do: motion only ever adds power, and to some bins only."""
    level = float(np.median(power))
    for _ in range(10):
        used = power < level + 3 * sigma
        level = float((power[used] / sigma[used] ** 2).sum() / (1 / sigma[used] ** 2).sum())
    return used if used.mean() > 0.5 and (power > level - 4 * sigma).all() else np.ones(power.size, bool)


def _weighted_polynomial(x: np.ndarray, y: np.ndarray, sigma: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients from the constant up, and their covariance."""
    design = np.vander(x, degree + 1, increasing=True) / sigma[:, None]
    covariance = np.linalg.inv(design.T @ design)
    return covariance @ (design.T @ (y / sigma)), covariance


def _curve(signal: np.ndarray, differences: np.ndarray, kept: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Variance against mean in bins, and where their line meets zero variance.

    Bins come from the first half of the frames and values from the second, so that noise cannot sort itself into the bins.
    """
    half = len(signal) // 2
    later = kept[half:]
    seen = later.any(0)
    edges = np.quantile(signal[:half].mean(0)[seen], np.linspace(0, 1, _CURVE_BINS + 1))
    bins = np.clip(np.searchsorted(edges, signal[:half].mean(0)[seen], "right") - 1, 0, _CURVE_BINS - 1)
    counts = np.bincount(bins, later.sum(0)[seen], _CURVE_BINS).clip(1)
    mid = 0.5 * (signal[half:-1] + signal[half + 1 :])
    level = np.bincount(bins, (mid * later).sum(0)[seen], _CURVE_BINS) / counts
    variance = np.bincount(bins, (differences[half:].astype(np.float64) ** 2 / shape).sum(0)[seen] / 2, _CURVE_BINS) / counts
    used = variance > 0
    if used.sum() < 3 or np.ptp(level[used]) <= 0:
        return level, variance, np.nan, np.inf
    (intercept, slope), covariance = _weighted_polynomial(
        level[used], variance[used], (variance * np.sqrt(2 * _PAIR_CORRELATION / counts))[used], 1
    )
    gradient = np.array([-1 / slope, intercept / slope**2])
    return level, variance, float(-intercept / slope), float(np.sqrt(gradient @ covariance @ gradient))
