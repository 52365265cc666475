"""The electronic section: maps and correlations where carbon has pi bands, words where it has none, nothing without optics."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_tables import atoms_table, calibration, frames_table
from scant.analysis.bonds import bond_table
from scant.analysis.surface import surface_table
from scant.report.electronic import correlation_table, electronic_section
from scant.report.findings import ReportInputs, Response, collect_findings
from scant.report.results import build_report
from scant.stages.products import ELECTRONS, ORDERS, RESPONSES, bonds_with_orders

N_FRAMES = 6


def response(known: bool = True) -> Response:
    """Densities of states that grow with the strain, bond orders that fall with the length."""
    rng = np.random.default_rng(1)
    atoms = atoms_table(N_FRAMES)
    surface, bonds = surface_table(atoms, 2.46, None), bond_table(atoms)
    stretch = surface["green_xx"].fill_nan(None) + surface["green_yy"].fill_nan(None)
    columns = dict.fromkeys(RESPONSES, stretch * 0.1 + 0.03 + 1e-5 * rng.normal(size=len(stretch)))
    columns |= {f"sigma_{name}": pl.Series(np.full(len(stretch), 0.002)) for name in RESPONSES}
    electronic = surface.select("frame", "id").with_columns(**columns).select(pl.col(name).cast(kind) for name, kind in ELECTRONS.items())
    electronic = (
        electronic
        if known
        else electronic.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ELECTRONS if name not in ("frame", "id"))
    )
    orders = bonds.select("frame", "id_a", "id_b", pi_bond_order=1.2 - 0.47 * pl.col("length_angstrom"), sigma_pi_bond_order=0.02)
    return Response(electronic.lazy(), surface.lazy(), bonds_with_orders(bonds, orders if known else None).lazy())


def inputs(what: Response | None) -> ReportInputs:
    frames = frames_table(N_FRAMES, failed=())
    return ReportInputs("demo", atoms_table(N_FRAMES).lazy(), frames.with_columns(converged=True), calibration(), response=what)


def test_the_section_shows_maps_and_correlations_with_intervals():
    page = build_report(inputs(response()))
    section = next(s for s in page.sections if s.identifier == "electronic")
    assert [p.name for p in section.pictures] == ["electronic"]
    rows = section.tables[0].rows
    assert rows.height == 7
    strain = rows.filter(pl.col("response") == "local density of states", pl.col("goes with").str.starts_with("strain")).row(0, named=True)
    assert strain["r"] > 0.95 and strain["from"] <= strain["r"] <= strain["to"]
    order = rows.filter(pl.col("response") == "π bond order").row(0, named=True)
    assert order["r"] == pytest.approx(-1.0, abs=1e-6) and order["values"] == bond_table(atoms_table(N_FRAMES)).height
    assert any("sisl" in paragraph for s in page.sections if s.identifier == "methods" for paragraph in s.paragraphs)


def test_only_frames_that_count_enter():
    rows = correlation_table(response(), np.array([0, 1]))
    assert rows["values"][-1] == bond_table(atoms_table(2)).height
    assert rows["from"].is_nan().all()


def test_without_carbon_it_says_so_and_without_optics_nothing():
    section = electronic_section(collect_findings(inputs(response(known=False))))
    assert section is not None and not section.pictures and "carbon" in section.paragraphs[0]
    assert electronic_section(collect_findings(inputs(None))) is None


def test_bonds_keep_their_order_and_lack_what_is_not_known():
    bonds = bond_table(atoms_table(1))
    assert bonds_with_orders(bonds, None)["pi_bond_order"].null_count() == len(bonds)
    orders = bonds.head(3).select("frame", "id_a", "id_b", pi_bond_order=pl.lit(0.5), sigma_pi_bond_order=pl.lit(0.02))
    assert list(orders.columns) == list(ORDERS)
    joined = bonds_with_orders(bonds, orders.reverse())
    assert joined.select(bonds.columns).equals(bonds) and joined["pi_bond_order"].drop_nulls().to_list() == [0.5] * 3


def test_the_page_gives_the_rigidity_of_the_frames_that_count():
    """Ripples three times as high in the frame that did not converge, which must not enter."""
    powers = pl.DataFrame({"frame": [0, 1, 2, 3], "q_per_angstrom": 0.5, "n_waves": 20, "power_angstrom4": [0.022, 0.026, 0.25, 0.03],
                           "harmonic_angstrom4": 1.0, "mean_power_angstrom4": 0.01, "next_power_angstrom4": 0.002})  # fmt: skip
    frames = frames_table(4, failed=())
    given = ReportInputs("demo", atoms_table(4).lazy(), frames, calibration(), parameters={"anneal": {"temperature_k": 300.0}},
                         ripple_powers=powers)  # fmt: skip
    page = build_report(given)
    relaxation = next(t for s in page.sections if s.identifier == "dynamics" for t in s.tables).rows
    low, high = relaxation.select(relaxation.columns[2:4]).row(0)
    assert 0 < low <= 0.002 / 0.026 < 0.002 * 0.026 / 0.01**2 <= high < 2
    found = next(e for e in page.estimates if e.label == "Bending rigidity")
    assert found.value == pytest.approx(0.025852 / 0.026, rel=0.01) and "3 frames" in found.note
    assert all(e.label != "Bending rigidity" for e in build_report(inputs(None)).estimates)
