"""From the workflow's tables to a page: which numbers, figures and words a run deserves."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from scant.errors import InputError
from scant.report import sections
from scant.report.defects import defects_section
from scant.report.denoisers import denoisers_section
from scant.report.electronic import electronic_section
from scant.report.findings import Findings, ReportInputs, collect_findings
from scant.report.methods import REFERENCES, limits, methods_paragraphs
from scant.report.page import Estimate, Page, Section
from scant.report.viewer import viewer_data


def build_report(inputs: ReportInputs) -> Page:
    """The page of one dataset; missing parts are left out and named among the limits.

    Raises InputError when the frames table is empty.
    """
    if inputs.frames.height == 0:
        raise InputError(f"{inputs.name}: the frames table is empty; nothing to report. Run the stages before `report` first")
    found = collect_findings(inputs)
    makers = (
        sections.images_section,
        sections.structure_section,
        sections.mechanics_section,
        electronic_section,
        sections.dynamics_section,
        defects_section,
        sections.quality_section,
        sections.md_section,
        sections.dose_section,
        sections.truth_section,
    )
    made = [section for maker in makers if (section := maker(found)) is not None]
    view = viewer_data(found.sample, found.times_ms, found.lattice_angstrom)
    if view:
        text = "A few evenly spread frames, to turn and to step through. The slider and the list react to the keyboard."
        made.insert(
            min(2, len(made)), Section("view", "The sheet in three dimensions" if found.heights else "The sheet", (text,), viewer=True)
        )
    if inputs.denoisers is not None:
        made.append(denoisers_section(*inputs.denoisers))
    methods = methods_paragraphs(found.heights, inputs.md is not None, inputs.dose is not None, inputs.response is not None)
    tail = [
        sections.failures_section(found),
        Section(
            "limits",
            "Limits",
            bullets=limits(inputs.frames, inputs.calibration, found.heights) or ("None known beyond the uncertainties given.",),
        ),
        sections.parameters_section(found, methods),
        sections.provenance_section(found),
    ]
    return Page(
        title=f"{inputs.name}: structure and dynamics from a low-dose movie",
        abstract=_abstract(found),
        estimates=estimates(found),
        gates=tuple(inputs.calibration.get("gates", ())),
        sections=tuple(made + tail),
        references=REFERENCES,
        viewer=view,
    )


def estimates(found: Findings) -> tuple[Estimate, ...]:
    """The headline numbers, each with its uncertainty or its spread."""
    inputs, n_frames = found.inputs, found.inputs.frames.height
    items = [
        _share("Frames reconstructed", found.good_frames.size, n_frames),
        _mean_and_spread("Dose per frame", inputs.frames, "dose_e_per_angstrom2", "e/Å²"),
        Estimate("Atoms per frame", found.atoms_per_frame[0], found.atoms_per_frame[1], "", "mean and spread over frames"),
    ]
    for axis, (low, median, high) in zip("xyz", found.sigma_quantiles):
        note = f"median over atoms; 5 to 95 %: {low:.3f} to {high:.3f} Å" if np.isfinite(median) else "needs the optics"
        items.append(Estimate(f"σ of {axis}", float(f"{median:.3g}") if np.isfinite(median) else None, None, "Å", note))
    items += [_bond_estimate(found), _height_estimate(found), *_rigidity_estimate(found)]
    items.append(_mean_and_spread("Correlation of model and frame", inputs.frames, "correlation", ""))
    items += _calibration_estimates(inputs.calibration)
    if inputs.md is not None and inputs.md.height:
        stable = inputs.md.filter(pl.col("verdict") == "stable").height
        items.append(_share("Stable in molecular dynamics", stable, inputs.md.height))
    if inputs.dose_summary:
        items.append(_threshold_estimate(inputs.dose_summary))
    return tuple(items)


def _share(label: str, k: int, n: int, z: float = 1.96) -> Estimate:
    """k of n in percent with the Wilson score interval (JASA 22, 209 (1927)), honest at 0 and 100 %."""
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    note = f"{k} of {n}; 95 % interval {100 * (centre - half):.3g} to {100 * (centre + half):.3g} %"
    return Estimate(label, float(f"{100 * p:.3g}"), None, "%", note)


def _mean_and_spread(label: str, table: pl.DataFrame, column: str, unit: str) -> Estimate:
    values = table[column].drop_nulls().to_numpy() if column in table.columns else np.empty(0)
    if values.size == 0:
        return Estimate(label, None, None, unit, "not measured")
    return Estimate(label, float(values.mean()), float(values.std()), unit, "mean and spread over frames")


def _bond_estimate(found: Findings) -> Estimate:
    if found.bonds.height == 0:
        return Estimate("Mean bond length", None, None, "Å", "no bonds found")
    per_frame = found.bonds.group_by("frame").agg(pl.col("length_angstrom").mean()).sort("frame")
    length = per_frame["length_angstrom"].to_numpy()
    error = float(length.std(ddof=1) / np.sqrt(length.size)) if length.size > 1 else None
    note = f"mean and standard error over {length.size} frames; between posterior means"
    return Estimate("Mean bond length", float(length.mean()), error, "Å", note)


def _height_estimate(found: Findings) -> Estimate:
    rms = found.ripples["rms_height_angstrom"].drop_nulls().to_numpy()
    if rms.size == 0:
        return Estimate("rms height", None, None, "Å", "needs the optics")
    return Estimate(
        "rms height", float(rms.mean()), float(rms.std()), "Å", f"with its posterior spread; mean and spread over {rms.size} frames"
    )


def _rigidity_estimate(found: Findings) -> tuple[Estimate, ...]:
    known = found.rigidity
    if known is None:
        return ()
    interval = f"95 % interval {known.low_ev:.3g} to {known.high_ev:.3g} eV" if np.isfinite(known.low_ev) else "no interval"
    note = f"{interval}; {known.n_frames} frames, q to 0.7 1/Å, samples of the posterior; the prior shapes it"
    return (Estimate("Bending rigidity", float(f"{known.kappa_ev:.3g}"), None, "eV", note),)


def _calibration_estimates(calibration: dict[str, Any]) -> list[Estimate]:
    optics = calibration.get("optics") or {}
    items = []
    if calibration.get("pixel_size_angstrom") is not None:
        items.append(Estimate("Pixel size", calibration["pixel_size_angstrom"], calibration.get("sigma_pixel_size_angstrom"), "Å"))
    if optics.get("defocus_angstrom") is not None:
        items.append(Estimate("Defocus", optics["defocus_angstrom"], optics.get("sigma_defocus_angstrom"), "Å", "positive: underfocus"))
    return items


def _threshold_estimate(summary: dict[str, Any]) -> Estimate:
    note = summary.get("text") or f"interval {summary['low_e_per_angstrom2']:.3g} to {summary['high_e_per_angstrom2']:.3g} e/Å²"
    criterion = f"3D RMSD below {summary['criterion_angstrom']:g} Å: {note}"
    crossed = summary.get("position", "crossed") == "crossed"
    return Estimate("Dose threshold", float(f"{summary['threshold_e_per_angstrom2']:.3g}") if crossed else None, None, "e/Å²", criterion)


def _abstract(found: Findings) -> str:
    frames = found.inputs.frames
    text = f"{found.good_frames.size} of {frames.height} frames of {found.inputs.name} were reconstructed"
    count, medians = found.atoms_per_frame[0], found.sigma_quantiles[:, 1]
    if np.isfinite(count):
        text += f", with {count:.0f} atoms each on average"
    if np.isfinite(medians).all():
        return text + f"; the median stated uncertainty is {medians[0]:.3f} Å in x, {medians[1]:.3f} Å in y and {medians[2]:.2f} Å in z."
    if np.isfinite(medians[:2]).all():
        plane = f"{medians[0]:.3f} Å in x and {medians[1]:.3f} Å in y"
        return text + f" in two dimensions; the median stated uncertainty is {plane}. Heights are missing: the optics are not known."
    return text + "."
