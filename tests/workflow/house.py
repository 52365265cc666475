"""A copy of the repository with its own results, so that a test can edit its library, damage its files and kill its runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INJECTED = Path(__file__).parent / "injected"
PRODUCTS = (
    "atoms.parquet", "bonds.parquet", "surface.parquet", "electronic.parquet", "ripples.parquet", "defects.parquet",
    "defect_events.parquet", "frames.parquet", "md.parquet",
    "dose.parquet", "failures.parquet", "structures.extxyz", "calibration.json", "checks.json", "report.html",
    "dynamics.mp4", "dynamics.gif",
)  # fmt: skip
CONFIG = {
    "simulate": {"tiny": {"n_frames": 5, "size_px": 84, "n_bad_pixels": 12}},
    "block_frames": 4,
    "frame_timeout_s": 90,
    "max_failed_fraction": 0.5,
    "ingest": {"chunk_bytes": 65536},
    "calibrate": {"optics_frames": 2},
    "anneal": {"n_temperatures": 2, "moves_per_temperature": 3, "burn_in": 4, "n_samples": 8, "n_chains": 2, "leapfrog_steps": 4},
    "validate": {"length_ps": 0.1},
    "dose": {"doses_e_per_angstrom2": [3000, 20000], "twins": 1, "view_angstrom": 15},
    "report": {"movie_frames": 3, "viewer_frames": 3},
}


class House:
    """The repository's workflow and library under `root`, with the tiny movie's configuration."""

    def __init__(self, root: Path, repository: Path):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for name in ("Snakefile", "workflow", "lib", "profiles", "config"):
            source = repository / name
            if source.is_dir():
                # compiled kernels and bytecode come along: a cache is known by its source's date and size
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("*.tmp.*", "*.pyc.*"))
            else:
                shutil.copy(source, root / name)
        self.write_config(CONFIG)

    @classmethod
    def at(cls, root: Path) -> House:
        """A house that is there already."""
        house = cls.__new__(cls)
        house.root = root
        return house

    def write_config(self, values: dict) -> None:
        (self.root / "tiny.json").write_text(json.dumps(values))

    def command(self, *arguments: str) -> list[str]:
        return [
            str(Path(sys.executable).parent / "snakemake"),
            "--configfile",
            "tiny.json",
            "--workflow-profile",
            "profiles/ci",
            *arguments,
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.root / "lib"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}

    def snakemake(self, *arguments: str, fault: str | None = None) -> subprocess.CompletedProcess:
        """Run the workflow; `fault` (STAGE FRAME KIND) is put before that frame's work (see injected/sitecustomize.py)."""
        return self.run(self.command(*arguments), self.environment | (self.injected(fault) if fault else {}))

    def injected(self, fault: str) -> dict[str, str]:
        """Environment in which the fault happens."""
        return {"SCANT_FAULT": fault, "PYTHONPATH": f"{self.environment['PYTHONPATH']}:{INJECTED}"}

    def scant(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.run([sys.executable, "-m", "scant", *arguments], self.environment)

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command, cwd=self.root, env=environment or self.environment, capture_output=True, text=True, timeout=900, check=False
        )
        done.stdout += done.stderr
        return done

    def planned(self, *arguments: str) -> dict[str, int]:
        """Rules a dry run would run, with their counts."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout
        table = re.search(r"Job stats:\njob\s+count\n[- ]+\n(.*?)\n\n", done.stdout, re.S)
        return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines() if not line.startswith("total")} if table else {}

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"

    def hashes(self, missing: str | None = None) -> dict[str, str]:
        """SHA-256 of every product; a missing one is an error, unless it gets a word instead."""
        files = {name: self.results / name for name in PRODUCTS}
        absent = {name for name, file in files.items() if missing is not None and not file.exists()}
        return {name: missing or "" if name in absent else hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def finished_house(folders: pytest.TempPathFactory, repository: Path, name: str, config: dict, *arguments: str) -> Path:
    """A house whose run has ended, made by whichever of the workers of pytest-xdist asks first."""
    base = folders.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "results/tiny/complete.json").exists():
            shutil.rmtree(root, ignore_errors=True)
            house = House(root, repository)
            house.write_config(config)
            done = house.snakemake(*arguments)
            assert done.returncode == 0, done.stdout[-6000:]
    return root
