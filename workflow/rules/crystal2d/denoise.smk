from importlib.util import find_spec

LEARNING_FRAMES = 16
WITH_TORCH = find_spec("torch") is not None
PACKAGES = {"pypi-bm3d": ("bm3d",), "unet": ("torch",)}
DENOISING_DEVICE = CONFIG.device if CONFIG.denoise.method == "unet" else "cpu"
LEARNED = {"ksvd": "denoise/dictionary.npz", "unet": "denoise/unet.npz"}


rule learn_dictionary:
    message: "{wildcards.name}: learning the denoiser's dictionary"
    input:
        stacks=sampled_blocks(product("averaged/{block}.zarr"), LEARNING_FRAMES),
        frames=sampled_blocks(product("average/{block}.parquet"), LEARNING_FRAMES),
        dataset=product("ingest/facts.json"),
        detector=product("calibrate/detector.npz"),
        detector_facts=product("calibrate/detector.json"),
    output:
        dictionary=product("denoise/dictionary.npz"),
    log: log_of("learn_dictionary")
    benchmark: benchmark_of("learn_dictionary")
    params:
        n_frames=LEARNING_FRAMES,
        seed=CONFIG.seed,
        code=code_of("learn_dictionary"),
    threads: 1
    resources:
        mem_mb=memory_mb(LEARNING_FRAMES),
        runtime=60,
    script: script_of("learn_dictionary")


rule train:
    message: "{wildcards.name}: training the U-Net on simulated images of this movie's optics"
    input:
        facts=product("ingest/facts.json"),
        detector=product("calibrate/detector.json"),
    output:
        weights=product("denoise/unet.npz"),
        facts=product("denoise/unet.json"),
    log: log_of("train")
    benchmark: benchmark_of("train")
    params:
        settings=params_for("train"),
        device=CONFIG.device,
        seed=CONFIG.seed,
        code=code_of("train", "torch"),
    threads: workers()
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=1 if CONFIG.device == "gpu" else 0,
    script: script_of("train")


rule denoise:
    message: "{wildcards.name}: denoising frames {wildcards.block} ({params.settings[method]})"
    input:
        stack=product("averaged/{block}.zarr"),
        frames=product("average/{block}.parquet"),
        dataset=product("ingest/facts.json"),
        detector=product("calibrate/detector.npz"),
        detector_facts=product("calibrate/detector.json"),
        learned=product(LEARNED[CONFIG.denoise.method]) if CONFIG.denoise.method in LEARNED else [],
    output:
        stack=stack("denoised"),
        failures=product("denoise/{block}.failures.parquet"),
    log: log_of("denoise", block=True)
    benchmark: benchmark_of("denoise", block=True)
    params:
        settings=params_for("denoise"),
        store=product("movie.zarr"),
        max_failed_fraction=CONFIG.max_failed_fraction,
        workers=WORKERS,
        device=DENOISING_DEVICE,
        seed=CONFIG.seed,
        code=code_of("denoise", *PACKAGES.get(CONFIG.denoise.method, ())),
    threads: workers()
    priority: 1
    resources:
        mem_mb=worker_memory_mb(12),
        runtime=240,
        gpu=1 if DENOISING_DEVICE == "gpu" else 0,
    script: script_of("denoise")


rule denoisers:
    message: "{wildcards.name}: what each denoiser does to the atoms"
    input:
        facts=product("ingest/facts.json"),
        detector=product("calibrate/detector.npz"),
        detector_facts=product("calibrate/detector.json"),
        frames=over_blocks(product("correct/{block}.parquet")),
        dictionary=product("denoise/dictionary.npz"),
        unet=lambda w: f"{RESULTS}/{w.name}/{LEARNED['unet']}" if WITH_TORCH and facts(w.name)["optics"] else [],
    output:
        simulated=product("denoisers.parquet"),
        real=product("denoisers_real.parquet"),
        page=in_report("denoisers.html", "gates", "denoisers compared", caption="denoisers"),
        figures=directory(product("denoisers_figures")),
    log: log_of("denoisers")
    benchmark: benchmark_of("denoisers")
    params:
        store=product("movie.zarr"),
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        seed=CONFIG.seed,
        code=code_of("compare_denoisers", "bm3d", "torch"),
    threads: 1
    resources:
        mem_mb=memory_mb(16),
        runtime=120,
    script: script_of("compare_denoisers")
