"""Judge every structure of one block by molecular dynamics in LAMMPS."""

from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.ledger import failure_table, refuse_many_failures
from scant.io.logs import say
from scant.io.structures import read_table, write_table
from scant.io.workers import map_frames
from scant.physics.md import MdSettings
from scant.provenance import record
from scant.stages.calibration import read_json, write_json
from scant.stages.judging import JudgeTask, md_table, verdict_failures

SECONDS_PER_PS = 60


def validate(inputs, outputs, params, block, threads):
    start, stop = parse_label(block)
    settings = MdSettings(lattice_constant_angstrom=read_json(inputs.calibration)["lattice_constant_angstrom"], **params.settings)
    frames = read_table(inputs.atoms)["frame"].unique().sort().to_list()
    timeout_s = 300 + SECONDS_PER_PS * settings.length_ps
    done, lost = map_frames(
        JudgeTask(inputs.atoms, settings, params.seed), frames, stage="validate", n_workers=threads,
        timeout_s=timeout_s, scheduler_address=params.workers["scheduler_address"],
    )  # fmt: skip
    provenance = record("validate", seed=params.seed, params=params.settings, code=params.code)
    table = md_table(done)
    write_table(outputs.md, table, provenance)
    write_json(outputs.logs, {str(frame): verdict.log for frame, verdict in done.items() if verdict.verdict == "failed"})
    failures = [*lost, *verdict_failures(done)]
    write_table(outputs.failures, failure_table(failures), provenance)
    counts = dict(table["verdict"].value_counts().iter_rows())
    say("validate: " + (", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())) or "no structure"))
    refuse_many_failures(lost, stop - start, params.max_failed_fraction)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        validate(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block, snakemake.threads)  # noqa: F821
