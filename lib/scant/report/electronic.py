"""The section on the electronic response: what the pi bands of the structures say, and what it goes with."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl

from scant.analysis.correlation import SUM_NAMES, correlation
from scant.report import figures
from scant.report.findings import Findings
from scant.report.page import Picture, Section, Table
from scant.report.tables import format_number

TITLE = "Electronic response"


def electronic_section(found: Findings) -> Section:
    """Density of states and pseudo-magnetic field of one frame, and correlations with the geometry; a sentence where there are none."""
    response = found.inputs.response
    if response is None:
        return Section("electronic", TITLE, "electronic", ("Not computed: it needs heights, and those the optics of the movie.",))
    known = response.electronic.select(pl.col("ldos_per_ev").count()).collect().item()
    if not known:
        text = "π bands are computed for frames of carbon alone that reach more than 18 Å; this movie has no such atom."
        return Section("electronic", TITLE, "electronic", (text,))
    table = correlation_table(response.sums, found.good_frames)
    caption = (
        "Correlation (Pearson) over atoms, samples of the posterior and frames, 95 % interval by resampling blocks of frames. "
        "Strain with its out-of-plane part. Atoms within 10 Å of a defect are left out: its own states would drown the rest."
    )
    shown = table.with_columns(pl.col("r", "from", "to").round(3)).rename({"from": "from (95 %)", "to": "to (95 %)"})
    pictures = []
    if found.shown is not None:
        frame, atoms = found.shown.frame, found.shown
        rows = response.electronic.filter(pl.col("frame") == frame).sort("id").collect().to_dict(as_series=False)
        values = {name: np.array(column, dtype=float) for name, column in rows.items()}
        if np.array_equal(values["id"], atoms.ids):
            words = (
                f"Frame {frame}: local density of states at the Fermi level per atom (Lorentzian of half width 0.3 eV, both spins) and "
                "pseudo-magnetic field of one valley (the other sees its opposite). Empty rings: within 9 Å of the rim, or neighbours not "
                "in view."
            )
            draw = partial(figures.electronic_figure, atoms, values)
            pictures.append(Picture("electronic", draw, words, "Maps of density of states and field."))
    text = (
        f"π bands of the carbon atoms gave a local density of states for {format_number(known)} atoms of all frames, those 9 Å or more "
        "from the rim. Values are means over samples of each frame's posterior, σ their spread. Single atoms of single frames say little; "
        "the table says what goes with what over the whole movie."
    )
    return Section("electronic", TITLE, "electronic", (text,), (Table(caption, shown, "correlations.csv"),), tuple(pictures))


def correlation_table(sums: pl.DataFrame, frames: np.ndarray) -> pl.DataFrame:
    """Rows of response, shape, r, its interval and the number of values, over the frames given."""
    good = sums.filter(pl.col("frame").is_in(frames.tolist())).sort("frame")
    rows = []
    for (response, shape), part in good.group_by("response", "shape", maintain_order=True):
        found = correlation(part.select(SUM_NAMES).to_numpy())
        rows.append((response, shape, found.r, found.low, found.high, found.n_values))
    return pl.DataFrame(rows, schema=["response", "goes with", "r", "from", "to", "values"], orient="row")
