"""The page: complete, self-contained, safe against its own contents, honest about what is missing."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest
from report_inputs import full_inputs
from report_tables import (
    HOSTILE,
    atoms_table,
    dose_summary,
    failures_table,
    frames_table,
    images,
    md_table,
)
from scant.analysis.neighbours import FrameAtoms
from scant.analysis.surface import surface_table
from scant.errors import InputError
from scant.report.findings import ExampleImages, ReportInputs, collect_findings
from scant.report.page import Page, render_page, script_json
from scant.report.results import build_report
from scant.report.structure import mechanics_section
from scant.report.tables import csv_text, format_estimate, format_heading, format_number
from scant.report.viewer import MAX_ATOMS, MAX_FRAMES, evenly_spread, viewer_data


@pytest.fixture(scope="module")
def page() -> Page:
    return build_report(full_inputs())


@pytest.fixture(scope="module")
def html(page: Page) -> str:
    return render_page(page)


@pytest.fixture(scope="module")
def hostile_html() -> str:
    frames = frames_table(4)
    stage = images(40)
    inputs = ReportInputs(
        name=HOSTILE,
        atoms=atoms_table(4, flat=True),
        frames=frames,
        failures=failures_table(hostile=True),
        parameters={HOSTILE: {HOSTILE: HOSTILE}},
        provenance={"inputs": {HOSTILE: HOSTILE}},
        example=ExampleImages(1, stage["raw"], stage["corrected"], pixel_size_angstrom=0.2),
    )
    return render_page(build_report(inputs))


class Outline(HTMLParser):
    """Elements of a page with their attributes, and the texts of its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def without_plotly(html: str) -> str:
    """The page without the third party's script, which holds addresses and markup of its own."""
    return re.sub(r"<script>.{1000000,}?</script>", "", html, flags=re.S)


def test_everything_it_shows_is_inside(html):
    outline = Outline(without_plotly(html))
    for tag, attributes in outline.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    assert not re.search(r"@import|url\((?!data:)", html.split("</style>")[0])
    assert html.count("plotly.js v") <= 2 and len(html) < 8e6


def test_the_policy_allows_its_own_scripts_and_no_others(html):
    policy = next(m["content"] for m in Outline(without_plotly(html)).all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")
    allowed = re.search(r"script-src ([^;]*)", policy)
    assert allowed and "unsafe" not in allowed[1]
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts}
    assert set(allowed[1].split()) == hashes and len(scripts) == 2


def test_the_outline_can_be_heard_and_reached(html):
    outline = Outline(without_plotly(html))
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(len(image.get("alt") or "") > 20 for image in outline.all("img")) and len(outline.all("img")) >= 14
    assert all(header.get("scope") in ("col", "row") for header in outline.all("th"))
    identifiers = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    assert {a["href"][1:] for a in outline.all("a") if (a["href"] or "").startswith("#")} <= set(identifiers)
    labelled = {label.get("for") for label in outline.all("label")}
    assert {"viewer-frame", "viewer-colour"} <= labelled
    assert outline.all("html")[0]["lang"] == "en"


def test_captions_are_numbered_in_order(html):
    assert [int(n) for n in re.findall(r"Figure (\d+)\.</b>", html)] == list(range(1, html.count("<figure") + 1))
    assert [int(n) for n in re.findall(r"Table (\d+)\.</b>", html)] == list(range(1, len(re.findall(r"""<p class="caption" """, html)) + 1))


@pytest.mark.fault("F23")
def test_the_numbers_are_those_of_the_tables(page):
    numbers = {item.label: item for item in page.estimates}
    frames = frames_table(8)
    good = frames.filter((pl.col("status") == "ok") & pl.col("converged").fill_null(True))
    assert numbers["Frames reconstructed, converged"].value == pytest.approx(100 * good.height / 8)
    assert f"{good.height} of 8" in numbers["Frames reconstructed, converged"].note
    assert numbers["σ of z"].value == pytest.approx(0.2)
    assert numbers["Defocus"].text == "−45.3 ± 1.2 Å"
    assert numbers["Dose threshold"].value == pytest.approx(dose_summary()["threshold_e_per_angstrom2"], rel=0.01)
    assert numbers["Dose per frame"].value == pytest.approx(frames["dose_e_per_angstrom2"].mean())


def test_maps_of_strain_and_curvature_state_the_sigmas_of_the_product():
    """Those of surface.parquet know how the errors of neighbours are correlated; positions and their sigmas alone do not."""
    inputs = full_inputs()
    atoms = inputs.atoms.collect()
    surface = surface_table(atoms, 2.46, None).with_columns(cs.starts_with("sigma_").cast(pl.Float64) * 7)
    titles = []
    for given in (inputs, replace(inputs, surface=surface.lazy())):
        section = mechanics_section(collect_findings(given))
        drawn = {picture.name: picture.draw() for picture in section.pictures}
        titles.append([axes.get_title(loc="left") for name in ("strain", "curvature") for axes in drawn[name].axes])
    medians = np.array([[float(re.search(r"σ ([\d.e-]+)", title)[1]) for title in some if "σ" in title] for some in titles])
    np.testing.assert_allclose(medians[1] / medians[0], 7, rtol=0.1)


def test_parameters_failures_and_provenance_are_on_the_page(html):
    for text in ("tersoff", "frame 5: correlation 0.08", "lower min_correlation", "4f1c", "2604.07271", "✗ failed", "did not converge"):
        assert text in html


def test_the_same_run_gives_the_same_bytes(html):
    assert render_page(build_report(full_inputs())) == html


def test_hostile_names_stay_text(hostile_html):
    ours = without_plotly(hostile_html)
    assert "<script>alert" not in ours
    assert ours.count("&lt;script&gt;alert") >= 6
    assert len(re.findall(r"<script", ours)) == 2
    uri = re.search(r'download="failures.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', ours)
    assert uri is not None
    rows = list(csv.reader(io.StringIO(base64.b64decode(uri[1]).decode())))
    assert rows[1][3] == "'" + HOSTILE


def test_json_cannot_end_its_script_element():
    text = script_json({"name": "</script><!--&"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"name": "</script><!--&"}
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json([float("nan")])


def test_two_dimensional_data_say_what_is_missing(hostile_html):
    assert "Heights are missing: the optics are not known" in hostile_html
    assert "They need voltage_kV, cs_um and defocus_angstrom in acquisition.yaml" in hostile_html
    for name in ("figure-heights", "figure-curvature", "figure-ripples", "figure-md", "figure-dose"):
        assert name not in hostile_html
    for name in ("figure-strain", "figure-bonds", "figure-sigma"):
        assert name in hostile_html


def test_a_run_without_any_structure_still_has_a_page():
    frames = frames_table(3, failed=(0, 1, 2))
    inputs = ReportInputs("dark", atoms_table(1).clear(), frames, failures=failures_table())
    html = render_page(build_report(inputs))
    assert "No frame was reconstructed" in html and 'id="viewer-plot"' not in html and "plotly" not in html.lower()
    assert "script-src 'none'" in unescape(html)


def test_an_empty_run_is_refused():
    with pytest.raises(InputError, match="empty"):
        build_report(replace(full_inputs(), frames=frames_table(3).clear()))


def test_frames_that_did_not_converge_stay_out_of_the_headline():
    atoms = atoms_table(4).with_columns(sigma_z_angstrom=pl.when(pl.col("frame") == 2).then(9.0).otherwise(pl.col("sigma_z_angstrom")))
    page = build_report(ReportInputs("x", atoms, frames_table(4, failed=())))
    assert page.viewer is not None
    assert [one["frame"] for one in page.viewer["frames"]] == [0, 1, 3]
    note = next(item.note for item in page.estimates if item.label == "σ of z")
    assert "9.0" not in note


def test_the_viewer_holds_what_fits():
    assert evenly_spread(np.arange(1000), 60)[[0, -1]].tolist() == [0, 999]
    assert evenly_spread(np.arange(1000), 60).size == 60
    assert evenly_spread(np.arange(7), 60).tolist() == list(range(7))
    rng = np.random.default_rng(0)

    def cloud(frame: int, n: int) -> FrameAtoms:
        return FrameAtoms(frame, np.arange(n), np.column_stack([rng.uniform(0, 3 * np.sqrt(n), (n, 2)), np.zeros(n)]), np.ones((n, 3)))

    large = viewer_data([cloud(t, 31_000) for t in range(4)], {})
    assert large is not None and sum(len(one["x"]) for one in large["frames"]) <= MAX_ATOMS
    assert len(large["frames"]) == 3
    many = viewer_data([cloud(t, 20) for t in range(100)], {})
    assert many is not None and len(many["frames"]) == MAX_FRAMES
    assert viewer_data([], {}) is None


def test_bonds_in_the_viewer_join_neighbours(page):
    frame = page.viewer["frames"][0]
    x, y, z = (np.array(frame[axis]) for axis in "xyz")
    pairs = np.array(frame["bonds"]).reshape(-1, 2)
    assert len(pairs) > 250
    length = np.sqrt(sum((c[pairs[:, 0]] - c[pairs[:, 1]]) ** 2 for c in (x, y, z)))
    assert length.min() > 1.0 and length.max() < 1.87


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (1.23456, 0.0123, "1.235 ± 0.012 Å"),
        (-45.3, 1.2, "−45.3 ± 1.2 Å"),
        (8019.4, 61.0, "8019 ± 61 Å"),
        (None, 1.0, "not determined"),
        (float("nan"), None, "not determined"),
        (0.2, None, "0.2 Å"),
    ],
)
def test_estimates_are_rounded_by_their_sigma(value, sigma, text):
    assert format_estimate(value, sigma, "Å") == text


def test_numbers_and_headings_for_readers():
    assert [format_number(v) for v in (None, float("nan"), True, 50000, 27000.0, 0.00012345, -1.5, "=1")] == [
        "–", "–", "yes", "50\u2009000", "27\u2009000", "0.0001234", "−1.5", "=1",
    ]  # fmt: skip
    assert format_heading("rms_displacement_angstrom") == "rms displacement (Å)"
    assert format_heading("dose_e_per_angstrom2") == "dose (e/Å²)"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(cell):
    table = pl.DataFrame({cell: [cell, "plain"], "n": [-1.5, 2.0]})
    rows = list(csv.reader(io.StringIO(csv_text(table), newline="")))
    assert rows[0][0] == "'" + cell and rows[1][0] == "'" + cell
    assert rows[1][1] == "-1.5" and rows[2][0] == "plain"


def test_columns_without_any_type_are_as_good_as_missing():
    """A column that was null in every row may come back from a file with no type at all."""
    atoms = atoms_table(3, flat=True).with_columns(pl.lit(None).alias(name) for name in ("z_angstrom", "sigma_z_angstrom", "flag"))
    nulls = ("converged", "correlation", "drift_x_px", "drift_y_px", "drift_sigma_px", "time_ms", "dose_e_per_angstrom2", "r_hat")
    frames = frames_table(3, failed=()).with_columns(pl.lit(None).alias(name) for name in nulls)
    md = md_table(3).with_columns(pl.lit(None).alias("energy_per_atom_ev"))
    page = build_report(ReportInputs("nulls", atoms, frames, md=md))
    assert "Heights are missing" in page.abstract
    assert {p.name for p in page.pictures()} >= {"strain", "bonds", "md"}
    assert len(render_page(page)) > 1e6


def test_what_speaks_against_the_numbers_stands_in_the_first_paragraph():
    inputs = full_inputs()
    gates = [{"name": "reduced χ² less 1, absolute", "passed": False, "value": 0.2, "unit": "", "limit": 0.15}]
    md = md_table().with_columns(pl.lit("unstable").alias("verdict"))
    page = build_report(replace(inputs, calibration={**inputs.calibration, "gates": gates}, md=md))
    assert "Beware: gates failed: reduced χ² less 1, absolute;" in page.abstract
    assert f"molecular dynamics did not confirm {md.height} of {md.height} structures" in page.abstract
    words = next(section for section in page.sections if section.identifier == "gates").paragraphs
    assert any("no flat was recorded" in text for text in words)
    sound = replace(inputs, calibration={**inputs.calibration, "gates": []}, md=md.with_columns(pl.lit("stable").alias("verdict")))
    assert "Beware" not in build_report(sound).abstract
