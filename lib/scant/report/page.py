"""One self-contained HTML page: opens offline, loads nothing, runs no script that it did not bring along.

Strings of the user (names, messages) pass through Jinja's autoescape; data for the viewer are JSON without `<`, `>`, `&`;
the content security policy names the hashes of the page's own scripts, so that markup that slipped in could not run.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline
import polars as pl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from scant.report.parts import PARTS
from scant.report.style import SHOWN_PX_PER_INCH, save_figure, settled, webp_bytes
from scant.report.tables import csv_text, format_estimate, format_heading, format_number


@dataclass(frozen=True)
class Estimate:
    """A headline number with its uncertainty; value None: not determined, and `note` says why; `words` stand in place of the number."""

    label: str
    value: float | None
    sigma: float | None = None
    unit: str = ""
    note: str = ""
    words: str = ""

    @property
    def text(self) -> str:
        return self.words or format_estimate(self.value, self.sigma, self.unit)


@dataclass(frozen=True)
class Picture:
    """A numbered figure: `draw(narrow=...)` makes it; `alt` says what it shows to those who cannot see it."""

    name: str
    draw: Callable[..., Figure]
    caption: str
    alt: str

    @cached_property
    def wide(self) -> Figure:
        """The figure at full width."""
        return settled(self.draw())

    @cached_property
    def narrow(self) -> Figure:
        """The figure in a single column, of a journal or on a phone."""
        return settled(self.draw(narrow=True))

    @cached_property
    def images(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """uri, width and height (CSS pixels) of the wide and of the narrow image."""
        return _image(self.wide, 150), _image(self.narrow, 200)


def _image(figure: Figure, dpi: int) -> dict[str, Any]:
    width, height = (round(side * SHOWN_PX_PER_INCH) for side in figure.get_size_inches())
    return {"uri": "data:image/webp;base64," + base64.b64encode(webp_bytes(figure, dpi)).decode(), "width": width, "height": height}


@dataclass(frozen=True)
class Table:
    """A numbered table; `download` adds a link to it as CSV under that file name."""

    caption: str
    rows: pl.DataFrame
    download: str = ""

    @property
    def csv_uri(self) -> str:
        return "data:text/csv;charset=utf-8;base64," + base64.b64encode(csv_text(self.rows).encode()).decode()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, and stand to the right."""
        return tuple(kind.is_numeric() for kind in self.rows.dtypes)


@dataclass(frozen=True)
class Section:
    """A titled piece of one of PARTS: paragraphs, bullets, headline numbers, gates, tables, pictures; `viewer` places the 3D view in it.

    gates: {name, passed, value, unit, limit}.
    """

    identifier: str
    title: str
    part: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    bullets: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    gates: tuple[dict[str, Any], ...] = ()
    viewer: bool = False


@dataclass(frozen=True)
class Page:
    """Everything on the page; viewer: see scant.report.viewer."""

    title: str
    abstract: str
    sections: tuple[Section, ...]
    references: tuple[str, ...] = ()
    viewer: dict[str, Any] | None = None

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """All headline numbers."""
        return tuple(estimate for section in self.sections for estimate in section.estimates)

    def pictures(self) -> tuple[Picture, ...]:
        """All pictures in the order of the page."""
        return tuple(picture for section in self.sections for picture in section.pictures)

    def of_part(self, part: str) -> tuple[Section, ...]:
        """The sections of one part."""
        return tuple(section for section in self.sections if section.part == part)


def render_page(page: Page) -> str:
    """The page as one HTML document; the same page gives the same bytes."""
    present = [part for part in PARTS if page.of_part(part)]
    return _rendered(page, present, page.title, with_viewer=page.viewer is not None)


def render_part(page: Page, part: str) -> str:
    """One part as a document of its own, its figures and tables numbered as on the page, without the 3D view."""
    return _rendered(page, [part], f"{page.title}: {PARTS[part]}", with_viewer=False)


def _rendered(page: Page, parts: list[str], title: str, with_viewer: bool) -> str:
    before = [section for part in itertools.takewhile(lambda part: part != parts[0], PARTS) for section in page.of_part(part)]
    plotly_script, viewer_script = (plotly.offline.get_plotlyjs(), _template_text("viewer.js")) if with_viewer else ("", "")
    return (
        _environment()
        .get_template("report.html")
        .render(
            page=page,
            title=title,
            parts=[(part, PARTS[part], page.of_part(part)) for part in parts],
            whole=len(parts) > 1,
            with_viewer=with_viewer,
            figures_before=sum(len(section.pictures) for section in before),
            tables_before=sum(len(section.tables) for section in before),
            style=Markup(_template_text("style.css")),
            plotly_script=Markup(plotly_script),
            viewer_script=Markup(viewer_script),
            viewer_json=Markup(script_json(page.viewer)) if with_viewer else "",
            script_policy=" ".join(_script_hash(text) for text in (plotly_script, viewer_script) if text) or "'none'",
        )
    )


def with_citations(text: str) -> Markup:
    """The text, escaped, with its [3, 4] as links to the references."""
    return Markup(re.sub(r"\[(\d+(?:, \d+)*)\]", _links, str(escape(text))))


def _links(found: re.Match[str]) -> str:
    return "[" + re.sub(r"\d+", r'<a href="#reference-\g<0>">\g<0></a>', found[1]) + "]"


def save_pictures(pictures: Iterable[Picture], folder: Path) -> None:
    """Every picture in full width as PNG and SVG, and under column/, as a journal's column wants it, as PDF too."""
    for picture in pictures:
        save_figure(picture.wide, folder, picture.name)
        save_figure(picture.narrow, folder / "column", picture.name, ("svg", "pdf"))


def script_json(data: Any) -> str:
    """JSON that is safe inside a script element: no `</script>`, no `<!--`, no NaN."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _script_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _template_text(name: str) -> str:
    return (resources.files("scant.report") / "templates" / name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=format_number, heading=format_heading, cited=with_citations)
    return environment
