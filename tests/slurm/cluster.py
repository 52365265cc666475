"""A real SLURM cluster inside one machine: munged, slurmctld and two nodes, in a folder and on ports of its own.

Each node is a slurmd in PID and host-name namespaces of its own. So jobs see another host than the one that submitted them, and
killing the namespace's first process ends the daemon and all its jobs at once, as a power cut would; nothing can be left over.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
COMMANDS = ("sbatch", "srun", "salloc", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr")
NODES = ("node1", "node2")
GPU_NODE = "node2"
START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 10.0
# The controller calls a node dead after this silence; sites use minutes.
NODE_TIMEOUT_S = 8

CONFIGURATION = """\
ClusterName=scant
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# more processors and memory than the machine may have
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout={node_timeout}
MessageTimeout=5
KillWait=3
# squeue must still show a finished job when Snakemake next asks
MinJobAge=86400
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,batch_sched_delay=1
GresTypes=gpu
NodeName=node1 NodeAddr=127.0.0.1 Port={node1_port} CPUs=4 RealMemory=16000
NodeName=node2 NodeAddr=127.0.0.1 Port={node2_port} CPUs=4 RealMemory=16000 Gres=gpu:fake:1
PartitionName=cpu Nodes=node[1-2] Default=YES MaxTime=1-0
PartitionName=gpu Nodes=node2 MaxTime=1-0
"""


class ClusterError(Exception):
    """The virtual cluster cannot be had, or does not do what it was told."""


def missing() -> str | None:
    """Why there can be no virtual cluster here, or None."""
    absent = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not found; apt-get install -y --no-install-recommends {PACKAGES}"
    if os.geteuid() != 0:
        return "virtual nodes need root: they run in namespaces of their own"
    probe = subprocess.run(["unshare", "--uts", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False)
    return None if probe.returncode == 0 else f"virtual nodes need namespaces: {probe.stderr.strip()}"


@dataclass(frozen=True)
class Daemon:
    """A process that we started. Its start time tells it from a later process with the same number."""

    process: subprocess.Popen
    started: str

    @property
    def alive(self) -> bool:
        return self.process.poll() is None and start_time(self.process.pid) == self.started

    def stop(self) -> None:
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass(frozen=True)
class Node(Daemon):
    """`unshare`, whose one child is the first process of the node's namespaces: the kernel ends all others with it."""

    def stop(self) -> None:
        if self.alive:
            for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            self.process.wait(STOP_TIMEOUT_S)


def start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


class Cluster:
    """`with Cluster(folder) as cluster:` two nodes, partitions `cpu` (both) and `gpu` (node2, with one GPU that is none)."""

    def __init__(self, folder: Path):
        problem = missing()
        if problem:
            raise ClusterError(problem)
        self.folder = folder
        self.daemons: dict[str, Daemon] = {}

    def __enter__(self) -> Cluster:
        try:
            self._write_files()
            self._start("munged", *self._munged())
            self._wait("munged", (self.folder / "munge.socket").exists)
            self._start("slurmctld", "slurmctld", "-D", "-i", "-f", str(self.folder / "slurm.conf"))
            for node in NODES:
                self._start_node(node)
            self._wait("the nodes", lambda: set(self.node_states().values()) == {"idle"})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in reversed(list(self.daemons)):
            self.daemons.pop(name).stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user of the cluster: the wrapped commands first."""
        return {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}

    def command(self, *arguments: str) -> str:
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job there has been, in order, as `scontrol` shows it; `Comment` names the rule."""
        lines = self.command("scontrol", "--oneliner", "show", "jobs").splitlines()
        return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines if line.startswith("JobId=")]

    def wait_for_job(self, rule: str, state: str, timeout_s: float, count: int = 1) -> dict[str, str]:
        """The last of at least `count` jobs of a rule in that state."""

        def found() -> list[dict[str, str]]:
            return [job for job in self.jobs() if job.get("Comment", "").startswith(f"rule_{rule}_") and job["JobState"] == state]

        self._wait(f"job of {rule} {state}", lambda: len(found()) >= count, timeout_s)
        return found()[-1]

    def node_states(self) -> dict[str, str]:
        return dict(line.split() for line in set(self.command("sinfo", "-h", "-N", "-o", "%N %t").splitlines()))

    def crash_node(self, name: str) -> None:
        """Power cut: the daemon, its steps and all processes of its jobs are gone at once."""
        self.daemons.pop(name).stop()

    def revive_node(self, name: str) -> None:
        self._start_node(name)
        self._wait(name, lambda: self.node_states()[name] in ("idle", "mix", "alloc"))

    def _start_node(self, name: str) -> None:
        spaces = ("unshare", "--uts", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")
        self._start(name, *spaces, "sh", "-c", 'hostname "$1"; exec slurmd -D -N "$1" -f "$2"', "sh", name, str(self.folder / "slurm.conf"))

    def _start(self, name: str, *command: str) -> None:
        # pdeathsig: the daemons end with the tests, even after a kill -9
        with (self.folder / f"{name}.out").open("a") as out:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self.daemons[name] = (Node if name in NODES else Daemon)(process, start_time(process.pid))

    def _wait(self, what: str, ready: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            dead = [name for name, daemon in self.daemons.items() if not daemon.alive]
            if dead:
                raise ClusterError(f"{', '.join(dead)} ended; see {self.folder}/*.out and *.log")
            try:
                if ready():
                    return
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not there after {timeout_s:.0f} s; see {self.folder}/*.log\n{self.jobs()}")
            time.sleep(0.2)

    def _munged(self) -> list[str]:
        names = ("key-file", "socket", "pid-file", "seed-file", "log-file")
        files = [f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in names]
        return ["munged", "--foreground", "--force", *files]

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("state", "bin", "gpu"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        ports = dict(zip(("controller_port", "node1_port", "node2_port"), free_ports(3)))
        text = CONFIGURATION.format(folder=self.folder, host=socket.gethostname().split(".")[0], node_timeout=NODE_TIMEOUT_S, **ports)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "cgroup.conf").write_text("")
        # SLURM takes a GPU's file only if it is a device
        (self.folder / "gpu/fake0").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(f"NodeName={GPU_NODE} Name=gpu Type=fake File={self.folder}/gpu/fake[0-0]\n")
        for name in COMMANDS:
            # Snakemake's job step drops SLURM_CONF before its own srun, so every command sets it itself
            wrapper = self.folder / "bin" / name
            wrapper.write_text(f'#!/bin/sh\nexport SLURM_CONF="{self.folder}/slurm.conf"\nexec {shutil.which(name) or name} "$@"\n')
            wrapper.chmod(0o755)


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
