"""Is a dataset's folder what its jobs made: every product against its seal, every chunk against its manifest; what is not goes aside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from scant.errors import DataIntegrityError, InputError
from scant.io.blocks import parse_label
from scant.io.ledger import CURABLE
from scant.io.manifest import check_manifest
from scant.io.seals import problems_of, sealed_products, set_aside
from scant.io.stacks import MANIFEST

MOVIE = "movie.zarr"
INGEST_BLOCKS = "ingest/[0-9]*.json"
# of blocks; those of dose twins count doses, not frames
LEDGERS, TWIN_LEDGERS = "*/[0-9]*-[0-9]*.failures.parquet", "dose/[0-9]*.failures.parquet"


def dataset_at(folder: str) -> Path:
    """The folder of a dataset's results. Raises InputError for one without any."""
    path = Path(folder)
    if not (path / "ingest").is_dir():
        raise InputError(f"{folder}: no results of a dataset; expected a folder such as results/demo")
    return path


@dataclass(frozen=True)
class Damage:
    """A damaged product: what is wrong, and the file that a run has to make to mend it (both under the dataset's folder)."""

    product: str
    problems: tuple[str, ...]


def damage_in(folder: Path, contents: bool = True) -> list[Damage]:
    """Every damaged product of a dataset; without `contents` only products of another size and missing chunks (quick: no file is read).

    A movie's chunks belong to the manifest of their block, which is the product named. Threads read the files.
    """
    stacks = [str(path.relative_to(folder).parent) for path in folder.glob(f"*/*.zarr/{MANIFEST}")]
    blocks = [str(path.relative_to(folder)) for path in folder.glob(INGEST_BLOCKS)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        found = [
            *threads.map(partial(_sealed, folder, contents), sealed_products(folder)),
            *threads.map(partial(_block_of_movie, folder, contents), blocks),
            *threads.map(partial(_stack, folder, contents), stacks),
        ]
    merged: dict[str, tuple[str, ...]] = {}
    for product, problems in found:
        if problems:
            merged[product] = merged.get(product, ()) + tuple(problems)
    return [Damage(product, problems) for product, problems in sorted(merged.items())]


def set_aside_damage(folder: Path, contents: bool = False) -> list[Damage]:
    """Set every damaged product aside, so that the next run makes it again; returns what was found."""
    found = damage_in(folder, contents)
    for damage in found:
        set_aside(folder, damage.product)
    return found


def forget_curable_failures(folder: Path) -> list[str]:
    """Remove the ledgers of blocks and twins where a frame or dose failed for a reason that may be gone (memory, time, a killed worker,
    damage).

    The next run does these again. Returns the ledgers removed, relative to the folder.
    """
    twins = [ledger for ledger in sorted(folder.glob(TWIN_LEDGERS)) if pl.read_parquet(ledger)["cause"].is_in(CURABLE).any()]
    for ledger in twins:
        ledger.unlink()
    return _forget_blocks(folder) + [str(ledger.relative_to(folder)) for ledger in twins]


def _forget_blocks(folder: Path) -> list[str]:
    total = folder / "failures.parquet"
    if not total.is_file():
        return []
    failed = pl.read_parquet(total).filter(pl.col("cause").is_in(CURABLE)).select("stage", "frame").rows()
    forgotten = []
    for ledger in sorted(folder.glob(LEDGERS)) if failed else []:
        start, stop = parse_label(ledger.name.split(".")[0])
        if any(stage == ledger.parent.name and start <= frame < stop for stage, frame in failed):
            ledger.unlink()
            forgotten.append(str(ledger.relative_to(folder)))
    if forgotten:
        # Snakemake does not look for a missing ledger while the table made of it is there
        total.unlink()
    return forgotten


def refuse_links(folder: Path) -> None:
    """Raise DataIntegrityError when something in a dataset's folder is a link: a run would write through it, to another place."""
    links = [path for path in _entries(folder) if path.is_symlink()]
    if links:
        raise DataIntegrityError(f"{links[0]}: a link to {links[0].readlink()}; results are written in place only: remove the link")


def _entries(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        yield path
        # the chunks of a store lie deeper and are replaced, never written through
        if path.is_dir() and not path.is_symlink() and path.suffix != ".zarr":
            yield from _entries(path)


def _sealed(folder: Path, contents: bool, product: str) -> tuple[str, list[str]]:
    try:
        return product, problems_of(folder, product, contents)
    except DataIntegrityError as error:
        return product, [str(error)]


def _block_of_movie(folder: Path, contents: bool, manifest: str) -> tuple[str, list[str]]:
    return manifest, check_manifest(str(folder / MOVIE), str(folder / manifest), contents)


def _stack(folder: Path, contents: bool, stack: str) -> tuple[str, list[str]]:
    return stack, check_manifest(str(folder / stack), str(folder / stack / MANIFEST), contents)
