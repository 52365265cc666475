"""Correlation of two quantities over the atoms of a movie, with an interval from its frames.

Pearson's r from sums per frame, so that splitting the movie cannot change it. The interval resamples blocks of neighbouring frames
(circular block bootstrap, Politis and Romano, in Exploring the Limits of Bootstrap, 1992), n^(1/3) frames long (Hall, Horowitz and Jing,
Biometrika 82, 561 (1995)): atoms of a frame are not independent, frames that follow each other share their ripples.
Errors of either quantity draw r towards 0, errors that both share away from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scant.rng import stream

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


def correlation(table: pl.LazyFrame, first: str, second: str) -> Correlation:
    """Correlation of two columns of a table with `frame`, over the rows where both are finite; NaN where there is none or no spread."""
    x, y = pl.col(first).cast(pl.Float64), pl.col(second).cast(pl.Float64)
    known = table.filter(x.is_finite() & y.is_finite())
    sums = [pl.len().cast(pl.Float64).alias("n"), *(e.sum().alias(name) for name, e in zip("xyabc", (x, y, x * x, y * y, x * y)))]
    by_frame = known.group_by("frame").agg(sums).sort("frame").select("n", *"xyabc").collect(engine="streaming").to_numpy()
    if not len(by_frame):
        return Correlation(np.nan, np.nan, np.nan, 0, 0)
    low, high = _interval(by_frame)
    return Correlation(float(_pearson(by_frame.sum(axis=0))), low, high, int(by_frame[:, 0].sum()), len(by_frame))


def _pearson(sums: np.ndarray) -> np.ndarray:
    """r from the sums (..., 6) of 1, x, y, x x, y y, x y."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))


def _interval(by_frame: np.ndarray) -> tuple[float, float]:
    n = len(by_frame)
    if n < 3:
        return np.nan, np.nan
    length = int(np.ceil(n ** (1 / 3)))
    start = stream(0, "correlation").integers(n, size=(RESAMPLES, int(np.ceil(n / length))))
    chosen = ((start[..., None] + np.arange(length)) % n).reshape(RESAMPLES, -1)[:, :n]
    low, high = np.quantile(_pearson(by_frame[chosen].sum(axis=1)), LEVELS)
    return float(low), float(high)
