"""How long ripples of each wavelength live: bounds on the correlation of their amplitudes from one frame to the next.

Posterior means m are smoother than the sheet h, <|m|^2> = g <|h|^2>, so <m m'> falls short of <h h'>. By how much depends on what a frame
was told of its neighbours. Fully, as by a link in the likelihood: <m m'> is nearly <h h'>, too small if anything. Not at all:
<m m'> = g^2 <h h'>. Annealing looks for its basin on the neighbours' mean and forgets it only in part, so the truth lies between
<m m'> / <|h|^2> and that over g^2, with <|h|^2> from samples of the posterior. An overdamped mode relaxes as exp(-t / tau); one that
swings several times between two frames only loses its correlation.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from scant.analysis.correlation import frame_interval, resampled_frames

SCHEMA = {
    "q_per_angstrom": pl.Float64, "n_frames": pl.Int64,
    **{f"{end}_{name}": pl.Float64 for name in ("correlation", "relaxation_ms") for end in ("low", "high")},
}  # fmt: skip
FEWEST_PAIRS = 3


def relaxation_table(powers: pl.DataFrame, frame_time_ms: float) -> pl.DataFrame:
    """Per ring of q in `ripple_power_table`: from where to where correlation of next frames and relaxation time lie.

    Low and high are the ends of the 95 % intervals of the two bounds. A time is 0 where the correlation is not positive and infinite
    where it reaches 1. Rings with fewer than three pairs of frames are left out.
    """
    rows = []
    for (q,), ring in powers.filter(pl.col("next_power_angstrom4").is_not_null()).group_by("q_per_angstrom", maintain_order=True):
        sums = ring.sort("frame").select("next_power_angstrom4", "power_angstrom4", "mean_power_angstrom4").to_numpy()
        if len(sums) < FEWEST_PAIRS:
            continue
        whole, drawn = _bounds(sums.sum(axis=0)), _bounds(sums[resampled_frames(len(sums))].sum(axis=1))
        ends = [frame_interval(float(value), values, len(sums)) for value, values in zip(whole, drawn)]
        low, high = max(min(end[0] for end in ends), -1.0), min(max(end[1] for end in ends), 1.0)
        rows.append((q, len(sums), low, high, _time_ms(low, frame_time_ms), _time_ms(high, frame_time_ms)))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("q_per_angstrom")


def _bounds(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation if frames knew all of each other, and if they knew nothing, from sums (..., 3)."""
    product, power, mean_power = np.moveaxis(sums, -1, 0)
    return np.asarray(product / power), np.asarray(product * power / mean_power**2)


def _time_ms(correlation: float, frame_time_ms: float) -> float:
    if correlation >= 1:
        return np.inf
    return float(-frame_time_ms / np.log(correlation)) if correlation > 0 else 0.0
