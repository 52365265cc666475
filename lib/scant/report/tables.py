"""Numbers and strings on their way to a reader: rounding by uncertainty, and text that no program will execute."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

# Longer ones first: the first that fits is taken.
UNIT_SUFFIXES = {
    "_e_per_angstrom2": "e/Å²", "_adu_per_electron": "ADU/e", "_electrons_per_px": "e/px", "_per_angstrom": "1/Å", "_angstrom2": "Å²",
    "_angstrom": "Å", "_mrad": "mrad", "_rad": "rad", "_adu": "ADU", "_kv": "kV", "_ev": "eV", "_ms": "ms", "_px": "px", "_k": "K",
    "_e": "e",
}  # fmt: skip
ROWS_SHOWN = 50
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def format_number(value: Any, digits: int = 4) -> str:
    """A number to so many digits, a missing one as an en dash, anything else as its own text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return _signed(f"{'-' if value < 0 else ''}∞")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _signed(f"{value:,}".replace(",", "\u2009"))
    if isinstance(value, float):
        text = f"{value + 0.0:.{digits}g}"  # no minus before a zero
        return _signed(f"{value:,.0f}".replace(",", "\u2009") if "e+" in text and abs(value) < 1e9 else text)
    return str(value)


def quantity_table(values: Mapping[str, Any]) -> pl.DataFrame:
    """Named values as a table for a reader: quantity, value."""
    return pl.DataFrame(
        [(name, format_entry(value)) for name, value in values.items()], schema={"quantity": pl.String, "value": pl.String}, orient="row"
    )


def format_entry(value: Any) -> str:
    """A number as `format_number` writes it, those of a list or of names one after another."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {format_entry(entry)}" for name, entry in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(format_entry(entry) for entry in value) or "–"
    return format_number(value)


def format_estimate(value: float | None, sigma: float | None = None, unit: str = "") -> str:
    """`value ± sigma unit`, sigma with two digits and the value to the same place: (1.2345, 0.012) is 1.234 ± 0.012."""
    tail = f" {unit}" if unit else ""
    if value is None or not math.isfinite(value):
        return "not determined"
    if sigma is None or not math.isfinite(sigma) or sigma <= 0:
        return format_number(value) + tail
    places = max(1 - math.floor(math.log10(sigma)), 0)
    return f"{_signed(f'{value:.{places}f}')} ± {sigma:.{places}f}{tail}"


def rounded(value: float, digits: int = 2) -> str:
    """A number to so many digits without an exponent up to a million: 228.4 is 230."""
    return _signed(f"{float(f'{value:.{digits}g}'):g}")


def spread_words(values: np.ndarray, unit: str) -> str:
    """`0.065 ± 0.007 Å (mean and spread over frames)`."""
    spread = float(values.std(ddof=1)) if values.size > 1 else None
    return f"{format_estimate(float(values.mean()), spread, unit)} (mean and spread over frames)"


def format_heading(name: str) -> str:
    """A column name for a reader: `rms_displacement_angstrom` is `rms displacement (Å)`."""
    for suffix, unit in UNIT_SUFFIXES.items():
        if name.endswith(suffix):
            return f"{name.removesuffix(suffix)} ({unit})".replace("_", " ")
    return name.replace("_", " ")


def share_interval(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Ends of the 95 % Wilson score interval of k of n, in percent (JASA 22, 209 (1927)): honest at 0 and 100 %."""
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return 100 * (centre - half), 100 * (centre + half)


def share_words(k: int, n: int) -> str:
    """`7 of 8 (95 % interval of the share: 53 to 98 %)`."""
    low, high = share_interval(k, n)
    return f"{format_number(k)} of {format_number(n)} (95 % interval of the share: {low:.3g} to {high:.3g} %)"


def cut_words(total: int) -> str:
    """What a table's caption adds where the table shows the first rows alone."""
    return f" (the first {ROWS_SHOWN} of {format_number(total)})" if total > ROWS_SHOWN else ""


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
