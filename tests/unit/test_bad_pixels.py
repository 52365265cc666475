import numpy as np
import pytest
from scant.errors import InputError
from scant.imaging.bad_pixels import bad_pixel_map, smooth_reference
from scant.imaging.temporal import temporal_median_mad

SHAPE = (128, 160)


def camera(seed: int = 5, n_frames: int = 24, mean_e: float = 150.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw movie (with a drifting lattice), dark and flat of a camera without defects: gain 4 ADU/e, offset 80 ADU, read noise 3 ADU."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    gain = (1 - 0.3 * ((x - 90) ** 2 + (y - 40) ** 2) / 160**2) * generator.normal(1, 0.02, SHAPE)
    dark = 80 + 0.02 * x + generator.normal(0, 2, SHAPE)
    lattice = [1 + 0.3 * np.cos(0.6 * (x - 0.1 * t)) * np.cos(0.45 * y) for t in range(n_frames)]
    movie = np.array([dark + 4 * gain * generator.poisson(mean_e * image) for image in lattice])
    return movie + generator.normal(0, 3, movie.shape), dark, dark + 4 * gain * mean_e


def maps(movie: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    statistics = temporal_median_mad(movie)
    return statistics.median_adu, statistics.mad_adu


CALIBRATIONS = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize(("with_dark", "with_flat"), CALIBRATIONS)
def test_a_good_camera_has_no_bad_pixels(with_dark: bool, with_flat: bool) -> None:
    movie, dark, flat = camera()
    bad = bad_pixel_map(*maps(movie), dark if with_dark else None, flat if with_flat else None)
    assert bad.counts["total"] <= 2


@pytest.mark.parametrize(("with_dark", "with_flat"), CALIBRATIONS)
def test_stuck_hot_and_noisy_pixels_are_found_whatever_is_known(with_dark: bool, with_flat: bool) -> None:
    movie, dark, flat = camera()
    generator = np.random.default_rng(8)
    movie[:, 10, 20], movie[:, 30, 40], movie[:, 50, 60] = 0, 60000, 700
    movie[:, 70, 80] = generator.integers(0, 6000, 24)
    movie[:, 90, 100] += generator.normal(0, 500, 24)
    dark[30, 40] = flat[30, 40] = 60000
    dark[10, 20] = flat[10, 20] = 0
    bad = bad_pixel_map(*maps(movie), dark if with_dark else None, flat if with_flat else None)
    for where in ((10, 20), (30, 40), (50, 60), (70, 80), (90, 100)):
        assert bad.mask[where], where
    assert bad.where("dead")[10, 20]
    assert bad.where("hot")[30, 40]
    assert bad.where("stuck")[50, 60]
    assert bad.where("noisy")[90, 100]
    assert bad.counts["total"] <= 7


def test_low_gain_shows_in_the_flat() -> None:
    movie, dark, flat = camera()
    flat[20, 30] = dark[20, 30] + 0.6 * (flat - dark)[20, 30]
    flat[40, 50] = dark[40, 50]
    bad = bad_pixel_map(*maps(movie), dark, flat)
    assert bad.where("gain")[20, 30]
    assert not bad.where("dead")[20, 30]
    assert bad.where("dead")[40, 50]


def test_columns_rows_and_clusters_do_not_poison_their_own_reference() -> None:
    movie, dark, flat = camera()
    movie[:, :, 33], movie[:, 77, 40:], movie[:, 100:120, 100:120] = 0, 0, 0
    bad = bad_pixel_map(*maps(movie), dark, flat)
    assert bad.mask[:, 33].all()
    assert bad.mask[77].all()
    assert bad.mask[100:120, 100:120].all()
    assert bad.where("line")[77, 10]
    outside = bad.mask.copy()
    outside[:, 33], outside[77], outside[100:120, 100:120] = False, False, False
    assert outside.sum() <= 2
    assert bad.n_clusters >= 1


def test_non_finite_calibration_is_bad() -> None:
    movie, dark, flat = camera()
    flat[3, 4], dark[5, 6] = np.nan, np.inf
    bad = bad_pixel_map(*maps(movie), dark, flat)
    assert bad.mask[3, 4]
    assert bad.mask[5, 6]
    assert bad.counts["total"] <= 4


def test_low_dose_and_counting_movies_keep_their_pixels() -> None:
    movie, dark, flat = camera(mean_e=3.0)
    assert bad_pixel_map(*maps(movie), dark, flat).counts["total"] <= 5
    counts = np.random.default_rng(2).poisson(0.4, (24, *SHAPE)).astype(np.uint8)
    assert bad_pixel_map(*maps(counts)).counts["total"] == 0


def test_smooth_reference_ignores_bad_pixels() -> None:
    y, x = np.mgrid[:70, :90]
    image = 100.0 + 0.5 * x + 0.2 * y
    bad = np.zeros(image.shape, bool)
    bad[20:36, 30:50] = True
    reference = smooth_reference(np.where(bad, 1e6, image), bad)
    assert np.abs(reference - image)[16:-16, 16:-16].max() < 8
    np.testing.assert_allclose(reference[24:48, 40], reference[24:48, 40].mean(), atol=8)


def test_other_shape_is_refused() -> None:
    median = np.ones((8, 8))
    with pytest.raises(InputError, match="dark is"):
        bad_pixel_map(median, median, np.ones((4, 8)))
