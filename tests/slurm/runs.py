"""What the tests on the virtual cluster share: the tiny movie, how Snakemake is called, and runs of a house on the cluster."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cluster import Cluster
from house import CONFIG, House

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
IMPATIENT = Path(__file__).with_name("impatient_snakemake.py")


class Runs:
    """A house whose Snakemake runs on the cluster, with its output in a file."""

    def __init__(self, house: House, cluster: Cluster):
        self.house, self.cluster, self.log = house, cluster, house.root / "run.log"

    @classmethod
    def of_tiny(cls, root: Path, repository: Path, cluster: Cluster) -> Runs:
        """Of a new house with the tiny movie."""
        house = House(root, repository)
        house.write_config(TINY)
        return cls(house, cluster)

    def start(self, *arguments: str, fault: str | None = None) -> subprocess.Popen:
        environment = self.house.environment | {"PATH": self.cluster.environment["PATH"]} | (self.house.injected(fault) if fault else {})
        command = [sys.executable, IMPATIENT, *self.house.command(*arguments)[1:]]
        with self.log.open("w") as log:
            return subprocess.Popen(command, cwd=self.house.root, env=environment, stdout=log, stderr=subprocess.STDOUT)

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
