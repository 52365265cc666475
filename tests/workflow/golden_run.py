"""The golden run of the tiny movie: hashes of its values on one class of machine, its atoms as the measure on all others.

usage: golden_run.py      renews golden/ after a change that is meant to change results (`make golden`)
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import polars as pl
from house import PRODUCTS, House
from scipy.spatial import cKDTree

FOLDER = Path(__file__).parent / "golden"
REPOSITORY = Path(__file__).resolve().parents[2]
POSITION = ("x_angstrom", "y_angstrom", "z_angstrom")
TABLES = tuple(name for name in PRODUCTS if name.endswith(".parquet"))
SAME_ATOM_ANGSTROM = 0.7


def machine_class() -> dict[str, str]:
    """What bits depend on: the processor, for which kernels are compiled and by which BLAS chooses its own, and the packages."""
    features = sorted(name for name, there in llvm.get_host_cpu_features().items() if there)
    return {
        "processor": llvm.get_host_cpu_name(),
        "features": hashlib.sha256(" ".join(features).encode()).hexdigest()[:16],
        "lock": hashlib.sha256((REPOSITORY / "uv.lock").read_bytes()).hexdigest()[:16],
    }


def value_hashes(results: Path) -> dict[str, str]:
    """SHA-256 over the decoded values of every table and of the calibration: not over who made them with which lines of code."""
    found = {file: pl.read_parquet(results / file).write_csv() for file in TABLES}
    calibration = json.loads((results / "calibration.json").read_text())
    found["calibration.json"] = json.dumps({key: value for key, value in calibration.items() if key != "provenance"}, sort_keys=True)
    return {file: hashlib.sha256(text.encode()).hexdigest() for file, text in found.items()}


def difference_in_sigma(atoms: pl.DataFrame, golden: pl.DataFrame) -> tuple[float, np.ndarray]:
    """Share of the golden atoms that are there, and the rms difference (3,) of x, y, z in units of the stated sigma."""
    pulls, n_found = [], 0
    for frame in golden["frame"].unique().sort():
        ours, theirs = (table.filter(pl.col("frame") == frame) for table in (atoms, golden))
        ours_xyz, theirs_xyz = (table.select(POSITION).to_numpy() for table in (ours, theirs))
        distance, nearest = cKDTree(ours_xyz[:, :2]).query(theirs_xyz[:, :2])
        near = distance < SAME_ATOM_ANGSTROM
        sigma = theirs.select(f"sigma_{name}" for name in POSITION).to_numpy()
        pulls.append(((ours_xyz[nearest] - theirs_xyz) / sigma)[near])
        n_found += int(near.sum())
    return n_found / golden.height, np.sqrt((np.concatenate(pulls) ** 2).mean(axis=0))


def renew() -> None:
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder) / "house", REPOSITORY)
        done = house.snakemake()
        if done.returncode != 0:
            raise SystemExit(done.stdout[-6000:])
        FOLDER.mkdir(exist_ok=True)
        record = {"machine": machine_class(), "values": value_hashes(house.results)}
        (FOLDER / "hashes.json").write_text(json.dumps(record, indent=2) + "\n")
        columns = ["frame", *POSITION, *(f"sigma_{name}" for name in POSITION)]
        pl.read_parquet(house.results / "atoms.parquet").select(columns).write_parquet(FOLDER / "atoms.parquet")


if __name__ == "__main__":
    renew()
