"""Learn the denoiser's dictionary from averaged frames spread over the movie, on pixels as coarse as the aperture allows."""

import polars as pl
from scant.errors import CalibrationError
from scant.imaging.denoise.anscombe import stabilise
from scant.imaging.denoise.coarser import learn_coarser
from scant.io.blocks import usable_samples
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.store import StackReader
from scant.io.structures import read_tables
from scant.rng import stream
from scant.stages.calibration import read_detector, read_json, write_arrays
from scant.stages.facts import coarser_pixels


def learn(inputs, outputs, params):
    detector = read_detector(inputs.detector)
    averaged = dict(read_tables(inputs.frames).filter(pl.col("n_averaged") > 0).iter_rows())
    dataset, stacks, images = read_json(inputs.dataset), StackReader(inputs.stacks), []
    for frame in usable_samples(dataset["n_frames"], params.n_frames, averaged):
        count = averaged[frame]
        noise = {"read_noise_e": detector.read_noise_e / count**0.5, "excess_noise": detector.excess_noise / count}
        images.append(stabilise(stacks.read(frame, frame + 1)[0], **noise))
    if not images:
        raise CalibrationError(
            f"none of {params.n_frames} frames spread over the movie, nor the next few of each, could be corrected, so no dictionary can "
            "be learned; see correct/*.failures.parquet for the causes, or choose denoise.method: bm3d"
        )
    coarser = coarser_pixels(dataset, read_json(inputs.detector_facts)["pixel_size_angstrom"])
    learned = learn_coarser(images, coarser, stream(params.seed, "dictionary"))
    write_arrays(outputs.dictionary, learned)
    n_atoms, size = learned["dictionary"].shape
    say(f"learn_dictionary: {n_atoms} atoms of {size} pixels, {coarser} times coarser than the camera's, from {len(images)} frames")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        learn(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
