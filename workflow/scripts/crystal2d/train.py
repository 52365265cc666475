"""Train the U-Net on simulated images of the dataset's own crystal, optics and noise."""

from dataclasses import asdict
from importlib.metadata import version

from scant.errors import ConfigError
from scant.imaging.denoise.unet import torch_device, train_unet
from scant.io.jobs import job
from scant.io.logs import say
from scant.provenance import record
from scant.stages.calibration import read_json, write_arrays, write_json
from scant.stages.training import pair_settings, training_batches

ON_CPU, ON_GPU = {"pairs": 256, "steps": 800}, {"pairs": 10_000, "steps": 10_000}


def train(inputs, outputs, params, threads):
    facts, detector = read_json(inputs.facts), read_json(inputs.detector)
    if not facts["optics"]:
        raise ConfigError(
            f"the U-Net is trained on simulated images, and the optics are not known ({', '.join(facts['missing'])} missing in "
            "acquisition.yaml): give them, or choose denoise.method: bm3d"
        )
    device = torch_device(params.device)
    usual = ON_GPU if device == "gpu" else ON_CPU
    pairs, steps = (usual[key] if params.settings[key] == "auto" else params.settings[key] for key in ("pairs", "steps"))
    settings = pair_settings(facts, detector)
    say(f"train: {steps} steps on {pairs} simulated images, {device}")
    weights = train_unet(training_batches(settings, pairs, params.seed), steps, params.seed, device, threads)
    provenance = record("train", seed=params.seed, params=params.settings, code=params.code)
    write_arrays(outputs.weights, weights)
    shown = {key: value for key, value in asdict(settings).items() if key != "material"} | {"material": facts["material"]}
    made = {"pairs": pairs, "steps": steps, "device": device, "torch": version("torch"), "trained_on": shown}
    write_json(outputs.facts, made | {"provenance": provenance})


if __name__ == "__main__":
    with job(snakemake.log[0], snakemake.input, snakemake.output):  # noqa: F821
        train(snakemake.input, snakemake.output, snakemake.params, snakemake.threads)  # noqa: F821
