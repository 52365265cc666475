"""Figures of what lies between counts and structure: images and residuals, noise of the camera, transfer of the optics, bound, spreads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from scant.analysis.neighbours import FrameAtoms
from scant.imaging.photon_transfer import PhotonTransfer
from scant.physics.optics import Optics, focal_spread_envelope, image_envelope, wave_transfer
from scant.report.distributions import AXIS_COLOURS
from scant.report.maps import IMAGE_INCH, show_image
from scant.report.style import (
    BLACK,
    BLUE,
    DIVERGING,
    FULL_WIDTH_INCH,
    GREEN,
    GREY,
    ORANGE,
    RED,
    SKY,
    new_figure,
    plain_log_ticks,
    robust_limits,
    row_of_panels,
    say,
    styled,
)
from scant.report.tables import format_number

RESIDUAL_LIMIT_SIGMA = 4.0
SMOOTHING_ANGSTROM = 0.5
SHOWN_LIMIT_PER_ANGSTROM = 1.3
HEIGHT_STEP_ANGSTROM = 0.5


@styled
def image_figure(images: Mapping[str, np.ndarray], pixel_size_angstrom: float, shared: bool = False) -> Figure:
    """Images (y, x) side by side under their names, each with its grey scale; `shared`: one for all."""
    figure = new_figure(3.2 if len(images) > 2 else 3.9, min(3.5 * len(images), FULL_WIDTH_INCH))
    panels = figure.subplots(1, len(images), squeeze=False)[0]
    common = robust_limits(*images.values()) if shared else None
    for panel, (name, image) in zip(panels, images.items()):
        shown = show_image(panel, image, pixel_size_angstrom, common or robust_limits(image))
        panel.set_title(name)
        if not shared:
            _bar(figure, shown, [panel])
    if shared:
        _bar(figure, shown, list(panels))
    return figure


def _bar(figure: Figure, shown: ScalarMappable, panels: list[Axes]) -> None:
    bar = figure.colorbar(shown, ax=panels, location="bottom", shrink=0.9 / len(panels), aspect=28)
    bar.outline.set_visible(False)


@styled
def residual_figure(residual_sigma: np.ndarray | None, pixel_size_angstrom: float, narrow: bool = False) -> Figure:
    """(Counts - model) / sigma of a frame (y, x), NaN at pixels without counts: per pixel, its mean over an atom's size, distributions.

    The mean is in units of what white noise would leave of it: an atom that is missing, or not there, stands out.
    """
    figure, panels = row_of_panels(3, 2.75, narrow, IMAGE_INCH)
    if residual_sigma is None:
        for panel, text in zip(panels, ("no model image:\noptics unknown", "", "")):
            say(panel, text)
        return figure
    smooth = _mean_in_sigma(residual_sigma, SMOOTHING_ANGSTROM / pixel_size_angstrom)
    for panel, image, title in zip(panels, (residual_sigma, smooth), ("a  per pixel", f"b  mean over {2 * SMOOTHING_ANGSTROM:g} Å")):
        show_image(panel, image, pixel_size_angstrom, (-RESIDUAL_LIMIT_SIGMA, RESIDUAL_LIMIT_SIGMA), DIVERGING)
        panel.set_title(title)
    for image, colour, name in ((residual_sigma, SKY, "pixels"), (smooth, ORANGE, "means")):
        _beside_normal_law(panels[2], image[np.isfinite(image)], colour, name)
    grid = np.linspace(-4.5, 4.5, 200)
    panels[2].plot(grid, norm.pdf(grid), color=BLACK, linewidth=1.0, linestyle="--", label="normal law")
    panels[2].set(title="c  distributions", xlabel="(counts − model) / σ", yticks=[], ylim=(0, 0.68))
    panels[2].legend(loc="upper center")
    panels[2].set_box_aspect(0.85)
    panels[2].spines["left"].set_visible(False)
    return figure


def _mean_in_sigma(residual_sigma: np.ndarray, width_px: float) -> np.ndarray:
    """Gaussian mean over the known pixels, over the standard deviation that white noise leaves of it."""
    known = np.isfinite(residual_sigma)
    total = gaussian_filter(np.where(known, residual_sigma, 0.0), width_px, mode="constant")
    # the square of a Gaussian is one of 1 / sqrt(2) of its width
    variance = gaussian_filter(known.astype(float), width_px / np.sqrt(2), mode="constant") / (4 * np.pi * width_px**2)
    return np.where(known, total / np.sqrt(np.maximum(variance, 1e-12)), np.nan)


def _beside_normal_law(panel: Axes, pulls: np.ndarray, colour: str, name: str) -> None:
    label = f"{name}, sd {pulls.std():.2f}"
    panel.hist(pulls, 60, range=(-4.5, 4.5), density=True, histtype="stepfilled", color=colour, alpha=0.5, label=label)


@styled
def photon_transfer_figure(transfer: PhotonTransfer, signal_band: tuple[float, float] | None = None) -> Figure:
    """Variance of a pixel over its level with the noise model, and the noise power over spatial frequency, the signal band shaded."""
    figure = new_figure(2.8)
    left, right = figure.subplots(1, 2)
    level, variance = transfer.curve_level_adu, transfer.curve_variance_adu2
    left.plot(level, variance, "o", color=BLUE, markersize=4, label="measured")
    line = np.array([0.0, 1.05 * level.max()])
    left.plot(line, transfer.slope_adu * line + transfer.read_noise_adu**2, color=RED, label=f"slope {transfer.slope_adu:.3g} ADU")
    left.set(xlabel="level above the dark (ADU)", ylabel="variance (ADU²)", title="a  photon transfer", xlim=(0, None), ylim=(0, None))
    left.legend(loc="upper left")
    if signal_band is not None:
        right.axvspan(*signal_band, color=ORANGE, alpha=0.15, linewidth=0, label="left to the sample")
    right.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":", label="shot noise alone")
    right.plot(transfer.noise_frequency_per_px, transfer.noise_power, ".-", color=BLUE, markersize=4, linewidth=0.9, label="measured")
    right.set(xlabel="spatial frequency (cycles per pixel)", ylabel="noise power (e per e)", title="b  noise of differences")
    right.set_ylim(0, max(1.3 * float(np.max(transfer.noise_power)), 1.4))
    right.legend(loc="best")
    return figure


@styled
def transfer_figure(optics: Optics, sigma_defocus_angstrom: float, lattice_constant_angstrom: float) -> Figure:
    """Contrast of a weak phase object over spatial frequency, three sigma of defocus as a band, and what a height of 1 A changes of it."""
    figure = new_figure(2.7)
    left, right = figure.subplots(1, 2)
    k = np.linspace(0, min(optics.cutoff_per_angstrom, SHOWN_LIMIT_PER_ANGSTROM), 400)
    low, best, high = (_contrast(optics, k, step * sigma_defocus_angstrom) for step in (-3, 0, 3))
    left.fill_between(k, low, high, color=BLUE, alpha=0.3, linewidth=0, label=f"3 σ of the defocus ({3 * sigma_defocus_angstrom:.2g} Å)")
    left.plot(k, best, color=BLUE)
    left.set(ylabel="contrast transfer", title=f"a  transfer at {format_number(optics.defocus_angstrom, 3)} Å")
    change = (_contrast(optics, k, HEIGHT_STEP_ANGSTROM) - _contrast(optics, k, -HEIGHT_STEP_ANGSTROM)) / (2 * HEIGHT_STEP_ANGSTROM)
    right.plot(k, change, color=GREEN)
    right.set(ylabel="change (Å⁻¹)", title="b  what 1 Å of height changes of it")
    first = 2 / (np.sqrt(3) * lattice_constant_angstrom)
    for panel in (left, right):
        panel.axhline(0, color=GREY, linewidth=0.8)
        for order, name in ((1.0, "first"), (np.sqrt(3), "second"), (2.0, "third")):
            if order * first < k[-1]:
                label = "reflections of the lattice" if panel is left and name == "first" else None
                panel.axvline(order * first, color=ORANGE, linewidth=1.0, linestyle="--", label=label)
        panel.set_xlabel("spatial frequency (Å⁻¹)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _contrast(optics: Optics, k: np.ndarray, defocus_change_angstrom: float) -> np.ndarray:
    other = optics.with_values(defocus_angstrom=optics.defocus_angstrom + defocus_change_angstrom)
    wave = 1j * wave_transfer(other, k, np.zeros_like(k))
    return np.asarray(2 * wave.real * focal_spread_envelope(other, k) * image_envelope(other, k))


@styled
def profile_figure(atoms: FrameAtoms, samples: np.ndarray | None, width_angstrom: float = 2.5) -> Figure:
    """Heights of the atoms in a strip of the given width through the middle, with sigma, and in samples (S, n, 3) of the posterior."""
    figure = new_figure(2.5)
    axes = figure.subplots()
    x, y, z = atoms.xyz_angstrom.T
    strip = np.flatnonzero(np.abs(y - np.median(y)) < width_angstrom / 2)
    strip = strip[np.argsort(x[strip])]
    if samples is None or not atoms.has_heights:
        say(axes, "heights not determined")
        return figure
    for number, drawn in enumerate(samples):
        axes.plot(drawn[strip, 0], drawn[strip, 2] - drawn[:, 2].mean(), color=SKY, linewidth=0.9, label=None if number else "samples")
    height, sigma = z[strip] - z.mean(), atoms.sigma_angstrom[strip, 2]
    axes.errorbar(x[strip], height, sigma, fmt="o", color=BLUE, markersize=4, linewidth=0.9, label="mean and σ", zorder=3)
    axes.set(xlabel="x (Å)", ylabel="height z (Å)")
    axes.legend(loc="best", ncols=2)
    return figure


@styled
def bound_figure(bound: pl.DataFrame, dose: pl.DataFrame, own: Mapping[str, float] | None = None) -> Figure:
    """What no estimate can beat, with the prior and without, and what twins achieved and stated; in the plane and along the beam.

    own: the movie's dose_e_per_angstrom2 and the rms of its stated sigma_x_angstrom and sigma_z_angstrom.
    """
    figure = new_figure(3.3)
    panels = figure.subplots(1, 2)
    twins = dose.filter(window=dose["window"].max()).group_by("dose_e_per_angstrom2").agg(pl.col("^.*sigma_.*$").median())
    twins = twins.sort("dose_e_per_angstrom2")
    doses = bound["dose_e_per_angstrom2"]
    for panel, axis, title in zip(panels, "xz", ("a  in the plane (x)", "b  along the beam (z)")):
        panel.plot(doses, bound[f"bound_{axis}_angstrom"], "-.", color=GREEN, label="bound, with the prior")
        panel.plot(twins["dose_e_per_angstrom2"], twins[f"sigma_{axis}_angstrom"], "o-", color=AXIS_COLOURS["x"], markersize=4.5,
                   label="error of twins")  # fmt: skip
        if axis == "z":
            panel.plot(doses, bound["image_alone_z_angstrom"], ":", color=GREY, label="bound of the image alone")
            panel.plot(twins["dose_e_per_angstrom2"], twins["claimed_sigma_z_angstrom"], "s--", color=ORANGE, markersize=3.5,
                       linewidth=1.0, label="σ that they state")  # fmt: skip
        if own is not None:
            panel.plot(own["dose_e_per_angstrom2"], own[f"sigma_{axis}_angstrom"], "*", color=RED, markersize=10, label="σ of this movie")
        panel.set(xscale="log", yscale="log", xlabel="dose per frame (e/Å²)", ylabel="standard deviation (Å)", title=title)
        plain_log_ticks(panel.yaxis)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


@styled
def spread_figure(quantities: Mapping[str, tuple[np.ndarray, np.ndarray | None]], ideal: float | None = None) -> Figure:
    """Distribution of quantities, each (values, sigma or None), beside a normal law as wide as their sigma: what is narrower is no news."""
    figure = new_figure(2.5, min(3.5 * len(quantities), FULL_WIDTH_INCH))
    for panel, (name, (values, sigma)) in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities.items()):
        known = np.isfinite(values)
        if not known.any():
            say(panel, f"{name}:\nnot determined")
            continue
        low, high = np.percentile(values[known], [0.2, 99.8])
        panel.hist(values[known], np.linspace(low, high, 50).tolist(), density=True, histtype="stepfilled", color=SKY, alpha=0.6,
                   label=f"sd {values[known].std():.2g}")  # fmt: skip
        if sigma is not None and np.isfinite(sigma[known]).any():
            width, grid = float(np.sqrt(np.nanmean(sigma[known] ** 2))), np.linspace(low, high, 200)
            law = norm.pdf(grid, values[known].mean(), width)
            panel.plot(grid, law, color=BLACK, linewidth=1.0, linestyle="--", label=f"σ {width:.2g}")
        if ideal is not None:
            panel.axvline(ideal, color=RED, linestyle=":", label=f"ideal {ideal:g}")
        panel.set(xlabel=name, yticks=[])
        panel.spines["left"].set_visible(False)
        panel.set_ylim(top=1.4 * panel.get_ylim()[1])
        panel.legend(loc="upper left", ncols=2, frameon=True, facecolor="white", edgecolor="none", framealpha=1.0)
    return figure


@styled
def correlation_figure(table: pl.DataFrame) -> Figure:
    """Correlations with their intervals, a row each: columns of `report.electronic.correlation_table`."""
    figure = new_figure(0.7 + 0.3 * max(table.height, 3), 6.2)
    axes = figure.subplots()
    if not table["r"].cast(pl.Float64).is_finite().any():
        say(axes, "no correlation determined")
        return figure
    r, low, high = (table[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("r", "from", "to"))
    place = np.arange(table.height)[::-1]
    reach = np.nan_to_num(np.stack([r - low, high - r]).clip(0))
    axes.errorbar(r, place, xerr=reach, fmt="o", color=BLUE, markersize=4.5, linewidth=1.2, capsize=2.5)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(place, [f"{a} ~ {b}" for a, b in table.select("response", "goes with").iter_rows()])
    axes.set(xlabel="correlation r, 95 % interval", xlim=(-1.05, 1.05), ylim=(-0.7, table.height - 0.3))
    return figure
