"""Template kernels against naive loops, finite differences and pixel sums."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scant.imaging.separable import render, responses, visible_weight
from scant.imaging.template import REACH, TAPER, TemplateBasis, combine, gaussian_basis, optical_basis, overlaps
from scant.physics.optics import Optics, focal_spread_envelope, wave_transfer
from scant.physics.scattering import scattering_amplitude_angstrom2
from scipy.special import j0

BOND = 7.1
SHAPE = (61, 74)
ATOMS = np.array([[20.3, 18.8], [27.1, 20.2], [-1.4, 30.0], [73.2, 60.4], [50.0, 44.5]])
WEIGHTS = (3.0, -1.7)


@pytest.fixture(scope="module")
def template():
    return combine(gaussian_basis(BOND), np.array(WEIGHTS), 2.8 * BOND)


def atom(x: NDArray[np.float64], y: NDArray[np.float64], basis: TemplateBasis | None = None, weights=WEIGHTS) -> NDArray[np.float64]:
    """The image of a template's atom by its Hankel transform, faded out towards the sides of its square."""
    basis = basis or gaussian_basis(BOND)
    k = basis.k_per_px
    power = 2 * np.pi * k * np.gradient(k) * (np.array(weights) @ basis.transfer)
    r = np.linspace(0, 2 * REACH * BOND, 3000)
    image = np.interp(np.hypot(x, y), r, j0(2 * np.pi * r[:, None] * k) @ power)
    fades = [np.cos(0.5 * np.pi * np.clip((np.abs(u) / (REACH * BOND) - TAPER) / (1 - TAPER), 0, 1)) ** 2 for u in (x, y)]
    return np.asarray(image * fades[0] * fades[1])


@pytest.mark.parametrize("cs_angstrom", [-130000.0, 80000.0])
@pytest.mark.parametrize("defocus_angstrom", [-120.0, -45.0, -20.0, 0.0, 60.0, 120.0])
def test_eight_products_are_enough_at_any_defocus(defocus_angstrom: float, cs_angstrom: float) -> None:
    k = np.linspace(0, 1.25, 400)
    optics = Optics(80.0, cs_angstrom, defocus_angstrom, 10.0, 52.2)
    scattered = scattering_amplitude_angstrom2("C", 80.0, k) * wave_transfer(optics, k, np.zeros_like(k))
    transfer = 2 * np.real(1j * scattered) * focal_spread_envelope(optics, k)
    basis = optical_basis(k, transfer, BOND, 0.2)
    weights = [1.0, 0.1, -0.1]
    y, x = np.mgrid[:45, :45]
    image = render(np.array([[22.3, 21.6]]), np.ones(1), combine(basis, np.array(weights), 2.8 * BOND).atom, (45, 45))
    exact = atom(x - 22.3, y - 21.6, basis, weights)
    assert image == pytest.approx(exact, abs=2e-3 * np.abs(exact).max())


def test_gaussian_pairs_have_no_integral(template) -> None:
    image = render(np.array([[40.2, 40.7]]), np.ones(1), template.atom, (81, 81))
    assert abs(image.sum()) < 0.02 * np.abs(image).sum()


def test_render_is_the_sum_of_profiles(template) -> None:
    amplitude = np.array([1.0, 0.5, 2.0, -1.0, 1.5])
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    naive = sum(a * atom(x - p[0], y - p[1]) for a, p in zip(amplitude, ATOMS))
    assert render(ATOMS, amplitude, template.atom, SHAPE) == pytest.approx(naive, abs=3e-4 * np.abs(naive).max())
    assert template.atom.peak == pytest.approx(atom(np.zeros(1), np.zeros(1))[0], rel=5e-4)


def test_responses_are_correlations_and_their_gradients(template) -> None:
    image = np.random.default_rng(1).normal(size=SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    out = responses(ATOMS, image, template.atom)
    naive = lambda q: (atom(x - q[0], y - q[1]) * image).sum()  # noqa: E731
    for n, p in enumerate(ATOMS):
        assert out[n, 0] == pytest.approx(naive(p), abs=5e-4 * np.abs(out[:, 0]).max())
        for axis in (0, 1):
            step = np.eye(2)[axis] * 0.01
            assert out[n, 1 + axis] == pytest.approx((naive(p + step) - naive(p - step)) / 0.02, abs=2e-3 * np.abs(out[:, 1:]).max())


def test_overlaps_are_pixel_sums_of_high_passed_templates(template) -> None:
    """Analytic overlaps against sums over pixels, far from edges; high-pass by the exact Fourier filter."""
    size, width = 181, 2.8 * BOND
    a, b = np.array([90.2, 88.7]), np.array([94.9, 91.1])
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    keep = 1 - np.exp(-2 * (np.pi * width * k) ** 2)

    def image(p: np.ndarray) -> np.ndarray:
        return np.fft.ifft2(np.fft.fft2(render(p[None], np.ones(1), template.atom, (size, size))) * keep).real

    def parts(p: np.ndarray) -> list[np.ndarray]:
        steps = np.eye(2) * 0.02
        return [image(p), *[(image(p + s) - image(p - s)) / 0.04 for s in steps]]

    first, second = parts(a), parts(b)
    naive = np.array([[(f * s).sum() for s in second] for f in first])
    own = np.array([[(f * s).sum() for s in first] for f in first])
    found = overlaps(np.array([a, b]), np.array([[0, 1], [0, 0]]), np.ones(2), template)
    scale = np.sqrt(np.outer(np.diag(own), np.diag(own)))
    assert np.abs((found[0] - naive) / scale).max() < 0.03
    assert np.abs((found[1] - own) / scale).max() < 0.03


def test_visible_weight_falls_at_edges_and_masks(template) -> None:
    weight = np.full(SHAPE, 0.25)
    weight[40:50, 46:55] = 0
    seen = visible_weight(ATOMS, weight, template.atom)
    assert seen[0] == pytest.approx(0.25, rel=1e-6)
    assert 0.25 * 0.05 < seen[2] < 0.25 * 0.4, "centre 1.4 px outside the view"
    assert seen[4] < 0.25 * 0.3


def test_optical_basis_reproduces_a_known_transfer() -> None:
    """A Gaussian transfer must come back as the Gaussian that it is the transform of."""
    sigma = 0.45
    k = np.linspace(0, 2, 400)
    basis = optical_basis(k, np.exp(-2 * (np.pi * sigma * k) ** 2), BOND, 0.2)
    found = combine(basis, np.array([1.0, 0.0, 0.0]), 1e6).atom
    image = render(np.array([[10.0, 10.0]]), np.ones(1), found, (21, 21))
    expected = np.exp(-0.5 * ((np.arange(21) - 10) * 0.2 / sigma) ** 2)
    assert image[10] / image[10, 10] == pytest.approx(expected, abs=3e-3)
    assert image[:, 10] == pytest.approx(image[10], abs=1e-5)
