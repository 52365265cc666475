"""The section on the electronic response: what the pi bands of the structures say, and what it goes with."""

from __future__ import annotations

import numpy as np
import polars as pl

from scant.analysis.correlation import correlation
from scant.report import figures
from scant.report.findings import Findings, Response
from scant.report.page import Picture, Section, Table
from scant.report.tables import format_number

GEOMETRY = {"mean curvature |H|": "bend", "strain trace (out-of-plane part included)": "stretch", "mean bond length": "bond"}
RESPONSE = {"local density of states": "ldos_per_ev", "free valence": "free_valence"}


def electronic_section(found: Findings) -> Section | None:
    """Density of states and pseudo-magnetic field of one frame, and correlations with the geometry over the movie."""
    response = found.inputs.response
    if response is None:
        return None
    known = response.electronic.select(pl.col("ldos_per_ev").count()).collect().item()
    if not known:
        text = "π bands are computed for frames of carbon alone that reach more than 18 Å; this movie has no such atom."
        return Section("electronic", "Electronic response", (text,))
    table = correlation_table(response, found.good_frames)
    caption = (
        "Correlation (Pearson) over atoms and frames, 95 % interval by resampling blocks of frames. Thermal motion that the image did not "
        "settle draws it towards 0."
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


def correlation_table(response: Response, frames: np.ndarray) -> pl.DataFrame:
    """Rows of response, geometry, r, its interval and the number of values, over the frames given."""
    good = pl.col("frame").is_in(frames.tolist())
    bonds = response.bonds.filter(good)
    ends = pl.concat([bonds.select("frame", pl.col(end).alias("id"), "length_angstrom") for end in ("id_a", "id_b")])
    mean_bond = ends.group_by("frame", "id").agg(pl.col("length_angstrom").mean().alias("bond"))
    surface = response.surface.select(
        "frame", "id", pl.col("mean_per_angstrom").abs().alias("bend"), (pl.col("green_xx") + pl.col("green_yy")).alias("stretch")
    )
    atoms = response.electronic.filter(good).join(surface, on=["frame", "id"]).join(mean_bond, on=["frame", "id"])
    pairs = [(a, b, correlation(atoms, RESPONSE[a], GEOMETRY[b])) for a in RESPONSE for b in GEOMETRY]
    pairs.append(("π bond order", "bond length", correlation(bonds, "pi_bond_order", "length_angstrom")))
    rows = [(a, b, c.r, c.low, c.high, c.n_values) for a, b, c in pairs]
    return pl.DataFrame(rows, schema=["response", "goes with", "r", "from", "to", "values"], orient="row")
