"""Correction and mean on a GPU: the CUDA source on the CPU against the numba kernels, and on a device where there is one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from cuda_on_cpu import launcher
from cupy_stand_in import stand_in, to_host  # noqa: F401
from scant.imaging import correction_gpu
from scant.imaging.average import averaged_frame, mean_onto
from scant.imaging.correction import correcting_device
from scant.imaging.counts import CorrectedFrame, Detector, correct_frame, make_detector
from scant.xp import gpu_problem, to_numpy

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
SHAPE = (61, 74)


def detector() -> Detector:
    rng = np.random.default_rng(1)
    bad = rng.random(SHAPE) < 0.01
    bad[20:29, 30:37], bad[:, 50], bad[0, 0] = True, True, True
    return make_detector(rng.normal(100, 3, SHAPE), rng.uniform(0.7, 1.3, SHAPE), bad, 6.0, 0.5)


def raw_frame(seed: int) -> np.ndarray:
    """Atoms in shot noise, with hits of one and of several pixels, at the edges too."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[: SHAPE[0], : SHAPE[1]]
    raw = 100 + 6.0 * rng.poisson(320 * (1 + 0.1 * np.cos(x / 2.2) * np.cos(y / 1.9)))
    for row, column in ((0, 3), (60, 73), (12, 0), (33, 41), (45, 20)):
        raw[row, column] += 3000
    raw[34, 41] += 900
    raw[45, 21], raw[46, 21] = raw[45, 21] + 1500, raw[46, 21] + 800
    return raw.astype(np.uint16)


def agree(there: CorrectedFrame, here: CorrectedFrame) -> None:
    np.testing.assert_array_equal(to_numpy(there.weight_mask), here.weight_mask)
    np.testing.assert_allclose(to_numpy(there.image_e), here.image_e, rtol=2e-6)
    assert there.n_hits == here.n_hits >= 5


@needs_a_compiler
def test_a_corrected_frame_is_the_cpus(stand_in):  # noqa: F811
    for seed in range(3):
        raw = raw_frame(seed)
        agree(correct_frame(stand_in.asarray(raw), detector().on(stand_in)), correct_frame(raw, detector()))


@needs_a_compiler
@pytest.mark.parametrize("own", [0, 2, 4])
def test_a_mean_is_the_cpus(stand_in, own):  # noqa: F811
    """Whole, fractional and no shifts; a missing frame; pixels that are not there."""
    frames = np.random.default_rng(0).normal(300, 20, (5, *SHAPE)).astype(np.float32)
    frames[3] = np.nan
    frames[1, 20:24, 7] = np.nan
    drift = np.array([(0.0, 0.0), (1.3, -2.4), (2.0, 1.0), (0.0, 0.0), (-0.7, 0.04)])
    (mean, used), (there, used_there) = mean_onto(frames, own, drift), mean_onto([stand_in.asarray(f) for f in frames], own, drift)
    np.testing.assert_array_equal(used_there.get(), used)
    np.testing.assert_allclose(there.get(), mean, rtol=1e-6)


@needs_a_compiler
def test_a_missing_frame_has_no_mean(stand_in):  # noqa: F811
    frames = [stand_in.asarray(np.full(SHAPE, value, np.float32)) for value in (3.0, np.nan, 5.0)]
    assert averaged_frame(frames, 1, np.zeros((3, 2)))[1] == 0
    mean, used = averaged_frame(frames, 0, np.zeros((3, 2)))
    assert used == 2 and (mean.get() == 4).all()


@needs_a_compiler
def test_any_number_of_threads_gives_the_same(stand_in, tmp_path, monkeypatch):  # noqa: F811
    def with_threads(n: int) -> CorrectedFrame:
        run = launcher(tmp_path, n)
        on_host = lambda source, name, blocks, threads, given: run(source, name, blocks, threads, to_host(given))  # noqa: E731
        monkeypatch.setattr(correction_gpu, "launch", on_host)
        return correct_frame(stand_in.asarray(raw_frame(0)), detector().on(stand_in))

    one, four = with_threads(1), with_threads(4)
    np.testing.assert_array_equal(one.image_e.get(), four.image_e.get())
    np.testing.assert_array_equal(one.weight_mask.get(), four.weight_mask.get())


@needs_a_compiler
def test_a_device_is_tried_before_it_corrects(stand_in):  # noqa: F811
    assert correcting_device("auto") == "gpu"


@pytest.mark.gpu
@pytest.mark.skipif(gpu_problem() is not None, reason=str(gpu_problem()))
def test_a_device_gives_what_the_cpu_gives():
    import cupy

    raw = raw_frame(0)
    agree(correct_frame(cupy.asarray(raw), detector().on(cupy)), correct_frame(raw, detector()))
    assert correcting_device("gpu") == "gpu"
