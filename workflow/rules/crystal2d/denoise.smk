LEARNING_BLOCKS = 4


rule learn_dictionary:
    message: "{wildcards.name}: learning the denoiser's dictionary"
    input:
        stacks=spread_blocks(product("averaged/{block}.zarr"), LEARNING_BLOCKS),
        frames=spread_blocks(product("average/{block}.parquet"), LEARNING_BLOCKS),
        detector=product("calibrate/detector.npz"),
    output:
        dictionary=product("denoise/dictionary.npy"),
    log: log_of("learn_dictionary")
    benchmark: benchmark_of("learn_dictionary")
    params:
        seed=CONFIG.seed,
        code=code_of("learn_dictionary"),
    threads: 1
    resources:
        mem_mb=memory_mb(16),
        runtime=60,
    script: script_of("learn_dictionary")


rule denoise:
    message: "{wildcards.name}: denoising frames {wildcards.block} ({params.settings[method]})"
    input:
        stack=product("averaged/{block}.zarr"),
        frames=product("average/{block}.parquet"),
        detector=product("calibrate/detector.npz"),
        dictionary=product("denoise/dictionary.npy") if CONFIG.denoise.method == "ksvd" else [],
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
        mem_mb=worker_memory_mb(12),
        runtime=240,
    script: script_of("denoise")
