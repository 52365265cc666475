rule electrons:
    message: "{wildcards.name}: pi bands of frames {wildcards.block}"
    input:
        atoms=product("anneal/{block}.parquet"),
        samples=product("anneal/{block}.samples.parquet"),
        calibration=product("calibration.json"),
    output:
        atoms=product("electrons/{block}.parquet"),
        bonds=product("electrons/{block}.bonds.parquet"),
        sums=product("electrons/{block}.sums.parquet"),
        failures=product("electrons/{block}.failures.parquet"),
    log: log_of("electrons", block=True)
    benchmark: benchmark_of("electrons", block=True)
    params:
        max_failed_fraction=CONFIG.max_failed_fraction,
        workers=WORKERS,
        seed=CONFIG.seed,
        code=code_of("electrons"),
    threads: workers()
    resources:
        mem_mb=worker_memory_mb(1),
        runtime=720,
    script: script_of("electrons")
