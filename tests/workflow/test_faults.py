"""Damage, lost workers and failing steps in real runs: what is lost is named, the rest is kept, a rerun ends bit-identical."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from house import House
from polars.testing import assert_frame_equal

BLOCK = "0000000-0000004"
RAW_CHUNK = "movie.zarr/0/c/0/0/0"


@pytest.fixture
def house(finished_once, tmp_path) -> House:
    shutil.copytree(finished_once, tmp_path / "house")
    return House.at(tmp_path / "house")


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rules_run(terminal: str) -> set[str]:
    return set(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", terminal))


def ends_as_before(house: House, wanted: dict[str, str]) -> None:
    done = house.snakemake()
    assert done.returncode == 0, done.stdout[-6000:]
    assert house.hashes() == wanted


@pytest.mark.fault("F9")
@pytest.mark.parametrize(
    ("damaged", "product", "rule"),
    [
        pytest.param(RAW_CHUNK, f"ingest/{BLOCK}.json", "ingest_frames", marks=pytest.mark.slow),
        pytest.param(f"anneal/{BLOCK}.parquet", f"anneal/{BLOCK}.parquet", "anneal", marks=pytest.mark.slow),
        ("structures.extxyz", "structures.extxyz", "analyse"),
    ],
)
def test_one_flipped_bit_is_found_and_just_that_file_is_made_again(house, damaged, product, rule):
    wanted = house.hashes()
    assert house.scant("verify", "results/tiny").returncode == 0
    flip_one_bit(house.results / damaged)
    found = house.scant("verify", "results/tiny")
    assert found.returncode == 1
    assert re.search(rf"damaged: results/tiny/{product}: results/tiny/{damaged}.*changed since it was (made|written)", found.stdout)
    assert re.search(r"your usual options and (.+)", found.stdout)[1] == f"results/tiny/{product}"
    assert house.planned(f"results/tiny/{product}") == {rule: 1}
    mended = house.snakemake()
    assert mended.returncode == 0, mended.stdout[-6000:]
    assert rules_run(mended.stdout) == {rule, "all"}
    assert house.planned() == {}
    assert house.hashes() == wanted
    assert house.scant("verify", "results/tiny").returncode == 0


@pytest.mark.fault("F9")
def test_a_job_never_uses_a_damaged_input_and_a_rerun_mends_it(house):
    wanted = house.hashes()
    damaged = house.results / f"analyse/{BLOCK}.bonds.parquet"
    flip_one_bit(damaged)
    refused = house.snakemake("--forcerun", "analyse")
    assert refused.returncode != 0
    assert f"results/tiny/analyse/{BLOCK}.bonds.parquet: changed since it was made (sha256" in refused.stdout
    assert damaged.with_name(f"{damaged.name}.damaged").exists()
    ends_as_before(house, wanted)


@pytest.mark.fault("F8")
@pytest.mark.fault("F10")
def test_what_is_deleted_or_cut_is_noticed_by_the_next_run(house):
    wanted = house.hashes()
    (house.results / RAW_CHUNK).unlink()
    table = house.results / "md.parquet"
    table.write_bytes(table.read_bytes()[:-100])
    planned = house.snakemake("-n")
    assert re.search(rf"{RAW_CHUNK}: frames 0 to \d+: missing; would be made again", planned.stdout)
    assert re.search(r"md\.parquet: expected \d+ bytes, found \d+; would be made again", planned.stdout)
    assert table.exists()
    ends_as_before(house, wanted)
    assert (house.results / RAW_CHUNK).exists()


@pytest.mark.slow
@pytest.mark.fault("F3")
@pytest.mark.parametrize("fault", ["anneal 2 kill", pytest.param("localise 2 hang", marks=pytest.mark.fault("F5")),
                                   pytest.param("denoise 2 memory", marks=pytest.mark.fault("F4")),
                                   "validate 2 error", "correct 2 error"])  # fmt: skip
def test_one_bad_frame_costs_itself_alone_and_a_rerun_ends_as_if_nothing_had_been(house, fault):
    wanted, clean = house.hashes(), pl.read_parquet(house.results / "atoms.parquet")
    stage, frame, kind = fault.split()
    cause = {"kill": "killed", "hang": "timeout", "memory": "memory", "error": "KeyError"}[kind]
    partial = house.snakemake("--forcerun", stage, fault=fault)
    assert partial.returncode != 0
    assert f"1 of 5 frames failed: {stage} 1 ({cause})" in partial.stdout
    assert (house.results / "report.html").exists() and not (house.results / "complete.json").exists()
    row = pl.read_parquet(house.results / "failures.parquet").row(0, named=True)
    assert (row["frame"], row["stage"], row["cause"]) == (2, stage, cause) and row["remedy"]
    told = house.snakemake("failures")
    assert told.returncode == 0 and f"{stage}: {cause}, 1 frame(s): {frame}" in told.stdout
    others = pl.read_parquet(house.results / "atoms.parquet").filter(pl.col("frame") != 2)
    # window means and the drift of a frame's neighbours may change with a frame that is lost before them
    if stage in ("anneal", "validate"):
        assert_frame_equal(others, clean.filter(pl.col("frame") != 2), check_exact=True)
    if kind == "error":
        assert house.snakemake("--forcerun", stage).returncode == 0
        assert house.hashes() == wanted
    else:
        ends_as_before(house, wanted)


@pytest.mark.fault("F26")
def test_a_failing_report_costs_no_data_and_is_made_alone(house):
    wanted = house.hashes()
    page = house.root / "lib/scant/report/page.py"
    text = page.read_text()
    page.write_text(text + '\n\ndef render_page(page):\n    raise RuntimeError("no page today")\n')
    failed = house.snakemake()
    assert failed.returncode != 0 and "no page today" in failed.stdout
    kept = {name: digest for name, digest in house.hashes(missing="").items() if name != "report.html"}
    assert kept == {name: digest for name, digest in wanted.items() if name != "report.html"}
    page.write_text(text)
    assert set(house.planned()) == {"report", "checks", "complete", "all"}
    ends_as_before(house, wanted)


@pytest.mark.fault("F18")
@pytest.mark.fault("F19")
def test_a_job_that_ends_well_without_its_output_is_a_failure(house):
    wanted = house.hashes()
    script = house.root / "workflow/scripts/crystal2d/movie.py"
    text = script.read_text()
    script.write_text("")
    failed = house.snakemake("--keep-incomplete", "--forcerun", "movie")
    assert failed.returncode != 0 and "dynamics.mp4" in failed.stdout
    script.write_text(
        text.replace("movie(snakemake", 'open(snakemake.output[0], "wb").write(b"half"); raise SystemExit(1)\n        movie(snakemake')
    )
    assert house.snakemake("--keep-incomplete").returncode != 0
    assert (house.results / "dynamics.mp4").read_bytes() == b"half"
    script.write_text(text)
    assert "movie" in house.planned()
    ends_as_before(house, wanted)


@pytest.mark.fault("F21")
def test_new_dates_rerun_nothing(house):
    for offset_s in (0, 86400 * 365, -86400 * 365):
        for path in house.results.rglob("*"):
            if path.is_file():
                stamp = path.stat().st_mtime + offset_s * ((len(path.name) % 2) or -1)
                os.utime(path, (stamp, stamp))
        assert house.planned() == {}, offset_s


def test_a_link_in_the_results_is_refused(house, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    page = house.results / "report.html"
    page.unlink()
    page.symlink_to(secret)
    refused = house.snakemake()
    assert refused.returncode != 0 and "report.html: a link to" in refused.stdout
    assert secret.read_text() == "untouched"


@pytest.mark.fault("F6")
def test_a_gpu_that_is_not_there_is_an_error_before_any_work(house):
    from scant.xp import gpu_problem

    if gpu_problem() is None:
        pytest.skip("this machine has a GPU")
    refused = house.snakemake("--config", "device=gpu")
    assert refused.returncode != 0 and "gpu was asked for, but" in refused.stdout
