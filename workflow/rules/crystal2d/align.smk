ALIGN_HALO_FRAMES = 8


rule align_pairs:
    message: "{wildcards.name}: drift between frames {wildcards.block}"
    input:
        manifests=near_blocks(product("ingest/{block}.json"), lambda w: ALIGN_HALO_FRAMES),
        detector=product("calibrate/detector.npz"),
        frames=near_blocks(product("correct/{block}.parquet"), lambda w: ALIGN_HALO_FRAMES),
        signal=product("calibrate/signal.npz"),
    output:
        pairs=product("align/{block}.parquet"),
    log: log_of("align_pairs", block=True)
    benchmark: benchmark_of("align_pairs", block=True)
    params:
        store=product("movie.zarr"),
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        halo_frames=ALIGN_HALO_FRAMES,
        code=code_of("align_pairs"),
    threads: 1
    resources:
        mem_mb=memory_mb(lambda w: 4 * frames_of_job(w)),
        runtime=60,
    script: script_of("align_pairs")


rule align:
    message: "{wildcards.name}: drift of the whole movie"
    input:
        facts=product("ingest/facts.json"),
        pairs=over_blocks(product("align/{block}.parquet")),
    output:
        drift=product("align/drift.parquet"),
    log: log_of("align")
    benchmark: benchmark_of("align")
    params:
        code=code_of("align"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    script: script_of("align")
