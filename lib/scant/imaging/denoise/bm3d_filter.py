"""Two-stage BM3D (block matching and 3D filtering) for Gaussian noise of known sd and spectrum; our own, single-threaded, vectorised.

Dabov, Foi, Katkovnik & Egiazarian, IEEE Trans. Image Process. 16, 2080 (2007); parameters near Lebrun, IPOL 2, 175 (2012): 8 x 8 patches,
groups of 16 out of a 39 x 40 window (hard threshold, bior1.5 then Haar; Wiener, DCT then Haar), Kaiser window 2.0. Departures: no
distance threshold (the group is always full; with 32 patches as published, some of them unlike the rest, a lattice loses 0.5 dB), patches
are matched on some of their pixels, reference patches lie on rows staggered by half a step (lattice 0.1 dB), the result goes a step beyond
the second stage's (`OVERSHOOT`), and the search window is pushed inwards at the edges, so no pixel is invented there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scant.errors import InputError
from scant.imaging.denoise.bm3d_kernels import (
    PATCH,
    STRIP_COLUMNS,
    WINDOW_COLUMNS,
    WINDOW_ROWS,
    Stage,
    biorthogonal_matrix,
    dct_matrix,
    run_strip,
)
from scant.imaging.denoise.coloured import check_spectrum, coefficient_variances, stronger_filters

KAISER_BETA = 2.0
OVERSHOOT = 0.15
"""Of the way from the pilot to the second stage's image, gone beyond it: that stage gives back a part of what the threshold took. A lattice
gains 0.1 to 0.3 dB, camera nothing."""
LARGEST_SPAN_SD = 1e6
"""Span of an image in noise sd beyond which float32 no longer resolves the noise."""
SMALLEST_SIDE = max(WINDOW_ROWS, WINDOW_COLUMNS) + PATCH - 1

Columns = tuple[npt.NDArray[np.int64], ...]


@dataclass(frozen=True)
class Profile:
    """Steps between reference patches in px, of the two stages; threshold in noise sd; factor on the second stage's noise variance."""

    hard_step_px: int = 5
    wiener_step_px: int = 4
    hard_threshold: float = 2.8
    wiener_strength: float = 1.0


DEFAULT_PROFILE = Profile()
FINE_PROFILE = Profile(hard_step_px=3, wiener_step_px=3)
"""Half of the default's speed; gains up to 0.2 dB."""


def bm3d(
    image: npt.NDArray, sigma: float, profile: Profile = DEFAULT_PROFILE, spectrum: npt.NDArray[np.floating] | None = None
) -> npt.NDArray[np.float32]:
    """Denoised image (y, x) float32.

    image (y, x): any real type; Gaussian noise of sd `sigma`, in the image's units, white or of the given relative `spectrum`
    (`coloured.coefficient_variances`). Images under 47 pixels a side are extended by reflection. Raises InputError for NaN or infinite
    pixels (inpaint bad pixels first), a sigma that is not positive or under 1e-6 of the image's span, or an image that is not 2D.
    """
    check_finite(image)
    _check_settings(image, sigma, profile)
    check_spectrum(spectrum)
    shape = image.shape
    noisy = np.ascontiguousarray(image, dtype=np.float32)
    # a common offset of thousands of sd would cost float32 digits
    offset = float(noisy.mean(dtype=np.float64))
    noisy = (noisy - np.float32(offset)) / np.float32(sigma)
    missing = [max(0, SMALLEST_SIDE - side) for side in shape]
    if any(missing):
        noisy = np.pad(noisy, [(0, extra) for extra in missing], mode="symmetric")
    pilot = _filtered(noisy, noisy, profile, spectrum, hard=True)
    final = _filtered(noisy, pilot, profile, spectrum, hard=False)
    final += np.float32(OVERSHOOT) * (final - pilot)
    return np.ascontiguousarray(final[: shape[0], : shape[1]]) * np.float32(sigma) + np.float32(offset)


def check_finite(image: npt.NDArray) -> None:
    """Raises InputError unless the array is one image (y, x) of finite values; names the first pixel that is not."""
    if image.ndim != 2 or image.size == 0:
        raise InputError(f"one image (y, x) is denoised at a time; this array has shape {image.shape}")
    bad = np.argwhere(~np.isfinite(image))
    if len(bad):
        y, x = bad[0]
        raise InputError(f"{len(bad)} pixels are NaN or infinite, the first at (y, x) = ({y}, {x}): inpaint bad pixels before denoising")


def _check_settings(image: npt.NDArray, sigma: float, profile: Profile) -> None:
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"the noise sd for BM3D is {sigma}; it must be finite and above 0: take it from the calibration")
    span_sd = (float(image.max()) - float(image.min())) / sigma
    if span_sd > LARGEST_SPAN_SD:
        raise InputError(
            f"the image spans {span_sd:.3g} noise sd, more than {LARGEST_SPAN_SD:.0e}: give sigma ({sigma}) in the image's units"
        )
    for step_px in (profile.hard_step_px, profile.wiener_step_px):
        if not 1 <= step_px <= PATCH:
            raise InputError(f"a step is {step_px} px; reference patches must overlap: 1 to {PATCH} px")


def _filtered(
    noisy: npt.NDArray[np.float32],
    pilot: npt.NDArray[np.float32],
    profile: Profile,
    spectrum: npt.NDArray[np.floating] | None,
    *,
    hard: bool,
) -> npt.NDArray[np.float32]:
    matrix = biorthogonal_matrix() if hard else dct_matrix()
    threshold, wiener = stronger_filters(spectrum)
    variances = coefficient_variances(matrix, spectrum).T.ravel() * (1.0 if hard else wiener * profile.wiener_strength)
    noise = [each.astype(np.float32) for each in (threshold * profile.hard_threshold * np.sqrt(variances), variances)]
    kaiser = np.kaiser(PATCH, KAISER_BETA)
    window = np.outer(kaiser, kaiser).astype(np.float32)
    step_px = profile.hard_step_px if hard else profile.wiener_step_px
    rows = reference_places(noisy.shape[0], step_px)
    columns = tuple(reference_places(noisy.shape[1], step_px, shift_px) for shift_px in (0, step_px // 2))
    sums = np.zeros((noisy.shape[0], 2, noisy.shape[1]), dtype=np.float32)
    for first, stop, inside in _strips(columns, noisy.shape[1]):
        images = [np.ascontiguousarray(each[:, first:stop]) for each in (noisy, pilot)]
        strip = Stage(hard, images[0], images[1], matrix.astype(np.float32), noise[0], noise[1], window)
        part = np.zeros((noisy.shape[0], 2, stop - first), dtype=np.float32)
        run_strip(strip, rows, inside, part)
        sums[:, :, first:stop] += part
    return sums[:, 0] / sums[:, 1]


def _strips(columns: Columns, side: int) -> Iterator[tuple[int, int, Columns]]:
    """First and last image column (exclusive) that a strip of reference columns needs, and those references counted from the first."""
    last = side - PATCH + 1 - WINDOW_COLUMNS
    for strip in np.unique(np.concatenate(columns) // STRIP_COLUMNS):
        members = tuple(each[each // STRIP_COLUMNS == strip] for each in columns)
        starts = np.clip(np.concatenate(members) - WINDOW_COLUMNS // 2, 0, last)
        first, stop = int(starts.min()), int(starts.max()) + WINDOW_COLUMNS + PATCH - 1
        yield first, stop, tuple(each - first for each in members)


def reference_places(side: int, step_px: int, shift_px: int = 0) -> npt.NDArray[np.int64]:
    """Every step_px-th patch position from shift_px on, with the first and the last one, so that the edges are covered."""
    last = side - PATCH
    return np.unique(np.concatenate([[0], np.arange(shift_px, last, step_px, dtype=np.int64), [last]]))
