"""The tables a dataset ends in: one row per frame, atoms in 2D where the optics are unknown, structures block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from scant.analysis.correlation import SUM_NAMES
from scant.io.structures import read_table
from scant.stages.annealing import ATOMS, CONVERGENCE

RESPONSES = ("ldos_per_ev", "charge_e", "free_valence", "pseudo_field_tesla")
ELECTRONS = {"frame": pl.Int64, "id": pl.Int64, **{f"{prefix}{name}": pl.Float64 for name in RESPONSES for prefix in ("", "sigma_")}}
SUMS = {"frame": pl.Int64, "response": pl.String, "shape": pl.String, **dict.fromkeys(SUM_NAMES, pl.Float64)}
ORDERS = {"frame": pl.Int64, "id_a": pl.Int64, "id_b": pl.Int64, "pi_bond_order": pl.Float64, "sigma_pi_bond_order": pl.Float64}


def atoms_in_2d(sites: pl.DataFrame, ids: pl.DataFrame, pixel_size_angstrom: float, species: Sequence[str]) -> pl.DataFrame:
    """Located atoms in view in the columns of the atoms table; heights and their sigma are null."""
    element = pl.col("sublattice").clip(0, len(species) - 1).replace_strict(dict(enumerate(species)), return_dtype=pl.String)
    in_plane = [
        (pl.col(f"{prefix}{axis}_px") * pixel_size_angstrom).alias(f"{prefix}{axis}_angstrom") for prefix in ("", "sigma_") for axis in "xy"
    ]
    nothing = [pl.lit(None, pl.Float64).alias(f"{prefix}z_angstrom") for prefix in ("", "sigma_")]
    rows = sites.filter("in_view").join(ids, on=["frame", "atom"], how="left")
    return rows.with_columns(element.alias("species"), *in_plane, *nothing).select(*ATOMS).sort("frame", "id")


def bonds_with_orders(bonds: pl.DataFrame, orders: pl.DataFrame | None) -> pl.DataFrame:
    """The bonds table with pi_bond_order and its sigma; null where they are not known, or no order at all is."""
    orders = pl.DataFrame(schema=ORDERS) if orders is None else orders
    return bonds.join(orders, on=["frame", "id_a", "id_b"], how="left", maintain_order="left")


def atom_counts(atom_tables: Sequence[str]) -> pl.DataFrame:
    """frame, n_atoms over all blocks."""
    return pl.concat([read_table(path).group_by("frame").len("n_atoms") for path in atom_tables])


def frames_table(
    calibration: Mapping[str, Any], drift: pl.DataFrame, corrected: pl.DataFrame, counts: pl.DataFrame, convergence: pl.DataFrame | None
) -> pl.DataFrame:
    """One row per frame of the movie: time, status, drift, dose, correction figures, convergence (null without optics)."""
    time_ms = calibration["frame_time_ms"]
    area = calibration["pixel_size_angstrom"] ** 2
    table = drift.join(corrected, on="frame", how="left").join(counts, on="frame", how="left")
    if convergence is None:
        convergence = pl.DataFrame(schema={"frame": pl.Int64, **CONVERGENCE})
    status = pl.when(pl.col("n_atoms").is_null()).then(pl.lit("failed")).otherwise(pl.lit("ok"))
    return (
        table.join(convergence, on="frame", how="left")
        .with_columns(
            (pl.col("frame") * time_ms if time_ms else pl.lit(None, pl.Float64)).cast(pl.Float64).alias("time_ms"),
            status.alias("status"),
            (pl.col("mean_e") / area).alias("dose_e_per_angstrom2"),
            pl.col("variance_cut_total").alias("variance_cut"),
            pl.col("n_atoms").cast(pl.Int64),
        )
        .sort("frame")
    )


def structures_of(atom_tables: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Atoms tables in frame order, one block in memory at a time."""
    for path in atom_tables:
        yield read_table(path)
