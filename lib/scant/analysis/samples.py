"""Samples of the posterior of a movie, frame by frame beside its atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from scant.analysis.neighbours import POSITION, FrameAtoms, iterate_frames
from scant.errors import InputError


def iterate_samples(atoms: pl.DataFrame, samples: pl.DataFrame) -> Iterator[tuple[FrameAtoms, np.ndarray]]:
    """Each frame's atoms (n) and the samples (S, n, 3) of its posterior in angstrom, atoms in the same order.

    Raises InputError when a sample does not hold just the frame's atoms.
    """
    draws = {key[0]: rows for key, rows in samples.partition_by("frame", as_dict=True).items()}
    for frame in iterate_frames(atoms):
        rows = draws.get(frame.frame, samples.clear()).sort("draw", "id")
        n_draws = rows["draw"].n_unique()
        if not n_draws or not np.array_equal(rows["id"].to_numpy(), np.tile(frame.ids, n_draws)):
            raise InputError(f"frame {frame.frame}: the samples are not of its {frame.ids.size} atoms; run anneal again")
        yield frame, rows.select(pl.col(POSITION).cast(pl.Float64)).to_numpy().reshape(n_draws, -1, 3)
