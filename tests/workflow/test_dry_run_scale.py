"""Snakemake plans the whole of a 50,000-frame movie of 2048 x 2048 in bounded time and memory; its jobs are those that `plan` counts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mrcfile.dtypes import HEADER_DTYPE
from scant.commands.plan import movie_facts
from scant.config import load_acquisition, parse_config
from scant.io.blocks import plan_blocks
from scant.io.readers import open_movie
from scant.plan import RATES, plan
from scant.stages.facts import dataset_facts

N_FRAMES, SIZE_PX = 50_000, 2048
ACQUISITION = "movie: movie.mrc\nvoltage_kV: 80\ncs_um: -13\ndefocus_angstrom: -45\npixel_size_angstrom: 0.2\ndose_e_per_angstrom2: 8000\n"


def sparse_movie(path: Path) -> None:
    """An MRC stack of 420 GB that takes no disk: a valid header, then a hole."""
    import numpy as np

    header = np.zeros(1, HEADER_DTYPE)[0]
    for key, value in {"nx": SIZE_PX, "ny": SIZE_PX, "nz": N_FRAMES, "mode": 6, "mx": SIZE_PX, "my": SIZE_PX, "mz": N_FRAMES}.items():
        header[key] = value
    header["map"], header["machst"] = b"MAP ", [0x44, 0x44, 0, 0]
    with path.open("wb") as handle:
        handle.write(header.tobytes())
        handle.truncate(1024 + N_FRAMES * SIZE_PX * SIZE_PX * 2)


@pytest.mark.slow
def test_the_whole_movie_is_planned(tmp_path, repository):
    sparse_movie(tmp_path / "movie.mrc")
    (tmp_path / "acquisition.yaml").write_text(ACQUISITION)
    values = {"datasets": {"long": str(tmp_path / "acquisition.yaml")}, "results": str(tmp_path / "results")}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(values))
    config = parse_config(values)
    each = plan(config, "long", movie_facts(config, "long"), 2)

    source = open_movie(str(tmp_path / "movie.mrc"), config.ingest.max_bytes)
    facts = dataset_facts(source, load_acquisition(tmp_path / "acquisition.yaml"), tmp_path)
    facts |= {"chunk_frames": 1, "blocks": [block.label for block in plan_blocks(N_FRAMES, 64, 1)], "movie": str(tmp_path / "movie.mrc")}
    (tmp_path / "results/long/ingest").mkdir(parents=True)
    (tmp_path / "results/long/ingest/facts.json").write_text(json.dumps(facts))

    arguments = ["-n", "--quiet", "rules", "--cores", "2", "--workflow-profile", str(repository / "profiles/ci")]
    command = [str(Path(sys.executable).parent / "snakemake"), "-s", str(repository / "Snakefile"), "--directory", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    began = time.monotonic()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--configfile", str(tmp_path / "long.yaml"), *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, text = time.monotonic() - began, (tmp_path / "log").read_text()
    assert process.returncode == 0, text[-3000:]
    counted = dict(re.findall(r"^(\w+) +(\d+)$", text.split("Job stats:")[1], re.M))
    print(
        f"{counted['total']} jobs planned in {seconds:.1f} s ({usage.ru_utime + usage.ru_stime:.1f} CPU-s), {usage.ru_maxrss / 1e3:.0f} MB"
    )
    # ingest is there already; `all` is one more
    assert int(counted["total"]) == each.jobs - 1 + 1 > 7000
    assert {rule for rule, n in counted.items() if int(n) == 782} == {rule for rule, rate in RATES.items() if rate.per == "block"}
    assert seconds < 120
    assert usage.ru_maxrss < 2e6


def test_a_run_that_the_disk_cannot_hold_is_refused_before_its_first_job(tmp_path, repository):
    values = {"simulate": {"vast": {"n_frames": 100_000, "size_px": 4096}}, "results": str(tmp_path / "results")}
    (tmp_path / "vast.yaml").write_text(yaml.safe_dump(values))
    command = [str(Path(sys.executable).parent / "snakemake"), "-s", str(repository / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--configfile", str(tmp_path / "vast.yaml"), "--workflow-profile", str(repository / "profiles/ci")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert re.search(r"results: the run needs \d{14,} bytes more .*, \d+ bytes are free .*larger disk", done.stdout + done.stderr)
    assert "vast: 100000 frames of 4096 x 4096 px" in done.stderr
    assert not (tmp_path / "results/vast").exists()
