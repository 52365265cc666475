"""Open the movie, check it, write what is known of it, and create the empty movie.zarr that the blocks will fill."""

from pathlib import Path

import numpy as np
from scant.config import load_acquisition
from scant.imaging.temporal import frame_levels
from scant.io.blocks import chunk_frames_for, frames_of_a_block, plan_blocks, sample_frames
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.readers import open_movie, read_frames
from scant.io.stacks import renew_movie
from scant.provenance import file_fingerprint, record
from scant.stages.calibration import write_json
from scant.stages.facts import dataset_facts

LEVEL_FRAMES = 33


def ingest(inputs, outputs, params):
    acquisition = load_acquisition(inputs.acquisition)
    folder = Path(inputs.acquisition).parent
    source = open_movie(str(folder / acquisition.movie), params.settings["max_bytes"])
    facts = dataset_facts(source, acquisition, folder, params.settings["max_frames"])
    sampled = np.stack([read_frames(source, n, n + 1)[0] for n in sample_frames(facts["n_frames"], LEVEL_FRAMES)])
    facts |= {"movie": str(folder / acquisition.movie), "level_adu": float(np.nanmedian(frame_levels(sampled)))}
    chunk_frames = chunk_frames_for(source.height_px, source.width_px, facts["itemsize"], params.settings["chunk_bytes"])
    frame_px = source.height_px * source.width_px
    block_frames = frames_of_a_block(params.block_frames, facts["n_frames"], frame_px, chunk_frames)
    blocks = plan_blocks(facts["n_frames"], block_frames, chunk_frames)
    hashes = {Path(file).name: file_fingerprint(file) for file in inputs.files}
    provenance = record("ingest", seed=params.seed, params=params.settings, code=params.code, inputs=hashes)
    shape = (facts["n_frames"], source.height_px, source.width_px)
    renew_movie(
        params.store, shape, source.dtype, chunk_frames, pixel_size_angstrom=facts["pixel_size_angstrom"],
        frame_time_ms=facts["frame_time_ms"], metadata=source.metadata, provenance=provenance,
    )  # fmt: skip
    say(f"ingest: {shape[0]} frames of {shape[1]} x {shape[2]} px {source.dtype} by {source.reader}, {len(blocks)} block(s)")
    for note in [*source.notes, *facts["missing"]]:
        say(f"ingest: {note}")
    write_json(outputs.facts, {**facts, "chunk_frames": chunk_frames, "blocks": [b.label for b in blocks], "provenance": provenance})


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        ingest(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
