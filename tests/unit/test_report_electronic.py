"""The electronic section: maps and correlations where carbon has pi bands, words where it has none."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from report_inputs import N_RESPONSES as N_FRAMES
from report_inputs import response
from report_tables import atoms_table, calibration, frames_table
from scant.analysis.bonds import bond_table
from scant.report.electronic import correlation_table, electronic_section
from scant.report.findings import ReportInputs, Response, collect_findings
from scant.report.results import build_report
from scant.stages.products import ORDERS, bonds_with_orders


def inputs(what: Response | None) -> ReportInputs:
    frames = frames_table(N_FRAMES, failed=())
    return ReportInputs("demo", atoms_table(N_FRAMES).lazy(), frames.with_columns(converged=True), calibration(), response=what)


def test_the_section_shows_maps_and_correlations_with_intervals():
    page = build_report(inputs(response()))
    section = next(s for s in page.sections if s.identifier == "electronic")
    assert [p.name for p in section.pictures] == ["electronic"]
    strain, order = section.tables[0].rows.iter_rows(named=True)
    assert (strain["response"], strain["goes with"], strain["values"]) == ("density of states", "strain trace", 300 * N_FRAMES)
    assert strain["r"] == pytest.approx(1 / np.sqrt(1.01), abs=0.005) and strain["from (95 %)"] <= strain["r"] <= strain["to (95 %)"]
    assert order["r"] == pytest.approx(-np.sqrt(0.5), abs=0.05)
    assert any("sisl" in paragraph for s in page.sections if s.identifier == "methods" for paragraph in s.paragraphs)


def test_only_frames_that_count_enter():
    rows = correlation_table(response().sums, np.array([0, 1]))
    assert rows["values"].to_list() == [600, 600]
    assert rows["from"].is_nan().all()


def test_without_carbon_or_without_optics_it_says_so():
    section = electronic_section(collect_findings(inputs(response(known=False))))
    assert not section.pictures and "carbon" in section.paragraphs[0]
    assert "needs heights" in electronic_section(collect_findings(inputs(None))).paragraphs[0]


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
    assert 0 < low <= 0.002 / 0.026 < 0.002 * 0.026 / 0.01**2 <= high <= 1
    found = next(e for e in page.estimates if e.label == "Bending rigidity")
    assert found.value == pytest.approx(0.025852 / 0.026, rel=0.01) and "3 frames" in found.note
    assert all(e.label != "Bending rigidity" for e in build_report(inputs(None)).estimates)
