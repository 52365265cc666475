rule calibrate:
    message: "{wildcards.name}: dark, flat, bad pixels, gain, lattice"
    input:
        facts=product("ingest/facts.json"),
        manifests=over_blocks(product("ingest/{block}.json")),
        faults=over_blocks(product("ingest/{block}.parquet")),
    output:
        detector=product("calibrate/detector.npz"),
        signal=product("calibrate/signal.npz"),
        facts=product("calibrate/detector.json"),
    log: log_of("calibrate")
    benchmark: benchmark_of("calibrate")
    params:
        settings=params_for("calibrate"),
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        store=product("movie.zarr"),
        code=code_of("calibrate"),
    threads: 1
    resources:
        mem_mb=memory_mb(CONFIG.calibrate.n_frames * 4),
        runtime=120,
    script: script_of("calibrate")


rule calibrate_optics:
    message: "{wildcards.name}: defocus, astigmatism, contrast from {params.settings[optics_frames]} frames"
    input:
        facts=product("ingest/facts.json"),
        detector=product("calibrate/detector.npz"),
        detector_facts=product("calibrate/detector.json"),
        sites=sampled_blocks(product("localise/{block}.parquet"), CONFIG.calibrate.optics_frames),
    output:
        calibration=product("calibration.json"),
    log: log_of("calibrate_optics")
    benchmark: benchmark_of("calibrate_optics")
    params:
        settings=params_for("calibrate"),
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        seed=CONFIG.seed,
        store=product("movie.zarr"),
        code=code_of("calibrate_optics"),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
    script: script_of("calibrate_optics")
