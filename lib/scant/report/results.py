"""From the workflow's tables to a page: which numbers, figures and words a run deserves."""

from __future__ import annotations

from scant.errors import InputError
from scant.report.closing import failures_section, limits_section, methods_section, provenance_section
from scant.report.defects import defects_section
from scant.report.denoisers import denoisers_section
from scant.report.dose_study import dose_section
from scant.report.electronic import electronic_section
from scant.report.findings import Findings, ReportInputs, collect_findings
from scant.report.headline import abstract, summary_section
from scant.report.methods import REFERENCES, methods_paragraphs
from scant.report.motion import dynamics_section
from scant.report.page import Page, Section
from scant.report.quality import convergence_section, gates_section, md_section, truth_section
from scant.report.structure import images_section, mechanics_section, structure_section, view_section
from scant.report.viewer import viewer_data


def build_report(inputs: ReportInputs) -> Page:
    """The page of one dataset; what is missing is said in its place and among the limits.

    Raises InputError when the frames table is empty.
    """
    if inputs.frames.height == 0:
        raise InputError(f"{inputs.name}: the frames table is empty; nothing to report. Run the stages before `report` first")
    found = collect_findings(inputs)
    view = viewer_data(found.sample, found.times_ms, found.lattice_angstrom, inputs.viewer_frames)
    return Page(
        title=f"{inputs.name}: structure and dynamics from a low-dose movie",
        abstract=abstract(found),
        sections=tuple(section for section in _sections(found, len(view["frames"]) if view else 0) if section is not None),
        references=REFERENCES,
        viewer=view,
    )


def _sections(found: Findings, viewer_frames: int) -> list[Section | None]:
    """All sections in the order of their parts; None where there is nothing to say."""
    inputs = found.inputs
    judged = inputs.md is not None and inputs.md.height > 0
    methods = methods_paragraphs(found.heights, judged, inputs.dose is not None, inputs.response is not None, found.linked)
    return [
        summary_section(found),
        images_section(found),
        structure_section(found),
        view_section(found, viewer_frames) if viewer_frames else None,
        mechanics_section(found),
        defects_section(found),
        dynamics_section(found),
        electronic_section(found),
        dose_section(found),
        gates_section(found),
        convergence_section(found),
        md_section(found),
        truth_section(found),
        denoisers_section(*inputs.denoisers) if inputs.denoisers is not None else None,
        failures_section(found),
        limits_section(found),
        methods_section(found, methods),
        provenance_section(found),
    ]
