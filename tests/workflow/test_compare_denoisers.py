"""The denoisers in the real workflow: a dictionary learned from the movie, a U-Net trained for it, and what each does to the atoms."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest
from house import CONFIG, House
from scant.columns import TABLES
from scant.io.store import read_frames

BLOCK = "0000000-0000004"
WITH_TORCH = find_spec("torch") is not None
BRIEFLY = {"train": {"pairs": 16, "steps": 60}}
pytestmark = pytest.mark.slow


def denoised_by(house: House, settings: dict, **config: dict) -> np.ndarray:
    """The frames (t, y, x) of the first block, denoised with other settings."""
    house.write_config(CONFIG | {"denoise": settings, "keep": ["averaged", "denoised"], **config})
    stack = f"results/tiny/denoised/{BLOCK}.zarr"
    done = house.snakemake(stack)
    house.write_config(CONFIG)
    assert done.returncode == 0, done.stdout[-6000:]
    return read_frames(str(house.root / stack), 0, 4)


def smoother(frames: np.ndarray, averaged: np.ndarray) -> bool:
    """Whether every frame differs less from pixel to pixel than the mean that it was made of, and holds the same electrons."""
    assert np.isfinite(frames).all() and frames.shape == averaged.shape
    np.testing.assert_allclose(frames.mean(axis=(1, 2)), averaged.mean(axis=(1, 2)), rtol=0.01)
    return bool((np.diff(frames, axis=2).std(axis=(1, 2)) < 0.8 * np.diff(averaged, axis=2).std(axis=(1, 2))).all())


def test_a_dictionary_is_learned_from_the_movie_and_used(finished):
    frames = denoised_by(finished, {"method": "ksvd"})
    assert smoother(frames, read_frames(str(finished.results / f"averaged/{BLOCK}.zarr"), 0, 4))
    with np.load(finished.results / "denoise/dictionary.npz") as learned:
        np.testing.assert_allclose(np.linalg.norm(learned["dictionary"], axis=1), 1, rtol=1e-4)


def test_frames_are_denoised_across_their_window(finished):
    """Each frame as itself: what its own noise adds to the mean of five is not taken for signal."""
    frames = denoised_by(finished, {"across_frames": True})
    averaged = read_frames(str(finished.results / f"averaged/{BLOCK}.zarr"), 0, 4)
    assert smoother(frames, averaged)
    wiggles = [np.diff(stack, axis=0).std() for stack in (frames, averaged)]
    assert 0 < wiggles[0] < wiggles[1]


@pytest.mark.skipif(not WITH_TORCH, reason="needs PyTorch: make setup-unet")
def test_a_unet_is_trained_on_the_movies_own_optics_and_used(finished):
    frames = denoised_by(finished, {"method": "unet"}, **BRIEFLY)
    assert smoother(frames, read_frames(str(finished.results / f"averaged/{BLOCK}.zarr"), 0, 4))
    facts = json.loads((finished.results / "denoise/unet.json").read_text())
    assert (facts["pairs"], facts["steps"], facts["trained_on"]["material"]) == (16, 60, "graphene")


def test_denoisers_are_compared_on_request(finished):
    finished.write_config(CONFIG | BRIEFLY)
    done = finished.snakemake("compare_denoisers")
    assert done.returncode == 0, done.stdout[-6000:]
    simulated, real = (pl.read_parquet(finished.results / name) for name in ("denoisers.parquet", "denoisers_real.parquet"))
    assert set(simulated.columns) == set(TABLES["denoisers.parquet"].columns)
    assert set(real.columns) == set(TABLES["denoisers_real.parquet"].columns)
    methods = {"Gaussian", "radial Wiener", "BM3D", "BM3D, coarse pixels", "PyPI bm3d", "K-SVD"} | ({"U-Net"} if WITH_TORCH else set())
    assert methods | {"single frame"} == set(real["method"])
    of_windows = {"5-frame mean", "BM3D of the mean, 5 frames", "BM3D across frames, 5 frames"}
    assert methods | {"single frame"} | of_windows == set(simulated["method"])
    assert simulated.group_by("method").agg(pl.col("dose_factor").n_unique())["dose_factor"].unique().to_list() == [3]
    gain = dict(simulated.filter(dose_factor=1.0).select("method", "gain_db").iter_rows())
    assert gain["single frame"] == 0 and gain["BM3D"] > 5 and gain["K-SVD"] > 6
    assert gain["BM3D across frames, 5 frames"] > gain["BM3D of the mean, 5 frames"] - 0.2 > gain["BM3D"] + 3
    page = (finished.results / "denoisers.html").read_text()
    assert all(method in page for method in methods)
    assert list((finished.results / "denoisers_figures").glob("*.svg"))
