def acquisition_of(name):
    return f"{RESULTS}/{name}/simulated/acquisition.yaml" if name in CONFIG.simulate else CONFIG.datasets[name]


def raw_files(name):
    """The files that acquisition.yaml names, so that a changed movie reruns its dataset."""
    if name in CONFIG.simulate:
        return [f"{RESULTS}/{name}/simulated/{kind}.tif" for kind in ("movie", "dark", "flat")]
    path, acquisition = Path(CONFIG.datasets[name]), ACQUISITIONS[name]
    found = sorted(str(p) for p in path.parent.glob(acquisition.movie)) if not Path(acquisition.movie).is_absolute() else [acquisition.movie]
    references = [str(path.parent / file) for file in (acquisition.dark, acquisition.flat) if file]
    return [*(found or [str(path.parent / acquisition.movie)]), *references]


checkpoint ingest:
    message: "{wildcards.name}: reading the movie's metadata"
    input:
        acquisition=lambda w: acquisition_of(w.name),
        files=lambda w: raw_files(w.name),
    output:
        facts=product("ingest/facts.json"),
    log: log_of("ingest")
    benchmark: benchmark_of("ingest")
    params:
        settings=params_for("ingest"),
        block_frames=CONFIG.block_frames,
        store=product("movie.zarr"),
        seed=CONFIG.seed,
        code=code_of("ingest"),
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
    script: script_of("ingest")


rule ingest_frames:
    message: "{wildcards.name}: frames {wildcards.block} into movie.zarr"
    input:
        facts=product("ingest/facts.json"),
    output:
        manifest=product("ingest/{block}.json"),
        faults=product("ingest/{block}.parquet"),
    log: log_of("ingest_frames", block=True)
    benchmark: benchmark_of("ingest_frames", block=True)
    params:
        store=product("movie.zarr"),
        max_bytes=CONFIG.ingest.max_bytes,
        code=code_of("ingest_frames"),
    threads: 1
    resources:
        mem_mb=memory_mb(frames_of_job),
        runtime=60,
    script: script_of("ingest_frames")
