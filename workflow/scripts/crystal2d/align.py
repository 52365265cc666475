"""Drift of the whole movie from the pair shifts of all blocks."""

from scant.imaging.align import integrate_shifts, merge_shifts
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import write_table
from scant.stages.calibration import read_json
from scant.stages.shifts import drift_table, read_shifts


def align(inputs, outputs, params):
    n_frames = read_json(inputs.facts)["n_frames"]
    drift, sigma = integrate_shifts(merge_shifts([read_shifts(path) for path in inputs.pairs]), n_frames)
    write_table(outputs.drift, drift_table(drift, sigma), {"code_digest": params.code})
    say(f"align: total drift {abs(drift[-1] - drift[0]).max():.2f} px")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        align(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
