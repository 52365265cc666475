"""dynamics.mp4: each frame's image beside its sheet; dynamics.gif: the same in short."""

from pathlib import Path

import numpy as np
import polars as pl
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import read_table
from scant.report.gif import GIF_FRAMES, pass_on, write_gif
from scant.report.movie import film_scale, render_dynamics, write_movie
from scant.report.viewer import evenly_spread
from scant.stages.calibration import read_detector, read_json
from scant.stages.reporting import Examples, film_frames, sampled_heights


def movie(inputs, outputs, params, name):
    calibration, frames, atoms = read_json(inputs.calibration), read_table(inputs.frames), pl.scan_parquet(inputs.atoms)
    examples = Examples(params.store, read_detector(inputs.detector), calibration, params.hit_threshold_sigma)
    film = list(examples.spread(frames, params.settings["movie_frames"]))
    scale = film_scale([examples.denoised(film[len(film) // 2])], sampled_heights(atoms), calibration["pixel_size_angstrom"])
    shown = film_frames(examples, atoms, frames, film)
    pictures = render_dynamics(shown, scale, name, calibration["n_frames"] - 1, calibration["frame_time_ms"])
    kept, fps = [], params.settings["frames_per_second"]
    short = {int(n) for n in evenly_spread(np.arange(len(film)), GIF_FRAMES)}
    written = write_movie(Path(outputs.movie), pass_on(pictures, short, kept), fps)
    size = write_gif(Path(outputs.gif), kept, fps)
    say(f"movie: {written} pictures; {len(kept)} of them as GIF, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        movie(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.name)  # noqa: F821
