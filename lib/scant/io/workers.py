"""Frames on worker processes: the one place that knows Dask.

A frame that raises, hangs, or kills its worker becomes a FrameFailure and the others go on. When a worker dies, every frame it may
have held is a suspect; suspects are run again one at a time with nothing else in flight, so a second death has one possible cause
and no innocent frame is blamed. Values do not depend on the number of workers.

Workers import the library, never the caller's script (its path is hidden while they start), so a Snakemake script needs no
`__main__` guard; functions should live in the library, closures and functions of the script travel by value.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import distributed
from distributed.scheduler import KilledWorker

from scant.addresses import scheduler_problem
from scant.errors import ConfigError, DeviceError, FrameFailure
from scant.io.guard import Limits, Outcome, last_words, lost_worker, run_batch
from scant.io.runs import ONE_THREAD
from scant.job_memory import worker_share_bytes
from scant.xp import free_memory_bytes

TRIES_MAX, HANGS_MAX = 3, 2
CONNECT_TIMEOUT_S = 5
NO_WORKER_TIMEOUT_S = 60.0
PROGRESS_EVERY_S = 5.0
TASK_S, TASK_FRAMES_MAX = 0.3, 64
# The kernels' temporaries of a few MB come and go a hundred times a second. Dask tells glibc to hand every one back to the kernel,
# which doubles the annealer's CPU time; these keep them in the process.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TOP_PAD_": str(2**26)}
# What goes wrong with a frame comes back with its future; Dask's own lines at the end of a cluster only frighten.
QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical"}
DASK_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": KEEP_MEMORY,
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
}


@dataclass
class _Work:
    """What is still to do, in flight, and done."""

    pickled: str | bytes
    batched: bool
    limits: Limits
    waiting: deque[tuple[int, ...]]
    suspects: deque[int] = field(default_factory=deque)
    deaths: dict[int, int] = field(default_factory=dict)
    values: dict[int, Any] = field(default_factory=dict)
    failures: list[FrameFailure] = field(default_factory=list)

    @property
    def n_done(self) -> int:
        return len(self.values) + len(self.failures)


def map_frames(
    function: Callable[..., Any],
    frames: Sequence[int],
    *,
    stage: str,
    n_workers: int,
    scheduler_address: str | None = None,
    timeout_s: float | None = None,
    batch_frames: int | None = None,
) -> tuple[dict[int, Any], list[FrameFailure]]:
    """Run `function(frame)` for every frame on `n_workers` processes; returns ({frame: value}, failures), both in frame order.

    With `batch_frames`, `function(frames)` gets a tuple of up to that many frames and returns one value for each; a batch that raises
    is run again frame by frame, so a frame's value must not depend on its batch, and the function must not write.
    `timeout_s` is seconds a frame (a hung one is killed and tried twice). A worker started here may allocate its share of the memory
    that is free in the machine, the job or the container. `scheduler_address` uses an existing scheduler instead: loopback, or tls://.
    A line on the progress goes to stderr every few seconds. Raises ConfigError for bad settings, DeviceError when no scheduler or
    worker can be had.
    """
    _check(frames, n_workers, batch_frames, scheduler_address)
    if not frames:
        return {}, []
    report = _progress(stage, len(frames))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="scant-workers-", ignore_cleanup_errors=True))
        ordered = sorted(frames)
        size = batch_frames or 1
        batches = deque(tuple(ordered[i : i + size]) for i in range(0, len(ordered), size))
        pickled: str | bytes
        memory_limit_bytes: int | None = None
        if scheduler_address is None:
            file, n_local = Path(folder, "function.pickle"), min(n_workers, len(batches))
            file.write_bytes(cloudpickle.dumps(function))
            pickled = str(file)
            memory_limit_bytes = worker_share_bytes(free_memory_bytes("cpu"), n_local)
            client = stack.enter_context(_local_client(n_local, folder, _module_of(function)))
        else:
            pickled = cloudpickle.dumps(function)
            client = stack.enter_context(_remote_client(scheduler_address))
        work = _Work(pickled, batch_frames is not None, Limits(stage, timeout_s, memory_limit_bytes, folder), batches)
        _run_all(client, work, lambda: report(work.n_done))
    return dict(sorted(work.values.items())), sorted(work.failures, key=lambda failure: failure.frame)


def _module_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__module__", ""))


def _check(frames: Sequence[int], n_workers: int, batch_frames: int | None, address: str | None) -> None:
    if n_workers < 1 or (batch_frames is not None and batch_frames < 1):
        raise ConfigError(f"n_workers {n_workers}, batch_frames {batch_frames}: each must be at least 1")
    if len(set(frames)) != len(frames):
        raise ConfigError(f"{len(frames) - len(set(frames))} frames are given twice; give each frame once")
    if address is not None and (problem := scheduler_problem(address)):
        raise ConfigError(problem)


def _run_all(client: distributed.Client, work: _Work, report: Callable[[], None]) -> None:
    """All batches, twice as many in flight as workers (the surplus waits at the scheduler); then the suspects, one at a time."""
    in_flight: dict[distributed.Future, tuple[int, ...]] = {}
    n_workers, began = max(1, _n_live_workers(client)), time.monotonic()
    while work.waiting or in_flight:
        while work.waiting and len(in_flight) < 2 * n_workers:
            batch = _next_batch(work, (time.monotonic() - began) * n_workers, n_workers)
            in_flight[_submit(client, work, batch)] = batch
        for future in _wait_for_any(client, list(in_flight)):
            _take(future, in_flight.pop(future), work)
        report()
    while work.suspects:
        frame = work.suspects.popleft()
        future = _submit(client, work, (frame,))
        _wait_for_any(client, [future])
        _take(future, (frame,), work)
        report()


def _next_batch(work: _Work, spent_s: float, n_workers: int) -> tuple[int, ...]:
    """The next batch; frames that are quick are put together, because a Dask task costs about 3 ms of CPU."""
    n = 1
    if not work.batched and work.n_done:
        n = max(1, min(round(TASK_S * work.n_done / spent_s), TASK_FRAMES_MAX, len(work.waiting) // (2 * n_workers)))
    return tuple(frame for _ in range(n) for frame in work.waiting.popleft())


def _submit(client: distributed.Client, work: _Work, batch: tuple[int, ...]) -> distributed.Future:
    # pure=False: the same frames with the same function are a new task when they are tried again
    return client.submit(run_batch, work.pickled, batch, work.batched, work.limits, pure=False)


def _take(future: distributed.Future, batch: tuple[int, ...], work: _Work) -> None:
    """Book a finished task: values, failures, a failed batch split into frames, or suspects when the worker died."""
    try:
        outcomes: list[Outcome] = future.result()
    except KilledWorker:
        for frame in batch:
            _suspect(frame, work)
        return
    if work.batched and len(batch) > 1 and outcomes[0].failure is not None:
        work.waiting.extend((frame,) for frame in batch)
        return
    for outcome in outcomes:
        if outcome.failure is None:
            work.values[outcome.frame] = outcome.value
        else:
            work.failures.append(outcome.failure)


def _suspect(frame: int, work: _Work) -> None:
    work.deaths[frame] = tries = work.deaths.get(frame, 0) + 1
    hung = last_words(work.limits, frame) is not None
    if tries >= (HANGS_MAX if hung else TRIES_MAX):
        work.failures.append(lost_worker(work.limits, frame, tries))
    else:
        work.suspects.append(frame)


def _wait_for_any(client: distributed.Client, futures: list[distributed.Future]) -> list[distributed.Future]:
    """Finished futures, at least one. Raises DeviceError when the scheduler is gone, or has had no worker for a minute."""
    alone_since = None
    while True:
        try:
            with client.as_current():
                return list(distributed.wait(futures, timeout=2, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            if client.status != "running":
                raise DeviceError("the Dask scheduler is gone; start it again, then run the same command") from None
        alone_since = None if _n_live_workers(client) else alone_since or time.monotonic()
        if alone_since is not None and time.monotonic() - alone_since > NO_WORKER_TIMEOUT_S:
            raise DeviceError(f"no Dask worker for {NO_WORKER_TIMEOUT_S:.0f} s; look at the workers' log above: they cannot start")


def _n_live_workers(client: distributed.Client) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


@contextmanager
def _local_client(n_workers: int, folder: str, module: str) -> Iterator[distributed.Client]:
    with ExitStack() as stack:
        stack.enter_context(_environment(ONE_THREAD | KEEP_MEMORY | QUIET))
        stack.enter_context(_hidden_script())
        stack.enter_context(dask.config.set(DASK_SETTINGS))
        _preload(module)
        cluster = distributed.LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            memory_limit=0, local_directory=folder, silence_logs=logging.ERROR,
        )  # fmt: skip
        stack.enter_context(cluster)
        yield stack.enter_context(distributed.Client(cluster, set_as_default=False))


@contextmanager
def _remote_client(address: str) -> Iterator[distributed.Client]:
    try:
        client = distributed.Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except TypeError as error:
        raise ConfigError(
            f"scheduler {address}: {error}; name the certificates in DASK_DISTRIBUTED__COMM__TLS__* (profiles/README.md)"
        ) from error
    except (OSError, TimeoutError, ValueError) as error:
        raise DeviceError(
            f"scheduler {address}: no answer within {CONNECT_TIMEOUT_S} s ({error}); start it, or unset the address"
        ) from error
    with client:
        yield client


def _preload(module: str) -> None:
    """Import Dask and the function's module once, in the fork server, instead of in every worker and after every restart."""
    # distributed would otherwise preload all that it knows (pandas, bokeh, ...), and import it here as well
    distributed.utils._forkserver_preload_set = True
    known = module.startswith("scant.") and importlib.util.find_spec(module) is not None
    modules = ["distributed", "distributed.nanny", "scant.io.guard", *([module] if known else [])]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Hide the running script from multiprocessing, which would run it again in every worker."""
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__.get(name) for name in ("__file__", "__spec__")}
    main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update({name: value for name, value in hidden.items() if value is not None})


def _progress(stage: str, total: int) -> Callable[[int], None]:
    began = last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done and (now - last >= PROGRESS_EVERY_S or (done == total and now - began >= PROGRESS_EVERY_S)):
            last = now
            rate = done / (now - began)
            minutes, seconds = divmod(round((total - done) / rate), 60)
            print(f"{stage}: {done} of {total} frames, {rate:.3g} frames/s, {minutes}:{seconds:02d} min left", file=sys.stderr, flush=True)

    return report
