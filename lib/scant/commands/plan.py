"""What a run will take: from the movie's metadata, before it begins."""

from __future__ import annotations

import glob
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from scant.config import Config, load_acquisition, parse_config, read_yaml
from scant.io.readers import open_movie
from scant.plan import GRAPHENE_ATOM_AREA_ANGSTROM2, MovieFacts, Plan, cores_of_a_job, plan
from scant.stages.facts import dataset_facts, frames_read
from scant.stages.materials import load_material

TABLE_CORES = (2, 24, 480)
TIME_UNITS = (("years", 3.156e7, 1), ("days", 86400, 2), ("h", 3600, 2), ("min", 60, 2))


def run(file: str, n_cores: int) -> int:
    """Print the plan of every dataset; 1 when the disk cannot hold what is still to come."""
    config = parse_config(read_yaml(file))
    plans = [plan(config, name, movie_facts(config, name), n_cores) for name in config.names]
    for each in plans:
        print("\n".join(table(each)), end="\n\n")
    needed, free = bytes_to_come(config, plans), free_bytes(config.results)
    print(f"disk under {config.results}: {size(needed)} still to come, {size(free)} free")
    problem = disk_problem(config.results, needed, free)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def movie_facts(config: Config, name: str) -> MovieFacts:
    """Shape, pixel size and optics of a dataset: from ingest's facts, else the simulation's settings, else the file's metadata."""
    known = Path(config.results, name, "ingest", "facts.json")
    if known.is_file():
        facts = json.loads(known.read_text())
        n_in_movie = facts.get("n_frames_in_movie", facts["n_frames"])
        return _from_facts(facts, frames_read(n_in_movie, config.ingest.max_frames), name in config.simulate)
    if name in config.simulate:
        s = config.simulate[name]
        n_frames = frames_read(s.n_frames, config.ingest.max_frames)
        return MovieFacts(
            n_frames, s.size_px, s.size_px, 2, s.pixel_size_angstrom, dose_e_per_angstrom2=s.dose_e_per_angstrom2, simulated=True
        )
    path = Path(config.datasets[name])
    acquisition = load_acquisition(path)
    movie = str(path.parent / acquisition.movie)
    # of a glob of single frames one is opened and the others are counted: the whole check is ingest's
    files = [] if Path(movie).exists() else sorted(glob.glob(movie))  # noqa: PTH207 - Path.glob takes no absolute pattern
    source = open_movie(files[0] if files else movie, config.ingest.max_bytes)
    facts = dataset_facts(source, acquisition, path.parent)
    n_in_movie = max(len(files), facts["n_frames_in_movie"])
    return _from_facts(facts, frames_read(n_in_movie, config.ingest.max_frames), False)


def _from_facts(facts: dict[str, Any], n_frames: int, simulated: bool) -> MovieFacts:
    return MovieFacts(
        n_frames, facts["height_px"], facts["width_px"], facts["itemsize"], facts["pixel_size_angstrom"],
        _atom_area(facts["material"]), bool(facts["optics"]), facts["dose_e_per_angstrom2"], simulated,
    )  # fmt: skip


def _atom_area(material: str) -> float:
    """Area of an atom in the plane, angstrom^2, from the material's cell."""
    if material == "graphene":
        return GRAPHENE_ATOM_AREA_ANGSTROM2
    crystal = load_material(material)
    (ax, ay), (bx, by) = crystal.cell
    return abs(ax * by - ay * bx) * crystal.lattice_constant_angstrom**2 / len(crystal.basis)


def bytes_to_come(config: Config, plans: list[Plan]) -> int:
    """Bytes that all datasets still write: blocks whose manifest or atoms are there count as written, so does a report."""
    total = 0
    for each in plans:
        folder = Path(config.results, each.name)
        ingested = sum(p.name[:1].isdigit() for p in folder.glob("ingest/*.json"))
        last = "anneal" if each.facts.has_optics else "localise"
        reconstructed = sum(p.name.count(".") == 1 for p in folder.glob(f"{last}/*.parquet"))
        total += each.bytes_to_come(ingested, reconstructed, (folder / "report.html").is_file())
    return total


def free_bytes(results: str) -> int:
    """Bytes free where the results are, or will be."""
    folder = Path(results).absolute()
    return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free


def disk_problem(folder: str, needed_bytes: int, free: int) -> str | None:
    """Why a run cannot begin, with the remedy; None when the disk holds it."""
    if needed_bytes <= free:
        return None
    return (
        f"{folder}: the run needs {needed_bytes} bytes more ({size(needed_bytes)}), {free} bytes are free ({size(free)}); "
        "free some, give a `results:` folder on a larger disk, or take fewer frames (`python -m scant plan` shows what takes how much)"
    )


def table(each: Plan) -> list[str]:
    """A line per stage, then the totals."""
    n, atoms = each.facts.n_frames, each.facts.atoms()
    lines = [
        f"{each.name}: {n} frames of {each.facts.height_px} x {each.facts.width_px} px, about {atoms:.0f} atoms each; "
        f"{each.n_blocks} block(s) of {each.block_frames} frames",
        f"{'stage':<14} {'jobs':>6} {'CPU-s a frame':>14} {'CPU hours':>12}",
    ]
    lines += [f"{stage:<14} {jobs:>6} {cpu_s / n:>14.3g} {cpu_s / 3600:>12.3g}" for stage, (jobs, cpu_s) in each.stages.items()]
    lines += [f"{'total':<14} {each.jobs:>6} {each.cpu_s / n:>14.3g} {each.cpu_s / 3600:>12.3g}"]
    lines += [f"wall time on {_cores(each, cores):<28} {duration(each.wall_s(cores))}" for cores in sorted({*TABLE_CORES, each.n_cores})]
    lines += [
        f"memory: a job declares up to {each.memory_mb[each.largest_job]} MB ({each.largest_job}, {each.job_cores} cores a job)",
        "disk: " + ", ".join(f"{part} {size(n_bytes)}" for part, n_bytes in each.disk_bytes.items() if n_bytes)
        + f"; {size(each.bytes_to_come())} in all",
    ]  # fmt: skip
    return lines


def short(each: Plan) -> list[str]:
    """The plan in a few lines, for the start of a run."""
    facts, wall = each.facts, duration(each.wall_s(each.n_cores, each.job_cores))
    return [
        f"{each.name}: {facts.n_frames} frames of {facts.height_px} x {facts.width_px} px, {each.jobs} jobs if nothing is there yet",
        f"  {each.cpu_s / 3600:.3g} CPU hours, wall time about {wall} on {each.n_cores} cores",
        f"  memory: a job declares up to {each.memory_mb[each.largest_job]} MB; disk: {size(each.bytes_to_come())} in all",
    ]


def _cores(each: Plan, n_cores: int) -> str:
    job_cores = cores_of_a_job(n_cores, each.block_frames)
    return f"{n_cores} cores" + (f" ({n_cores // job_cores} jobs of {job_cores})" if job_cores < n_cores else "")


def duration(seconds: float) -> str:
    """40 s, 12 min, 5.3 h, 21 days, 6.4 years."""
    for unit, length, least in TIME_UNITS:
        if seconds >= least * length:
            return f"{seconds / length:,.0f} {unit}" if seconds >= 100 * length else f"{seconds / length:.2g} {unit}"
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """1.2 TB, 34 GB, 5 MB."""
    unit, scale = next(((u, s) for u, s in (("TB", 1e12), ("GB", 1e9)) if n_bytes >= s), ("MB", 1e6))
    return f"{n_bytes / scale:.3g} {unit}"
