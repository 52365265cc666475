"""The dynamics: rms height over time, motion of the atoms, memory of the ripple, relaxation times."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import polars as pl

from scant.analysis.dynamics import displacement_table, motion_by_atom, without_drift
from scant.analysis.relaxation import relaxation_table
from scant.report import figures
from scant.report.findings import Findings
from scant.report.page import Picture, Section, Table
from scant.report.tables import format_number, spread_words


def dynamics_section(found: Findings) -> Section:
    """What moves, how far and how long it is remembered; a sentence where fewer than two frames count."""
    if len(found.sample) < 2:
        return Section("dynamics", "Dynamics", "dynamics", ("Motion needs at least two reconstructed frames; there are not so many.",))
    still = without_drift(found.sample_table)
    displacement = displacement_table(still, _sampled_lags(found))
    frame_time = found.inputs.frames["time_ms"].diff().median() if found.times_ms else None
    pictures = [_height_course(found), _fluctuation(found, still)] if found.heights else []
    if displacement.height:
        draw = partial(figures.displacement_figure, displacement, frame_time if isinstance(frame_time, float) else None)
        caption = (
            "Mean squared displacement over the lag beside what independent errors of both frames would add (dashed), and the correlation "
            "of heights in time."
        )
        pictures.append(Picture("displacement", draw, caption, "Mean squared displacement and height correlation over the lag."))
    return Section("dynamics", "Dynamics", "dynamics", _words(found), _relaxation(found, frame_time), tuple(pictures))


def _words(found: Findings) -> tuple[str, ...]:
    n, times = len(found.sample), [found.times_ms[f.frame] for f in found.sample if f.frame in found.times_ms]
    span = f", {format_number(times[0])} to {format_number(times[-1])} ms" if times else ""
    text = f"{n} frames{span}; atoms are followed by their identity, the drift common to all is removed."
    rms = found.ripples["rms_height_angstrom"].drop_nulls().to_numpy() if found.heights else np.empty(0)
    if rms.size:
        text += f" The rms height is {spread_words(rms, 'Å')}."
    if found.heights:
        text += (
            " Posterior means move less than the sheet wherever the prior decides: a motion below σ is not resolved, "
            "and its absence is not shown."
        )
    return (text,)


def _height_course(found: Findings) -> Picture:
    times = np.array([found.times_ms.get(f, np.nan) for f in found.ripples["frame"]])
    draw = partial(figures.ripple_course_figure, found.ripples, times if np.isfinite(times).all() else None)
    caption = "rms height per frame, its posterior spread included, with one σ as a band."
    return Picture("ripple-course", draw, caption, "rms height of the sheet over time.")


def _fluctuation(found: Findings, still: pl.LazyFrame) -> Picture:
    motion = motion_by_atom(still).filter(pl.col("n_frames") > 1)
    names = ["mean_x_angstrom", "mean_y_angstrom", "fluctuation_z_angstrom", "noise_z_angstrom"]
    x, y, spread, noise = motion.select(names).cast(pl.Float64).fill_null(np.nan).to_numpy().T
    draw = partial(figures.fluctuation_figure, np.column_stack([x, y]), spread, noise)
    caption = (
        f"How far each atom's height moves over {len(found.sample)} frames, as a standard deviation, and the rms σ of the heights. "
        "Motion to the left of the dashed line is not resolved for a single atom."
    )
    return Picture("fluctuation", draw, caption, "Map and histogram of height fluctuations.")


def _relaxation(found: Findings, frame_time_ms: Any) -> tuple[Table, ...]:
    """How long the ripples of each wavelength live, where frames follow each other and their times are known."""
    powers = found.inputs.ripple_powers
    if powers is None or not isinstance(frame_time_ms, float):
        return ()
    table = relaxation_table(powers.filter(pl.col("frame").is_in(found.good_frames.tolist())), frame_time_ms)
    names = {"q_per_angstrom": "q (1/Å)", "n_frames": "pairs of frames"}
    names |= {"low_correlation": "correlation of next frames, from", "high_correlation": "to"}
    names |= {"low_relaxation_ms": "relaxation time, from (ms)", "high_relaxation_ms": "to (ms)"}
    caption = (
        "Ripples by wave number: between what bounds the correlation of their amplitudes from frame to frame and their relaxation time lie "
        "(95 %). The bounds are apart where the image settles an amplitude only in part; an infinite one says that the movie is too short "
        "or its frames too uncertain for an upper bound."
    )
    return (Table(caption, table.rename(names), "relaxation.csv"),) if table.height else ()


def _sampled_lags(found: Findings) -> tuple[int, ...]:
    """Lags at which pairs of sampled frames exist: multiples of the sampling step."""
    steps = np.diff([frame.frame for frame in found.sample])
    step = int(np.median(steps))
    return tuple(step * k for k in (1, 2, 4, 8, 16, 32) if k < len(found.sample))
