"""The real workflow on a tiny simulated movie: products, no-op reruns, what a change reruns, kill -9 and resume."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

PRODUCTS = (
    "atoms.parquet", "bonds.parquet", "surface.parquet", "electronic.parquet", "ripples.parquet", "frames.parquet", "md.parquet",
    "dose.parquet", "failures.parquet", "structures.extxyz", "calibration.json", "checks.json", "report.html", "dynamics.mp4",
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
AFTER_ANNEAL = {"anneal", "validate", "electrons", "analyse_frames", "analyse", "dose_twins", "dose", "report", "movie", "checks", "all"}


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository) -> House:
    house = House(tmp_path_factory.mktemp("finished"), repository)
    done = house.snakemake()
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return house


def test_every_product_is_there_and_fits_the_others(finished):
    assert [name for name in PRODUCTS if not (finished.results / name).exists()] == []
    frames = pl.read_parquet(finished.results / "frames.parquet")
    assert frames["status"].to_list() == ["ok"] * 5
    assert set(json.loads((finished.results / "checks.json").read_text()).values()) == {"ok"}
    atoms = pl.read_parquet(finished.results / "atoms.parquet")
    assert atoms.group_by("frame").len()["len"].min() > 80
    assert atoms["sigma_z_angstrom"].min() > 0
    assert len(pl.read_parquet(finished.results / "md.parquet")) == 5


def test_structures_are_near_the_truth(finished, repository):
    """Few moves, so not the final accuracy; but x and y, the order of the frames and the frame of reference must be right."""
    from scant.inference.scoring import score
    from scant.io.structures import read_extxyz
    from scant.stages.truth import read_truth

    found = read_extxyz(str(finished.results / "structures.extxyz"))
    true = read_truth(str(finished.results / "simulated/truth.extxyz"))
    columns = ["x_angstrom", "y_angstrom", "z_angstrom"]
    for frame in range(5):
        result = score(found.filter(frame=frame).select(columns).to_numpy(), true[frame], (16.8, 16.8))
        assert result.recall >= 0.97
        assert result.error_angstrom[:, :2].std() < 0.08


def test_intermediate_stacks_are_gone(finished):
    left = [path.name for kind in ("averaged", "denoised") for path in finished.results.glob(f"{kind}/*.zarr")]
    assert left == []


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.planned() == {}


def test_one_annealing_parameter_reruns_annealing_and_what_follows(finished):
    changed = json.loads(json.dumps(CONFIG))
    changed["anneal"]["n_samples"] = 9
    finished.write_config(changed)
    try:
        assert set(finished.planned()) <= AFTER_ANNEAL
        assert "anneal" in finished.planned()
    finally:
        finished.write_config(CONFIG)


def test_one_edited_library_line_reruns_only_its_stages(finished):
    module = finished.root / "lib/scant/physics/md.py"
    text = module.read_text()
    try:
        module.write_text(text.replace("import math\n", "import math  # a comment changes nothing\n", 1))
        assert finished.planned() == {}
        module.write_text(text + "\n\nUNUSED = 1\n")
        planned = set(finished.planned())
        assert "validate" in planned
        assert not planned & {"ingest", "calibrate", "correct", "denoise", "localise", "link", "anneal", "dose_twins"}
    finally:
        module.write_text(text)
    assert finished.planned() == {}


def test_kill_9_in_the_middle_then_the_same_command(finished, tmp_path, repository):
    house = House(tmp_path, repository)
    process = subprocess.Popen(house.command(), cwd=house.root, env=house.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not list(house.results.glob("logs/anneal/*.log")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (house.results / "report.html").exists()
    done = house.snakemake()
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert house.hashes() == finished.hashes()


def test_two_runs_on_one_folder_the_second_is_refused(finished):
    from scant.io.runs import lock_results

    with lock_results(str(finished.root / "results")):
        refused = finished.snakemake("--forcerun", "checks")
    assert refused.returncode != 0
    assert "another run works on this folder" in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"anneal": {"temperature": 300}}, "anneal.temperature"),
        ({"average": {"window": 4}}, "must be odd"),
        ({"datasets": {"x; touch PWNED": "a.yaml"}}, "string_pattern|should match pattern"),
        ({"datasets": {"gone": "nowhere/acquisition.yaml"}}, "no such file"),
        ({"anneal": {"temperature_k": -5}}, "greater than or equal to 50"),
    ],
)
def test_bad_configuration_is_refused_before_any_work(finished, values, words):
    finished.write_config(values)
    try:
        done = finished.snakemake("-n")
    finally:
        finished.write_config(CONFIG)
    assert done.returncode != 0
    assert re.search(words, done.stdout + done.stderr)
    assert not (finished.root / "PWNED").exists()


@pytest.mark.parametrize("profile", ["default", "ci", "slurm"])
@pytest.mark.parametrize(
    "change", [{}, {"denoise": {"method": "ksvd"}}, {"denoise": {"method": "unet"}}, {"average": {"window": 1}, "keep": ["denoised"]}]
)
def test_dry_run_matrix(tmp_path, repository, profile, change):
    house = House(tmp_path, repository)
    house.write_config(CONFIG | change)
    done = house.snakemake("-n", "--workflow-profile", f"profiles/{profile}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ingest" in done.stdout + done.stderr


def test_the_comparison_of_denoisers_is_planned(tmp_path, repository):
    house = House(tmp_path, repository)
    done = house.snakemake("-n", "compare_denoisers")
    assert done.returncode == 0, done.stdout + done.stderr
