"""The results: images and calibration, structure, strain and curvature; each takes the findings and returns a Section, or None."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from scant.analysis.bonds import bond_angles_deg
from scant.analysis.curvature import FrameCurvature, frame_curvature
from scant.analysis.neighbours import FrameAtoms, geometric_positions
from scant.analysis.ripples import spectrum_of_table
from scant.analysis.strain import COMPONENTS, FrameStrain, frame_strain
from scant.report import figures
from scant.report.findings import Findings
from scant.report.methods import potential_name
from scant.report.page import Picture, Section
from scant.report.tables import format_estimate, format_number

# A spectrum that differs by less is white for every purpose.
WHITE_WITHIN = 0.02


def images_section(found: Findings) -> Section | None:
    """Raw, corrected and model image; intensity histogram; drift."""
    pictures = []
    example = found.inputs.example
    pixel = found.inputs.calibration.get("pixel_size_angstrom") or (example.pixel_size_angstrom if example else 1.0)
    if example is not None:
        atoms = found.shown if found.shown is not None and found.shown.frame == example.frame else None
        what = (
            "and, on the same grey scale, the image of the reconstructed structure with its atoms, coloured by height as below"
            if example.model_e is not None
            else "(no model image)"
        )
        draw = partial(figures.frame_triptych, example.raw_adu, example.corrected_e, example.model_e, pixel, atoms)
        caption = f"Frame {example.frame}: raw counts (ADU), the corrected image (electrons per pixel) {what}."
        pictures.append(
            Picture("frame", draw, caption, f"Frame {example.frame} raw, corrected and as simulated from the structure, side by side.")
        )
        if example.residual_sigma is not None:
            caption = (
                f"What the model of frame {example.frame} leaves of the counts, in units of the noise. A true model leaves noise alone; an "
                "atom that is missing, or is not there, stands out in b, and rings around all of them are optics that do not fit."
            )
            draw = partial(figures.residual_figure, example.residual_sigma, pixel)
            alternative = "Map of the residual per pixel, map of its mean over 1 Å, and both distributions beside the normal law."
            pictures.append(Picture("residual", draw, caption, alternative))
    if found.inputs.histograms is not None:
        kl = found.inputs.calibration.get("kl_divergence")
        caption = "Intensities of one frame, measured, and simulated from its structure with the calibrated noise." + (
            "" if kl is None else f" Their Kullback–Leibler divergence is {kl:.4f} nat."
        )
        draw = partial(figures.intensity_figure, *found.inputs.histograms, kl)
        pictures.append(Picture("intensity", draw, caption, "Histogram of measured intensities overlaid with the simulated ones."))
    frames = found.inputs.frames
    if "drift_x_px" in frames.columns and frames["drift_x_px"].null_count() < frames.height:
        caption = f"Drift of the sample from the first frame on, with one σ as a band; pixel size {format_number(pixel)} Å."
        draw = partial(figures.drift_figure, frames, pixel)
        pictures.append(Picture("drift", draw, caption, "Drift in x and y over time, and its track in the plane."))
    if not pictures:
        return None
    return Section("images", "Images and calibration", "results", _calibration_words(found), pictures=tuple(pictures))


def _references_used(calibration: dict[str, Any], detector: dict[str, Any]) -> str:
    """Which references the correction had: without them offsets count as dose, and fixed gains stay in the images."""
    no_dark = any(line.startswith("no dark") for line in calibration.get("missing", ()))
    flat = "flat field" if detector.get("flat", "reference") == "reference" else "uneven illumination (no flat: pixel gains stay in)"
    return f"{'nothing for the dark (none was given: an offset counts as dose)' if no_dark else 'offset'}, {flat}"


def _calibration_words(found: Findings) -> tuple[str, ...]:
    """What was recorded, how it was corrected and which optics were found, as far as the calibration knows."""
    known, detector, optics = found.inputs.calibration, found.calibrated("detector"), found.calibrated("optics")
    text = [f"The movie has {format_number(known.get('n_frames', found.inputs.frames.height))} frames"]
    if "width_px" in known:
        text.append(f" of {known['width_px']} × {known['height_px']} px")
    if known.get("frame_time_ms"):
        text.append(f", {format_number(known['frame_time_ms'])} ms each")
    if known.get("pixel_size_angstrom"):
        text.append(f", at {format_estimate(known['pixel_size_angstrom'], known.get('sigma_pixel_size_angstrom'), 'Å')} per pixel")
    sentences = ["".join(text) + "."]
    if "gain_adu_per_electron" in detector:
        bad, gain, read, excess = (
            format_number(detector.get(key)) for key in ("n_bad_pixels", "gain_adu_per_electron", "read_noise_e", "excess_noise")
        )
        sentences.append(
            f"They were corrected for {_references_used(known, detector)} and {bad} bad pixels; the gain is {gain} ADU per electron, the "
            f"read noise {read} electrons, the variance {excess} times that of counting."
        )
        if abs(detector.get("signal_noise", 1.0) - 1) > WHITE_WITHIN:
            sentences.append(
                f"The camera's noise is not white: at the lattice's reflections it has {format_number(detector['signal_noise'])} times the "
                "power of white noise of that variance, and all errors are for that."
            )
    if "defocus_angstrom" in optics:
        frames = found.used("calibrate").get("optics_frames")
        where = f" on {min(frames, found.inputs.frames.height)} frames" if frames else ""
        defocus, spread = (
            format_estimate(optics.get(key), optics.get(f"sigma_{key}"), "Å") for key in ("defocus_angstrom", "focal_spread_angstrom")
        )
        sentences.append(
            f"Optics at {format_number(optics.get('voltage_kv'))} kV were fitted{where}: defocus {defocus} (underfocus is positive), "
            f"focal spread {spread}."
        )
    return (" ".join(sentences),)


def structure_section(found: Findings) -> Section | None:
    """Heights, sigma and bond lengths."""
    atoms = found.shown
    if atoms is None:
        return Section("structure", "Structure", "results", ("No frame was reconstructed; the failures below say why.",))
    pictures = []
    n = len(found.sample)
    if found.heights:
        caption = f"Frame {atoms.frame}: height of every atom above the mean of all, tilt included, and the uncertainty stated for it."
        draw = partial(figures.height_figure, atoms, found.pairs_of(atoms.frame))
        pictures.append(Picture("heights", draw, caption, "Map of atomic heights and map of their uncertainty."))
    sigma = found.clean_sigma_angstrom
    caption = f"Stated σ of the positions, {format_number(len(sigma))} atoms of {n} frames; atoms with a flag (edge, defect) left out."
    pictures.append(Picture("sigma", partial(figures.sigma_figure, sigma), caption, "Histograms of sigma of x, y and z."))
    caption = f"Bonds (pairs closer than 1.85 Å) and the angles between them in {n} frames; dashed: the ideal lattice. " + (
        "They are those of posterior means, which are smoother than the sheet: thermal motion is narrower here than in a snapshot."
        if found.heights
        else "Without heights these are lengths and angles in the plane."
    )
    length, sigma_length = (found.bonds[name].to_numpy() for name in ("length_angstrom", "sigma_length_angstrom"))
    angles = [bond_angles_deg(geometric_positions(frame), found.pairs_of(frame.frame)) for frame in found.sample]
    draw = partial(figures.bond_figure, length, sigma_length, np.concatenate(angles), found.lattice_angstrom / np.sqrt(3))
    pictures.append(Picture("bonds", draw, caption, "Histograms of bond lengths and bond angles beside those of the ideal lattice."))
    return Section("structure", "Structure", "results", _annealing_words(found), pictures=tuple(pictures))


def _annealing_words(found: Findings) -> tuple[str, ...]:
    """How the positions came about, with the parameters used."""
    used = found.used("anneal")
    if not found.heights:
        return ("Positions are local fits in the plane of the image; no heights were sought.",)
    wanted = ("n_chains", "n_temperatures", "tau_start", "burn_in", "n_samples", "potential", "temperature_k")
    if not all(key in used for key in wanted):
        return ()
    linked = (
        f"The neighbouring frames' ripples, sampled as often on their mean, enter as a link with at least "
        f"{format_number(used['motion_angstrom'])} Å of motion between frames. "
        if found.linked
        else ""
    )
    return (
        f"Each frame was annealed in {used['n_chains']} chains: {used['n_temperatures']} temperatures from τ = "
        f"{format_number(used['tau_start'])} down on the mean of the neighbouring frames, then, on the frame itself at τ = 1, "
        f"{used['burn_in']} moves that are not counted and up to {used['n_samples']} that are. {linked}The prior is the "
        f"{potential_name(used['potential'])} potential at {format_number(used['temperature_k'])} K. Heights are relative to the "
        "mean of each frame's atoms, tilt included.",
    )


def _sheet(found: Findings, atoms: FrameAtoms) -> tuple[FrameStrain, FrameCurvature]:
    """Strain and curvature of a frame, with the sigmas of surface.parquet where there is one: those know how errors are correlated."""
    strain = frame_strain(atoms, found.lattice_angstrom)
    curvature = frame_curvature(atoms)
    if found.inputs.surface is None:
        return strain, curvature
    rows = found.inputs.surface.filter(frame=atoms.frame).sort("id").collect()
    known = {name: rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in rows.columns}
    if not np.array_equal(rows["id"].to_numpy(), atoms.ids):
        return strain, curvature
    return (
        replace(strain, sigma_eps=np.stack([known[f"sigma_eps_{component}"] for component in COMPONENTS], axis=1)),
        replace(
            curvature,
            sigma_mean_per_angstrom=known["sigma_mean_per_angstrom"],
            sigma_gaussian_per_angstrom2=known["sigma_gaussian_per_angstrom2"],
        ),
    )


def mechanics_section(found: Findings) -> Section | None:
    """Strain, curvature, ripple spectrum."""
    atoms = found.shown
    if atoms is None:
        return None
    pairs = found.pairs_of(atoms.frame)
    caption = (
        f"Frame {atoms.frame}: in-plane strain against an ideal lattice with a = {found.lattice_angstrom:g} Å, turned to the mean "
        "lattice. Empty rings: atoms whose neighbours are not all in view."
    )
    strain, curvature = _sheet(found, atoms)
    draw = partial(figures.strain_figure, atoms, strain, pairs)
    pictures = [Picture("strain", draw, caption, "Maps of the strain components xx, yy and xy.")]
    if found.heights:
        caption = (
            f"Frame {atoms.frame}: mean and Gaussian curvature from a quadric through the atoms within 4.5 Å; "
            "domes have H < 0. Empty rings: σ more than three times the median."
        )
        draw = partial(figures.curvature_figure, atoms, curvature, pairs)
        pictures.append(Picture("curvature", draw, caption, "Maps of mean and Gaussian curvature."))
    spectrum = spectrum_of_table(found.sample_table)
    if spectrum is not None:
        caption = (
            f"Height correlation spectrum of {spectrum.n_frames} frames with standard errors. Posterior means are smoother than the "
            "sheet: at short waves the points are lower bounds. Line: a free harmonic membrane with the rigidity of graphene [9]."
        )
        draw = partial(figures.ripple_spectrum_figure, spectrum, found.used("anneal").get("temperature_k", 300.0))
        pictures.append(Picture("ripples", draw, caption, "Ripple power over wave number with a comparison law."))
    title = "Strain and curvature" if found.heights else "Strain"
    return Section("mechanics", title, "results", _rigidity_words(found), pictures=tuple(pictures))


def _rigidity_words(found: Findings) -> tuple[str, ...]:
    known = found.rigidity
    if known is None:
        return ()
    interval = f" (95 % interval {known.low_ev:.3g} to {known.high_ev:.3g} eV)" if np.isfinite(known.low_ev) else " (no interval)"
    return (
        f"From the ripples in samples of the posterior of {known.n_frames} frames, at wave numbers up to 0.7 Å⁻¹, the bending rigidity is "
        f"{known.kappa_ev:.3g} eV{interval}; the prior shapes it.",
    )


def view_section(found: Findings, n_frames: int) -> Section:
    """The place of the 3D view."""
    shown = f"{n_frames} frames, evenly spread over those that count" if n_frames < found.good_frames.size else "All frames that count"
    text = f"{shown}, to turn and to step through. Everything reacts to the keyboard and to touch."
    return Section("view", "The sheet in three dimensions" if found.heights else "The sheet", "results", (text,), viewer=True)
