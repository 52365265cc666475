"""Numbers and strings on their way to a reader: rounding by uncertainty, and text that no program will execute."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

import polars as pl

UNIT_SUFFIXES = {"_e_per_angstrom2": "e/Å²", "_angstrom": "Å", "_ev": "eV", "_ms": "ms", "_px": "px", "_k": "K"}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def format_number(value: Any, digits: int = 4) -> str:
    """A number to so many digits, a missing one as an en dash, anything else as its own text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009")
    if isinstance(value, float):
        text = f"{value:.{digits}g}"
        return _signed(f"{value:,.0f}".replace(",", "\u2009") if "e+" in text and abs(value) < 1e9 else text)
    return str(value)


def quantity_table(values: Mapping[str, Any]) -> pl.DataFrame:
    """Named values as a table for a reader: quantity, value."""
    return pl.DataFrame(
        [(name, format_entry(value)) for name, value in values.items()], schema={"quantity": pl.String, "value": pl.String}, orient="row"
    )


def format_entry(value: Any) -> str:
    """A number as `format_number` writes it, those of a list one after another."""
    return ", ".join(format_number(v) for v in value) if isinstance(value, (list, tuple)) else format_number(value)


def format_estimate(value: float | None, sigma: float | None = None, unit: str = "") -> str:
    """`value ± sigma unit`, sigma with two digits and the value to the same place: (1.2345, 0.012) is 1.234 ± 0.012."""
    tail = f" {unit}" if unit else ""
    if value is None or not math.isfinite(value):
        return "not determined"
    if sigma is None or not math.isfinite(sigma) or sigma <= 0:
        return format_number(value) + tail
    places = max(1 - math.floor(math.log10(sigma)), 0)
    return f"{_signed(f'{value:.{places}f}')} ± {sigma:.{places}f}{tail}"


def format_heading(name: str) -> str:
    """A column name for a reader: `rms_displacement_angstrom` is `rms displacement (Å)`."""
    for suffix, unit in UNIT_SUFFIXES.items():
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix)} ({unit})".replace("_", " ")
    return name.replace("_", " ")


def _signed(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text


def safe_cell(value: Any) -> Any:
    """A cell that a spreadsheet shows and does not run: text that starts like a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def csv_text(table: pl.DataFrame) -> str:
    """The table as CSV (RFC 4180) with safe cells and column names."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([safe_cell(name) for name in table.columns])
    writer.writerows([safe_cell(value) for value in row] for row in table.iter_rows())
    return buffer.getvalue()
