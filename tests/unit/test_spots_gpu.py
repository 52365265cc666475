"""Gaussian atoms fitted on a GPU: the CUDA source on the CPU against the numba kernels, and on a device where there is one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from cupy_stand_in import stand_in  # noqa: F401
from scant.imaging import spot_sums, spots_gpu
from scant.imaging.spot_search import find_spots
from scant.imaging.spots import Counts, Spots, fit_spots
from scant.xp import gpu_problem

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
SIDE, WIDTH, REACH = 56, 1.5, 6.0


def atoms() -> np.ndarray:
    """(n, 3) x, y, height: a lattice of overlapping atoms that goes beyond the image's edge."""
    at = np.arange(1.0, SIDE, 4.3)
    x, y = (each.ravel() for each in np.meshgrid(at, at))
    rng = np.random.default_rng(0)
    kept = rng.random(x.size) > 0.1
    places = np.column_stack([x, y])[kept] + rng.uniform(-0.4, 0.4, (kept.sum(), 2))
    return np.column_stack([places.clip(-0.5, SIDE - 0.51), rng.uniform(80, 240, len(places))])


def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, used pixels and a model near them, all (SIDE, SIDE)."""
    model, rng = np.full((SIDE, SIDE), 20.0), np.random.default_rng(1)
    spot_sums.render(atoms(), WIDTH, REACH, 0, model)
    return rng.poisson(model).astype(float), (rng.random(model.shape) > 0.02).astype(float), model


def spread_out() -> np.ndarray:
    """An image (SIDE, SIDE) of atoms about which there is no doubt."""
    image, at = np.full((SIDE, SIDE), 20.0), np.arange(6.0, SIDE - 5, 7.3)
    x, y = (each.ravel() for each in np.meshgrid(at, at))
    spot_sums.render(np.column_stack([x, y, np.full(x.size, 150.0)]), WIDTH, REACH, 0, image)
    return image


def both(stand_in, name: str, arrays: dict[str, np.ndarray], *given: object, out: tuple[np.ndarray, ...] = ()) -> tuple[list, list]:  # noqa: F811
    """What a sum of that name does to its arrays (a device's there) and host outputs: on the CPU, and on the device."""
    here, there = [a.copy() for a in arrays.values()], [stand_in.asarray(a.copy()) for a in arrays.values()]
    filled, filled_there = [o.copy() for o in out], [o.copy() for o in out]
    getattr(spot_sums, name)(*here, *given, *filled)
    getattr(spots_gpu, name)(*there, *given, *filled_there)
    return [*here, *filled], [*(a.get() for a in there), *filled_there]


@needs_a_compiler
@pytest.mark.parametrize("by_width", [0, 1])
def test_atoms_are_drawn_as_on_the_cpu(stand_in, by_width):  # noqa: F811
    here, there = np.full((SIDE, SIDE), 3.0), stand_in.asarray(np.full((SIDE, SIDE), 3.0))
    spot_sums.render(atoms(), WIDTH, REACH, by_width, here)
    spots_gpu.render(stand_in.asarray(atoms()), WIDTH, REACH, by_width, there)
    np.testing.assert_allclose(there.get(), here, rtol=1e-10)


def test_the_background_is_the_cpus(stand_in):  # noqa: F811
    weights, here, there = np.array([5.0, 2.0, -1.0, 0.5, 0.3, -4.0]), np.empty((20, 31)), stand_in.asarray(np.empty((20, 31)))
    spot_sums.fill_background(weights, 1.5, here)
    spots_gpu.fill_background(weights, 1.5, there)
    assert here.min() == 1.5
    np.testing.assert_allclose(there.get(), here, rtol=1e-12)


@needs_a_compiler
def test_sums_are_the_cpus(stand_in):  # noqa: F811
    counts, used, model = images()
    slopes, n = np.zeros(model.shape), len(atoms())
    spot_sums.render(atoms(), WIDTH, REACH, 1, slopes)
    taken = {"counts": counts, "used": used, "model": model, "by_width": slopes}
    pairs = np.array([(a, b) for a in range(n) for b in range(a, n) if np.hypot(*(atoms()[a] - atoms()[b])[:2]) < 9])
    cases = [
        ("shared_sums", taken, (), (np.zeros((7, 7)), np.zeros(7))),
        ("shared_couplings", {**taken, "atoms": atoms()}, (WIDTH, REACH), (np.zeros((n, 7)), np.zeros(n))),
        ("pair_sums", {"used": used, "model": model, "atoms": atoms()}, (WIDTH, REACH, pairs), (np.zeros((len(pairs), 3, 3)),)),
        ("pair_sums", {"used": used, "model": model, "atoms": atoms()}, (WIDTH, REACH, pairs), (np.zeros((len(pairs), 1, 1)),)),
    ]
    for name, arrays, given, out in cases:
        for here, there in zip(*both(stand_in, name, arrays, *given, out=out)):
            np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-9 * np.abs(here).max(), err_msg=name)


@needs_a_compiler
def test_a_sweep_goes_up_and_keeps_the_model(stand_in):  # noqa: F811
    """Cell by cell instead of atom by atom: not the same step, but the likelihood rises and the model stays the atoms' own image."""
    counts, used, _ = images()
    start = atoms() + [0.2, -0.3, 10.0]
    there = stand_in.asarray(start)
    model = stand_in.asarray(np.full(counts.shape, 20.0))
    spots_gpu.render(there, WIDTH, REACH, 0, model)
    before = model.get()
    moved = spots_gpu.sweep(stand_in.asarray(counts), stand_in.asarray(used), model, there, WIDTH, REACH)
    assert moved == pytest.approx(np.abs(there.get() - start)[:, :2].max(), rel=1e-9)
    again = np.full(counts.shape, 20.0)
    spot_sums.render(there.get(), WIDTH, REACH, 0, again)
    np.testing.assert_allclose(model.get(), again, rtol=1e-9)
    assert (used * (counts * np.log(again) - again)).sum() > (used * (counts * np.log(before) - before)).sum() + 100


def alike(there: Spots, here: Spots) -> None:
    sigma = np.sqrt(np.diagonal(here.covariance, axis1=1, axis2=2))
    assert np.abs(there.positions_px - here.positions_px).max() < 0.05 * sigma[:, :2].max()
    assert np.abs((there.height_e - here.height_e) / sigma[:, 2]).max() < 0.05
    assert there.width_px == pytest.approx(here.width_px, rel=1e-3)
    np.testing.assert_allclose(there.covariance, here.covariance, rtol=0.02, atol=0.02 * np.abs(here.covariance).max(axis=(1, 2)).min())


@needs_a_compiler
def test_a_fit_ends_where_the_cpus_does(stand_in):  # noqa: F811
    counts, used, _ = images()
    taken = Counts.of(counts, 0.3, used > 0)
    here, there = (fit_spots(taken, atoms()[:, :2].round(), 1.3, device) for device in ("cpu", "gpu"))
    alike(there, here)


@needs_a_compiler
def test_the_same_atoms_are_found(stand_in):  # noqa: F811
    counts = Counts.of(np.random.default_rng(2).poisson(spread_out()).astype(float))
    here, there = find_spots(counts), find_spots(counts, device="gpu")
    alike(there.spots, here.spots)
    np.testing.assert_allclose(there.p_atom, here.p_atom, atol=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(gpu_problem() is not None, reason=str(gpu_problem()))
def test_a_device_gives_what_the_cpu_gives():
    counts, used, _ = images()
    taken = Counts.of(counts, 0.3, used > 0)
    here, there, again = (fit_spots(taken, atoms()[:, :2].round(), 1.3, device) for device in ("cpu", "gpu", "gpu"))
    alike(there, here)
    np.testing.assert_array_equal(there.positions_px, again.positions_px)
