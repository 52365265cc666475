"""Figures of distributions, of courses over time and of curves over dose or wave number."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scant.analysis.ripples import RippleSpectrum
from scant.report.style import (
    BLACK,
    BLUE,
    FULL_WIDTH_INCH,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    new_figure,
    plain_log_ticks,
    say,
    styled,
)
from scant.units import BOLTZMANN_EV_PER_K

# Zhang et al., arXiv 2604.07271: 3D RMSD over dose per frame.
SOURCE_DOSE_E_PER_ANGSTROM2 = np.array([2300.0, 4600.0, 6400.0, 9100.0, 27000.0])
SOURCE_RMSD_ANGSTROM = np.array([1.50, 0.87, 0.54, 0.45, 0.33])
AXIS_COLOURS = {"x": BLUE, "y": ORANGE, "z": GREEN}
VERDICT_MARKS = {"stable": (GREEN, "o"), "unstable": (ORANGE, "s"), "failed": (RED, "X")}


def _numbers(table: pl.DataFrame, name: str) -> np.ndarray:
    """A column as floats, null as NaN; all NaN where the column is absent."""
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _time_axis(frames: pl.DataFrame) -> tuple[np.ndarray, str]:
    time = _numbers(frames, "time_ms")
    return (time, "time (ms)") if np.isfinite(time).any() else (_numbers(frames, "frame"), "frame")


@styled
def sigma_figure(sigma_angstrom: np.ndarray) -> Figure:
    """Distribution of the stated sigma (n, 3) of x, y, z with its median."""
    figure = new_figure(2.5)
    plane, height = figure.subplots(1, 2)
    for k, axis in enumerate("xyz"):
        panel = height if axis == "z" else plane
        values = sigma_angstrom[np.isfinite(sigma_angstrom[:, k]), k]
        if values.size == 0:
            say(panel, f"σ of {axis} not determined")
            continue
        top = np.percentile(values, 99.5)
        label = f"{axis}: median {np.median(values):.3f} Å"
        panel.hist(values, bins=60, range=(0, 1.05 * top), histtype="stepfilled", alpha=0.55, color=AXIS_COLOURS[axis], label=label)
        panel.set(xlabel="σ (Å)", ylabel="atoms")
        panel.legend(loc="upper right")
        panel.set_ylim(top=panel.get_ylim()[1] * 1.25)
    plane.set_title("a  in the plane")
    height.set_title("b  along the beam")
    return figure


@styled
def bond_figure(length_angstrom: np.ndarray, ideal_angstrom: float | None) -> Figure:
    """Distribution of bond lengths between estimated positions; the ideal length as a line."""
    figure = new_figure(2.8, 5.6)
    axes = figure.subplots()
    if length_angstrom.size == 0:
        say(axes, "no bonds found")
        return figure
    low, high = np.nanpercentile(length_angstrom, [0.2, 99.8])
    bins = np.linspace(low - 0.01, high + 0.01, 60).tolist()
    axes.hist(length_angstrom, bins, histtype="stepfilled", color=SKY, alpha=0.6, label=f"measured: {length_angstrom.mean():.3f} Å")
    if ideal_angstrom is not None:
        axes.axvline(ideal_angstrom, color=RED, linestyle="--", label=f"ideal lattice: {ideal_angstrom:.3f} Å")
    axes.set(xlabel="bond length (Å)", ylabel="bonds")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def ripple_spectrum_figure(spectrum: RippleSpectrum, temperature_k: float = 300.0, rigidity_ev: float = 1.6) -> Figure:
    """Height correlation spectrum of the estimates and the law of a free membrane for comparison."""
    figure = new_figure(3.2, 5.6)
    axes = figure.subplots()
    q, power = spectrum.q_per_angstrom, spectrum.power_angstrom4
    shown = np.isfinite(power) & (power > 0)
    if not shown.any():
        say(axes, "no wave fits into the field of view")
        return figure
    error = spectrum.sigma_power_angstrom4[shown]
    lower = np.minimum(error, 0.9 * power[shown])
    axes.errorbar(q[shown], power[shown], [lower, error], fmt="o", color=BLUE, markersize=3.5, linewidth=0.9, label="measured")
    law = BOLTZMANN_EV_PER_K * temperature_k / (rigidity_ev * q[shown] ** 4)
    axes.plot(q[shown], law, color=RED, linewidth=1.0, label=f"k$_B$T / κq⁴ (κ = {rigidity_ev:g} eV, {temperature_k:g} K)")
    axes.set(xscale="log", yscale="log", xlabel="wave number q (Å⁻¹)", ylabel="G(q) = A ⟨|h(q)|²⟩ (Å⁴)")
    axes.set_ylim(0.3 * power[shown].min(), 4 * max(power[shown].max(), law.max()))
    plain_log_ticks(axes.xaxis)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def drift_figure(frames: pl.DataFrame, pixel_size_angstrom: float) -> Figure:
    """Drift over time, and its track in the plane."""
    figure = new_figure(2.7)
    course, track = figure.subplots(1, 2, width_ratios=[1.7, 1])
    time, label = _time_axis(frames)
    x, y = (_numbers(frames, f"drift_{axis}_px") * pixel_size_angstrom for axis in "xy")
    if not np.isfinite(x).any():
        say(course, "drift not measured")
        say(track, "")
        return figure
    sigma = _numbers(frames, "drift_sigma_px") * pixel_size_angstrom
    # a frame between aligned ones that could not be aligned itself: nothing is known of it, and the band has a gap
    sigma = np.where(np.isfinite(sigma), sigma, np.nan)
    for axis, values in (("x", x), ("y", y)):
        course.fill_between(time, values - sigma, values + sigma, color=AXIS_COLOURS[axis], alpha=0.25, linewidth=0)
        course.plot(time, values, color=AXIS_COLOURS[axis], label=axis)
    course.set(xlabel=label, ylabel="drift (Å)", title="a  over time")
    course.legend(loc="best", ncols=2)
    points = track.scatter(x, y, c=time, cmap="cividis", s=9, zorder=2)
    track.plot(x, y, color="0.7", linewidth=0.7, zorder=1)
    track.set(xlabel="x (Å)", ylabel="y (Å)", title="b  track")
    track.set_aspect("equal", adjustable="datalim")
    figure.colorbar(points, ax=track, label=label)
    return figure


@styled
def quality_figure(frames: pl.DataFrame) -> Figure:
    """How well each frame was explained and sampled: correlation, reduced chi^2, r-hat, acceptance."""
    wanted = (
        ("correlation", "correlation", None, BLUE),
        ("reduced_chi2", "reduced χ²", 1.0, ORANGE),
        ("r_hat", "r̂", 1.0, PURPLE),
        ("acceptance", "acceptance", None, GREEN),
    )
    figure = new_figure(4.2)
    panels = figure.subplots(4, 1, sharex=True)
    time, label = _time_axis(frames)
    bad = np.array([s != "ok" for s in frames["status"]]) if "status" in frames.columns else np.zeros(frames.height, dtype=bool)
    for panel, (name, title, ideal, colour) in zip(panels, wanted):
        values = _numbers(frames, name)
        panel.set_ylabel(title)
        panel.yaxis.set_major_locator(MaxNLocator(3))
        if not np.isfinite(values).any():
            panel.text(0.5, 0.5, "not determined", transform=panel.transAxes, ha="center", va="center", color=GREY)
            continue
        if ideal is not None:
            panel.axhline(ideal, color=GREY, linewidth=0.8, linestyle=":")
        panel.plot(time, values, ".-", color=colour, markersize=4 if frames.height < 200 else 1, linewidth=0.8)
        _mark_frames(panel, time[bad])
    panels[-1].set_xlabel(label + (" (grey: failed frames)" if bad.any() else ""))
    figure.align_ylabels(panels)
    return figure


def _mark_frames(panel: Axes, time: np.ndarray) -> None:
    for t in time:
        panel.axvline(t, color="0.8", linewidth=2.0, zorder=0)


@styled
def energy_figure(energy: np.ndarray, n_annealed: int = 0) -> Figure:
    """Energy (chains, moves) of one frame: the first n_annealed moves, on the mean of its neighbours, apart from those on the frame."""
    figure = new_figure(2.7, FULL_WIDTH_INCH if n_annealed else 5.0)
    panels = figure.subplots(1, 2 if n_annealed else 1, squeeze=False, width_ratios=[1, 1.7] if n_annealed else None)[0]
    parts = [(n_annealed, energy.shape[1], "sampling of the frame")]
    if n_annealed:
        parts = [(0, n_annealed, "a  search on the mean"), (n_annealed, energy.shape[1], "b  sampling of the frame")]
    for panel, (first, stop, title) in zip(panels, parts):
        level = energy[:, (first + stop) // 2 : stop].mean()
        for k, chain in enumerate(energy[:, first:stop]):
            label = f"chain {k + 1}" if k < 6 else None
            panel.plot(
                np.arange(first, stop), chain - level, color=(BLUE, ORANGE, GREEN, PURPLE, SKY, RED)[k % 6], linewidth=1.0, label=label
            )
        panel.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
        panel.set(xlabel="move", title=title)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels[0].set_ylabel("energy (k$_B$T) above its later mean")
    panels[-1].legend(loc="upper right", ncols=2)
    return figure


@styled
def md_figure(md: pl.DataFrame) -> Figure:
    """The judge's verdict per frame: displacement and energy in molecular dynamics, marked by verdict."""
    figure = new_figure(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    verdict = md["verdict"].to_numpy()
    frame = _numbers(md, "frame")
    for panel, name, label in (
        (top, "rms_displacement_angstrom", "rms displacement (Å)"),
        (bottom, "energy_per_atom_ev", "energy (eV/atom)"),
    ):
        values = _numbers(md, name)
        if not np.isfinite(values).any():
            panel.text(0.5, 0.5, "not determined", transform=panel.transAxes, ha="center", va="center", color=GREY)
        for kind, (colour, mark) in VERDICT_MARKS.items():
            chosen = verdict == kind
            panel.scatter(frame[chosen], values[chosen], c=colour, marker=mark, s=16, label=f"{kind} ({chosen.sum()})")
        panel.set_ylabel(label)
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    bottom.set_xlabel("frame")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels([top, bottom])
    return figure


@styled
def dose_figure(dose: pl.DataFrame, summary: dict[str, Any] | None = None, bound: pl.DataFrame | None = None) -> Figure:
    """3D RMSD over dose: every twin, their median with and without the window, the bound, the source's points, the threshold's interval."""
    figure = new_figure(3.7, 5.4)
    axes = figure.subplots()
    for window in dose["window"].unique().sort().to_list()[:-1]:
        alone = dose.filter(window=window).group_by("dose_e_per_angstrom2").agg(pl.col("rmsd_3d_angstrom").median())
        alone = alone.sort("dose_e_per_angstrom2")
        axes.plot(*alone.to_numpy().T, "s--", color=GREY, markersize=3, linewidth=1.0, label=f"median, window {window}", zorder=2)
    dose = dose.filter(window=dose["window"].max())
    if bound is not None:
        axes.plot(bound["dose_e_per_angstrom2"], bound["bound_3d_angstrom"], "-.", color=GREEN, linewidth=1.2, label="bound", zorder=2)
    good = dose["succeeded"].fill_null(False).to_numpy()
    d, rmsd = _numbers(dose, "dose_e_per_angstrom2"), _numbers(dose, "rmsd_3d_angstrom")
    axes.scatter(d[good], rmsd[good], s=12, color=SKY, alpha=0.8, label="twins", zorder=3)
    axes.scatter(d[~good], rmsd[~good], s=18, color=RED, marker="x", linewidths=1.1, label="failed twins", zorder=3)
    levels = np.unique(d)
    medians = [np.nanmedian(rmsd[d == level]) if np.isfinite(rmsd[d == level]).any() else np.nan for level in levels]
    axes.plot(levels, medians, "o-", color=BLUE, markersize=4.5, label="median", zorder=4)
    axes.plot(SOURCE_DOSE_E_PER_ANGSTROM2, SOURCE_RMSD_ANGSTROM, "D--", color=BLACK, markersize=4, linewidth=1.0, label="Zhang et al.")
    criterion = (summary or {}).get("criterion_angstrom", 0.87)
    axes.axhline(criterion, color=GREY, linestyle=":", linewidth=1.0)
    axes.annotate(f"criterion {criterion:g} Å", (1.0, criterion), (-2, 3), xycoords=("axes fraction", "data"),
                  textcoords="offset points", color=GREY, fontsize=8, ha="right")  # fmt: skip
    low, high = (summary or {}).get("low_e_per_angstrom2"), (summary or {}).get("high_e_per_angstrom2")
    if low and high:
        axes.axvspan(low, high, color=GREEN, alpha=0.18, linewidth=0, label="threshold, 95 % interval")
    axes.set(xscale="log", yscale="log", xlabel="dose per frame (e/Å²)", ylabel="3D RMSD (Å)")
    plain_log_ticks(axes.yaxis)
    lowest = np.empty(0) if bound is None else bound["bound_3d_angstrom"].to_numpy()
    everything = np.concatenate([rmsd[np.isfinite(rmsd)], SOURCE_RMSD_ANGSTROM, lowest])
    axes.set_ylim(0.8 * everything.min(), 1.35 * everything.max())
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def validation_figure(error_angstrom: np.ndarray, sigma_angstrom: np.ndarray) -> Figure:
    """Against the truth: error / sigma (n, 3) beside the normal law, and the rms error found where a sigma was claimed."""
    figure = new_figure(2.9)
    pulls, honesty = figure.subplots(1, 2)
    grid = np.linspace(-4.5, 4.5, 200)
    top = 0.0
    for k, axis in enumerate("xyz"):
        known = np.isfinite(error_angstrom[:, k]) & (sigma_angstrom[:, k] > 0)
        if not known.any():
            continue
        error, sigma = error_angstrom[known, k], sigma_angstrom[known, k]
        pull = error / sigma
        label = f"{axis}: rms {np.sqrt(np.mean(pull**2)):.2f}"
        pulls.hist(pull, 45, range=(-4.5, 4.5), density=True, histtype="step", color=AXIS_COLOURS[axis], label=label, linewidth=1.2)
        groups = np.array_split(np.argsort(sigma, kind="stable"), max(min(8, error.size // 50), 1))
        claimed = [np.sqrt(np.mean(sigma[g] ** 2)) for g in groups]
        found = [np.sqrt(np.mean(error[g] ** 2)) for g in groups]
        honesty.plot(claimed, found, "o-", color=AXIS_COLOURS[axis], label=axis, markersize=4)
        top = max(top, *claimed, *found)
    pulls.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color=BLACK, linewidth=1.0, linestyle="--", label="normal law")
    pulls.set(xlabel="error / σ", ylabel="density", title="a  pulls")
    pulls.set_ylim(top=pulls.get_ylim()[1] * 1.35)
    pulls.legend(loc="upper left", ncols=2)
    limit = 1.15 * (top or 1.0)
    honesty.plot([0, limit], [0, limit], color=BLACK, linewidth=0.8, linestyle="--")
    honesty.set(xlabel="claimed σ (Å)", ylabel="rms error found (Å)", title="b  claimed and found", xlim=(0, limit), ylim=(0, limit))
    honesty.legend(loc="upper left")
    return figure


@styled
def intensity_figure(measured_e: np.ndarray, simulated_e: np.ndarray, kl_divergence_nat: float | None = None) -> Figure:
    """Intensity histograms of the measured and the simulated frame on common bins."""
    figure = new_figure(2.6, 5.0)
    axes = figure.subplots()
    measured, simulated = (values[np.isfinite(values)].ravel() for values in (measured_e, simulated_e))
    low, high = np.percentile(np.concatenate([measured, simulated]), [0.05, 99.95])
    bins = np.linspace(low, high, 90).tolist()
    axes.hist(measured, bins, density=True, histtype="stepfilled", color=SKY, alpha=0.6, label="measured")
    axes.hist(simulated, bins, density=True, histtype="step", color=BLACK, linewidth=1.2, label="simulated")
    axes.set(xlabel="intensity (e per pixel)", ylabel="density")
    axes.legend(loc="upper right", title=None if kl_divergence_nat is None else f"KL divergence {kl_divergence_nat:.4f} nat")
    return figure


@styled
def ripple_course_figure(ripples: pl.DataFrame, times_ms: np.ndarray | None = None) -> Figure:
    """rms height of the sheet per frame with its sigma."""
    figure = new_figure(2.2)
    axes = figure.subplots()
    rms, sigma = _numbers(ripples, "rms_height_angstrom"), _numbers(ripples, "sigma_rms_height_angstrom")
    if not np.isfinite(rms).any():
        say(axes, "heights not determined")
        return figure
    x = _numbers(ripples, "frame") if times_ms is None else times_ms
    axes.fill_between(x, rms - sigma, rms + sigma, color=GREEN, alpha=0.3, linewidth=0)
    axes.plot(x, rms, color=GREEN, marker="." if len(x) < 200 else "")
    axes.set(xlabel="frame" if times_ms is None else "time (ms)", ylabel="rms height (Å)")
    axes.set_ylim(bottom=0)
    return figure


@styled
def displacement_figure(displacements: pl.DataFrame, frame_time_ms: float | None = None) -> Figure:
    """Mean squared displacement over the lag, with what noise alone adds, and the height correlation."""
    figure = new_figure(2.7)
    left, right = figure.subplots(1, 2)
    if displacements.height == 0:
        say(left, "no atom was seen in two frames")
        say(right, "")
        return figure
    lag = _numbers(displacements, "lag") * (frame_time_ms or 1.0)
    label = "lag (frames)" if frame_time_ms is None else "lag (ms)"
    for name, title, colour in (("xy", "in the plane", BLUE), ("z", "along z", GREEN)):
        left.plot(lag, _numbers(displacements, f"msd_{name}_angstrom2"), "o-", color=colour, markersize=4, label=title)
        left.plot(lag, _numbers(displacements, f"noise_{name}_angstrom2"), color=colour, linestyle="--", linewidth=0.9)
    left.set(xlabel=label, ylabel="mean squared displacement (Å²)", xscale="log", yscale="log", title="a  displacement (dashed: noise)")
    left.legend(loc="best")
    shown = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in left.lines])
    shown = shown[shown > 0]
    if shown.size:
        left.set_ylim(0.5 * shown.min(), 2 * shown.max())
    correlation = _numbers(displacements, "z_correlation")
    if np.isfinite(correlation).any():
        right.axhline(0, color=GREY, linewidth=0.8)
        right.plot(lag, correlation, "o-", color=GREEN, markersize=4)
        right.set(xlabel=label, ylabel="correlation of heights", xscale="log", title="b  memory of the ripple", ylim=(-1.05, 1.05))
        plain_log_ticks(right.xaxis)
    else:
        say(right, "heights not determined")
    plain_log_ticks(left.xaxis)
    plain_log_ticks(left.yaxis)
    return figure
