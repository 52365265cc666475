"""What a paper ends with: failures and limits, methods with the parameters used, provenance."""

from __future__ import annotations

from typing import Any

import polars as pl

from scant.report.findings import Findings
from scant.report.methods import limits
from scant.report.page import Section, Table
from scant.report.tables import ROWS_SHOWN, cut_words, format_entry, format_estimate, format_heading


def failures_section(found: Findings) -> Section:
    """The failure ledger with its remedies."""
    failures = found.inputs.failures
    if failures is None or failures.height == 0:
        return Section("failures", "Failures", "failures", ("No frame failed.",))
    by_stage = ", ".join(f"{stage} {count}" for stage, count in failures.group_by("stage").len().sort("stage").iter_rows())
    text = f"Rows in the failure ledger: {failures.height} ({by_stage}). Frames do not depend on each other; the rest is not touched."
    shown = failures.sort("frame").head(ROWS_SHOWN)
    table = Table(f"Failed frames and what to do{cut_words(failures.height)}.", shown, "failures.csv")
    return Section("failures", "Failures", "failures", (text,), (table,))


def limits_section(found: Findings) -> Section:
    """What a reader must not conclude."""
    known = limits(found.inputs.frames, found.inputs.calibration, found.heights)
    return Section("limits", "Limits", "failures", bullets=known or ("None known beyond the uncertainties given.",))


def methods_section(found: Findings, methods: tuple[str, ...]) -> Section:
    """Methods in words, and the parameters really used."""
    rows = [(stage, key, format_entry(value)) for stage, values in found.inputs.parameters.items() for key, value in values.items()]
    tables = []
    if rows:
        tables.append(Table("Parameters used.", pl.DataFrame(rows, schema=["stage", "parameter", "value"], orient="row"), "parameters.csv"))
    calibrated = [row for part in ("optics", "detector") for row in _measured(part, found.calibrated(part))]
    if calibrated:
        table = pl.DataFrame(calibrated, schema=["of", "quantity", "value"], orient="row")
        tables.append(Table("Optics and detector as calibrated, with one σ where it was fitted.", table, "calibration.csv"))
    return Section("methods", "Methods", "methods", methods, tuple(tables))


def _measured(part: str, values: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of name and value, a value's sigma beside it and not below, nested ones in the order given."""
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += [(part, f"{format_heading(key)}: {name}", text) for _, name, text in _measured(part, value)]
        elif not key.startswith("sigma_"):
            sigma = values.get(f"sigma_{key}")
            rows.append((part, format_heading(key), format_entry(value) if sigma is None else format_estimate(value, sigma)))
    return rows


def provenance_section(found: Findings) -> Section:
    """Versions, configuration and input hashes, seeds."""
    rows = []
    for key, value in found.inputs.provenance.items():
        pairs = list(value.items()) if isinstance(value, dict) else [("", value)]
        rows += [(key, str(name), format_entry(entry)) for name, entry in pairs[:ROWS_SHOWN]]
        if len(pairs) > ROWS_SHOWN:
            rows.append((key, "…", f"{len(pairs) - ROWS_SHOWN} more in the provenance of every table"))
    if not rows:
        return Section("provenance", "Provenance", "methods", ("Not recorded.",))
    table = pl.DataFrame(rows, schema={"what": pl.String, "name": pl.String, "value": pl.String}, orient="row")
    return Section("provenance", "Provenance", "methods", (), (Table("Where this page comes from.", table),))
