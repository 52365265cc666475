"""Bad pixels of a camera from dark, flat and the movie's own median and MAD over time.

Each test compares a pixel with a smooth reference: medians over blocks, medians of those over a wider neighbourhood, interpolated. So a
dead cluster or a stuck column cannot poison its own reference, and the illumination envelope does not count as a defect. The movie's
median has atoms in it: it only decides where dark and flat are silent, and with a wide margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scant.errors import InputError
from scant.imaging.temporal import MAD_TO_SIGMA

DEAD, HOT, NOISY, STUCK, GAIN, LINE = 1, 2, 4, 8, 16, 32
KINDS = {"dead": DEAD, "hot": HOT, "noisy": NOISY, "stuck": STUCK, "gain": GAIN, "line": LINE}

_BLOCK_PX = 16
_WIDE_BLOCKS = 5
_GAIN_MARGIN = 0.2
_MEDIAN_MARGIN = 0.5
_NOISE_RATIO = 2.5
_QUANTISED_ADU = 2.0
_LINE_SHARE = 0.5
_SURROUNDED = 6


@dataclass(frozen=True)
class BadPixels:
    """`mask` (y, x) bool, True where bad; `kind` (y, x) uint8, a sum of the codes in KINDS (a pixel may have several faults)."""

    mask: np.ndarray
    kind: np.ndarray

    def where(self, name: str) -> np.ndarray:
        """(y, x) bool: pixels with the fault `name`, a key of KINDS."""
        return (self.kind & KINDS[name]) > 0

    @property
    def counts(self) -> dict[str, int]:
        """Pixels per fault, and `total`."""
        return {name: int(self.where(name).sum()) for name in KINDS} | {"total": int(self.mask.sum())}

    @property
    def n_clusters(self) -> int:
        """Groups of two or more bad pixels that touch, diagonals included."""
        labels, _ = ndimage.label(self.mask, np.ones((3, 3), int))
        return int((np.bincount(labels.ravel())[1:] > 1).sum())


def bad_pixel_map(
    median_adu: np.ndarray,
    mad_adu: np.ndarray,
    dark_adu: np.ndarray | None = None,
    flat_adu: np.ndarray | None = None,
    threshold_sigma: float = 6.0,
) -> BadPixels:
    """Bad pixels, all arrays (y, x) in ADU; dark and flat (raw counts, dark included) may be missing.

    - "gain": flat - dark off the smooth reference by more than `threshold_sigma` robust standard deviations and 20 %; "dead" below 20 %.
    - "hot": dark above its reference by more than that number of standard deviations (1 ADU at least).
    - "dead" or "hot" from the movie's median: off by the threshold, by 50 % (so that atoms pass) and 2 ADU.
    - "noisy", "stuck": MAD over sqrt(level) more than 2.5 times too large or small, and beyond the threshold in its logarithm, whose spread
      shrinks with the number of frames by itself. Left out when the typical MAD is below 2 ADU: there, quantisation decides it.
    - "line": rows and columns with more than half of the pixels bad, all of them; and pixels with six of eight neighbours bad.

    Raises InputError for arrays of different shapes.
    """
    shape = median_adu.shape
    for name, image in (("mad", mad_adu), ("dark", dark_adu), ("flat", flat_adu)):
        if image is not None and image.shape != shape:
            raise InputError(f"{name} is {image.shape} pixels, the movie is {shape}: give the {name} of this camera and binning")
    offset = np.zeros(shape) if dark_adu is None else dark_adu.astype(np.float64)
    kind = np.zeros(shape, np.uint8)
    for image in (median_adu, mad_adu, dark_adu, flat_adu):
        if image is not None:
            kind[~np.isfinite(image)] |= DEAD
    if dark_adu is not None:
        kind |= _dark_faults(offset, threshold_sigma)
    # a hot pixel's dark is no offset: subtracting it would hide what flat and movie say
    offset = np.where(kind > 0, smooth_reference(offset, kind > 0), offset)
    if flat_adu is not None:
        kind |= _flat_faults(flat_adu - offset, kind > 0, threshold_sigma)
    signal = median_adu - offset
    kind |= _median_faults(signal, kind > 0, threshold_sigma)
    kind |= _noise_faults(mad_adu, signal, kind > 0, threshold_sigma)
    kind |= _line_faults(kind > 0)
    return BadPixels(kind > 0, kind)


def smooth_reference(image: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """What a pixel's surroundings say, (y, x) float64: block medians over good pixels, medians of those, bilinear in between."""
    height, width = image.shape
    rows, columns = -(-height // _BLOCK_PX), -(-width // _BLOCK_PX)
    padded = np.full((rows * _BLOCK_PX, columns * _BLOCK_PX), np.nan)
    padded[:height, :width] = np.where(bad | ~np.isfinite(image), np.nan, image)
    blocks = padded.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).swapaxes(1, 2).reshape(rows, columns, -1)
    coarse = _nan_median(blocks)
    wide = ndimage.generic_filter(coarse, _median_of_finite, _WIDE_BLOCKS, mode="nearest")
    wide[~np.isfinite(wide)] = _median_of_finite(coarse.ravel())
    y = (np.arange(height) + 0.5) / _BLOCK_PX - 0.5
    x = (np.arange(width) + 0.5) / _BLOCK_PX - 0.5
    return ndimage.map_coordinates(wide, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")


def _nan_median(values: np.ndarray) -> np.ndarray:
    """Median over the last axis of what is not NaN; NaN where nothing is (np.nanmedian warns there)."""
    ordered = np.sort(values, axis=-1)
    n = np.isfinite(ordered).sum(-1)
    pair = np.stack([np.maximum(n - 1, 0) // 2, n // 2], -1).clip(0, values.shape[-1] - 1)
    return np.take_along_axis(ordered, pair, -1).mean(-1)


def _median_of_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _robust_sigma(deviation: np.ndarray) -> float:
    finite = np.abs(deviation[np.isfinite(deviation)])
    return float(MAD_TO_SIGMA * np.median(finite)) if finite.size else 0.0


def _dark_faults(dark: np.ndarray, threshold: float) -> np.ndarray:
    deviation = dark - smooth_reference(dark, np.zeros(dark.shape, bool))
    limit = threshold * max(_robust_sigma(deviation), 1.0)
    return (HOT * (deviation > limit) + DEAD * (deviation < -limit)).astype(np.uint8)


def _flat_faults(signal: np.ndarray, bad: np.ndarray, threshold: float) -> np.ndarray:
    reference = smooth_reference(signal, bad)
    ratio = signal / np.where(reference > 0, reference, np.nan)
    limit = max(threshold * _robust_sigma(ratio[~bad] - 1), _GAIN_MARGIN)
    wrong = ~(np.abs(ratio - 1) <= limit)
    return (GAIN * wrong + DEAD * (wrong & (ratio < _GAIN_MARGIN))).astype(np.uint8)


def _median_faults(signal: np.ndarray, bad: np.ndarray, threshold: float) -> np.ndarray:
    reference = smooth_reference(signal, bad)
    deviation = signal - reference
    # in counting movies the median is 0 or 1 by chance: there, only flat and dark can tell
    limit = np.maximum(max(threshold * _robust_sigma(deviation[~bad]), _QUANTISED_ADU), _MEDIAN_MARGIN * np.abs(reference))
    return (HOT * (deviation > limit) + DEAD * (deviation < -limit)).astype(np.uint8)


def _noise_faults(mad: np.ndarray, signal: np.ndarray, bad: np.ndarray, threshold: float) -> np.ndarray:
    good_mad = mad[~bad]
    if not good_mad.size or np.median(good_mad) < _QUANTISED_ADU:
        return np.zeros(mad.shape, np.uint8)
    # a pixel that is stuck or noisy has no level of its own: compare with the noise that its neighbourhood's level would have
    level = np.clip(signal, 0.25, 4.0 * smooth_reference(signal, bad).clip(0.25))
    log_ratio = np.log(np.maximum(mad, 0.1) / np.sqrt(level))
    log_ratio -= smooth_reference(log_ratio, bad)
    limit = max(threshold * _robust_sigma(log_ratio[~bad]), np.log(_NOISE_RATIO))
    return (NOISY * (log_ratio > limit) + STUCK * (log_ratio < -limit)).astype(np.uint8)


def _line_faults(bad: np.ndarray) -> np.ndarray:
    lines = np.zeros(bad.shape, bool)
    lines[bad.mean(1) > _LINE_SHARE] = True
    lines[:, bad.mean(0) > _LINE_SHARE] = True
    neighbours = ndimage.convolve(bad.astype(np.int32), np.ones((3, 3), np.int32), mode="constant") - bad
    return (LINE * (lines | (neighbours >= _SURROUNDED))).astype(np.uint8)
