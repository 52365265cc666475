"""BM3D's CUDA source: run on the CPU against the numba kernels, and on a device where there is one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from cuda_on_cpu import launcher
from scant.imaging.denoise import bm3d, bm3d_gpu, bm3d_of_window
from scant.imaging.denoise import bm3d_filter as own
from scant.xp import gpu_problem, to_numpy

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def noisy(*shape: int, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[: shape[-2], : shape[-1]].astype(float)
    scene = 3 * np.sin(x / 3.1 + y / 7.3) * (x > 20) + 6 * (y > 0.4 * x + 11)
    return (scene + np.random.default_rng(seed).normal(0, 1, shape)).astype(np.float32)


@pytest.fixture
def emulated(tmp_path, monkeypatch):
    """BM3D whose stages go the device's way on NumPy arrays; returns a function that sets the threads a block has."""

    def with_threads(threads: int) -> None:
        monkeypatch.setattr(bm3d_gpu, "launch", launcher(tmp_path, threads))
        monkeypatch.setattr(own, "on_device", lambda images: True)

    return with_threads


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    """But for pixels where rounding tips a choice."""
    difference = np.abs(found - expected)
    assert np.median(difference) < 1e-4
    assert np.quantile(difference, 0.98) < 0.02
    assert difference.max() < 0.5


@needs_a_compiler
@pytest.mark.parametrize("threads", [1, 4])
def test_the_source_gives_what_the_numba_kernels_give(emulated, threads):
    image = noisy(56, 60)
    expected = bm3d(image, 1.0)
    emulated(threads)
    agree(bm3d(image, 1.0), expected)


@needs_a_compiler
def test_any_number_of_threads_gives_the_same(emulated):
    image, found = noisy(48, 50), []
    for threads in (1, 2, 4):
        emulated(threads)
        found.append(bm3d(image, 1.0))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@needs_a_compiler
def test_a_window_and_coloured_noise_too(emulated):
    frames = [noisy(52, 49, seed=n) for n in range(3)]
    k = np.fft.fftfreq(32)
    spectrum = np.exp(-4 * (np.pi * 0.4) ** 2 * (k[:, None] ** 2 + k**2))
    expected = bm3d_of_window(frames, 1, 1.0, spectrum=spectrum / spectrum.mean())
    emulated(4)
    agree(bm3d_of_window(frames, 1, 1.0, spectrum=spectrum / spectrum.mean()), expected)


@pytest.mark.gpu
@pytest.mark.skipif(gpu_problem() is not None, reason=str(gpu_problem()))
def test_a_device_gives_what_the_cpu_gives():
    import cupy

    image = noisy(300, 411)
    found = bm3d(cupy.asarray(image), 1.0)
    agree(to_numpy(found), bm3d(image, 1.0))
    np.testing.assert_array_equal(to_numpy(bm3d(cupy.asarray(image), 1.0)), to_numpy(found))
