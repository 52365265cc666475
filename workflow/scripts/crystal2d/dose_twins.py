"""One simulated twin of the dataset, reconstructed at every dose as the dataset is, and scored against its truth."""

from scant.inference.problem import refine_settings
from scant.io.jobs import job
from scant.io.ledger import failure_table
from scant.io.logs import say
from scant.io.structures import write_table
from scant.io.tasks import FrameTask, PerFrame
from scant.io.workers import map_frames
from scant.physics.simulate import View
from scant.provenance import record
from scant.stages.calibration import optics_from, read_json, white_equivalent
from scant.stages.twins import DETECTION_FRAMES, TwinTask, twin_truth, twins_table


def dose_twins(inputs, outputs, params, twin, threads):
    calibration = read_json(inputs.calibration)
    pixel = calibration["pixel_size_angstrom"]
    size_px = min(round(params.settings["view_angstrom"] / pixel), calibration["height_px"], calibration["width_px"])
    view = View(size_px, pixel, calibration["lattice"]["rotation_rad"])
    constant = calibration["lattice_constant_angstrom"]
    settings = refine_settings(params.anneal, constant, params.minimum_correlation, params.seed, DETECTION_FRAMES)
    reconstruct = TwinTask(
        twin, twin_truth(view, settings, twin), optics_from(calibration["optics"]), view, *white_equivalent(calibration["detector"]),
        params.margin_angstrom, settings,
    )  # fmt: skip
    doses = dict(enumerate(params.settings["doses_e_per_angstrom2"]))
    task = FrameTask(reconstruct, {"dose_e_per_angstrom2": PerFrame(doses)})
    done, failures = map_frames(task, list(doses), stage="dose", n_workers=threads, **params.workers)
    provenance = record("dose", seed=params.seed, params={**params.settings, "anneal": params.anneal}, code=params.code)
    table = twins_table(row for rows in done.values() for row in rows)
    write_table(outputs.twins, table, provenance)
    write_table(outputs.failures, failure_table(failures), provenance)
    for dose, window, rmsd in table.select("dose_e_per_angstrom2", "window", "rmsd_3d_angstrom").iter_rows():
        say(f"dose: {dose:g} e/A^2, window {window}: 3D RMSD " + ("failed" if rmsd is None else f"{rmsd:.2f} A"))


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        dose_twins(snakemake.input, snakemake.output, snakemake.params, int(snakemake.wildcards.twin), snakemake.threads)  # noqa: F821
