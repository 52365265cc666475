"""What a finished run shows: its page in a browser, and the same parts, captioned, in the report that Snakemake itself gathers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, find_chromium
from house import House
from scant.report.parts import PARTS

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="no chromium: apt-get install chromium")
READY = "document.getElementById('viewer-plot').dataset.ready"


@pytest.fixture(scope="module")
def own_report(finished) -> Path:
    """The page of `snakemake --report`."""
    page = finished.root / "snakemake-report.html"
    command = [str(Path(sys.executable).parent / "snakemake"), "--configfile", "tiny.json", "--nolock", "--report", str(page)]
    done = finished.run(command)
    assert done.returncode == 0, done.stdout
    return page


def data_of(page: Path, name: str) -> dict[str, Any]:
    found = re.search(rf"var {name} = (\{{.*?\}});?\s*</script>", page.read_text(encoding="utf-8"), re.S)
    assert found is not None, name
    return json.loads(found[1])


def test_snakemakes_own_report_has_the_parts_of_the_page(own_report):
    categories, results = data_of(own_report, "categories"), data_of(own_report, "results")
    assert list(categories) == list(PARTS.values())
    shown = {Path(path).name for groups in categories.values() for paths in groups.values() for path in paths}
    assert shown == {"report.html", "dynamics.mp4", *(f"{part}.html" for part in PARTS)}
    captions = [re.sub("<[^>]+>", "", entry["caption"]) for entry in results.values()]
    assert all("tiny" in caption and "{{" not in caption and len(caption) > 60 for caption in captions)
    assert any("2 chains" in caption and "8 samples" in caption for caption in captions), "captions say what was really used"


def test_each_part_is_the_pages_own(finished):
    """The same sections under the same numbers: nothing is said twice in two ways."""
    page = (finished.results / "report.html").read_text(encoding="utf-8")
    headings = set()
    for part, title in PARTS.items():
        text = (finished.results / "sections" / f"{part}.html").read_text(encoding="utf-8")
        assert f'<h2 id="{part}">{title}</h2>' in text and "<script" not in text
        found = re.findall(r"<h3 id=.*?</h3>|<p class=\"caption\".*?</p>|<figcaption>.*?</figcaption>", text)
        assert all(one in page for one in found)
        headings |= set(found)
    assert set(re.findall(r"<h3 id=.*?</h3>|<p class=\"caption\".*?</p>|<figcaption>.*?</figcaption>", page)) == headings


def test_every_figure_is_there_as_a_vector(finished):
    folder = finished.results / "figures"
    names = {path.stem for path in folder.glob("*.png")}
    assert {"truth", "dose", "displacement", "heights"} <= names
    for kinds, where in ((("png", "svg"), folder), (("png", "svg", "pdf"), folder / "column")):
        assert all({path.stem for path in where.glob(f"*.{kind}")} == names for kind in kinds)


@pytest.mark.browser
@needs_chromium
def test_both_open_without_a_network_and_without_a_fault(finished, own_report, tmp_path):
    executable = find_chromium()
    assert executable is not None
    with Browser(executable, tmp_path / "profile") as browser:
        browser.open(finished.results / "report.html", 390, 844)
        browser.wait_for(READY)
        assert browser.accessibility_faults() == []
        browser.screenshot(tmp_path / "report.png", whole=True)
        assert browser.log.errors == [] and browser.log.failed == []
        browser.open(own_report, 1200, 900)
        browser.wait_for("document.body.innerText.includes('Dose study')")
        browser.screenshot(tmp_path / "snakemake.png")
        assert browser.log.errors == [] and browser.log.failed == []


def test_only_what_the_viewer_was_asked_for(finished: House):
    """`report.viewer_frames` of the configuration is what the page holds."""
    text = (finished.results / "report.html").read_text(encoding="utf-8")
    data = re.search(r'id="viewer-data">(.*?)</script>', text)
    assert data is not None and len(json.loads(data[1])["frames"]) == 3
