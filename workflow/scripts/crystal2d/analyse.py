"""Join the blocks: atoms, bonds, surface, electrons, defects, frames, verdicts, failures, and the structures as extended XYZ."""

import polars as pl
from scant.analysis.defect_events import event_table, tracked_defects
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import FieldOfView, concat_tables, read_table, read_tables, write_extxyz, write_table
from scant.provenance import record
from scant.stages.calibration import read_json
from scant.stages.judging import md_table
from scant.stages.products import ELECTRONS, atom_counts, frames_table, structures_of

LEDGERS = ("failures", "failures_denoise", "failures_localise", "failures_anneal", "failures_validate", "failures_electrons")


def analyse(inputs, outputs, params):
    facts, calibration = read_json(inputs.facts), read_json(inputs.calibration)
    provenance = record("analyse", seed=params.seed, params={}, code=params.code, inputs=facts["provenance"]["inputs"])
    for name in ("atoms", "bonds", "surface", "ripples"):
        concat_tables(getattr(inputs, name), getattr(outputs, name), provenance)
    if inputs.electronic:
        concat_tables(inputs.electronic, outputs.electronic, provenance)
    else:
        write_table(outputs.electronic, pl.DataFrame(schema=ELECTRONS), provenance)
    failures = read_tables([path for ledger in LEDGERS for path in getattr(inputs, ledger)]).sort("frame", "stage")
    convergence = read_tables(inputs.convergence) if inputs.convergence else None
    frames = frames_table(calibration, read_table(inputs.drift), read_tables(inputs.correct), atom_counts(inputs.atoms), convergence)
    md = read_tables(inputs.md) if inputs.md else md_table({})
    write_table(outputs.frames, frames, provenance)
    write_table(outputs.md, md, provenance)
    write_table(outputs.failures, failures, provenance)
    field = FieldOfView.of(calibration)
    tracked = tracked_defects(read_tables(inputs.defects), frames, field.pixel_size_angstrom)
    write_table(outputs.defects, tracked, provenance)
    write_table(outputs.events, event_table(tracked, frames, field), provenance)
    written = write_extxyz(outputs.structures, structures_of(inputs.atoms), field)
    say(f"analyse: structures of {written} of {len(frames)} frames, {len(failures)} failures")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        analyse(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
