"""Copy one block of frames into movie.zarr, chunk by chunk, with a manifest of what was written and the frames' faults."""

import polars as pl
from scant.imaging.temporal import frame_faults
from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.manifest import write_manifest
from scant.io.readers import open_movie, read_frames
from scant.io.store import write_frames
from scant.io.structures import write_table
from scant.stages.calibration import read_json


def ingest_frames(inputs, outputs, params, block):
    facts = read_json(inputs.facts)
    source = open_movie(facts["movie"], params.max_bytes)
    start, stop = parse_label(block)
    records, rows = [], []
    for at in range(start, stop, facts["chunk_frames"]):
        last = min(at + facts["chunk_frames"], stop)
        frames = read_frames(source, at, last)
        records += write_frames(params.store, at, frames)
        faults = frame_faults(frames, expected_level_adu=facts["level_adu"])
        rows += [{"frame": frame, "fault": fault} for frame, fault in zip(range(at, last), faults)]
    write_table(outputs.faults, pl.DataFrame(rows, schema={"frame": pl.Int64, "fault": pl.String}), {"code_digest": params.code})
    write_manifest(outputs.manifest, records)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        ingest_frames(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block)  # noqa: F821
