"""Read everything of a dataset's folder again and say what is damaged; the quick form of it, before every run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from scant.errors import ScantError
from scant.io.runs import lock_results
from scant.io.seals import to_make_again
from scant.stages.integrity import Damage, damage_in, dataset_at, forget_curable_failures, refuse_links, set_aside_damage


def run(folder: str) -> int:
    """Name what is damaged, set it aside and say how it is made again; 1 when something is damaged.

    Raises InputError for a folder without results, ScantError while a run works on it.
    """
    path = dataset_at(folder)
    with lock_results(str(path.resolve().parent)):
        found = set_aside_damage(path, contents=True)
    for line in lines_of(path, found):
        print(line)
    if not found:
        print(f"{folder}: every product and every chunk is as it was made")
        return 0
    targets = " ".join(str(path / product) for product in to_make_again(path))
    print(f"{len(found)} product(s) set aside (*.damaged). The next run makes just them again, then goes on.")
    print(f"To make them and nothing else: give `snakemake` your usual options and {targets}")
    return 1


def lines_of(folder: Path, found: Sequence[Damage]) -> list[str]:
    """A line for each damaged file."""
    return [f"damaged: {folder / damage.product}: {problem}" for damage in found for problem in damage.problems]


def prepare_rerun(results: str, names: Sequence[str], dry: bool) -> list[str]:
    """Before a run is planned: set cut products aside, forget failures that may be gone; returns products to make again.

    These are some that do not depend on each other: made alone they change nothing that has been made of them; made together with what
    lies between them they would. A dry run only says what is damaged. Raises DataIntegrityError for links inside the results. While
    another run works on the folder nothing is touched.
    """
    folders = [folder for name in names if (folder := Path(results, name)).is_dir()]
    for folder in folders:
        refuse_links(folder)
    if dry:
        _say([line for folder in folders for line in lines_of(folder, damage_in(folder, contents=False))], "would be made again")
        return []
    try:
        lock = lock_results(results)
    except ScantError:
        return []
    with lock:
        for folder in folders:
            _say(lines_of(folder, set_aside_damage(folder)), "set aside, is made again")
            _say([f"{folder / ledger}: frames failed" for ledger in forget_curable_failures(folder)], "this block is tried again")
    return next((found for folder in folders if (found := _independent(folder, to_make_again(folder)))), [])


def _independent(folder: Path, products: Sequence[str]) -> list[str]:
    """Those of the products, as paths, that do not depend on each other: of one stage, or a single one of the whole dataset."""
    if not products:
        return []
    stage = Path(products[0]).parent
    chosen = [product for product in products if Path(product).parent == stage] if stage != Path() else products[:1]
    return [str(folder / product) for product in chosen]


def _say(lines: Sequence[str], end: str) -> None:
    for line in lines:
        print(f"{line}; {end}", file=sys.stderr)
