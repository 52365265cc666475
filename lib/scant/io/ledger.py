"""The failure ledger: one row per frame and stage that could not be finished, with cause and remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import polars as pl

from scant.errors import FrameFailure, ScantError
from scant.io.logs import say

FAILURE_COLUMNS = {"frame": pl.Int64, "stage": pl.String, "cause": pl.String, "message": pl.String, "remedy": pl.String}
# Causes that say nothing about the frame itself: a run tries these frames again.
CURABLE = ("memory", "timeout", "killed", "device", "integrity")
FAULT_REMEDY = "the frame is left out; look at it in movie.zarr, or drop it from the movie"


def failure_table(failures: Sequence[FrameFailure]) -> pl.DataFrame:
    """The ledger's rows, in frame order, with the same columns when there is none."""
    rows = [asdict(failure) for failure in sorted(failures, key=lambda f: (f.frame, f.stage))]
    return pl.DataFrame(rows, schema=FAILURE_COLUMNS)


def faulty_frames(faults: Mapping[int, str | None]) -> list[FrameFailure]:
    """Failures for frames that ingest found empty, saturated, not finite, dim or bright."""
    return [FrameFailure(n, "ingest", fault, f"the frame is {fault}", FAULT_REMEDY) for n, fault in faults.items() if fault is not None]


def refuse_many_failures(failures: Sequence[FrameFailure], n_frames: int, max_failed_fraction: float) -> None:
    """Say which frames failed; ScantError when they are more than the allowed fraction of the block."""
    for failure in failures:
        say(f"frame {failure.frame}: {failure.stage} failed ({failure.cause}): {failure.message}; {failure.remedy}")
    if len(failures) > max_failed_fraction * n_frames:
        raise ScantError(
            f"{len(failures)} of {n_frames} frames of this block failed, allowed is a fraction of {max_failed_fraction:g} "
            "(max_failed_fraction); the lines above say why"
        )


def good_frames(table: pl.DataFrame) -> list[int]:
    """Frames without a fault, from a table with columns frame and fault."""
    return table.filter(pl.col("fault").is_null())["frame"].to_list()
