rule link:
    message: "{wildcards.name}: one identity per atom"
    input:
        facts=product("ingest/facts.json"),
        sites=over_blocks(product("localise/{block}.parquet")),
        drift=product("align/drift.parquet"),
        detector_facts=product("calibrate/detector.json"),
    output:
        ids=product("link/ids.parquet"),
    log: log_of("link")
    benchmark: benchmark_of("link")
    params:
        settings=params_for("link"),
        seed=CONFIG.seed,
        code=code_of("link"),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
    script: script_of("link")
