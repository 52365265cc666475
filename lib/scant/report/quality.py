"""Whether the numbers may be trusted: gates of the calibration, convergence, molecular dynamics, and errors against a known truth."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl

from scant.report import figures
from scant.report.findings import Findings
from scant.report.methods import potential_name
from scant.report.page import Picture, Section, Table
from scant.report.tables import ROWS_SHOWN, cut_words, format_number, share_words, spread_words

ADVICE = {
    "pixel size against the lattice": "The stated pixel size and the lattice disagree: check pixel_size_angstrom and the material.",
    "dose against nominal": "The counts say another dose than the one stated: check gain, dark (an offset counts as dose) and dose.",
    "highest noise over the weakest reflection": "The lattice may be chance: average more frames.",
    "anisotropy of the lattice": "The lattice is stretched in one direction: tilt, or a camera whose pixels are not square.",
    "defocus against nominal": "The fitted defocus is far from the stated one: check defocus_angstrom, cs_um, voltage_kV, signs, units.",
    "contrast scale less 1, absolute": "The images have another contrast than the stated optics give: check defocus_angstrom, cs_um, "
    "their signs and units, and the aperture.",
    "reduced χ² less 1, absolute": "The images scatter about the model by more than the noise: fixed pixel gains where no flat was "
    "recorded, optics left out, or matter beside the crystal. The noise was taken to be so much larger, so that σ covers it.",
    "KL divergence of intensities": "Simulated and measured intensities are distributed differently: look at their histograms.",
}


def gates_section(found: Findings) -> Section:
    """The gates of the calibration with what came of them."""
    gates = tuple(found.inputs.calibration.get("gates", ()))
    if not gates:
        return Section("gates", "Quality gates", "gates", ("No gate of the calibration is known.",))
    failed = [str(gate["name"]) for gate in gates if not gate["passed"]]
    words = f"Failed: {', '.join(failed)}; numbers that depend on them need care." if failed else "None failed."
    advice = tuple(ADVICE[name] for name in failed if name in ADVICE)
    text = (f"Gates passed: {len(gates) - len(failed)} of {len(gates)}. {words}", *advice)
    return Section("gates", "Quality gates", "gates", text, gates=gates)


def convergence_section(found: Findings) -> Section | None:
    """Correlation, chi^2, r-hat and acceptance per frame; the annealing of one frame."""
    frames = found.inputs.frames
    pictures = []
    known = [name for name in ("correlation", "reduced_chi2", "r_hat", "acceptance") if name in frames.columns]
    if any(frames[name].null_count() < frames.height for name in known):
        caption = (
            "Agreement of model and frame (a, correlation; b, reduced χ², 1 where the model explains the counts to within their noise) and "
            "convergence of the sampling (c, r̂, 1 where each chain saw the whole posterior; d, share of moves accepted)."
        )
        pictures.append(Picture("quality", partial(figures.quality_figure, frames), caption, "Four quality measures over time."))
    if found.inputs.energy is not None:
        n_burn_in = int(found.used("anneal").get("burn_in", 0))
        draw = partial(figures.energy_figure, found.inputs.energy, found.n_annealed, n_burn_in)
        caption = (
            "Energy of the chains of one frame: a, annealing from τ > 1, and sampling for the link, on the mean of the neighbouring "
            "frames; b, sampling of the frame's own posterior, about the mean of the moves that count. Grey: moves that do not count."
        )
        pictures.append(Picture("energy", draw, caption, "Energy over the moves of the search and of the sampling, a line per chain."))
    return Section("quality", "Convergence", "gates", _convergence_words(frames), pictures=tuple(pictures)) if pictures else None


def _convergence_words(frames: pl.DataFrame) -> tuple[str, ...]:
    if "converged" not in frames.columns or frames["converged"].drop_nulls().is_empty():
        return ()
    judged = frames["converged"].drop_nulls()
    text = f"Frames converged: {share_words(int(judged.sum()), len(judged))}. The chains' mean heights must agree to 0.3 Å rms."
    r_hat = _known(frames, "r_hat")
    if r_hat.size:
        text += f" r̂, which asks for more, has a median of {np.median(r_hat):.2f} and is {r_hat.max():.2f} at most."
    motion = _known(frames, "motion_angstrom")
    if motion.size:
        text += (
            f" Against the frames that they are linked to, heights were taken to move by {np.median(motion):.2f} Å rms "
            f"({motion.min():.2f} to {motion.max():.2f} Å): the least assumed, or what a frame's own image asks for."
        )
    return (text + " Frames that did not converge are kept out of all headline numbers.",)


def md_section(found: Findings) -> Section | None:
    """Verdicts of molecular dynamics."""
    md = found.inputs.md
    if md is None or md.height == 0:
        return None
    doubtful = md.filter(pl.col("verdict") != "stable")
    wanted = ["frame", "verdict", "reason", "rms_displacement_angstrom", "bonds_broken", "bonds_formed"]
    rows = doubtful.select([name for name in wanted if name in md.columns]).head(ROWS_SHOWN)
    caption = f"Structures that molecular dynamics did not confirm{cut_words(doubtful.height)}."
    tables = (Table(caption, rows, "md_unconfirmed.csv"),) if rows.height else ()
    caption = "a, displacement from the reconstructed structure and, b, energy in molecular dynamics, by verdict."
    picture = Picture(
        "md", partial(figures.md_figure, md), caption, "Displacement and energy per frame, marked stable, unstable or failed."
    )
    return Section("md", "Validation by molecular dynamics", "gates", _md_words(found, md), tables, (picture,))


def _md_words(found: Findings, md: pl.DataFrame) -> tuple[str, ...]:
    used, prior = found.used("validate"), found.used("anneal").get("potential")
    text = "Each structure was put into molecular dynamics (LAMMPS [6])"
    if {"potential", "length_ps", "temperature_k"} <= set(used):
        length, temperature = format_number(used["length_ps"]), format_number(used["temperature_k"])
        text += f": {length} ps at {temperature} K with the {potential_name(used['potential'])} potential"
        text += (", the prior's own" if prior == used["potential"] else ", another than the prior's") if prior else ""
    counts = {str(verdict): count for verdict, count in md.group_by("verdict").len().iter_rows()}
    text += f". Stable: {share_words(counts.pop('stable', 0), md.height)}"
    text += "".join(f"; {verdict}: {count}" for verdict, count in sorted(counts.items())) + "."
    moved = _known(md, "rms_displacement_angstrom")
    if moved.size:
        text += f" The rms displacement is {spread_words(moved, 'Å')}."
    return (text,)


def _known(table: pl.DataFrame, column: str) -> np.ndarray:
    return table[column].drop_nulls().cast(pl.Float64).to_numpy() if column in table.columns else np.empty(0)


def truth_section(found: Findings) -> Section | None:
    """Errors against a known truth."""
    truth = found.inputs.truth
    if truth is None or truth.height == 0:
        return None
    error, sigma = (
        truth.select(pl.col(f"{what}_{axis}_angstrom").cast(pl.Float64).fill_null(np.nan) for axis in "xyz").to_numpy()
        for what in ("error", "sigma")
    )
    caption = (
        "Errors against the truth: a, in units of the stated σ, beside the normal law that honest ones follow; b, the rms error found "
        "where a given σ was claimed, with one σ of its own; honest claims lie on the diagonal."
    )
    seen = "Histogram of error over sigma, and error found over sigma claimed."
    picture = Picture("truth", partial(figures.validation_figure, error, sigma), caption, seen)
    table = Table("Errors by axis; ± is a standard error over frames.", _error_rows(truth, error, sigma), "errors.csv")
    return Section("truth", "Against the truth", "gates", _truth_words(found, truth), (table,), (picture,))


def _truth_words(found: Findings, truth: pl.DataFrame) -> tuple[str, ...]:
    text = (
        f"{format_number(truth.height)} atoms were matched with the truth, within 0.7 Å in the plane; atoms within 3 Å of the edge are "
        "not scored."
    )
    scores = found.inputs.truth_scores
    if scores is not None and scores.height:
        recall, precision, rmsd = (_known(scores, name) for name in ("recall", "precision", "rmsd_3d_angstrom"))
        text += (
            f" Over {scores.height} frames {100 * recall.mean():.4g} % of the true atoms were found, {100 * precision.mean():.4g} % of "
            "those found are true."
        )
        text += f" The 3D RMSD is {spread_words(rmsd[np.isfinite(rmsd)], 'Å')}." if np.isfinite(rmsd).any() else ""
    return (text,)


def _error_rows(truth: pl.DataFrame, error: np.ndarray, sigma: np.ndarray) -> pl.DataFrame:
    """Mean and rms error, rms sigma and rms error / sigma of each axis that is known; the last with its standard error over frames."""
    frames = truth["frame"].to_numpy() if "frame" in truth.columns else np.zeros(truth.height)
    rows = []
    for k in (k for k in range(3) if np.isfinite(error[:, k]).any()):
        e, s = error[:, k], sigma[:, k]
        by_frame = np.array([np.sqrt(np.nanmean((e[frames == f] / s[frames == f]) ** 2)) for f in np.unique(frames)])
        rows.append(
            {
                "axis": "xyz"[k],
                "mean error (Å)": round(float(np.nanmean(e)), 6) + 0.0,
                "rms error (Å)": float(np.sqrt(np.nanmean(e**2))),
                "rms σ (Å)": float(np.sqrt(np.nanmean(s**2))),
                "rms error / σ": float(np.sqrt(np.nanmean((e / s) ** 2))),
                "±": float(by_frame.std(ddof=1) / np.sqrt(by_frame.size)) if by_frame.size > 1 else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)
