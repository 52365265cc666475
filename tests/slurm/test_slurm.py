"""The real workflow on a real SLURM cluster of two virtual nodes: where rules land, lost jobs, killed runs, Dask over two nodes."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, free_ports, missing

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
from house import CONFIG, House

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

TINY = CONFIG | {
    "simulate": {"tiny": {"n_frames": 3, "size_px": 84, "n_bad_pixels": 12}},
    "device": "cpu",
    "calibrate": {"optics_frames": 1},
    "anneal": CONFIG["anneal"] | {"frames_per_batch": 1},
    "report": {"movie_frames": 1, "viewer_frames": 1},
}
# Every job boots Snakemake twice; in groups the whole movie is eight jobs.
GROUPS = {
    "prepare": "ingest_frames calibrate correct align_pairs align average denoise localise link",
    "finish": "electrons analyse_frames analyse dose report movie checks complete",
}
PROFILE = [
    "--workflow-profile", "profiles/slurm", "--cores", "1", "--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "1",
]  # fmt: skip
ROUTED = [
    "--set-resources", "anneal:slurm_partition=gpu", "anneal:gpu=1", "validate:runtime=77", "validate:mem_mb=1234",
    "--groups", *(f"{rule}={group}" for group, rules in GROUPS.items() for rule in rules.split()),
]  # fmt: skip
RUN_TIMEOUT_S = 900


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class Runs:
    """A house whose Snakemake runs on the cluster, with its output in a file."""

    def __init__(self, root: Path, repository: Path, cluster: Cluster):
        self.house, self.cluster, self.log = House(root, repository), cluster, root / "run.log"
        self.house.write_config(TINY)

    def start(self, *arguments: str, fault: str | None = None) -> subprocess.Popen:
        environment = self.house.environment | {"PATH": self.cluster.environment["PATH"]} | (self.house.injected(fault) if fault else {})
        with self.log.open("w") as log:
            return subprocess.Popen(
                self.house.command(*arguments), cwd=self.house.root, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def finish(self, process: subprocess.Popen) -> None:
        assert process.wait(RUN_TIMEOUT_S) == 0, self.log.read_text()[-6000:]

    def wait_for_script(self, rule: str, since: float, process: subprocess.Popen) -> dict[str, str]:
        """The job of a rule whose script is at work."""
        logs = self.house.results / "logs"

        def at_work() -> bool:
            assert process.poll() is None, self.log.read_text()[-6000:]
            return any(log.stat().st_mtime > since for log in [*logs.glob(f"{rule}/*.log"), *logs.glob(f"{rule}.log")])

        wait_until(at_work, RUN_TIMEOUT_S)
        return self.cluster.wait_for_job(rule, "RUNNING", 10)


def wait_until(ready: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def state_of(cluster: Cluster, job: dict[str, str]) -> str:
    return next(each["JobState"] for each in cluster.jobs() if each["JobId"] == job["JobId"])


def jobs_of(cluster: Cluster, rule: str) -> list[dict[str, str]]:
    return [job for job in cluster.jobs() if job.get("Comment", "").startswith(f"rule_{rule}_")]


@pytest.fixture(scope="module")
def local(tmp_path_factory, repository, cluster) -> tuple[Runs, subprocess.Popen]:
    """A local run of the same movie, begun at once: it works while the cluster's run waits."""
    runs = Runs(tmp_path_factory.mktemp("local"), repository, cluster)
    return runs, runs.start("--cores", "1")


@pytest.fixture(scope="module")
def disturbed(local, tmp_path_factory, repository, cluster) -> Runs:
    """A finished run on the cluster: its annealing was cancelled while at work, and the node of another job crashed."""
    runs = Runs(tmp_path_factory.mktemp("slurm"), repository, cluster)
    process = runs.start(*PROFILE, *ROUTED)
    runs.cancelled = runs.wait_for_script("anneal", 0, process)
    cluster.command("scancel", runs.cancelled["JobId"])
    runs.crashed = runs.wait_for_script("dose_twins", 0, process)
    cluster.crash_node(runs.crashed["NodeList"])
    wait_until(lambda: state_of(cluster, runs.crashed) != "RUNNING")
    cluster.revive_node(runs.crashed["NodeList"])
    runs.finish(process)
    return runs


def test_lost_jobs_are_run_again_and_the_products_are_those_of_a_local_run(disturbed, local, cluster):
    assert state_of(cluster, disturbed.cancelled) == "CANCELLED"
    assert state_of(cluster, disturbed.crashed) == "NODE_FAIL"
    for rule in ("anneal", "dose_twins"):
        states = [job["JobState"] for job in jobs_of(cluster, rule)]
        assert len(states) >= 2 and states.count("COMPLETED") == 1, (rule, states)
    local[0].finish(local[1])
    assert disturbed.house.hashes() == local[0].house.hashes()


def test_rules_land_where_they_should(disturbed, cluster):
    gpu = {job["Partition"] + " " + job["NodeList"] for job in jobs_of(cluster, "anneal")}
    assert gpu == {"gpu node2"}
    assert all(job["TresPerJob"] == "gres:gpu:1" for job in jobs_of(cluster, "anneal"))
    others = [job for job in cluster.jobs() if not job["Comment"].startswith("rule_anneal_")]
    assert {job["Partition"] for job in others} == {"cpu"}
    assert not any("TresPerJob" in job for job in others)
    (validate,) = jobs_of(cluster, "validate")
    assert (validate["TimeLimit"], validate["MinMemoryNode"], validate["NumCPUs"]) == ("01:17:00", "1234M", "1")
    assert len(others) < 12


def test_gpu_without_a_gpu_is_a_clear_error_in_the_gpu_partition(disturbed, cluster):
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    disturbed.house.write_config(TINY | {"device": "gpu"})
    known = {job["JobId"] for job in cluster.jobs()}
    process = disturbed.start(
        *PROFILE, "--retries", "0", "--rerun-triggers", "mtime", "--forcerun", "anneal", "--until", "anneal",
        "--set-resources", "anneal:slurm_partition=gpu",
    )  # fmt: skip
    try:
        assert process.wait(RUN_TIMEOUT_S) != 0
    finally:
        disturbed.house.write_config(TINY)
    (job,) = [job for job in cluster.jobs() if job["JobId"] not in known]
    assert job["Partition"] == "gpu" and job["TresPerJob"] == "gres:gpu:1"
    assert "device: gpu was asked for, but" in disturbed.log.read_text()


def test_a_job_that_outlived_its_killed_run_ends_when_the_next_run_begins(local, cluster):
    runs = local[0]
    runs.finish(local[1])
    (before,) = runs.house.results.glob("anneal/*-*[0-9].parquet")
    expected, began = before.read_bytes(), time.time()
    again = [*PROFILE, "--rerun-triggers", "mtime", "--forcerun", "anneal", "--until", "anneal"]
    process = runs.start(*again, fault="anneal 0 hang")
    orphan = runs.wait_for_script("anneal", began, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # longer than a job on the run's own host needs to follow it
    time.sleep(2)
    assert state_of(cluster, orphan) == "RUNNING"
    runs.finish(runs.start(*again))
    assert state_of(cluster, orphan) == "FAILED"
    assert before.read_bytes() == expected


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


def test_dask_over_the_two_nodes_of_an_allocation_behind_tls(local, cluster):
    runs, (port,) = local[0], free_ports(1)
    runs.finish(local[1])
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


def test_an_open_dask_port_is_refused_before_any_work(tmp_path, repository):
    house = House(tmp_path, repository)
    done = house.snakemake("-n", "--config", "scheduler_address=tcp://192.0.2.1:8786")
    assert done.returncode != 0
    assert "only tcp://127.0.0.1:PORT or tls://HOST:PORT; an open Dask port runs anyone's code" in done.stdout + done.stderr
