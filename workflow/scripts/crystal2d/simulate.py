"""Make a movie with known truth: movie.tif, dark.tif, flat.tif, truth.extxyz and the acquisition.yaml that describes them."""

import math
from dataclasses import fields
from pathlib import Path

import tifffile
import yaml
from scant.io.jobs import job
from scant.io.logs import say
from scant.physics import simulate as sim
from scant.physics.optics import Optics
from scant.stages.truth import write_truth


def simulate(outputs, settings, seed):
    view = sim.View(
        settings["size_px"], settings["pixel_size_angstrom"], math.radians(settings["rotation_deg"]), settings["drift_angstrom_per_frame"]
    )
    optics = Optics(
        voltage_kv=settings["voltage_kv"],
        cs_angstrom=settings["cs_um"] * 1e4,
        defocus_angstrom=settings["defocus_angstrom"],
        focal_spread_angstrom=settings["focal_spread_angstrom"],
        objective_aperture_mrad=settings["objective_aperture_mrad"],
        astigmatism_x_angstrom=settings["astigmatism_x_angstrom"],
        astigmatism_y_angstrom=settings["astigmatism_y_angstrom"],
        envelope_b_angstrom2=settings["envelope_b_angstrom2"],
    )
    specimen = sim.Specimen(**{field.name: settings[field.name] for field in fields(sim.Specimen) if field.name in settings})
    traits = ("gain_adu_per_electron", "offset_adu", "read_noise_e", "n_bad_pixels", "hits_per_frame")
    camera = sim.camera_for(view, **{key: settings[key] for key in traits}, seed=seed)
    say(f"simulate: molecular dynamics of {settings['n_frames']} frames of a {view.size_angstrom:.0f} A view")
    frames = sim.true_frames(view, settings["n_frames"], specimen, seed)
    mean_electrons = settings["dose_e_per_angstrom2"] * settings["pixel_size_angstrom"] ** 2
    with tifffile.TiffWriter(outputs.movie) as writer:
        for raw in sim.raw_frames(frames, optics, view, camera, mean_electrons, seed):
            writer.write(raw, contiguous=True, photometric="minisblack")
    dark, flat = sim.references(camera, mean_electrons, seed)
    tifffile.imwrite(outputs.dark, dark)
    tifffile.imwrite(outputs.flat, flat)
    write_truth(outputs.truth, frames, view)
    given = ("cs_um", "defocus_angstrom", "focal_spread_angstrom", "objective_aperture_mrad", "pixel_size_angstrom", "dose_e_per_angstrom2")
    acquisition = {"material": "graphene", "movie": "movie.tif", "dark": "dark.tif", "flat": "flat.tif", "truth": "truth.extxyz"}
    acquisition["voltage_kV"] = settings["voltage_kv"]
    acquisition |= {key: settings[key] for key in (*given, "frame_time_ms", "gain_adu_per_electron")}
    acquisition["defocus_angstrom"] += settings["defocus_error_angstrom"]
    Path(outputs.acquisition).write_text(yaml.safe_dump(acquisition, sort_keys=False))


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        simulate(snakemake.output, snakemake.params.settings, snakemake.params.seed)  # noqa: F821
