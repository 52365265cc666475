"""One run at a time on a results folder, and no orphans: locks that a crash cannot leave behind, jobs that end with their run.

The lock is the kernel's (flock), so it is gone with its process, however that ended: the same command resumes after a kill -9
without unlocking by hand. A job left over from a killed run would still write the outputs that the next run makes again, so
every job watches the process that started it. From another machine it cannot: there it watches the lock, and ends once a later
run has taken it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TextIO

from scant.errors import ScantError

RUN_VARIABLE, LOCK_VARIABLE = "SCANT_RUN", "SCANT_LOCK"
LOCK_NAME = ".scant.lock"
# BLAS and the like add up in another order with another number of threads: the bits must not depend on the machine's cores.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "BLOSC_NTHREADS"), "1"
)
POLL_S = 0.5
ORPHANS_S = 5.0


def lock_results(results: str) -> TextIO:
    """The lock of a results folder; it holds as long as the returned file is open. ScantError when another run has it.

    A run that has just been killed leaves its jobs a moment to end: so long the lock is waited for.
    """
    folder = Path(results)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    handle = path.open("a+")
    deadline = time.monotonic() + ORPHANS_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > deadline:
                handle.seek(0)
                owner = handle.read().strip() or "unknown"
                handle.close()
                raise ScantError(f"{path}: another run works on this folder ({owner}); wait for it, or give another `results:`") from None
            time.sleep(POLL_S)
    handle.truncate(0)
    # numbers of processes are used again; the time tells a later run from an earlier one
    handle.write(f"process {os.getpid()} on {socket.gethostname()} since {time.time():.3f}\n")
    handle.flush()
    return handle


def announce_run(lock: TextIO) -> None:
    """Tell the jobs that this process starts whom to follow, and to compute in one thread each: processes are what runs side by side."""
    os.environ.update(ONE_THREAD)
    os.environ[RUN_VARIABLE] = f"{socket.gethostname()}:{os.getpid()}"
    os.environ[LOCK_VARIABLE] = f"{Path(lock.name).resolve()}:{_owner(lock.name)}"


def follow_run() -> None:
    """End this process, workers and all, when the run that started it is gone, or, on another machine, followed by a later one."""
    host, _, pid = os.environ.get(RUN_VARIABLE, "").rpartition(":")
    lock, _, owner = os.environ.get(LOCK_VARIABLE, "").rpartition(":")
    if host == socket.gethostname():
        threading.Thread(target=_watch, args=(int(pid),), daemon=True, name="follow-run").start()
    elif lock:
        threading.Thread(target=_watch_lock, args=(lock, owner), daemon=True, name="follow-lock").start()


def _watch(pid: int) -> None:
    while _alive(pid):
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch_lock(lock: str, owner: str) -> None:
    while _owner(lock) in (owner, ""):
        time.sleep(POLL_S)
    # The step's Snakemake is in this process group. It must not tidy up after a failed script: the later run makes the same files.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _owner(lock: str) -> str:
    """What the lock says; empty for a moment while it changes hands, or while a shared file system does not answer."""
    try:
        return Path(lock).read_text().strip()
    except OSError:
        return ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        # it may end between the two looks; and its number, used again by another user, is no run of ours
        return False
    # A killed process stays a zombie until its parent has taken note.
    return state != "Z"
