"""The dose at which the twins' accuracy crosses the criterion, with its interval."""

from scant.analysis.dose_curve import dose_threshold, rmsd_by_dose
from scant.io.logs import say, stage_log
from scant.io.structures import read_tables, write_table
from scant.provenance import record
from scant.rng import stream
from scant.stages.calibration import write_json


def dose(inputs, outputs, params):
    table = read_tables(inputs.twins).sort("dose_e_per_angstrom2", "twin")
    provenance = record("dose", seed=params.seed, params=params.settings, code=params.code)
    write_table(outputs.dose, table, provenance)
    doses, rmsd = rmsd_by_dose(table)
    threshold = dose_threshold(
        doses, rmsd, params.settings["criterion_angstrom"], params.settings["n_bootstrap"], rng=stream(params.seed, "dose-bootstrap")
    )
    write_json(outputs.threshold, threshold.summary())
    say(f"dose: {threshold.text}")


if __name__ == "__main__":
    with stage_log(snakemake.log[0]):  # noqa: F821
        dose(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
