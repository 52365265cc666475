"""Learn the denoiser's dictionary from averaged frames spread over the movie."""

import polars as pl
from scant.imaging.denoise.anscombe import stabilise
from scant.imaging.denoise.ksvd import learn_dictionary
from scant.imaging.temporal import sample_frames
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.store import StackReader
from scant.io.structures import read_tables
from scant.rng import stream
from scant.stages.calibration import read_detector, write_arrays

FRAMES = 16


def learn(inputs, outputs, params):
    detector = read_detector(inputs.detector)
    averaged = read_tables(inputs.frames).filter(pl.col("n_averaged") > 0)
    stacks, images = StackReader(inputs.stacks), []
    for frame, count in (averaged.row(i) for i in sample_frames(len(averaged), FRAMES)):
        noise = {"read_noise_e": detector.read_noise_e / count**0.5, "excess_noise": detector.excess_noise / count}
        images.append(stabilise(stacks.read(frame, frame + 1)[0], **noise))
    dictionary = learn_dictionary(images, stream(params.seed, "dictionary"))
    write_arrays(outputs.dictionary, {"dictionary": dictionary})
    say(f"learn_dictionary: {len(dictionary)} atoms of {dictionary.shape[1]} pixels from {len(images)} frames")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        learn(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
