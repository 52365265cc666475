"""Sliding mean over neighbouring frames of one block, drift taken out, faulty frames left out."""

import polars as pl
from scant.imaging.average import averaged_frame
from scant.imaging.correction import correcting_device
from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.ledger import refuse_many_failures
from scant.io.logs import say
from scant.io.stacks import begin_stack, finish_stack
from scant.io.store import layout_of
from scant.io.structures import read_table, read_tables, write_table
from scant.io.tasks import FrameTask, MovieFrames, StoredTask
from scant.io.workers import map_frames
from scant.provenance import record
from scant.stages.calibration import read_detector
from scant.stages.corrected import CorrectedFrames, usable_frames, window_sources


def average(inputs, outputs, params, block, threads):
    start, stop = parse_label(block)
    known = read_tables(inputs.frames)
    device, detector = correcting_device(params.device), read_detector(inputs.detector)
    corrected = CorrectedFrames(MovieFrames(params.store), detector, params.hit_threshold_sigma, usable_frames(known), device)
    frames = range(start, stop)
    sources = window_sources(corrected, params.window // 2, known, read_table(inputs.drift), frames)
    provenance = record("average", seed=params.seed, params={"window": params.window, "device": device}, code=params.code)
    layout = layout_of(params.store)
    begin_stack(outputs.stack, params.store, start, (len(frames), layout.height_px, layout.width_px), provenance)
    task = StoredTask(FrameTask(averaged_frame, sources), outputs.stack)
    done, failures = map_frames(task, frames, stage="average", n_workers=threads, **params.workers)
    refuse_many_failures(failures, len(frames), 0)
    finish_stack(outputs.stack, [written for written, _ in done.values()])
    counts = {"frame": list(frames), "n_averaged": [done[f][1] for f in frames]}
    write_table(outputs.frames, pl.DataFrame(counts, schema={"frame": pl.Int64, "n_averaged": pl.Int64}), provenance)
    say(f"average: {params.window} frames, {counts['n_averaged'].count(0)} left out")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        average(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block, snakemake.threads)  # noqa: F821
