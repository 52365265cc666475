"""Correlations over a movie: a known one within its interval, slow frames, and tables that have none."""

from __future__ import annotations

import numpy as np
import pytest
from scant.analysis.correlation import correlation


def sums(x: np.ndarray, y: np.ndarray) -> list[float]:
    return [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y]


def frames(rng: np.random.Generator, rho: float, n_frames: int = 24, n_atoms: int = 60, slow: float = 0.0) -> np.ndarray:
    """Sums of values of which a part `slow` of the noise is the same in runs of three frames."""
    rows = []
    for frame in range(n_frames):
        if frame % 3 == 0:
            shared = rng.normal(size=(2, n_atoms))
        own = np.sqrt(1 - slow) * rng.normal(size=(2, n_atoms)) + np.sqrt(slow) * shared
        rows.append(sums(own[0], rho * own[0] + np.sqrt(1 - rho**2) * own[1]))
    return np.array(rows)


@pytest.mark.parametrize("slow", [0.0, 0.6])
def test_the_interval_holds_the_known_correlation(slow):
    rng = np.random.default_rng(4)
    found = [correlation(frames(rng, -0.35, slow=slow)) for _ in range(120)]
    assert np.mean([f.r for f in found]) == pytest.approx(-0.35, abs=0.01)
    held = np.mean([f.low <= -0.35 <= f.high for f in found])
    assert 0.82 <= held <= 1.0, held


def test_it_is_pearsons_over_all_values_and_frames_without_any_do_not_count():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 5, 40)) + rng.normal(size=(1, 5, 40))
    by_frame = np.array([sums(a, b) for a, b in zip(x, y)] + [[0.0] * 6])
    found = correlation(by_frame)
    assert found.r == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1], abs=1e-12)
    assert (found.n_values, found.n_frames) == (200, 5)
    assert correlation(by_frame) == found


def test_too_little_has_no_interval_and_nothing_no_value():
    two = frames(np.random.default_rng(6), 0.5, n_frames=2)
    assert np.isfinite(correlation(two).r) and np.isnan(correlation(two).low)
    assert np.isnan(correlation(np.zeros((3, 6))).r)
    assert np.isnan(correlation(np.array([sums(np.arange(4.0), np.ones(4))] * 4)).r)
