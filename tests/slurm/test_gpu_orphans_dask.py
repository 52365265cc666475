"""On a real SLURM cluster of two virtual nodes: a job that outlives its run, Ctrl-C, Dask over both nodes, a GPU that is none."""

from __future__ import annotations

import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import free_ports, missing
from house import House
from runs import PROFILE, RUN_TIMEOUT_S, TINY, Runs, state_of, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


AGAIN = [*PROFILE, "--rerun-triggers", "mtime", "--forcerun", "anneal", "--until", "anneal"]


@pytest.fixture(scope="module")
def runs(local_run, tmp_path_factory, cluster) -> Runs:
    """Runs of a copy of the finished local house."""
    root = tmp_path_factory.mktemp("copy") / "house"
    shutil.copytree(local_run, root)
    return Runs(House.at(root), cluster)


def test_a_job_that_outlived_its_killed_run_ends_when_the_next_run_begins(runs, cluster):
    (before,) = runs.house.results.glob("anneal/*-*[0-9].parquet")
    expected, began = before.read_bytes(), time.time()
    process = runs.start(*AGAIN, fault="anneal 0 hang")
    orphan = runs.wait_for_script("anneal", began, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # longer than a job on the run's own host needs to follow it
    time.sleep(2)
    assert state_of(cluster, orphan) == "RUNNING"
    runs.finish(runs.start(*AGAIN))
    assert state_of(cluster, orphan) == "FAILED"
    assert before.read_bytes() == expected


def test_ctrl_c_cancels_the_jobs(runs, cluster):
    began = time.time()
    process = runs.start(*AGAIN, fault="anneal 0 hang")
    job = runs.wait_for_script("anneal", began, process)
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(60) != 0
    finally:
        process.kill()
    wait_until(lambda: state_of(cluster, job) == "CANCELLED", 30)
    runs.finish(runs.start(*AGAIN))


CERTIFICATES = """
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=scant-test 2>/dev/null
cat ca.key ca.pem > both.pem
"""
PROBE = """
import socket, sys, time
from scant.io.workers import map_frames
def host(frame):
    time.sleep(0.3)
    return socket.gethostname()
values, failures = map_frames(host, range(8), stage="probe", n_workers=2, scheduler_address=sys.argv[1])
print("HOSTS", *sorted(set(values.values())), len(failures))
"""
ALLOCATION = """#!/bin/bash
set -eu
dask scheduler --protocol tls --port {port} --no-dashboard > scheduler.log 2>&1 &
srun bash -c 'exec dask worker {address} --nthreads 1 --nworkers 1 --no-dashboard --name $SLURMD_NODENAME' > workers.log 2>&1 &
python probe.py {address}
{snakemake}
kill %2 %1
"""


def test_dask_over_the_two_nodes_of_an_allocation_behind_tls(runs, cluster):
    (port,) = free_ports(1)
    root, tables = runs.house.root, sorted(runs.house.results.glob("anneal/*.parquet"))
    expected = [hashlib.sha256(table.read_bytes()).hexdigest() for table in tables]
    subprocess.run(["sh", "-ec", CERTIFICATES], cwd=root, check=True)
    tls = {"CA_FILE": "ca.pem"} | {f"{role}__{kind}": "both.pem" for role in ("SCHEDULER", "WORKER", "CLIENT") for kind in ("CERT", "KEY")}
    address = f"tls://{socket.gethostbyname(socket.gethostname())}:{port}"
    arguments = ["--config", f"scheduler_address={address}", "--rerun-triggers", "mtime", "--forcerun", "anneal", "--until", "anneal"]
    (root / "probe.py").write_text(PROBE)
    script = root / "allocation.sh"
    script.write_text(ALLOCATION.format(port=port, address=address, snakemake=" ".join(runs.house.command(*arguments))))
    environment = runs.house.environment | {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(root / file) for name, file in tls.items()}
    environment["PATH"] = f"{cluster.folder}/bin:{Path(sys.executable).parent}:{cluster.environment['PATH']}"
    began = time.time()
    done = subprocess.run(
        ["sbatch", "--wait", "-N2", "--ntasks-per-node=1", "--mem=4000", "--output=allocation.out", str(script)],
        cwd=root, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False,
    )  # fmt: skip
    said = (root / "allocation.out").read_text()
    assert "HOSTS node1 node2 0" in said, said + (root / "scheduler.log").read_text() + (root / "workers.log").read_text()
    assert done.returncode == 0, said[-4000:]
    assert all(table.stat().st_mtime > began for table in tables)
    assert [hashlib.sha256(table.read_bytes()).hexdigest() for table in tables] == expected


def test_gpu_without_a_gpu_is_tried_again_and_is_a_clear_error_in_the_gpu_partition(runs, cluster):
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    runs.house.write_config(TINY | {"device": "gpu"})
    known = {job["JobId"] for job in cluster.jobs()}
    process = runs.start(*AGAIN, "--retries", "1", "--set-resources", "anneal:slurm_partition=gpu")
    try:
        assert process.wait(RUN_TIMEOUT_S) != 0
    finally:
        runs.house.write_config(TINY)
    jobs = [job for job in cluster.jobs() if job["JobId"] not in known]
    assert [job["JobState"] for job in jobs] == ["FAILED"] * 2
    assert {job["Partition"] + " " + job["TresPerJob"] for job in jobs} == {"gpu gres:gpu:1"}
    said = runs.log.read_text()
    assert "device: gpu was asked for, but" in said and "Error in rule anneal" in said


def test_an_open_dask_port_is_refused_before_any_work(tmp_path, repository):
    house = House(tmp_path, repository)
    done = house.snakemake("-n", "--config", "scheduler_address=tcp://192.0.2.1:8786")
    assert done.returncode != 0
    assert "only tcp://127.0.0.1:PORT or tls://HOST:PORT; an open Dask port runs anyone's code" in done.stdout + done.stderr
