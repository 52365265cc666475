"""The variance-stabilising transform and its exact unbiased inverse, by Monte Carlo and against sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scant.errors import InputError
from scant.imaging.denoise.anscombe import destabilise, expected_stabilised, stabilise

MEANS_E = (1.0, 2.0, 5.0, 20.0, 60.0, 300.0)
DETECTORS = ((0.0, 1.0), (1.5, 1.0), (0.8, 1.4), (3.0, 0.7))
SAMPLES = 400_000


def counts_e(mean_e: float, read_noise_e: float, excess_noise: float) -> np.ndarray:
    rng = np.random.default_rng(int(mean_e * 100) + int(read_noise_e * 10))
    return excess_noise * rng.poisson(mean_e / excess_noise, SAMPLES) + rng.normal(0, read_noise_e, SAMPLES)


@pytest.mark.parametrize(("read_noise_e", "excess_noise"), DETECTORS)
@pytest.mark.parametrize("mean_e", MEANS_E)
def test_inverse_of_the_mean_is_unbiased(mean_e: float, read_noise_e: float, excess_noise: float) -> None:
    noise = {"read_noise_e": read_noise_e, "excess_noise": excess_noise}
    stabilised = stabilise(counts_e(mean_e, **noise), **noise)
    estimate_e = destabilise(np.array([stabilised.mean(dtype=np.float64)]), **noise)[0]
    standard_error_e = math.sqrt((excess_noise * mean_e + read_noise_e**2) / SAMPLES)
    assert abs(estimate_e - mean_e) < 4 * standard_error_e


@pytest.mark.parametrize(("read_noise_e", "excess_noise"), DETECTORS)
def test_algebraic_inverse_would_be_biased(read_noise_e: float, excess_noise: float) -> None:
    """The reason for the table: squaring the mean back is low by a quarter of a count, far outside the test above."""
    noise = {"read_noise_e": read_noise_e, "excess_noise": excess_noise}
    mean = stabilise(counts_e(20.0, **noise), **noise).mean(dtype=np.float64)
    sd = read_noise_e / excess_noise
    assert excess_noise * (mean**2 / 4 - 3 / 8 - sd**2) - 20.0 < -0.15 * excess_noise


@pytest.mark.parametrize(("read_noise_e", "excess_noise"), DETECTORS)
@pytest.mark.parametrize("mean_e", [5.0, 20.0, 300.0])
def test_variance_is_one(mean_e: float, read_noise_e: float, excess_noise: float) -> None:
    noise = {"read_noise_e": read_noise_e, "excess_noise": excess_noise}
    assert stabilise(counts_e(mean_e, **noise), **noise).var(dtype=np.float64) == pytest.approx(1.0, abs=0.05)


def test_expectation_against_a_sum_by_hand() -> None:
    by_hand = sum(math.exp(-3.0) * 3.0**k / math.factorial(k) * 2 * math.sqrt(k + 3 / 8) for k in range(60))
    assert expected_stabilised(np.array([3.0]), 0.0)[0] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("read_noise_e", [0.0, 2.0])
def test_inverse_returns_the_mean_at_every_level(read_noise_e: float) -> None:
    """Also across the end of the table, near 320 counts."""
    means = np.concatenate([np.geomspace(0.01, 250, 40), np.linspace(300, 340, 41), [500.0]])
    expectation = expected_stabilised(means, read_noise_e)
    np.testing.assert_allclose(destabilise(expectation, read_noise_e=read_noise_e, excess_noise=1.0), means, rtol=2e-6, atol=1e-3)


def test_inverse_is_monotonic_and_ends_at_zero() -> None:
    mean_e = destabilise(np.linspace(-1, 60, 5000).reshape(50, 100), read_noise_e=1.0, excess_noise=1.2)
    assert mean_e.shape == (50, 100)
    assert mean_e[0, 0] == 0.0
    assert (np.diff(mean_e.ravel()) >= 0).all()


def test_nan_stays_visible() -> None:
    image = np.array([[3.0, np.nan], [-50.0, 7.0]])
    stabilised = stabilise(image, read_noise_e=1.0, excess_noise=1.0)
    assert np.isnan(stabilised[0, 1])
    assert stabilised[1, 0] == 0.0
    assert np.isnan(destabilise(stabilised, read_noise_e=1.0, excess_noise=1.0)[0, 1])


@pytest.mark.parametrize(
    ("read_noise_e", "excess_noise", "words"), [(1.0, 0.0, "excess_noise is 0.0"), (-1.0, 1.0, "read_noise_e is -1.0 e")]
)
def test_unphysical_noise_is_refused(read_noise_e: float, excess_noise: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        stabilise(np.ones((2, 2)), read_noise_e=read_noise_e, excess_noise=excess_noise)
