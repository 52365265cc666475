"""Figures of distributions, and of courses over the frames of a movie."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scant.report.style import (
    BLACK,
    BLUE,
    COLUMN_INCH,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    new_figure,
    one_panel,
    row_of_panels,
    say,
    styled,
)  # fmt: skip

AXIS_COLOURS = {"x": BLUE, "y": ORANGE, "z": GREEN}
CHAIN_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
VERDICT_MARKS = {"stable": (GREEN, "o"), "unstable": (ORANGE, "s"), "failed": (RED, "X")}


def numbers(table: pl.DataFrame, name: str) -> np.ndarray:
    """A column as floats, null as NaN; all NaN where the column is absent."""
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _time_axis(frames: pl.DataFrame) -> tuple[np.ndarray, str]:
    time = numbers(frames, "time_ms")
    return (time, "time (ms)") if np.isfinite(time).any() else (numbers(frames, "frame"), "frame")


@styled
def sigma_figure(sigma_angstrom: np.ndarray, narrow: bool = False) -> Figure:
    """Distribution of the stated sigma (n, 3) of x, y, z with its median."""
    figure, (plane, height) = row_of_panels(2, 2.5, narrow, 2.2)
    for k, axis in enumerate("xyz"):
        panel = height if axis == "z" else plane
        values = sigma_angstrom[np.isfinite(sigma_angstrom[:, k]), k]
        if values.size == 0:
            say(panel, f"σ of {axis} not determined")
            continue
        top = np.percentile(values, 99.5)
        look = {"histtype": "step", "linewidth": 1.4} if axis == "y" else {"histtype": "stepfilled", "alpha": 0.55}
        label = f"{axis}: median {np.median(values):.3f} Å"
        panel.hist(values, bins=60, range=(0, 1.05 * top), color=AXIS_COLOURS[axis], label=label, **look)
        panel.set(xlabel=f"σ of {'z' if axis == 'z' else 'x and y'} (Å)", ylabel="atoms")
        panel.legend(loc="upper right")
        panel.set_ylim(top=panel.get_ylim()[1] * 1.25)
    plane.set_title("a  in the plane")
    height.set_title("b  along the beam")
    return figure


@styled
def bond_figure(
    length_angstrom: np.ndarray, sigma_length_angstrom: np.ndarray, angle_deg: np.ndarray, ideal_angstrom: float, narrow: bool = False
) -> Figure:
    """Distributions of bond lengths, with the typical sigma of one, and of the angles between bonds; the ideal lattice as a line."""
    figure, panels = row_of_panels(2, 2.9, narrow, 2.6)
    known = sigma_length_angstrom[np.isfinite(sigma_length_angstrom)]
    one = f", σ of one {np.median(known):.3f}" if known.size else ""
    shown = (
        ("a  bond lengths", "bond length", "Å", "bonds", length_angstrom, ideal_angstrom, 3, one),
        ("b  bond angles", "bond angle", "°", "angles", angle_deg, 120.0, 1, ""),
    )
    for panel, (title, name, unit, what, values, ideal, digits, sigma) in zip(panels, shown):
        if values.size == 0:
            say(panel, f"no {what} found")
            continue
        low, high = np.nanpercentile(values, [0.2, 99.8])
        margin = 0.02 * (high - low) + 1e-3
        panel.hist(values, np.linspace(low - margin, high + margin, 60).tolist(), histtype="stepfilled", color=SKY, alpha=0.6)
        panel.axvline(ideal, color=RED, linestyle="--")
        panel.set(xlabel=f"{name} ({unit})", ylabel=what)
        panel.set_title(f"{title}\n    mean {values.mean():.{digits}f}, sd {values.std():.{digits}f}{sigma} {unit}")
    return figure


@styled
def intensity_figure(
    measured_e: np.ndarray, simulated_e: np.ndarray, kl_divergence_nat: float | None = None, narrow: bool = False
) -> Figure:
    """Intensity histograms of the measured and the simulated frame on common bins."""
    figure, axes = one_panel(2.6, 5.0, narrow)
    measured, simulated = (values[np.isfinite(values)].ravel() for values in (measured_e, simulated_e))
    low, high = np.percentile(np.concatenate([measured, simulated]), [0.05, 99.95])
    bins = np.linspace(low, high, 90).tolist()
    axes.hist(measured, bins, density=True, histtype="stepfilled", color=SKY, alpha=0.6, label="measured")
    axes.hist(simulated, bins, density=True, histtype="step", color=BLACK, linewidth=1.2, label="simulated")
    axes.set(xlabel="intensity (e per pixel)", ylabel="density (1/e)")
    title = None if kl_divergence_nat is None else f"KL divergence {kl_divergence_nat:.4f} nat"
    figure.legend(loc="outside upper center", ncols=2, title=title)
    return figure


@styled
def drift_figure(frames: pl.DataFrame, pixel_size_angstrom: float, narrow: bool = False) -> Figure:
    """Drift over time, and its track in the plane."""
    figure, (course, track) = row_of_panels(2, 2.7, narrow, 2.5, width_ratios=[1.7, 1])
    time, label = _time_axis(frames)
    x, y = (numbers(frames, f"drift_{axis}_px") * pixel_size_angstrom for axis in "xy")
    if not np.isfinite(x).any():
        say(course, "drift not measured")
        say(track, "")
        return figure
    sigma = numbers(frames, "drift_sigma_px") * pixel_size_angstrom
    # a frame between aligned ones that could not be aligned itself: nothing is known of it, and the band has a gap
    sigma = np.where(np.isfinite(sigma), sigma, np.nan)
    for axis, values in (("x", x), ("y", y)):
        course.fill_between(time, values - sigma, values + sigma, color=AXIS_COLOURS[axis], alpha=0.25, linewidth=0)
        course.plot(time, values, color=AXIS_COLOURS[axis], label=axis)
    course.set(xlabel=label, ylabel="drift (Å)", title="a  over time")
    course.legend(loc="best", ncols=2)
    points = track.scatter(x, y, c=time, cmap="cividis", s=9, zorder=2)
    track.plot(x, y, color="0.7", linewidth=0.7, zorder=1)
    track.set(xlabel="drift in x (Å)", ylabel="drift in y (Å)", title="b  track")
    track.set_aspect("equal", adjustable="datalim")
    track.locator_params(nbins=5)
    figure.colorbar(points, ax=track, label=label)
    return figure


@styled
def quality_figure(frames: pl.DataFrame, narrow: bool = False) -> Figure:
    """How well each frame was explained and sampled: correlation, reduced chi^2, r-hat, acceptance."""
    wanted = (
        ("correlation", "correlation", None, BLUE),
        ("reduced_chi2", "reduced χ²", 1.0, ORANGE),
        ("r_hat", "r̂", 1.0, PURPLE),
        ("acceptance", "acceptance", None, GREEN),
    )
    figure = new_figure(4.8, COLUMN_INCH) if narrow else new_figure(4.4)
    panels = figure.subplots(4, 1, sharex=True)
    time, label = _time_axis(frames)
    bad = np.array([s != "ok" for s in frames["status"]]) if "status" in frames.columns else np.zeros(frames.height, dtype=bool)
    for panel, letter, (name, title, ideal, colour) in zip(panels, "abcd", wanted):
        values = numbers(frames, name)
        panel.set_ylabel(title)
        panel.set_title(letter, pad=2)
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
def energy_figure(energy: np.ndarray, n_annealed: int = 0, n_burn_in: int = 0, narrow: bool = False) -> Figure:
    """Energies (chains, moves) of one frame: the search with its `n_annealed` moves, then the sampling, whose first moves are not counted.

    The two have different likelihoods (mean of the neighbours, the frame itself), so each has its own zero.
    """
    n_annealed = min(n_annealed, energy.shape[1])
    figure, (search, sampling) = row_of_panels(2, 2.7, narrow, 2.3, width_ratios=[1, 1.5])
    counted = energy[:, n_annealed + n_burn_in :]
    parts = (
        (search, energy[:, :n_annealed], 0, energy[:, :n_annealed].min() if n_annealed else 0.0),
        (sampling, energy[:, n_annealed:], n_annealed, counted.mean() if counted.size else 0.0),
    )
    for panel, part, first, zero in parts:
        if part.size == 0:
            say(panel, "no such moves")
            continue
        for k, chain in enumerate(part):
            look = {"color": CHAIN_COLOURS[k % len(CHAIN_COLOURS)], "linewidth": 1.0, "label": f"chain {k + 1}" if k < 6 else None}
            panel.plot(first + np.arange(part.shape[1]), chain - zero, **look)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.set_xlabel("move")
    search.set(title="a  search", ylabel="energy − lowest (k$_B$T)")
    sampling.set(title="b  sampling at τ = 1", ylabel="energy − mean counted (k$_B$T)")
    if counted.size and n_burn_in:
        sampling.axvspan(n_annealed, n_annealed + n_burn_in, color="0.9", zorder=0, linewidth=0)
    handles, labels = (sampling if counted.size else search).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2 if narrow else 6)
    return figure


@styled
def md_figure(md: pl.DataFrame, narrow: bool = False) -> Figure:
    """The judge's verdict per frame: displacement and energy in molecular dynamics, marked by verdict."""
    figure = new_figure(3.8, COLUMN_INCH) if narrow else new_figure(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    verdict = md["verdict"].to_numpy()
    frame = numbers(md, "frame")
    named = (top, "a", "rms_displacement_angstrom", "rms displacement (Å)"), (bottom, "b", "energy_per_atom_ev", "energy (eV/atom)")
    for panel, letter, name, label in named:
        values = numbers(md, name)
        if not np.isfinite(values).any():
            panel.text(0.5, 0.5, "not determined", transform=panel.transAxes, ha="center", va="center", color=GREY)
        for kind, (colour, mark) in VERDICT_MARKS.items():
            chosen = verdict == kind
            if chosen.any():
                panel.scatter(frame[chosen], values[chosen], c=colour, marker=mark, s=16, label=f"{kind} ({chosen.sum()})")
        panel.set_ylabel(label)
        panel.set_title(letter, pad=2)
        panel.yaxis.set_major_locator(MaxNLocator(4))
    handles, labels = top.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    bottom.set_xlabel("frame")
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels([top, bottom])
    return figure
