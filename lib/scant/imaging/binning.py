"""Frames on coarser pixels that lose nothing: where the aperture lets nothing finer through, fine pixels only cost time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

FILL_REACH_PX = 2
# Pixels no coarser than this: an aperture of 1.25 / A passes nothing finer.
COARSEST_PIXEL_ANGSTROM = 0.42


def coarser_by(pixel_size_angstrom: float) -> int:
    """How many times coarser pixels may be where the image is one of known optics."""
    return max(1, int(COARSEST_PIXEL_ANGSTROM / pixel_size_angstrom))


def band_limited(image: NDArray[np.floating], mask: NDArray[np.bool_], factor: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A frame (H, W) on pixels `factor` times coarser, (ceil(H / factor), ceil(W / factor)), and how many good ones (`mask`) each holds.

    The cosine transform is cut at the coarse pixels' own limit: what is below it passes unchanged, where a mean over squares would blur
    it, and white noise stays white, its variance over factor^2. Mirrored borders leave no step. Masked pixels get the mean around them.
    """
    pad = [(0, -side % factor) for side in image.shape]
    whole, good = np.pad(_filled(image, mask), pad, mode="symmetric"), np.pad(mask, pad)
    rows, columns = (side // factor for side in whole.shape)
    count = np.zeros((rows, columns), dtype=np.int64)
    for corner in np.ndindex(factor, factor):
        count += good[corner[0] :: factor, corner[1] :: factor]
    return idctn(dctn(whole, norm="ortho")[:rows, :columns], norm="ortho") / factor, count


def on_fine_grid(coarse: NDArray[np.floating], factor: int) -> NDArray[np.float64]:
    """The inverse of `band_limited` for what has no finer detail: (H, W) -> (factor H, factor W)."""
    spectrum = np.zeros([factor * side for side in coarse.shape])
    spectrum[: coarse.shape[0], : coarse.shape[1]] = factor * dctn(coarse, norm="ortho")
    return np.asarray(idctn(spectrum, norm="ortho"))


def _filled(image: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
    y, x = np.nonzero(~mask)
    step = np.arange(-FILL_REACH_PX, FILL_REACH_PX + 1)
    near_y = np.clip(y[:, None, None] + step[:, None], 0, image.shape[0] - 1)
    near_x = np.clip(x[:, None, None] + step, 0, image.shape[1] - 1)
    good = mask[near_y, near_x]
    count = good.sum(axis=(1, 2))
    around = np.where(good, image[near_y, near_x], 0.0).sum(axis=(1, 2)) / np.maximum(count, 1)
    filled = image.copy()
    filled[y, x] = np.where(count > 0, around, image[mask].mean() if mask.any() else 0.0)
    return filled


def on_coarser_pixels(positions_px: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Positions on the pixels of the coarser frame; pixel centres are whole numbers on both."""
    return (positions_px - (factor - 1) / 2) / factor


def on_finer_pixels(positions_px: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """The inverse of `on_coarser_pixels`."""
    return positions_px * factor + (factor - 1) / 2
