rule validate:
    message: "{wildcards.name}: molecular dynamics of frames {wildcards.block}"
    input:
        facts=product("ingest/facts.json"),
        atoms=product("anneal/{block}.parquet"),
        calibration=product("calibration.json"),
    output:
        md=product("validate/{block}.parquet"),
        logs=product("validate/{block}.lammps.json"),
        failures=product("validate/{block}.failures.parquet"),
    log: log_of("validate", block=True)
    benchmark: benchmark_of("validate", block=True)
    params:
        settings=params_for("validate"),
        max_failed_fraction=CONFIG.max_failed_fraction,
        workers=WORKERS,
        seed=CONFIG.seed,
        code=code_of("validate"),
    threads: workers()
    resources:
        mem_mb=worker_memory_mb(1),
        runtime=720,
    script: script_of("validate")
