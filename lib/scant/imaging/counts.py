"""From raw ADU to electrons: dark, flat, bad pixels, X-ray hits, with a mask of the pixels that carry information.

Inpainted values are for pictures and detection; a likelihood must leave out every pixel where the weight mask is False.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.polynomial import legendre

from scant.errors import InputError
from scant.imaging.correction_gpu import electrons_on_device, fill_on_device, hits_on_device
from scant.imaging.hits import find_hits, inpaint
from scant.imaging.photon_transfer import relative_noise_power
from scant.imaging.temporal import MAD_TO_SIGMA
from scant.xp import on_device

# Enough for patches of 8 pixels that are eight times coarser.
SPECTRUM_SIDE = 128
LOWEST_FLAT_GAIN, HIGHEST_FLAT_GAIN = 0.2, 5.0
_FIT_BLOCK_PX = 8
_BACKGROUND_BLOCK_PX = 16


@dataclass(frozen=True)
class Detector:
    """All that the correction of a frame needs, images (y, x).

    `dark_adu` float32; `flat_gain` float32, mean 1 over good pixels; `bad` bool. Noise of a corrected pixel:
    variance_e2 = excess_noise * mean_e + read_noise_e**2, its spectrum `noise_shape` (`photon_transfer.relative_noise_power`), all 0 for
    white noise. `signal_noise` is its power at the lattice's first reflections against white noise: by so much a likelihood that takes
    pixels for independent must raise their variance. Build it with `make_detector`, which checks and completes the mask.
    """

    dark_adu: np.ndarray
    flat_gain: np.ndarray
    bad: np.ndarray
    gain_adu_per_electron: float
    read_noise_e: float = 0.0
    excess_noise: float = 1.0
    noise_shape: np.ndarray = field(default_factory=lambda: np.zeros(3))
    signal_noise: float = 1.0

    @property
    def noise_spectrum(self) -> np.ndarray | None:
        """Relative noise power (128, 128) at the frequencies np.fft.fftfreq(128); None where the noise is white."""
        return relative_noise_power(self.noise_shape, SPECTRUM_SIDE) if np.any(self.noise_shape) else None

    def on(self, xp: Any) -> Detector:
        """The same with its images as arrays of the module `xp`."""
        return replace(self, dark_adu=xp.asarray(self.dark_adu), flat_gain=xp.asarray(self.flat_gain), bad=xp.asarray(self.bad))


@dataclass(frozen=True)
class CorrectedFrame:
    """`image_e` (y, x) float32 electrons per pixel, inpainted where `weight_mask` (y, x) bool is False (bad, not finite, or hit)."""

    image_e: np.ndarray
    weight_mask: np.ndarray
    n_hits: int


@dataclass(frozen=True)
class VarianceCut:
    """Share of a frame's relative variance (variance over squared mean, no unit) that the correction removes.

    `total`: all pixels of the frame, raw against corrected; it holds dead and hot pixels and hits. `good_pixels`: only pixels that count in
    both, so what dark and flat do, against a floor of shot noise and lattice contrast that no correction may touch. `background`: means
    over blocks larger than the lattice, so the uneven illumination and gain alone.
    """

    total: float
    good_pixels: float
    background: float


def flat_gain(flat_adu: np.ndarray, dark_adu: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain of each pixel relative to the mean of the good ones, (y, x) float32, and `bad` grown by the pixels it cannot correct.

    `flat_adu` is raw (dark included). Pixels with a gain that is not finite, <= 0.2 or > 5 become bad; bad pixels get gain 1.
    Raises InputError for different shapes, and when the flat is not above the dark anywhere.
    """
    _check_shapes(bad.shape, dark=dark_adu, flat=flat_adu)
    signal = flat_adu.astype(np.float64) - dark_adu
    usable = ~bad & np.isfinite(signal)
    if not usable.any() or not np.any(signal[usable] > 0):
        raise InputError(
            f"the flat (median {_median(flat_adu):.5g} ADU) is nowhere above the dark (median {_median(dark_adu):.5g} ADU): "
            "the flat must be raw counts with beam, the dark without; check that they are not exchanged or already subtracted"
        )
    usable &= signal > 0
    return _normalised(np.where(usable, signal, np.nan), bad)


def polynomial_flat(median_adu: np.ndarray, dark_adu: np.ndarray, bad: np.ndarray, degree: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Stand-in for a missing flat: a 2D Legendre polynomial of total degree `degree` through the movie's temporal median minus dark.

    Fitted to medians of 8 x 8 pixel blocks with Tukey's biweight, so that atoms average out and holes or contamination weigh little.
    Returns and raises like `flat_gain`. It knows the illumination envelope only: pixel-to-pixel gain stays in the images.
    """
    _check_shapes(bad.shape, dark=dark_adu, median=median_adu)
    signal = np.where(bad, np.nan, median_adu.astype(np.float64) - dark_adu)
    if not np.any(signal > 0):
        raise InputError(
            f"the movie (median {_median(median_adu):.5g} ADU) is nowhere above the dark (median {_median(dark_adu):.5g} ADU): "
            "is the dark the one of this movie?"
        )
    y, x, value = _block_medians(signal)
    design = _legendre_terms(y, x, degree)
    weight = np.ones(value.size)
    for _ in range(10):
        root = np.sqrt(weight)
        coefficients = np.linalg.lstsq(design * root[:, None], value * root, rcond=None)[0]
        residual = value - design @ coefficients
        scale = max(4.685 * MAD_TO_SIGMA * float(np.median(np.abs(residual))), 1e-9 * float(np.abs(value).max()))
        weight = np.clip(1 - (residual / scale) ** 2, 0, None) ** 2
    height, width = bad.shape
    grid_y, grid_x = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    table = np.zeros((degree + 1, degree + 1))
    table[_degrees(degree)] = coefficients
    fitted = legendre.leggrid2d(grid_y, grid_x, table)
    return _normalised(np.where(fitted > 0, fitted, np.nan), bad)


def make_detector(
    dark_adu: np.ndarray | None,
    flat: np.ndarray | None,
    bad: np.ndarray,
    gain_adu_per_electron: float,
    read_noise_e: float = 0.0,
    excess_noise: float = 1.0,
    noise_shape: np.ndarray | None = None,
) -> Detector:
    """A checked Detector; `flat` (y, x) is relative gain (from `flat_gain` or `polynomial_flat`), None means even, as no dark means 0.

    Raises InputError for shapes that differ from `bad`, images without one finite pixel, and numbers out of range.
    """
    dark = np.zeros(bad.shape) if dark_adu is None else dark_adu
    gain = np.ones(bad.shape) if flat is None else flat
    _check_shapes(bad.shape, dark=dark, flat=gain)
    for name, image in (("dark", dark), ("flat", gain)):
        if not np.isfinite(image).any():
            raise InputError(f"the {name} has no finite pixel: record it again, or leave it out")
    for name, value, unit, lowest in (
        ("gain_adu_per_electron", gain_adu_per_electron, "ADU/e", 0.0),
        ("excess_noise", excess_noise, "", 0.0),
        ("read_noise_e", read_noise_e, "e", -np.finfo(float).tiny),
    ):
        if not (np.isfinite(value) and value > lowest):
            raise InputError(f"{name} is {value} {unit}, must be finite and above 0: correct it, or leave it out so that it is measured")
    unusable = ~np.isfinite(dark) | ~(gain > LOWEST_FLAT_GAIN) | ~(gain <= HIGHEST_FLAT_GAIN)
    mask = bad | unusable
    if mask.all():
        raise InputError(f"all {mask.size} pixels are bad: check dark and flat against the movie")
    clean_dark, clean_flat = np.where(mask, 0, dark).astype(np.float32), np.where(mask, 1, gain).astype(np.float32)
    shape = np.zeros(3) if noise_shape is None else noise_shape
    return Detector(clean_dark, clean_flat, mask, float(gain_adu_per_electron), float(read_noise_e), float(excess_noise), shape)


def correct_frame(raw_adu: np.ndarray, detector: Detector, hit_threshold_sigma: float = 6.0) -> CorrectedFrame:
    """(raw - dark) / (gain * flat) of one frame (y, x) in electrons, with bad pixels and X-ray hits masked and inpainted.

    Hits as in `hits.find_hits`; inpainting is a Gaussian mean of good neighbours. A frame of a device is corrected there, by a detector
    that is there too (`Detector.on`).
    Raises InputError for a frame of another shape.
    """
    _check_shapes(detector.bad.shape, frame=raw_adu)
    on_cpu, there = (_electrons, inpaint, find_hits), (electrons_on_device, fill_on_device, hits_on_device)
    electrons, fill, find = there if on_device(raw_adu) else on_cpu
    image, mask = electrons(raw_adu, detector.dark_adu, detector.flat_gain, detector.bad, np.float32(detector.gain_adu_per_electron))
    fill(image, ~mask, mask)
    hits = find(image, mask, detector.excess_noise, detector.read_noise_e, hit_threshold_sigma)
    n_hits = int(np.count_nonzero(hits))
    if n_hits:
        mask &= ~hits
        fill(image, hits, mask)
    return CorrectedFrame(image, mask, n_hits)


def variance_cut(raw_adu: np.ndarray, corrected: CorrectedFrame, offset_adu: float) -> VarianceCut:
    """What the correction did to the relative variance of one frame; `offset_adu` is the raw frame's mean dark level."""
    before = _relative_variances(raw_adu, float(offset_adu), corrected.weight_mask, _BACKGROUND_BLOCK_PX)
    after = _relative_variances(corrected.image_e, 0.0, corrected.weight_mask, _BACKGROUND_BLOCK_PX)
    return VarianceCut(*(1 - after / before))


@njit(cache=True)
def _relative_variances(image, offset, kept, block):
    """Variance over squared mean of all pixels, of the kept ones, and of the kept ones' means over blocks that have any."""
    height, width = image.shape
    moments = np.zeros((3, 3))
    totals, counts = np.zeros((-(-height // block), -(-width // block))), np.zeros((-(-height // block), -(-width // block)))
    for y in range(height):
        for x in range(width):
            value = float(image[y, x]) - offset
            _count(moments, 0, value)
            if kept[y, x]:
                _count(moments, 1, value)
                totals[y // block, x // block] += value
                counts[y // block, x // block] += 1
    for y in range(totals.shape[0]):
        for x in range(totals.shape[1]):
            if counts[y, x] > 0:
                _count(moments, 2, totals[y, x] / counts[y, x])
    out = np.empty(3)
    for k in range(3):
        mean = moments[k, 1] / moments[k, 0]
        out[k] = (moments[k, 2] / moments[k, 0] - mean**2) / mean**2
    return out


@njit(cache=True)
def _count(moments, k, value):
    moments[k, 0] += 1
    moments[k, 1] += value
    moments[k, 2] += value * value


def _check_shapes(shape: tuple[int, ...], **images: np.ndarray) -> None:
    for name, image in images.items():
        if image.shape != shape:
            raise InputError(f"{name} is {image.shape} pixels, the detector {shape}: give the {name} of this camera, binning and crop")


def _median(image: np.ndarray) -> float:
    finite = image[np.isfinite(image)]
    return float(np.median(finite)) if finite.size else np.nan


def _normalised(signal: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean 1 over pixels that stay good; the others 1, and the grown mask."""
    centre = np.nanmedian(signal[~bad])
    grown = bad | ~np.isfinite(signal)
    grown = grown | ~(signal > LOWEST_FLAT_GAIN * centre) | ~(signal <= HIGHEST_FLAT_GAIN * centre)
    return np.where(grown, 1.0, signal / signal[~grown].mean()).astype(np.float32), grown


def _block_medians(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres in [-1, 1] and medians of the blocks that have a finite pixel."""
    height, width = signal.shape
    rows = []
    for y in range(0, height, _FIT_BLOCK_PX):
        for x in range(0, width, _FIT_BLOCK_PX):
            block = signal[y : y + _FIT_BLOCK_PX, x : x + _FIT_BLOCK_PX]
            finite = block[np.isfinite(block)]
            if finite.size:
                rows.append((y + (block.shape[0] - 1) / 2, x + (block.shape[1] - 1) / 2, np.median(finite)))
    y_px, x_px, value = np.array(rows).T
    return 2 * y_px / max(height - 1, 1) - 1, 2 * x_px / max(width - 1, 1) - 1, value


def _degrees(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column degrees of the terms, total degree at most `degree`."""
    i, j = np.meshgrid(np.arange(degree + 1), np.arange(degree + 1), indexing="ij")
    kept = i + j <= degree
    return i[kept], j[kept]


def _legendre_terms(y: np.ndarray, x: np.ndarray, degree: int) -> np.ndarray:
    i, j = _degrees(degree)
    return legendre.legvander(y, degree)[:, i] * legendre.legvander(x, degree)[:, j]


@njit(cache=True, error_model="numpy")
def _electrons(raw, dark, flat, bad, gain):
    """Electrons, and which pixels are usable; float32 before the subtraction, so unsigned integers cannot wrap around."""
    image, mask = np.empty(raw.shape, np.float32), np.empty(raw.shape, np.bool_)
    for y in range(raw.shape[0]):
        for x in range(raw.shape[1]):
            image[y, x] = (np.float32(raw[y, x]) - dark[y, x]) / (gain * flat[y, x])
        for x in range(raw.shape[1]):
            mask[y, x] = (not bad[y, x]) & (abs(image[y, x]) < np.float32(np.inf))
    return image, mask
