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
from PIL import Image

# Okabe and Ito, Color Universal Design (2008).
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
GREY = "#6b6b6b"
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
FULL_WIDTH_INCH = 7.0
SHOWN_PX_PER_INCH = 115
LOSSLESS_BYTES = 300_000
COLUMN_INCH = 3.37  # 86 mm, one column of most journals; also what a phone shows

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
    "pdf.fonttype": 42,
}
styled = rc_context(STYLE)


class ShownFigure(Figure):
    """A figure that a notebook shows by itself, as the report does."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return png_bytes(self), {"width": round(self.get_figwidth() * SHOWN_PX_PER_INCH)}


def new_figure(height_inch: float, width_inch: float = FULL_WIDTH_INCH) -> Figure:
    """An empty figure outside pyplot's global state, laid out so that labels cannot overlap."""
    return ShownFigure(figsize=(width_inch, height_inch), layout="constrained")


def one_panel(height_inch: float, width_inch: float, narrow: bool, narrow_height_inch: float | None = None) -> tuple[Figure, Axes]:
    """A figure of one panel: so wide, or a column wide."""
    figure = new_figure(narrow_height_inch or height_inch, COLUMN_INCH) if narrow else new_figure(height_inch, width_inch)
    return figure, figure.subplots()


def row_of_panels(count: int, height_inch: float, narrow: bool, panel_inch: float, **wide: Any) -> tuple[Figure, np.ndarray]:
    """So many panels beside each other on the full width; below each other, each so high, in a single column.

    wide: what matplotlib's `subplots` is told of the row alone.
    """
    if narrow:
        figure = new_figure(count * panel_inch, COLUMN_INCH)
        return figure, np.atleast_1d(figure.subplots(count, 1))
    figure = new_figure(height_inch)
    return figure, np.atleast_1d(figure.subplots(1, count, **wide))


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
def settled(figure: Figure) -> Figure:
    """The figure with the places of its parts found once, not again for every file that is written of it."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


@styled
def png_bytes(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG, without the version and date that would change its bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def webp_bytes(figure: Figure, dpi: int) -> bytes:
    """The figure as WebP, lossless in less than half the bytes of PNG; a map of so many atoms that it grows large is compressed further."""
    picture = Image.open(io.BytesIO(png_bytes(figure, dpi))).convert("RGB")
    lossless, lossy = io.BytesIO(), io.BytesIO()
    picture.save(lossless, "WEBP", lossless=True, method=1)
    if len(lossless.getvalue()) <= LOSSLESS_BYTES:
        return lossless.getvalue()
    picture.save(lossy, "WEBP", quality=88, method=4)
    return min(lossless.getvalue(), lossy.getvalue(), key=len)


@styled
def vector_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as SVG, its text kept as text, or as PDF with its fonts; no date in either."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=200, metadata={"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind] | {"Creator": None})
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str, kinds: tuple[str, ...] = ("svg",)) -> None:
    """NAME.png (300 dpi) and the vector formats asked for, in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").write_bytes(png_bytes(figure, dpi=300))
    for kind in kinds:
        (folder / f"{name}.{kind}").write_bytes(vector_bytes(figure, kind))
