rule correct:
    message: "{wildcards.name}: correcting frames {wildcards.block}"
    input:
        detector=product("calibrate/detector.npz"),
        manifest=product("ingest/{block}.json"),
        faults=product("ingest/{block}.parquet"),
    output:
        frames=product("correct/{block}.parquet"),
        failures=product("correct/{block}.failures.parquet"),
    log: log_of("correct", block=True)
    benchmark: benchmark_of("correct", block=True)
    params:
        settings=params_for("correct"),
        max_failed_fraction=CONFIG.max_failed_fraction,
        workers=WORKERS,
        store=product("movie.zarr"),
        seed=CONFIG.seed,
        code=code_of("correct"),
    threads: workers()
    resources:
        mem_mb=worker_memory_mb(8),
        runtime=60,
    script: script_of("correct")
