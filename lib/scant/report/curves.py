"""Figures of one quantity over another: over dose, wave number, lag, time, and over the sigma that was claimed."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from scant.analysis.ripples import RippleSpectrum
from scant.report.distributions import AXIS_COLOURS, numbers
from scant.report.style import BLACK, BLUE, GREEN, GREY, RED, SKY, one_panel, plain_log_ticks, row_of_panels, say, styled
from scant.units import BOLTZMANN_EV_PER_K

# Zhang et al., arXiv 2604.07271: 3D RMSD over dose per frame.
SOURCE_DOSE_E_PER_ANGSTROM2 = np.array([2300.0, 4600.0, 6400.0, 9100.0, 27000.0])
SOURCE_RMSD_ANGSTROM = np.array([1.50, 0.87, 0.54, 0.45, 0.33])
ATOMS_PER_POINT = 50


@styled
def ripple_spectrum_figure(
    spectrum: RippleSpectrum, temperature_k: float = 300.0, rigidity_ev: float = 1.6, narrow: bool = False
) -> Figure:
    """Height correlation spectrum of the estimates and the law of a free membrane for comparison."""
    figure, axes = one_panel(3.2, 5.6, narrow)
    q, power = spectrum.q_per_angstrom, spectrum.power_angstrom4
    shown = np.isfinite(power) & (power > 0)
    if not shown.any():
        say(axes, "no wave fits into the field of view")
        return figure
    error = spectrum.sigma_power_angstrom4[shown]
    lower = np.minimum(error, 0.9 * power[shown])
    axes.errorbar(q[shown], power[shown], [lower, error], fmt="o", color=BLUE, markersize=3.5, linewidth=0.9, label="posterior means")
    law = BOLTZMANN_EV_PER_K * temperature_k / (rigidity_ev * q[shown] ** 4)
    axes.plot(q[shown], law, color=RED, linewidth=1.0, label=f"k$_B$T / κq⁴ (κ = {rigidity_ev:g} eV, {temperature_k:g} K)")
    axes.set(xscale="log", yscale="log", xlabel="wave number q (Å⁻¹)", ylabel="G(q) = A ⟨|h(q)|²⟩ (Å⁴)")
    axes.set_ylim(0.3 * power[shown].min(), 4 * max(power[shown].max(), law.max()))
    plain_log_ticks(axes.xaxis)
    figure.legend(loc="outside upper center", ncols=1 if narrow else 3)
    return figure


@styled
def ripple_course_figure(ripples: pl.DataFrame, times_ms: np.ndarray | None = None, narrow: bool = False) -> Figure:
    """rms height of the sheet per frame with its sigma."""
    figure, axes = one_panel(2.2, 7.0, narrow)
    rms, sigma = numbers(ripples, "rms_height_angstrom"), numbers(ripples, "sigma_rms_height_angstrom")
    if not np.isfinite(rms).any():
        say(axes, "heights not determined")
        return figure
    x = numbers(ripples, "frame") if times_ms is None else times_ms
    axes.fill_between(x, rms - sigma, rms + sigma, color=GREEN, alpha=0.3, linewidth=0)
    axes.plot(x, rms, color=GREEN, marker="." if len(x) < 200 else "")
    axes.set(xlabel="frame" if times_ms is None else "time (ms)", ylabel="rms height (Å)")
    axes.set_ylim(bottom=0)
    return figure


@styled
def displacement_figure(displacements: pl.DataFrame, frame_time_ms: float | None = None, narrow: bool = False) -> Figure:
    """Mean squared displacement over the lag, with what noise alone adds, and the height correlation."""
    figure, (left, right) = row_of_panels(2, 2.8, narrow, 2.6)
    if displacements.height == 0:
        say(left, "no atom was seen in two frames")
        say(right, "")
        return figure
    lag = numbers(displacements, "lag") * (frame_time_ms or 1.0)
    label = "lag (frames)" if frame_time_ms is None else "lag (ms)"
    for name, title, colour in (("xy", "in the plane", BLUE), ("z", "along z", GREEN)):
        left.plot(lag, numbers(displacements, f"msd_{name}_angstrom2"), "o-", color=colour, markersize=4, label=title)
        left.plot(lag, numbers(displacements, f"noise_{name}_angstrom2"), color=colour, linestyle="--", linewidth=0.9)
    left.set(xlabel=label, ylabel="mean squared displacement (Å²)", xscale="log", yscale="log", title="a  displacement (dashed: 2 σ²)")
    left.legend(loc="best")
    shown = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in left.lines])
    shown = shown[shown > 0]
    if shown.size:
        left.set_ylim(0.5 * shown.min(), 2 * shown.max())
    plain_log_ticks(left.yaxis)
    _ticks_at(left, lag)
    correlation = numbers(displacements, "z_correlation")
    if np.isfinite(correlation).any():
        right.axhline(0, color=GREY, linewidth=0.8)
        right.plot(lag, correlation, "o-", color=GREEN, markersize=4)
        right.set(xlabel=label, ylabel="correlation of heights", xscale="log", title="b  memory of the ripple", ylim=(-1.05, 1.05))
        _ticks_at(right, lag)
    else:
        say(right, "heights not determined")
    return figure


def _ticks_at(axes: Axes, values: np.ndarray) -> None:
    """Ticks where the points are: on less than a decade a logarithmic axis has hardly any of its own."""
    axes.xaxis.set_major_locator(FixedLocator(values.tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())


@styled
def dose_figure(
    dose: pl.DataFrame, summary: dict[str, Any] | None = None, bound: pl.DataFrame | None = None, narrow: bool = False
) -> Figure:
    """3D RMSD over dose: every twin, their median with and without the window, the bound, the source's points, the threshold's interval."""
    figure, axes = one_panel(4.0, 5.4, narrow)
    _draw_twins(axes, dose)
    if bound is not None:
        columns = bound["dose_e_per_angstrom2"], bound["bound_3d_angstrom"]
        axes.plot(*columns, "-.", color=RED, linewidth=1.2, label="lower bound", zorder=2)
    axes.plot(SOURCE_DOSE_E_PER_ANGSTROM2, SOURCE_RMSD_ANGSTROM, "D--", color=BLACK, markersize=4, linewidth=1.0, label="Zhang et al.")
    axes.set(xscale="log", yscale="log", xlabel="dose per frame (e/Å²)", ylabel="3D RMSD (Å)")
    _draw_threshold(axes, summary or {})
    plain_log_ticks(axes.yaxis)
    lowest = np.empty(0) if bound is None else bound["bound_3d_angstrom"].to_numpy()
    rmsd = numbers(dose, "rmsd_3d_angstrom")
    everything = np.concatenate([rmsd[np.isfinite(rmsd)], SOURCE_RMSD_ANGSTROM, lowest])
    axes.set_ylim(0.8 * everything.min(), 1.35 * everything.max())
    figure.legend(loc="outside upper center", ncols=2 if narrow else 3)
    return figure


def _draw_twins(axes: Axes, dose: pl.DataFrame) -> None:
    """Each twin as found with its neighbours' help, their median, and the medians of narrower windows."""
    windows = dose["window"].unique().sort().to_list()
    names = {window: "median, single frame" if window == 1 else f"median, {window} frames" for window in windows}
    for window in windows[:-1]:
        alone = dose.filter(window=window).group_by("dose_e_per_angstrom2").agg(pl.col("rmsd_3d_angstrom").median())
        look: dict[str, Any] = {"color": GREY, "markersize": 3, "linewidth": 1.0, "label": names[window], "zorder": 2}
        axes.plot(*alone.sort("dose_e_per_angstrom2").to_numpy().T, "s--", **look)
    dose = dose.filter(window=windows[-1])
    good = dose["succeeded"].fill_null(False).to_numpy()
    d, rmsd = numbers(dose, "dose_e_per_angstrom2"), numbers(dose, "rmsd_3d_angstrom")
    levels = np.unique(d)
    medians = [np.nanmedian(rmsd[d == level]) if np.isfinite(rmsd[d == level]).any() else np.nan for level in levels]
    axes.plot(levels, medians, "o-", color=BLUE, markersize=4.5, label=names[windows[-1]], zorder=4)
    axes.scatter(d[good], rmsd[good], s=12, color=SKY, alpha=0.8, label="twins", zorder=3)
    if not good.all():
        axes.scatter(d[~good], rmsd[~good], s=18, color=RED, marker="x", linewidths=1.1, label="failed twins", zorder=3)


def _draw_threshold(axes: Axes, summary: dict[str, Any]) -> None:
    """The criterion as a line and the threshold's interval as a band, open to the side where no dose was tested."""
    criterion = summary.get("criterion_angstrom", 0.87)
    axes.axhline(criterion, color=GREY, linestyle=":", linewidth=1.0)
    axes.annotate(f"criterion {criterion:g} Å", (1.0, criterion), (-2, 3), xycoords=("axes fraction", "data"),
                  textcoords="offset points", color=GREY, fontsize=8, ha="right")  # fmt: skip
    low, high, position = summary.get("low_e_per_angstrom2"), summary.get("high_e_per_angstrom2"), summary.get("position", "crossed")
    if not low or not high:
        return
    left, right = axes.get_xlim()
    low, high = (left if position == "below" else low), (right if position == "above" else high)
    axes.axvspan(low, high, color=GREEN, alpha=0.18, linewidth=0, label=f"threshold, {summary.get('confidence', 0.95):.0%} interval")
    axes.set_xlim(left, right)


@styled
def validation_figure(error_angstrom: np.ndarray, sigma_angstrom: np.ndarray, narrow: bool = False) -> Figure:
    """Against the truth: error / sigma (n, 3) beside the normal law, and the rms error found where a sigma was claimed."""
    figure, (pulls, honesty) = row_of_panels(2, 3.0, narrow, 2.9)
    grid = np.linspace(-4.5, 4.5, 200)
    ends: list[float] = []
    for k, axis in enumerate("xyz"):
        known = np.isfinite(error_angstrom[:, k]) & (sigma_angstrom[:, k] > 0)
        if not known.any():
            continue
        error, sigma = error_angstrom[known, k], sigma_angstrom[known, k]
        label = f"{axis}: rms {np.sqrt(np.mean((error / sigma) ** 2)):.2f}"
        look = {"histtype": "step", "color": AXIS_COLOURS[axis], "linewidth": 1.2}
        pulls.hist(error / sigma, 45, range=(-4.5, 4.5), density=True, label=label, **look)
        groups = np.array_split(np.argsort(sigma, kind="stable"), max(min(8, error.size // ATOMS_PER_POINT), 1))
        claimed = [float(np.sqrt(np.mean(sigma[g] ** 2))) for g in groups]
        found = [float(np.sqrt(np.mean(error[g] ** 2))) for g in groups]
        # The rms of n errors is known to 1 / sqrt(2 n) of itself.
        bars = [value / np.sqrt(2 * g.size) for value, g in zip(found, groups)]
        honesty.errorbar(claimed, found, bars, fmt="o-", color=AXIS_COLOURS[axis], label=axis, markersize=3.5, linewidth=1.0)
        ends += [value for value in claimed + found if value > 0]
    pulls.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color=BLACK, linewidth=1.0, linestyle="--", label="normal law")
    pulls.set(xlabel="error / σ", ylabel="density", title="a  errors in units of σ")
    pulls.set_ylim(top=pulls.get_ylim()[1] * 1.4)
    pulls.legend(loc="upper left", ncols=2)
    limits = (min(ends) / 1.5, max(ends) * 1.5) if ends else (0.01, 1.0)
    honesty.plot(limits, limits, color=BLACK, linewidth=0.8, linestyle="--")
    honesty.set(xlabel="σ claimed (Å)", ylabel="rms error found (Å)", title="b  claimed and found", xscale="log", yscale="log")
    honesty.set(xlim=limits, ylim=limits)
    for axis in (honesty.xaxis, honesty.yaxis):
        plain_log_ticks(axis)
    honesty.legend(loc="upper left")
    return figure
