"""How long ripples of each wavelength live: the correlation of their amplitudes from one frame to the next.

A posterior mean m of a Gaussian amplitude h keeps a part g of its power, <|m|^2> = g <|h|^2>, and frames are estimated each for itself, so
that <m m'> = g^2 <h h'>: the correlation of the sheet is <m m'> <|h|^2> / <|m|^2>^2, with <|h|^2> from samples of the posterior. A mode
that is overdamped relaxes as exp(-t / tau); one that swings several times between two frames only loses its correlation.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from scant.analysis.correlation import frame_interval, resampled_frames

SCHEMA = {
    "q_per_angstrom": pl.Float64, "n_frames": pl.Int64,
    **{f"{prefix}{name}": pl.Float64 for name in ("correlation", "relaxation_ms") for prefix in ("", "low_", "high_")},
}  # fmt: skip


def relaxation_table(powers: pl.DataFrame, frame_time_ms: float) -> pl.DataFrame:
    """Per ring of q in `ripple_power_table`: correlation of next neighbours among frames, relaxation time, both with 95 % intervals.

    A time is 0 where the correlation is not positive and infinite where it reaches 1; intervals are NaN for fewer than three pairs.
    """
    rows = []
    for (q,), ring in powers.filter(pl.col("next_power_angstrom4").is_not_null()).group_by("q_per_angstrom", maintain_order=True):
        sums = ring.sort("frame").select("next_power_angstrom4", "power_angstrom4", "mean_power_angstrom4").to_numpy()
        value, low, high = float(_correlation(sums.sum(axis=0))), np.nan, np.nan
        if len(sums) >= 3:
            low, high = frame_interval(value, _correlation(sums[resampled_frames(len(sums))].sum(axis=1)), len(sums))
        rows.append((q, len(sums), value, low, high, *(_time_ms(c, frame_time_ms) for c in (value, low, high))))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("q_per_angstrom")


def _correlation(sums: np.ndarray) -> np.ndarray:
    product, power, mean_power = np.moveaxis(sums, -1, 0)
    return np.asarray(product * power / mean_power**2)


def _time_ms(correlation: float, frame_time_ms: float) -> float:
    if np.isnan(correlation):
        return np.nan
    if correlation >= 1:
        return np.inf
    return float(-frame_time_ms / np.log(correlation)) if correlation > 0 else 0.0
