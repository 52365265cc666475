"""Correct one block and keep what that did to each frame as a row of figures; later stages correct the frames they read again."""

import numpy as np
import polars as pl
from scant.imaging.correction import correction_figures
from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.ledger import failure_table, faulty_frames, refuse_many_failures
from scant.io.logs import say
from scant.io.structures import read_table, write_table
from scant.io.tasks import FrameTask, MovieFrames
from scant.io.workers import map_frames
from scant.provenance import record
from scant.stages.calibration import read_detector

FIGURES = ("mean_e", "variance_cut_total", "variance_cut_background")
SCHEMA = {"frame": pl.Int64, "fault": pl.String, "n_hits": pl.Int64, **dict.fromkeys(FIGURES, pl.Float64)}


def correct(inputs, outputs, params, block, threads):
    start, stop = parse_label(block)
    detector = read_detector(inputs.detector)
    faults = dict(read_table(inputs.faults).iter_rows())
    task = FrameTask(correction_figures, {"raw_adu": MovieFrames(params.store)}, {"detector": detector, **params.settings})
    usable = [f for f in range(start, stop) if faults[f] is None]
    done, failures = map_frames(task, usable, stage="correct", n_workers=threads, **params.workers)
    provenance = record("correct", seed=params.seed, params=params.settings, code=params.code)
    rows = [{"frame": f, "fault": faults[f], **done.get(f, {})} for f in range(start, stop)]
    write_table(outputs.frames, pl.DataFrame(rows, schema=SCHEMA), provenance)
    write_table(outputs.failures, failure_table([*failures, *faulty_frames(faults)]), provenance)
    cut = np.mean([d["variance_cut_total"] for d in done.values()]) if done else np.nan
    say(f"correct: {len(done)} of {stop - start} frames; variance cut by {cut:.0%}")
    refuse_many_failures(failures, stop - start, params.max_failed_fraction)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        correct(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block, snakemake.threads)  # noqa: F821
