rule localise:
    message: "{wildcards.name}: localising atoms in frames {wildcards.block}"
    input:
        manifest=product("ingest/{block}.json"),
        averaged=product("averaged/{block}.zarr"),
        counts=product("average/{block}.parquet"),
        denoised=product("denoised/{block}.zarr"),
        frames=product("correct/{block}.parquet"),
        detector=product("calibrate/detector.npz"),
        detector_facts=product("calibrate/detector.json"),
    output:
        sites=product("localise/{block}.parquet"),
        failures=product("localise/{block}.failures.parquet"),
    log: log_of("localise", block=True)
    benchmark: benchmark_of("localise", block=True)
    params:
        settings=params_for("localise"),
        store=product("movie.zarr"),
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        max_failed_fraction=CONFIG.max_failed_fraction,
        workers=WORKERS,
        seed=CONFIG.seed,
        code=code_of("localise"),
    threads: workers()
    # Blocks that have begun are finished first: their stacks are then deleted before others are made.
    priority: 2
    resources:
        mem_mb=worker_memory_mb(64),
        runtime=240,
    script: script_of("localise")
