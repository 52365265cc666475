"""Correlation of two quantities over the atoms of a movie, with an interval from its frames.

Pearson's r from sums per frame, so that splitting the movie cannot change it. The interval resamples blocks of neighbouring frames
(circular block bootstrap, Politis and Romano, in Exploring the Limits of Bootstrap, 1992), n^(1/3) frames long (Hall, Horowitz and Jing,
Biometrika 82, 561 (1995)): atoms of a frame are not independent, frames that follow each other share their ripples.
Errors of either quantity draw r towards 0, errors that both share away from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from scant.rng import stream

SUM_NAMES = ("n", "x", "y", "xx", "yy", "xy")
RESAMPLES = 2000
LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with its 95 % interval (NaN for fewer than three frames), and the pairs of values and frames behind it."""

    r: float
    low: float
    high: float
    n_values: int
    n_frames: int


def correlation(by_frame: np.ndarray) -> Correlation:
    """Correlation from each frame's sums (F, 6) of 1, x, y, x x, y y, x y; NaN where there is nothing or no spread."""
    by_frame = by_frame[by_frame[:, 0] > 0]
    if not len(by_frame):
        return Correlation(np.nan, np.nan, np.nan, 0, 0)
    low, high = _interval(by_frame)
    return Correlation(float(_pearson(by_frame.sum(axis=0))), low, high, round(by_frame[:, 0].sum()), len(by_frame))


def resampled_frames(n_frames: int) -> np.ndarray:
    """Numbers (2000, n) of the frames in each resampled movie of n, in blocks of neighbours."""
    length = _block_frames(n_frames)
    start = stream(0, "correlation").integers(n_frames, size=(RESAMPLES, int(np.ceil(n_frames / length))))
    return np.asarray(((start[..., None] + np.arange(length)) % n_frames).reshape(RESAMPLES, -1)[:, :n_frames])


def frame_interval(value: float, resampled: np.ndarray, n_frames: int) -> tuple[float, float]:
    """95 % interval of a value from what it is in the resampled movies (2000,).

    The quantiles' distances are widened as Student's are for so many blocks less one: of 24 frames the plain ones hold 86 to 94 %.
    """
    n_blocks = max(n_frames / _block_frames(n_frames), 2.0)
    wider = student.ppf(LEVELS[1], n_blocks - 1) / norm.ppf(LEVELS[1]) * np.sqrt(n_blocks / (n_blocks - 1))
    low, high = value + wider * (np.quantile(resampled, LEVELS) - value)
    return float(low), float(high)


def _block_frames(n_frames: int) -> int:
    return int(np.ceil(n_frames ** (1 / 3)))


def _pearson(sums: np.ndarray) -> np.ndarray:
    """r from the sums (..., 6) of 1, x, y, x x, y y, x y."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))


def _interval(by_frame: np.ndarray) -> tuple[float, float]:
    n = len(by_frame)
    if n < 3:
        return np.nan, np.nan
    low, high = frame_interval(float(_pearson(by_frame.sum(axis=0))), _pearson(by_frame[resampled_frames(n)].sum(axis=1)), n)
    return max(low, -1.0), min(high, 1.0)
