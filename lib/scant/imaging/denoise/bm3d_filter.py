"""Two-stage BM3D (block matching and 3D filtering) for Gaussian noise of known sd and spectrum; our own, single-threaded, vectorised.

Dabov, Foi, Katkovnik & Egiazarian, IEEE Trans. Image Process. 16, 2080 (2007); parameters near Lebrun, IPOL 2, 175 (2012): 8 x 8 patches,
groups of 16 out of a 39 x 40 window (hard threshold, bior1.5 then Haar; Wiener, DCT then Haar), Kaiser window 2.0. Departures: no
distance threshold (the group is always full; with 32 patches as published, some of them unlike the rest, a lattice loses 0.5 dB), patches
are matched on some of their pixels, reference patches lie on rows staggered by half a step (lattice 0.1 dB), the result goes a step beyond
the second stage's (`OVERSHOOT`), and the search window is pushed inwards at the edges, so no pixel is invented there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

from scant.errors import DeviceError, InputError
from scant.imaging.denoise.bm3d_gpu import filtered_on_device
from scant.imaging.denoise.bm3d_kernels import (
    PATCH,
    STRIP_COLUMNS,
    WINDOW_COLUMNS,
    WINDOW_ROWS,
    Stage,
    biorthogonal_matrix,
    dct_matrix,
    filter_strip,
    match_strip,
)
from scant.imaging.denoise.coloured import check_spectrum, coefficient_variances, stronger_filters
from scant.xp import array_module, module_for, on_device, to_numpy

KAISER_BETA = 2.0
OVERSHOOT = 0.15
"""Of the way from the pilot to the second stage's image, gone beyond it: that stage gives back a part of what the threshold took. A lattice
gains 0.1 to 0.3 dB, camera nothing."""
LARGEST_SPAN_SD = 1e6
"""Span of an image in noise sd beyond which float32 no longer resolves the noise."""
SMALLEST_SIDE = max(WINDOW_ROWS, WINDOW_COLUMNS) + PATCH - 1

DEVICE_TOLERANCE_SD = 0.02
"""Difference between a device's image and the CPU's that 2 % of the pixels may exceed: rounding tips a choice between patches there."""

Image = npt.NDArray[np.float32]
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


def bm3d(image: npt.NDArray, sigma: float, profile: Profile = DEFAULT_PROFILE, spectrum: npt.NDArray[np.floating] | None = None) -> Image:
    """Denoised image (y, x) float32.

    image (y, x): any real type; Gaussian noise of sd `sigma`, in the image's units, white or of the given relative `spectrum`
    (`coloured.coefficient_variances`). Images under 47 pixels a side are extended by reflection. Raises InputError for NaN or infinite
    pixels (inpaint bad pixels first), a sigma that is not positive or under 1e-6 of the image's span, or an image that is not 2D.
    """
    return bm3d_of_window([image], 0, sigma, profile, spectrum)


def bm3d_of_window(
    frames: Sequence[npt.NDArray],
    own: int,
    sigma: float,
    profile: Profile = DEFAULT_PROFILE,
    spectrum: npt.NDArray[np.floating] | None = None,
) -> Image:
    """The frame `own` (y, x) of a window of frames without drift against each other, denoised together with them.

    A group holds 16 stacks of patches, one per frame: patches are matched on the window's mean, and what changes from frame to frame is
    filtered like the mean itself, so that it stays where it exceeds the noise (Maggioni, Boracchi, Foi & Egiazarian, IEEE Trans. Image
    Process. 21, 3952, 2012; here with a cosine transform along time, each of whose images is filtered alone). Noise and errors as in
    `bm3d`; frames of different shapes are an InputError too.
    """
    xp = array_module(*frames)
    for frame in frames:
        check_finite(frame)
        _check_settings(frame, sigma, profile)
    if len({frame.shape for frame in frames}) > 1:
        raise InputError(f"frames of one window differ in shape: {sorted({frame.shape for frame in frames})}")
    check_spectrum(spectrum)
    height, width = frames[0].shape
    # a common offset of thousands of sd would cost float32 digits
    offset = float(frames[own].mean(dtype=np.float64))
    noisy = xp.stack([(xp.asarray(frame, np.float32) - np.float32(offset)) / np.float32(sigma) for frame in frames])
    along_time = dct(np.eye(len(frames)), axis=0, norm="ortho").astype(np.float32)
    if len(frames) > 1:
        noisy = xp.tensordot(xp.asarray(along_time), noisy, 1)
    missing = [max(0, SMALLEST_SIDE - side) for side in (height, width)]
    if any(missing):
        noisy = xp.pad(noisy, [(0, 0), *((0, extra) for extra in missing)], mode="symmetric")
    pilot = _filtered(noisy, noisy, profile, spectrum, hard=True)
    final = _filtered(noisy, pilot, profile, spectrum, hard=False)
    final += np.float32(OVERSHOOT) * (final - pilot)
    image = final[0] if len(frames) == 1 else xp.tensordot(xp.asarray(along_time[:, own]), final, 1)
    return xp.ascontiguousarray(image[:height, :width]) * np.float32(sigma) + np.float32(offset)


def check_device(device: str) -> None:
    """Raises DeviceError unless BM3D on a resolved device gives what it gives on the CPU, for an image of edges, a texture and noise."""
    y, x = np.mgrid[:96, :128].astype(float)
    image = 6 * (y > 0.4 * x + 11) + 3 * np.sin(x / 3.1 + y / 7.3) * (x > 70) + np.random.default_rng(0).normal(0, 1, y.shape)
    difference = np.abs(to_numpy(bm3d(module_for(device).asarray(image), 1.0)) - bm3d(image, 1.0))
    if not float(np.quantile(difference, 0.98)) < DEVICE_TOLERANCE_SD:
        raise DeviceError(
            f"BM3D on the {device} differs from the CPU's by up to {difference.max():.3g} noise sd (98 % of the pixels: "
            f"{np.quantile(difference, 0.98):.3g}, allowed {DEVICE_TOLERANCE_SD}): set `denoise.bm3d_device: cpu`, and report this"
        )


def check_finite(image: npt.NDArray) -> None:
    """Raises InputError unless the array is one image (y, x) of finite values; names the first pixel that is not."""
    if image.ndim != 2 or image.size == 0:
        raise InputError(f"one image (y, x) is denoised at a time; this array has shape {image.shape}")
    bad = array_module(image).argwhere(~array_module(image).isfinite(image))
    if len(bad):
        y, x = (int(place) for place in bad[0])
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


def _filtered(noisy: Any, pilot: Any, profile: Profile, spectrum: npt.NDArray[np.floating] | None, *, hard: bool) -> Any:
    """One stage over images (n, y, x) that share the groups found on the first."""
    stage = _stage(profile, spectrum, hard)
    step_px = profile.hard_step_px if hard else profile.wiener_step_px
    rows = reference_places(noisy.shape[1], step_px)
    columns = tuple(reference_places(noisy.shape[2], step_px, shift_px) for shift_px in (0, step_px // 2))
    if on_device(noisy):
        return filtered_on_device(stage, noisy, pilot, rows, columns)
    n_images, height, width = noisy.shape
    sums = np.zeros((n_images, height, 2, width), dtype=np.float32)
    for first, stop, inside in _strips(columns, width):
        strips = [[np.ascontiguousarray(image[:, first:stop]) for image in images] for images in (noisy, pilot)]
        keys = match_strip(strips[0][0] if hard else strips[1][0], hard, rows, inside)
        for n, (own, guide) in enumerate(zip(*strips)):
            part = np.zeros((height, 2, stop - first), dtype=np.float32)
            filter_strip(stage, own, guide, rows, inside, keys, part)
            sums[n, :, :, first:stop] += part
    return sums[:, :, 0] / sums[:, :, 1]


def _stage(profile: Profile, spectrum: npt.NDArray[np.floating] | None, hard: bool) -> Stage:
    matrix = biorthogonal_matrix() if hard else dct_matrix()
    threshold, wiener = stronger_filters(spectrum)
    variances = coefficient_variances(matrix, spectrum).T.ravel() * (1.0 if hard else wiener * profile.wiener_strength)
    limits, kaiser = threshold * profile.hard_threshold * np.sqrt(variances), np.kaiser(PATCH, KAISER_BETA)
    return Stage(hard, *(each.astype(np.float32) for each in (matrix, limits, variances, np.outer(kaiser, kaiser))))


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
