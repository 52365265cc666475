"""Results for other programs: one frame as LAMMPS data, CIF or extended XYZ, the tables as CSV."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from scant.columns import TABLES
from scant.errors import DataIntegrityError, InputError
from scant.io.exchange import ENDINGS, moved_by_angstrom, write_csv, write_frame
from scant.io.structures import FieldOfView, read_table
from scant.stages.calibration import read_json


def run(results: str, kind: str, frame: int | None, out: str | None) -> int:
    """Export from results/NAME; `frame` is needed for structures, and for CSV it leaves out all other frames.

    Raises InputError for a folder without results, a frame without a structure and a target that is there already.
    """
    folder = Path(results)
    if not (folder / "atoms.parquet").is_file():
        raise InputError(f"{folder}: no atoms.parquet; give the folder of one dataset's finished run, such as results/demo")
    if frame is None and kind != "csv":
        raise InputError(f"{kind} holds one frame; give --frame, {_frames(folder)[1]}")
    if frame is not None:
        _check_frame(folder, frame)
    stem = folder.resolve().name + ("" if frame is None else f"-frame-{frame}")
    target = Path(out or f"{stem}{ENDINGS.get(kind, '-csv')}")
    if target.exists():
        raise InputError(f"{target}: already there and not overwritten; give another --out")
    try:
        return _tables(folder, frame, target) if kind == "csv" else _structure(folder, kind, frame or 0, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); give another --out") from error


def _structure(folder: Path, kind: str, frame: int, target: Path) -> int:
    calibration = read_json(str(folder / "calibration.json"))
    field = FieldOfView.of(calibration)
    rows = pl.scan_parquet(folder / "atoms.parquet").filter(pl.col("frame") == frame).collect()
    written = write_frame(target, kind, rows, field)
    print(f"{target}: {written} atoms of frame {frame}, in the order of their ids")
    if kind != "extxyz":
        x, y, z = moved_by_angstrom(field)
        print(f"positions are moved by ({x:g}, {y:g}, {z:g}) A against atoms.parquet, into a box with vacuum around")
    if rows["z_angstrom"].null_count():
        print("heights are not known (a run without optics): z is 0")
    return 0


def _tables(folder: Path, frame: int | None, target: Path) -> int:
    target.mkdir(parents=True)
    for name in TABLES:
        if (folder / name).is_file():
            written = target / f"{name.removesuffix('.parquet').replace('/', '_')}.csv"
            write_csv(folder / name, written, frame)
            print(f"{written}: a row is {TABLES[name].row}")
    print("what the columns mean: workflow/COLUMNS.md")
    return 0


def _check_frame(folder: Path, frame: int) -> None:
    numbers, allowed = _frames(folder)
    if frame in numbers:
        return
    table = folder / "frames.parquet"
    status = read_table(str(table)).filter(pl.col("frame") == frame)["status"].to_list() if table.is_file() else []
    why = f"frame {frame} is {status[0]}" if status else f"there is no frame {frame}"
    raise InputError(f"{folder}: {why}; allowed: {allowed}; failures.parquet says what kept a frame from a structure")


def _frames(folder: Path) -> tuple[set[int], str]:
    """Frames that have a structure, and the sentence that names them."""
    try:
        numbers = sorted(pl.scan_parquet(folder / "atoms.parquet").select(pl.col("frame").unique()).collect()["frame"].to_list())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataIntegrityError(f"{folder / 'atoms.parquet'}: no table can be read ({error}); run the workflow again") from error
    if not numbers:
        raise InputError(f"{folder}: no frame has a structure; failures.parquet says why")
    whole = numbers[-1] - numbers[0] + 1 == len(numbers)
    return set(numbers), f"{numbers[0]} to {numbers[-1]}" + ("" if whole else f" ({len(numbers)} frames with a structure)")
