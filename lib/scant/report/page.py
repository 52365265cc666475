"""One self-contained HTML page: opens offline, loads nothing, runs no script that it did not bring along.

Strings of the user (names, messages) pass through Jinja's autoescape; data for the viewer are JSON without `<`, `>`, `&`;
the content security policy names the hashes of the page's own scripts, so that markup that slipped in could not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import plotly.offline
import polars as pl
from markupsafe import Markup
from matplotlib.figure import Figure

from scant.report.style import SHOWN_PX_PER_INCH, png_bytes
from scant.report.tables import csv_text, format_estimate, format_heading, format_number


@dataclass(frozen=True)
class Estimate:
    """A headline number with its uncertainty; value None: not determined, and `note` says why."""

    label: str
    value: float | None
    sigma: float | None = None
    unit: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        return format_estimate(self.value, self.sigma, self.unit)


@dataclass(frozen=True)
class Picture:
    """A numbered figure: `name` is its file name under figures/, `alt` what it shows for those who cannot see it."""

    name: str
    figure: Figure
    caption: str
    alt: str

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(png_bytes(self.figure)).decode()

    @property
    def width_px(self) -> int:
        return round(self.figure.get_figwidth() * SHOWN_PX_PER_INCH)


@dataclass(frozen=True)
class Table:
    """A numbered table; `download` adds a link to it as CSV under that file name."""

    caption: str
    rows: pl.DataFrame
    download: str = ""

    @property
    def csv_uri(self) -> str:
        return "data:text/csv;charset=utf-8;base64," + base64.b64encode(csv_text(self.rows).encode()).decode()


@dataclass(frozen=True)
class Section:
    """A titled part of the page: paragraphs, then tables, then pictures; `viewer` places the 3D view in it."""

    identifier: str
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    bullets: tuple[str, ...] = ()
    viewer: bool = False


@dataclass(frozen=True)
class Page:
    """Everything on the page. gates: {name, passed, value, unit, limit}; viewer: see scant.report.viewer."""

    title: str
    abstract: str
    estimates: tuple[Estimate, ...]
    gates: tuple[dict[str, Any], ...]
    sections: tuple[Section, ...]
    references: tuple[str, ...] = ()
    viewer: dict[str, Any] | None = None

    def pictures(self) -> tuple[Picture, ...]:
        """All pictures in the order of the page."""
        return tuple(picture for section in self.sections for picture in section.pictures)


def render_page(page: Page) -> str:
    """The page as one HTML document; the same page gives the same bytes."""
    viewer_script = _template_text("viewer.js") if page.viewer else ""
    plotly_script = plotly.offline.get_plotlyjs() if page.viewer else ""
    template = _environment().get_template("report.html")
    return template.render(
        page=page,
        style=Markup(_template_text("style.css")),
        plotly_script=Markup(plotly_script),
        viewer_script=Markup(viewer_script),
        viewer_json=Markup(script_json(page.viewer)) if page.viewer else "",
        script_policy=" ".join(_script_hash(text) for text in (plotly_script, viewer_script) if text) or "'none'",
    )


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
    environment.filters.update(number=format_number, heading=format_heading)
    return environment
