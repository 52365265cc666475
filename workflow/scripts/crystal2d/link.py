"""One identity per atom through the whole movie, block after block."""

import numpy as np
import polars as pl
from scant.imaging.link import empty_state, link_step
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import read_table, stream_table
from scant.provenance import record
from scant.stages.calibration import read_json

SCHEMA = {"frame": pl.Int64, "atom": pl.Int64, "id": pl.Int64}


def link(inputs, outputs, params):
    radius_px = params.settings["radius_angstrom"] / read_json(inputs.detector_facts)["pixel_size_angstrom"]
    drift = read_table(inputs.drift).select("drift_x_px", "drift_y_px").to_numpy()
    state = empty_state()

    def blocks():
        nonlocal state
        for path in inputs.sites:
            sites, found = read_table(path).select("frame", "atom", "x_px", "y_px"), []
            for (frame,), rows in sites.group_by("frame", maintain_order=True):
                ids, state = link_step(state, rows.select("x_px", "y_px").to_numpy(), drift[frame], radius_px=radius_px)
                found.append(ids)
            yield sites.select("frame", "atom").with_columns(pl.Series("id", np.concatenate([*found, np.empty(0, np.int64)]), pl.Int64))

    provenance = record("link", seed=params.seed, params=params.settings, code=params.code)
    stream_table(outputs.ids, SCHEMA, blocks(), provenance)
    say(f"link: {state.next_id} atoms followed")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        link(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
