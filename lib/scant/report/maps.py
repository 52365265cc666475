"""Figures over the field of view: images and per-atom maps. y runs downwards, as in the images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from scant.analysis.curvature import FrameCurvature
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.strain import FrameStrain
from scant.report.style import (
    BLUE,
    DIVERGING,
    FULL_WIDTH_INCH,
    RED,
    SEQUENTIAL,
    new_figure,
    robust_limits,
    row_of_panels,
    say,
    styled,
    symmetric_limit,
)  # fmt: skip
from scant.report.tables import rounded

ATOM_RADIUS_ANGSTROM = 0.55
WELL_KNOWN = 2.0
MAP_INCH, IMAGE_INCH = 4.1, 3.5  # height of a panel in a single column, with and without colour bar


@styled
def frame_triptych(
    raw_adu: np.ndarray,
    corrected_e: np.ndarray,
    model_e: np.ndarray | None,
    pixel_size_angstrom: float,
    atoms: FrameAtoms | None = None,
    narrow: bool = False,
) -> Figure:
    """Raw frame | corrected (or denoised) frame | model image, if any, with the atoms; all (y, x), the last two on one grey scale."""
    shared = robust_limits(corrected_e) if model_e is None else robust_limits(corrected_e, model_e)
    panels = [(raw_adu, "a  raw (ADU)", robust_limits(raw_adu)), (corrected_e, "b  corrected (e)", shared)]
    if model_e is not None:
        panels.append((model_e, "c  model (e)", shared))
    figure, axes = row_of_panels(len(panels), 2.75 if len(panels) > 2 else 3.7, narrow, IMAGE_INCH)
    for panel, (image, title, limits) in zip(axes, panels):
        show_image(panel, image, pixel_size_angstrom, limits)
        panel.set_title(title)
    if model_e is not None and atoms is not None:
        colours = atoms.xyz_angstrom[:, 2] if atoms.has_heights else RED
        size = float(np.clip(4e3 / max(atoms.ids.size, 1), 0.5, 9.0))
        axes[2].scatter(*atoms.xyz_angstrom[:, :2].T, c=colours, cmap=SEQUENTIAL, s=size, linewidths=0)
        axes[2].set(xlim=axes[1].get_xlim(), ylim=axes[1].get_ylim())
    return figure


def show_image(
    axes: Axes, image: np.ndarray, pixel_size_angstrom: float, limits: tuple[float, float], cmap: str | None = None
) -> ScalarMappable:
    """An image (y, x) with its scale bar, in angstrom: the centre of pixel (0, 0) is the origin, as that of atoms."""
    ny, nx = image.shape
    extent = np.array([-0.5, nx - 0.5, ny - 0.5, -0.5]) * pixel_size_angstrom
    shown = axes.imshow(image, vmin=limits[0], vmax=limits[1], extent=tuple(extent), cmap=cmap)
    axes.set_axis_off()
    scale_bar(axes, nx * pixel_size_angstrom, ny * pixel_size_angstrom)
    return shown


def scale_bar(axes: Axes, width_angstrom: float, height_angstrom: float) -> None:
    """A bar of a round length below 0.3 of the width, on white in the lower left corner."""
    target = 0.3 * width_angstrom
    decade = 10.0 ** np.floor(np.log10(target))
    length = max(step * decade for step in (1, 2, 5) if step * decade <= target)
    text = f"{length:g} Å" if length < 10 else f"{length / 10:g} nm"
    look = {"size_vertical": 0.012 * height_angstrom, "pad": 0.35, "sep": 3, "borderpad": 0.6, "fontproperties": FontProperties(size=7.5)}
    bar = AnchoredSizeBar(axes.transData, length, text, "lower left", label_top=True, **look)
    bar.patch.set(facecolor="white", edgecolor="none", alpha=0.85)
    axes.add_artist(bar)


def draw_atoms(
    axes: Axes, xy_angstrom: np.ndarray, values: np.ndarray, limits: tuple[float, float], cmap: str, pairs: np.ndarray | None = None
) -> ScalarMappable:
    """Atoms as discs of about atomic size coloured by a value (grey rings where it is NaN), bonds as thin lines."""
    if pairs is not None and len(pairs):
        axes.add_collection(LineCollection(list(xy_angstrom[pairs]), colors="0.6", linewidths=0.7, zorder=1, rasterized=True))
    span = max(float(np.ptp(xy_angstrom, axis=0).max()), 4.0)
    panel_inch = axes.get_position().width * axes.get_figure(root=True).get_figwidth()  # type: ignore[union-attr]
    size = max((2 * ATOM_RADIUS_ANGSTROM / span * panel_inch * 72) ** 2, 1.0)
    known = np.isfinite(values)
    x, y = xy_angstrom.T
    axes.scatter(x[~known], y[~known], s=size, facecolors="none", edgecolors="0.7", linewidths=0.4, zorder=2, rasterized=True)
    drawn = axes.scatter(
        x[known], y[known], c=values[known], cmap=cmap, vmin=limits[0], vmax=limits[1], s=size,
        edgecolors="0.35", linewidths=0.25, zorder=3, rasterized=True,
    )  # fmt: skip
    low, high = xy_angstrom.min(axis=0) - 1.0, xy_angstrom.max(axis=0) + 1.0
    axes.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal", xlabel="x (Å)")
    return drawn


def _map_panel(
    axes: Axes, atoms: FrameAtoms, values: np.ndarray, label: str, pairs: np.ndarray | None, diverging: bool = True, percent: float = 99.0,
    sigma: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Atoms coloured by a value; the range is that of the atoms known about as well as most, which leaves out rim and defects."""
    if not np.isfinite(values).any():
        say(axes, f"{label}:\nnot determined")
        return
    ranging = values if sigma is None else _well_known(values, sigma)
    limit = symmetric_limit(ranging, percent)
    limits = (-limit, limit) if diverging else robust_limits(ranging, percent=1.0)
    drawn = draw_atoms(axes, atoms.xyz_angstrom[:, :2], values, limits, DIVERGING if diverging else SEQUENTIAL, pairs)
    beyond = np.nanmin(values) < limits[0], np.nanmax(values) > limits[1]
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    bar = axes.get_figure(root=True).colorbar(  # type: ignore[union-attr]
        drawn, ax=axes, label=label, shrink=0.9, aspect=28, location="bottom", extend=extend
    )
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=5)


def _well_known(values: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The values known to twice the typical uncertainty; all of them where no uncertainty is known."""
    known = np.isfinite(values) & np.isfinite(sigma)
    return values[known & (sigma <= WELL_KNOWN * np.median(sigma[known]))] if known.any() else values


def _titled(axes: Axes, letter: str, what: str, sigma: np.ndarray | None = None, unit: str = "") -> None:
    """Letter and content of a panel; below, the typical uncertainty with its unit."""
    text = f"{letter}  {what}"
    if sigma is not None and np.isfinite(sigma).any():
        text += f"\n    median σ {rounded(float(np.median(sigma[np.isfinite(sigma)])))} {unit}"
    axes.set_title(text)


@styled
def height_figure(atoms: FrameAtoms, pairs: np.ndarray | None = None, narrow: bool = False) -> Figure:
    """Heights of one frame and their sigma, atom by atom."""
    figure, panels = row_of_panels(2, 4.1, narrow, MAP_INCH, sharex=True, sharey=True)
    height = atoms.xyz_angstrom[:, 2] - np.mean(atoms.xyz_angstrom[:, 2])
    sigma = atoms.sigma_angstrom[:, 2]
    _map_panel(panels[0], atoms, height, "height z (Å)", pairs, diverging=False, sigma=sigma)
    _map_panel(panels[1], atoms, sigma, "σ of the height (Å)", pairs, diverging=False, sigma=sigma)
    _titled(panels[0], "a", "height")
    _titled(panels[1], "b", "its uncertainty")
    _label_y(panels, narrow)
    return figure


def _label_y(panels: np.ndarray, narrow: bool) -> None:
    for panel in panels if narrow else panels[:1]:
        panel.set_ylabel("y (Å)")


@styled
def strain_figure(atoms: FrameAtoms, strain: FrameStrain, pairs: np.ndarray | None = None, narrow: bool = False) -> Figure:
    """In-plane strain xx, yy, xy of one frame in percent."""
    figure, panels = row_of_panels(3, 3.6, narrow, MAP_INCH, sharex=True, sharey=True)
    for k, (panel, letter, name) in enumerate(zip(panels, "abc", ("xx", "yy", "xy"))):
        symbol = f"$\\varepsilon_{{{name}}}$"
        _map_panel(panel, atoms, 100 * strain.eps[:, k], f"{symbol} (%)", pairs, sigma=strain.sigma_eps[:, k])
        _titled(panel, letter, f"strain {symbol}", 100 * strain.sigma_eps[:, k], "%")
    _label_y(panels, narrow)
    return figure


@styled
def curvature_figure(atoms: FrameAtoms, curvature: FrameCurvature, pairs: np.ndarray | None = None, narrow: bool = False) -> Figure:
    """Mean and Gaussian curvature of one frame; atoms at the border, known three times worse than the rest, stay empty."""
    figure, panels = row_of_panels(2, 4.3, narrow, MAP_INCH, sharex=True, sharey=True)
    mean, gaussian = 100 * curvature.mean_per_angstrom, 1e4 * curvature.gaussian_per_angstrom2
    sigmas = 100 * curvature.sigma_mean_per_angstrom, 1e4 * curvature.sigma_gaussian_per_angstrom2
    names = ("mean curvature H", "10⁻² Å⁻¹"), ("Gaussian curvature K", "10⁻⁴ Å⁻²")
    for panel, letter, values, sigma, (name, unit) in zip(panels, "ab", (mean, gaussian), sigmas, names):
        typical = np.median(sigma[np.isfinite(sigma)]) if np.isfinite(sigma).any() else np.nan
        _map_panel(panel, atoms, np.where(sigma < 3 * typical, values, np.nan), f"{name} ({unit})", pairs)
        _titled(panel, letter, name, sigma, f"· {unit}")
    _label_y(panels, narrow)
    return figure


@styled
def electronic_figure(atoms: FrameAtoms, response: Mapping[str, np.ndarray], narrow: bool = False) -> Figure:
    """Density of states at the Fermi level and pseudo-magnetic field of one frame's atoms, each column (n,) with its sigma_."""
    figure, panels = row_of_panels(2, 4.3, narrow, MAP_INCH, sharex=True, sharey=True)
    shown = (
        ("ldos_per_ev", "local density of states", "10⁻³ / eV", "· 10⁻³ / eV", 1e3, False),
        ("pseudo_field_tesla", "pseudo-magnetic field", "T", "T", 1.0, True),
    )
    for panel, letter, (name, what, unit, times_unit, scale, diverging) in zip(panels, "ab", shown):
        _map_panel(panel, atoms, scale * response[name], f"{what} ({unit})", None, diverging, sigma=response[f"sigma_{name}"])
        _titled(panel, letter, what, scale * response[f"sigma_{name}"], times_unit)
    _label_y(panels, narrow)
    return figure


@styled
def atom_maps(atoms: FrameAtoms, maps: Mapping[str, tuple[np.ndarray, np.ndarray | None]], pairs: np.ndarray | None = None) -> Figure:
    """Any quantities of one frame's atoms, each (values, sigma or None) under its label; 0 is neutral, the median sigma in the title.

    The largest 5 % share the end of the colour scale: at the border of the view they would leave nothing of it for the rest.
    """
    figure = new_figure(3.4 if len(maps) > 2 else 4.1, min(3.6 * len(maps), FULL_WIDTH_INCH))
    panels = figure.subplots(1, len(maps), sharex=True, sharey=True, squeeze=False)[0]
    for panel, letter, (label, (values, sigma)) in zip(panels, "abcdefgh", maps.items()):
        _map_panel(panel, atoms, values, label, pairs, percent=95.0)
        known = np.zeros(0) if sigma is None else sigma[np.isfinite(sigma)]
        panel.set_title(f"{letter}  σ = {np.median(known):.2g}" if known.size else letter)
    panels[0].set_ylabel("y (Å)")
    return figure


@styled
def fluctuation_figure(
    xy_angstrom: np.ndarray, fluctuation_z_angstrom: np.ndarray, noise_z_angstrom: np.ndarray, narrow: bool = False
) -> Figure:
    """Standard deviation of every atom's height over time, and its distribution beside the sigma of the estimates."""
    figure, (left, right) = row_of_panels(2, 3.5, narrow, MAP_INCH, width_ratios=[1, 1.15])
    flat = FrameAtoms(
        0, np.arange(len(xy_angstrom)), np.column_stack([xy_angstrom, 0 * xy_angstrom[:, 0]]), np.zeros((len(xy_angstrom), 3))
    )
    _map_panel(left, flat, fluctuation_z_angstrom, "sd of z over time (Å)", None, diverging=False)
    left.set(title="a  map", ylabel="y (Å)")
    known = fluctuation_z_angstrom[np.isfinite(fluctuation_z_angstrom)]
    if known.size:
        right.hist(known, bins=40, color=BLUE, alpha=0.85)
        noise = float(np.sqrt(np.nanmean(noise_z_angstrom**2)))
        right.axvline(noise, color=RED, linestyle="--")
        right.set(xlabel="sd of z over time (Å)", ylabel="atoms", title=f"b  distribution\n    dashed: rms σ of z, {noise:.2f} Å")
    else:
        say(right, "heights not determined")
    return figure
