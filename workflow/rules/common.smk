"""What all rules share: the validated configuration, paths, blocks, resources. No stage's own logic."""

import json
import os
import sys
from bisect import bisect_left, bisect_right
from pathlib import Path

from scant.config import load_acquisition, parse_config, read_yaml
from scant.errors import ScantError
from scant.imaging.window import window_for_dose
from scant.io.blocks import parse_label, sample_runs
from scant.job_memory import job_memory_mb, worker_job_memory_mb
from scant.provenance import code_digest
from scant.report.parts import PARTS

try:
    # Snakemake has read them already, and takes the last of two values of a key
    for file in workflow.configfiles if workflow.is_main_process else []:
        read_yaml(file)
    CONFIG = parse_config({key: value for key, value in config.items()})
    ACQUISITIONS = {name: load_acquisition(path) for name, path in CONFIG.datasets.items()}
    DAMAGED = []
    # who only asks what failed changes nothing; a job has nothing to prepare, and need not import what that takes
    if workflow.is_main_process and "failures" not in sys.argv:
        from scant.commands.verify import prepare_rerun

        DAMAGED = prepare_rerun(CONFIG.results.rstrip("/"), CONFIG.names, dry=workflow.output_settings.dryrun)
except ScantError as error:
    raise WorkflowError(str(error)) from None
RESULTS = CONFIG.results.rstrip("/")
WORKERS = {"scheduler_address": CONFIG.scheduler_address, "timeout_s": CONFIG.frame_timeout_s}
CORES_VARIABLE = "SCANT_CORES"
SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts" / "crystal2d"


def params_for(stage):
    """A stage's own leaf of the configuration: what changes elsewhere reruns nothing of it."""
    return getattr(CONFIG, "validate_" if stage == "validate" else stage).model_dump(mode="json")


def code_of(script, *optional):
    """Digest of the code that a script reaches: a changed line of the library reruns the rules that use it, and no other.

    A function, so that a job works out its own rule's alone. optional: packages that not every run needs, and this one does.
    """
    return lambda w: code_digest(SCRIPTS / f"{script}.py", optional)


def script_of(script):
    return f"../../scripts/crystal2d/{script}.py"


def product(name_and_file):
    return f"{RESULTS}/{{name}}/{name_and_file}"


def in_report(file, part, what, caption=None):
    """A product that Snakemake's own report shows too, under the title that its part has on the page."""
    labels = {"dataset": "{name}", "what": what}
    return report(product(file), category=PARTS[part], labels=labels, caption=f"../../report/{caption or part}.rst")


def log_of(stage, block=False):
    return f"{RESULTS}/{{name}}/logs/{stage}{'/{block}' if block else ''}.log"


def benchmark_of(stage, block=False):
    return f"{RESULTS}/{{name}}/benchmarks/{stage}{'/{block}' if block else ''}.tsv"


def stack(kind):
    """Path of a block's stack; deleted once nothing needs it any more, unless `keep` names it."""
    path = directory(product(f"{kind}/{{block}}.zarr"))
    return path if kind in CONFIG.keep else temp(path)


def facts(name):
    """What ingest found: frames, shape, blocks, optics or what is missing of them."""
    with checkpoints.ingest.get(name=name).output.facts.open() as handle:
        return json.load(handle)


def over_blocks(pattern):
    """Input function: the pattern for every block of the movie."""
    return lambda w: expand(pattern, name=w.name, block=facts(w.name)["blocks"])


def near_blocks(pattern, halo):
    """Input function: the pattern for the block and those that hold frames up to `halo(w)` beyond its ends."""

    def paths(w):
        blocks, reach = facts(w.name)["blocks"], halo(w)
        start, stop = parse_label(w.block)
        first = bisect_right(blocks, start - reach, key=lambda b: parse_label(b)[1])
        last = bisect_left(blocks, stop + reach, key=lambda b: parse_label(b)[0])
        return expand(pattern, name=w.name, block=blocks[first:last])

    return paths


def sampled_blocks(pattern, count):
    """Input function: the pattern for the blocks that hold the movie's `count` sampled frames, and those that may stand in for them."""

    def paths(w):
        known = facts(w.name)
        sampled = {frame for run in sample_runs(known["n_frames"], count) for frame in run}
        blocks = [b for b in known["blocks"] if not sampled.isdisjoint(range(*parse_label(b)))]
        return expand(pattern, name=w.name, block=blocks)

    return paths


def frame_bytes(name):
    """Bytes of a frame as float32; before ingest has run, none."""
    known = Path(f"{RESULTS}/{name}/ingest/facts.json")
    return json.loads(known.read_text())["frame_bytes"] if known.exists() else 0


def frames_of_job(w):
    start, stop = parse_label(w.block)
    return stop - start


def memory_mb(frames_in_memory, base_mb=1200):
    """Memory of a job by its frames, a number or a function of wildcards; before ingest has run, the base alone."""
    return lambda w, attempt: attempt * job_memory_mb(_count(frames_in_memory, w), frame_bytes(w.name), base_mb)


def _count(frames, w):
    return frames(w) if callable(frames) else frames


def workers():
    """Threads of a block's job: each becomes a Dask worker process.

    Inside a SLURM job Snakemake has all cores of the node, which may be more than the job was given: the run's own number counts.
    """
    return int(os.environ.get(CORES_VARIABLE, 0)) or max(1, workflow.cores or 1)


def worker_memory_mb(frames_each):
    """Memory of a job whose workers each hold so many frames as stored: it grows with the workers, not with block or movie."""
    return lambda w, attempt: attempt * worker_job_memory_mb(_count(frames_each, w), workers(), frame_bytes(w.name))
