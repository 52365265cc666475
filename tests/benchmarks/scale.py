"""The workflow from raw frames to located atoms on long and on large movies, from a generated source on disk.

usage: scale.py [--folder DIR] [--cores N] [--product PATTERN] [NAME=FRAMESxSIZE ...]      prints the table of tests/benchmarks/README.md
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
from scale_movie import write_movie

KEEP = ["averaged", "denoised"]
USUAL = ("short=1000x256", "long=10000x256", "large=32x2048")
REPOSITORY = Path(__file__).resolve().parents[2]


def run(folder: Path, config: Path, targets: list[str], cores: int) -> tuple[float, float]:
    """Wall seconds of one Snakemake run, and CPU seconds of Snakemake itself and the jobs' own processes, not of their Dask workers."""
    command = [
        str(Path(sys.executable).parent / "snakemake"), "-s", str(REPOSITORY / "Snakefile"), "--configfile", str(config),
        "--workflow-profile", str(REPOSITORY / "profiles/ci"), "--cores", str(cores), "--directory", str(folder), *targets,
    ]  # fmt: skip
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (folder / "snakemake.log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def jobs_of(results: Path) -> pl.DataFrame:
    """CPU seconds and peak memory of every job, from Snakemake's benchmark files."""
    rows = []
    for file in sorted(results.glob("benchmarks/**/*.tsv")):
        name = file.parent.name if file.parent.name != "benchmarks" else file.stem
        values = pl.read_csv(file, separator="\t", infer_schema_length=0).row(0, named=True)
        rows.append({"rule": name, "cpu_s": float(values["cpu_time"]), "peak_mb": float(values["max_rss"])})
    return pl.DataFrame(rows)


def measure(name: str, n_frames: int, size_px: int, folder: Path, cores: int, product: str) -> None:
    work = folder / name
    work.mkdir(parents=True, exist_ok=True)
    acquisition = work / "movie/acquisition.yaml"
    if not acquisition.exists():
        write_movie(work / "movie", n_frames, size_px)
    config = work / "config.json"
    settings = {"datasets": {name: str(acquisition)}, "results": str(work / "results"), "keep": KEEP}
    config.write_text(json.dumps(settings))
    results = work / f"results/{name}"
    first, _ = run(work, config, [str(results / "ingest/facts.json")], cores)
    blocks = json.loads((results / "ingest/facts.json").read_text())["blocks"]
    targets = [str(results / product.format(block=block)) for block in blocks]
    wall, _ = run(work, config, targets, cores)
    again, planning = run(work, config, targets, cores)
    wall += first
    jobs = jobs_of(results)
    by_rule = jobs.group_by("rule").agg(pl.len().alias("jobs"), pl.col("cpu_s").sum(), pl.col("peak_mb").max())
    by_rule = by_rule.sort("cpu_s", descending=True)
    megapixels = n_frames * size_px**2 / 1e6
    total = jobs["cpu_s"].sum()
    what = f"{n_frames} frames of {size_px} x {size_px}, raw to {product}"
    print(f"\n{name}: {what}, {cores} cores: {wall:.0f} s wall, {total:.0f} CPU-s in jobs")
    shares = f"{planning / total:.1%} of the jobs'; a run with nothing to do: {again / wall:.1%} of the wall time"
    print(f"planning {planning:.1f} CPU-s, {shares}")
    print("\n| rule | jobs | CPU-s | CPU-s per frame | Mpx per CPU-s | peak of a job (MB) |\n|---|---|---|---|---|---|")
    for row in by_rule.iter_rows(named=True):
        each, rate = row["cpu_s"] / n_frames, megapixels / row["cpu_s"]
        print(f"| {row['rule']} | {row['jobs']} | {row['cpu_s']:.0f} | {each:.3f} | {rate:.1f} | {row['peak_mb']:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("movies", nargs="*", default=USUAL)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "results/scale")
    parser.add_argument("--product", default="localise/{block}.parquet", help="denoised/{block}.zarr leaves localisation out")
    parser.add_argument("--cores", type=int, default=2)
    given = parser.parse_args()
    for movie in given.movies:
        name, _, size = movie.partition("=")
        n_frames, size_px = (int(part) for part in size.split("x"))
        measure(name, n_frames, size_px, given.folder, given.cores, given.product)


if __name__ == "__main__":
    main()
