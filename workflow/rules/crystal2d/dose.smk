rule dose_twins:
    message: "{wildcards.name}: simulated twin no. {wildcards.twin} at all doses"
    input:
        facts=product("ingest/facts.json"),
        calibration=product("calibration.json"),
    output:
        twins=product("dose/{twin}.parquet"),
        failures=product("dose/{twin}.failures.parquet"),
    log: product("logs/dose_twins/{twin}.log")
    benchmark: product("benchmarks/dose_twins/{twin}.tsv")
    params:
        settings=params_for("dose"),
        anneal=params_for("anneal"),
        minimum_correlation=CONFIG.calibrate.minimum_correlation,
        margin_angstrom=CONFIG.localise.lattice_margin_angstrom,
        workers=WORKERS,
        seed=CONFIG.seed,
        code=code_of("dose_twins"),
    threads: workers()
    resources:
        mem_mb=worker_memory_mb(1),
        runtime=240,
    script: script_of("dose_twins")


rule dose:
    message: "{wildcards.name}: accuracy against dose"
    input:
        calibration=product("calibration.json"),
        twins=expand(product("dose/{twin}.parquet"), twin=range(CONFIG.dose.twins), allow_missing=True),
    output:
        dose=product("dose.parquet"),
        threshold=product("dose/threshold.json"),
        bound=product("dose/bound.parquet"),
        defocus=product("dose/defocus.parquet"),
    log: log_of("dose")
    benchmark: benchmark_of("dose")
    params:
        settings=params_for("dose"),
        temperature_k=CONFIG.anneal.temperature_k,
        seed=CONFIG.seed,
        code=code_of("dose"),
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
    script: script_of("dose")
