"""The section on the electronic response: what the pi bands of the structures say, and what it goes with."""

from __future__ import annotations

import numpy as np
import polars as pl

from scant.analysis.correlation import SUM_NAMES, correlation
from scant.report import figures
from scant.report.findings import Findings
from scant.report.page import Picture, Section, Table
from scant.report.tables import format_number


def electronic_section(found: Findings) -> Section | None:
    """Density of states and pseudo-magnetic field of one frame, and correlations with the geometry over the movie."""
    response = found.inputs.response
    if response is None:
        return None
    known = response.electronic.select(pl.col("ldos_per_ev").count()).collect().item()
    if not known:
        text = "π bands are computed for frames of carbon alone that reach more than 18 Å; this movie has no such atom."
        return Section("electronic", "Electronic response", (text,))
    table = correlation_table(response.sums, found.good_frames)
    caption = (
        "Correlation (Pearson) over atoms, samples of the posterior and frames, 95 % interval by resampling blocks of frames. "
        "Strain with its out-of-plane part."
    )
    pictures = []
    if found.shown is not None:
        frame, atoms = found.shown.frame, found.shown
        rows = response.electronic.filter(pl.col("frame") == frame).sort("id").collect().to_dict(as_series=False)
        values = {name: np.array(column, dtype=float) for name, column in rows.items()}
        if np.array_equal(values["id"], atoms.ids):
            words = (
                f"Frame {frame}: density of states at the Fermi level (Lorentzian of half width 0.3 eV, both spins) and pseudo-magnetic "
                "field of one valley (the other sees its opposite); above each panel the median σ. Empty rings: within 9 Å of the rim."
            )
            pictures.append(Picture("electronic", figures.electronic_figure(atoms, values), words, "Maps of density of states and field."))
    text = f"Atoms with a density of states: {format_number(known)}. Values are means over samples of each frame's posterior."
    return Section("electronic", "Electronic response", (text,), (Table(caption, table, "correlations.csv"),), tuple(pictures))


def correlation_table(sums: pl.DataFrame, frames: np.ndarray) -> pl.DataFrame:
    """Rows of response, shape, r, its interval and the number of values, over the frames given."""
    good = sums.filter(pl.col("frame").is_in(frames.tolist())).sort("frame")
    rows = []
    for (response, shape), part in good.group_by("response", "shape", maintain_order=True):
        found = correlation(part.select(SUM_NAMES).to_numpy())
        rows.append((response, shape, found.r, found.low, found.high, found.n_values))
    return pl.DataFrame(rows, schema=["response", "goes with", "r", "from", "to", "values"], orient="row")
