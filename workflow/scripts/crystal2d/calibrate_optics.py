"""Optics of the movie by maximum likelihood on a few frames, and calibration.json: everything known of the dataset."""

from scant.inference.optics_calibration import calibrate_optics
from scant.io.jobs import job
from scant.io.logs import say
from scant.physics.optics import Optics
from scant.provenance import record
from scant.stages.calibration import optics_values, quality_gates, read_detector, read_json, write_json
from scant.stages.materials import load_material
from scant.stages.optics_frames import calibration_problems


def run(inputs, outputs, params):
    facts, detector_facts = read_json(inputs.facts), read_json(inputs.detector_facts)
    material = load_material(facts["material"])
    calibration = {
        **{key: facts[key] for key in ("n_frames", "height_px", "width_px", "frame_time_ms", "material", "missing")},
        "pixel_size_angstrom": detector_facts["pixel_size_angstrom"],
        "sigma_pixel_size_angstrom": detector_facts["lattice"]["pixel_size_sigma_angstrom"],
        "lattice_constant_angstrom": material.lattice_constant_angstrom,
        "species": list(material.species),
        "detector": {key: value for key, value in detector_facts.items() if key not in ("lattice", "optics_for_detection")},
        "lattice": detector_facts["lattice"],
        "optics": None,
    }
    if facts["optics"]:
        detector = read_detector(inputs.detector)
        problems = calibration_problems(
            params.store, inputs.sites, detector, calibration, params.settings["optics_frames"], params.hit_threshold_sigma
        )
        fit = calibrate_optics(
            Optics(**facts["optics"]), problems, calibration["pixel_size_angstrom"], material.lattice_constant_angstrom, params.seed
        )
        defocus, error = fit.optics.defocus_angstrom, fit.sigma["defocus_angstrom"]
        say(f"calibrate: defocus {defocus:.1f} +- {error:.1f} A, correlation {fit.correlation:.3f}")
        calibration["optics"] = optics_values(fit.optics) | {f"sigma_{key}": value for key, value in fit.sigma.items()}
        calibration["optics_nominal"] = facts["optics"]
        calibration |= {key: getattr(fit, key) for key in ("correlation", "reduced_chi2", "kl_divergence")}
    calibration["gates"] = quality_gates(calibration)
    calibration["provenance"] = record(
        "calibrate", seed=params.seed, params=params.settings, code=params.code, inputs=facts["provenance"]["inputs"]
    )
    write_json(outputs.calibration, calibration)


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        run(snakemake.input, snakemake.output, snakemake.params)  # noqa: F821
