rule anneal:
    message: "{wildcards.name}: annealing frames {wildcards.block} in 3D"
    input:
        facts=product("ingest/facts.json"),
        manifest=product("ingest/{block}.json"),
        detector=product("calibrate/detector.npz"),
        calibration=product("calibration.json"),
        sites=product("localise/{block}.parquet"),
        drift=product("align/drift.parquet"),
        corrections=near_blocks(product("correct/{block}.parquet"), lambda w: averaging_window(w) // 2),
        ids=product("link/ids.parquet"),
    output:
        atoms=product("anneal/{block}.parquet"),
        samples=product("anneal/{block}.samples.parquet"),
        frames=product("anneal/{block}.frames.parquet"),
        trace=product("anneal/{block}.trace.parquet"),
        failures=product("anneal/{block}.failures.parquet"),
    log: log_of("anneal", block=True)
    benchmark: benchmark_of("anneal", block=True)
    params:
        settings=params_for("anneal"),
        minimum_correlation=CONFIG.calibrate.minimum_correlation,
        window=averaging_window,
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        device=CONFIG.device,
        max_failed_fraction=CONFIG.max_failed_fraction,
        workers=WORKERS,
        store=product("movie.zarr"),
        seed=CONFIG.seed,
        code=code_of("anneal"),
    threads: workers()
    resources:
        mem_mb=worker_memory_mb(8),
        runtime=720,
        gpu=1 if CONFIG.device == "gpu" else 0,
    script: script_of("anneal")
