def atoms_of_block(w):
    """Annealed atoms; located ones where the optics are not known."""
    stage = "anneal" if facts(w.name)["optics"] else "localise"
    return f"{RESULTS}/{w.name}/{stage}/{w.block}.parquet"


def if_optics(pattern):
    """Input function: the pattern for every block, nothing for a dataset without optics."""
    return lambda w: expand(pattern, name=w.name, block=facts(w.name)["blocks"]) if facts(w.name)["optics"] else []


def if_optics_block(file):
    """Input function: a file of the block, nothing for a dataset without optics."""
    return lambda w: f"{RESULTS}/{w.name}/{file.format(block=w.block)}" if facts(w.name)["optics"] else []


rule analyse_frames:
    message: "{wildcards.name}: bonds, strain, curvature, ripples and defects of frames {wildcards.block}"
    input:
        atoms=atoms_of_block,
        samples=if_optics_block("anneal/{block}.samples.parquet"),
        orders=if_optics_block("electrons/{block}.bonds.parquet"),
        ids=product("link/ids.parquet"),
        calibration=product("calibration.json"),
    output:
        atoms=product("analyse/{block}.atoms.parquet"),
        bonds=product("analyse/{block}.bonds.parquet"),
        surface=product("analyse/{block}.surface.parquet"),
        ripples=product("analyse/{block}.ripples.parquet"),
        defects=product("analyse/{block}.defects.parquet"),
    log: log_of("analyse_frames", block=True)
    benchmark: benchmark_of("analyse_frames", block=True)
    params:
        seed=CONFIG.seed,
        code=code_of("analyse_frames"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    script: script_of("analyse_frames")


rule analyse:
    message: "{wildcards.name}: tables of the whole movie"
    input:
        facts=product("ingest/facts.json"),
        calibration=product("calibration.json"),
        drift=product("align/drift.parquet"),
        correct=over_blocks(product("correct/{block}.parquet")),
        atoms=over_blocks(product("analyse/{block}.atoms.parquet")),
        bonds=over_blocks(product("analyse/{block}.bonds.parquet")),
        surface=over_blocks(product("analyse/{block}.surface.parquet")),
        ripples=over_blocks(product("analyse/{block}.ripples.parquet")),
        defects=over_blocks(product("analyse/{block}.defects.parquet")),
        electronic=if_optics(product("electrons/{block}.parquet")),
        convergence=if_optics(product("anneal/{block}.frames.parquet")),
        md=if_optics(product("validate/{block}.parquet")),
        failures=over_blocks(product("correct/{block}.failures.parquet")),
        failures_denoise=over_blocks(product("denoise/{block}.failures.parquet")),
        failures_localise=over_blocks(product("localise/{block}.failures.parquet")),
        failures_anneal=if_optics(product("anneal/{block}.failures.parquet")),
        failures_validate=if_optics(product("validate/{block}.failures.parquet")),
        failures_electrons=if_optics(product("electrons/{block}.failures.parquet")),
    output:
        atoms=product("atoms.parquet"),
        bonds=product("bonds.parquet"),
        surface=product("surface.parquet"),
        ripples=product("ripples.parquet"),
        defects=product("defects.parquet"),
        events=product("defect_events.parquet"),
        electronic=product("electronic.parquet"),
        frames=product("frames.parquet"),
        md=product("md.parquet"),
        failures=product("failures.parquet"),
        structures=product("structures.extxyz"),
    log: log_of("analyse")
    benchmark: benchmark_of("analyse")
    params:
        seed=CONFIG.seed,
        code=code_of("analyse"),
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
    script: script_of("analyse")
