"""What runs inside a worker process: one batch of frames, its errors turned into failures, its time and memory limited."""

from __future__ import annotations

import faulthandler
import functools
import pickle
import re
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scant.errors import FrameFailure, ScantError
from scant.xp import from_device, out_of_memory

REMEDIES = {
    "memory": "give each worker more: fewer of them on one machine (`--cores`), on SLURM `--set-resources RULE:mem_mb=MB`",
    "timeout": "raise `frame_timeout_s`, or leave the frame out",
    "device": "look at the GPU with `nvidia-smi`, then run again: what is done stays; or `device: cpu`",
    "killed": "run this frame alone and look at the log: memory (the kernel's killer), or a crash in compiled code",
}
CODE_REMEDY = "a fault in the code: report it with the traceback in the log"


@dataclass(frozen=True)
class Limits:
    """Limits of one task: the stage's name, seconds a frame, bytes a worker, and where a hung worker leaves its last words."""

    stage: str
    timeout_s: float | None
    memory_limit_bytes: int | None
    folder: str


@dataclass(frozen=True)
class Outcome:
    """One frame's value, or why there is none."""

    frame: int
    value: Any
    failure: FrameFailure | None


def run_batch(pickled: str | bytes, frames: tuple[int, ...], batched: bool, limits: Limits) -> list[Outcome]:
    """Run the function on the batch as a whole, or on each of its frames, within the limits; errors become failures.

    `pickled` is the function, or the path of a file with it: darks, flats and calibrations bound to it are then read once per worker.
    """
    function = _unpickled(pickled)
    _limit_memory(limits.memory_limit_bytes)
    groups = [frames] if batched else [(frame,) for frame in frames]
    return [outcome for group in groups for outcome in _run_group(function, group, batched, limits)]


@functools.lru_cache(maxsize=1)
def _unpickled(pickled: str | bytes) -> Callable[..., Any]:
    return pickle.loads(Path(pickled).read_bytes() if isinstance(pickled, str) else pickled)


def _run_group(function: Callable[..., Any], frames: tuple[int, ...], batched: bool, limits: Limits) -> list[Outcome]:
    try:
        with _time_limit(frames, limits):
            values = function(frames) if batched else [function(frames[0])]
        if len(values) != len(frames):
            raise ScantError(f"{limits.stage}: expected {len(frames)} values from a batch, found {len(values)}; {CODE_REMEDY}")
        return [Outcome(frame, value, None) for frame, value in zip(frames, values)]
    except (Exception, SystemExit) as error:
        traceback.print_exc(file=sys.stderr)
        return [Outcome(frame, None, failure_of(limits.stage, frame, error)) for frame in frames]


def failure_of(stage: str, frame: int, error: BaseException) -> FrameFailure:
    """The ledger's row for an error: a ScantError says what to do after its last semicolon; others are faults of code, memory or device."""
    if out_of_memory(error):
        return FrameFailure(frame, stage, "memory", str(error) or "out of memory", REMEDIES["memory"])
    if from_device(error):
        return FrameFailure(frame, stage, "device", f"{type(error).__name__}: {error}", REMEDIES["device"])
    if isinstance(error, ScantError):
        return FrameFailure(frame, stage, error.code, str(error), str(error).rpartition(";")[2].strip())
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(step.filename).name}:{step.lineno} in {step.name})" for step in last)
    return FrameFailure(frame, stage, type(error).__name__, f"{type(error).__name__}: {error}{where}", CODE_REMEDY)


def lost_worker(limits: Limits, frame: int, tries: int) -> FrameFailure:
    """The row of a frame that took its worker down every time: hung (the worker left a stack) or killed."""
    if (stack := last_words(limits, frame)) is not None:
        return FrameFailure(frame, limits.stage, "timeout", f"over {limits.timeout_s} s, {tries} times; hung {stack}", REMEDIES["timeout"])
    return FrameFailure(frame, limits.stage, "killed", f"its worker died {tries} times, at last with this frame alone", REMEDIES["killed"])


def last_words(limits: Limits, frame: int) -> str | None:
    """Where a hung frame was when its time was up; None for a frame that did not run out of time."""
    file = Path(limits.folder, str(frame))
    text = file.read_text(errors="replace") if file.is_file() else ""
    if not text.startswith("Timeout"):
        return None
    stacks = [stack for stack in text.split("\n\n") if "in _run_group" in stack] or [text]
    place = re.search(r'File "([^"]+)", line (\d+) in (\S+)', stacks[0])
    return f"at {Path(place[1]).name}:{place[2]} in {place[3]}" if place else "at an unknown place"


@contextmanager
def _time_limit(frames: tuple[int, ...], limits: Limits) -> Iterator[None]:
    """End this process when the time is up: a C thread does it, so code that never returns to Python is stopped as well."""
    if limits.timeout_s is None:
        yield
        return
    folder = Path(limits.folder)
    with (folder / str(frames[0])).open("w") if folder.is_dir() else Path("/dev/null").open("w") as words:
        faulthandler.dump_traceback_later(limits.timeout_s * len(frames), exit=True, file=words)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


_base_bytes: int | None = None


def _limit_memory(limit_bytes: int | None) -> None:
    """Let allocations beyond the limit fail as MemoryError: the frame fails, and the worker lives (Linux: RLIMIT_DATA)."""
    global _base_bytes
    if limit_bytes is None:
        return
    if _base_bytes is None:
        status = Path("/proc/self/status").read_text()
        _base_bytes = 1024 * int(re.search(r"VmData:\s+(\d+)", status)[1])  # type: ignore[index]
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (_base_bytes + limit_bytes, hard))
