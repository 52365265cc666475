"""Shifts between frames of one block and its halo, at several lags."""

import numpy as np
from scant.imaging.align import pair_shifts
from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import read_tables
from scant.io.tasks import MovieFrames
from scant.stages.calibration import read_detector, read_signal
from scant.stages.corrected import CorrectedFrames, usable_frames
from scant.stages.shifts import write_shifts


def align_pairs(inputs, outputs, params, block):
    start, stop = parse_label(block)
    frames = read_tables(inputs.frames).sort("frame")
    last = min(stop + params.halo_frames, int(frames["frame"].max()) + 1)
    usable = usable_frames(frames)
    images = CorrectedFrames(MovieFrames(params.store), read_detector(inputs.detector), params.hit_threshold_sigma, usable).stack(
        start, last
    )
    valid = np.array([frame in usable for frame in range(start, last)])
    images[~valid] = 0
    shifts = pair_shifts(images, read_signal(inputs.signal), first_frame=start, n_own=stop - start, valid=valid)
    write_shifts(outputs.pairs, shifts, {"code_digest": params.code})
    say(f"align: {len(shifts.first)} pairs of frames")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        align_pairs(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block)  # noqa: F821
