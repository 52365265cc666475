"""Content hashes of finished products, in the format of `sha256sum`: what a job made, and whether it is still that.

Every output of a job has its seal under `seals/` of the dataset's folder, at the same relative path: one line per file, relative to
that folder, so that `cd results/NAME && sha256sum -c seals/atoms.parquet.sha256` works without scant. Zarr stores have checksums and
manifests of their own and are left out. A file that is not what its seal says is set aside as `FILE.damaged`, never used; that name
stays until the file has been made again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scant.errors import DataIntegrityError

SEALS, LOGS = "seals", "logs"
ENDING = ".sha256"
ASIDE = ".damaged"
STORE_ENDING = ".zarr"
SEAL_LINES = re.compile(r"# (\d+) bytes\n([0-9a-f]{64})  (.+)\n")


@dataclass(frozen=True)
class SealedFile:
    """One line of a seal: path relative to the dataset's folder, size and content when it was written."""

    path: str
    n_bytes: int
    sha256: str


def dataset_folder(log: str) -> Path:
    """The dataset's folder, from the path of one of its logs (`FOLDER/logs/RULE.log` or `FOLDER/logs/RULE/BLOCK.log`)."""
    return next(parent.parent for parent in Path(log).parents if parent.name == LOGS)


def seal_outputs(folder: Path, outputs: Iterable[str]) -> None:
    """Write a seal for every output (file or folder) under `folder`; Zarr stores are left to their own checksums."""
    for output in outputs:
        product = _below(folder, output)
        if product is None or product.endswith(STORE_ENDING) or not (folder / product).exists():
            continue
        lines = [_line(folder, file) for file in sorted(_files_of(folder / product))]
        seal = folder / SEALS / f"{product}{ENDING}"
        seal.parent.mkdir(parents=True, exist_ok=True)
        partial = seal.with_name(f".{seal.name}.{os.getpid()}.partial")
        partial.write_text("".join(lines))
        partial.replace(seal)
        _remove(_aside(folder, product))


def check_inputs(folder: Path, inputs: Iterable[str]) -> None:
    """Read every sealed input again; one that changed since it was made is set aside.

    Raises DataIntegrityError naming the files: the run that follows makes them again.
    """
    problems = []
    for product in filter(None, (_below(folder, name) for name in inputs)):
        found = problems_of(folder, product)
        if found:
            set_aside(folder, product)
        problems += found
    if problems:
        raise DataIntegrityError("; ".join(problems) + "; set aside, run the same command again to make it anew")


def problems_of(folder: Path, product: str, contents: bool = True) -> list[str]:
    """What is wrong with a sealed product, each line naming its file; empty when all is well or the product has no seal.

    Without `contents` only the size is looked at: what is missing altogether is for the caller to know.
    """
    found = (_problem(folder, sealed, contents) for sealed in read_seal(folder, product))
    return [problem for problem in found if problem]


def set_aside(folder: Path, product: str) -> None:
    """Rename a damaged product to `PRODUCT.damaged`, in place of an older one, so that nothing uses it and a run makes it again."""
    aside = _aside(folder, product)
    # another job may have set it aside already
    if (folder / product).exists():
        _remove(aside)
        (folder / product).rename(aside)


def to_make_again(folder: Path) -> list[str]:
    """Products that were set aside and have not been made again."""
    products = [str(path.relative_to(folder))[: -len(ASIDE)] for path in folder.glob(f"**/*{ASIDE}")]
    return sorted(product for product in products if not (folder / product).exists())


def sealed_products(folder: Path) -> list[str]:
    """Every product that has a seal, relative to the dataset's folder."""
    root = folder / SEALS
    return sorted(str(path.relative_to(root))[: -len(ENDING)] for path in root.rglob(f"*{ENDING}") if not path.name.startswith("."))


def read_seal(folder: Path, product: str) -> list[SealedFile]:
    """The lines of a product's seal; none when it has no seal. Raises DataIntegrityError for a damaged one."""
    seal = folder / SEALS / f"{product}{ENDING}"
    try:
        text = seal.read_text()
    except FileNotFoundError:
        return []
    lines = [SealedFile(path, int(size), digest) for size, digest, path in SEAL_LINES.findall(text)]
    if len(lines) * 2 != text.count("\n") or any(Path(line.path).is_absolute() or ".." in Path(line.path).parts for line in lines):
        raise DataIntegrityError(f"{seal}: not a seal; delete it together with {folder / product}, then run again")
    return lines


def _aside(folder: Path, product: str) -> Path:
    target = folder / product
    return target.with_name(target.name + ASIDE)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _problem(folder: Path, sealed: SealedFile, contents: bool) -> str | None:
    file = folder / sealed.path
    if not file.is_file():
        return f"{file}: missing" if contents else None
    size = file.stat().st_size
    if size != sealed.n_bytes:
        return f"{file}: expected {sealed.n_bytes} bytes, found {size}"
    if contents and (digest := _sha256(file)) != sealed.sha256:
        return f"{file}: changed since it was made (sha256 {digest[:12]}, expected {sealed.sha256[:12]})"
    return None


def _below(folder: Path, name: str) -> str | None:
    """`name` relative to the dataset's folder; None for what lies elsewhere."""
    path = os.path.relpath(name, folder)
    return None if path.startswith("..") else path


def _files_of(product: Path) -> Iterator[Path]:
    """The product itself, or the files below it; Snakemake's own marks are not part of it."""
    if product.is_file():
        yield product
    else:
        yield from (file for file in product.rglob("*") if file.is_file() and not file.name.startswith(".snakemake"))


def _line(folder: Path, file: Path) -> str:
    return f"# {file.stat().st_size} bytes\n{_sha256(file)}  {file.relative_to(folder)}\n"


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
