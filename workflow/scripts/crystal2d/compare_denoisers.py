"""What each denoiser does to the atoms: simulated frames of this movie's optics, and real frames without a truth."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from scant.io.jobs import job
from scant.io.logs import say
from scant.io.structures import read_tables, write_table
from scant.io.tasks import MovieFrames
from scant.provenance import record
from scant.report.denoisers import denoisers_page
from scant.report.page import render_page, save_pictures
from scant.stages.calibration import read_arrays, read_detector, read_json
from scant.stages.corrected import CorrectedFrames, usable_frames
from scant.stages.denoisers import SIMULATED, compare_real, compare_simulated, filters, neighbouring_pairs
from scant.stages.facts import coarser_pixels
from scant.stages.training import pair_settings

PAIRS, LARGEST_PX = 4, 512


def compare(inputs, outputs, params, name):
    facts, detector, learned = read_json(inputs.facts), read_detector(inputs.detector), {}
    learned["ksvd"] = read_arrays(inputs.dictionary)
    if inputs.unet:
        learned["unet"] = read_arrays(inputs.unet)
    with_package = find_spec("bm3d") is not None
    provenance = record("compare_denoisers", seed=params.seed, params={}, code=params.code)
    simulated = pl.DataFrame(schema=SIMULATED)
    if facts["optics"]:
        settings = pair_settings(facts, read_json(inputs.detector_facts))
        simulated = compare_simulated(settings, learned.get("unet"), with_package, params.seed)
    write_table(outputs.simulated, simulated, provenance)
    usable = sorted(usable_frames(read_tables(inputs.frames)))
    corrected = CorrectedFrames(MovieFrames(params.store), detector, params.hit_threshold_sigma, frozenset(usable))
    pairs = [tuple(_middle(corrected(frame)) for frame in pair) for pair in neighbouring_pairs(usable, PAIRS)]
    noise = {"read_noise_e": detector.read_noise_e, "excess_noise": detector.excess_noise}
    coarser = coarser_pixels(facts, read_json(inputs.detector_facts)["pixel_size_angstrom"])
    real = compare_real(pairs, filters(learned, with_package, coarser), noise)
    write_table(outputs.real, real, provenance)
    page = denoisers_page(name, simulated, real)
    Path(outputs.page).write_text(render_page(page), encoding="utf-8")
    Path(outputs.figures).mkdir(exist_ok=True)
    save_pictures(page.pictures(), Path(outputs.figures))
    say(f"compare_denoisers: {len(pairs)} pairs of frames, {'' if inputs.unet else 'no '}U-Net, {'' if with_package else 'no '}PyPI bm3d")


def _middle(image):
    """The middle of a frame, at most 512 pixels a side: PyPI bm3d needs a minute for a megapixel."""
    cut = [slice((side - min(side, LARGEST_PX)) // 2, (side + min(side, LARGEST_PX)) // 2) for side in image.shape]
    return np.ascontiguousarray(image[tuple(cut)])


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        compare(snakemake.input, snakemake.output, snakemake.params, snakemake.wildcards.name)  # noqa: F821
