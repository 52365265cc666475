"""Main memory that this process may still take: the machine's, or the rest of what its job, container or service was given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# of the kernel's control groups, version 2 and 1: the file of the limit, of what is in use, and what of it are pages of files in memory
VERSIONS = {
    2: ("memory.max", "memory.current", ("active_file", "inactive_file")),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
}


def free_main_memory_bytes(proc: Path = Path("/proc"), control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The smallest of what the machine and every control group around this process have left.

    SLURM gives a job its memory as such a group (ConstrainRAMSpace) and kills it where it takes more.
    """
    with (proc / "meminfo").open() as meminfo:
        fields = dict(line.split(":", 1) for line in meminfo)
    return min([int(fields["MemAvailable"].split()[0]) * 1024, *_left_in_groups(proc, control_groups)])


def _left_in_groups(proc: Path, root: Path) -> Iterator[int]:
    """Bytes left in each group from this process's own upwards, of those with a limit; pages of files count as free: they give way."""
    for version, folder in _groups(proc, root):
        limit_file, used_file, cached = VERSIONS[version]
        try:
            limit, used = ((folder / name).read_text().strip() for name in (limit_file, used_file))
            held = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except OSError:
            # the root has no limit, and a container may see less of the tree than its path says
            continue
        if limit != "max":
            yield max(0, int(limit) - int(used) + sum(int(held.get(name, 0)) for name in cached))


def _groups(proc: Path, root: Path) -> Iterator[tuple[int, Path]]:
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        version, top = (1, root / "memory") if "memory" in controllers.split(",") else (2, root)
        if controllers and version == 2:
            continue
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(top):
                break
            yield version, folder
