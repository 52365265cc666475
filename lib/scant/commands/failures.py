"""The failure ledger on the terminal: what failed, in which frames, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from scant.io.ledger import failure_table, faulty_frames
from scant.io.structures import read_table, read_tables
from scant.stages.integrity import LEDGERS, TWIN_LEDGERS, dataset_at

MESSAGE_WIDTH = 160


def run(folder: str) -> int:
    """Print the failures found so far, also of a run that goes on; 1 when there are any. InputError for a folder without results."""
    path = dataset_at(folder)
    found = failures_in(path)
    print("\n".join(text_of(folder, found)))
    return 1 if len(found) else 0


def failures_in(folder: Path) -> pl.DataFrame:
    """Every row of the ledgers that blocks and twins have written so far, and the frames that ingest found faulty."""
    ledgers = [str(path) for pattern in (LEDGERS, TWIN_LEDGERS) for path in sorted(folder.glob(pattern))]
    faults = [str(path) for path in sorted(folder.glob("ingest/[0-9]*.parquet"))]
    of_movie = failure_table(faulty_frames(dict(read_tables(faults).iter_rows())) if faults else [])
    tables = [of_movie, *(read_table(path) for path in ledgers)]
    return pl.concat(tables).unique(["frame", "stage", "cause"], maintain_order=True).sort("frame", "stage")


def text_of(folder: str, failures: pl.DataFrame) -> list[str]:
    """One paragraph per stage, cause and remedy, with its frames; for the dose study the numbers of its doses."""
    if not len(failures):
        return [f"{folder}: no frame failed"]
    lines = [f"{folder}: {failures.filter(pl.col('stage') != 'dose')['frame'].n_unique()} frame(s) failed"]
    for (stage, cause, remedy), rows in failures.group_by("stage", "cause", "remedy", maintain_order=True):
        message = str(rows["message"][0])
        shown = message if len(message) <= MESSAGE_WIDTH else f"{message[:MESSAGE_WIDTH]} ..."
        what = "dose" if stage == "dose" else "frame"
        lines += [f"  {stage}: {cause}, {len(rows)} {what}(s): {ranges(rows['frame'].to_list())}", f"    {shown}", f"    remedy: {remedy}"]
    return lines


def ranges(frames: Sequence[int]) -> str:
    """3, 7-9, 12"""
    parts: list[list[int]] = []
    for frame in sorted(set(frames)):
        if parts and frame == parts[-1][-1] + 1:
            parts[-1][1:] = [frame]
        else:
            parts.append([frame])
    return ", ".join("-".join(map(str, part)) for part in parts)
