"""Structures and tables for other programs: LAMMPS data and CIF of one frame through ASE, tables as CSV."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import polars as pl

from scant.errors import InputError
from scant.io.structures import CELL_HEIGHT_ANGSTROM, FieldOfView, write_extxyz

ENDINGS = {"lammps-data": ".data", "cif": ".cif", "extxyz": ".extxyz"}
VACUUM_ANGSTROM = 5.0  # on each side, beyond any bond: a program that repeats the box makes no bonds across its border
# Spreadsheets run a cell that begins so as a formula, also after blanks and as full-width characters (OWASP, CSV Injection).
FORMULA_START = r"^[\s\x00]*[=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}|]|^[\t\r\n]"


def write_frame(path: Path, kind: str, rows: pl.DataFrame, field: FieldOfView) -> int:
    """Write one frame's atoms in view (columns of the atoms table) as `kind` of ENDINGS, in the order of their ids; returns their number.

    `extxyz` keeps scant's coordinates. In `lammps-data` and `cif` the box has 5 A of vacuum beyond the view and the heights lie around its
    middle, so that no atom is outside it: `moved_by_angstrom` says how far. The CIF has a sigma per coordinate; LAMMPS data have no place
    for it. Heights that are not known are 0. The file appears when it is whole.
    """
    kept = rows.filter(field.holds()).sort("id")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if kind == "extxyz":
            write_extxyz(str(partial), [kept], field)
        else:
            ase.io.write(partial, _boxed(kept, field), format=kind, **_options(kind, kept))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return kept.height


def moved_by_angstrom(field: FieldOfView) -> np.ndarray:
    """(3,): what `write_frame` adds to positions in `lammps-data` and `cif`."""
    edge = VACUUM_ANGSTROM + field.pixel_size_angstrom / 2
    return np.array([edge, edge, CELL_HEIGHT_ANGSTROM / 2])


def _boxed(rows: pl.DataFrame, field: FieldOfView) -> ase.Atoms:
    positions = rows.select(pl.col(f"{axis}_angstrom").fill_null(0.0).fill_nan(0.0) for axis in "xyz").to_numpy()
    sides = [n * field.pixel_size_angstrom + 2 * VACUUM_ANGSTROM for n in (field.width_px, field.height_px)]
    return ase.Atoms(
        rows["species"].to_list(), positions + moved_by_angstrom(field), cell=[*sides, CELL_HEIGHT_ANGSTROM], pbc=(False, False, False)
    )


def _options(kind: str, rows: pl.DataFrame) -> dict[str, Any]:
    if kind == "lammps-data":
        return {"masses": True, "units": "metal", "atom_style": "atomic"}
    labels = [[f"{species}{number}" for species, number in rows.select("species", "id").iter_rows()]]
    keys = {f"scant_sigma_{axis}_angstrom": [_sigmas(rows[f"sigma_{axis}_angstrom"])] for axis in "xyz"}
    return {"labels": labels, "loop_keys": keys, "wrap": False}


def _sigmas(values: pl.Series) -> list[str]:
    """Text of a CIF column; a question mark is CIF's word for unknown."""
    return ["?" if value is None or not np.isfinite(value) else f"{value:.5f}" for value in values]


def write_csv(source: Path, target: Path, frame: int | None = None) -> None:
    """A Parquet table as CSV with the same columns, of one frame where one is given (tables without frames stay whole).

    Text that a spreadsheet would run as a formula gets an apostrophe in front. Memory does not grow with the table; the file appears
    when it is whole. Raises InputError for a table with nested columns.
    """
    table = pl.scan_parquet(source, glob=False)
    schema = table.collect_schema()
    if nested := [name for name, kind in schema.items() if kind.is_nested()]:
        raise InputError(f"{source}: columns {', '.join(nested)} hold lists, which CSV cannot; read the Parquet file instead")
    if frame is not None and "frame" in schema:
        table = table.filter(pl.col("frame") == frame)
    text = [name for name, kind in schema.items() if kind == pl.String]
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        table.with_columns(_harmless(name) for name in text).sink_csv(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _harmless(name: str) -> pl.Expr:
    column = pl.col(name)
    return pl.when(column.str.contains(FORMULA_START)).then(pl.lit("'") + column).otherwise(column).alias(name)
