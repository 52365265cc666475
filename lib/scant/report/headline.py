"""The headline numbers of a run, each with its uncertainty or its spread, and the run in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from scant.report.findings import Findings
from scant.report.page import Estimate, Section
from scant.report.tables import share_interval


def summary_section(found: Findings) -> Section:
    """The headline numbers under one title."""
    return Section("summary", "Summary", "results", estimates=estimates(found))


def estimates(found: Findings) -> tuple[Estimate, ...]:
    """The headline numbers, each with its uncertainty or its spread."""
    inputs, n_frames = found.inputs, found.inputs.frames.height
    items = [
        _share("Frames reconstructed, converged", found.good_frames.size, n_frames),
        _mean_and_spread("Dose per frame", inputs.frames, "dose_e_per_angstrom2", "e/Å²", _gain_words(inputs.calibration)),
        Estimate("Atoms per frame", found.atoms_per_frame[0], found.atoms_per_frame[1], "", "mean and spread over frames"),
    ]
    for axis, (low, median, high) in zip("xyz", found.sigma_quantiles):
        note = f"median over atoms; 5 to 95 %: {low:.3f} to {high:.3f} Å" if np.isfinite(median) else "needs the optics"
        items.append(Estimate(f"σ of {axis}", float(f"{median:.3g}") if np.isfinite(median) else None, None, "Å", note))
    items += [_bond_estimate(found), _height_estimate(found), *_rigidity_estimate(found)]
    words = "; noise alone keeps it below 1"
    items.append(_mean_and_spread("Correlation of model and frame", inputs.frames, "correlation", "", words))
    items += _calibration_estimates(inputs.calibration)
    if inputs.md is not None and inputs.md.height:
        stable = inputs.md.filter(pl.col("verdict") == "stable").height
        items.append(_share("Stable in molecular dynamics", stable, inputs.md.height))
    if inputs.dose_summary:
        items.append(_threshold_estimate(inputs.dose_summary))
    return tuple(items)


def _share(label: str, k: int, n: int) -> Estimate:
    low, high = share_interval(k, n)
    return Estimate(label, float(f"{100 * k / n:.3g}"), None, "%", f"{k} of {n}; 95 % interval {low:.3g} to {high:.3g} %")


def _gain_words(calibration: dict[str, Any]) -> str:
    """What the error of a measured gain adds to every dose."""
    transfer = calibration.get("detector", {}).get("photon_transfer")
    if not isinstance(transfer, dict) or not transfer.get("gain_sigma_adu_per_electron"):
        return ""
    return f"; the measured gain adds {100 * transfer['gain_sigma_adu_per_electron'] / transfer['gain_adu_per_electron']:.2g} %"


def _mean_and_spread(label: str, table: pl.DataFrame, column: str, unit: str, more: str = "") -> Estimate:
    values = table[column].drop_nulls().to_numpy() if column in table.columns else np.empty(0)
    if values.size == 0:
        return Estimate(label, None, None, unit, "not measured")
    return Estimate(label, float(values.mean()), _spread(values), unit, "mean and spread over frames" + more)


def _spread(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if values.size > 1 else None


def _bond_estimate(found: Findings) -> Estimate:
    if found.bonds.height == 0:
        return Estimate("Mean bond length", None, None, "Å", "no bonds found")
    per_frame = found.bonds.group_by("frame").agg(pl.col("length_angstrom").mean()).sort("frame")
    length = per_frame["length_angstrom"].to_numpy()
    error = float(length.std(ddof=1) / np.sqrt(length.size)) if length.size > 1 else None
    note = f"mean and standard error over {length.size} frames; between posterior means"
    scale = _relative_pixel_error(found.inputs.calibration)
    return Estimate("Mean bond length", float(length.mean()), error, "Å", note + (f"; the pixel size adds {scale:.2g} %" if scale else ""))


def _relative_pixel_error(calibration: dict[str, Any]) -> float:
    """Of all lengths in the plane, in percent; 0 where it is not known."""
    return 100 * (calibration.get("sigma_pixel_size_angstrom") or 0.0) / (calibration.get("pixel_size_angstrom") or np.inf)


def _height_estimate(found: Findings) -> Estimate:
    rms = found.ripples["rms_height_angstrom"].drop_nulls().to_numpy()
    if rms.size == 0:
        return Estimate("rms height", None, None, "Å", "needs the optics")
    return Estimate(
        "rms height", float(rms.mean()), _spread(rms), "Å", f"with its posterior spread; mean and spread over {rms.size} frames"
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
        note = "±: what the lattice's reflections tell it to, one σ" if calibration.get("sigma_pixel_size_angstrom") else ""
        items.append(Estimate("Pixel size", calibration["pixel_size_angstrom"], calibration.get("sigma_pixel_size_angstrom"), "Å", note))
    if optics.get("defocus_angstrom") is not None:
        note = "one σ of the fit; underfocus is positive"
        items.append(Estimate("Defocus", optics["defocus_angstrom"], optics.get("sigma_defocus_angstrom"), "Å", note))
    return items


def _threshold_estimate(summary: dict[str, Any]) -> Estimate:
    dose, position = summary["threshold_e_per_angstrom2"], summary.get("position", "crossed")
    criterion = f"3D RMSD below {summary['criterion_angstrom']:g} Å"
    if position != "crossed":
        sign, met = ("<", "met at every dose tested") if position == "below" else (">", "met at no dose tested")
        return Estimate("Dose threshold", None, None, "e/Å²", f"{criterion}: {met}", f"{sign} {dose:.4g} e/Å²")
    note = summary.get("text") or f"interval {summary['low_e_per_angstrom2']:.3g} to {summary['high_e_per_angstrom2']:.3g} e/Å²"
    return Estimate("Dose threshold", float(f"{dose:.3g}"), None, "e/Å²", f"{criterion}: {note}")


def abstract(found: Findings) -> str:
    """The run in one sentence, and in another what speaks against its numbers."""
    return _what_was_found(found) + _what_failed(found)


def _what_failed(found: Findings) -> str:
    failed = [str(gate["name"]) for gate in found.inputs.calibration.get("gates", ()) if not gate["passed"]]
    md = found.inputs.md
    doubtful = md.filter(pl.col("verdict") != "stable").height if md is not None else 0
    parts = [f"gates failed: {', '.join(failed)}"] if failed else []
    parts += [f"molecular dynamics did not confirm {doubtful} of {md.height} structures"] if md is not None and doubtful else []
    return f" Beware: {'; '.join(parts)}." if parts else ""


def _what_was_found(found: Findings) -> str:
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
