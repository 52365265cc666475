"""One frame through the correct stage: the image in electrons and the figures that say what was done to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from scant.imaging.counts import Detector, correct_frame, variance_cut


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
