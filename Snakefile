"""scant: 3D structure and dynamics of a 2D crystal from a low-dose TEM movie. See workflow/README.md for the way of the data."""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/run.smk"
include: "workflow/rules/crystal2d/simulate.smk"
include: "workflow/rules/crystal2d/ingest.smk"
include: "workflow/rules/crystal2d/calibrate.smk"
include: "workflow/rules/crystal2d/correct.smk"
include: "workflow/rules/crystal2d/align.smk"
include: "workflow/rules/crystal2d/average.smk"
include: "workflow/rules/crystal2d/denoise.smk"
include: "workflow/rules/crystal2d/localise.smk"
include: "workflow/rules/crystal2d/link.smk"
include: "workflow/rules/crystal2d/anneal.smk"
include: "workflow/rules/crystal2d/validate.smk"
include: "workflow/rules/crystal2d/electrons.smk"
include: "workflow/rules/crystal2d/analyse.smk"
include: "workflow/rules/crystal2d/dose.smk"
include: "workflow/rules/crystal2d/report.smk"


FINAL = [
    *(f"{table}.parquet" for table in ("atoms", "bonds", "surface", "electronic", "ripples", "frames", "md", "failures")),
    "structures.extxyz", "calibration.json", "report.html", "dynamics.mp4", "dynamics.gif", "checks.json", "complete.json",
]  # fmt: skip


localrules:
    all,
    compare_denoisers,
    failures,


wildcard_constraints:
    name=r"[A-Za-z0-9][A-Za-z0-9_-]*",
    block=r"[0-9]+-[0-9]+",
    twin=r"[0-9]+",


onstart:
    if workflow.dag_settings.targets != {"failures"}:
        lock_this_run()
        show_plan()


onsuccess:
    go_on_after_mending()


rule all:
    message: "scant: done. Open {params.report}"
    default_target: True
    input:
        DAMAGED or expand(RESULTS + "/{name}/{file}", name=CONFIG.names, file=FINAL),
    params:
        report=", ".join(f"{RESULTS}/{name}/report.html" for name in CONFIG.names),


rule compare_denoisers:
    message: "scant: denoisers compared. Open {input}"
    input:
        expand(RESULTS + "/{name}/denoisers.html", name=CONFIG.names),


rule failures:
    message: "scant: which frames failed, why, and what to do about it"
    run:
        from scant.commands.failures import failures_in, text_of

        for name in CONFIG.names:
            print("\n".join(text_of(f"{RESULTS}/{name}", failures_in(Path(RESULTS, name)))))
