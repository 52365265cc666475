"""The dose study: accuracy of simulated twins by dose, its bound and threshold, and what another defocus would have told."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import polars as pl

from scant.report import figures
from scant.report.findings import Findings
from scant.report.page import Picture, Section, Table
from scant.report.tables import format_number

# Bounds that differ by less than this tell no defocus from another.
WORTH_REFOCUSING = 1.1
FEW_TWINS = 5


def dose_section(found: Findings) -> Section:
    """The dose series and its threshold; a sentence where there is none."""
    dose, summary = found.inputs.dose, found.inputs.dose_summary
    if dose is None or dose.height == 0:
        return Section("dose", "Dose study", "dose", ("Not done: it needs the optics of the movie, to simulate its twins with.",))
    text = [_design(found, dose)]
    if summary:
        text.append(
            f"Reconstruction meets the criterion (3D RMSD below {summary['criterion_angstrom']:g} Å) {_threshold_words(summary)}. "
            f"The interval is a bootstrap over twins{_few(dose['twin'].n_unique())}."
        )
        text += _flat_sheet_words(found, summary["criterion_angstrom"])
    caption = (
        "3D RMSD of simulated twins over the dose per frame, found with the help of the neighbouring frames and from a single frame. "
        "Lower bound: Bayesian Cramér–Rao, prior included. Diamonds: the values that Zhang et al. [1] report."
    )
    draw = partial(figures.dose_figure, dose, summary, found.inputs.dose_bound)
    picture = Picture("dose", draw, caption, "3D RMSD over dose with the bound and the threshold.")
    series = _series(dose, found.inputs.dose_bound)
    tables = [Table("The dose series, by dose and number of frames used (window).", series, "dose_series.csv")]
    if found.inputs.defocus_bound is not None:
        words, table = _defocus(found.inputs.defocus_bound)
        text.append(words)
        tables.append(table)
    return Section("dose", "Dose study", "dose", tuple(text), tuple(tables), (picture,))


def _few(n_twins: int) -> str:
    return f", and over {n_twins} it says little: raise dose.twins" if n_twins < FEW_TWINS else ""


def _flat_sheet_words(found: Findings, criterion_angstrom: float) -> list[str]:
    """Where a flat sheet would pass the criterion too, passing it says nothing."""
    rms = found.ripples["rms_height_angstrom"].drop_nulls().to_numpy() if found.heights else np.empty(0)
    if rms.size == 0 or rms.mean() > criterion_angstrom:
        return []
    return [
        f"A flat sheet would be wrong by the rms height itself, {rms.mean():.2f} Å here, and meet that criterion too: an RMSD near it "
        "tells of the prior, not of the images."
    ]


def _design(found: Findings, dose: pl.DataFrame) -> str:
    n, levels = dose["twin"].n_unique(), dose["dose_e_per_angstrom2"]
    view = found.used("dose").get("view_angstrom")
    in_view = f" in a view of {format_number(view)} Å" if view else ""
    return (
        f"{n} twin{'s' if n > 1 else ''} of the movie, simulated with its optics, lattice and noise and a known structure{in_view}, went "
        f"through localisation and annealing at {levels.n_unique()} doses from {format_number(levels.min())} to "
        f"{format_number(levels.max())} e/Å² per frame."
    )


def _series(dose: pl.DataFrame, bound: pl.DataFrame | None) -> pl.DataFrame:
    rmsd = pl.col("rmsd_3d_angstrom")
    table = dose.group_by("dose_e_per_angstrom2", "window").agg(
        pl.len().alias("twins × frames"),
        rmsd.median().alias("median 3D RMSD (Å)"),
        rmsd.min().alias("lowest (Å)"),
        rmsd.max().alias("highest (Å)"),
        (100 * pl.col("succeeded").fill_null(False).mean()).alias("succeeded (%)"),
        pl.col("recall").mean().alias("recall"),
        pl.col("precision").mean().alias("precision"),
    )
    if bound is not None:
        columns = {"bound_3d_angstrom": "lower bound, 3D (Å)", "image_alone_z_angstrom": "bound on z without prior (Å)"}
        table = table.join(bound.select("dose_e_per_angstrom2", *columns).rename(columns), on="dose_e_per_angstrom2", how="left")
    return table.sort("dose_e_per_angstrom2", "window").rename({"dose_e_per_angstrom2": "dose (e/Å²)"})


def _defocus(defocus: pl.DataFrame) -> tuple[str, Table]:
    best = defocus.sort("bound_z_angstrom").row(0, named=True)
    bounds = defocus["bound_z_angstrom"].to_numpy()
    least, most = float(bounds.min()), float(bounds.max())
    if most < WORTH_REFOCUSING * least:
        words = f"By the bound the defocus hardly matters: σ of z at least {least:.3f} to {most:.3f} Å over those tried, prior included."
    else:
        words = (
            f"By the bound, of the defoci tried {format_number(round(best['defocus_angstrom']))} Å tells most of the heights at the "
            f"movie's own dose (σ of z at least {least:.3f} Å, prior included)."
        )
    names = {"defocus_angstrom": "defocus (Å)", "bound_z_angstrom": "bound on z (Å)", "bound_xy_angstrom": "bound on x, y (Å)"}
    rows = defocus.with_columns(pl.col("defocus_angstrom").round(1)).rename(names)
    caption = "What another defocus would have told, at the movie's own dose (underfocus is positive)."
    return words, Table(caption, rows, "defocus_bound.csv")


def _threshold_words(summary: dict[str, Any]) -> str:
    words = str(summary.get("text") or f"{summary['threshold_e_per_angstrom2']:.3g} e/Å²")
    return {"below": "at every dose tested: the threshold lies ", "above": "at no dose tested: the threshold lies "}.get(
        str(summary.get("position")), "from "
    ) + words
