"""What a run will take: jobs, CPU time, wall time, memory and disk, from the configuration and the movie's shape alone.

The rates were measured on 2026-11-25 and 26 on 2 cores of an AMD EPYC machine, from Snakemake's benchmark files: 8 frames of
2048 x 2048 px up to localisation (average, denoise and localise again, alone, on one such frame), 24 frames of 256 x 256 to the end,
5 of 84 x 84 for what a job costs before its first frame; tables and linking on 3 frames of 2048 x 2048, the annealer's modes on 381 to
4,484 atoms, electrons on 24 frames of 1,020 atoms with four samples each. Anneal and validate: 10.7 CPU-s per frame of 1,018 atoms in view
(1,240 of the model), 8.9 CPU-s per 50 ps and 750 atoms. Beyond those sizes everything is extrapolated; on a busy machine CPU time
scatters by a half. Not predicted: a GPU, denoisers other than bm3d, `train` and `compare_denoisers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scant.config import Config
from scant.imaging.window import window_for_dose
from scant.inference.estimates import MOST_SAMPLES
from scant.inference.optics_calibration import SIDE_ANGSTROM
from scant.inference.problem import frames_are_linked, schedule_of
from scant.inference.tiles import BEYOND_ANGSTROM, CORE_ANGSTROM, MOST_ATOMS, OVERLAP_ANGSTROM
from scant.io.blocks import chunk_frames_for, frames_of_a_block
from scant.job_memory import frames_to_denoise, job_memory_mb, worker_job_memory_mb

CLUSTER_JOB_CORES = 16  # as in profiles/slurm
PIXEL_ANGSTROM = 0.2  # where neither the file nor acquisition.yaml states it
GRAPHENE_ATOM_AREA_ANGSTROM2 = 5.24 / 2
# CPU-s of a worker's start; seconds of Snakemake's own process before a job's script begins.
WORKER_S, SNAKEMAKE_S = 1.6, 1.5
# The annealer takes all modes of a tile, dense: CPU-s over atoms^3.
MODES_S = 5.0e-10
LEVEL_FRAMES, NEIGHBOUR_FRAMES = 33, 64
# movie.zarr over the raw counts (8e3 e/A^2, gain 6); bytes of the averaged and the denoised stack; of all tables and the extended XYZ.
MOVIE_RATIO, STACK_BYTES_PER_PX, TABLE_BYTES_PER_ATOM = 0.73, 5.75, 835
DETECTOR_BYTES_PER_PX, PAGE_BYTES = 9, 32_000_000


@dataclass(frozen=True)
class Rate:
    """CPU-seconds of a rule: before its first frame, per megapixel and per atom of a frame. A `spread` job has worker processes."""

    stage: str
    per: str
    job_s: float
    mpx_s: float = 0.0
    atom_s: float = 0.0
    spread: bool = False
    needs_optics: bool = False


# per atom: anneal of gradient and chain, validate of picosecond, electrons of sample, dose_twins of twin; average: per frame of its window.
RATES = {
    "simulate": Rate("simulate", "dataset", 3.5, atom_s=6e-4),
    "ingest": Rate("ingest_frames", "dataset", 1.2, mpx_s=0.009),
    "ingest_frames": Rate("ingest_frames", "block", 1.3, mpx_s=0.014),
    "calibrate": Rate("calibrate", "dataset", 5.5, mpx_s=0.155),
    "calibrate_optics": Rate("calibrate", "dataset", 4, atom_s=0.018),
    "correct": Rate("correct", "block", 1.2, mpx_s=0.02, spread=True),
    "align_pairs": Rate("align_pairs", "block", 1.7, mpx_s=0.005),
    "align": Rate("align_pairs", "dataset", 0.9),
    "average": Rate("average", "block", 1.2, mpx_s=0.0035, spread=True),
    "denoise": Rate("denoise", "block", 1.5, mpx_s=0.3, spread=True),
    "localise": Rate("localise", "block", 2.5, atom_s=4.4e-5, spread=True),
    "link": Rate("localise", "dataset", 1.1, atom_s=1.35e-6),
    "anneal": Rate("anneal", "block", 1.6, atom_s=2.7e-6, spread=True, needs_optics=True),
    "validate": Rate("validate", "block", 1.2, atom_s=2.37e-4, spread=True, needs_optics=True),
    "electrons": Rate("electrons", "block", 2, atom_s=4.3e-4, spread=True, needs_optics=True),
    "analyse_frames": Rate("analyse", "block", 1.1, atom_s=1.7e-4),
    "analyse": Rate("analyse", "dataset", 1.1, atom_s=4.7e-6),
    "dose_twins": Rate("dose", "twin", 2, atom_s=0.05, spread=True, needs_optics=True),
    "dose": Rate("dose", "dataset", 5, needs_optics=True),
    "report": Rate("report", "dataset", 12),
    "movie": Rate("report", "dataset", 2.4, mpx_s=0.35),
    "checks": Rate("report", "dataset", 1.0, mpx_s=0.005),
    "complete": Rate("report", "dataset", 0.9),
}


# As the rules declare it: frames that a worker holds; MB from configuration, frames of a block, bytes of a float32 frame. Others: at most
# 3000 MB.
WORKER_FRAMES = {
    "correct": 8, "average": 64, "localise": 64, "anneal": 8, "validate": 1, "electrons": 1, "dose_twins": 1,
}  # fmt: skip
MEMORY_MB: dict[str, Callable[[Config, int, float], int]] = {
    "ingest_frames": lambda config, block, frame: job_memory_mb(block, frame),
    "calibrate": lambda config, block, frame: job_memory_mb(config.calibrate.n_frames * 4, frame),
    "align_pairs": lambda config, block, frame: job_memory_mb(4 * block, frame),
}


@dataclass(frozen=True)
class MovieFacts:
    """What a plan must know of a movie."""

    n_frames: int
    height_px: int
    width_px: int
    itemsize: int = 2
    pixel_size_angstrom: float | None = None
    atom_area_angstrom2: float = GRAPHENE_ATOM_AREA_ANGSTROM2
    has_optics: bool = True
    dose_e_per_angstrom2: float | None = None
    simulated: bool = False

    @property
    def pixels(self) -> int:
        return self.height_px * self.width_px

    def atoms(self, margin_angstrom: float = 0.0) -> float:
        """Atoms of a frame, with those up to so far outside the view."""
        pixel = self.pixel_size_angstrom or PIXEL_ANGSTROM
        height, width = (n * pixel + 2 * margin_angstrom for n in (self.height_px, self.width_px))
        return height * width / self.atom_area_angstrom2


@dataclass(frozen=True)
class RulePlan:
    """A rule's jobs, the frames of all of them, CPU-s of a frame."""

    rule: str
    rate: Rate
    jobs: int
    frames: int
    frame_s: float

    def cpu_s(self, job_cores: int) -> float:
        workers = min(job_cores, math.ceil(self.frames / self.jobs)) if self.rate.spread else 0
        return self.jobs * (self.rate.job_s + workers * WORKER_S) + self.frames * self.frame_s

    def wall_s(self, n_cores: int, job_cores: int) -> float:
        """Jobs side by side, and in a job frames side by side on its workers, both in whole rounds."""
        job_frames = math.ceil(self.frames / self.jobs)
        rounds = math.ceil(job_frames / job_cores) if self.rate.spread else job_frames
        job_s = SNAKEMAKE_S + self.rate.job_s + WORKER_S * self.rate.spread + rounds * self.frame_s
        return math.ceil(self.jobs / max(1, n_cores // job_cores if self.rate.spread else n_cores)) * job_s


@dataclass(frozen=True)
class Plan:
    """What the run of one dataset takes, with `job_cores` for a job. Rules wait for each other, so their wall times add up."""

    name: str
    facts: MovieFacts
    n_cores: int
    job_cores: int
    block_frames: int
    n_blocks: int
    rules: tuple[RulePlan, ...]
    extra_jobs: int
    memory_mb: dict[str, int]
    disk_bytes: dict[str, int]

    @property
    def stages(self) -> dict[str, tuple[int, float]]:
        """Jobs and CPU-s of each stage."""
        names = dict.fromkeys(r.rate.stage for r in self.rules)
        parts = {name: [r for r in self.rules if r.rate.stage == name] for name in names}
        return {name: (sum(r.jobs for r in rules), sum(r.cpu_s(self.job_cores) for r in rules)) for name, rules in parts.items()}

    @property
    def jobs(self) -> int:
        """Jobs of Snakemake, without `all`."""
        return sum(r.jobs for r in self.rules) + self.extra_jobs

    @property
    def cpu_s(self) -> float:
        return sum(cpu_s for _, cpu_s in self.stages.values())

    @property
    def largest_job(self) -> str:
        """The rule that declares the most memory."""
        return max(self.memory_mb, key=lambda rule: self.memory_mb[rule])

    def wall_s(self, n_cores: int, job_cores: int | None = None) -> float:
        """Wall time on one machine; on more cores than a block has frames, on a cluster of jobs of 16."""
        return sum(r.wall_s(n_cores, job_cores or cores_of_a_job(n_cores, self.block_frames)) for r in self.rules)

    def bytes_to_come(self, ingested_blocks: int = 0, reconstructed_blocks: int = 0, reported: bool = False) -> int:
        """Bytes still to be written where so many blocks are in movie.zarr, so many blocks' atoms in their tables, the report made."""
        done = {"movie": ingested_blocks, "source": ingested_blocks, "stacks": reconstructed_blocks, "tables": reconstructed_blocks}
        done["report"] = self.n_blocks * reported
        return round(sum(size * max(0.0, 1 - done.get(part, 0) / self.n_blocks) for part, size in self.disk_bytes.items()))


def cores_of_a_job(n_cores: int, block_frames: int) -> int:
    """All cores of a machine; a cluster's job has 16."""
    return n_cores if n_cores <= block_frames else CLUSTER_JOB_CORES


def plan(config: Config, name: str, facts: MovieFacts, n_cores: int, job_cores: int | None = None) -> Plan:
    """The plan of a dataset on so many cores."""
    chunk = chunk_frames_for(facts.height_px, facts.width_px, facts.itemsize, config.ingest.chunk_bytes)
    block = frames_of_a_block(config.block_frames, facts.n_frames, facts.pixels, chunk)
    n_blocks = math.ceil(facts.n_frames / block)
    job_cores = job_cores or cores_of_a_job(n_cores, block)
    n_jobs = {"block": n_blocks, "dataset": 1, "twin": config.dose.twins}
    rules = tuple(
        RulePlan(rule, rate, n_jobs[rate.per], _frames(rule, config, facts), _frame_s(rule, rate, config, facts))
        for rule, rate in RATES.items()
        if (facts.simulated or rule != "simulate") and (facts.has_optics or not rate.needs_optics)
    )
    memory = {r.rule: MEMORY_MB[r.rule](config, block, facts.pixels * 4) for r in rules if r.rule in MEMORY_MB}
    held = WORKER_FRAMES | {"denoise": frames_to_denoise(_denoised_together(config, facts))}
    memory |= {rule: worker_job_memory_mb(n, job_cores, facts.pixels * 4) for rule, n in held.items()} | {"analyse": 3000}
    learning = int(config.denoise.method in ("ksvd", "unet"))
    return Plan(name, facts, n_cores, job_cores, block, n_blocks, rules, learning, memory, _disk(facts))


def _disk(facts: MovieFacts) -> dict[str, int]:
    """Bytes of each part. Snakemake promises no order of blocks: the stacks of all may be there at once."""
    stored = facts.n_frames * facts.pixels
    return {
        "source": stored * facts.itemsize * facts.simulated,
        "movie": round(MOVIE_RATIO * stored * facts.itemsize),
        "stacks": round(STACK_BYTES_PER_PX * stored),
        "tables": round(TABLE_BYTES_PER_ATOM * facts.n_frames * facts.atoms()),
        "report": PAGE_BYTES + DETECTOR_BYTES_PER_PX * facts.pixels,
    }


def _frames(rule: str, config: Config, facts: MovieFacts) -> int:
    """Frames that all jobs of a rule look at together; doses of the twins."""
    n = facts.n_frames
    some = {
        "ingest": min(n, LEVEL_FRAMES),
        "calibrate": min(n, config.calibrate.n_frames) + min(n, NEIGHBOUR_FRAMES),
        "calibrate_optics": min(n, config.calibrate.optics_frames) if facts.has_optics else 0,
        "movie": min(n, config.report.movie_frames),
        "dose_twins": config.dose.twins * len(config.dose.doses_e_per_angstrom2),
    }
    return some.get(rule, n)


def _frame_s(rule: str, rate: Rate, config: Config, facts: MovieFacts) -> float:
    """CPU-s of a frame; of a dose, for a twin."""
    window = _window(config, facts)
    if rule == "anneal":
        n_tiles, atoms = annealed_tiles(facts, config.localise.lattice_margin_angstrom)
        return n_tiles * _anneal_s(config, atoms, window)
    if rule == "dose_twins":
        twin = (config.dose.view_angstrom + 2 * config.localise.lattice_margin_angstrom) ** 2 / facts.atom_area_angstrom2
        return rate.atom_s * twin / len(config.dose.doses_e_per_angstrom2) + 2 * _anneal_s(config, twin, window)
    times = {
        "average": window, "validate": config.validate_.length_ps, "electrons": min(MOST_SAMPLES, config.anneal.n_chains),
        "denoise": 0.4 + 0.6 * _denoised_together(config, facts),
    }.get(rule, 1)  # fmt: skip
    atoms = min(facts.atoms(), SIDE_ANGSTROM**2 / facts.atom_area_angstrom2) if rule == "calibrate_optics" else facts.atoms()
    return times * (rate.mpx_s * facts.pixels / 1e6 + rate.atom_s * atoms)


def _window(config: Config, facts: MovieFacts) -> int:
    given = config.average.window
    return window_for_dose(facts.dose_e_per_angstrom2) if given == "auto" else given


def _denoised_together(config: Config, facts: MovieFacts) -> int:
    """Images that BM3D filters by the same groups: a frame's window, or its mean alone."""
    return _window(config, facts) if config.denoise.takes_windows else 1


def annealed_tiles(facts: MovieFacts, margin_angstrom: float) -> tuple[int, float]:
    """Into how many tiles the annealer cuts a frame, and the atoms of an inner one (`inference.tiles`)."""
    if facts.atoms(margin_angstrom) <= MOST_ATOMS:
        return 1, facts.atoms(margin_angstrom)
    pixel = facts.pixel_size_angstrom or PIXEL_ANGSTROM
    n_tiles = math.prod(math.ceil(side * pixel / CORE_ANGSTROM) for side in (facts.height_px, facts.width_px))
    return n_tiles, (CORE_ANGSTROM + 2 * OVERLAP_ANGSTROM + 2 * BEYOND_ANGSTROM) ** 2 / facts.atom_area_angstrom2


def _anneal_s(config: Config, atoms: float, window: int) -> float:
    a = config.anneal.model_dump()
    moves = schedule_of(a).n_moves(frames_are_linked(a, window))
    return RATES["anneal"].atom_s * atoms * moves * a["leapfrog_steps"] * a["n_chains"] + MODES_S * atoms**3
