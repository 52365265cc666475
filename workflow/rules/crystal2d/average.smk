# As many float32 frames, and float64 sums, as the longest automatic window holds.
WINDOW_FRAMES_MAX = 64


def averaging_window(w):
    given = CONFIG.average.window
    return window_for_dose(facts(w.name)["dose_e_per_angstrom2"]) if given == "auto" else given


rule average:
    message: "{wildcards.name}: {params.window}-frame mean of frames {wildcards.block}"
    input:
        manifests=near_blocks(product("ingest/{block}.json"), lambda w: averaging_window(w) // 2),
        detector=product("calibrate/detector.npz"),
        frames=near_blocks(product("correct/{block}.parquet"), lambda w: averaging_window(w) // 2),
        drift=product("align/drift.parquet"),
    output:
        stack=stack("averaged"),
        frames=product("average/{block}.parquet"),
    log: log_of("average", block=True)
    benchmark: benchmark_of("average", block=True)
    params:
        window=averaging_window,
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        store=product("movie.zarr"),
        workers=WORKERS,
        device=CONFIG.average.device,
        seed=CONFIG.seed,
        code=code_of("average"),
    threads: workers()
    resources:
        mem_mb=worker_memory_mb(WINDOW_FRAMES_MAX),
        runtime=60,
        gpu=1 if CONFIG.average.device == "gpu" else 0,
    script: script_of("average")
