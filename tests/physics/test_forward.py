"""The image model: gradient against finite differences, precision, species, edges, and abTEM multislice as the judge."""

from __future__ import annotations

import numpy as np
import pytest
from scant.errors import InputError
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.gridded_sums import GriddedSums
from scant.physics.lattice import honeycomb
from scant.physics.optics import Optics
from scant.units import interaction_constant_rad_per_v_angstrom, wavelength_angstrom

OPTICS = Optics(
    voltage_kv=80.0, cs_angstrom=-130000.0, defocus_angstrom=-45.0, focal_spread_angstrom=10.0, objective_aperture_mrad=52.2,
    astigmatism_x_angstrom=4.0, astigmatism_y_angstrom=-3.0, envelope_b_angstrom2=1.0, contrast_scale=0.95,
)  # fmt: skip
GRID = ImageGrid.padded(60, 72, 0.2, 4.0)


def rippled_sheet(width_angstrom: float = 14.4, height_angstrom: float = 12.0, seed: int = 0) -> np.ndarray:
    xy = honeycomb(width_angstrom, height_angstrom, rotation_rad=0.2)
    z = 0.8 * np.sin(2 * np.pi * xy[:, 0] / 9.0) + 0.5 * np.cos(2 * np.pi * (xy[:, 1] + 0.3 * xy[:, 0]) / 7.0)
    return np.column_stack([xy, z]) + np.random.default_rng(seed).normal(0, 0.05, (len(xy), 3))


def test_constants_at_80_kv():
    assert wavelength_angstrom(80.0) == pytest.approx(0.041757, rel=1e-4)
    assert interaction_constant_rad_per_v_angstrom(80.0) == pytest.approx(1.0087e-3, rel=1e-3)


def test_gradient_is_the_slope_of_the_image():
    positions = rippled_sheet()
    model = ForwardModel(OPTICS, GRID, np.full(len(positions), "C"), n_orders=5, dtype=np.float64)
    image, waves = model.linear_image(positions[None])
    slope = np.random.default_rng(1).normal(size=image.shape)
    gradient = model.gradient(slope, waves)
    step = 1e-4
    for atom, axis in ((3, 0), (11, 1), (20, 2), (len(positions) - 1, 2)):
        shifted = np.repeat(positions[None], 2, axis=0)
        shifted[0, atom, axis] += step
        shifted[1, atom, axis] -= step
        images = model.linear_image(shifted)[0]
        difference = ((images[0] - images[1]) * slope[0]).sum() / (2 * step)
        assert gradient[0, atom, axis] == pytest.approx(difference, rel=1e-5, abs=1e-8)


def test_sums_equal_a_naive_loop_over_atoms():
    positions = rippled_sheet()[:7]
    model = ForwardModel(OPTICS, GRID, np.full(len(positions), "C"), n_orders=6, dtype=np.float64)
    together = model.linear_image(positions[None])[0]
    alone = ForwardModel(OPTICS, GRID, np.array(["C"]), n_orders=6, dtype=np.float64)
    one_by_one = sum(alone.linear_image(atom[None, None])[0] for atom in positions)
    np.testing.assert_allclose(together, one_by_one, atol=1e-12)


def test_a_shift_by_whole_pixels_shifts_the_image():
    positions = rippled_sheet() + [2.0, 2.0, 0.0]
    model = ForwardModel(OPTICS, GRID, np.full(len(positions), "C"), dtype=np.float64)
    before = model.image(positions[None])[0]
    after = model.image((positions + [3 * 0.2, -2 * 0.2, 0.0])[None])[0]
    np.testing.assert_allclose(after[4:-6, 8:-4], before[6:-4, 5:-7], atol=1e-9)


def test_a_height_is_a_defocus_of_its_atom():
    flat = rippled_sheet()
    flat[:, 2] = 0
    raised = flat + [0, 0, 3.0]
    names = np.full(len(flat), "C")
    high = ForwardModel(OPTICS, GRID, names, n_orders=7, dtype=np.float64).linear_image(raised[None])[0]
    defocused = ForwardModel(OPTICS.with_values(defocus_angstrom=-42.0), GRID, names, n_orders=7, dtype=np.float64).linear_image(
        flat[None]
    )[0]
    assert np.abs(high - defocused).max() < 1e-3 * defocused.std()


def test_single_precision_and_three_orders_are_enough_for_a_rippled_sheet():
    positions = rippled_sheet()
    names = np.full(len(positions), "C")
    exact = ForwardModel(OPTICS, GRID, names, n_orders=8, dtype=np.float64).image(positions[None])
    quick = ForwardModel(OPTICS, GRID, names).image(positions[None].astype(np.float32))
    assert quick.dtype == np.float32
    assert (quick - exact).std() < 2e-3 * exact.std()


def test_a_batch_equals_its_frames_and_padding_is_not_there():
    one, two = rippled_sheet(seed=1), rippled_sheet(seed=2)[:-9]
    species = np.full((2, len(one)), "C")
    species[1, len(two) :] = ""
    batch = np.zeros((2, len(one), 3))
    batch[0], batch[1, : len(two)] = one, two
    model = ForwardModel(OPTICS, GRID, species, dtype=np.float64)
    image, waves = model.linear_image(batch)
    for n, positions in enumerate((one, two)):
        alone = ForwardModel(OPTICS, GRID, np.full(len(positions), "C"), dtype=np.float64)
        np.testing.assert_allclose(image[n], alone.linear_image(positions[None])[0][0], atol=1e-12)
    gradient = model.gradient(np.ones_like(image), waves)
    assert np.all(gradient[1, len(two) :] == 0)


def test_two_elements_add_up():
    positions = rippled_sheet()
    species = np.where(np.arange(len(positions)) % 2, "B", "N")
    both = ForwardModel(OPTICS, GRID, species, dtype=np.float64)
    image, waves = both.linear_image(positions[None])
    parts = [
        ForwardModel(OPTICS, GRID, species[species == name], dtype=np.float64).linear_image(positions[None][:, species == name])[0]
        for name in ("B", "N")
    ]
    np.testing.assert_allclose(image, parts[0] + parts[1], atol=1e-12)
    slope = np.random.default_rng(2).normal(size=image.shape)
    gradient = both.gradient(slope, waves)
    moved = positions.copy()
    moved[5, 1] += 1e-4
    rise = ((both.linear_image(moved[None])[0] - image) * slope).sum() / 1e-4
    assert gradient[0, 5, 1] == pytest.approx(rise, rel=1e-3)


def test_unknown_element_and_no_atoms_are_refused():
    with pytest.raises(InputError, match="Xx"):
        ForwardModel(OPTICS, GRID, np.array(["Xx"]))
    with pytest.raises(InputError, match="no atoms"):
        ForwardModel(OPTICS, GRID, np.array([""]))


HIGHER = {"C12": 9.0, "phi12": 0.4, "C21": 150.0, "phi21": 0.5, "C23": 200.0, "phi23": 0.3}


@pytest.mark.parametrize(("defocus_angstrom", "higher"), [(-120.0, {}), (-45.0, {}), (60.0, {}), (120.0, {}), (-45.0, HIGHER)])
def test_image_equals_abtem_multislice_on_a_rippled_sheet(defocus_angstrom, higher):
    """Difference at most 1.5 % of the contrast; intensities averaged over the focal spread on both sides; higher aberrations too."""
    abtem = pytest.importorskip("abtem")
    import ase

    c12, c21, c23 = (higher.get(f"C{n}", 0.0) * np.exp(1j * m * higher.get(f"phi{n}", 0.0)) for n, m in ((12, 2), (21, 1), (23, 3)))
    optics = Optics(
        80.0, -130000.0, defocus_angstrom, 10.0, 52.2, astigmatism_x_angstrom=-c12.real, astigmatism_y_angstrom=-c12.imag,
        coma_x_angstrom=c21.real, coma_y_angstrom=c21.imag, threefold_x_angstrom=c23.real, threefold_y_angstrom=c23.imag,
    )  # fmt: skip
    a, n_x, n_y = 2.46, 8, 5
    width, height = n_x * a, n_y * a * np.sqrt(3)
    cell_xy = np.array([[0, 0], [0.5, 0.5], [0.5, 1 / 6], [0, 2 / 3]]) * [a, a * np.sqrt(3)]
    corners = np.array([(i * a, j * a * np.sqrt(3)) for i in range(n_x) for j in range(n_y)])
    xy = (corners[:, None] + cell_xy).reshape(-1, 2)
    z = np.sin(2 * np.pi * xy[:, 0] / width) + 0.7 * np.cos(4 * np.pi * xy[:, 1] / height)
    # Coarser than 0.05 A abTEM's own potential is 1 % of the contrast off.
    gpts, n_pixels = (384, 416), 192
    atoms = ase.Atoms("C" * len(xy), np.column_stack([xy, z + 5.0]), cell=[width, height, 10.0], pbc=True)
    potential = abtem.Potential(atoms, gpts=gpts, slice_thickness=0.2, parametrization="lobato", projection="infinite")
    wave = abtem.PlaneWave(energy=80e3).multislice(potential).compute()
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    reference = np.zeros(gpts)
    for node, weight in zip(nodes, weights / weights.sum()):
        # abTEM's exit wave is at the end of the cell, 5 A downstream of the mean plane.
        ctf = abtem.CTF(
            energy=80e3, defocus=defocus_angstrom + 10.0 * node + 5.0, Cs=-130000.0, semiangle_cutoff=52.2, soft=False, **higher
        )
        reference += weight * np.abs(wave.apply_ctf(ctf).compute().array) ** 2
    pixel = width / n_pixels
    # Periodic images of the cell around the view: our model is not periodic.
    tiles = np.concatenate([np.column_stack([xy + [i * width, j * height], z]) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    near = np.all((tiles[:, :2] > -24) & (tiles[:, :2] < [width + 24, height + 24]), axis=1)
    ny = round(height / pixel)
    model = ForwardModel(optics, ImageGrid.padded(ny, n_pixels, pixel, 26.0), np.full(near.sum(), "C"), n_orders=6, dtype=np.float64)
    ours = model.image(tiles[near][None])[0]
    theirs = _resampled(reference.T, (height / gpts[1], width / gpts[0]), (ny, n_pixels), pixel)
    inner = (slice(8, -8), slice(8, -8))
    difference = (ours - theirs)[inner] - (ours - theirs)[inner].mean()
    assert difference.std() <= 0.015 * theirs[inner].std(), difference.std() / theirs[inner].std()


def test_a_lifted_sheet_is_one_at_another_defocus():
    """In the linear and in the quadratic image: an atom at height z has the defocus of the movie plus z."""
    flat = rippled_sheet() * [1, 1, 0]
    elsewhere = OPTICS.with_values(defocus_angstrom=OPTICS.defocus_angstrom + 2.0)
    images = []
    for optics, positions in ((OPTICS, flat + [0, 0, 2.0]), (elsewhere, flat)):
        model = ForwardModel(optics, GRID, np.full(len(flat), "C"), n_orders=8, dtype=np.float64)
        images.append((model.linear_image(positions[None])[0], model.quadratic_image(positions[None])))
    for name, lifted, defocused in zip(("linear", "quadratic"), *images):
        np.testing.assert_allclose(lifted, defocused, atol=1e-5 * defocused.std(), err_msg=name)


def _resampled(image: np.ndarray, sampling: tuple[float, float], shape: tuple[int, int], pixel: float) -> np.ndarray:
    """Fourier interpolation of a periodic image (y, x) onto a square grid of the given pixel."""
    rows = np.exp(2j * np.pi * np.outer(np.arange(shape[0]) * pixel, np.fft.fftfreq(image.shape[0], sampling[0])))
    columns = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(image.shape[1], sampling[1]), np.arange(shape[1]) * pixel))
    return (rows @ np.fft.fft2(image) @ columns).real / image.size


@pytest.mark.parametrize("grid", [GRID, ImageGrid.padded(60, 85, 0.2, 4.0)], ids=["even", "odd"])
def test_gridded_sums_equal_the_matrix_products(grid):
    """Single precision on a non-uniform FFT against matrix products in double: image, gradient, and the gradient against its own energy."""
    rng = np.random.default_rng(4)
    positions = np.column_stack([rng.uniform(-3, 13, (60, 2)), rng.normal(0, 0.8, 60)])[None].repeat(2, axis=0)
    positions[1] += rng.normal(0, 0.1, positions[1].shape)
    species = np.where(np.arange(60) % 3, "C", "N")
    exact, fast = (ForwardModel(OPTICS, grid, species, n_orders=4, dtype=dtype) for dtype in (np.float64, np.float32))
    image, waves = exact.linear_image(positions)
    close, fast_waves = fast.linear_image(positions.astype(np.float32))
    np.testing.assert_allclose(close, image, atol=3e-4 * image.std())
    smooth = image - image.mean()
    gradient, fast_gradient = exact.gradient(smooth, waves), fast.gradient(smooth.astype(np.float32), fast_waves)
    np.testing.assert_allclose(fast_gradient, gradient, atol=2e-3 * gradient.std())


def test_transforms_have_fast_lengths():
    """Lengths without a prime beyond 5: even ones alone are not enough, 226 is twice a prime."""
    for side_px in range(180, 260, 3):
        grid = ImageGrid.padded(side_px, side_px, 0.2, 6.0)
        band = ForwardModel(OPTICS, grid, np.array(["C"])).band
        for length in (*grid.padded_shape, *GriddedSums(band, 3, 6.0).cells):
            assert (2 * 3 * 5) ** 10 % length == 0
