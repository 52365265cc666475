def averaging_window(w):
    given = CONFIG.average.window
    return window_for_dose(facts(w.name)["dose_e_per_angstrom2"]) if given == "auto" else given


rule average:
    message: "{wildcards.name}: {params.window}-frame mean of frames {wildcards.block}"
    input:
        stacks=near_blocks(product("corrected/{block}.zarr"), lambda w: averaging_window(w) // 2),
        frames=near_blocks(product("correct/{block}.parquet"), lambda w: averaging_window(w) // 2),
        drift=product("align/drift.parquet"),
    output:
        stack=stack("averaged"),
        frames=product("average/{block}.parquet"),
    log: log_of("average", block=True)
    benchmark: benchmark_of("average", block=True)
    params:
        window=averaging_window,
        store=product("movie.zarr"),
        seed=CONFIG.seed,
        code=code_of("average"),
    threads: 1
    resources:
        mem_mb=memory_mb(4 * CONFIG.block_frames),
        runtime=60,
    script: script_of("average")
