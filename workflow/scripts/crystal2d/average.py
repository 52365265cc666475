"""Sliding mean over neighbouring frames of one block, drift taken out, faulty frames left out."""

import numpy as np
import polars as pl
from scant.imaging.average import window_mean
from scant.io.blocks import parse_label
from scant.io.logs import say, stage_log
from scant.io.stacks import write_stack
from scant.io.store import StackReader
from scant.io.structures import read_table, read_tables, write_table
from scant.provenance import record


def average(inputs, outputs, params, block):
    start, stop = parse_label(block)
    size = params.window
    known = read_tables(inputs.frames)["frame"]
    first, last = max(start - size // 2, int(known.min())), min(stop + size // 2, int(known.max()) + 1)
    frames = StackReader(inputs.stacks).read(first, last)
    valid = np.isfinite(frames).all(axis=(1, 2))
    drift = read_table(inputs.drift)[first:last].select("drift_y_px", "drift_x_px").to_numpy()
    mean, used = window_mean(frames, np.arange(first, last), valid, size, drift_px=drift)
    own = slice(start - first, stop - first)
    # A shifted neighbour does not reach the edge: there the frame itself stands in.
    image = np.where(np.isfinite(mean[own]), mean[own], frames[own])
    provenance = record("average", seed=params.seed, params={"window": size}, code=params.code)
    write_stack(outputs.stack, params.store, start, image, provenance)
    count = used[own].reshape(stop - start, -1).max(axis=1)
    write_table(outputs.frames, pl.DataFrame({"frame": np.arange(start, stop), "n_averaged": count.astype(np.int64)}), provenance)
    say(f"average: {size} frames, {int((~valid[own]).sum())} left out")


if __name__ == "__main__":
    with stage_log(snakemake.log[0]):  # noqa: F821
        average(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block)  # noqa: F821
