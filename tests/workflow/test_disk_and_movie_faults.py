"""A disk that fills up or cannot be written, and a movie whose camera failed in some frames."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
from house import CONFIG, House

DISK_BYTES = 48 * 2**20
LEFT_BYTES = 16 * 2**10


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - LEFT_BYTES)))
    return filler


@pytest.mark.fault("F7")
@pytest.mark.parametrize(
    "stage", ["analyse", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("ingest_frames", "average", "anneal"))]
)
def test_a_disk_that_fills_up_stops_the_stage_and_the_run_goes_on_when_there_is_space(stage, finished_once, tmp_path, small_disk):
    shutil.copytree(finished_once, tmp_path / "house", ignore=shutil.ignore_patterns("results"))
    wanted = House.at(finished_once).hashes()
    house = House.at(tmp_path / "house")
    shutil.copytree(finished_once / "results", small_disk / "results")
    (house.root / "results").symlink_to(small_disk / "results")
    with (house.root / "terminal").open("w") as terminal:
        run = subprocess.Popen(
            house.command("--forcerun", stage), cwd=house.root, env=house.environment, stdout=terminal, stderr=subprocess.STDOUT
        )
        logs = [*house.results.glob(f"logs/{stage}.log"), *house.results.glob(f"logs/{stage}/*.log")]
        begun = {log: log.stat().st_mtime_ns for log in logs}
        while run.poll() is None and all(log.exists() and log.stat().st_mtime_ns == date for log, date in begun.items()):
            time.sleep(0.02)
        filler = fill(small_disk)
        assert run.wait() != 0
    words = (house.root / "terminal").read_text()
    assert "No space left on device" in words and "bytes" in words
    assert not list(house.results.rglob("*.partial"))
    filler.unlink()
    done = house.snakemake()
    assert done.returncode == 0, done.stdout[-6000:]
    assert house.hashes() == wanted


@pytest.mark.fault("F24")
def test_a_results_folder_that_cannot_be_written_is_an_error_at_once(finished, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    began = time.monotonic()
    refused = finished.snakemake("--config", f"results={small_disk}/results")
    assert refused.returncode != 0 and "Read-only file system" in refused.stdout and str(small_disk) in refused.stdout
    assert time.monotonic() - began < 10


@pytest.mark.slow
@pytest.mark.fault("F14")
@pytest.mark.fault("F15")
def test_frames_that_the_camera_lost_stay_visible_and_shift_nothing(finished, tmp_path, repository):
    """NaN, infinite, all-zero and saturated frames among good ones, neighbours within the averaging window included."""
    house = House(tmp_path, repository)
    simulated = finished.results / "simulated"
    movie = tifffile.imread(simulated / "movie.tif").astype(np.float32)
    movie = np.concatenate([movie, movie[2::-1]])
    lost = {1: (np.nan, "nan"), 3: (0.0, "empty"), 5: (65535.0, "saturated"), 6: (np.inf, "nan")}
    for frame, (value, _) in lost.items():
        movie[frame] = value
    folder = tmp_path / "data"
    folder.mkdir()
    tifffile.imwrite(folder / "movie.tif", movie, photometric="minisblack")
    for name in ("dark.tif", "flat.tif", "truth.extxyz", "acquisition.yaml"):
        shutil.copy(simulated / name, folder)
    house.write_config({key: value for key, value in CONFIG.items() if key != "simulate"} | {"datasets": {"tiny": "data/acquisition.yaml"}})
    done = house.snakemake()
    assert done.returncode == 0, done.stdout[-6000:]
    frames = pl.read_parquet(house.results / "frames.parquet")
    assert frames["frame"].to_list() == list(range(8))
    assert frames["status"].to_list() == ["failed" if frame in lost else "ok" for frame in range(8)]
    failures = pl.read_parquet(house.results / "failures.parquet")
    assert dict(failures.select("frame", "cause").rows()) == {frame: fault for frame, (_, fault) in lost.items()}
    assert json.loads((house.results / "complete.json").read_text()) == {"n_frames": 8, "n_reconstructed": 4, "n_faulty_in_movie": 4}
    atoms, whole = (pl.read_parquet(h.results / "atoms.parquet") for h in (house, finished))
    for frame, original in ((0, 0), (2, 2), (4, 4), (7, 0)):
        here, there = (t.filter(frame=n).select("x_angstrom", "y_angstrom").to_numpy() for t, n in ((atoms, frame), (whole, original)))
        nearest = np.linalg.norm(here[:, None] - there[None], axis=2).min(axis=1)
        assert np.median(nearest) < 0.1, "a frame took another one's place"
