"""Structures as extended XYZ (one block per frame) and tables as Parquet with their provenance."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from scant.errors import DataIntegrityError, InputError

COLUMNS = (
    "species", "x_angstrom", "y_angstrom", "z_angstrom", "id", "sigma_x_angstrom", "sigma_y_angstrom", "sigma_z_angstrom", "flag",
)  # fmt: skip
PROPERTIES = "species:S:1:pos:R:3:id:I:1:sigma_x:R:1:sigma_y:R:1:sigma_z:R:1:flag:I:1"
CELL_HEIGHT_ANGSTROM = 40.0
DECIMALS = 5
PROVENANCE_KEY = "scant_provenance"


@dataclass(frozen=True)
class FieldOfView:
    """The raw frame: the origin is the centre of pixel (0, 0), so it reaches from -1/2 pixel to n - 1/2 pixels."""

    height_px: int
    width_px: int
    pixel_size_angstrom: float
    frame_time_ms: float

    @classmethod
    def of(cls, calibration: Mapping[str, Any]) -> FieldOfView:
        """That of a calibration.json; frames without a known time are 1 ms apart."""
        time_ms = calibration["frame_time_ms"] or 1.0
        return cls(calibration["height_px"], calibration["width_px"], calibration["pixel_size_angstrom"], time_ms)

    @property
    def lattice(self) -> str:
        width, height = (n * self.pixel_size_angstrom for n in (self.width_px, self.height_px))
        return f"{width:.10g} 0.0 0.0 0.0 {height:.10g} 0.0 0.0 0.0 {CELL_HEIGHT_ANGSTROM}"

    def holds(self) -> pl.Expr:
        """Rows whose centre lies in the frame."""
        half = self.pixel_size_angstrom / 2
        x_end, y_end = (n * self.pixel_size_angstrom - half for n in (self.width_px, self.height_px))
        return pl.col("x_angstrom").is_between(-half, x_end, "left") & pl.col("y_angstrom").is_between(-half, y_end, "left")


def write_extxyz(path: str, tables: Iterable[pl.DataFrame], field: FieldOfView) -> int:
    """Write atoms tables as extended XYZ, one block per frame in ascending order; returns the number of blocks.

    Each table holds whole frames (columns frame, id, species, x_angstrom ... sigma_z_angstrom, flag) and later ones later frames, so
    a movie streams through block by block. Atoms outside the field of view are left out; a frame without any has no block.
    Raises InputError for absent columns, frames out of order, and species that are no element symbols.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    last, n_blocks = -1, 0
    try:
        with partial.open("w", encoding="ascii") as handle:
            for table in tables:
                for frame, block in _frames_of(path, table, field, last):
                    _write_block(handle, frame, block, field)
                    last, n_blocks = frame, n_blocks + 1
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return n_blocks


def read_extxyz(path: str) -> pl.DataFrame:
    """Read back what `write_extxyz` wrote: the atoms table, with `time_ms`. Raises DataIntegrityError for a cut or foreign file."""
    tables: list[pl.DataFrame] = []
    with Path(path).open(encoding="ascii") as handle:
        while line := handle.readline():
            header = handle.readline()
            frame, time = re.search(r"frame=(\d+)", header), re.search(r"time_ms=(\S+)", header)
            if not line.strip().isdigit() or frame is None or time is None or PROPERTIES not in header:
                raise DataIntegrityError(
                    f"{path}: block {len(tables)} is not scant's ({line.strip()!r}, {header.strip()!r}); write it again"
                )
            rows = [handle.readline().split() for _ in range(int(line))]
            if any(len(row) != len(COLUMNS) for row in rows):
                raise DataIntegrityError(f"{path}: frame {frame[1]}: expected {int(line)} atoms of {len(COLUMNS)} columns; the file is cut")
            block = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
            tables.append(block.select(pl.lit(int(frame[1])).alias("frame"), pl.lit(float(time[1])).alias("time_ms"), *_typed()))
    if not tables:
        raise DataIntegrityError(f"{path}: no block; expected extended XYZ with one block per frame")
    return pl.concat(tables)


def write_table(path: str, table: pl.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write a table as Parquet with its provenance in the file's key-value metadata, at once or not at all."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    # polars itself reports a full disk as an error in the table
    packed = io.BytesIO()
    table.write_parquet(packed, metadata={PROVENANCE_KEY: json.dumps(provenance, sort_keys=True)})
    try:
        partial.write_bytes(packed.getbuffer())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_table(path: str, frames: tuple[int, int] | None = None) -> pl.DataFrame:
    """Read a Parquet table, or its rows of the frames [start, stop) alone. Raises DataIntegrityError when it is absent or damaged."""
    try:
        if frames is not None:
            return pl.scan_parquet(path, glob=False).filter(pl.col("frame").is_between(*frames, closed="left")).collect()
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataIntegrityError(f"{path}: no table can be read ({error}); run the stage that writes it again") from error


def read_tables(paths: Sequence[str]) -> pl.DataFrame:
    """The blocks' tables one after another, in the given order; errors as `read_table`."""
    return pl.concat([read_table(path) for path in paths])


def read_provenance(path: str) -> dict[str, Any]:
    """The provenance that `write_table` stored; empty when the file has none."""
    return json.loads(pl.read_parquet_metadata(path).get(PROVENANCE_KEY, "{}"))


def concat_tables(paths: Sequence[str], target: str, provenance: Mapping[str, Any]) -> int:
    """Join the blocks' tables in the given order into one Parquet file, a table at a time; returns the number of rows.

    Memory does not grow with the movie. Raises DataIntegrityError for absent tables or other columns, InputError for no tables.
    """
    if not paths:
        raise InputError(f"{target}: no tables to join; expected one for each block")
    schema = _schema(paths[0]).remove_metadata()

    def parts() -> Iterator[pa.Table]:
        for path in paths:
            if not _schema(path).equals(schema):
                raise DataIntegrityError(f"{path}: other columns than in {paths[0]}; run the stage that writes it again")
            yield pq.read_table(path, use_threads=False)

    return _write_parts(target, schema, parts(), provenance)


def stream_table(target: str, schema: Mapping[str, Any], parts: Iterable[pl.DataFrame], provenance: Mapping[str, Any]) -> int:
    """Write a table part by part, as `write_table` would the whole; returns the number of rows. Memory does not grow with the movie."""
    return _write_parts(target, pl.DataFrame(schema=schema).to_arrow().schema, (part.to_arrow() for part in parts), provenance)


def _write_parts(target: str, schema: pa.Schema, parts: Iterable[pa.Table], provenance: Mapping[str, Any]) -> int:
    partial = Path(target).with_name(f".{Path(target).name}.{os.getpid()}.partial")
    n_rows = 0
    try:
        # polars' sink keeps growing with the number of files (235 MB at 64 of them), this does not
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            writer.add_key_value_metadata({PROVENANCE_KEY: json.dumps(provenance, sort_keys=True)})
            for part in parts:
                writer.write_table(part)
                n_rows += part.num_rows
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return n_rows


def _schema(path: str) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataIntegrityError(f"{path}: no table can be read ({error}); run the stage that writes it again") from error


def _frames_of(path: str, table: pl.DataFrame, field: FieldOfView, last: int) -> Iterator[tuple[int, pl.DataFrame]]:
    if absent := [c for c in ("frame", *COLUMNS) if c not in table.columns]:
        raise InputError(f"{path}: the atoms table lacks {', '.join(absent)}")
    if not table["species"].str.contains(r"^[A-Z][a-z]?$").all():
        raise InputError(f"{path}: species {table['species'].unique().to_list()}; expected element symbols such as C")
    kept = table.filter(field.holds()).sort("frame", maintain_order=True)
    for block in kept.partition_by("frame", maintain_order=True):
        frame = int(block["frame"][0])
        if frame <= last:
            raise InputError(f"{path}: frame {frame} comes after frame {last}; give each frame once, in ascending order")
        last = frame
        yield frame, block


def _write_block(handle: TextIO, frame: int, block: pl.DataFrame, field: FieldOfView) -> None:
    time_ms = f"{frame * field.frame_time_ms:.10g}"
    handle.write(f'{block.height}\nLattice="{field.lattice}" Properties={PROPERTIES} frame={frame} time_ms={time_ms} pbc="F F F"\n')
    rows = io.BytesIO()
    block.select(COLUMNS).write_csv(
        rows, include_header=False, separator=" ", float_precision=DECIMALS, null_value="nan", quote_style="never"
    )
    handle.write(rows.getvalue().decode("ascii"))


def _typed() -> list[pl.Expr]:
    kinds = {"species": pl.String, "id": pl.Int64, "flag": pl.Int64}
    return [pl.col(name).cast(kinds.get(name, pl.Float64)) for name in COLUMNS]
