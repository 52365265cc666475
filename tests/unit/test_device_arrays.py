"""What runs on a GPU, on a stand-in for CuPy that lets no host array in: arrays are brought over, and fetched, where it is meant."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from cupy_stand_in import stand_in  # noqa: F401
from scant.imaging.average import averaged_frame
from scant.imaging.counts import make_detector
from scant.imaging.denoise import denoise_frame, denoising_device, window_and_noise
from scant.inference.anneal import Schedule
from scant.inference.neighbour_frames import ThermalMotion
from scant.inference.problem import FrameProblem, RefineSettings
from scant.inference.refine import refine_frames
from scant.io.tasks import FrameTask
from scant.physics.forward import ForwardModel, ImageGrid
from scant.physics.lattice import honeycomb, pairs_within
from scant.physics.optics import Optics
from scant.stages.corrected import CorrectedFrames, window_sources
from scant.xp import free_memory_bytes, resolve_device, to_numpy

OPTICS = Optics(80.0, -130000.0, -45.0, 10.0, 52.2, envelope_b_angstrom2=1.5)
GRID = ImageGrid.padded(60, 60, 0.2, 6.0)
BRIEF = RefineSettings(Schedule(2.0, 1, 2, 1, 4, 3), 2, "lcbop", 300.0, 2.46, 0.03, 3)
NOISE = {"read_noise_e": 0.5, "excess_noise": 1.0}
needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def problem(frame: int, n_atoms_less: int = 0) -> FrameProblem:
    rng = np.random.default_rng(frame)
    flat = honeycomb(12.0, 12.0, rotation_rad=0.1, margin_angstrom=3.0)
    positions = np.column_stack([flat, rng.normal(0, 0.2, len(flat))])[: len(flat) - n_atoms_less]
    species = np.full(len(positions), "C")
    counts = rng.poisson(320 * ForwardModel(OPTICS, GRID, species).image(positions[None].astype(np.float32))[0]).astype(float)
    weights = np.full(counts.shape, 1 / 320, np.float32)
    bonds = pairs_within(positions[:, :2], 1.85)
    return FrameProblem(frame, counts, weights, positions * [1, 1, 0], species, bonds, np.full(len(positions), 3))


def test_a_stand_in_refuses_what_cupy_refuses(stand_in):  # noqa: F811
    there, here = stand_in.asarray(np.ones(3)), np.ones(3)
    for mixed in (lambda: there + here, lambda: here * there, lambda: stand_in.where(here, there, 0), lambda: np.asarray(there)):
        with pytest.raises(TypeError):
            mixed()
    np.testing.assert_array_equal(to_numpy(2 * there + np.float32(1)), [3, 3, 3])
    assert resolve_device("auto") == "gpu" and free_memory_bytes("gpu") == 2**33


@pytest.mark.parametrize("motion", [None, ThermalMotion(0.26, 0.0)], ids=["alone", "linked"])
def test_frames_are_annealed(stand_in, motion):  # noqa: F811
    """Of different sizes, in one batch. The same numbers in another order of sums: few moves, so that chaos has no time."""
    made = [problem(0), problem(1, n_atoms_less=3)]
    if motion is not None:
        made = [replace(p, guide_e=p.counts_e, guide_inverse_variance=p.inverse_variance, guide_offsets=(-1, 1)) for p in made]
    settings = replace(BRIEF, motion=motion)
    (here, none), (there, failures) = (refine_frames(made, OPTICS, GRID, settings, device) for device in ("cpu", "gpu"))
    assert none == failures == [] and len(there) == 2
    for one, other in zip(here, there):
        assert isinstance(other.positions, np.ndarray) and isinstance(other.sigma, np.ndarray)
        np.testing.assert_allclose(one.positions, other.positions, atol=0.02)


@needs_a_compiler
def test_frames_are_corrected_and_averaged(stand_in):  # noqa: F811
    """As the stage `average` does, one of them missing; what comes back are a device's arrays, which the store fetches."""
    raw = [np.random.default_rng(n).poisson(300, (50, 52)).astype(np.uint16) for n in range(5)]
    detector = make_detector(None, None, np.random.default_rng(9).random((50, 52)) < 0.01, 1.0)
    known, drift = pl.DataFrame({"frame": range(5)}), pl.DataFrame({"drift_y_px": [0.0, 0.4, 0.8, 1.2, 1.6], "drift_x_px": [0.0] * 5})
    means = {}
    for device in ("cpu", "gpu"):
        frames = CorrectedFrames(raw.__getitem__, detector, 6.0, frozenset({0, 1, 2, 4}), device)
        task = FrameTask(averaged_frame, window_sources(frames, 2, known, drift, range(5)))
        means[device] = [task(n) for n in range(5)]
    for (here, used), (there, used_there) in zip(*means.values()):
        assert used == used_there
        np.testing.assert_allclose(there.get(), here, rtol=2e-6)


@needs_a_compiler
def test_frames_are_denoised(stand_in):  # noqa: F811
    frames = [np.random.default_rng(n).poisson(300, (50, 52)).astype(np.float32) for n in range(3)]
    here, there = (denoise_frame(frames[0], method="bm3d", device=device, **NOISE).image_e for device in ("cpu", "gpu"))
    assert isinstance(there, np.ndarray) and np.quantile(np.abs(here - there), 0.98) < 0.3
    drift = np.array([(0.0, 0.0), (0.4, -0.2), (1.0, 0.3)])
    here, there = (window_and_noise(frames, 1, drift, device=device, **NOISE)[0] for device in ("cpu", "gpu"))
    assert isinstance(there, np.ndarray) and np.quantile(np.abs(here - there), 0.98) < 0.3


@needs_a_compiler
def test_a_device_is_tried_before_it_denoises(stand_in):  # noqa: F811
    assert denoising_device("bm3d", "auto") == "gpu"
