"""Denoise one block of averaged frames."""

from scant.imaging.denoise import PYPI_BM3D_LICENCE_NOTE, denoising_device, image_and_noise, window_and_noise
from scant.io.blocks import parse_label
from scant.io.jobs import job
from scant.io.ledger import failure_table, refuse_many_failures
from scant.io.logs import say
from scant.io.stacks import begin_stack, finish_stack
from scant.io.structures import read_table, read_tables, write_table
from scant.io.tasks import FrameTask, MovieFrames, PerFrame, StackFrames, StoredTask
from scant.io.workers import map_frames
from scant.provenance import record
from scant.stages.calibration import read_arrays, read_detector, read_json
from scant.stages.corrected import CorrectedFrames, usable_frames, window_sources
from scant.stages.facts import coarser_pixels


def denoise(inputs, outputs, params, block, threads):
    start, stop = parse_label(block)
    detector = read_detector(inputs.detector)
    if params.settings["method"] == "pypi-bm3d":
        say(f"denoise: {PYPI_BM3D_LICENCE_NOTE}")
    counts = dict(read_table(inputs.frames).iter_rows())
    usable = [f for f in range(start, stop) if counts[f]]
    learned = read_arrays(inputs.learned) if inputs.learned else None
    device = denoising_device(params.settings["method"], params.device)
    provenance = record("denoise", seed=params.seed, params={**params.settings, "device": device}, code=params.code)
    begin_stack(outputs.stack, params.store, start, (stop - start, *detector.bad.shape), provenance)
    pixel = read_json(inputs.detector_facts)["pixel_size_angstrom"]
    coarser = coarser_pixels(read_json(inputs.dataset), pixel) if params.settings["coarse_pixels"] else 1
    constants = {"spectrum": detector.noise_spectrum, "coarser": coarser, "device": device}
    if inputs.corrected:
        known = read_tables(inputs.corrected)
        corrected = CorrectedFrames(MovieFrames(params.store), detector, params.hit_threshold_sigma, usable_frames(known))
        sources = window_sources(corrected, params.window // 2, known, read_table(inputs.drift), usable)
        constants |= {"read_noise_e": detector.read_noise_e, "excess_noise": detector.excess_noise}
        function = window_and_noise
    else:
        sources = {
            "image_e": StackFrames((inputs.stack,)),
            "read_noise_e": PerFrame({f: detector.read_noise_e / counts[f] ** 0.5 for f in usable}),
            "excess_noise": PerFrame({f: detector.excess_noise / counts[f] for f in usable}),
        }
        constants |= {"method": params.settings["method"], "learned": learned}
        function = image_and_noise
    task = StoredTask(FrameTask(function, sources, constants), outputs.stack)
    n_workers = 1 if device == "gpu" and params.settings["method"] == "unet" else threads
    done, failures = map_frames(task, usable, stage="denoise", n_workers=n_workers, **params.workers)
    finish_stack(outputs.stack, [written for written, _ in done.values()])
    write_table(outputs.failures, failure_table(failures), provenance)
    say(f"denoise: {len(done)} of {stop - start} frames by {params.settings['method']}")
    refuse_many_failures(failures, stop - start, params.max_failed_fraction)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        denoise(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.block, snakemake.threads)  # noqa: F821
