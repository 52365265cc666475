rule average:
    message: "{wildcards.name}: {params.settings[window]}-frame mean of frames {wildcards.block}"
    input:
        stacks=near_blocks(product("corrected/{block}.zarr"), CONFIG.average.window // 2),
        frames=near_blocks(product("correct/{block}.parquet"), CONFIG.average.window // 2),
        drift=product("align/drift.parquet"),
    output:
        stack=stack("averaged"),
        frames=product("average/{block}.parquet"),
    log: log_of("average", block=True)
    benchmark: benchmark_of("average", block=True)
    params:
        settings=params_for("average"),
        store=product("movie.zarr"),
        seed=CONFIG.seed,
        code=code_of("average"),
    threads: 1
    resources:
        mem_mb=memory_mb(4 * CONFIG.block_frames),
        runtime=60,
    script: script_of("average")
