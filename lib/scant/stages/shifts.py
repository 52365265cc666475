"""Pair shifts of a block and the drift of the movie as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from scant.imaging.align import PairShifts
from scant.io.structures import read_table, write_table


def write_shifts(path: str, shifts: PairShifts, provenance: Mapping[str, Any]) -> None:
    """Columns first, second, dy_px, dx_px, sigma_px; none at all for a block without pairs."""
    columns = {
        "first": shifts.first.astype(np.int64),
        "second": shifts.second.astype(np.int64),
        "dy_px": shifts.shift_px[:, 0],
        "dx_px": shifts.shift_px[:, 1],
        "sigma_px": shifts.sigma_px.astype(float),
    }
    write_table(path, pl.DataFrame(columns), provenance)


def read_shifts(path: str) -> PairShifts:
    table = read_table(path)
    shift = table.select("dy_px", "dx_px").to_numpy().reshape(-1, 2)
    return PairShifts(table["first"].to_numpy(), table["second"].to_numpy(), shift, table["sigma_px"].to_numpy())


def drift_table(drift_px: np.ndarray, sigma_px: np.ndarray) -> pl.DataFrame:
    """frame, drift_y_px, drift_x_px, drift_sigma_px from the drift (n, 2) as (dy, dx) and its standard deviation."""
    return pl.DataFrame(
        {
            "frame": np.arange(len(drift_px)),
            "drift_y_px": drift_px[:, 0],
            "drift_x_px": drift_px[:, 1],
            "drift_sigma_px": np.max(sigma_px, axis=-1),
        }
    )
