"""Linear filters against what theory says of them."""

from __future__ import annotations

import numpy as np
from scant.imaging.denoise.linear import gaussian_of_least_risk, radial_wiener
from scipy.ndimage import gaussian_filter


def smooth_image(seed: int) -> np.ndarray:
    image = gaussian_filter(np.random.default_rng(seed).normal(0, 1, (128, 128)), 5, mode="wrap")
    return 20 + 3 * image / image.std()


def test_the_gaussian_is_nearly_the_best_of_all():
    truth = smooth_image(0)
    noisy = truth + np.random.default_rng(1).normal(0, 1, truth.shape)
    errors = [((gaussian_filter(noisy, s, mode="wrap") - truth) ** 2).mean() for s in np.geomspace(0.5, 8, 40)]
    assert ((gaussian_of_least_risk(noisy) - truth) ** 2).mean() < 1.1 * min(errors)


def test_wiener_removes_white_noise_and_keeps_the_mean():
    flat = np.random.default_rng(2).normal(50, 1, (128, 128))
    filtered = radial_wiener(flat)
    assert filtered.std() < 0.3
    np.testing.assert_allclose(filtered.mean(), flat.mean(), rtol=1e-5)
    truth = smooth_image(3)
    noisy = truth + np.random.default_rng(4).normal(0, 1, truth.shape)
    assert ((radial_wiener(noisy) - truth) ** 2).mean() < 0.1
