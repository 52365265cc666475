"""Anneal the frames of one block in 3D: posterior mean and sigma of every atom, and the record of each frame's convergence."""

from scant.inference.problem import refine_settings
from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.ledger import failure_table, refuse_many_failures
from scant.io.logs import say
from scant.io.structures import read_table, read_tables, write_table
from scant.io.workers import map_frames
from scant.provenance import record
from scant.stages.annealing import AnnealTask, Window, atoms_table, batch_size, convergence_table, samples_table, trace_table
from scant.stages.calibration import optics_from, read_detector, read_json, variance_over_noise
from scant.stages.corrected import usable_frames
from scant.xp import resolve_device


def anneal(inputs, outputs, params, block, threads):
    start, stop = parse_label(block)
    device = resolve_device(params.device)
    calibration = read_json(inputs.calibration)
    constant = calibration["lattice_constant_angstrom"]
    settings = refine_settings(params.settings, constant, params.minimum_correlation, params.seed, params.window)
    sites = read_table(inputs.sites)
    usable = usable_frames(read_tables(inputs.corrections))
    window = Window(params.window, usable, inputs.drift, linked=settings.motion is not None)
    task = AnnealTask(
        params.store, inputs.sites, window, read_detector(inputs.detector),
        optics_from(calibration["optics"]), calibration["pixel_size_angstrom"],
        tuple(calibration["species"]), settings, params.hit_threshold_sigma, device,
        max(1.0, variance_over_noise(calibration)),
    )  # fmt: skip
    frames = sites["frame"].unique().sort().to_list()
    say(f"anneal: {len(frames)} frames on the {device}, {settings.n_chains} chains of at most {settings.n_moves} moves each")
    done, lost = map_frames(
        task, frames, stage="anneal", n_workers=1 if device == "gpu" else threads, **params.workers,
        batch_frames=batch_size(params.settings["frames_per_batch"], task),
    )  # fmt: skip
    results = list(done.values())
    failures = [*lost, *(result.failure for result in results if result.failure is not None)]
    provenance = record("anneal", seed=params.seed, params={**params.settings, "device": device}, code=params.code)
    ids = read_table(inputs.ids, (start, stop))
    atoms = atoms_table(results, sites, ids, task)
    write_table(outputs.atoms, atoms, provenance)
    write_table(outputs.samples, samples_table(results, sites, ids, atoms), provenance)
    write_table(outputs.frames, convergence_table(results), provenance)
    write_table(outputs.trace, trace_table(results), provenance)
    write_table(outputs.failures, failure_table(failures), provenance)
    refuse_many_failures(failures, stop - start, params.max_failed_fraction)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        anneal(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block, snakemake.threads)  # noqa: F821
