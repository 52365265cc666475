"""Free memory by what the kernel's control groups leave: both versions, limits further up, containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from scant.free_memory import VERSIONS, free_main_memory_bytes

MB = 2**20


def made(tmp_path: Path, own: str, groups: dict[str, tuple[int, str, int, int]]) -> tuple[Path, Path]:
    """/proc with 8,000 MB available and this process in `own`, and a tree of groups: version, limit, MB in use, MB of them files' pages."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    root.mkdir()
    (proc / "meminfo").write_text(f"MemTotal: 16384000 kB\nMemAvailable: {8000 * 1024} kB\n")
    (proc / "self" / "cgroup").write_text(own)
    for path, (version, limit, used_mb, files_mb) in groups.items():
        folder = root / path
        folder.mkdir(parents=True, exist_ok=True)
        limit_file, used_file, cached = VERSIONS[version]
        (folder / limit_file).write_text(f"{limit}\n")
        (folder / used_file).write_text(f"{used_mb * MB}\n")
        (folder / "memory.stat").write_text(f"anon 1\n{cached[0]} 0\n{cached[1]} {files_mb * MB}\n")
    return proc, root


@pytest.mark.parametrize(
    ("own", "groups", "left_mb"),
    [
        ("0::/job/step\n", {"job/step": (2, "max", 900, 0), "job": (2, str(2000 * MB), 900, 300)}, 1400),
        ("0::/job/step\n", {"job/step": (2, str(500 * MB), 900, 0), "job": (2, str(2000 * MB), 900, 0)}, 0),
        ("0::/job\n", {"job": (2, str(20000 * MB), 100, 0)}, 8000),
        ("4:memory:/slurm/job\n0::/\n", {"memory/slurm/job": (1, str(1000 * MB), 400, 100), "memory": (1, str(2**63 - 4096), 900, 0)}, 700),
        ("4:cpu,memory:/docker/abc\n3:cpuset:/docker/abc\n", {"memory": (1, str(3000 * MB), 1000, 0)}, 2000),
        ("0::/\n", {}, 8000),
    ],
    ids=["limit of a parent", "beyond its limit", "more than the machine", "version 1 beside 2", "container", "no limit"],
)
def test_the_smallest_of_what_the_machine_and_the_groups_have_left(tmp_path, own, groups, left_mb):
    assert free_main_memory_bytes(*made(tmp_path, own, groups)) == left_mb * MB
