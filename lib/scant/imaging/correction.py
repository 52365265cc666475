"""One frame through the correct stage: the image in electrons and the figures that say what was done to it, and where that may run."""

from __future__ import annotations

from typing import Any

import numpy as np

from scant.errors import DeviceError
from scant.imaging.counts import Detector, correct_frame, make_detector, variance_cut
from scant.xp import module_for, resolve_device, to_numpy

DEVICE_TOLERANCE = 1e-5


def correction_figures(raw_adu: np.ndarray, detector: Detector, hit_threshold_sigma: float) -> dict[str, Any]:
    """What the correction does to a frame (H, W): mean_e, n_hits and the cuts in relative variance.

    `variance_cut_total` counts every pixel, `variance_cut_background` the background alone (see `counts.variance_cut`).
    """
    corrected = correct_frame(raw_adu, detector, hit_threshold_sigma)
    cut = variance_cut(raw_adu, corrected, float(np.median(detector.dark_adu)))
    return {
        "mean_e": float(corrected.image_e[corrected.weight_mask].mean()),
        "n_hits": corrected.n_hits,
        "variance_cut_total": cut.total,
        "variance_cut_background": cut.background,
    }


def counts_and_weights(raw_adu: np.ndarray, detector: Detector, hit_threshold_sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """What the likelihood is taken on: counts (H, W) in electrons and inverse variances (H, W), 0 at bad pixels and hits.

    The variance is excess * mean + read^2 with the frame's mean for the mean, times the detector's `signal_noise`: weights that follow
    the noisy counts themselves would bias every intensity low (Neyman's chi^2; Mighell, ApJ 518 (1999) 380).
    """
    corrected = correct_frame(raw_adu, detector, hit_threshold_sigma)
    mean_e = float(corrected.image_e[corrected.weight_mask].mean())
    variance_e2 = detector.signal_noise * (detector.excess_noise * mean_e / detector.flat_gain + detector.read_noise_e**2)
    return corrected.image_e, np.where(corrected.weight_mask, 1 / variance_e2, 0).astype(np.float32)


def correcting_device(device: str) -> str:
    """'cpu' or 'gpu' for 'auto', 'cpu' or 'gpu'. A GPU has to give the CPU's image, and the CPU's hits, first.

    Raises DeviceError for 'gpu' where none can be used, and for a GPU that gives something else.
    """
    resolved = resolve_device(device)
    if resolved == "gpu":
        raw, detector = _trial()
        xp = module_for(resolved)
        here, there = correct_frame(raw, detector), correct_frame(xp.asarray(raw), detector.on(xp))
        difference = float(np.abs(to_numpy(there.image_e) / here.image_e - 1).max())
        moved = int((to_numpy(there.weight_mask) != here.weight_mask).sum())
        if moved or not difference < DEVICE_TOLERANCE:
            raise DeviceError(
                f"correction on the GPU differs from the CPU's: {moved} pixels are hits on one alone, electrons by up to {difference:.3g} "
                f"of their value (allowed {DEVICE_TOLERANCE}): set `average.device: cpu`, and report this"
            )
    return resolved


def _trial() -> tuple[np.ndarray, Detector]:
    """A raw frame (y, x) of 300 electrons a pixel with hits, and a detector with uneven gain and bad pixels."""
    y, x = np.mgrid[:96, :128]
    bad = ((7 * y + 11 * x) % 211 == 0) | (x == 40) | ((abs(y - 60) < 5) & (abs(x - 90) < 5))
    raw = 50 + np.random.default_rng(0).poisson(300 * (1 + 0.1 * np.cos(x / 2.2) * np.cos(y / 1.9)))
    raw[(5 * y + 13 * x) % 499 == 0] += 700
    return raw.astype(np.uint16), make_detector(np.full(y.shape, 50.0), 1 + 0.2 * np.sin(y / 9.0), bad, 1.0)
