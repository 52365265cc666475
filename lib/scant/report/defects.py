"""The section on defects: which there are, when they change, how often."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from scant.analysis.defect_events import SETTLED_FRAMES, rate_interval, settled
from scant.report.findings import Findings
from scant.report.page import Picture, Section, Table
from scant.report.style import BLUE, FULL_WIDTH_INCH, GREEN, GREY, ORANGE, PURPLE, RED, SKY, one_panel, styled

# Lines that can still be told apart in the figure; the longest-lived come first.
SHOWN = 24
KINDS = 5


def defects_section(found: Findings) -> Section | None:
    """Every defect over time, and the events whose states before and after held."""
    tables = found.inputs.defects
    if tables is None:
        return None
    if tables.tracked.height == 0:
        return Section("defects", "Defects", "results", ("Every ring of bonds inside the view is a hexagon in every frame.",))
    kept = settled(tables.events)
    return Section(
        "defects",
        "Defects",
        "results",
        (_words(found, kept),),
        (_events(kept),) if kept.height else (),
        (_picture(found, kept),) if found.inputs.frames.height > 1 else (),
    )


def _words(found: Findings, kept: pl.DataFrame) -> str:
    tables, frames = found.inputs.defects, found.inputs.frames.filter(status="ok")
    assert tables is not None
    n_places, n_frames = tables.tracked["defect"].n_unique(), tables.tracked["frame"].n_unique()
    words = (
        f"Rings that are no hexagons were seen at {n_places} place{'s' if n_places > 1 else ''} in {n_frames} of {frames.height} frames. "
        f"Events whose states before and after held for {SETTLED_FRAMES} frames or more: {kept.height}; others, which may be errors of "
        f"single frames: {tables.events.height - kept.height} (all of them in defect_events.parquet)."
    )
    times_s = frames["time_ms"].drop_nulls().to_numpy() / 1000
    duration_s = float(np.ptp(times_s)) if len(times_s) else 0.0
    if duration_s > 0 and tables.area_angstrom2 > 0:
        low, high = rate_interval(kept.height, duration_s * tables.area_angstrom2 / 100)
        words += f" Rate of settled events: {low:.3g} to {high:.3g} per nm² and second (95 %, Poisson)."
    return words


def _events(kept: pl.DataFrame) -> Table:
    rows = kept.select(
        "defect",
        "event",
        pl.col("frame_before").alias("between frame"),
        pl.col("frame_after").alias("and"),
        pl.col("time_before_ms").alias("from (ms)"),
        pl.col("time_after_ms").alias("to (ms)"),
        pl.col("rings_before").replace("", "hexagons").alias("rings before"),
        pl.col("rings_after").replace("", "hexagons").alias("rings after"),
        pl.col("jump_angstrom").alias("jump (Å)"),
        pl.col("n_before").alias("frames before"),
        pl.col("n_after").alias("frames after"),
    )
    return Table("Settled events, each between two frames.", rows, "defect_events.csv")


def _picture(found: Findings, kept: pl.DataFrame) -> Picture:
    tables = found.inputs.defects
    assert tables is not None
    caption = (
        "Defects over time, coloured by their rings; a gap is a frame that shows hexagons there, or none. Triangles: settled events. "
        "Rings: 12 is a vacancy, 5-5-7-7 a turned bond."
    )
    n = tables.tracked["defect"].n_unique()
    if n > SHOWN:
        caption += f" The {SHOWN} seen in most frames of {n}."
    return Picture(
        "defects", partial(defects_figure, tables.tracked, kept), caption, "One line per defect over frame number, events marked."
    )


@styled
def defects_figure(tracked: pl.DataFrame, kept: pl.DataFrame, narrow: bool = False) -> Figure:
    """A line per defect over the frame number; tables of `tracked_defects` and `settled`."""
    longest = tracked.group_by("defect").len().sort("len", "defect", descending=[True, False]).head(SHOWN)["defect"].sort().to_list()
    rows = tracked.filter(pl.col("defect").is_in(longest))
    kinds = rows.group_by("rings").len().sort("len", "rings", descending=[True, False])["rings"].head(KINDS).to_list()
    height_inch = 1.2 + 0.22 * len(longest)
    figure, axes = one_panel(height_inch, FULL_WIDTH_INCH, narrow, height_inch)
    level = {defect: place for place, defect in enumerate(longest)}
    for (rings,), part in sorted(rows.group_by("rings"), key=lambda each: str(each[0][0])):
        colour = dict(zip(kinds, (BLUE, RED, GREEN, ORANGE, PURPLE))).get(str(rings), GREY)
        label = str(rings) if rings in kinds else None
        at = np.array([level[defect] for defect in part["defect"]])
        axes.plot(part["frame"], at, "|", color=colour, markersize=8, markeredgewidth=1.6, label=label)
    for defect, frame in kept.select("defect", "frame_after").iter_rows():
        if defect in level:
            axes.plot(frame, level[defect] + 0.42, "v", color=SKY, markeredgecolor=GREY, markersize=5)
    axes.set(xlabel="frame", ylabel="defect", ylim=(-0.7, len(longest) - 0.2))
    axes.set_yticks(range(len(longest)), [str(defect) for defect in longest])
    figure.legend(title="rings", loc="outside upper center", ncols=2 if narrow else KINDS)
    return figure
