"""What happens to defects over a movie: bonds that turn, atoms that go or come, vacancies that jump, each between two frames.

Defects of successive frames are one where they lie near each other in the sample (drift taken out). A frame's bonds are decided from few
electrons, so a defect may be missed, or seen, in one frame alone: every event says for how many frames the state before it and the state
after it had held. `settled` keeps those that held on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from scipy.stats import chi2

from scant.analysis.defects import SCHEMA as DEFECTS
from scant.imaging.link import empty_state, link_step
from scant.io.structures import FieldOfView

# Beyond two lattice constants it is another defect; half a bond and more within one frame is no ripple.
SAME_WITHIN_ANGSTROM, JUMP_ANGSTROM = 5.0, 0.7
# A place so near the edge of the view is not seen in every frame: defects there touch edge atoms.
BORDER_ANGSTROM = 7.0
SETTLED_FRAMES = 3
TRACKED = {**DEFECTS, "defect": pl.Int64}
EVENTS = {
    "defect": pl.Int64, "event": pl.String, "frame_before": pl.Int64, "frame_after": pl.Int64, "time_before_ms": pl.Float64,
    "time_after_ms": pl.Float64, "x_angstrom": pl.Float64, "y_angstrom": pl.Float64, "jump_angstrom": pl.Float64, "rings_before": pl.String,
    "rings_after": pl.String, "missing_before": pl.Int64, "missing_after": pl.Int64, "n_before": pl.Int64, "n_after": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A defect in one frame; `rings` is empty where its place is in view and holds none."""

    frame: int
    rings: str = ""
    n_missing: int = 0
    place_angstrom: tuple[float, float] = (np.nan, np.nan)


def tracked_defects(defects: pl.DataFrame, frames: pl.DataFrame, pixel_size_angstrom: float) -> pl.DataFrame:
    """The table of defects with `defect`, one number through the movie; frames holds frame, drift_x_px and drift_y_px."""
    drift = {frame: (x, y) for frame, x, y in frames.select("frame", "drift_x_px", "drift_y_px").iter_rows()}
    state, numbers = empty_state(), []
    for (frame,), rows in defects.sort("frame", maintain_order=True).group_by("frame", maintain_order=True):
        places = rows.select("x_angstrom", "y_angstrom").to_numpy() / pixel_size_angstrom
        ids, state = link_step(state, places, np.array(drift[frame]), radius_px=SAME_WITHIN_ANGSTROM / pixel_size_angstrom)
        numbers.append(ids)
    column = pl.Series("defect", np.concatenate(numbers) if numbers else [], dtype=pl.Int64)
    return defects.sort("frame", maintain_order=True).with_columns(column).select(*TRACKED)


def event_table(tracked: pl.DataFrame, frames: pl.DataFrame, field: FieldOfView) -> pl.DataFrame:
    """Events in order of time: bond rotation, atoms lost, atoms gained, jump; places in the raw frame after (before, where none is left).

    frames: frame, time_ms, status, drift_x_px, drift_y_px of every frame; only those with a structure count as seen.
    """
    seen = frames.filter(status="ok").sort("frame")
    numbers = seen["frame"].to_numpy()
    drift = seen.select("drift_x_px", "drift_y_px").to_numpy() * field.pixel_size_angstrom
    times = dict(seen.select("frame", "time_ms").iter_rows())
    shift = dict(zip(numbers.tolist(), drift))
    size = np.array([field.width_px, field.height_px]) * field.pixel_size_angstrom
    rows = []
    for (defect,), own in tracked.sort("frame").group_by("defect", maintain_order=True):
        here = {
            frame: Seen(frame, rings, missing, (x - shift[frame][0], y - shift[frame][1]))
            for frame, rings, missing, x, y in own.select("frame", "rings", "n_missing", "x_angstrom", "y_angstrom").iter_rows()
        }
        place = np.mean([each.place_angstrom for each in here.values()], axis=0)
        in_view = ((place + drift > BORDER_ANGSTROM) & (place + drift < size - BORDER_ANGSTROM)).all(axis=1)
        course = [here.get(frame, Seen(frame)) for frame, visible in zip(numbers.tolist(), in_view) if visible or frame in here]
        for before, after in pairwise(_stretches(course)):
            rows.append((defect, *_event(before, after, times, shift)))
    return pl.DataFrame(rows, schema=EVENTS, orient="row").sort("frame_after", "defect")


def inner_area_angstrom2(field: FieldOfView) -> float:
    """Area of the view in which a defect is seen in every frame."""
    width, height = (n * field.pixel_size_angstrom - 2 * BORDER_ANGSTROM for n in (field.width_px, field.height_px))
    return max(width, 0.0) * max(height, 0.0)


def settled(events: pl.DataFrame) -> pl.DataFrame:
    """Events whose states before and after held for three frames or more each."""
    return events.filter(pl.min_horizontal("n_before", "n_after") >= SETTLED_FRAMES)


def rate_interval(n_events: int, exposure: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a Poisson rate from a count over an exposure (Garwood 1936)."""
    tail = (1 - level) / 2
    low = chi2.ppf(tail, 2 * n_events) / 2 if n_events else 0.0
    return float(low / exposure), float(chi2.ppf(1 - tail, 2 * n_events + 2) / 2 / exposure)


def _stretches(course: list[Seen]) -> list[list[Seen]]:
    """The course cut where the rings change or the defect jumps."""
    parts: list[list[Seen]] = []
    for each in course:
        if parts and _same(parts[-1][-1], each):
            parts[-1].append(each)
        else:
            parts.append([each])
    return parts


def _same(one: Seen, other: Seen) -> bool:
    if (one.rings, one.n_missing) != (other.rings, other.n_missing):
        return False
    return not one.rings or _distance(one, other) < JUMP_ANGSTROM


def _distance(one: Seen, other: Seen) -> float:
    return float(np.hypot(*np.subtract(one.place_angstrom, other.place_angstrom)))


def _event(before: list[Seen], after: list[Seen], times: dict[int, float | None], shift: dict[int, np.ndarray]) -> tuple[object, ...]:
    last, first = before[-1], after[0]
    shown = first if first.rings else last
    x, y = np.add(shown.place_angstrom, shift[shown.frame])
    return (
        _name(last, first), last.frame, first.frame, times[last.frame], times[first.frame], float(x), float(y),
        _distance(last, first) if last.rings and first.rings else None, last.rings, first.rings, last.n_missing, first.n_missing,
        len(before), len(after),
    )  # fmt: skip


def _name(last: Seen, first: Seen) -> str:
    if first.n_missing > last.n_missing:
        return "atoms lost"
    if first.n_missing < last.n_missing:
        return "atoms gained"
    return "jump" if first.rings == last.rings else "bond rotation"
