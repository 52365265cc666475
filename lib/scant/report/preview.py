"""The first look at a movie: its mean, its power spectrum with the reflections found, and what they say in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from scant.imaging.reciprocal import Lattice2D
from scant.report.maps import scale_bar
from scant.report.style import ORANGE, SKY, new_figure, robust_limits, styled

SHOWN_LIMIT_PER_ANGSTROM = 1.25
SHOWN_LIMIT_PER_PX = 0.25


@dataclass(frozen=True)
class Preview:
    """What a few frames of a movie show before any run.

    `mean` (y, x), corrected where the frames could be calibrated; `power` (y, x) their mean power spectrum, frequency 0 in the middle;
    `spots_per_px` (n, 2) the first-order reflections (x, y) in cycles per pixel, then the second-order ones. None: not found, not known.
    """

    n_frames: int
    mean: np.ndarray
    power: np.ndarray
    lattice: Lattice2D | None = None
    spots_per_px: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    gain_adu_per_electron: float | None = None
    gain_source: str = ""
    dose_e_per_angstrom2: float | None = None
    problems: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """What was found, a line each."""
        if self.lattice is None:
            return list(self.problems)
        sides = [float(np.hypot(*side)) for side in (*self.lattice.vectors_px, self.lattice.a2_px - self.lattice.a1_px)]
        weak = "; so weak that it may be chance: more frames, or a smaller field of view" if self.lattice.is_weak else ""
        lines = [
            f"lattice: {np.mean(sides):.3f} px a side, {self.lattice.lattice_constant_angstrom:g} A in the material, so a pixel is "
            f"{self.lattice.pixel_size_angstrom:.4f} +- {self.lattice.pixel_size_sigma_angstrom:.4f} A",
            f"its weakest reflection has {self.lattice.reflection_snr:.0f} times the background{weak}",
        ]
        if self.gain_adu_per_electron is not None:
            lines.append(f"gain: {self.gain_adu_per_electron:.3g} ADU per electron ({self.gain_source})")
        else:
            lines.append("gain: not known (it takes 3 frames or gain_adu_per_electron): no dose")
        if self.dose_e_per_angstrom2 is not None:
            lines.append(f"dose: {self.dose_e_per_angstrom2:.4g} e/A^2 per frame")
        return [*lines, *self.problems]


@styled
def preview_figure(preview: Preview, name: str) -> Figure:
    """The mean image beside the power spectrum, reflections marked, the sentences below."""
    figure = new_figure(4.6)
    image_axes, power_axes = figure.subplots(1, 2)
    low, high = robust_limits(preview.mean)
    height, width = preview.mean.shape
    lattice = preview.lattice
    pixel = lattice.pixel_size_angstrom if lattice is not None else 1.0
    image_axes.imshow(preview.mean, vmin=low, vmax=high, extent=(0, width * pixel, height * pixel, 0))
    image_axes.set_title(f"{name[:30]}: mean of {preview.n_frames} frame{'s' * (preview.n_frames > 1)}", parse_math=False)
    image_axes.set_axis_off()
    if lattice is not None:
        scale_bar(image_axes, width * pixel, height * pixel)
    reach = min(SHOWN_LIMIT_PER_ANGSTROM * pixel, 0.5) if lattice is not None else SHOWN_LIMIT_PER_PX
    shown = np.log10(np.maximum(preview.power, np.finfo(np.float32).tiny))
    edges = (-(width // 2) - 0.5, width - width // 2 - 0.5, height - height // 2 - 0.5, -(height // 2) - 0.5)
    extent = (edges[0] / width, edges[1] / width, edges[2] / height, edges[3] / height)
    low, high = np.median(shown), np.percentile(shown, 99.98)
    power_axes.imshow(shown, vmin=low, vmax=high, extent=extent)
    power_axes.set(xlim=(-reach, reach), ylim=(reach, -reach), xlabel="cycles per pixel", ylabel="cycles per pixel")
    orders = zip((preview.spots_per_px[:6], preview.spots_per_px[6:]), (ORANGE, SKY), ("first order", "second order"), strict=True)
    for spots, colour, label in orders:
        if len(spots):
            power_axes.plot(*spots.T, "o", markersize=11, markerfacecolor="none", markeredgecolor=colour, label=label)
    if len(preview.spots_per_px):
        power_axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    power_axes.set_title("power spectrum (log)" if lattice is not None else "power spectrum (log): no lattice found")
    figure.supxlabel("\n".join(preview.sentences), x=0.01, ha="left", fontsize=7.5, parse_math=False, wrap=True)
    return figure
