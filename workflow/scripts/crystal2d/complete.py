"""The last word of a run: an error when frames failed, though everything else is there."""

from scant.io.jobs import job
from scant.io.ledger import failure_table
from scant.io.structures import read_table, read_tables
from scant.stages.calibration import write_json
from scant.stages.checks import completion


def complete(inputs, outputs):
    lost_twins = read_tables(inputs.twins) if inputs.twins else failure_table([])
    write_json(outputs.complete, completion(read_table(inputs.frames), read_table(inputs.failures), lost_twins, inputs.page))


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        complete(snakemake.input, snakemake.output)  # noqa: F821
