"""Figures for papers: in a single column everything stays legible and inside, and every one is there as PNG, SVG and PDF."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from report_inputs import everything
from scant.report.page import Page, Picture, save_pictures
from scant.report.results import build_report
from scant.report.style import COLUMN_INCH

SMALLEST_PT = 7.0
FOR_PAPERS = ("truth", "dose", "displacement", "ripple-course", "denoisers")


@pytest.fixture(scope="module")
def page() -> Page:
    """A run that has everything."""
    return build_report(everything())


def pictures(page: Page) -> dict[str, Picture]:
    return {picture.name: picture for picture in page.pictures()}


def test_a_full_run_has_every_figure(page):
    assert set(pictures(page)) == {
        "frame", "residual", "intensity", "drift", "heights", "sigma", "bonds", "strain", "curvature", "ripples", "ripple-course",
        "fluctuation", "displacement", "electronic", "dose", "quality", "energy", "md", "truth", "denoisers", "defects",
    }  # fmt: skip


def test_in_a_single_column_all_text_is_legible_and_inside_and_apart(page):
    for name, picture in pictures(page).items():
        figure = picture.narrow
        assert figure.get_figwidth() == COLUMN_INCH and figure.get_figheight() < 13
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert min(text.get_fontsize() for text in texts) >= SMALLEST_PT, name
        width, height = canvas.get_width_height()
        for axes in (a for a in figure.axes if a.axison):
            shown = [text for text in (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label) if text.get_text()]
            boxes = [text.get_window_extent(renderer) for text in shown]
            assert all(b.x0 > -1 and b.y0 > -1 and b.x1 < width + 1 and b.y1 < height + 1 for b in boxes), (name, shown)
            for axis in (axes.xaxis, axes.yaxis):
                ticks = [
                    t.label1.get_window_extent(renderer) for t in axis.get_major_ticks() if t.label1.get_text() and t.label1.get_visible()
                ]
                assert not any(a.overlaps(b) for k, a in enumerate(ticks) for b in ticks[k + 1 :]), (name, axes.get_xlabel())


def test_titles_carry_the_units_of_their_uncertainties(page):
    for name, units in {"electronic": ("· 10⁻³ / eV", "T"), "curvature": ("· 10⁻² Å⁻¹", "· 10⁻⁴ Å⁻²"), "strain": ("%", "%", "%")}.items():
        titles = [axes.get_title(loc="left") for axes in pictures(page)[name].wide.axes if axes.get_title(loc="left")]
        assert len(titles) == len(units)
        assert all(re.search(r"median σ −?[\d.]+ ", title) and title.endswith(unit) for title, unit in zip(titles, units)), titles


def test_files_for_papers(page, tmp_path):
    """Vectors with their text as text (SVG) and with embedded fonts (PDF), the same bytes each time."""
    chosen = [picture for name, picture in pictures(page).items() if name in FOR_PAPERS]
    assert len(chosen) == len(FOR_PAPERS)
    save_pictures(chosen, tmp_path / "figures")
    save_pictures(chosen[:1], tmp_path / "again")
    for name in FOR_PAPERS:
        for file in (f"{name}.png", f"{name}.svg", f"column/{name}.png", f"column/{name}.svg", f"column/{name}.pdf"):
            assert (tmp_path / "figures" / file).stat().st_size > 5000
        pdf, svg = (tmp_path / "figures" / "column" / f"{name}.{kind}" for kind in ("pdf", "svg"))
        assert pdf.read_bytes().startswith(b"%PDF") and b"FontFile2" in pdf.read_bytes()
        assert svg.read_text().count("<text") > 8 and "<image" not in svg.read_text()
    for again in (tmp_path / "again").rglob("*.*"):
        assert again.read_bytes() == (tmp_path / "figures" / again.relative_to(tmp_path / "again")).read_bytes()


def test_the_energy_has_a_zero_of_its_own_in_search_and_sampling(page):
    search, sampling = pictures(page)["energy"].wide.axes
    assert [len(line.get_xdata()) for line in search.lines] == [25] * 4 and min(line.get_ydata().min() for line in search.lines) == 0
    assert [line.get_xdata()[[0, -1]].tolist() for line in sampling.lines] == [[25, 39]] * 4
    assert np.mean([line.get_ydata()[5:] for line in sampling.lines]) == pytest.approx(0, abs=1e-9)
