rule denoise:
    message: "{wildcards.name}: denoising frames {wildcards.block} ({params.settings[method]})"
    input:
        stack=product("averaged/{block}.zarr"),
        frames=product("average/{block}.parquet"),
        detector=product("calibrate/detector.npz"),
    output:
        stack=stack("denoised"),
        failures=product("denoise/{block}.failures.parquet"),
    log: log_of("denoise", block=True)
    benchmark: benchmark_of("denoise", block=True)
    params:
        settings=params_for("denoise"),
        store=product("movie.zarr"),
        max_failed_fraction=CONFIG.max_failed_fraction,
        scheduler_address=CONFIG.scheduler_address,
        seed=CONFIG.seed,
        code=code_of("denoise"),
    threads: workers()
    resources:
        mem_mb=memory_mb(3 * CONFIG.block_frames),
        runtime=240,
    script: script_of("denoise")
