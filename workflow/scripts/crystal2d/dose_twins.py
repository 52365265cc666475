"""Twins of the dataset at one dose, reconstructed as the dataset is, and scored against their truth."""

from scant.inference.refine import refine_settings
from scant.io.ledger import failure_table
from scant.io.logs import say, stage_log
from scant.io.structures import write_table
from scant.io.workers import map_frames
from scant.physics.simulate import View
from scant.provenance import record
from scant.stages.calibration import optics_from, read_json
from scant.stages.twins import TwinTask, twins_table


def dose_twins(inputs, outputs, params, level, threads):
    calibration = read_json(inputs.calibration)
    pixel, detector = calibration["pixel_size_angstrom"], calibration["detector"]
    size_px = min(round(params.settings["view_angstrom"] / pixel), calibration["height_px"], calibration["width_px"])
    dose = params.settings["doses_e_per_angstrom2"][level]
    task = TwinTask(
        optics_from(calibration["optics"]), View(size_px, pixel, calibration["lattice"]["rotation_rad"]), dose,
        detector["read_noise_e"], detector["excess_noise"], params.margin_angstrom,
        refine_settings(params.anneal, calibration["lattice_constant_angstrom"], params.minimum_correlation, params.seed),
    )  # fmt: skip
    twins = range(params.settings["frames_per_dose"])
    done, failures = map_frames(task, twins, stage="dose", n_workers=threads, scheduler_address=params.scheduler_address)
    provenance = record("dose", seed=params.seed, params={**params.settings, "anneal": params.anneal}, code=params.code)
    table = twins_table(row for rows in done.values() for row in rows)
    write_table(outputs.twins, table, provenance)
    write_table(outputs.failures, failure_table(failures), provenance)
    say(f"dose: {dose:g} e/A^2: 3D RMSD " + ", ".join("failed" if r is None else f"{r:.2f} A" for r in table["rmsd_3d_angstrom"]))


if __name__ == "__main__":
    with stage_log(snakemake.log[0]):  # noqa: F821
        dose_twins(snakemake.input, snakemake.output, snakemake.params, int(snakemake.wildcards.level), snakemake.threads)  # noqa: F821
