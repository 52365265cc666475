import numpy as np
import pytest
from scant.errors import InputError
from scant.imaging.counts import correct_frame, flat_gain, make_detector, polynomial_flat, variance_cut
from scant.imaging.hits import find_hits, inpaint

SHAPE = (96, 130)


def no_bad() -> np.ndarray:
    return np.zeros(SHAPE, bool)


def lattice(contrast: float, width_px: float, period_px: float = 12.0) -> np.ndarray:
    """Gaussian atoms on a slanted lattice, mean 1."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    u = (x - 0.5 * y / 0.866 + 3.3) / period_px
    v = y / (0.866 * period_px) + 0.2
    dv = (v - np.round(v)) * 0.866 * period_px
    du = (u - np.round(u)) * period_px + 0.5 * dv / 0.866
    image = np.exp(-(du**2 + dv**2) / (2 * width_px**2))
    return 1 + contrast * (image - image.mean())


def test_correction_is_the_formula_pixel_by_pixel() -> None:
    generator = np.random.default_rng(0)
    raw = generator.integers(80, 4000, SHAPE).astype(np.uint16)
    dark, flat = generator.normal(100, 5, SHAPE), generator.uniform(0.5, 1.5, SHAPE)
    detector = make_detector(dark, flat, no_bad(), 6.0, 0.5)
    image = correct_frame(raw, detector, hit_threshold_sigma=1e6).image_e
    assert image.dtype == np.float32
    for y, x in ((0, 0), (5, 7), (95, 129), (40, 3)):
        assert image[y, x] == pytest.approx((float(raw[y, x]) - dark[y, x]) / (6.0 * flat[y, x]), rel=1e-5)


@pytest.mark.fault("F16")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
def test_dark_above_raw_is_negative_and_never_wraps(dtype: type) -> None:
    raw = np.full(SHAPE, 3, dtype)
    image = correct_frame(raw, make_detector(np.full(SHAPE, 5.0), None, no_bad(), 2.0)).image_e
    np.testing.assert_allclose(image, -1.0)


def test_bad_and_non_finite_pixels_weigh_nothing_and_are_filled() -> None:
    bad = no_bad()
    bad[10, 20], bad[50:56, 60:66], bad[:, 100] = True, True, True
    raw = np.full(SHAPE, 700.0)
    raw[bad] = 60000
    raw[30, 30], raw[31, 40] = np.nan, np.inf
    frame = correct_frame(raw, make_detector(np.full(SHAPE, 100.0), None, bad, 6.0))
    expected = ~bad
    expected[30, 30] = expected[31, 40] = False
    np.testing.assert_array_equal(frame.weight_mask, expected)
    np.testing.assert_allclose(frame.image_e, 100.0, rtol=1e-6)
    assert frame.n_hits == 0


def test_hits_do_not_depend_on_the_order_of_pixels() -> None:
    """Turned upside down, a frame has the same hits upside down: the spread of a hit looks at what was known before it."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        image, good = rng.poisson(50, (48, 48)).astype(np.float32), np.ones((48, 48), bool)
        for y, x in rng.integers(4, 44, (6, 2)):
            image[y, x] += 400
            image[y : y + 3, x : x + 3] += rng.uniform(10, 60, (3, 3)).astype(np.float32)
        hits, turned = find_hits(image, good, 1.0, 0.5), find_hits(image[::-1].copy(), good, 1.0, 0.5)
        np.testing.assert_array_equal(hits, turned[::-1])


def test_inpainting_is_the_gaussian_mean_of_good_neighbours() -> None:
    generator = np.random.default_rng(2)
    image = generator.uniform(0, 9, (20, 30)).astype(np.float32)
    good = generator.random((20, 30)) > 0.2
    filled = image.copy()
    inpaint(filled, ~good, good)
    np.testing.assert_array_equal(filled[good], image[good])
    for y, x in np.argwhere(~good):
        v, u = np.mgrid[max(0, y - 2) : min(20, y + 3), max(0, x - 2) : min(30, x + 3)]
        weight = np.exp(-0.5 * ((v - y) ** 2 + (u - x) ** 2)) * good[v, u]
        assert filled[y, x] == pytest.approx((weight * image[v, u]).sum() / weight.sum(), rel=1e-5)


@pytest.mark.parametrize("mean_e", [320.0, 32.0, 4.0, 0.3, 0.04])
def test_false_hits_are_rare_at_any_dose(mean_e: float) -> None:
    generator = np.random.default_rng(1)
    image = generator.poisson(mean_e, (700, 700)) + generator.normal(0, 0.3, (700, 700))
    assert find_hits(image.astype(np.float32), np.ones((700, 700), bool), 1.0, 0.3).mean() < 1e-5


@pytest.mark.parametrize(
    ("contrast", "width_px", "mean_e"), [(0.5, 2.0, 320), (-0.5, 2.0, 320), (0.8, 1.2, 700), (0.6, 0.8, 2000), (0.5, 4.0, 60)]
)
def test_atoms_are_not_eaten(contrast: float, width_px: float, mean_e: float) -> None:
    generator = np.random.default_rng(1)
    share = [
        find_hits(generator.poisson(mean_e * lattice(contrast, width_px)).astype(np.float32), ~no_bad(), 1.0, 0.5).mean() for _ in range(8)
    ]
    assert np.mean(share) < 1e-4


@pytest.mark.parametrize("contrast", [0.5, -0.5, 0.0])
def test_hits_are_found_on_a_lattice_borders_included(contrast: float) -> None:
    generator = np.random.default_rng(6)
    image = generator.poisson(320 * lattice(contrast, 2.0)).astype(np.float32)
    where = np.stack([generator.integers(0, SHAPE[0], 60), generator.integers(0, SHAPE[1], 60)])
    where[:, :4] = [[0, 0, 95, 40], [0, 77, 129, 0]]
    image[tuple(where)] += 20 * np.sqrt(320)
    assert find_hits(image, ~no_bad(), 1.0, 0.5)[tuple(where)].mean() > 0.97


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shared_charge_goes_with_its_hit(size: int) -> None:
    image = np.random.default_rng(4).poisson(320, SHAPE).astype(np.float32)
    image[20 : 20 + size, 30 : 30 + size] += 500
    hits = find_hits(image, ~no_bad(), 1.0, 0.5)
    assert hits[20 : 20 + size, 30 : 30 + size].all()
    assert hits.sum() <= size**2 + 2


def test_a_hit_is_masked_filled_and_counted() -> None:
    raw = 100 + 6.0 * np.random.default_rng(4).poisson(320, SHAPE)
    raw[40, 50] = 20000
    frame = correct_frame(raw, make_detector(np.full(SHAPE, 100.0), None, no_bad(), 6.0, 0.5))
    assert frame.n_hits == 1
    assert not frame.weight_mask[40, 50]
    assert frame.image_e[40, 50] == pytest.approx(320, abs=40)


@pytest.mark.fault("F16")
def test_flat_gain_has_mean_one_and_masks_what_it_cannot_correct() -> None:
    generator = np.random.default_rng(0)
    true = generator.uniform(0.7, 1.3, SHAPE)
    dark = generator.normal(100, 3, SHAPE)
    flat = dark + 1900 * true
    flat[1, 1], flat[2, 2], flat[3, 3], flat[4, 4], flat[5, 5] = np.nan, dark[2, 2], dark[3, 3] - 50, dark[4, 4] + 190, dark[5, 5] + 19000
    bad = no_bad()
    bad[6, 6] = True
    gain, grown = flat_gain(flat, dark, bad)
    assert {tuple(p) for p in np.argwhere(grown)} == {(i, i) for i in range(1, 7)}
    assert gain[~grown].mean() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose((gain / true)[~grown], 1 / true[~grown].mean(), rtol=1e-5)
    assert (gain[grown] == 1).all()


def test_polynomial_flat_follows_the_envelope_not_the_atoms_or_the_hole() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    envelope = 1 - 0.3 * ((x - 80) / 130) ** 2 - 0.2 * (y / 96) ** 2 + 0.1 * x * y / 96 / 130
    median = 100 + 1900 * envelope * lattice(0.3, 2.0)
    median[20:30, 20:36] = 100 + 1900 * 1.4
    gain, grown = polynomial_flat(median, np.full(SHAPE, 100.0), no_bad())
    assert not grown.any()
    ratio = gain / envelope
    assert ratio.std() / ratio.mean() < 0.01


def test_variance_cut_of_a_known_pattern() -> None:
    generator = np.random.default_rng(0)
    flat = 1 + 0.2 * np.cos(np.arange(SHAPE[1]) / 20.0)[None, :] * np.ones(SHAPE)
    electrons = generator.poisson(400, SHAPE)
    raw = 100 + 6.0 * flat * electrons
    corrected = correct_frame(raw, make_detector(np.full(SHAPE, 100.0), flat, no_bad(), 6.0))
    cut = variance_cut(raw, corrected, 100.0)
    expected = 1 - (1 / 400) / (np.var(flat * electrons) / np.mean(flat * electrons) ** 2)
    assert cut.good_pixels == pytest.approx(expected, abs=0.02)
    assert cut.background > 0.98
    raw[7, 7] = 60000
    assert variance_cut(raw, correct_frame(raw, make_detector(np.full(SHAPE, 100.0), flat, no_bad(), 6.0)), 100.0).total > 0.95


@pytest.mark.parametrize(
    ("name", "value"), [("gain_adu_per_electron", v) for v in (0.0, -6.0, np.nan, np.inf)] + [("excess_noise", 0.0), ("read_noise_e", -1.0)]
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    numbers = {"gain_adu_per_electron": 6.0, "excess_noise": 1.0, "read_noise_e": 0.5} | {name: value}
    with pytest.raises(InputError, match=name):
        make_detector(None, None, no_bad(), **numbers)


@pytest.mark.fault("F17")
def test_calibration_images_that_cannot_be_are_refused() -> None:
    ones = np.ones(SHAPE)
    with pytest.raises(InputError, match=r"dark is \(4, 4\)"):
        make_detector(np.ones((4, 4)), None, no_bad(), 6.0)
    with pytest.raises(InputError, match="flat is"):
        flat_gain(np.ones((4, 4)), ones, no_bad())
    with pytest.raises(InputError, match="no finite pixel"):
        make_detector(np.nan * ones, None, no_bad(), 6.0)
    with pytest.raises(InputError, match="nowhere above the dark"):
        flat_gain(ones, 100 * ones, no_bad())
    with pytest.raises(InputError, match="nowhere above the dark"):
        flat_gain(np.nan * ones, ones, no_bad())
    with pytest.raises(InputError, match="nowhere above the dark"):
        polynomial_flat(ones, 100 * ones, no_bad())
    with pytest.raises(InputError, match="all"):
        make_detector(None, None, ~no_bad(), 6.0)
    with pytest.raises(InputError, match="frame is"):
        correct_frame(np.ones((4, 4)), make_detector(None, None, no_bad(), 6.0))
