from importlib.util import find_spec

from scant.job_memory import frames_to_denoise

LEARNING_FRAMES = 16
WITH_TORCH = find_spec("torch") is not None
PACKAGES = {"pypi-bm3d": ("bm3d",), "unet": ("torch",)}
DENOISING_DEVICE = {"unet": CONFIG.device, "bm3d": CONFIG.denoise.bm3d_device}.get(CONFIG.denoise.method, "cpu")
LEARNED = {"ksvd": "denoise/dictionary.npz", "unet": "denoise/unet.npz"}


def of_the_window(pattern):
    """Input of `denoise` that it needs for frames matched across their window alone."""
    return near_blocks(pattern, lambda w: averaging_window(w) // 2) if CONFIG.denoise.takes_windows else []


def denoising_frames(w):
    return frames_to_denoise(averaging_window(w) if CONFIG.denoise.takes_windows else 1)


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
        manifests=of_the_window(product("ingest/{block}.json")),
        corrected=of_the_window(product("correct/{block}.parquet")),
        drift=product("align/drift.parquet") if CONFIG.denoise.takes_windows else [],
    output:
        stack=stack("denoised"),
        failures=product("denoise/{block}.failures.parquet"),
    log: log_of("denoise", block=True)
    benchmark: benchmark_of("denoise", block=True)
    params:
        settings=params_for("denoise"),
        window=averaging_window,
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        store=product("movie.zarr"),
        max_failed_fraction=CONFIG.max_failed_fraction,
        workers=WORKERS,
        device=DENOISING_DEVICE,
        seed=CONFIG.seed,
        code=code_of("denoise", *PACKAGES.get(CONFIG.denoise.method, ())),
    threads: workers()
    priority: 1
    resources:
        mem_mb=worker_memory_mb(denoising_frames),
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
