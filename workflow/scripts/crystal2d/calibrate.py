"""Detector and lattice of the movie: references, bad pixels, photon transfer, pixel size, and the optics that its lattice shows."""

import numpy as np
from scant.imaging.calibration import References, calibrate
from scant.inference.optics_calibration import optics_for_detection
from scant.io.blocks import sample_frames
from scant.io.jobs import job
from scant.io.ledger import good_frames
from scant.io.logs import say
from scant.io.readers import read_reference
from scant.io.store import read_frames as read_stored
from scant.io.structures import read_tables
from scant.physics.optics import Optics
from scant.stages.calibration import optics_values, read_json, write_json, write_record
from scant.stages.materials import load_material
from scant.stages.optics_frames import flat_frames

CONSECUTIVE_FRAMES = 64


def run(inputs, outputs, params):
    facts = read_json(inputs.facts)
    material = load_material(facts["material"])
    good = np.array(good_frames(read_tables(inputs.faults)))
    sampled = frames(params.store, good[sample_frames(len(good), params.settings["n_frames"])])
    middle = max(0, len(good) // 2 - CONSECUTIVE_FRAMES // 2)
    references = References(
        dark_adu=read_reference(facts["dark"]),
        flat_adu=read_reference(facts["flat"]),
        gain_adu_per_electron=facts["gain_adu_per_electron"],
        pixel_size_angstrom=facts["pixel_size_angstrom"],
        dose_e_per_angstrom2=facts["dose_e_per_angstrom2"],
        lattice_constant_angstrom=material.lattice_constant_angstrom,
    )
    result = calibrate(
        sampled, frames(params.store, good[middle : middle + CONSECUTIVE_FRAMES]), references,
        params.settings["flat_degree"], params.hit_threshold_sigma,
    )  # fmt: skip
    found, lattice = result.facts, result.lattice
    say(f"calibrate: {found['n_bad_pixels']} bad pixels, gain {found['gain_adu_per_electron']:.3f} ADU/e ({found['gain_source']})")
    say(f"calibrate: pixel size from the lattice {lattice.pixel_size_angstrom:.5f} +- {lattice.pixel_size_sigma_angstrom:.5f} A")
    if facts["optics"]:
        few = sampled[sample_frames(len(sampled), params.settings["optics_frames"])]
        flat = flat_frames(few, result.detector, lattice, tuple(material.species), params.hit_threshold_sigma)
        optics = optics_for_detection(Optics(**facts["optics"]), flat, lattice.pixel_size_angstrom)
        say(f"calibrate: defocus for detection {optics.defocus_angstrom:.1f} A, by the lattice alone")
        found["optics_for_detection"] = optics_values(optics)
    write_record(outputs.detector, result.detector)
    write_record(outputs.signal, result.signal)
    write_json(outputs.facts, found)


def frames(store, numbers):
    return np.stack([read_stored(store, int(n), int(n) + 1)[0] for n in numbers])


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        run(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
