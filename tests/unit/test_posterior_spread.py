"""Standard deviations from few samples: honest as a whole, better than each atom's alone, and faithful to atoms that differ."""

from __future__ import annotations

import numpy as np
import pytest
from scant.analysis.posterior_spread import mean_of_samples, posterior_sigma


def test_equal_atoms_share_one_sigma_and_pulls_are_normal():
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 0.2, (4, 800))
    sigma = posterior_sigma(values)
    np.testing.assert_allclose(sigma, 0.2, rtol=0.08)
    pull = rng.normal(0, 0.2, 800) / sigma
    assert np.sqrt(np.mean(pull**2)) == pytest.approx(1.0, abs=0.06)


def test_atoms_that_differ_keep_their_difference():
    rng = np.random.default_rng(2)
    true = np.where(np.arange(900) % 30 == 0, 2.0, 0.1)
    alone = rng.normal(0, 1, (4, 900)) * true
    sigma = posterior_sigma(alone)
    assert np.median(sigma[true > 1]) > 1.0 > 0.15 > np.median(sigma[true < 1])
    varied = 0.1 * np.exp(rng.normal(0, 0.4, 900))
    values = rng.normal(0, 1, (4, 900)) * varied
    single = values.std(axis=0, ddof=1)
    assert np.mean(np.log(posterior_sigma(values) / varied) ** 2) < 0.4 * np.mean(np.log(single / varied) ** 2)


def test_samples_without_a_value_are_left_out_and_few_atoms_stand_alone():
    values = np.array([[1.0, np.nan, 5.0], [3.0, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(mean_of_samples(values), [2.0, np.nan, 5.0])
    np.testing.assert_allclose(posterior_sigma(values), [np.sqrt(2), np.nan, np.nan])
    assert np.isnan(posterior_sigma(np.ones((1, 40)))).all()
    np.testing.assert_array_equal(posterior_sigma(np.ones((4, 40))), 0.0)
