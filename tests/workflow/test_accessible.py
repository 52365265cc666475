"""The report for everyone: no finding of axe, on a phone, by keyboard alone, with mouse and finger in the 3D view."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, find_chromium

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from report_inputs import everything
from scant.report.page import render_page, render_part
from scant.report.results import build_report

pytestmark = [pytest.mark.browser, pytest.mark.skipif(find_chromium() is None, reason="no chromium: apt-get install chromium")]
READY = "!document.getElementById('viewer-plot') || document.getElementById('viewer-plot').dataset.ready"
CAMERA = "JSON.stringify(document.getElementById('viewer-plot')._fullLayout.scene._scene.getCamera().eye)"
SOURCES = (
    "[...new Set([...document.querySelectorAll('picture')].map((p) => "
    "p.querySelector('img').currentSrc === p.querySelector('source').srcset ? 'narrow' : 'wide'))]"
)
OUTLINE = "(s => s.outlineStyle === 'none' ? 0 : parseFloat(s.outlineWidth))(getComputedStyle(document.activeElement))"
PHONE, DESK = (390, 844), (1200, 900)
TAB, ENTER, ESCAPE, RIGHT = ("Tab", 9), ("Enter", 13, "\r"), ("Escape", 27), ("ArrowRight", 39)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A page of everything, one part of it, and the data of its view."""
    folder, page = tmp_path_factory.mktemp("report"), build_report(everything())
    files = {"report": render_page(page), "gates": render_part(page, "gates"), "viewer": json.dumps(page.viewer)}
    for name, text in files.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in files}


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    executable = find_chromium()
    assert executable is not None
    with Browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def show(browser, pages):
    """Open a page and wait for its view."""

    def opened(name: str, size: tuple[int, int], dark: bool = False) -> Browser:
        browser.open(pages[name], *size, dark=dark)
        browser.wait_for(READY)
        return browser

    return opened


def text_of(browser: Browser, name: str) -> str:
    return browser.evaluate(f"document.getElementById('viewer-{name}').textContent")


def focused(browser: Browser) -> str:
    return browser.evaluate("document.activeElement.id || document.activeElement.className")


@pytest.mark.parametrize("size", [DESK, PHONE])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(show, size, dark):
    for name in ("report", "gates"):
        assert show(name, size, dark).accessibility_faults() == [], name


def test_axe_would_find_a_fault(show):
    browser = show("gates", DESK)
    browser.evaluate("document.querySelector('img').removeAttribute('alt'); document.querySelector('p').style.color = '#ccc'")
    assert [re.split("[ :]", fault)[1] for fault in browser.accessibility_faults()] == ["color-contrast", "image-alt"]


def test_on_a_phone_nothing_is_wider_than_the_page(show):
    """Tables scroll in boxes of their own, figures come in a single column, controls are as large as a finger."""
    browser = show("report", PHONE)
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE[0] == browser.evaluate("window.innerWidth")
    inside = "getBoundingClientRect().right <= innerWidth + 1 || e.closest('.scroll, #viewer-plot')"
    assert browser.evaluate(f"[...document.querySelectorAll('main *')].every((e) => e.{inside})")
    assert browser.evaluate("[...document.querySelectorAll('.scroll')].some((box) => box.scrollWidth > box.clientWidth)")
    assert browser.evaluate(SOURCES) == ["narrow"]
    assert browser.evaluate("Math.min(...[...document.querySelectorAll('button, select, input')].map((e) => e.offsetHeight))") >= 44
    assert show("report", DESK).evaluate(SOURCES) == ["wide"]


def test_on_a_phone_a_finger_turns_the_view_while_it_plays_and_picks(show):
    browser = show("report", PHONE)
    play = browser.middle_of("#viewer-play")
    browser.drag_finger(play)
    browser.wait_for("document.getElementById('viewer-play').textContent === 'Pause'")
    browser.wait_for("document.getElementById('viewer-frame').value !== '0'")
    x, y = browser.middle_of("#viewer-plot")
    before = browser.evaluate(CAMERA)
    browser.drag_finger(*((x + 5 * step, y) for step in range(16)))
    turned = browser.evaluate(CAMERA)
    assert turned != before
    label = text_of(browser, "label")
    browser.wait_for(f"document.getElementById('viewer-label').textContent !== {label!r}")
    assert browser.evaluate(CAMERA)[:9] == turned[:9], "the next frame is seen from where the finger left it"
    browser.drag_finger(browser.middle_of("#viewer-play"))
    browser.wait_for("document.getElementById('viewer-play').textContent === 'Play'")
    x, y = browser.middle_of("#viewer-plot")
    # a row may pass between the atoms of the frame that is shown, and a busy machine may draw later than a short tap ends
    for row, step in itertools.product(range(4), range(20)):
        browser.drag_finger(*[(x - 60 + 6 * step, y + 5 + 7 * row)] * (row + 1))
        if not text_of(browser, "picked").startswith("Pick"):
            break
    assert text_of(browser, "picked").startswith("Atom ")


def test_by_keyboard_alone(show, pages):
    """Skip link, every control of the view, an atom picked by its number and followed, the view turned, all let go of."""
    browser = show("report", DESK)
    browser.press(*TAB)
    assert focused(browser) == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    browser.press(*ENTER)
    browser.wait_for("document.activeElement.id === 'main'")
    browser.evaluate("document.getElementById('view').scrollIntoView()")
    browser.evaluate("document.getElementById('viewer-play').focus()")
    reached = []
    for _ in range(6):
        reached.append(focused(browser))
        assert browser.evaluate(
            "(s => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))"
        )
        browser.press(*TAB)
    assert reached == [f"viewer-{name}" for name in ("play", "frame", "colour", "atom", "clear", "plot")]

    frame = json.loads(pages["viewer"].read_text())["frames"]
    browser.evaluate("document.getElementById('viewer-atom').focus()")
    for digit in "100":
        browser.press(digit, ord(digit), digit)
    expected = f"Atom 100: x {frame[0]['x'][100]:.2f} Å, y {frame[0]['y'][100]:.2f} Å, z {frame[0]['z'][100]:.2f}".replace("-", "−")
    assert text_of(browser, "picked").startswith(expected)
    assert browser.evaluate("document.getElementById('viewer-plot').data[2].x.length") == 1
    browser.press("ArrowUp", 38)
    assert text_of(browser, "picked").startswith("Atom 101:")
    browser.press("ArrowDown", 40)
    browser.evaluate("document.getElementById('viewer-frame').focus()")
    browser.press(*RIGHT)
    browser.wait_for(f"document.getElementById('viewer-picked').textContent.includes('x {frame[1]['x'][100]:.2f} Å')")
    browser.evaluate("document.getElementById('viewer-plot').focus()")
    before = browser.evaluate(CAMERA)
    browser.press(*RIGHT)
    browser.wait_for(f"{CAMERA} !== {before!r}")
    browser.press(*ESCAPE)
    assert text_of(browser, "picked").startswith("Pick an atom") and browser.evaluate("document.getElementById('viewer-atom').value") == ""


def test_an_atom_is_picked_with_the_mouse(show):
    browser = show("report", DESK)
    browser.evaluate("document.getElementById('viewer-plot').on('plotly_hover', () => { window.over = true; }); 0")
    middle_x, middle_y = browser.middle_of("#viewer-plot")
    for step in range(60):
        x, y = middle_x - 60 + 2.5 * step, middle_y + 10
        browser.mouse("mouseMoved", x, y)
        if browser.evaluate("Boolean(window.over)"):
            break
    for kind in ("mousePressed", "mouseReleased"):
        browser.mouse(kind, x, y)
    browser.wait_for("document.getElementById('viewer-atom').value !== ''", seconds=10)
    assert re.match(r"Atom \d+: x .* Å, y .* Å, z .* ± .* Å; mean strain", text_of(browser, "picked"))
    browser.middle_of("#viewer-clear")
    browser.evaluate("document.getElementById('viewer-clear').click()")
    assert text_of(browser, "picked").startswith("Pick an atom")
    assert browser.log.errors == [] and browser.log.failed == []
