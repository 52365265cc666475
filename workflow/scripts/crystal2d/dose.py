"""The dose at which the twins' accuracy crosses the criterion, with its interval, and the bound on that accuracy by dose and defocus."""

from scant.analysis.dose_curve import dose_threshold, rmsd_by_dose
from scant.inference.bound import sheet_in_view
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import read_tables, write_table
from scant.provenance import record
from scant.rng import stream
from scant.stages.bounds import Noise, bound_by_defocus, bound_by_dose
from scant.stages.calibration import optics_from, read_json, white_equivalent, write_json


def dose(inputs, outputs, params):
    table = read_tables(inputs.twins).sort("dose_e_per_angstrom2", "window", "twin")
    provenance = record("dose", seed=params.seed, params=params.settings, code=params.code)
    write_table(outputs.dose, table, provenance)
    doses, rmsd = rmsd_by_dose(table.filter(window=table["window"].max()))
    threshold = dose_threshold(
        doses, rmsd, params.settings["criterion_angstrom"], params.settings["n_bootstrap"], rng=stream(params.seed, "dose-bootstrap")
    )
    write_json(outputs.threshold, threshold.summary())
    say(f"dose: {threshold.text}")
    calibration = read_json(inputs.calibration)
    optics, detector = optics_from(calibration["optics"]), calibration["detector"]
    read_noise_e, excess = white_equivalent(detector)
    noise = Noise(excess, read_noise_e)
    sheet = sheet_in_view(
        params.settings["view_angstrom"], calibration["pixel_size_angstrom"], calibration["lattice_constant_angstrom"], params.temperature_k
    )
    write_table(outputs.bound, bound_by_dose(sheet, optics, doses, noise), provenance)
    by_defocus = bound_by_defocus(sheet, optics, detector["dose_e_per_angstrom2"], noise)
    write_table(outputs.defocus, by_defocus, provenance)
    best = by_defocus.sort("bound_z_angstrom").row(0, named=True)
    say(f"dose: of the defoci tried {best['defocus_angstrom']:.0f} A bounds heights lowest, {best['bound_z_angstrom']:.2f} A")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        dose(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
