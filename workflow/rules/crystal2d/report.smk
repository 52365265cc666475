def truth_of(w):
    """The known answer of a simulated dataset, or the one that acquisition.yaml names; nothing otherwise."""
    if w.name in CONFIG.simulate:
        return [f"{RESULTS}/{w.name}/simulated/truth.extxyz"]
    truth = ACQUISITIONS[w.name].truth
    return [str(Path(CONFIG.datasets[w.name]).parent / truth)] if truth else []


def if_optics_product(file):
    return lambda w: f"{RESULTS}/{w.name}/{file}" if facts(w.name)["optics"] else []


def denoisers_of(w):
    """The comparison of denoisers, where `compare_denoisers` has made it."""
    tables = [f"{RESULTS}/{w.name}/{file}.parquet" for file in ("denoisers", "denoisers_real")]
    return tables if all(Path(table).exists() for table in tables) else []


def twin_ledgers(w):
    return expand(f"{RESULTS}/{w.name}/dose/{{twin}}.failures.parquet", twin=range(CONFIG.dose.twins))


def used_parameters(w):
    """The configuration as the report shows it: one table per stage, what concerns all of them under `run`; the window as a number."""
    values = CONFIG.model_dump(mode="json", by_alias=True, exclude={"datasets", "simulate", "results"})
    leaves = {key: value for key, value in values.items() if isinstance(value, dict)}
    leaves["average"]["window"] = averaging_window(w)
    return {"run": {key: value for key, value in values.items() if key not in leaves}, **leaves}


rule report:
    message: "{wildcards.name}: figures and report.html"
    input:
        facts=product("ingest/facts.json"),
        calibration=product("calibration.json"),
        detector=product("calibrate/detector.npz"),
        atoms=product("atoms.parquet"),
        electronic=product("electronic.parquet"),
        surface=product("surface.parquet"),
        bonds=product("bonds.parquet"),
        ripples=product("ripples.parquet"),
        defects=product("defects.parquet"),
        events=product("defect_events.parquet"),
        sums=if_optics(product("electrons/{block}.sums.parquet")),
        frames=product("frames.parquet"),
        md=product("md.parquet"),
        failures=product("failures.parquet"),
        traces=if_optics(product("anneal/{block}.trace.parquet")),
        dose=if_optics_product("dose.parquet"),
        threshold=if_optics_product("dose/threshold.json"),
        dose_bound=if_optics_product("dose/bound.parquet"),
        defocus_bound=if_optics_product("dose/defocus.parquet"),
        truth=truth_of,
        denoisers=denoisers_of,
    output:
        page=in_report("report.html", "results", "the whole page, with the 3D view", caption="report"),
        figures=directory(product("figures")),
        **{part: in_report(f"sections/{part}.html", part, "text, tables, figures") for part in PARTS},
    log: log_of("report")
    benchmark: benchmark_of("report")
    params:
        settings=params_for("report"),
        parameters=used_parameters,
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        store=product("movie.zarr"),
        seed=CONFIG.seed,
        code=code_of("report"),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    script: script_of("report")


rule movie:
    message: "{wildcards.name}: dynamics.mp4, dynamics.gif"
    input:
        facts=product("ingest/facts.json"),
        calibration=product("calibration.json"),
        detector=product("calibrate/detector.npz"),
        atoms=product("atoms.parquet"),
        frames=product("frames.parquet"),
    output:
        movie=in_report("dynamics.mp4", "dynamics", "movie", caption="movie"),
        gif=product("dynamics.gif"),
    log: log_of("movie")
    benchmark: benchmark_of("movie")
    params:
        settings=params_for("report"),
        hit_threshold_sigma=CONFIG.correct.hit_threshold_sigma,
        store=product("movie.zarr"),
        code=code_of("movie"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    script: script_of("movie")


rule checks:
    message: "{wildcards.name}: checking the products against each other"
    input:
        facts=product("ingest/facts.json"),
        manifests=over_blocks(product("ingest/{block}.json")),
        sites=over_blocks(product("localise/{block}.parquet")),
        atoms=product("atoms.parquet"),
        bonds=product("bonds.parquet"),
        frames=product("frames.parquet"),
        md=product("md.parquet"),
        failures=product("failures.parquet"),
        structures=product("structures.extxyz"),
        page=product("report.html"),
        movie=product("dynamics.mp4"),
    output:
        checks=product("checks.json"),
    log: log_of("checks")
    benchmark: benchmark_of("checks")
    params:
        store=product("movie.zarr"),
        code=code_of("checks"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    script: script_of("checks")


rule complete:
    message: "{wildcards.name}: did every frame get through?"
    input:
        checks=product("checks.json"),
        frames=product("frames.parquet"),
        failures=product("failures.parquet"),
        twins=lambda w: twin_ledgers(w) if facts(w.name)["optics"] else [],
        page=product("report.html"),
    output:
        complete=product("complete.json"),
    log: log_of("complete")
    benchmark: benchmark_of("complete")
    params:
        code=code_of("complete"),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    script: script_of("complete")
