"""Locate the atoms of one block: detection on the window mean, positions on the frame itself."""

from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.ledger import failure_table, refuse_many_failures
from scant.io.logs import say
from scant.io.structures import read_table, write_table
from scant.io.tasks import FrameTask, MovieFrames, PerFrame, StackFrames
from scant.io.workers import map_frames
from scant.provenance import record
from scant.stages.calibration import optics_from, read_detector, read_json, white_equivalent
from scant.stages.corrected import CorrectedFrames, usable_frames
from scant.stages.localising import LocaliseSettings, lattice_from, localise_columns, sites_table


def localise(inputs, outputs, params, block, threads):
    start, stop = parse_label(block)
    detector, facts = read_detector(inputs.detector), read_json(inputs.detector_facts)
    optics = facts.get("optics_for_detection")
    settings = LocaliseSettings(
        lattice_from(facts["lattice"], facts["pixel_size_angstrom"]), detector.bad, *white_equivalent(facts),
        params.settings["lattice_margin_angstrom"],
        optics_from(optics) if optics else None,
    )  # fmt: skip
    usable = usable_frames(read_table(inputs.frames))
    sources = {
        "image_e": CorrectedFrames(MovieFrames(params.store), detector, params.hit_threshold_sigma, usable),
        "detection_image": StackFrames((inputs.averaged if optics else inputs.denoised,)),
        "n_averaged": PerFrame(dict(read_table(inputs.counts).iter_rows())),
    }
    task = FrameTask(localise_columns, sources, {"settings": settings})
    done, failures = map_frames(task, sorted(usable), stage="localise", n_workers=threads, **params.workers)
    provenance = record("localise", seed=params.seed, params=params.settings, code=params.code)
    table = sites_table(done)
    write_table(outputs.sites, table, provenance)
    write_table(outputs.failures, failure_table(failures), provenance)
    say(f"localise: {table['in_view'].sum() / max(len(done), 1):.0f} atoms in view per frame")
    refuse_many_failures(failures, stop - start, params.max_failed_fraction)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        localise(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block, snakemake.threads)  # noqa: F821
