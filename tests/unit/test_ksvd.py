"""K-SVD: the pursuit against least squares, a known dictionary found again, edges, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scant.errors import InputError
from scant.imaging.denoise.ksvd import MOST_USED, RESIDUAL_SD, _codes, _unit, ksvd_denoise, learn_dictionary


def sparse_patches(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random dictionary (40, 64) and patches (n, 64), each of three of its atoms with coefficients of 20 to 60 noise sd."""
    atoms = _unit(rng.standard_normal((40, 64)).astype(np.float32), rng)
    chosen = np.argsort(rng.random((n, 40)), axis=1)[:, :3]
    coefficients = rng.uniform(20, 60, (n, 3)) * rng.choice([-1, 1], (n, 3))
    return atoms, np.einsum("na,nap->np", coefficients, atoms[chosen]).astype(np.float32)


def test_the_pursuit_is_least_squares_on_the_atoms_it_chose():
    rng = np.random.default_rng(1)
    atoms, clean = sparse_patches(50, rng)
    noisy = clean + rng.standard_normal(clean.shape).astype(np.float32)
    coefficients, used, counts = _codes(noisy, atoms)
    for patch, values, chosen, count in zip(noisy, coefficients, used, counts):
        basis = atoms[chosen[:count]].T.astype(float)
        expected, residual, *_ = np.linalg.lstsq(basis, patch.astype(float), rcond=None)
        np.testing.assert_allclose(values[:count], expected, atol=1e-2)
        assert residual[0] <= 64 * RESIDUAL_SD**2 * 1.001 or count == MOST_USED
        assert len(set(chosen[:count])) == count
    assert np.median(counts) == 3


def test_a_flat_patch_uses_no_atom():
    _, _, counts = _codes(np.zeros((4, 64), np.float32), sparse_patches(1, np.random.default_rng(0))[0])
    assert counts.tolist() == [0, 0, 0, 0]


def stripes(rng: np.random.Generator, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:96, :112]
    scene = 100 + 8 * np.sin(0.9 * x + 0.2 * y) + 5 * np.sin(0.5 * y)
    return scene + rng.normal(0, sigma, scene.shape), scene


def test_a_learned_dictionary_takes_the_noise_out():
    rng = np.random.default_rng(2)
    noisy, scene = stripes(rng, 4.0)
    dictionary = learn_dictionary([stripes(rng, 4.0)[0]], np.random.default_rng(3), 4.0)
    np.testing.assert_allclose(np.linalg.norm(dictionary, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(dictionary.mean(axis=1), 0, atol=1e-6)
    denoised = ksvd_denoise(noisy, dictionary, 4.0)
    assert denoised.shape == scene.shape
    assert (denoised - scene).std() < 0.35 * 4.0
    untrained = ksvd_denoise(noisy, _unit(rng.standard_normal((256, 64)).astype(np.float32), rng), 4.0)
    assert (denoised - scene).std() < 0.75 * (untrained - scene).std()


def test_the_same_seed_gives_the_same_dictionary():
    noisy, _ = stripes(np.random.default_rng(4), 2.0)
    one, other = (learn_dictionary([noisy], np.random.default_rng(5), 2.0) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_constant_image_stays_and_every_pixel_is_covered():
    dictionary = sparse_patches(1, np.random.default_rng(6))[0]
    np.testing.assert_allclose(ksvd_denoise(np.full((21, 13), 7.0), dictionary, 1.0, step_px=3), 7.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "dictionary", "words"),
    [
        (np.ones((7, 30)), np.ones((256, 64), np.float32), "7 x 30 px; K-SVD needs at least 8"),
        (np.full((20, 20), np.nan), np.ones((256, 64), np.float32), "400 pixels are NaN"),
        (np.ones((20, 20)), np.ones((256, 49), np.float32), r"dictionary has shape \(256, 49\)"),
    ],
)
def test_what_does_not_fit_is_refused(image, dictionary, words):
    with pytest.raises(InputError, match=words):
        ksvd_denoise(image, dictionary)
