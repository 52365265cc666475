"""The same values whatever the number of workers, the size of a block and the moment of a kill -9."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
from golden_run import FOLDER, difference_in_sigma, machine_class, value_hashes
from house import CONFIG, House
from polars.testing import assert_frame_equal

TABLES = ("atoms", "bonds", "surface", "frames", "md", "dose", "failures")
KILLS = 100
LONGEST_S = 24.0


def same_values(one: House, other: House) -> None:
    for name in TABLES:
        tables = [pl.read_parquet(house.results / f"{name}.parquet") for house in (one, other)]
        assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert (one.results / "structures.extxyz").read_bytes() == (other.results / "structures.extxyz").read_bytes()


def test_the_values_are_those_of_the_golden_run(finished):
    """To the bit on the class of machine that made it; elsewhere kernels sum in another order, and structures agree to within sigma."""
    golden = json.loads((FOLDER / "hashes.json").read_text())
    if golden["machine"] == machine_class():
        hashes = value_hashes(finished.results)
        changed = [name for name, known in golden["values"].items() if hashes[name] != known]
        assert not changed, f"other than in tests/workflow/golden: {changed}; where that is meant, `make golden`"
    found, pulls = difference_in_sigma(pl.read_parquet(finished.results / "atoms.parquet"), pl.read_parquet(FOLDER / "atoms.parquet"))
    assert found > 0.98
    assert (pulls < 1.5).all(), pulls


@pytest.mark.slow
@pytest.mark.fault("F1")
def test_one_worker_and_another_size_of_block_give_the_same_bits(finished, tmp_path, repository):
    house = House(tmp_path, repository)
    house.write_config(CONFIG | {"block_frames": 2})
    done = house.snakemake("--cores", "1")
    assert done.returncode == 0, done.stdout[-6000:]
    same_values(house, finished)


@pytest.mark.slow
@pytest.mark.fault("F1")
def test_a_hundred_kills_cost_nothing_but_the_jobs_in_flight(finished, tmp_path, repository):
    """Kill -9 at seeded moments until the run has ended, then a new run, until there were a hundred; every one ends bit-identical."""
    moments, wanted, n_kills, n_runs = random.Random(20261126), finished.hashes(), 0, 0
    while n_kills < KILLS:
        house = House(tmp_path / str(n_runs), repository)
        n_runs += 1
        while not (house.results / "complete.json").exists():
            started = job_starts(house)
            ended = run_for(house, moments.uniform(4.0, LONGEST_S) if n_kills < KILLS else None)
            n_kills += not ended
            redone = [log for log, n in job_starts(house).items() if started.get(log, 0) and n > started[log]]
            assert len(redone) <= 2, f"after kill {n_kills}, more was made again than two workers had in hand: {redone}"
        assert house.hashes() == wanted, f"run {n_runs}"


def run_for(house: House, seconds: float | None) -> bool:
    """Run the one command; kill it after so many seconds. Whether it ended by itself."""
    with (house.root / "terminal").open("a") as terminal:
        process = subprocess.Popen(house.command(), cwd=house.root, env=house.environment, stdout=terminal, stderr=terminal)
        try:
            assert process.wait(seconds) == 0, (house.root / "terminal").read_text()[-6000:]
            return True
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            # jobs follow their run within half a second
            time.sleep(1.0)
            return False


def job_starts(house: House) -> dict[Path, int]:
    """Log of every job that has begun -> its date: a job that began again has a newer one."""
    return {log: log.stat().st_mtime_ns for log in house.results.glob("logs/**/*.log")}
