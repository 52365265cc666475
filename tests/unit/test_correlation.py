"""Correlations over a movie: a known one within its interval, slow frames, and tables that have none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scant.analysis.correlation import correlation


def table(rng: np.random.Generator, rho: float, n_frames: int = 24, n_atoms: int = 60, slow: float = 0.0) -> pl.LazyFrame:
    """Values of which a part `slow` of the noise is the same in runs of three frames."""
    rows = []
    for frame in range(n_frames):
        if frame % 3 == 0:
            shared = rng.normal(size=(2, n_atoms))
        own = np.sqrt(1 - slow) * rng.normal(size=(2, n_atoms)) + np.sqrt(slow) * shared
        x = own[0]
        rows.append(pl.DataFrame({"frame": frame, "x": x, "y": rho * x + np.sqrt(1 - rho**2) * own[1]}))
    return pl.concat(rows).lazy()


@pytest.mark.parametrize("slow", [0.0, 0.6])
def test_the_interval_holds_the_known_correlation(slow):
    rng = np.random.default_rng(4)
    found = [correlation(table(rng, -0.35, slow=slow), "x", "y") for _ in range(120)]
    assert np.mean([f.r for f in found]) == pytest.approx(-0.35, abs=0.01)
    held = np.mean([f.low <= -0.35 <= f.high for f in found])
    assert 0.82 <= held <= 1.0, held


def test_it_is_pearsons_over_the_rows_that_have_both():
    lazy = table(np.random.default_rng(5), 0.5, n_frames=4)
    holed = lazy.with_columns(
        x=pl.when(pl.col("y") > 1.5).then(float("nan")).otherwise("x"), y=pl.when(pl.col("x") > 2).then(None).otherwise("y")
    )
    found = correlation(holed, "x", "y")
    both = holed.filter(pl.col("x").is_finite() & pl.col("y").is_not_null()).collect()
    assert found.r == pytest.approx(np.corrcoef(both["x"], both["y"])[0, 1], abs=1e-12)
    assert (found.n_values, found.n_frames) == (len(both), 4)
    assert correlation(holed, "x", "y") == found


def test_too_little_has_no_interval_and_nothing_no_value():
    lazy = table(np.random.default_rng(6), 0.5, n_frames=2)
    assert np.isfinite(correlation(lazy, "x", "y").r) and np.isnan(correlation(lazy, "x", "y").low)
    assert np.isnan(correlation(lazy.with_columns(y=pl.lit(None)), "x", "y").r)
    assert np.isnan(correlation(lazy.with_columns(y=pl.lit(1.0)), "x", "y").r)
