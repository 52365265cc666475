"""Frames on real worker processes: results, errors, killed, hung and greedy frames (F2 to F5, F24)."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scant.errors import CalibrationError, ConfigError, DeviceError
from scant.io.workers import map_frames
from scant.rng import stream


def draw(frame: int) -> float:
    return float(stream(7, "draw", frame).normal())


def troubled(frame: int) -> int:
    if frame == 3:
        raise ValueError("three is odd")
    if frame == 4:
        raise CalibrationError("frame 4: no lattice found; give the pixel size")
    if frame == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if frame == 7:
        time.sleep(1000)
    if frame == 9:
        return int(np.ones(10**9).sum())
    if frame == 11:
        sys.exit(0)
    time.sleep(0.02)
    return frame * frame


def pixel(dark: np.ndarray, frames: tuple[int, ...]) -> list[float]:
    return [float(dark[frame]) / 2 for frame in frames]


def settings() -> tuple[str | None, ...]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return tuple(os.environ.get(name) for name in names)


def listeners(_frame: int) -> list[tuple[str, str]]:
    """(pid's) listening addresses of this worker and of the scheduler's process (its forkserver's parent)."""
    mine = {link for pid in (os.getpid(), int(os.environ["SCANT_TEST_PARENT"])) for link in sockets(pid)}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return [(row[1].split(":")[0], row[9]) for row in rows if row[3] == "0A" and row[9] in mine]


def sockets(pid: int) -> set[str]:
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
    return {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}


@pytest.mark.fault("F3")
@pytest.mark.fault("F4")
@pytest.mark.fault("F5")
def test_troubled_frames_fail_alone_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scant.io.workers.worker_share_bytes", lambda *_: 500 * 2**20)
    values, failures = map_frames(troubled, range(14), stage="correct", n_workers=2, timeout_s=3)
    assert values == {frame: frame * frame for frame in (0, 1, 2, 6, 8, 10, 12, 13)}
    rows = {f.frame: f for f in failures}
    assert [f.frame for f in failures] == [3, 4, 5, 7, 9, 11]
    assert {frame: f.cause for frame, f in rows.items()} == {
        3: "ValueError", 4: "calibration", 5: "killed", 7: "timeout", 9: "memory", 11: "SystemExit"}  # fmt: skip
    assert all(f.stage == "correct" and f.remedy for f in failures)
    assert rows[4].remedy == "give the pixel size"
    assert "three is odd" in rows[3].message and "test_workers.py" in rows[3].message
    assert "in troubled" in rows[7].message and "3 times" in rows[5].message


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group of the kernel with 1.6 GB, as SLURM gives a job; skips where this user may not make one."""
    for top, limit in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        group = top / f"scant-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / "cgroup.procs").exists() and (group / limit).exists():
                (group / limit).write_text(str(1600 * 2**20))
                yield group
                return
        except PermissionError:
            continue
        finally:
            # its processes are told to end when their parent has ended
            deadline = time.monotonic() + 10
            while (group / "cgroup.procs").exists() and (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
                time.sleep(0.1)
            group.rmdir()
    pytest.skip("needs the right to make a control group with a memory limit")


@pytest.mark.fault("F4")
def test_a_greedy_frame_in_a_job_with_little_memory_costs_itself_alone(memory_group: Path) -> None:
    """The machine has far more free than the job: by that measure the frame would take its worker or the whole job with it."""
    script = f"""
from pathlib import Path
Path({str(memory_group / "cgroup.procs")!r}).write_text("0")
import numpy as np
from scant.io.workers import map_frames
def greedy(frame):
    return float(np.ones(10**9 if frame == 2 else 10**6).mean())
values, failures = map_frames(greedy, range(6), stage="correct", n_workers=2)
print(sorted(values), [(failure.frame, failure.cause) for failure in failures])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[0, 1, 3, 4, 5] [(2, 'memory')]\n", done.stderr


def test_values_do_not_depend_on_the_number_of_workers_or_the_order() -> None:
    one, none = map_frames(draw, range(20), stage="draw", n_workers=1)
    two, _ = map_frames(draw, list(range(20))[::-1], stage="draw", n_workers=2)
    assert one == two and none == [] and list(two) == list(range(20))
    assert one[4] == draw(4)


def test_batches_give_each_frame_its_value_and_are_split_when_they_fail() -> None:
    def squares(frames: tuple[int, ...]) -> list[tuple[int, int]]:
        if 6 in frames:
            raise ValueError(f"six among {len(frames)}")
        return [(frame, len(frames)) for frame in frames]

    values, failures = map_frames(squares, range(10), stage="batch", n_workers=2, batch_frames=4)
    assert dict(values.values()) == {0: 4, 1: 4, 2: 4, 3: 4, 4: 1, 5: 1, 7: 1, 8: 2, 9: 2}
    assert [f.frame for f in failures] == [6] and "six among 1" in failures[0].message


@pytest.mark.fault("F2")
def test_a_worker_killed_from_outside_costs_no_frame(tmp_path: Path) -> None:
    """SIGKILL once, in the middle of frame 2: the frame is run again, and nothing fails."""
    marker = str(tmp_path / "killed")

    def once(frame: int) -> int:
        if frame == 2 and not os.path.exists(marker):  # noqa: PTH110 - travels by value, imports nothing
            os.close(os.open(marker, os.O_CREAT))
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return frame

    values, failures = map_frames(once, range(8), stage="s", n_workers=2)
    assert failures == [] and values == {frame: frame for frame in range(8)}
    assert Path(marker).exists()


@pytest.mark.fault("F24")
def test_workers_use_one_thread_and_listen_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANT_TEST_PARENT", str(os.getpid()))
    parent, before = os.getpid(), settings()
    # other tests of this process may have left listeners of their own
    known = set(listeners(0))

    def look(frame: int) -> tuple[tuple[str | None, ...], list[tuple[str, str]]]:
        os.environ["SCANT_TEST_PARENT"] = str(parent)
        return settings(), [found for found in listeners(frame) if found not in known]

    values, _ = map_frames(look, [0], stage="s", n_workers=1)
    threads, addresses = values[0]
    assert threads == ("1", "1", "1")
    assert settings() == before
    assert len(addresses) >= 3
    loopback = {"0100007F", "00000000000000000000000001000000"}
    assert {address for address, _ in addresses} <= loopback


def test_a_script_without_a_main_guard_works_and_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('script runs')\n"
        "from scant.io.workers import map_frames\n"
        "def double(frame):\n    return 2 * frame\n"
        "print(map_frames(double, [1, 2], stage='s', n_workers=2)[0])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "script runs\n{1: 2, 2: 4}\n"
    assert "Traceback" not in done.stderr


def test_arrays_bound_to_the_function_travel_once() -> None:
    """A 64 MB dark frame with 200 frames: sent with every task it would be 13 GB."""
    dark = np.arange(8_000_000, dtype="float64")
    began = time.monotonic()
    values, failures = map_frames(functools.partial(pixel, dark), range(200), stage="s", n_workers=1, batch_frames=1)
    assert failures == [] and values == {frame: frame / 2 for frame in range(200)}
    assert time.monotonic() - began < 12


def test_progress_line_tells_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scant.io.workers.PROGRESS_EVERY_S", 0.2)

    def slow(frame: int) -> int:
        time.sleep(0.1)
        return frame

    map_frames(slow, range(10), stage="localise", n_workers=1)
    lines = capsys.readouterr().err.strip().splitlines()
    assert 2 <= len(lines) <= 8
    assert all(re.fullmatch(r"localise: \d+ of 10 frames, [\d.]+ frames/s, 0:\d\d min left", line) for line in lines)


def test_existing_scheduler_is_used_and_left_running() -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host="127.0.0.1", protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as cluster:
        values, failures = map_frames(draw, range(3), stage="s", n_workers=1, scheduler_address=cluster.scheduler_address)
        assert len(cluster.scheduler_info["workers"]) == 1
    assert failures == [] and values == {frame: draw(frame) for frame in range(3)}


def test_bad_settings_are_refused_before_any_start() -> None:
    for address in ("tcp://192.0.2.1:8786", "0.0.0.0:8786", "inproc://x", "tcp://127.0.0.1.example.org:8786"):
        with pytest.raises(ConfigError, match="open Dask port"):
            map_frames(draw, [1], stage="s", n_workers=1, scheduler_address=address)
    with pytest.raises(ConfigError, match="at least 1"):
        map_frames(draw, [1], stage="s", n_workers=0)
    with pytest.raises(ConfigError, match="1 frames are given twice"):
        map_frames(draw, [1, 1, 2], stage="s", n_workers=1)
    assert map_frames(draw, [], stage="s", n_workers=1) == ({}, [])


@pytest.mark.fault("F24")
def test_dead_scheduler_is_an_error_within_ten_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(DeviceError, match=r"127\.0\.0\.1:9: no answer"):
        map_frames(draw, [1], stage="s", n_workers=1, scheduler_address="tcp://127.0.0.1:9")
    assert time.monotonic() - began < 10
