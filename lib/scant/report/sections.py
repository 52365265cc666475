"""The sections of the results: each takes the findings and returns a Section, or None where there is nothing to say."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from scant.analysis.curvature import frame_curvature
from scant.analysis.dynamics import displacement_table, motion_by_atom, without_drift
from scant.analysis.relaxation import relaxation_table
from scant.analysis.ripples import spectrum_of_table
from scant.analysis.strain import frame_strain
from scant.report import figures
from scant.report.findings import Findings
from scant.report.page import Picture, Section, Table
from scant.report.tables import format_entry, format_number, quantity_table

FAILURES_SHOWN = 50


def images_section(found: Findings) -> Section | None:
    """Raw, corrected and model image; intensity histogram; drift."""
    pictures = []
    example = found.inputs.example
    pixel = found.inputs.calibration.get("pixel_size_angstrom") or (example.pixel_size_angstrom if example else 1.0)
    if example is not None:
        atoms = found.shown if found.shown is not None and found.shown.frame == example.frame else None
        figure = figures.frame_triptych(example.raw_adu, example.corrected_e, example.model_e, pixel, atoms)
        what = (
            "and, on the same grey scale, the image of the reconstructed structure with its atoms"
            if example.model_e is not None
            else "(no model image)"
        )
        caption = f"Frame {example.frame}: raw counts, the corrected image {what}."
        pictures.append(
            Picture("frame", figure, caption, f"Frame {example.frame} raw, corrected and as simulated from the structure, side by side.")
        )
    if found.inputs.histograms is not None:
        kl = found.inputs.calibration.get("kl_divergence")
        caption = "Intensities measured and simulated." + ("" if kl is None else f" Their Kullback–Leibler divergence is {kl:.4f} nat.")
        figure = figures.intensity_figure(*found.inputs.histograms, kl)
        pictures.append(Picture("intensity", figure, caption, "Histogram of measured intensities overlaid with the simulated ones."))
    frames = found.inputs.frames
    if "drift_x_px" in frames.columns and frames["drift_x_px"].null_count() < frames.height:
        caption = f"Drift of the sample, with one σ as a band; pixel size {format_number(pixel)} Å."
        pictures.append(
            Picture("drift", figures.drift_figure(frames, pixel), caption, "Drift in x and y over time, and its track in the plane.")
        )
    return Section("images", "Images and calibration", pictures=tuple(pictures)) if pictures else None


def structure_section(found: Findings) -> Section | None:
    """Heights, sigma and bond lengths."""
    atoms = found.shown
    if atoms is None:
        return Section("structure", "Structure", ("No frame was reconstructed; the failures below say why.",))
    pictures = []
    pairs = _pairs_of(found, atoms.frame)
    if found.heights:
        caption = f"Frame {atoms.frame}: height of every atom above the mean plane, and the uncertainty stated for it."
        pictures.append(
            Picture("heights", figures.height_figure(atoms, pairs), caption, "Map of atomic heights and map of their uncertainty.")
        )
    n = len(found.sample)
    sigma = np.concatenate([frame.sigma_angstrom for frame in found.sample])
    pictures.append(
        Picture(
            "sigma", figures.sigma_figure(sigma), f"Stated uncertainty of the positions ({n} frames).", "Histograms of sigma of x, y and z."
        )
    )
    caption = f"Bond lengths in {n} frames, pairs closer than 1.85 Å. " + (
        "They are lengths between posterior means, which are smoother than the sheet: thermal motion is narrower here than in a snapshot."
        if found.heights
        else "Without heights these are lengths in the plane."
    )
    figure = figures.bond_figure(found.bonds["length_angstrom"].to_numpy(), found.lattice_angstrom / np.sqrt(3))
    pictures.append(Picture("bonds", figure, caption, "Histogram of bond lengths beside the ideal length."))
    return Section("structure", "Structure", pictures=tuple(pictures))


def _pairs_of(found: Findings, frame: int) -> np.ndarray:
    atoms = next(f for f in found.sample if f.frame == frame)
    bonds = found.bonds.filter(pl.col("frame") == frame)
    return np.searchsorted(atoms.ids, bonds.select("id_a", "id_b").to_numpy())


def mechanics_section(found: Findings) -> Section | None:
    """Strain, curvature, ripple spectrum."""
    atoms = found.shown
    if atoms is None:
        return None
    pairs = _pairs_of(found, atoms.frame)
    strain = frame_strain(atoms, found.lattice_angstrom)
    caption = (
        f"Frame {atoms.frame}: in-plane strain against an ideal lattice with a = {found.lattice_angstrom:g} Å, turned to the mean "
        "lattice; above each panel the median σ. Empty rings: atoms whose neighbours are not all in view."
    )
    pictures = [Picture("strain", figures.strain_figure(atoms, strain, pairs), caption, "Maps of the strain components xx, yy and xy.")]
    spectrum = spectrum_of_table(found.sample_table)
    if found.heights:
        figure = figures.curvature_figure(atoms, frame_curvature(atoms), pairs)
        caption = (
            f"Frame {atoms.frame}: mean and Gaussian curvature from a quadric through the atoms within 4.5 Å; "
            "domes have H < 0. Empty rings: σ more than three times the median."
        )
        pictures.append(Picture("curvature", figure, caption, "Maps of mean and Gaussian curvature."))
    if spectrum is not None:
        caption = (
            f"Height correlation spectrum of {spectrum.n_frames} frames with standard errors. Posterior means are smoother than the "
            "sheet: at short waves the points are lower bounds. Red: a free harmonic membrane."
        )
        figure = figures.ripple_spectrum_figure(spectrum)
        pictures.append(Picture("ripples", figure, caption, "Ripple power over wave number with a comparison law."))
    title = "Strain and curvature" if found.heights else "Strain"
    return Section("mechanics", title, pictures=tuple(pictures))


def dynamics_section(found: Findings) -> Section | None:
    """rms height over time, motion of the atoms, memory of the ripple."""
    if len(found.sample) < 2:
        return None
    still = without_drift(found.sample_table)
    lags = _sampled_lags(found)
    motion = motion_by_atom(still).filter(pl.col("n_frames") > 1)
    pictures = []
    if found.heights:
        times = np.array([found.times_ms.get(f, np.nan) for f in found.ripples["frame"]])
        figure = figures.ripple_course_figure(found.ripples, times if np.isfinite(times).all() else None)
        pictures.append(
            Picture(
                "ripple-course",
                figure,
                "rms height per frame, its posterior spread included, with one σ as a band.",
                "rms height of the sheet over time.",
            )
        )
        xy, spread, noise = (motion.select(names).cast(pl.Float64).fill_null(np.nan).to_numpy() for names in (
            ["mean_x_angstrom", "mean_y_angstrom"], ["fluctuation_z_angstrom"], ["noise_z_angstrom"]))  # fmt: skip
        caption = (
            f"How far each atom's height moves over {len(found.sample)} frames, drift removed. "
            "Values near the dashed line are noise, not motion."
        )
        pictures.append(
            Picture(
                "fluctuation",
                figures.fluctuation_figure(xy, spread[:, 0], noise[:, 0]),
                caption,
                "Map and histogram of height fluctuations.",
            )
        )
    displacement = displacement_table(still, lags)
    frame_time = found.inputs.frames["time_ms"].diff().median() if found.times_ms else None
    if displacement.height:
        figure = figures.displacement_figure(displacement, frame_time if isinstance(frame_time, float) else None)
        caption = "Mean squared displacement over the lag beside what noise alone adds (dashed), and the correlation of heights in time."
        pictures.append(Picture("displacement", figure, caption, "Mean squared displacement and height correlation over the lag."))
    return Section("dynamics", "Dynamics", tables=_relaxation(found, frame_time), pictures=tuple(pictures)) if pictures else None


def _relaxation(found: Findings, frame_time_ms: Any) -> tuple[Table, ...]:
    """How long the ripples of each wavelength live, where frames follow each other and their times are known."""
    powers = found.inputs.ripple_powers
    if powers is None or not isinstance(frame_time_ms, float):
        return ()
    table = relaxation_table(powers.filter(pl.col("frame").is_in(found.good_frames.tolist())), frame_time_ms)
    names = {"q_per_angstrom": "q (1/Å)", "n_frames": "pairs of frames"}
    names |= {"low_correlation": "correlation of next frames, from", "high_correlation": "to"}
    names |= {"low_relaxation_ms": "relaxation time, from (ms)", "high_relaxation_ms": "to (ms)"}
    caption = (
        "Ripples by wave number: between what bounds the correlation of their amplitudes from frame to frame and their relaxation time lie "
        "(95 %). The bounds are apart where the image settles an amplitude only in part."
    )
    return (Table(caption, table.rename(names), "relaxation.csv"),) if table.height else ()


def _sampled_lags(found: Findings) -> tuple[int, ...]:
    """Lags at which pairs of sampled frames exist: multiples of the sampling step."""
    steps = np.diff([frame.frame for frame in found.sample])
    step = int(np.median(steps))
    return tuple(step * k for k in (1, 2, 4, 8, 16, 32) if k < len(found.sample))


def quality_section(found: Findings) -> Section | None:
    """Correlation, chi^2, r-hat and acceptance per frame; the annealing of one frame."""
    frames = found.inputs.frames
    pictures = []
    known = [name for name in ("correlation", "reduced_chi2", "r_hat", "acceptance") if name in frames.columns]
    if any(frames[name].null_count() < frames.height for name in known):
        caption = (
            "Agreement of model and frame (correlation, reduced χ²) and convergence of the sampling (r̂, acceptance). Grey: failed frames."
        )
        pictures.append(Picture("quality", figures.quality_figure(frames), caption, "Four quality measures over time."))
    if found.inputs.energy is not None:
        figure = figures.energy_figure(found.inputs.energy, found.n_annealed)
        caption = "Energy of the chains of one frame: the search on the mean of its neighbours, then sampling of its own posterior."
        pictures.append(Picture("energy", figure, caption, "Energy over the moves of annealing and sampling."))
    return Section("quality", "Convergence", pictures=tuple(pictures)) if pictures else None


def md_section(found: Findings) -> Section | None:
    """Verdicts of molecular dynamics."""
    md = found.inputs.md
    if md is None or md.height == 0:
        return None
    counts = md.group_by("verdict").len().sort("verdict")
    text = "Verdicts: " + ", ".join(f"{verdict} {count}" for verdict, count in counts.iter_rows()) + "."
    doubtful = md.filter(pl.col("verdict") != "stable")
    wanted = ["frame", "verdict", "reason", "rms_displacement_angstrom", "bonds_broken", "bonds_formed"]
    rows = doubtful.select([name for name in wanted if name in md.columns]).head(FAILURES_SHOWN)
    tables = (
        (Table(f"Structures that molecular dynamics did not confirm{_cut(doubtful.height)}.", rows, "md_unconfirmed.csv"),)
        if rows.height
        else ()
    )
    caption = "Displacement from the reconstructed structure and energy per atom in molecular dynamics, marked by verdict."
    picture = Picture("md", figures.md_figure(md), caption, "Displacement and energy per frame, marked stable, unstable or failed.")
    return Section("md", "Validation by molecular dynamics", (text,), tables, (picture,))


def dose_section(found: Findings) -> Section | None:
    """The dose series and its threshold."""
    dose, summary = found.inputs.dose, found.inputs.dose_summary
    if dose is None or dose.height == 0:
        return None
    text: tuple[str, ...] = ()
    if summary:
        text = (f"Reconstruction meets the criterion (3D RMSD below {summary['criterion_angstrom']:g} Å) {_threshold_words(summary)}.",)
    caption = (
        "3D RMSD of synthetic twins over the dose per frame, found with the help of the neighbouring frames and (window 1) without. "
        "Bound: Bayesian Cramér-Rao. Diamonds: the values that Zhang et al. [1] report."
    )
    bound, defocus = found.inputs.dose_bound, found.inputs.defocus_bound
    picture = Picture("dose", figures.dose_figure(dose, summary, bound), caption, "3D RMSD over dose with the bound and the threshold.")
    table = dose.group_by("dose_e_per_angstrom2", "window").agg(
        pl.len().alias("twins × frames"),
        pl.col("rmsd_3d_angstrom").median().alias("median 3D RMSD (Å)"),
        pl.col("succeeded").fill_null(False).mean().alias("share succeeded"),
        pl.col("recall").mean().alias("recall"),
        pl.col("precision").mean().alias("precision"),
    )
    if bound is not None:
        columns = {"bound_3d_angstrom": "bound, 3D (Å)", "image_alone_z_angstrom": "bound on z without prior (Å)"}
        table = table.join(bound.select("dose_e_per_angstrom2", *columns).rename(columns), on="dose_e_per_angstrom2", how="left")
    table = table.sort("dose_e_per_angstrom2", "window").rename({"dose_e_per_angstrom2": "dose (e/Å²)"})
    tables = [Table("The dose series.", table, "dose_series.csv")]
    if defocus is not None:
        best = defocus.sort("bound_z_angstrom").row(0, named=True)
        text += (
            f"By the bound, of the defoci in the table {best['defocus_angstrom']:.0f} Å tells most of the heights at this dose "
            f"({best['bound_z_angstrom']:.3f} Å).",
        )
        shown = defocus.rename(
            {"defocus_angstrom": "defocus (Å)", "bound_z_angstrom": "bound on z (Å)", "bound_xy_angstrom": "bound on x, y (Å)"}
        )
        tables.append(Table("What another defocus would have told.", shown, "defocus_bound.csv"))
    return Section("dose", "Dose threshold", text, tuple(tables), (picture,))


def _threshold_words(summary: dict[str, Any]) -> str:
    words = str(summary.get("text") or f"{summary['threshold_e_per_angstrom2']:.3g} e/Å²")
    return {"below": "at every dose tested: the threshold lies ", "above": "at no dose tested: the threshold lies "}.get(
        str(summary.get("position")), "from "
    ) + words


def truth_section(found: Findings) -> Section | None:
    """Errors against a known truth."""
    truth = found.inputs.truth
    if truth is None or truth.height == 0:
        return None
    error, sigma = (
        truth.select(pl.col(f"{what}_{axis}_angstrom").cast(pl.Float64).fill_null(np.nan) for axis in "xyz").to_numpy()
        for what in ("error", "sigma")
    )
    with_any = [k for k in range(3) if np.isfinite(error[:, k]).any()]
    rows = pl.DataFrame(
        {
            "axis": ["xyz"[k] for k in with_any],
            "rms error (Å)": [float(np.sqrt(np.nanmean(error[:, k] ** 2))) for k in with_any],
            "rms σ (Å)": [float(np.sqrt(np.nanmean(sigma[:, k] ** 2))) for k in with_any],
            "rms error / σ": [float(np.sqrt(np.nanmean((error[:, k] / sigma[:, k]) ** 2))) for k in with_any],
        }
    )
    caption = (
        "Errors against the truth in units of the stated σ, and the rms error found where a given σ was claimed. "
        "Honest σ: the normal law, the diagonal."
    )
    picture = Picture(
        "truth", figures.validation_figure(error, sigma), caption, "Histogram of error over sigma, and error found over sigma claimed."
    )
    return Section(
        "truth", "Against the truth", (f"{truth.height} atoms were matched with the truth.",), (Table("Errors.", rows),), (picture,)
    )


def failures_section(found: Findings) -> Section:
    """The failure ledger with its remedies."""
    failures = found.inputs.failures
    if failures is None or failures.height == 0:
        return Section("failures", "Failures", ("No frame failed.",))
    text = f"Rows in the failure ledger: {failures.height}. Frames do not depend on each other; the rest is not touched."
    shown = failures.sort("frame").head(FAILURES_SHOWN)
    return Section(
        "failures", "Failures", (text,), (Table(f"Failed frames and what to do{_cut(failures.height)}.", shown, "failures.csv"),)
    )


def _cut(total: int) -> str:
    return f" (the first {FAILURES_SHOWN} of {total})" if total > FAILURES_SHOWN else ""


def parameters_section(found: Findings, methods: tuple[str, ...]) -> Section:
    """Methods in words, and the parameters really used."""
    rows = [(stage, key, format_entry(value)) for stage, values in found.inputs.parameters.items() for key, value in values.items()]
    calibrated = {key: value for part in ("optics", "detector") for key, value in (found.inputs.calibration.get(part) or {}).items()}
    tables = []
    if rows:
        tables.append(Table("Parameters really used.", pl.DataFrame(rows, schema=["stage", "parameter", "value"], orient="row")))
    if calibrated:
        tables.append(Table("Calibrated optics and detector.", quantity_table(calibrated)))
    return Section("methods", "Methods", methods, tuple(tables))


def provenance_section(found: Findings) -> Section:
    """Versions, configuration and input hashes, seeds."""
    rows = []
    for key, value in found.inputs.provenance.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(key, str(name), format_entry(entry)) for name, entry in pairs]
    table = pl.DataFrame(rows, schema={"what": pl.String, "name": pl.String, "value": pl.String}, orient="row")
    return Section(
        "provenance", "Provenance", () if rows else ("Not recorded.",), (Table("Where this page comes from.", table),) if rows else ()
    )
