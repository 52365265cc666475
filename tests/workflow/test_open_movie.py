"""The open validation movie and a real frame through the workflow with shipped defaults, scored against what is known of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from scant.inference.scoring import score
from scant.io.structures import read_extxyz
from scant.stages.truth import read_truth
from scipy.spatial import cKDTree

COLUMNS = ["x_angstrom", "y_angstrom", "z_angstrom"]


def run(repository: Path, folder: Path, name: str, acquisition: Path) -> Path:
    config = folder / "config.json"
    config.write_text(json.dumps({"datasets": {name: str(acquisition)}, "results": str(folder / "results")}))
    snakemake, profile = str(Path(sys.executable).parent / "snakemake"), str(repository / "profiles/ci")
    command = [
        snakemake,
        "-s",
        str(repository / "Snakefile"),
        "--configfile",
        str(config),
        "--workflow-profile",
        profile,
        "--directory",
        str(folder),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return folder / "results" / name


@pytest.mark.slow
def test_graphene_open(repository, shared_data, tmp_path):
    results = run(repository, tmp_path, "open", shared_data / "graphene-open/acquisition.yaml")
    truth = read_truth(str(shared_data / "graphene-open/truth.extxyz"))
    found = read_extxyz(str(results / "structures.extxyz"))
    scores = [score(found.filter(frame=n).select(COLUMNS).to_numpy(), true, (51.2, 51.2)) for n, true in truth.items()]
    error = np.concatenate([s.error_angstrom for s in scores])
    assert np.mean([s.recall for s in scores]) >= 0.995
    assert np.mean([s.precision for s in scores]) >= 0.98  # atoms that straddle the scored margin count as extra here
    assert error[:, :2].std(axis=0).max() <= 0.04
    assert error[:, 2].std() <= 0.30
    assert np.mean([s.error_angstrom[:, 2].std() < 0.45 for s in scores]) >= 0.99
    sigma = [
        found.filter(frame=n).select("sigma_x_angstrom", "sigma_y_angstrom", "sigma_z_angstrom").to_numpy()[s.found]
        for n, s in zip(truth, scores, strict=True)
    ]
    ratio = (error / np.concatenate(sigma)).std(axis=0)
    assert np.all((ratio > 0.85) & (ratio < 1.15)), ratio
    md = pl.read_parquet(results / "md.parquet")
    assert set(md["frame"]) == set(truth)
    calibration = json.loads((results / "calibration.json").read_text())
    assert calibration["detector"]["n_bad_pixels"] in range(120, 141)
    assert abs(calibration["optics"]["defocus_angstrom"] + 45) < 3


def test_a_real_frame_without_optics_ends_in_two_dimensions(repository, shared_data, tmp_path):
    """graphene-dtu: nothing known but the material; published hexagon centres as the judge."""
    acquisition = tmp_path / "acquisition.yaml"
    acquisition.write_text(yaml.safe_dump({"material": "graphene", "movie": str(shared_data / "graphene-dtu/frame.tif")}))
    results = run(repository, tmp_path, "dtu", acquisition)
    calibration = json.loads((results / "calibration.json").read_text())
    pixel = calibration["pixel_size_angstrom"]
    assert pixel == pytest.approx(0.118, abs=0.001)
    assert calibration["optics"] is None
    assert any("voltage_kV" in line for line in calibration["missing"])
    page = (results / "report.html").read_text()
    assert "Two-dimensional report" in page
    atoms = pl.read_parquet(results / "atoms.parquet")
    assert atoms["z_angstrom"].null_count() == len(atoms)
    assert not (results / "dose.parquet").exists()
    published = np.loadtxt(shared_data / "graphene-dtu/hexagon_centres_xy_px.csv", delimiter=",", skiprows=1) * pixel
    rings = ring_centres(atoms.select("x_angstrom", "y_angstrom").to_numpy())
    distance = cKDTree(rings).query(published)[0]
    assert (distance < 0.35).mean() >= 0.93
    assert np.median(distance) <= 0.16


def ring_centres(xy: np.ndarray) -> np.ndarray:
    """Centres of the six-rings of located atoms."""
    from scant.physics.lattice import pairs_within, rings

    faces = rings(pairs_within(xy, 1.85), xy)
    return np.array([xy[face].mean(axis=0) for face in faces if len(face) == 6])
