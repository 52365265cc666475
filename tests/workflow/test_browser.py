"""The report in a real browser without a network: nothing fails, nothing is asked for, the view reacts to keys."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from chromium import Browser, find_chromium

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from report_tables import HOSTILE, atoms_table, calibration, failures_table, frames_table, images
from scant.report.findings import ExampleImages, ReportInputs
from scant.report.page import render_page
from scant.report.results import build_report

pytestmark = [pytest.mark.browser, pytest.mark.skipif(find_chromium() is None, reason="no chromium: apt-get install chromium")]
READY = "document.getElementById('viewer-plot').dataset.ready"
ALLOWED = ("file:", "data:", "blob:", "about:")


def write_report(folder: Path, flat: bool) -> Path:
    stage = images(64)
    inputs = ReportInputs(
        name=HOSTILE,
        atoms=atoms_table(4, flat=flat),
        frames=frames_table(4, failed=()),
        calibration={} if flat else calibration(),
        failures=failures_table(hostile=True),
        example=ExampleImages(1, stage["raw"], stage["corrected"], None if flat else stage["model"], pixel_size_angstrom=0.2),
    )
    path = folder / "report.html"
    path.write_text(render_page(build_report(inputs)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("flat", "dark", "width"), [(False, False, 1200), (True, True, 390)])
def test_the_report_opens_offline_without_a_single_fault(tmp_path, flat, dark, width):
    report = write_report(tmp_path, flat)
    executable = find_chromium()
    assert executable is not None
    with Browser(executable, tmp_path / "profile") as browser:
        browser.open(report, width, dark=dark)
        browser.wait_for(READY)
        assert browser.evaluate(READY) == "2d" or not flat
        before = browser.screenshot(tmp_path / "page.png", whole=True)
        assert len(before) > 50_000
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")

        browser.evaluate("document.getElementById('viewer-frame').focus()")
        label = browser.evaluate("document.getElementById('viewer-label').textContent")
        browser.press("ArrowRight", 39)
        browser.wait_for(f"document.getElementById('viewer-label').textContent !== {label!r}")
        browser.evaluate("document.getElementById('viewer-colour').focus()")
        browser.press("ArrowDown", 40)
        browser.wait_for("document.getElementById('viewer-colour').selectedIndex === 1")
        drawn = "document.getElementById('viewer-plot').data[1].marker.colorbar.title.text"
        chosen = browser.evaluate("document.getElementById('viewer-colour').selectedOptions[0].textContent.trim()")
        browser.wait_for(f"{drawn} === {chosen!r}")

        assert browser.log.errors == []
        assert browser.log.failed == []
        assert [url for url in browser.log.requests if not url.startswith(ALLOWED)] == []


def test_a_script_that_slipped_in_would_not_run(tmp_path):
    """The policy is the second wall: markup put into the finished page does nothing, and the browser says so."""
    report = write_report(tmp_path, flat=True)
    attack = "<script>window.owned = true</script><img src='https://example.org/x.png' onerror='window.owned = true'>"
    report.write_text(report.read_text(encoding="utf-8").replace("</main>", attack + "</main>"), encoding="utf-8")
    executable = find_chromium()
    assert executable is not None
    with Browser(executable, tmp_path / "profile") as browser:
        browser.open(report)
        browser.wait_for(READY)
        assert browser.evaluate("window.owned === undefined")
        assert any("Content Security Policy" in error for error in browser.log.errors)
