"""A copy of the repository with a tiny simulated movie: what the tests of the whole workflow run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PRODUCTS = (
    "atoms.parquet", "bonds.parquet", "surface.parquet", "frames.parquet", "md.parquet", "dose.parquet", "failures.parquet",
    "structures.extxyz", "calibration.json", "checks.json", "report.html", "dynamics.mp4",
)  # fmt: skip
CONFIG = {
    "simulate": {"tiny": {"n_frames": 5, "size_px": 84, "n_bad_pixels": 12}},
    "block_frames": 4,
    "ingest": {"chunk_bytes": 65536},
    "calibrate": {"optics_frames": 2},
    "anneal": {"n_temperatures": 2, "moves_per_temperature": 3, "burn_in": 4, "n_samples": 8, "n_chains": 2, "leapfrog_steps": 4},
    "validate": {"length_ps": 0.1},
    "dose": {"doses_e_per_angstrom2": [3000, 20000], "twins": 1, "view_angstrom": 15},
    "report": {"movie_frames": 3, "viewer_frames": 3},
}


class House:
    """A copy of the repository with its own results, so that its library can be edited."""

    def __init__(self, root: Path, repository: Path):
        self.root = root
        for name in ("Snakefile", "workflow", "lib", "profiles", "config"):
            source = repository / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, root / name)
        self.write_config(CONFIG)

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
        return {**os.environ, "PYTHONPATH": str(self.root / "lib"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments), cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=900, check=False
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """Rules a dry run would run, with their counts."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        table = re.search(r"Job stats:\njob\s+count\n[- ]+\n(.*?)\n\n", done.stdout + done.stderr, re.S)
        return {line.split()[0]: int(line.split()[1]) for line in table[1].splitlines() if not line.startswith("total")} if table else {}

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"

    def hashes(self) -> dict[str, str]:
        return {name: hashlib.sha256((self.results / name).read_bytes()).hexdigest() for name in PRODUCTS}
