"""Frames on coarser pixels: means over squares of pixels, masked ones left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def binned(image: NDArray[np.floating], mask: NDArray[np.bool_], factor: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean over the good pixels (`mask` True) of factor x factor squares of a frame (H, W), 0 where there is none; and how many they are.

    A last partial square counts with the pixels that it has: (ceil(H / factor), ceil(W / factor)).
    """
    rows, columns = (range(0, side, factor) for side in image.shape)
    total = np.add.reduceat(np.add.reduceat(np.where(mask, image, 0.0), rows, axis=0), columns, axis=1)
    count = np.add.reduceat(np.add.reduceat(mask.astype(np.int64), rows, axis=0), columns, axis=1)
    return total / np.maximum(count, 1), count


def blur_envelope_b_angstrom2(factor: int, pixel_size_angstrom: float) -> float:
    """Envelope B, exp(-B k^2 / 4), of the mean over so many pixels: 8 pi^2 times their variance about the middle."""
    return float(8 * np.pi**2 * (factor**2 - 1) * pixel_size_angstrom**2 / 12)


def on_coarser_pixels(positions_px: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Positions on the pixels of the binned frame; pixel centres are whole numbers on both."""
    return (positions_px - (factor - 1) / 2) / factor


def on_finer_pixels(positions_px: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """The inverse of `on_coarser_pixels`."""
    return positions_px * factor + (factor - 1) / 2
