"""The dataset's page and its figures."""

from pathlib import Path

import polars as pl
from scant.analysis.defect_events import inner_area_angstrom2
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import FieldOfView, read_provenance, read_table, read_tables
from scant.report.findings import Defects, ReportInputs, Response
from scant.report.page import render_page, render_part, save_pictures
from scant.report.parts import PARTS
from scant.report.results import build_report
from scant.stages.calibration import read_detector, read_json
from scant.stages.reporting import Examples, energy_traces, truth_errors


def report(inputs, outputs, params, name):
    calibration, frames, atoms = read_json(inputs.calibration), read_table(inputs.frames), pl.scan_parquet(inputs.atoms)
    examples = Examples(params.store, read_detector(inputs.detector), calibration, params.hit_threshold_sigma)
    frame = examples.middle_frame(frames)
    energy, trace_frame = energy_traces(read_tables(inputs.traces), frame) if inputs.traces else (None, None)
    truth, scores = truth_errors(atoms, inputs.truth[0], calibration) if inputs.truth else (None, None)
    page = build_report(
        ReportInputs(
            name,
            atoms,
            frames,
            calibration,
            parameters=params.parameters,
            provenance={**read_provenance(inputs.atoms), "seed": params.seed},
            md=read_table(inputs.md),
            dose=read_table(inputs.dose) if inputs.dose else None,
            dose_bound=read_table(inputs.dose_bound) if inputs.dose_bound else None,
            defocus_bound=read_table(inputs.defocus_bound) if inputs.defocus_bound else None,
            dose_summary=read_json(inputs.threshold) if inputs.threshold else None,
            failures=read_table(inputs.failures),
            example=examples.images(frame, atoms),
            truth=truth,
            truth_scores=scores,
            histograms=examples.histograms(frame, atoms),
            energy=energy,
            ripple_powers=read_table(inputs.ripples),
            **{table: pl.scan_parquet(getattr(inputs, table)) for table in ("surface", "bonds")},
            defects=Defects(read_table(inputs.defects), read_table(inputs.events), inner_area_angstrom2(FieldOfView.of(calibration))),
            response=Response(pl.scan_parquet(inputs.electronic), read_tables(inputs.sums)) if inputs.sums else None,
            denoisers=tuple(read_table(table) for table in inputs.denoisers) if inputs.denoisers else None,
            viewer_frames=params.settings["viewer_frames"],
        )
    )
    Path(outputs.page).write_text(render_page(page), encoding="utf-8")
    for part in PARTS:
        Path(getattr(outputs, part)).write_text(render_part(page, part), encoding="utf-8")
    save_pictures(page.pictures(), Path(outputs.figures))
    say(f"report: {outputs.page}, {len(page.pictures())} figures; energy trace of frame {trace_frame}")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        report(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.name)  # noqa: F821
