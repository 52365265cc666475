"""The real workflow on a tiny simulated movie: products, no-op reruns, what a change reruns, kill -9 and resume."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

import polars as pl
import pytest
from house import CONFIG, PRODUCTS, House
from rocrate.rocrate import ROCrate
from scant.columns import TABLES

AFTER_ANNEAL = {
    "anneal", "validate", "electrons", "analyse_frames", "analyse", "dose_twins", "dose", "report", "movie", "checks", "complete", "all",
}  # fmt: skip


def test_every_product_is_there_and_fits_the_others(finished):
    assert [name for name in PRODUCTS if not (finished.results / name).exists()] == []
    frames = pl.read_parquet(finished.results / "frames.parquet")
    assert frames["status"].to_list() == ["ok"] * 5
    assert set(json.loads((finished.results / "checks.json").read_text()).values()) == {"ok"}
    atoms = pl.read_parquet(finished.results / "atoms.parquet")
    assert atoms.group_by("frame").len()["len"].min() > 80
    assert atoms["sigma_z_angstrom"].min() > 0
    assert len(pl.read_parquet(finished.results / "md.parquet")) == 5


def test_every_column_of_every_table_is_documented(finished):
    """And none that is not there: lib/scant/columns.py, from which workflow/COLUMNS.md is made."""
    tables = {str(path.relative_to(finished.results)) for path in finished.results.glob("*.parquet")}
    tables |= {f"dose/{name}.parquet" for name in ("bound", "defocus")}
    assert tables == {name for name, table in TABLES.items() if not table.on_request}
    for name in tables:
        found, documented = set(pl.read_parquet_schema(finished.results / name)), set(TABLES[name].columns)
        assert found == documented, f"{name}: undocumented {found - documented}, absent {documented - found}"


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


@pytest.mark.fault("F20")
def test_one_annealing_parameter_reruns_annealing_and_what_follows(finished):
    changed = json.loads(json.dumps(CONFIG))
    changed["anneal"]["n_samples"] = 9
    finished.write_config(changed)
    try:
        assert set(finished.planned()) <= AFTER_ANNEAL
        assert "anneal" in finished.planned()
    finally:
        finished.write_config(CONFIG)


@pytest.mark.fault("F20")
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


@pytest.mark.fault("F1")
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
    assert done.returncode == 0, (done.stdout)[-6000:]
    assert house.hashes() == finished.hashes()


@pytest.mark.fault("F12")
def test_two_runs_on_one_folder_the_second_is_refused(finished):
    from scant.io.runs import lock_results

    with lock_results(str(finished.root / "results")):
        refused = finished.snakemake("--forcerun", "checks")
    assert refused.returncode != 0
    assert "another run works on this folder" in refused.stdout


@pytest.mark.fault("F25")
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
    assert re.search(words, done.stdout)
    assert not (finished.root / "PWNED").exists()


@pytest.mark.parametrize("profile", ["default", "ci", "slurm"])
@pytest.mark.parametrize(
    "change", [{}, {"denoise": {"method": "ksvd"}}, {"denoise": {"method": "unet"}}, {"average": {"window": 1}, "keep": ["denoised"]}]
)
def test_dry_run_matrix(tmp_path, repository, profile, change):
    house = House(tmp_path, repository)
    house.write_config(CONFIG | change)
    done = house.snakemake("-n", "--workflow-profile", f"profiles/{profile}")
    assert done.returncode == 0, done.stdout
    assert "ingest" in done.stdout


def test_the_comparison_of_denoisers_is_planned(tmp_path, repository):
    house = House(tmp_path, repository)
    done = house.snakemake("-n", "compare_denoisers")
    assert done.returncode == 0, done.stdout


def test_the_finished_run_as_a_crate(finished):
    """What a reader of the crate needs: the workflow, the run, its inputs, and products that are what their hashes say."""
    done = finished.scant("crate", "--config", "tiny.json")
    assert done.returncode == 0, done.stdout
    crate = ROCrate(finished.results)
    assert crate.mainEntity.id == "provenance/scant-source.zip"
    run = crate.get("#run")
    assert run["instrument"].id == crate.mainEntity.id and run["startTime"] < run["endTime"]
    assert {"#movie.tif", "#dark.tif", "#flat.tif", "provenance/config.yaml"} <= {entity.id for entity in run["object"]}
    assert all((finished.results / entity.id).exists() for entity in run["result"])
    seals = finished.results / "seals"
    products = {str(path.relative_to(seals)).removesuffix(".sha256") for path in seals.rglob("*.sha256")}
    not_of_blocks = {product for product in products if not re.search(r"\d{7}-\d{7}", product)}
    assert {"dose/bound.parquet", "calibrate/detector.npz", "link/ids.parquet"} <= not_of_blocks
    assert not_of_blocks <= {entity.id.rstrip("/") for entity in run["result"]}
    assert crate.get("atoms.parquet")["sha256"] == finished.hashes()["atoms.parquet"]
    assert finished.planned() == {}
