"""BM3D: its vector kernels against plain numpy, the whole filter against a naive loop, and what any denoiser must keep."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scant.errors import InputError
from scant.imaging.denoise import FINE_PROFILE, Profile, bm3d, bm3d_of_window
from scant.imaging.denoise import bm3d_kernels as kernels
from scant.imaging.denoise import bm3d_vector as vector

SIGMA = 12.0
_transform = vector.row_transform(kernels.biorthogonal_matrix())
_back = vector.aggregate(np.linalg.inv(kernels.biorthogonal_matrix()))
_nearer = vector.nearer(kernels.PILOT_SAMPLES, 24)
_keep = vector.keep_nearest(16)
_threshold = vector.hard_threshold(8)
_wiener = vector.wiener(4)


def scene(height: int = 61, width: int = 158) -> np.ndarray:
    """Edges, a slope and a texture, nothing symmetric; wider than one strip."""
    y, x = np.mgrid[:height, :width].astype(float)
    image = 100 + 0.3 * x - 0.2 * y + 30 * np.sin(x / 3.1 + y / 7.3) * (x > 70) + 60 * (y > 0.4 * x + 11)
    return image.astype(np.float32)


def noisy_scene(seed: int = 3) -> np.ndarray:
    return (scene() + np.random.default_rng(seed).normal(0, SIGMA, scene().shape)).astype(np.float32)


def haar_matrix(size: int) -> np.ndarray:
    """Orthonormal Haar transform, coarsest first."""
    if size == 1:
        return np.ones((1, 1))
    low = np.kron(np.eye(size // 2), [1, 1]) / np.sqrt(2)
    high = np.kron(np.eye(size // 2), [1, -1]) / np.sqrt(2)
    return np.vstack([haar_matrix(size // 2) @ low, high])


@pytest.mark.parametrize("matrix", [kernels.dct_matrix(), kernels.biorthogonal_matrix()], ids=["dct", "bior1.5"])
def test_transforms_keep_white_noise(matrix: np.ndarray) -> None:
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1)
    np.testing.assert_allclose(matrix[0], np.full(8, 8**-0.5), atol=1e-12)
    np.testing.assert_allclose(matrix[1:].sum(axis=1), 0, atol=1e-12)
    assert np.linalg.cond(matrix) < 2


def test_patch_transform_and_back() -> None:
    matrix = kernels.biorthogonal_matrix().astype(np.float32)
    image = noisy_scene()
    half = np.empty((8, image.shape[1]), dtype=np.float32)
    coefficients, sums = np.zeros(64, dtype=np.float32), np.zeros((20, 2, 30), dtype=np.float32)
    window = np.random.default_rng(0).random((8, 8), dtype=np.float32)

    @njit
    def run(half, coefficients, sums, window):  # arrays as arguments: numba would freeze a copy of an outer one
        _transform(half, 17, half.shape[1], coefficients, 0)
        _back(coefficients, 0, sums, 2 * 3 * 30 + 4, 30, window)

    kernels.columns_transform(image, 5, matrix, half)
    run(half, coefficients, sums, window)
    patch = image[5:13, 17:25]
    np.testing.assert_allclose(coefficients.reshape(8, 8), (matrix @ patch @ matrix.T).T, atol=1e-2)
    np.testing.assert_allclose(sums[3:11, 0, 4:12], patch * window, atol=1e-3)
    np.testing.assert_array_equal(sums[3:11, 1, 4:12], window)
    assert np.count_nonzero(sums) == 128


def test_matching_against_a_sort() -> None:
    image = noisy_scene() / np.float32(SIGMA)
    distances, keys = np.empty(64, dtype=np.float32), np.full(16, 1e30, dtype=np.float32)

    @njit
    def run(image, distances, keys):
        limit, found = np.float32(1e30), 0
        for row in range(5):
            bits = _nearer(image, row * image.shape[1] + 20, 9 * image.shape[1] + 40, image.shape[1], distances, limit)
            limit = _keep(keys, distances, bits, row)
            found += bits != 0
        return found

    assert run(image, distances, keys) > 1
    samples = np.array(kernels.PILOT_SAMPLES)
    own = image[9 + samples[:, 0], 40 + samples[:, 1]]
    expected = {
        (row, lane): float(((image[row + samples[:, 0], 20 + lane + samples[:, 1]] - own) ** 2).sum())
        for row in range(5)
        for lane in range(24)
    }
    nearest = sorted(expected, key=lambda place: expected[place])[:16]
    codes = keys.view(np.int32)
    places = [(int(code & 0xFFF) >> 6, int(code & 63)) for code in codes]
    assert set(places[:12]) <= set(nearest)
    np.testing.assert_allclose([expected[place] for place in places], [expected[place] for place in nearest], rtol=1e-3)
    np.testing.assert_allclose(keys, [expected[place] for place in places], rtol=1e-3)


def test_group_filters_against_matrices() -> None:
    rng = np.random.default_rng(4)
    noisy, pilot = (rng.normal(0, 2, (10, 64)).astype(np.float32) for _ in range(2))
    order = np.array([6, 1, 9, 3, 0, 8, 2, 7])
    hard, soft = np.empty((8, 64), dtype=np.float32), np.empty((4, 64), dtype=np.float32)

    variances = rng.uniform(0.2, 2, 64).astype(np.float32)
    limits = 2.6 * np.sqrt(variances)

    @njit
    def run(noisy, pilot, order, hard, soft, limits, variances):
        kept = _threshold(noisy, order * 64, hard, limits, variances)
        return kept, _wiener(noisy, pilot, order * 64, soft, variances)

    kept, power = run(noisy, pilot, order, hard, soft, limits, variances)
    coefficients = haar_matrix(8) @ noisy[order]
    large = np.abs(coefficients) > limits
    assert kept == pytest.approx((large * variances).sum(), rel=1e-5)
    np.testing.assert_allclose(hard, haar_matrix(8).T @ (coefficients * large), atol=1e-5)
    known = haar_matrix(4) @ pilot[order[:4]]
    weights = known**2 / (known**2 + variances)
    assert power == pytest.approx((weights**2 * variances).sum(), rel=1e-5)
    np.testing.assert_allclose(soft, haar_matrix(4).T @ (weights * (haar_matrix(4) @ noisy[order[:4]])), atol=1e-5)


def naive_stage(noisy: np.ndarray, pilot: np.ndarray, profile: Profile, hard: bool) -> np.ndarray:
    """One reference patch at a time, in float64, with the same choice of patches (their distances resolved to 11 bits)."""
    matrix = kernels.biorthogonal_matrix() if hard else kernels.dct_matrix()
    inverse, samples = np.linalg.inv(matrix), np.array(kernels.NOISY_SAMPLES if hard else kernels.PILOT_SAMPLES)
    size, image, kaiser = 16, noisy if hard else pilot, np.kaiser(8, 2.0)
    ny, nx = noisy.shape[0] - 7, noisy.shape[1] - 7
    values, weights = np.zeros(noisy.shape), np.zeros(noisy.shape)
    step = profile.hard_step_px if hard else profile.wiener_step_px
    for turn, y in enumerate(sorted({*range(0, ny, step), ny - 1})):
        for x in sorted({0, *range(turn % 2 * (step // 2), nx, step), nx - 1}):
            top, left = min(max(y - 19, 0), ny - 39), min(max(x - 20, 0), nx - 40)
            row, lane = (axis.ravel() for axis in np.mgrid[:39, :40])
            candidates = image[(top + row)[:, None] + samples[:, 0], (left + lane)[:, None] + samples[:, 1]]
            distance = ((candidates - image[y + samples[:, 0], x + samples[:, 1]]) ** 2).sum(axis=1, dtype=np.float64) + 1e-3
            keys = (distance.astype(np.float32).view(np.int32) & -4096) | (row << 6 | lane)
            keys[(row == y - top) & (lane == x - left)] = 0
            chosen = np.argsort(keys)[:size]
            places = list(zip(top + row[chosen], left + lane[chosen]))
            group = np.array([matrix @ noisy[r : r + 8, c : c + 8] @ matrix.T for r, c in places])
            coefficients = np.tensordot(haar_matrix(size), group, 1)
            if hard:
                shrink = (np.abs(coefficients) > profile.hard_threshold).astype(float)
            else:
                known = np.tensordot(haar_matrix(size), np.array([matrix @ pilot[r : r + 8, c : c + 8] @ matrix.T for r, c in places]), 1)
                shrink = known**2 / (known**2 + profile.wiener_strength)
            window = np.outer(kaiser, kaiser) / max((shrink**2).sum(), 1.0 if hard else 1e-3)
            for (r, c), patch in zip(places, np.tensordot(haar_matrix(size).T, coefficients * shrink, 1)):
                values[r : r + 8, c : c + 8] += window * (inverse @ patch @ inverse.T)
                weights[r : r + 8, c : c + 8] += window
    return values / weights


def test_against_a_naive_loop() -> None:
    """Pixels agree except where rounding tips a choice between equally near patches, or a coefficient over the threshold."""
    image, profile = noisy_scene(), Profile()
    scaled = (image.astype(np.float64) - image.mean(dtype=np.float64)) / SIGMA
    scaled = scaled.astype(np.float32)
    pilot = naive_stage(scaled, scaled, profile, hard=True).astype(np.float32)
    final = naive_stage(scaled, pilot, profile, hard=False)
    expected = (final + 0.15 * (final - pilot)) * SIGMA + image.mean(dtype=np.float64)
    difference = np.abs(bm3d(image, SIGMA, profile) - expected)
    assert np.median(difference) < 2e-3 * SIGMA
    assert np.quantile(difference, 0.99) < 0.05 * SIGMA


def window_of(scenes: list[np.ndarray]) -> list[np.ndarray]:
    return [(image + np.random.default_rng(n).normal(0, SIGMA, image.shape)).astype(np.float32) for n, image in enumerate(scenes)]


def test_a_window_of_still_frames_is_as_good_as_its_mean() -> None:
    frames = window_of([scene()] * 5)
    of_mean = np.std(bm3d(np.mean(frames, axis=0), SIGMA / 5**0.5) - scene())
    for own in (0, 2, 4):
        assert np.std(bm3d_of_window(frames, own, SIGMA) - scene()) < 1.07 * of_mean
    assert of_mean < 0.7 * np.std(bm3d(frames[2], SIGMA) - scene())


def test_what_changes_within_a_window_stays_with_its_frames() -> None:
    """A spot that is there in the first two frames alone, eight times the noise high."""
    y, x = np.mgrid[: scene().shape[0], : scene().shape[1]]
    spot = 8 * SIGMA * np.exp(-((y - 30) ** 2 + (x - 110) ** 2) / (2 * 2.5**2))
    truth = [scene() + spot * (n < 2) for n in range(5)]
    near, frames = spot > SIGMA, window_of(truth)
    together = [bm3d_of_window(frames, n, SIGMA) for n in range(5)]
    of_mean = bm3d(np.mean(frames, axis=0), SIGMA / 5**0.5)
    for n in range(5):
        assert np.std((together[n] - truth[n])[near]) < 0.6 * np.std((of_mean - truth[n])[near])


def test_frames_of_a_window_share_one_shape() -> None:
    with pytest.raises(InputError, match="frames of one window differ in shape"):
        bm3d_of_window([np.ones((50, 50)), np.ones((50, 51))], 0, 1.0)


def test_takes_the_noise_out_and_keeps_the_scene() -> None:
    error = bm3d(noisy_scene(), SIGMA) - scene()
    assert np.std(error) < 0.35 * SIGMA
    assert abs(error.mean()) < 0.1 * SIGMA


def test_pure_noise_becomes_flat() -> None:
    noise = np.random.default_rng(8).normal(7.0, 1.0, (96, 128)).astype(np.float32)
    assert bm3d(noise, 1.0).std() < 0.12


def test_bit_identical_and_input_untouched() -> None:
    image = noisy_scene()
    before = image.copy()
    np.testing.assert_array_equal(bm3d(image, SIGMA), bm3d(image, SIGMA))
    np.testing.assert_array_equal(image, before)


def test_units_do_not_matter() -> None:
    plain = bm3d(noisy_scene(), SIGMA)
    scaled = bm3d(noisy_scene().astype(np.float64) * 250 + 3e4, SIGMA * 250)
    difference = np.abs((scaled - 3e4) / 250 - plain)
    assert np.median(difference) < 1e-2 * SIGMA
    assert np.quantile(difference, 0.99) < 0.1 * SIGMA


@pytest.mark.parametrize("shape", [(8, 8), (20, 33), (46, 47), (47, 200), (1, 5), (131, 48)])
def test_any_shape_is_covered(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(50, 1, shape)
    result = bm3d(image, 1.0)
    assert result.shape == shape
    assert result.dtype == np.float32
    assert np.abs(result - 50).max() < 4


def test_constant_image_stays() -> None:
    """All distances tie; the reference itself must still be in its group, or pixels would be left uncovered."""
    np.testing.assert_allclose(bm3d(np.full((70, 90), 321.5), 2.0), 321.5, rtol=1e-6)


def test_almost_no_noise_changes_almost_nothing() -> None:
    np.testing.assert_allclose(bm3d(scene(), 1e-2), scene(), atol=0.1)


def test_finer_steps_are_no_worse() -> None:
    fine, default = (np.std(bm3d(noisy_scene(), SIGMA, profile) - scene()) for profile in (FINE_PROFILE, Profile()))
    assert fine < 1.02 * default


@pytest.mark.parametrize(
    ("image", "sigma", "profile", "words"),
    [
        (np.ones((3, 50, 50)), 1.0, Profile(), r"shape \(3, 50, 50\)"),
        (np.ones((50, 50)), 0.0, Profile(), "noise sd for BM3D is 0.0"),
        (np.ones((50, 50)), float("nan"), Profile(), "noise sd for BM3D is nan"),
        (scene(), 1e-9, Profile(), "the image spans .* noise sd, more than 1e"),
        (np.ones((50, 50)), 1.0, Profile(hard_step_px=9), "a step is 9 px; .* 1 to 8 px"),
        (np.ones((50, 50)), 1.0, Profile(wiener_step_px=0), "a step is 0 px; .* 1 to 8 px"),
    ],
)
def test_bad_input_is_refused(image: np.ndarray, sigma: float, profile: Profile, words: str) -> None:
    with pytest.raises(InputError, match=words):
        bm3d(image, sigma, profile)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_pixel_is_named(value: float) -> None:
    image = scene()
    image[4, 9] = value
    with pytest.raises(InputError, match=r"1 pixels are NaN or infinite, the first at \(y, x\) = \(4, 9\): inpaint"):
        bm3d(image, SIGMA)
