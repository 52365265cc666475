"""One look for every figure: fonts, sizes, colour-blind-safe colours, and files that are the same bytes every time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito, Color Universal Design (2008).
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
GREY = "#6b6b6b"
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
FULL_WIDTH_INCH = 7.0
SHOWN_PX_PER_INCH = 115

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "image.interpolation": "nearest",
    "image.cmap": "gray",
    "savefig.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.06,
    "svg.hashsalt": "scant",
    "svg.fonttype": "none",
}
styled = rc_context(STYLE)


class ShownFigure(Figure):
    """A figure that a notebook shows by itself, as the report does."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return png_bytes(self), {"width": round(self.get_figwidth() * SHOWN_PX_PER_INCH)}


def new_figure(height_inch: float, width_inch: float = FULL_WIDTH_INCH) -> Figure:
    """An empty figure outside pyplot's global state, laid out so that labels cannot overlap."""
    return ShownFigure(figsize=(width_inch, height_inch), layout="constrained")


def say(axes: Axes, text: str) -> None:
    """Words in place of a curve that cannot be drawn: a panel is never empty without a reason."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY, wrap=True)


def robust_limits(*images: np.ndarray, percent: float = 0.5) -> tuple[float, float]:
    """Grey limits that a few hot pixels cannot set, common to the images given."""
    values = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, [percent, 100 - percent])
    margin = 0.0 if high > low * (1 + 1e-9) else max(0.05 * abs(low), 1e-3)
    return float(low) - margin, float(high) + margin


def symmetric_limit(values: np.ndarray, percent: float = 99.0) -> float:
    """Half-range of a diverging colour scale: 0 stays the neutral colour."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.percentile(finite, percent)) if finite.size and finite.max() > 0 else 1.0


def plain_log_ticks(axis: Axis) -> None:
    """Ticks 0.1 0.2 0.5 1 2 5 in place of 2 x 10^0, which collide on axes of less than a decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@styled
def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG, without the version and date that would change its bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


@styled
def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG with text kept as text and no date."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """NAME.png (300 dpi) and NAME.svg in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").write_bytes(png_bytes(figure, dpi=300))
    (folder / f"{name}.svg").write_bytes(svg_bytes(figure))
