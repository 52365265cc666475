"""Do a dataset's products fit together: counts of rows and blocks, finite estimates, stored chunks as the manifests say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from scant.errors import ScantError
from scant.io.manifest import check_manifest
from scant.io.structures import read_table

POSITIONS = ("x_angstrom", "y_angstrom", "sigma_x_angstrom", "sigma_y_angstrom")
BORDER_PX = 5
HEIGHTS = ("z_angstrom", "sigma_z_angstrom")


def check_products(files: Any, store: str, facts: Mapping[str, Any]) -> dict[str, str | None]:
    """Name of each check -> what is wrong, None when all is well. `files` has the products' paths as attributes."""
    atoms, frames = pl.scan_parquet(files.atoms), read_table(files.frames)
    reconstructed = set(frames.filter(pl.col("status") == "ok")["frame"])
    return {
        "every frame has a row": _unless(len(frames) == facts["n_frames"], f"{len(frames)} rows for {facts['n_frames']} frames"),
        "estimates are finite": _not_finite(atoms, [*POSITIONS, *(HEIGHTS if facts["optics"] else ())]),
        "every located atom is estimated": _lost_atoms(atoms, files.sites, reconstructed, facts),
        "an id once per frame": _repeated_ids(atoms),
        "one structure per frame": _structures(files.structures, len(reconstructed)),
        "one verdict per structure": _verdicts(read_table(files.md), reconstructed, read_table(files.failures))
        if facts["optics"]
        else None,
        "failed frames have a cause": _without_cause(frames, read_table(files.failures)),
        "stored frames are whole": _damage(store, files.manifests),
    }


def completion(frames: pl.DataFrame, failures: pl.DataFrame, lost_twins: pl.DataFrame, page: str) -> dict[str, int]:
    """Counts of frames: all, with a structure, faulty in the movie itself. Raises ScantError when a stage failed on a frame, or a dose of
    a simulated twin was lost (`lost_twins`, a row each).

    A frame that came empty or saturated from the camera is no failure of the run; it is counted, and its row stays in the ledger.
    """
    failed, lost = failures.filter(pl.col("stage") != "ingest"), []
    if len(failed):
        lost.append(f"{failed['frame'].n_unique()} of {len(frames)} frames failed: {_by_cause(failed)}")
    if len(lost_twins):
        lost.append(f"{len(lost_twins)} reconstructions of the dose study failed: {_by_cause(lost_twins)}")
    if lost:
        raise ScantError(
            f"{'; '.join(lost)}; all others are done and {page} is complete without them. `snakemake failures` says why; run again to "
            "retry those that memory, time, a killed worker or damage stopped"
        )
    return {"n_frames": len(frames), "n_reconstructed": len(frames.filter(status="ok")), "n_faulty_in_movie": failures["frame"].n_unique()}


def _by_cause(failed: pl.DataFrame) -> str:
    causes = failed.group_by("stage", "cause", maintain_order=True).agg(pl.col("frame").n_unique()).rows()
    return ", ".join(f"{stage} {n} ({cause})" for stage, cause, n in causes)


def _unless(holds: bool, problem: str) -> str | None:
    return None if holds else problem


def _not_finite(atoms: pl.LazyFrame, columns: list[str]) -> str | None:
    counts = atoms.select((~pl.col(c).is_finite().fill_null(False)).sum() for c in columns).collect(engine="streaming").row(0, named=True)
    bad = {name: n for name, n in counts.items() if n}
    return f"not finite: {bad}" if bad else None


def _lost_atoms(atoms: pl.LazyFrame, sites: list[str], reconstructed: set[int], facts: Mapping[str, Any]) -> str | None:
    """Located atoms against estimated ones; at the border an atom may leave the view when it is estimated."""
    inside = [
        pl.col(f"{axis}_px").is_between(BORDER_PX, size - 1 - BORDER_PX)
        for axis, size in (("x", facts["width_px"]), ("y", facts["height_px"]))
    ]
    located = pl.concat([read_table(path).filter("in_view", *inside).group_by("frame").len("n_located") for path in sites])
    estimated = atoms.group_by("frame").len("n_estimated").collect(engine="streaming")
    counts = located.filter(pl.col("frame").is_in(reconstructed)).join(estimated, on="frame", how="left").sort("frame")
    short = counts.filter(pl.col("n_estimated").fill_null(0) < pl.col("n_located")).head(1)
    return "; ".join(f"frame {f}: {found} atoms estimated, {n} located" for f, n, found in short.iter_rows()) or None


def _repeated_ids(atoms: pl.LazyFrame) -> str | None:
    repeated = atoms.group_by("frame", "id").len().filter((pl.col("len") > 1) | pl.col("id").is_null()).head(1).collect(engine="streaming")
    return f"frame {repeated['frame'][0]}: id {repeated['id'][0]} stands more than once" if len(repeated) else None


def _structures(path: str, expected: int) -> str | None:
    with open(path) as handle:  # noqa: PTH123 - streamed, the file grows with the movie
        found = sum(line.startswith("Lattice=") for line in handle)
    return _unless(found == expected, f"{found} blocks for {expected} frames")


def _verdicts(md: pl.DataFrame, reconstructed: set[int], failures: pl.DataFrame) -> str | None:
    lost = reconstructed - set(md["frame"]) - set(failures.filter(pl.col("stage") == "validate")["frame"])
    return f"no verdict for frames {sorted(lost)[:10]}" if lost else None


def _without_cause(frames: pl.DataFrame, failures: pl.DataFrame) -> str | None:
    silent = set(frames.filter(pl.col("status") != "ok")["frame"]) - set(failures["frame"])
    return f"frames {sorted(silent)[:10]} have no structure and no entry in failures.parquet" if silent else None


def _damage(store: str, manifests: list[str]) -> str | None:
    problems = [problem for manifest in manifests for problem in check_manifest(store, manifest)]
    return "; ".join(problems[:5]) or None
