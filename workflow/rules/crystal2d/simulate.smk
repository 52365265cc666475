rule simulate:
    message: "{wildcards.name}: simulating the movie and its truth"
    output:
        acquisition=product("simulated/acquisition.yaml"),
        movie=product("simulated/movie.tif"),
        dark=product("simulated/dark.tif"),
        flat=product("simulated/flat.tif"),
        truth=product("simulated/truth.extxyz"),
    log: log_of("simulate")
    benchmark: benchmark_of("simulate")
    params:
        settings=lambda w: CONFIG.simulate[w.name].model_dump(mode="json"),
        seed=CONFIG.seed,
        code=code_of("simulate"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    script: script_of("simulate")
